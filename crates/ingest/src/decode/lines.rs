//! Bodies with one record on each line.

use thalweg_event::{Fault, Row};

use super::Sink;

/// Takes every line of `body` that is not blank as a record. Lines end with LF or CRLF.
pub(super) fn decode<'c>(
    body: &[u8],
    sink: &mut Sink<'c>,
    read: impl Fn(&str, &mut Row<'_, 'c>) -> Result<(), Fault>,
) {
    // One check of the whole body is much cheaper than one of each line.
    let text = std::str::from_utf8(body).ok();
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', body).chain([body.len()]) {
        let line = &body[start..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if !line.trim_ascii().is_empty() {
            sink.record(line, |row| match text {
                Some(text) => read(&text[start..start + line.len()], row),
                None => read(utf8(line)?, row),
            });
        }
        start = end + 1;
    }
}

/// `record` as text.
pub(super) fn utf8(record: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(record).map_err(|error| {
        Fault(format!("record: expected UTF-8, found another byte at {}", error.valid_up_to()))
    })
}

#[cfg(test)]
mod tests {
    use crate::decode::{BodyFormat, testing::decoded};

    #[test]
    fn blank_lines_are_no_records_and_a_carriage_return_is_no_content() {
        let decoded = decoded(BodyFormat::Text, "a\r\n\r\n  \n\nb");
        assert_eq!(decoded.column("message"), [Some("a".into()), Some("b".into())]);
    }

    #[test]
    fn a_byte_order_mark_is_no_content() {
        let decoded = decoded(BodyFormat::Text, b"\xef\xbb\xbfa");
        assert_eq!(decoded.only("message").as_deref(), Some("a"));
    }

    #[test]
    fn only_the_lines_that_are_not_utf8_are_rejected() {
        let decoded = decoded(BodyFormat::Text, b"one\ntw\xff\nthr\xc3\xa9e");
        assert_eq!(decoded.column("message"), [Some("one".into()), Some("thrée".into())]);
        let reason = "record: expected UTF-8, found another byte at 2";
        assert_eq!(decoded.faults, [(1, reason.to_owned())]);
        assert_eq!(decoded.originals(), [b"tw\xff"]);
    }
}
