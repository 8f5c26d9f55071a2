//! What of the ingest can be configured.

use schemars::JsonSchema;
use serde::Deserialize;
use thalweg_event::{MAX_INPUT_BYTES, PriorityRules};

use crate::{
    admission::AdmissionConfig,
    decode::{FormatError, FormatsConfig},
    dedup::DuplicatesConfig,
    log_route::LogRoutes,
    syslog::SyslogConfig,
};

/// Limits, rules and formats of the ingest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IngestConfig {
    /// Longest body as it comes over the wire; longer ones are answered 413.
    pub body_limit_bytes: usize,
    /// Longest body after decompression; longer ones are answered 413.
    pub decompressed_limit_bytes: usize,
    /// How many times its size on the wire a body of more than 1 MiB may have after decompression;
    /// beyond it, it is taken for a decompression bomb and answered 413.
    pub inflate_ratio: usize,
    /// Time a sender has for its whole body; then 408.
    pub body_timeout_secs: u64,
    /// How much may be in the works at once; beyond it senders are told to come back (429).
    pub admission: AdmissionConfig,
    /// How long ids of stored events are remembered.
    pub duplicates: DuplicatesConfig,
    /// Which events are critical.
    pub priority: PriorityRules,
    /// The syslog listeners.
    pub syslog: SyslogConfig,
    /// Line formats of your own, by name, next to the built-in ones. A section of its own in the
    /// configuration file, so not read with these.
    #[serde(skip)]
    pub formats: FormatsConfig,
    /// Events with topics of their own. Part of the section about the log.
    #[serde(skip)]
    pub routes: LogRoutes,
    /// Topics of events besides those, which rules may have named before: whether an event was stored
    /// already is looked up there too. The program that opens the log knows them.
    #[serde(skip)]
    pub former_topics: Vec<String>,
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            body_limit_bytes: 16 << 20,
            decompressed_limit_bytes: 64 << 20,
            inflate_ratio: 100,
            body_timeout_secs: 30,
            admission: AdmissionConfig::default(),
            duplicates: DuplicatesConfig::default(),
            priority: PriorityRules::default(),
            syslog: SyslogConfig::default(),
            formats: FormatsConfig::default(),
            routes: LogRoutes::default(),
            former_topics: vec![],
        }
    }
}

/// A configuration that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// One number contradicts another.
    #[error("{field}: expected {expected}, found {found}")]
    OutOfRange {
        /// Which one.
        field: &'static str,
        /// What it may be.
        expected: String,
        /// What it is.
        found: u64,
    },
    /// A format cannot be understood.
    #[error(transparent)]
    Format(#[from] FormatError),
}

impl IngestConfig {
    /// Checks that the numbers fit each other.
    ///
    /// # Errors
    /// [`ConfigError::OutOfRange`] for the first that does not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let in_range = |field, value: u64, range: std::ops::RangeInclusive<u64>| {
            let expected = || format!("{} to {}", range.start(), range.end());
            if range.contains(&value) {
                return Ok(());
            }
            Err(ConfigError::OutOfRange { field, expected: expected(), found: value })
        };
        let Self { admission, duplicates, syslog, .. } = self;
        let most = (MAX_INPUT_BYTES as u64).min(admission.large_share_bytes());
        let decompressed = self.decompressed_limit_bytes as u64;
        in_range("decompressed_limit_bytes", decompressed, 1..=most)?;
        in_range("inflate_ratio", self.inflate_ratio as u64, 1..=1 << 20)?;
        in_range("body_limit_bytes", self.body_limit_bytes as u64, 1..=decompressed)?;
        in_range("body_timeout_secs", self.body_timeout_secs, 1..=3600)?;
        let client_limit = admission.client_limit_bytes;
        in_range("admission.client_limit_bytes", client_limit, decompressed..=u64::MAX)?;
        in_range("admission.max_requests", admission.max_requests, 1..=1_000_000)?;
        in_range("duplicates.window_secs", duplicates.window_secs, 0..=86_400)?;
        in_range("duplicates.max_ids", duplicates.max_ids as u64, 1..=1 << 30)?;
        in_range("syslog.max_connections", syslog.max_connections as u64, 1..=100_000)?;
        in_range("syslog.idle_timeout_secs", syslog.idle_timeout_secs, 1..=86_400)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_fit_each_other() {
        IngestConfig::default().validate().unwrap();
    }

    #[test]
    fn a_body_that_could_never_be_admitted_is_a_mistake() {
        let mut config = IngestConfig::default();
        config.admission.in_flight_limit_bytes = 64 << 20;
        let error = config.validate().unwrap_err().to_string();
        assert_eq!(error, "decompressed_limit_bytes: expected 1 to 60397978, found 67108864");
    }
}
