//! Syslog messages: RFC 5424, RFC 3164, and what else is sent under that name.
//!
//! ```text
//! <34>1 2003-10-11T22:14:15.003Z host app 123 ID47 [sd@1 k="v"] message      RFC 5424
//! <34>Oct 11 22:14:15 host app[123]: message                                 RFC 3164
//! <34>2003-10-11T22:14:15.003+02:00 host app[123]: message                   rsyslog
//! <189>42: *Oct 11 22:14:15.003: %SYS-5-CONFIG_I: message                    Cisco
//! Oct 11 22:14:15 host app[123]: message                                     files
//! ```
//!
//! No message is refused for its form, as relays may not either (RFC 3164 §4.3): what cannot be
//! told apart is part of the message, and where RFC 5424 was begun and not kept to, attribute
//! `syslog.malformed` says so. Bytes that are not UTF-8 are read as Latin-1.

pub(crate) mod received;
mod rfc3164;
mod rfc5424;
mod structured_data;

use std::borrow::Cow;

use thalweg_event::{AttributeValue, Fault, Row, Severity};

use super::{Sink, name_service};
pub(crate) use rfc3164::Clock;

/// Longest message; longer ones are rejected.
pub(crate) const MAX_MESSAGE_BYTES: usize = 64 << 10;

/// Reads one message from each line.
pub(super) fn decode(body: &[u8], offset_secs: i32, sink: &mut Sink<'_>) {
    let clock = Clock { received_unix_nanos: sink.received_unix_nanos(), offset_secs };
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', body).chain([body.len()]) {
        let line = trim_end(&body[start..end]);
        if !line.trim_ascii().is_empty() {
            sink.record(line, |row| read(line, clock, row));
        }
        start = end + 1;
    }
}

/// `message` without the line ends and the NULs that senders append.
pub(crate) fn trim_end(message: &[u8]) -> &[u8] {
    let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r' | 0);
    let end = message.iter().rposition(|byte| !is_end(byte)).map_or(0, |last| last + 1);
    &message[..end]
}

fn read(message: &[u8], clock: Clock, row: &mut Row<'_, '_>) -> Result<(), Fault> {
    if message.len() > MAX_MESSAGE_BYTES {
        return Err(Fault(format!(
            "message: expected at most {MAX_MESSAGE_BYTES} bytes, found more"
        )));
    }
    let text = text(message);
    let (priority, rest) = split_priority(&text);
    if let Some(priority) = priority {
        row.severity(severity(priority));
        let facility = FACILITIES[usize::from(priority / 8)];
        row.attribute("syslog.facility", AttributeValue::Text(facility));
    }
    if priority.is_none() || !rfc5424::read(rest, row) {
        rfc3164::read(rest, priority.is_some(), clock, row);
    }
    name_service(row, None);
    Ok(())
}

/// `message` as text, so that each of its bytes can be told from it: UTF-8, though a sender may have
/// cut its last character off, else Latin-1.
fn text(message: &[u8]) -> Cow<'_, str> {
    let Err(error) = std::str::from_utf8(message) else { return String::from_utf8_lossy(message) };
    let is_cut_off = error.error_len().is_none();
    let (utf8, latin1) = message.split_at(if is_cut_off { error.valid_up_to() } else { 0 });
    let latin1 = latin1.iter().map(|byte| char::from(*byte));
    Cow::Owned(String::from_utf8_lossy(utf8).chars().chain(latin1).collect())
}

/// The priority before a message, 0 to 191, and the rest (RFC 5424 §6.2.1).
fn split_priority(text: &str) -> (Option<u8>, &str) {
    let split = || {
        let (digits, rest) = text.strip_prefix('<')?.split_once('>')?;
        let is_number =
            (1..=3).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        let priority = is_number.then(|| digits.parse().ok()).flatten();
        priority.filter(|priority| usize::from(priority / 8) < FACILITIES.len()).map(|p| (p, rest))
    };
    split().map_or((None, text), |(priority, rest)| (Some(priority), rest))
}

/// Names of the facilities by number (RFC 5424 table 1), as syslog daemons write them.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];

/// OpenTelemetry Logs Data Model, appendix B, "Syslog".
fn severity(priority: u8) -> Severity {
    /// Of emergency, alert, critical, error, warning, notice, informational and debug.
    const NUMBERS: [i64; 8] = [21, 19, 18, 17, 13, 10, 9, 5];
    Severity::from_number(NUMBERS[usize::from(priority % 8)]).expect("each is from 1 to 24")
}

/// Everything before the first space, and everything after it.
fn split_word(text: &str) -> (&str, &str) {
    text.split_once(' ').unwrap_or((text, ""))
}

#[cfg(test)]
mod tests;
