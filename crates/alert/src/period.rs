//! Spans of time as people write them.

use std::{borrow::Cow, fmt, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Longest span that is read: ten years.
const MAX: Duration = Duration::from_secs(10 * 366 * 86_400);
const UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// A span of time of at least `LEAST_SECS` seconds, written `90s`, `5m`, `1h30m` or `2d`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Period<const LEAST_SECS: u64 = 0>(Duration);

impl<const LEAST_SECS: u64> Period<LEAST_SECS> {
    /// A span of `secs` seconds, or the least there may be.
    pub const fn secs(secs: u64) -> Self {
        Self(Duration::from_secs(if secs < LEAST_SECS { LEAST_SECS } else { secs }))
    }

    /// The span.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl<const LEAST_SECS: u64> Default for Period<LEAST_SECS> {
    fn default() -> Self {
        Self::secs(0)
    }
}

impl<const LEAST_SECS: u64> TryFrom<String> for Period<LEAST_SECS> {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let span = parse(&text).filter(|span| *span <= MAX).ok_or_else(|| {
            format!("expected a span of time such as 30s, 5m or 1h30m, found `{text}`")
        })?;
        if span < Duration::from_secs(LEAST_SECS) {
            return Err(format!("expected {LEAST_SECS}s or more, found `{text}`"));
        }
        Ok(Self(span))
    }
}

fn parse(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut millis = 0_u64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let end =
            rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |n| digits + n);
        let (_, unit) = UNITS.into_iter().find(|(name, _)| *name == &rest[digits..end])?;
        millis = millis.checked_add(number.checked_mul(unit)?)?;
        rest = &rest[end..];
    }
    Some(Duration::from_millis(millis))
}

impl<const LEAST_SECS: u64> fmt::Display for Period<LEAST_SECS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if millis == 0 {
            return f.write_str("0s");
        }
        for (name, unit) in UNITS.into_iter().rev() {
            if millis >= unit {
                write!(f, "{}{name}", millis / unit)?;
                millis %= unit;
            }
        }
        Ok(())
    }
}

impl<const LEAST_SECS: u64> fmt::Debug for Period<LEAST_SECS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<const LEAST_SECS: u64> From<Period<LEAST_SECS>> for String {
    fn from(period: Period<LEAST_SECS>) -> Self {
        period.to_string()
    }
}

impl<const LEAST_SECS: u64> JsonSchema for Period<LEAST_SECS> {
    fn schema_name() -> Cow<'static, str> {
        "Period".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^([0-9]+(ms|s|m|h|d))+$", "examples": ["30s", "1h30m"]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Period<1>, String> {
        text.to_owned().try_into()
    }

    #[test]
    fn spans_are_read_and_written() {
        for (text, secs, written) in
            [("90s", 90, "1m30s"), ("1h30m", 5_400, "1h30m"), (" 2d ", 172_800, "2d")]
        {
            let period = read(text).unwrap();
            assert_eq!((period.get().as_secs(), &*period.to_string()), (secs, written));
        }
        assert_eq!(Period::<0>::try_from("0s".to_owned()).unwrap().to_string(), "0s");
    }

    #[test]
    fn what_is_no_span_or_too_short_is_refused_with_what_would_be_right() {
        for text in ["", "5", "m", "5 m", "-5m", "5y", "99999999999999999999s", "999999d"] {
            assert!(read(text).unwrap_err().contains("expected a span"), "{text}");
        }
        assert_eq!(read("999ms").unwrap_err(), "expected 1s or more, found `999ms`");
    }
}
