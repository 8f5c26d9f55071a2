//! Messages as RFC 3164 describes what is in use, and its dialects.

use chrono::NaiveDate;
use thalweg_event::{AttributeValue, Row, time};

use super::split_word;

const NANOS_PER_SEC: i64 = 1_000_000_000;
/// How far ahead of ours a sender's clock may be before its time is taken for last year's.
const MAX_AHEAD_NANOS: i64 = 24 * 3600 * NANOS_PER_SEC;
/// Years to look back for one that has the date: 29 February may be eight years ago.
const YEARS_BACK: i32 = 8;
/// Longest tag, in bytes; RFC 3164 §4.1.3 allows 32, senders use more.
const MAX_TAG_BYTES: usize = 128;

/// What times without a year or an offset are to be read by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// When the message was received.
    pub(crate) received_unix_nanos: i64,
    /// Offset of the senders' local time, east of UTC.
    pub(crate) offset_secs: i32,
}

/// Reads what follows the priority, if there is one; what is neither time nor host nor tag is
/// the message.
pub(super) fn read(text: &str, has_priority: bool, clock: Clock, row: &mut Row<'_, '_>) {
    let (sequence, after_sequence) = split_sequence(text);
    let timed = split_time(after_sequence, clock);
    let (mut rest, has_time) = match timed {
        Some((nanos, rest)) => {
            row.time_unix_nano(nanos);
            if let Some(sequence) = sequence {
                row.attribute("syslog.sequence", AttributeValue::Text(sequence));
            }
            (rest.trim_start_matches(' '), true)
        }
        None => (text, false),
    };
    let (word, after) = split_word(rest);
    if has_time && is_host(word) && !after.is_empty() && split_tag(rest).is_none() {
        row.host(word);
        rest = after.trim_start_matches(' ');
    }
    if let Some(Tag { name, process, message }) =
        split_tag(rest).filter(|_| has_time || has_priority)
    {
        row.service(name);
        if let Some(process) = process {
            row.attribute("syslog.procid", AttributeValue::Text(process));
        }
        rest = message;
    }
    row.message(rest);
}

/// The number that Cisco devices begin a message with, and what follows it.
fn split_sequence(text: &str) -> (Option<&str>, &str) {
    match text.split_once(": ") {
        Some((digits, rest))
            if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) =>
        {
            (Some(digits), rest)
        }
        _ => (None, text),
    }
}

/// A time, nanoseconds since the Unix epoch, and what follows it.
fn split_time(text: &str, clock: Clock) -> Option<(i64, &str)> {
    let (nanos, rest) = split_iso_time(text, clock).or_else(|| split_bsd_time(text, clock))?;
    let rest = rest.strip_prefix(':').unwrap_or(rest);
    (rest.is_empty() || rest.starts_with(' ')).then_some((nanos, rest))
}

/// `2003-10-11T22:14:15.003+02:00`, or with a space in the place of the `T`.
fn split_iso_time(text: &str, clock: Clock) -> Option<(i64, &str)> {
    let bytes = text.as_bytes();
    if !matches!(bytes.get(10), Some(b'T' | b' ')) || bytes.get(13) != Some(&b':') {
        return None;
    }
    let end = bytes[11..].iter().position(|byte| *byte == b' ').map_or(text.len(), |end| 11 + end);
    let (written, rest) = text.split_at_checked(end)?;
    let written = written.strip_suffix(':').unwrap_or(written);
    let nanos = time::parse_text(written)?;
    let has_offset = written.ends_with(['Z', 'z']) || written.get(19..)?.contains(['+', '-']);
    let offset_secs = if has_offset { 0 } else { clock.offset_secs };
    Some((nanos.checked_sub(i64::from(offset_secs) * NANOS_PER_SEC)?, rest))
}

/// `Oct 11 22:14:15`, with or without a fraction, a year before or after the time, a time zone's
/// name and a colon at the end, and a mark of an unset clock before it.
fn split_bsd_time(text: &str, clock: Clock) -> Option<(i64, &str)> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = text.strip_prefix(['*', '.']).unwrap_or(text);
    let (name, rest) = text.split_at_checked(3)?;
    let month = MONTHS.iter().position(|month| month.eq_ignore_ascii_case(name))? as u32 + 1;
    let (day, rest) = split_number(rest.strip_prefix(' ')?.trim_start_matches(' '), 1..=2)?;
    let mut rest = rest.strip_prefix(' ')?;
    let mut year = None;
    if let Some((number, after)) = split_number(rest, 4..=4) {
        (year, rest) = (Some(number), after.strip_prefix(' ')?);
    }
    let (hour, rest) = split_number(rest, 1..=2)?;
    let (minute, rest) = split_number(rest.strip_prefix(':')?, 2..=2)?;
    let (second, mut rest) = split_number(rest.strip_prefix(':')?, 2..=2)?;
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits =
            fraction.len() - fraction.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = split_number(fraction, 1..=9)?;
        (nanos, rest) = (number * 10_u32.pow(9 - digits as u32), after);
    }
    if let (None, Some((number, after))) =
        (year, rest.strip_prefix(' ').and_then(|rest| split_number(rest, 4..=4)))
        && (1970..2262).contains(&number)
        && after.starts_with([' ', ':'])
    {
        (year, rest) = (Some(number), after);
    }
    let mut offset_secs = clock.offset_secs;
    if let Some((zone, _)) = rest.strip_prefix(' ').and_then(|rest| rest.split_once(':'))
        && (3..=5).contains(&zone.len())
        && zone.bytes().all(|byte| byte.is_ascii_uppercase())
    {
        rest = &rest[1 + zone.len()..];
        if matches!(zone, "UTC" | "GMT") {
            offset_secs = 0;
        }
    }
    let unix_nanos = |year: i32| {
        let time = NaiveDate::from_ymd_opt(year, month, day)?;
        let time = time.and_hms_nano_opt(hour, minute, second, nanos)?.and_utc();
        time.timestamp_nanos_opt()?.checked_sub(i64::from(offset_secs) * NANOS_PER_SEC)
    };
    let nanos = match year {
        Some(year) => unix_nanos(i32::try_from(year).ok()?)?,
        None => {
            let received = chrono::DateTime::from_timestamp_nanos(clock.received_unix_nanos);
            let latest = chrono::Datelike::year(&received) + 1;
            let is_past =
                |nanos: &i64| *nanos <= clock.received_unix_nanos.saturating_add(MAX_AHEAD_NANOS);
            let years = (latest - 1 - YEARS_BACK..=latest).rev();
            years.filter_map(unix_nanos).find(is_past)?
        }
    };
    (nanos >= 0).then_some((nanos, rest))
}

/// A number of so many digits, and what follows it.
fn split_number(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<(u32, &str)> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    digits.contains(&end).then(|| number.parse().ok()).flatten().map(|number| (number, rest))
}

fn is_host(word: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:%/".contains(&byte);
    !word.is_empty() && word.bytes().all(is_part)
}

/// What a message begins with: the program that sent it.
struct Tag<'t> {
    name: &'t str,
    process: Option<&'t str>,
    message: &'t str,
}

/// `name: message`, `name[process]: message` or `name[process] message`.
fn split_tag(text: &str) -> Option<Tag<'_>> {
    let is_end = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b':' | b'[' | b']');
    let end = text.as_bytes().iter().take(MAX_TAG_BYTES).position(is_end)?;
    let (name, rest) = text.split_at(end);
    let (process, rest) = match rest.strip_prefix('[') {
        None => (None, rest.strip_prefix(':')?),
        Some(inner) => {
            let (process, rest) = inner.split_once(']')?;
            let is_short = process.len() <= MAX_TAG_BYTES && !process.contains(' ');
            let after = rest.strip_prefix(':');
            let has_end = after.is_some() || rest.is_empty() || rest.starts_with(' ');
            (is_short && has_end).then_some((Some(process), after.unwrap_or(rest)))?
        }
    };
    let is_tag =
        !name.is_empty() && (process.is_some() || rest.is_empty() || rest.starts_with(' '));
    let message = rest.strip_prefix(' ').unwrap_or(rest);
    is_tag.then_some(Tag { name, process: process.filter(|process| !process.is_empty()), message })
}
