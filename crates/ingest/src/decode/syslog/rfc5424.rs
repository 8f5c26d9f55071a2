//! Messages as RFC 5424 §6 has them.

use thalweg_event::{AttributeValue, Row, time};

use super::{split_word, structured_data};

/// What stands for a value that is absent.
const NIL: &str = "-";
/// Begins a message that is in UTF-8 for sure (RFC 5424 §6.4).
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Reads what follows the priority; `false`, with nothing written, when it does not begin with
/// version 1 and a time.
pub(super) fn read(text: &str, row: &mut Row<'_, '_>) -> bool {
    let Some(rest) = text.strip_prefix("1 ") else { return false };
    let (timestamp, rest) = split_word(rest);
    if timestamp != NIL {
        let is_rfc3339 = timestamp.as_bytes().get(10) == Some(&b'T');
        match time::parse_text(timestamp).filter(|_| is_rfc3339) {
            Some(nanos) => row.time_unix_nano(nanos),
            None => return false,
        }
    }
    let (host, rest) = split_word(rest);
    let (app, rest) = split_word(rest);
    let (process, rest) = split_word(rest);
    let (message_id, rest) = split_word(rest);
    if let Some(host) = present(host) {
        row.host(host);
    }
    if let Some(app) = present(app) {
        row.service(app);
    }
    for (key, value) in [("syslog.procid", process), ("syslog.msgid", message_id)] {
        if let Some(value) = present(value) {
            row.attribute(key, AttributeValue::Text(value));
        }
    }
    let message = match structured_data::split(rest) {
        Ok((params, message)) => {
            structured_data::write(params, row);
            message
        }
        Err(fault) => {
            row.attribute("syslog.malformed", AttributeValue::Text(&fault.0));
            Some(rest)
        }
    };
    if let Some(message) = message {
        // rsyslog keeps the space that follows a tag where there is no tag any more.
        row.message(message.strip_prefix([BYTE_ORDER_MARK, ' ']).unwrap_or(message));
    }
    true
}

fn present(field: &str) -> Option<&str> {
    (!matches!(field, NIL | "")).then_some(field)
}
