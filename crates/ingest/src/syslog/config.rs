//! What of syslog can be configured.

use schemars::JsonSchema;
use serde::Deserialize;

/// Limits of the syslog listeners, and how their messages are read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SyslogConfig {
    /// TCP connections open at once; one more is closed at once.
    pub max_connections: usize,
    /// Time without a byte after which a TCP connection is closed. Long, because a sender may
    /// lose the first message after it: it notices only then that the connection is gone.
    pub idle_timeout_secs: u64,
    /// Offset of the senders' local time, for times that do not name theirs: `UTC`, `+02:00`.
    pub timezone: UtcOffset,
}

impl Default for SyslogConfig {
    fn default() -> Self {
        Self { max_connections: 512, idle_timeout_secs: 3600, timezone: UtcOffset::default() }
    }
}

/// A fixed offset from UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct UtcOffset {
    /// Seconds east of UTC.
    pub secs: i32,
}

impl TryFrom<String> for UtcOffset {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let offset = match text.as_str() {
            "UTC" | "Z" => Some(0),
            text => text.parse().map(|offset: chrono::FixedOffset| offset.local_minus_utc()).ok(),
        };
        let expected = || format!("expected `UTC` or an offset such as `+02:00`, found `{text}`");
        offset.map(|secs| Self { secs }).ok_or_else(expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_utc_or_hours_and_minutes() {
        let offset = |text: &str| UtcOffset::try_from(text.to_owned()).map(|offset| offset.secs);
        assert_eq!(offset("UTC"), Ok(0));
        assert_eq!(offset("+02:00"), Ok(7200));
        assert_eq!(offset("-03:30"), Ok(-12_600));
        let error = "expected `UTC` or an offset such as `+02:00`, found `Atlantis`";
        assert_eq!(offset("Atlantis"), Err(error.to_owned()));
    }
}
