//! Cuts a message into words and tells values by their look.

use std::ops::Range;

use crate::bytes::{CAPITAL, DIGIT, HEX, LETTER, WORD, classes, is};
use crate::element::{Element, Kind};
use crate::hash::{stem_key, word_key};

/// Longer quotations are read as words.
const QUOTATION_LIMIT_BYTES: usize = 200;

/// No address with colons is longer; also keeps the time linear.
const COLONS_LIMIT_BYTES: usize = 64;

/// Appends the words and values of a message, at most `limit` of them.
///
/// Returns whether there were more. Takes time linear in the bytes of the message.
pub(crate) fn scan(text: &[u8], limit: usize, out: &mut Vec<Element>) -> bool {
    let mut at = 0;
    let mut open_quote = None;
    while at < text.len() {
        let byte = text[at];
        if matches!(byte, b'"' | b'\'') && open_quote.take_if(|close| *close == at).is_none() {
            match quotation(text, at) {
                Quotation::Whole(element) => {
                    if out.len() == limit {
                        return true;
                    }
                    at = element.end as usize;
                    out.push(element);
                    continue;
                }
                Quotation::OfWords { close } => open_quote = Some(close),
                Quotation::None => {}
            }
        }
        if !is(byte, WORD) {
            at += 1;
            continue;
        }
        let (element, next) = word(text, at);
        at = next;
        if let Some(element) = element {
            if out.len() == limit {
                return true;
            }
            out.push(element);
        }
    }
    false
}

enum Quotation {
    /// To be taken as one element.
    Whole(Element),
    /// To be read word by word, as `"GET /cart HTTP/1.1"`.
    OfWords {
        close: usize,
    },
    None,
}

fn quotation(text: &[u8], open: usize) -> Quotation {
    let quote = text[open];
    let is_apostrophe = quote == b'\'' && open > 0 && is(text[open - 1], LETTER | DIGIT);
    let reach = text.len().min(open + QUOTATION_LIMIT_BYTES);
    let rest = text.get(open + 1..reach).unwrap_or_default();
    let Some(length) = rest.iter().position(|&byte| byte == quote).filter(|_| !is_apostrophe)
    else {
        return Quotation::None;
    };
    let close = open + 1 + length;
    if quote == b'\'' && text.get(close + 1).is_some_and(|&byte| is(byte, LETTER | DIGIT)) {
        return Quotation::None;
    }
    let quoted = &rest[..length];
    let span = open..close + 1;
    let has_digit = quoted.iter().any(|&byte| is(byte, DIGIT));
    if quoted.contains(&b' ') && (has_digit || quoted.contains(&b'/')) {
        Quotation::OfWords { close }
    } else if has_digit || matches!(quoted.first(), None | Some(b'/')) {
        Quotation::Whole(Element::value(span))
    } else {
        Quotation::Whole(Element::constant(Kind::Quoted, word_key(quoted), span))
    }
}

/// The word at `start`, if it is more than punctuation, and where to go on.
fn word(text: &[u8], start: usize) -> (Option<Element>, usize) {
    let length = text[start..].iter().position(|&byte| !is(byte, WORD));
    let mut end = length.map_or(text.len(), |length| start + length);
    if text.get(end) == Some(&b':') {
        if let Some(end) = colon_separated(text, start, end) {
            return (Some(Element::number(start..end)), end);
        }
        if text[end..].starts_with(b"://") {
            end = end_of_address(text, end);
            return (Some(Element::value(start..end)), end);
        }
    }
    let mut inner = start..end;
    while inner.start < end && b"-.+_@&%".contains(&text[inner.start]) {
        inner.start += 1;
    }
    while inner.end > inner.start && b"-.+@&%/".contains(&text[inner.end - 1]) {
        inner.end -= 1;
    }
    if inner.is_empty() {
        return (None, end);
    }
    let mut look = Look::of(&text[inner.clone()]);
    if look.has_at && !look.is_mail_address {
        // `Proxy@1f`, `root@localhost`: two words.
        let length = text[inner.clone()].iter().position(|&byte| byte == b'@');
        end = inner.start + length.unwrap_or(inner.len());
        inner.end = end;
        look = Look::of(&text[inner.clone()]);
    }
    if look.first == b'/' && has_query(&text[end..]) {
        end = end_of_address(text, end);
        return (Some(Element::value(inner.start..end)), end);
    }
    let is_host = inner.end == end && look.may_be_host() && is_port(&text[end..]);
    let element = if is_host { Element::value(inner) } else { look.element(text, inner) };
    (Some(element), end)
}

/// Whether a path goes on with a query (`?page=1`) or parameters (`;v=1`).
fn has_query(rest: &[u8]) -> bool {
    matches!(rest, [b'?' | b';', next, ..] if is(*next, WORD))
}

/// Where a URL or a path with a query that goes on at `from` ends.
fn end_of_address(text: &[u8], from: usize) -> usize {
    let is_over = |byte: &u8| *byte <= b' ' || b"\"'<>)],".contains(byte);
    text[from..].iter().position(is_over).map_or(text.len(), |length| from + length)
}

/// Where a MAC or IPv6 address, or a time of day, that begins with a word ends.
fn colon_separated(text: &[u8], start: usize, first_end: usize) -> Option<usize> {
    let is_part = |byte: u8| is(byte, HEX) || matches!(byte, b':' | b'.' | b'%');
    if first_end - start > COLONS_LIMIT_BYTES
        || !text[start..first_end].iter().all(|&byte| is_part(byte))
    {
        return None;
    }
    let reach = text.len().min(first_end + COLONS_LIMIT_BYTES);
    let more = text[first_end..reach].iter().take_while(|&&byte| is_part(byte)).count();
    let end = first_end + more;
    let whole = &text[start..end];
    let colons = whole.iter().filter(|&&byte| byte == b':').count();
    let is_address = colons >= 2
        && whole.len() >= 6
        && whole.iter().any(|&byte| is(byte, DIGIT))
        && text.get(end).is_none_or(|&byte| !is(byte, WORD));
    is_address.then_some(end)
}

/// Whether `:` and a port number follow.
fn is_port(rest: &[u8]) -> bool {
    let Some((b':', rest)) = rest.split_first() else { return false };
    let digits = rest.iter().take_while(|&&byte| is(byte, DIGIT)).count();
    let ends = rest.get(digits).is_none_or(|&byte| !is(byte, LETTER) && byte != b'.');
    (2..=5).contains(&digits) && ends
}

/// What a word is made of.
struct Look {
    /// Every class that one of its bytes has.
    any: u8,
    /// The classes that all of its bytes have.
    all: u8,
    length: usize,
    first: u8,
    slashes: usize,
    has_dot: bool,
    has_backslash: bool,
    has_dollar: bool,
    has_at: bool,
    is_mail_address: bool,
    /// Whether there is nothing in it that hexadecimal numbers do not have.
    is_number: bool,
}

impl Look {
    fn of(word: &[u8]) -> Self {
        let mut look = Self {
            any: 0,
            all: u8::MAX,
            length: word.len(),
            first: word[0],
            slashes: 0,
            has_dot: false,
            has_backslash: false,
            has_dollar: false,
            has_at: false,
            is_mail_address: false,
            is_number: true,
        };
        for &byte in word {
            let classes = classes(byte);
            look.any |= classes;
            look.all &= classes;
            look.is_number &=
                classes & HEX != 0 || matches!(byte, b'-' | b'.' | b'+' | b'x' | b'%');
            if classes & (LETTER | DIGIT) != 0 {
                continue;
            }
            match byte {
                b'/' => look.slashes += 1,
                b'.' => {
                    look.has_dot = true;
                    look.is_mail_address = look.has_at;
                }
                b'\\' => look.has_backslash = true,
                b'$' => look.has_dollar = true,
                b'@' => {
                    look.has_at = true;
                    look.is_mail_address = false;
                }
                _ => {}
            }
        }
        look
    }

    fn may_be_host(&self) -> bool {
        self.has_dot && self.slashes == 0 && self.any & CAPITAL == 0 && !self.is_number
    }

    fn is_path(&self) -> bool {
        (self.first == b'/' && self.length > 1)
            || self.slashes >= 2
            || (self.slashes > 0 && (self.has_dot || self.any & DIGIT != 0))
            || (self.has_backslash && self.length > 2)
    }

    fn element(&self, text: &[u8], span: Range<usize>) -> Element {
        if self.is_path() || self.is_mail_address {
            return Element::value(span);
        }
        let word = &text[span.clone()];
        if self.any & DIGIT == 0 {
            // Few English words have only letters up to f, and none is that long.
            if self.length >= 8 && self.all & HEX != 0 {
                return Element::number(span);
            }
            let is_name = self.has_dot || self.slashes > 0 || self.has_dollar;
            let kind = if is_name { Kind::Name } else { Kind::Word };
            return Element::constant(kind, word_key(word), span);
        }
        let stem = stem(word);
        let letters = stem.iter().filter(|&&byte| is(byte, LETTER)).count();
        // `db01` is rather a name than a number.
        let may_be_name = self.length < 6
            && letters >= 2
            && word[stem.len()..].iter().all(|&byte| is(byte, DIGIT));
        if self.is_number && !may_be_name {
            return Element::number(span);
        }
        if self.has_dot || matches!(self.first, b'0'..=b'9' | b'~') {
            return Element::value(span);
        }
        if letters < 2 {
            return Element::value(span);
        }
        let mut element = Element::constant(Kind::Name, stem_key(stem), span.clone());
        element.value_start = (span.start + stem.len()) as u32;
        element
    }
}

/// What stands before the first digit, without what joins the two.
fn stem(word: &[u8]) -> &[u8] {
    let digit = word.iter().position(|&byte| is(byte, DIGIT)).unwrap_or(word.len());
    let mut stem = &word[..digit];
    while let [rest @ .., b'-' | b'_' | b'.' | b'@' | b'$' | b'+'] = stem {
        stem = rest;
    }
    stem
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let mut elements = Vec::new();
        scan(text.as_bytes(), 100, &mut elements);
        elements
            .iter()
            .map(|element| match element.kind {
                Kind::Number | Kind::Value => format!("<{}>", &text[element.span()]),
                Kind::Quoted => format!("q:{}", &text[element.span()]),
                Kind::Name if element.has_value() => {
                    let stem = element.start as usize..element.value_start as usize;
                    format!("{}<{}>", &text[stem], &text[element.value_span()])
                }
                Kind::Name => format!("n:{}", &text[element.span()]),
                Kind::Word => text[element.span()].to_owned(),
            })
            .collect()
    }

    #[test]
    fn numbers_are_values() {
        assert_eq!(
            shown("took 5 ms, -1.5e3 0x7f 12%"),
            ["took", "<5>", "ms", "<1.5e3>", "<0x7f>", "<12>"]
        );
    }

    #[test]
    fn addresses_are_values_with_their_colons() {
        assert_eq!(
            shown("5c:50:15:4c:18:13 fe80::f65c:89ff 10.0.0.1:80 db.example.org:5432,"),
            [
                "<5c:50:15:4c:18:13>",
                "<fe80::f65c:89ff>",
                "<10.0.0.1>",
                "<80>",
                "<db.example.org>",
                "<5432>"
            ]
        );
    }

    #[test]
    fn a_class_and_its_line_are_a_name_and_a_number() {
        assert_eq!(shown("Cart.java:17"), ["n:Cart.java", "<17>"]);
    }

    #[test]
    fn paths_urls_and_mail_addresses_are_values() {
        assert_eq!(
            shown("GET https://x.org/a?b=c, /a?b=c&d /etc/hosts a/b.txt C:\\tmp\\x joe@x.org /"),
            [
                "GET",
                "<https://x.org/a?b=c>",
                "</a?b=c&d>",
                "</etc/hosts>",
                "<a/b.txt>",
                "C",
                "<\\tmp\\x>",
                "<joe@x.org>"
            ]
        );
    }

    #[test]
    fn a_name_with_a_number_keeps_its_stem() {
        assert_eq!(
            shown("blk_-1608 eth0 SOCKS5 v2 db01 dead012"),
            ["blk<_-1608>", "eth<0>", "SOCKS<5>", "<v2>", "db<01>", "<dead012>"]
        );
    }

    #[test]
    fn a_key_and_its_value_are_two() {
        assert_eq!(shown("uid=0,user=root"), ["uid", "<0>", "user", "root"]);
    }

    #[test]
    fn quotations_are_one_value_unless_they_have_words_and_numbers() {
        assert_eq!(
            shown(r#"tag="View Lock" key='a1' "GET /x HTTP/1.1" don't "open"#),
            [
                "tag",
                "q:\"View Lock\"",
                "key",
                "<'a1'>",
                "GET",
                "</x>",
                "<HTTP/1.1>",
                "don",
                "t",
                "open"
            ]
        );
    }

    #[test]
    fn no_more_elements_than_asked_for() {
        let mut elements = Vec::new();
        assert!(scan(b"a b c", 2, &mut elements));
        assert_eq!(elements.len(), 2);
        elements.clear();
        assert!(!scan(b"a b ...", 2, &mut elements));
    }

    #[test]
    fn letters_beyond_ascii_are_letters() {
        assert_eq!(shown("Benutzer größe=5 ログイン"), ["Benutzer", "größe", "<5>", "ログイン"]);
    }
}
