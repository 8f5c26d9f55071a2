//! JSON text walked from left to right, without building anything.

use std::borrow::Cow;

use super::scan::plain_end;
use crate::fault::Fault;

/// Deepest nesting of a value, so that readers of stored JSON may recurse.
pub const MAX_DEPTH: usize = 64;

/// Where a text is not the JSON it should be (RFC 8259).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} at byte {at}, found {}", self.found())]
pub struct Malformed {
    /// Position in the text, bytes.
    pub at: usize,
    expected: &'static str,
    found: Option<char>,
}

impl Malformed {
    fn found(&self) -> String {
        self.found.map_or_else(|| "the end".to_owned(), |found| format!("{found:?}"))
    }
}

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        Self(malformed.to_string())
    }
}

/// A position in a JSON text.
///
/// Everything passed over is checked: escapes, numbers, nesting up to [`MAX_DEPTH`]. Linear in
/// the length of the text.
///
/// ```
/// use thalweg_event::json::Cursor;
///
/// let mut cursor = Cursor::new(r#"{"a": 1, "b": ["x"]}"#);
/// let mut member = cursor.open_object()?;
/// while let Some(name) = member {
///     println!("{name} is {}", cursor.value()?.raw());
///     member = cursor.next_member()?;
/// }
/// cursor.end()?;
/// # Ok::<(), thalweg_event::json::Malformed>(())
/// ```
#[derive(Debug, Clone)]
pub struct Cursor<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Cursor<'t> {
    /// The beginning of `text`.
    pub fn new(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    /// The next byte that is no space; 0, which no JSON has there, at the end.
    pub fn peek(&mut self) -> u8 {
        loop {
            match self.byte() {
                b' ' | b'\n' | b'\r' | b'\t' => self.at += 1,
                byte => return byte,
            }
        }
    }

    /// Enters an object: the name of its first member, whose value is next.
    ///
    /// # Errors
    /// [`Malformed`], here and below, when the text goes on otherwise.
    pub fn open_object(&mut self) -> Result<Option<Cow<'t, str>>, Malformed> {
        self.take(b'{', "a JSON object")?;
        if self.peek() == b'}' {
            self.at += 1;
            return Ok(None);
        }
        self.name().map(Some)
    }

    /// Goes on in an object, past a value: the name of the next member, or `None` past the end.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn next_member(&mut self) -> Result<Option<Cow<'t, str>>, Malformed> {
        if self.goes_on(b'}', "`,` or `}`")? { self.name().map(Some) } else { Ok(None) }
    }

    /// Enters an array: whether it has an element, which is next.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn open_array(&mut self) -> Result<bool, Malformed> {
        self.take(b'[', "a JSON array")?;
        let is_empty = self.peek() == b']';
        self.at += usize::from(is_empty);
        Ok(!is_empty)
    }

    /// Goes on in an array, past an element: whether another one follows.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn next_element(&mut self) -> Result<bool, Malformed> {
        self.goes_on(b']', "`,` or `]`")
    }

    /// The next value, whatever it is.
    ///
    /// # Errors
    /// [`Malformed`].
    #[inline]
    pub fn value(&mut self) -> Result<Value<'t>, Malformed> {
        let first = self.peek();
        let start = self.at;
        let has_escape = if first == b'"' { self.string()? } else { self.skip(MAX_DEPTH)? };
        Ok(Value { raw: &self.text[start..self.at], has_escape })
    }

    /// Passes over the next value.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn pass_over(&mut self) -> Result<(), Malformed> {
        self.skip(MAX_DEPTH).map(drop)
    }

    /// Checks that nothing follows.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn end(&mut self) -> Result<(), Malformed> {
        self.peek();
        if self.at < self.text.len() { Err(self.expected("the end")) } else { Ok(()) }
    }

    /// How much of the text has been passed over, bytes.
    pub fn position(&self) -> usize {
        self.at
    }

    fn byte(&self) -> u8 {
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    fn expected(&self, expected: &'static str) -> Malformed {
        let found = self.text.get(self.at..).and_then(|rest| rest.chars().next());
        Malformed { at: self.at, expected, found }
    }

    fn take(&mut self, byte: u8, expected: &'static str) -> Result<(), Malformed> {
        if self.peek() != byte {
            return Err(self.expected(expected));
        }
        self.at += 1;
        Ok(())
    }

    fn goes_on(&mut self, end: u8, expected: &'static str) -> Result<bool, Malformed> {
        let byte = self.peek();
        if byte != b',' && byte != end {
            return Err(self.expected(expected));
        }
        self.at += 1;
        Ok(byte == b',')
    }

    #[inline]
    fn name(&mut self) -> Result<Cow<'t, str>, Malformed> {
        if self.peek() != b'"' {
            return Err(self.expected("a member's name"));
        }
        let start = self.at;
        let has_escape = self.string()?;
        let name = Value { raw: &self.text[start..self.at], has_escape };
        self.take(b':', "`:`")?;
        Ok(name.text().unwrap_or_default())
    }

    /// Passes over a value with at most `depth` levels of nesting; whether it is a string with
    /// an escape.
    fn skip(&mut self, depth: usize) -> Result<bool, Malformed> {
        let first = self.peek();
        match first {
            b'"' => return self.string(),
            b'{' | b'[' => {
                let depth = depth
                    .checked_sub(1)
                    .ok_or_else(|| self.expected("at most 64 levels of nesting"))?;
                if first == b'{' { self.skip_object(depth)? } else { self.skip_array(depth)? }
            }
            b'-' | b'0'..=b'9' => self.number()?,
            b't' => self.literal("true")?,
            b'f' => self.literal("false")?,
            b'n' => self.literal("null")?,
            _ => return Err(self.expected("a JSON value")),
        }
        Ok(false)
    }

    fn skip_object(&mut self, depth: usize) -> Result<(), Malformed> {
        self.at += 1;
        if self.peek() == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            if self.peek() != b'"' {
                return Err(self.expected("a member's name"));
            }
            self.string()?;
            self.take(b':', "`:`")?;
            self.skip(depth)?;
            if !self.goes_on(b'}', "`,` or `}`")? {
                return Ok(());
            }
        }
    }

    fn skip_array(&mut self, depth: usize) -> Result<(), Malformed> {
        let mut goes_on = self.open_array()?;
        while goes_on {
            self.skip(depth)?;
            goes_on = self.next_element()?;
        }
        Ok(())
    }

    /// Passes over a string, from its opening quote; whether it has an escape.
    #[inline]
    fn string(&mut self) -> Result<bool, Malformed> {
        self.at += 1;
        let mut has_escape = false;
        loop {
            self.at = plain_end(self.text.as_bytes(), self.at);
            match self.byte() {
                b'"' => {
                    self.at += 1;
                    return Ok(has_escape);
                }
                b'\\' => {
                    self.escape()?;
                    has_escape = true;
                }
                _ if self.at == self.text.len() => return Err(self.expected("a closing quote")),
                _ => return Err(self.expected("an escape instead of a control character")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), Malformed> {
        self.at += 1;
        match self.byte() {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 1,
            b'u' => {
                let is_pair = match self.code_unit()? {
                    0xd800..=0xdbff => true,
                    0xdc00..=0xdfff => false,
                    _ => return Ok(()),
                };
                let follows = self.text.as_bytes()[self.at..].starts_with(b"\\u");
                let low = if is_pair && follows {
                    self.at += 1;
                    Some(self.code_unit()?)
                } else {
                    None
                };
                if !matches!(low, Some(0xdc00..=0xdfff)) {
                    return Err(self.expected("both halves of a surrogate pair"));
                }
            }
            _ => return Err(self.expected("an escape such as \\n")),
        }
        Ok(())
    }

    /// The four hexadecimal digits after `u`.
    fn code_unit(&mut self) -> Result<u16, Malformed> {
        let digits = self.text.as_bytes().get(self.at + 1..self.at + 5).unwrap_or_default();
        let unit = digits.iter().try_fold(0, |unit, digit| {
            char::from(*digit).to_digit(16).map(|digit| unit << 4 | digit as u16)
        });
        match unit {
            Some(unit) if digits.len() == 4 => {
                self.at += 5;
                Ok(unit)
            }
            _ => Err(self.expected("`u` and four hexadecimal digits")),
        }
    }

    fn number(&mut self) -> Result<(), Malformed> {
        self.at += usize::from(self.byte() == b'-');
        if self.byte() == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.byte() == b'.' {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.byte(), b'e' | b'E') {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(), b'+' | b'-'));
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Malformed> {
        let start = self.at;
        while self.byte().is_ascii_digit() {
            self.at += 1;
        }
        if self.at == start { Err(self.expected("a digit")) } else { Ok(()) }
    }

    fn literal(&mut self, literal: &'static str) -> Result<(), Malformed> {
        if !self.text.as_bytes()[self.at..].starts_with(literal.as_bytes()) {
            return Err(self.expected(literal));
        }
        self.at += literal.len();
        Ok(())
    }
}

/// A well-formed JSON value as it stands in its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value<'t> {
    raw: &'t str,
    has_escape: bool,
}

impl<'t> Value<'t> {
    /// The value's JSON text, without surrounding space.
    pub fn raw(self) -> &'t str {
        self.raw
    }

    /// Whether the value is `null`.
    pub fn is_null(self) -> bool {
        self.raw == "null"
    }

    /// Whether the value is an object.
    pub fn is_object(self) -> bool {
        self.raw.starts_with('{')
    }

    /// The content of a string; `None` for any other value.
    pub fn text(self) -> Option<Cow<'t, str>> {
        if self.raw.as_bytes().first() != Some(&b'"') {
            None
        } else if self.has_escape {
            serde_json::from_str(self.raw).ok().map(Cow::Owned)
        } else {
            Some(Cow::Borrowed(&self.raw[1..self.raw.len() - 1]))
        }
    }

    /// A number as a double, as near as it gets; `None` for any other value and beyond the range
    /// of doubles.
    pub fn number(self) -> Option<f64> {
        let is_number = matches!(self.raw.as_bytes().first(), Some(b'-' | b'0'..=b'9'));
        is_number.then(|| self.raw.parse().ok()).flatten().filter(|number: &f64| number.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_accepted(text: &str) -> bool {
        let mut cursor = Cursor::new(text);
        cursor.value().and_then(|_| cursor.end()).is_ok()
    }

    /// `serde_json`'s verdict; numbers too large for a double are JSON all the same.
    fn is_json(text: &str) -> bool {
        match serde_json::from_str::<serde_json::Value>(text) {
            Ok(_) => true,
            Err(error) if error.to_string().starts_with("number out of range") => {
                // It stops there: what comes behind the number is judged with a smaller one.
                let (before, after) = text.split_at(error.column());
                let before = before.trim_end_matches(|c| "0123456789.eE+-".contains(c));
                is_json(&format!("{before}0{after}"))
            }
            Err(_) => false,
        }
    }

    #[test]
    fn members_and_elements_come_in_order() {
        let mut cursor = Cursor::new(" { \"a\" : [1 , \"x\\n\"] , \"\\u00e9\":{}} ");
        assert_eq!(cursor.open_object().unwrap().as_deref(), Some("a"));
        assert!(cursor.open_array().unwrap());
        assert_eq!(cursor.value().unwrap().raw(), "1");
        assert!(cursor.next_element().unwrap());
        assert_eq!(cursor.value().unwrap().text().as_deref(), Some("x\n"));
        assert!(!cursor.next_element().unwrap());
        assert_eq!(cursor.next_member().unwrap().as_deref(), Some("é"));
        assert_eq!(cursor.value().unwrap().raw(), "{}");
        assert_eq!(cursor.next_member().unwrap(), None);
        assert_eq!(cursor.end(), Ok(()));
    }

    #[test]
    fn an_error_says_what_was_expected_and_found_and_where() {
        let error = |text| Cursor::new(text).value().unwrap_err().to_string();
        assert_eq!(error("[1 2]"), "expected `,` or `]` at byte 3, found '2'");
        assert_eq!(error("{\"a\":"), "expected a JSON value at byte 5, found the end");
        assert_eq!(
            error("\"\u{1}\""),
            "expected an escape instead of a control character at byte 1, found '\\u{1}'"
        );
    }

    #[test]
    fn nesting_is_limited() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(is_accepted(&nested(MAX_DEPTH)));
        assert!(!is_accepted(&nested(MAX_DEPTH + 1)));
        assert!(!is_accepted(&nested(1_000_000)));
    }

    #[test]
    fn the_grammar_is_that_of_rfc_8259() {
        for text in [
            "-0.0e+1",
            "01",
            "1.",
            ".5",
            "-",
            "1e",
            "+1",
            "tru",
            "nulll",
            "[1,]",
            "{\"a\":1,}",
            "{,}",
            "\"\\ud83d\\ude00\"",
            "\"\\ud83d\"",
            "\"\\ude00\"",
            "\"\\ud83d\\u0041\"",
            "\"\\u12g4\"",
            "\"\\x\"",
            "\"\u{7f}\"",
            "\"a",
            "\"\\",
            "",
            " ",
            "\u{feff}1",
            "[",
            "{\"a\"}",
            "1e999",
            "1E310E",
            "[-1e999,1e999]",
            "NaN",
        ] {
            assert_eq!(is_accepted(text), is_json(text), "{text:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn exactly_json_is_accepted(text in "[\\[\\]{},:\"\\\\ude0-9.eE+\\- tfnrulas\u{1}é]{0,24}") {
            prop_assert_eq!(is_accepted(&text), is_json(&text));
        }

        #[test]
        fn a_string_is_read_as_serde_json_reads_it(text in "\\PC*|[\\x00-\\x7f]*") {
            let json = serde_json::to_string(&text).unwrap();
            let value = Cursor::new(&json).value().unwrap();
            prop_assert_eq!(value.text().unwrap(), text);
        }
    }
}
