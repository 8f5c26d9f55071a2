//! Severities and their level names.

use serde::{Deserialize, Serialize};

/// OpenTelemetry severity number, 1 (TRACE) to 24 (FATAL4).
///
/// OpenTelemetry Logs Data Model, "Field: `SeverityNumber`".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Severity(i8);

/// The six named ranges of severities.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(try_from = "String", into = "&'static str")]
#[schemars(with = "String")]
#[allow(missing_docs)]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

impl Level {
    /// Every level, in order of severity.
    pub const ALL: [Self; 6] =
        [Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error, Self::Fatal];

    /// Upper-case name as stored in the `level` column.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
        }
    }

    /// Lowest severity of this level.
    pub fn severity(self) -> Severity {
        Severity(self as i8 * 4 + 1)
    }

    /// Level named by `text` in any of the spellings of common loggers and syslog, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        Severity::parse(text).map(Severity::level)
    }
}

impl TryFrom<String> for Level {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| {
            format!("expected a level such as DEBUG, INFO, WARN, ERROR or FATAL, found `{text}`")
        })
    }
}

impl From<Level> for &'static str {
    fn from(level: Level) -> Self {
        level.name()
    }
}

impl Severity {
    /// Severity of an OTel severity number; `None` for 0 (unspecified) and numbers out of range.
    pub fn from_number(number: i64) -> Option<Self> {
        (1..=24).contains(&number).then_some(Self(number as i8))
    }

    /// Severity of an HTTP status: 5xx is an error, 4xx a warning, anything else information.
    pub fn from_http_status(status: i16) -> Self {
        match status {
            500.. => Level::Error.severity(),
            400..=499 => Level::Warn.severity(),
            _ => Level::Info.severity(),
        }
    }

    /// Severity named by `text`, e.g. `WARN`, `warning`, `err`, `critical`, `INFO2`.
    ///
    /// Syslog names map as OpenTelemetry's appendix B says.
    pub fn parse(text: &str) -> Option<Self> {
        const NAMES: [(&str, i8); 24] = [
            ("info", 9),
            ("error", 17),
            ("warn", 13),
            ("debug", 5),
            ("warning", 13),
            ("trace", 1),
            ("fatal", 21),
            ("err", 17),
            ("information", 9),
            ("informational", 9),
            ("notice", 10),
            ("critical", 18),
            ("crit", 18),
            ("alert", 19),
            ("emergency", 21),
            ("emerg", 21),
            ("panic", 21),
            ("severe", 17),
            ("verbose", 5),
            ("finest", 1),
            ("fine", 5),
            ("finer", 2),
            ("config", 8),
            ("default", 9),
        ];
        let named = |name: &str| {
            NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, n)| *n)
        };
        if let Some(number) = named(text) {
            return Some(Self(number));
        }
        // OTel's own short names: TRACE2 … FATAL4.
        let (name, step) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let step: i8 = step.parse().ok().filter(|step| (1..=4).contains(step))?;
        let level = Level::ALL.into_iter().find(|level| level.name().eq_ignore_ascii_case(name))?;
        Some(Self(level.severity().0 + step - 1))
    }

    /// OTel severity number, 1 to 24.
    pub fn number(self) -> i8 {
        self.0
    }

    /// The level this severity belongs to.
    pub fn level(self) -> Level {
        Level::ALL[(self.0 as usize - 1) / 4]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_severity_number_has_the_level_of_the_otel_table() {
        let levels: Vec<_> =
            (0..=25).map(|n| Severity::from_number(n).map(|s| s.level().name())).collect();
        let expected = [None]
            .into_iter()
            .chain(
                ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"]
                    .into_iter()
                    .flat_map(|l| [Some(l); 4]),
            )
            .chain([None])
            .collect::<Vec<_>>();
        assert_eq!(levels, expected);
    }

    #[test]
    fn loggers_spellings_are_understood_in_any_case() {
        for (text, number) in [
            ("WARNING", 13),
            ("Err", 17),
            ("notice", 10),
            ("info", 9),
            ("ERROR3", 19),
            ("Fatal", 21),
        ] {
            assert_eq!(Severity::parse(text).map(Severity::number), Some(number), "{text}");
        }
        for text in ["", "loud", "INFO5", "2", "é"] {
            assert_eq!(Severity::parse(text), None, "{text}");
        }
    }
}
