//! Event times as senders write them.

use chrono::Utc;

/// Nanoseconds in a microsecond.
pub const NANOS_PER_MICRO: i64 = 1_000;

/// Nanoseconds since the Unix epoch of an RFC 3339 / ISO 8601 text; a time without an offset is UTC.
///
/// `None` when the text is no time or lies outside 1970–2262.
pub fn parse_text(text: &str) -> Option<i64> {
    parse_rfc3339_utc(text.as_bytes()).or_else(|| {
        let time = arrow::compute::kernels::cast_utils::string_to_datetime(&Utc, text).ok()?;
        time.timestamp_nanos_opt().filter(|nanos| *nanos >= 0)
    })
}

/// Nanoseconds since the Unix epoch of a number of seconds, milliseconds, microseconds or
/// nanoseconds, told apart by magnitude: whole numbers below 10¹¹ are seconds (until the year
/// 5138), below 10¹⁴ milliseconds, below 10¹⁷ microseconds. Fractions are kept exactly.
///
/// `None` when the text is no plain number or the time lies outside 1970–2262.
pub fn parse_number(text: &str) -> Option<i64> {
    parse_plain_number(text).or_else(|| {
        // Exponents are legal JSON, and rare enough for the slow way.
        let number: f64 = text.parse().ok().filter(|n| *n >= 0.0 && *n < i64::MAX as f64)?;
        parse_plain_number(&format!("{number}"))
    })
}

fn parse_plain_number(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let whole: i64 = whole.parse().ok()?;
    let digits = match whole {
        0..=99_999_999_999 => 9,
        100_000_000_000..=99_999_999_999_999 => 6,
        100_000_000_000_000..=99_999_999_999_999_999 => 3,
        _ => 0,
    };
    let unit = 10_i64.pow(digits);
    let below: i64 = (0..digits as usize).fold(0, |sum, place| {
        sum * 10 + fraction.as_bytes().get(place).map_or(0, |digit| i64::from(digit - b'0'))
    });
    whole.checked_mul(unit)?.checked_add(below)
}

/// The common case `YYYY-MM-DDTHH:MM:SS[.fraction]Z`, at fixed places.
fn parse_rfc3339_utc(text: &[u8]) -> Option<i64> {
    let (&last, text) = text.split_last()?;
    let seconds = text.get(..19)?;
    let shape = last == b'Z'
        && (seconds[4], seconds[7], seconds[13], seconds[16]) == (b'-', b'-', b':', b':')
        && matches!(seconds[10], b'T' | b't' | b' ');
    if !shape {
        return None;
    }
    let number = |range: std::ops::Range<usize>| {
        seconds[range].iter().try_fold(0_u32, |sum, byte| {
            byte.is_ascii_digit().then(|| sum * 10 + u32::from(byte - b'0'))
        })
    };
    let date =
        chrono::NaiveDate::from_ymd_opt(number(0..4)? as i32, number(5..7)?, number(8..10)?)?;
    let time = date.and_hms_opt(number(11..13)?, number(14..16)?, number(17..19)?)?;
    let nanos = match text.get(19..)? {
        [] => 0,
        [b'.', digits @ ..] if (1..=9).contains(&digits.len()) => {
            let value = digits.iter().try_fold(0_i64, |sum, byte| {
                byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0'))
            })?;
            value * 10_i64.pow(9 - digits.len() as u32)
        }
        _ => return None,
    };
    let seconds = time.and_utc().timestamp();
    seconds.checked_mul(1_000_000_000)?.checked_add(nanos).filter(|nanos| *nanos >= 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_times_of_common_shapes_are_exact() {
        for (text, nanos) in [
            ("2023-11-14T22:13:20Z", 1_700_000_000_000_000_000),
            ("2023-11-14T22:13:20.123456789Z", 1_700_000_000_123_456_789),
            ("2023-11-14 22:13:20.5", 1_700_000_000_500_000_000),
            ("2023-11-15T00:13:20.25+02:00", 1_700_000_000_250_000_000),
        ] {
            assert_eq!(parse_text(text), Some(nanos), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "2023-13-14T22:13:20Z",
            "1869-11-14T22:13:20Z",
            "9999-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_text(text), None, "{text}");
        }
    }

    #[test]
    fn the_unit_of_a_number_follows_its_magnitude() {
        for text in [
            "1700000000.5",
            "1700000000500",
            "1700000000500000",
            "1700000000500000000",
            "1.7000000005e9",
        ] {
            assert_eq!(parse_number(text), Some(1_700_000_000_500_000_000), "{text}");
        }
        for text in ["-1", "-0", "-0.0e1", "1e400", "99999999999999999999", ".", "0x10"] {
            assert_eq!(parse_number(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_fast_path_agrees_with_the_general_parser(seconds in 0_i64..9_000_000_000, nanos in 0_u32..1_000_000_000) {
            let time = chrono::DateTime::from_timestamp(seconds, nanos).unwrap();
            let text = time.to_rfc3339_opts(chrono::SecondsFormat::Nanos, true);
            prop_assert_eq!(parse_rfc3339_utc(text.as_bytes()), time.timestamp_nanos_opt());
            prop_assert_eq!(parse_text(&text.replace('Z', "+00:00")), time.timestamp_nanos_opt());
        }

        #[test]
        fn no_text_makes_a_parser_panic(text in "\\PC{0,40}") {
            let _ = (parse_text(&text), parse_number(&text));
        }
    }
}
