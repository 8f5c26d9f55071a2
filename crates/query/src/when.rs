//! Times as people write them in a request.

use thalweg_event::time::{parse_number, parse_text};

const NANOS_PER_MICRO: i64 = 1_000;
const MICROS_PER_SEC: i64 = 1_000_000;

/// Microseconds since the Unix epoch of `text`, read at the time `now_micros`:
///
/// - a time of RFC 3339, UTC where it has no offset;
/// - a number of seconds, milliseconds, microseconds or nanoseconds since the epoch, told apart
///   by magnitude;
/// - `now`, or a time from now: `15m` and `-15m` (ago), `now-1h`, `now+1h`, in the units
///   `s m h d w`.
///
/// `None` when it is none of these. A bare `15` is a number of seconds since the epoch.
pub(crate) fn parse(text: &str, now_micros: i64) -> Option<i64> {
    let text = text.trim();
    if let Some(offset) = text.strip_prefix("now") {
        return match offset.split_at_checked(1) {
            None => Some(now_micros),
            Some(("-", amount)) => now_micros.checked_sub(duration_micros(amount)?),
            // A plus sign that was not escaped arrives as a space.
            Some(("+" | " ", amount)) => now_micros.checked_add(duration_micros(amount)?),
            Some(_) => None,
        };
    }
    if let Some(ago) = duration_micros(text.strip_prefix('-').unwrap_or(text)) {
        return now_micros.checked_sub(ago);
    }
    let nanos = parse_number(text).or_else(|| parse_text(text)).or_else(|| {
        let (time, offset) = text.rsplit_once(' ')?;
        parse_text(&format!("{time}+{offset}"))
    });
    nanos.map(|nanos| nanos / NANOS_PER_MICRO)
}

fn duration_micros(text: &str) -> Option<i64> {
    let unit = text.chars().next_back()?;
    let secs = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return None,
    };
    let amount = text.strip_suffix(unit)?;
    let digits_only = amount.bytes().all(|byte| byte.is_ascii_digit());
    let amount: i64 = amount.parse().ok().filter(|_| digits_only)?;
    amount.checked_mul(secs)?.checked_mul(MICROS_PER_SEC)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_700_000_000_000_000;

    #[test]
    fn absolute_and_relative_times_are_understood() {
        for (text, expected) in [
            ("2023-11-14T22:13:20Z", NOW),
            ("2023-11-15T00:13:20+02:00", NOW),
            ("2023-11-15T00:13:20 02:00", NOW),
            ("1700000000", NOW),
            ("1700000000000", NOW),
            ("now", NOW),
            ("15m", NOW - 900 * MICROS_PER_SEC),
            ("-15m", NOW - 900 * MICROS_PER_SEC),
            ("now-1h", NOW - 3_600 * MICROS_PER_SEC),
            ("now+2d", NOW + 172_800 * MICROS_PER_SEC),
            ("now 2d", NOW + 172_800 * MICROS_PER_SEC),
        ] {
            assert_eq!(parse(text, NOW), Some(expected), "{text}");
        }
        for text in ["", "m", "-", "+15m", "now-", "now1h", "nowhere", "1y", "99999999999999w", "é"]
        {
            assert_eq!(parse(text, NOW), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,20}") {
            let _ = parse(&text, NOW);
        }
    }
}
