//! Times in a notation that an operator describes.

use chrono::{
    FixedOffset, TimeZone as _, Utc,
    format::{Item, Parsed, StrftimeItems},
};
use thalweg_event::time;

/// How times are written.
#[derive(Debug, Clone)]
pub(super) enum TimeFormat {
    /// RFC 3339 text, or seconds, milliseconds, microseconds or nanoseconds since 1970.
    Any,
    /// RFC 3339 text.
    Rfc3339,
    /// A number of seconds, milliseconds, microseconds or nanoseconds since 1970.
    Epoch,
    /// As `strftime` conversions say.
    Strftime {
        /// The conversions as written, for errors.
        written: String,
        items: Vec<Item<'static>>,
        /// East of UTC, for times that do not name their offset.
        offset_secs: i32,
    },
}

impl TimeFormat {
    /// Reads the settings `time_format` and `timezone`.
    ///
    /// # Errors
    /// A text that names the setting and says what was expected.
    pub(super) fn new(format: Option<&str>, timezone: Option<&str>) -> Result<Self, String> {
        let fixed = match format {
            None => Self::Any,
            Some("rfc3339") => Self::Rfc3339,
            Some("epoch") => Self::Epoch,
            Some(format) => return Self::strftime(format, timezone),
        };
        match timezone {
            None => Ok(fixed),
            Some(_) => Err("timezone: only times in a strftime `time_format` have one".to_owned()),
        }
    }

    fn strftime(format: &str, timezone: Option<&str>) -> Result<Self, String> {
        let expected = || {
            format!(
                "time_format: expected `rfc3339`, `epoch`, or strftime conversions that tell a \
                 date and a time such as `%Y-%m-%d %H:%M:%S`, found `{format}`"
            )
        };
        let offset = match timezone {
            None | Some("UTC" | "Z") => FixedOffset::east_opt(0),
            Some(offset) => offset.parse().ok(),
        };
        let offset = offset.ok_or_else(|| {
            let found = timezone.unwrap_or_default();
            format!("timezone: expected `UTC` or an offset such as `+02:00`, found `{found}`")
        })?;
        let items = StrftimeItems::new(format).parse_to_owned().map_err(|_| expected())?;
        // What the conversions write of a time must be enough to read it back.
        let sample = Utc.with_ymd_and_hms(2001, 2, 3, 16, 5, 6).single().ok_or_else(expected)?;
        let written = sample.format_with_items(items.iter()).to_string();
        let format = Self::Strftime {
            written: format.to_owned(),
            items,
            offset_secs: offset.local_minus_utc(),
        };
        format.parse(&written).map(|_| format).ok_or_else(expected)
    }

    /// Nanoseconds since the Unix epoch of `text`; `None` when it is not in this notation.
    pub(super) fn parse(&self, text: &str) -> Option<i64> {
        match self {
            Self::Any => time::parse_text(text).or_else(|| time::parse_number(text)),
            Self::Rfc3339 => time::parse_text(text),
            Self::Epoch => time::parse_number(text),
            Self::Strftime { items, offset_secs, .. } => {
                let mut parsed = Parsed::new();
                chrono::format::parse(&mut parsed, text, items.iter()).ok()?;
                let offset_secs = parsed.offset().unwrap_or(*offset_secs);
                let local = parsed.to_naive_datetime_with_offset(offset_secs).ok()?.and_utc();
                let nanos_east = i64::from(offset_secs) * 1_000_000_000;
                local.timestamp_nanos_opt()?.checked_sub(nanos_east)
            }
        }
    }

    /// What a time should look like.
    pub(super) fn expected(&self) -> &str {
        match self {
            Self::Any => "RFC 3339 text or seconds, ms, µs or ns since 1970",
            Self::Rfc3339 => "RFC 3339 text",
            Self::Epoch => "seconds, ms, µs or ns since 1970",
            Self::Strftime { written, .. } => written,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NANOS: i64 = 1_700_000_000_000_000_000;

    fn strftime(format: &str, timezone: Option<&str>) -> TimeFormat {
        TimeFormat::new(Some(format), timezone).unwrap()
    }

    #[test]
    fn strftime_times_are_in_their_own_offset_else_in_the_configured_one() {
        let local = strftime("%Y-%m-%d %H:%M:%S%.f", Some("+02:00"));
        assert_eq!(local.parse("2023-11-15 00:13:20.5"), Some(NANOS + 500_000_000));
        let own = strftime("%d/%b/%Y:%H:%M:%S %z", Some("+02:00"));
        assert_eq!(own.parse("14/Nov/2023:17:13:20 -0500"), Some(NANOS));
        let utc = strftime("[%d/%b/%Y:%H:%M:%S", None);
        assert_eq!(utc.parse("[14/Nov/2023:22:13:20"), Some(NANOS));
        assert_eq!(strftime("%s", None).parse("1700000000"), Some(NANOS));
        for text in ["", "14/Nov/2023:22:13:20", "[14/Nov/2023:22:13:20 ", "[31/Feb/2023:22:13:20"]
        {
            assert_eq!(utc.parse(text), None, "{text}");
        }
    }

    #[test]
    fn named_formats_take_their_kind_only() {
        let any = TimeFormat::new(None, None).unwrap();
        let rfc3339 = TimeFormat::new(Some("rfc3339"), None).unwrap();
        let epoch = TimeFormat::new(Some("epoch"), None).unwrap();
        let times = |text| [&any, &rfc3339, &epoch].map(|format| format.parse(text));
        assert_eq!(times("2023-11-14T22:13:20Z"), [Some(NANOS), Some(NANOS), None]);
        assert_eq!(times("1700000000"), [Some(NANOS), None, Some(NANOS)]);
    }

    #[test]
    fn settings_that_cannot_tell_a_time_are_refused() {
        for (format, timezone, key) in [
            (Some("%H:%M:%S"), None, "time_format"),
            (Some("%Y-%m-%d"), None, "time_format"),
            (Some("%Q"), None, "time_format"),
            (Some(""), None, "time_format"),
            (Some("%s"), Some("Atlantis"), "timezone"),
            (Some("epoch"), Some("UTC"), "timezone"),
            (None, Some("UTC"), "timezone"),
        ] {
            let error = TimeFormat::new(format, timezone).unwrap_err();
            assert!(error.starts_with(&format!("{key}: ")), "{format:?}: {error}");
        }
    }
}
