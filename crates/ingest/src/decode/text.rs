//! Lines of plain text: each is the message of one event.
//!
//! A line that begins with the name of a level — in capitals (`ERROR disk full`), in brackets
//! (`[warn] disk`) or before a colon (`error: disk full`) — has that level. Nothing else is
//! guessed; the message is always the whole line.

use thalweg_event::Severity;

use super::{Sink, lines, name_service};

/// Longest level name worth looking at, in bytes.
const MAX_LEVEL_BYTES: usize = 16;

pub(super) fn decode(body: &[u8], sink: &mut Sink<'_>) {
    lines::decode(body, sink, |line, row| {
        row.message(line);
        if let Some(severity) = leading_severity(line) {
            row.severity(severity);
        }
        name_service(row, None);
        Ok(())
    });
}

pub(super) fn leading_severity(line: &str) -> Option<Severity> {
    let line = line.trim_ascii_start();
    let (bracketed, rest) = match line.strip_prefix('[') {
        Some(rest) => (true, rest),
        None => (false, line),
    };
    let end = rest.bytes().take(MAX_LEVEL_BYTES).position(|byte| !byte.is_ascii_alphanumeric());
    let (word, rest) = rest.split_at(end.unwrap_or(rest.len().min(MAX_LEVEL_BYTES)));
    let is_marked = match rest.as_bytes().first() {
        Some(b']') => bracketed,
        Some(b':') => !bracketed,
        None | Some(b' ' | b'\t') => !bracketed && !word.bytes().any(|b| b.is_ascii_lowercase()),
        Some(_) => false,
    };
    is_marked.then(|| Severity::parse(word)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{BodyFormat, testing::decoded};

    #[test]
    fn a_leading_level_is_recognised_where_it_is_marked_as_one() {
        for (line, number) in [
            ("ERROR disk full", Some(17)),
            ("[warn] disk", Some(13)),
            ("  [INFO]", Some(9)),
            ("error: disk", Some(17)),
            ("DEBUG2", Some(6)),
            ("fine with me", None),
            ("error", None),
            ("Alert the others", None),
            ("INFO] x", None),
            ("[info x", None),
            ("2024 ERROR", None),
            ("INFORMATIONALLYSPEAKING x", None),
            ("é", None),
            ("", None),
        ] {
            assert_eq!(leading_severity(line).map(Severity::number), number, "{line}");
        }
    }

    #[test]
    fn the_message_is_the_whole_line_and_the_service_unknown() {
        let event = decoded(BodyFormat::Text, "[error] disk full\n");
        assert_eq!(event.only("message").as_deref(), Some("[error] disk full"));
        assert_eq!(event.only("level").as_deref(), Some("ERROR"));
        assert_eq!(event.only("service").as_deref(), Some("unknown_service"));
    }
}
