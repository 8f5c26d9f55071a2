//! The text form of label sets: `{job="api", path="C:\\x"}`.
//!
//! Loki's senders write it as Prometheus does, with strings quoted as in Go (`strconv.Quote`).

use std::borrow::Cow;

use thalweg_event::Fault;

use super::Label;

/// Reads a label set; names may be quoted too.
///
/// # Errors
/// A [`Fault`] that says what was expected where.
pub(super) fn parse(text: &str) -> Result<Vec<Label<'_>>, Fault> {
    let mut reader = Reader { text, rest: text.trim_start() };
    let mut labels = Vec::new();
    reader.take("{")?;
    while !reader.takes("}") {
        let name = match reader.rest.starts_with(QUOTES) {
            true => reader.quoted()?,
            false => Cow::Borrowed(reader.name()?),
        };
        reader.take("=")?;
        labels.push((name, reader.quoted()?));
        if !reader.takes(",") && !reader.rest.starts_with('}') {
            return Err(reader.expected("`,` or `}`"));
        }
    }
    match reader.rest.is_empty() {
        true => Ok(labels),
        false => Err(reader.expected("the end")),
    }
}

const QUOTES: [char; 2] = ['"', '`'];

struct Reader<'t> {
    text: &'t str,
    /// What is left, from the next character that is no space.
    rest: &'t str,
}

impl<'t> Reader<'t> {
    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default().trim_start();
    }

    fn takes(&mut self, token: &str) -> bool {
        let takes = self.rest.starts_with(token);
        if takes {
            self.skip(token.len());
        }
        takes
    }

    fn take(&mut self, token: &str) -> Result<(), Fault> {
        if self.takes(token) { Ok(()) } else { Err(self.expected(&format!("`{token}`"))) }
    }

    fn name(&mut self) -> Result<&'t str, Fault> {
        let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '.');
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        if end == 0 {
            return Err(self.expected("a label's name"));
        }
        let name = &self.rest[..end];
        self.skip(end);
        Ok(name)
    }

    fn quoted(&mut self) -> Result<Cow<'t, str>, Fault> {
        let Some(quote) = self.rest.chars().next().filter(|c| QUOTES.contains(c)) else {
            return Err(self.expected("a quoted value"));
        };
        let inner = &self.rest[1..];
        let stops = if quote == '`' { ['`', '`'] } else { ['"', '\\'] };
        let end = inner.find(stops).ok_or_else(|| self.expected("a closing quote"))?;
        if inner[end..].starts_with(quote) {
            self.skip(1 + end + 1);
            return Ok(Cow::Borrowed(&inner[..end]));
        }
        self.unquote(inner)
    }

    /// Reads a string with escapes, `inner` being what follows its opening quote.
    fn unquote(&mut self, inner: &'t str) -> Result<Cow<'t, str>, Fault> {
        let bytes = inner.as_bytes();
        let mut value = Vec::new();
        let mut at = 0;
        loop {
            match bytes.get(at) {
                None => return Err(self.expected("a closing quote")),
                Some(b'"') => break,
                Some(b'\\') => {
                    let escape = escape(&inner[at..], &mut value);
                    at += escape.ok_or_else(|| self.expected("an escape as in Go"))?;
                }
                Some(byte) => {
                    value.push(*byte);
                    at += 1;
                }
            }
        }
        let value = String::from_utf8(value).map_err(|_| self.expected("a value in UTF-8"))?;
        self.skip(1 + at + 1);
        Ok(Cow::Owned(value))
    }

    fn expected(&self, expected: &str) -> Fault {
        let at = self.text.len() - self.rest.len();
        Fault::expected(&format!("labels: byte {at}"), expected, self.rest)
    }
}

/// Appends what the escape that `text` begins with stands for; its length in bytes, `None` when
/// it is none (The Go Programming Language Specification, "String literals").
fn escape(text: &str, out: &mut Vec<u8>) -> Option<usize> {
    let number = |range: std::ops::Range<usize>, radix| {
        let digits = text.get(range.clone())?;
        let is_number = digits.bytes().all(|byte| char::from(byte).is_digit(radix));
        u32::from_str_radix(digits, radix).ok().filter(|_| is_number).map(|n| (n, range.end))
    };
    let byte = match text.as_bytes().get(1)? {
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        byte @ (b'\\' | b'"' | b'\'') => *byte,
        kind @ (b'x' | b'0'..=b'7') => {
            let (number, length) = if *kind == b'x' { number(2..4, 16) } else { number(1..4, 8) }?;
            out.push(u8::try_from(number).ok()?);
            return Some(length);
        }
        kind @ (b'u' | b'U') => {
            let (number, length) = number(2..if *kind == b'u' { 6 } else { 10 }, 16)?;
            let character = char::from_u32(number)?;
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(length);
        }
        _ => return None,
    };
    out.push(byte);
    Some(2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String)>, String> {
        let owned = |(name, value): Label<'_>| (name.into(), value.into());
        parse(text).map(|labels| labels.into_iter().map(owned).collect()).map_err(|fault| fault.0)
    }

    fn pairs(pairs: &[(&str, &str)]) -> Result<Vec<(String, String)>, String> {
        Ok(pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
    }

    #[test]
    fn labels_are_read_as_prometheus_writes_them() {
        assert_eq!(read("{}"), pairs(&[]));
        assert_eq!(read(r#"{job="a",app="b c"}"#), pairs(&[("job", "a"), ("app", "b c")]));
        assert_eq!(read(r#" { job = "a" , } "#), pairs(&[("job", "a")]));
        assert_eq!(
            read(r#"{"k8s.pod"="p", x=`C:\n`}"#),
            pairs(&[("k8s.pod", "p"), ("x", r"C:\n")])
        );
        let escapes = r#"{e="\"\\\n\t\x41\u00e9\U0001f600\101é"}"#;
        assert_eq!(read(escapes), pairs(&[("e", "\"\\\n\tA\u{e9}\u{1f600}Aé")]));
    }

    #[test]
    fn a_mistake_is_named_with_its_place() {
        for (text, reason) in [
            ("", "labels: byte 0: expected `{`, found \"\""),
            ("{a}", "labels: byte 2: expected `=`, found \"}\""),
            ("{a=b}", "labels: byte 3: expected a quoted value, found \"b}\""),
            (r#"{a="b}"#, "labels: byte 3: expected a closing quote, found \"\\\"b}\""),
            (r#"{a="b" c="d"}"#, "labels: byte 7: expected `,` or `}`, found \"c=\\\"d\\\"}\""),
            (
                r#"{a="\q"}"#,
                "labels: byte 3: expected an escape as in Go, found \"\\\"\\\\q\\\"}\"",
            ),
            (
                r#"{a="\xff"}"#,
                "labels: byte 3: expected a value in UTF-8, found \"\\\"\\\\xff\\\"}\"",
            ),
            (r#"{a="b"} x"#, "labels: byte 8: expected the end, found \"x\""),
        ] {
            assert_eq!(read(text), Err(reason.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[{}a=\"`\\\\xuU0-9, é]{0,24}|\\PC{0,24}") {
            let _ = parse(&text);
        }

        #[test]
        fn a_quoted_value_reads_back(value in "\\PC*|[\\x00-\\x7f]*") {
            // Rust's escapes are Go's but for `\u{…}`, so those are spelled out.
            let quoted: String = value.chars().map(|c| match c {
                '"' | '\\' => format!("\\{c}"),
                c if c.is_control() => format!("\\U{:08x}", u32::from(c)),
                c => c.to_string(),
            }).collect();
            prop_assert_eq!(read(&format!("{{v=\"{quoted}\"}}")), pairs(&[("v", &value)]));
        }
    }
}
