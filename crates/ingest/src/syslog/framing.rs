//! Messages told apart in a stream (RFC 6587): each begins with its length, or ends with a line
//! feed. Senders do not say which, and a relay may mix them, so each message shows it itself.

use crate::decode::syslog::MAX_MESSAGE_BYTES;

/// Digits of a length that is worth reading: more are no length.
const MAX_DIGITS: usize = 9;

/// What a stream goes on with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame<'b> {
    /// A message, which may be empty, and how many bytes it took with what told it apart.
    Message { message: &'b [u8], length: usize },
    /// More bytes are needed.
    Incomplete,
    /// A message longer than [`MAX_MESSAGE_BYTES`]; its beginning.
    TooLong(&'b [u8]),
}

/// The first message of `bytes`; `is_end` when no more bytes will come.
pub(super) fn next(bytes: &[u8], is_end: bool) -> Frame<'_> {
    if bytes.is_empty() {
        return Frame::Incomplete;
    }
    match counted(bytes) {
        Counted::Message { start, length } => {
            let rest = &bytes[start..];
            if length > MAX_MESSAGE_BYTES {
                return too_long(rest);
            }
            match rest.get(..length) {
                Some(message) => Frame::Message { message, length: start + length },
                // What came of it is better than nothing.
                None if is_end => Frame::Message { message: rest, length: bytes.len() },
                None => Frame::Incomplete,
            }
        }
        Counted::Unclear if !is_end => Frame::Incomplete,
        Counted::Unclear | Counted::No => match memchr::memchr(b'\n', bytes) {
            Some(end) if end > MAX_MESSAGE_BYTES => too_long(bytes),
            None if bytes.len() > MAX_MESSAGE_BYTES => too_long(bytes),
            Some(end) => Frame::Message { message: &bytes[..end], length: end + 1 },
            None if is_end => Frame::Message { message: bytes, length: bytes.len() },
            None => Frame::Incomplete,
        },
    }
}

fn too_long(bytes: &[u8]) -> Frame<'_> {
    Frame::TooLong(&bytes[..bytes.len().min(MAX_MESSAGE_BYTES + 1)])
}

/// Whether a message begins with its length.
enum Counted {
    Message {
        start: usize,
        length: usize,
    },
    No,
    /// Only more bytes can tell.
    Unclear,
}

/// A length is followed by a space and the `<` that every message begins with, which a line that
/// begins with a number is not.
fn counted(bytes: &[u8]) -> Counted {
    let digits = bytes.iter().take(MAX_DIGITS + 1).take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 || digits > MAX_DIGITS || bytes[0] == b'0' {
        return Counted::No;
    }
    match bytes.get(digits..digits + 2) {
        Some(b" <") => {
            let length =
                bytes[..digits].iter().fold(0, |sum, byte| sum * 10 + usize::from(byte - b'0'));
            Counted::Message { start: digits + 1, length }
        }
        Some(_) => Counted::No,
        None if bytes.get(digits).is_none_or(|byte| *byte == b' ') => Counted::Unclear,
        None => Counted::No,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The messages of `bytes` as they come in pieces of `piece` bytes, and whether the stream
    /// was cut off.
    fn messages(bytes: &[u8], piece: usize) -> (Vec<Vec<u8>>, bool) {
        let (mut buffer, mut found) = (Vec::new(), Vec::new());
        let mut pieces = bytes.chunks(piece.max(1));
        loop {
            let piece = pieces.next();
            buffer.extend_from_slice(piece.unwrap_or_default());
            loop {
                let length = match next(&buffer, piece.is_none()) {
                    Frame::Message { message, length } => {
                        found.push(message.to_vec());
                        length
                    }
                    Frame::Incomplete => break,
                    Frame::TooLong(_) => return (found, true),
                };
                buffer.drain(..length);
            }
            if piece.is_none() {
                assert_eq!(buffer, b"");
                return (found, false);
            }
        }
    }

    fn texts(bytes: &[u8]) -> Vec<String> {
        let (messages, is_cut_off) = messages(bytes, usize::MAX);
        assert!(!is_cut_off);
        messages.into_iter().map(|message| String::from_utf8(message).unwrap()).collect()
    }

    #[test]
    fn counted_messages_and_lines_may_alternate() {
        assert_eq!(
            texts(b"8 <1>a\nb c<2>d\n6 <3>e f<4>g"),
            ["<1>a\nb c", "<2>d", "<3>e f", "<4>g"]
        );
    }

    #[test]
    fn a_line_that_begins_with_a_number_is_a_line() {
        for line in ["2026-11-25 up", "42: x", "7 days <ago>", "12", "0 <1>a", "1234567890 <1>x"] {
            assert_eq!(texts(format!("{line}\n<1>b\n").as_bytes()), [line, "<1>b"], "{line}");
        }
    }

    #[test]
    fn the_end_of_the_stream_ends_the_last_message() {
        assert_eq!(texts(b"<1>a"), ["<1>a"]);
        assert_eq!(texts(b"100 <1>a"), ["<1>a"]);
        assert_eq!(texts(b"10"), ["10"]);
    }

    #[test]
    fn a_message_longer_than_the_limit_cuts_the_stream_off() {
        let line = |length| [b"<1>a\n".to_vec(), vec![b'x'; length], b"\n<1>b\n".to_vec()].concat();
        for piece in [1000, usize::MAX] {
            assert_eq!(messages(&line(MAX_MESSAGE_BYTES), piece).0.len(), 3);
            let (found, is_cut_off) = messages(&line(MAX_MESSAGE_BYTES + 1), piece);
            assert_eq!((found.len(), is_cut_off), (1, true));
        }
        assert_eq!(messages(b"999999999 <1>", 1), (vec![], true));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_a_stream_is_cut_into_pieces(
            bytes in "([0-9]{0,3} ?<?[a-z0-9\n ]{0,8}){0,12}",
            piece in 1..20_usize,
        ) {
            prop_assert_eq!(messages(bytes.as_bytes(), piece), messages(bytes.as_bytes(), usize::MAX));
        }

        #[test]
        fn counted_messages_are_told_apart_whatever_they_hold(
            contents in proptest::collection::vec("[\\x00-\\x7f]{0,20}", 0..6),
            piece in 1..20_usize,
        ) {
            let sent: Vec<String> = contents.iter().map(|content| format!("<1>{content}")).collect();
            let stream: String = sent.iter().map(|message| format!("{} {message}", message.len())).collect();
            let sent: Vec<Vec<u8>> = sent.into_iter().map(String::into_bytes).collect();
            prop_assert_eq!(messages(stream.as_bytes(), piece), (sent, false));
        }
    }
}
