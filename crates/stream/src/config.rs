//! What can be said of views.

use std::num::NonZeroU64;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest name of a view; it names a topic and a directory.
const MAX_NAME_BYTES: usize = 63;

/// How views are kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StreamConfig {
    /// Directory of the views' state. Not a setting of a user: the program that starts the views
    /// says it.
    #[serde(skip)]
    pub directory: PathBuf,
    /// Whether the views that every server has are kept: health of services, and what looks like
    /// an attack.
    pub builtin_views: bool,
    /// How often a view makes durable what it has computed and emits what is complete. What an
    /// event changes is seen, in alerts too, this much later at most.
    pub checkpoint_interval_ms: NonZeroU64,
    /// Memory for what one view has gathered since its last checkpoint; it makes one when it has
    /// reached this.
    pub gather_bytes: usize,
    /// Memory for the open windows of one view; what does not fit is read from disk again.
    pub resident_bytes: usize,
    /// Memory for the rows of one view that wait for others to be joined with; what does not fit
    /// is read from disk again when a row comes that may match.
    pub join_bytes: usize,
    /// Threads that maintain views; half the cores when it is not given.
    pub threads: Option<usize>,
    /// The most views.
    pub max_views: usize,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self {
            directory: "data/stream".into(),
            builtin_views: true,
            checkpoint_interval_ms: NonZeroU64::new(1_000).expect("not zero"),
            gather_bytes: 64 << 20,
            resident_bytes: 64 << 20,
            join_bytes: 64 << 20,
            threads: None,
            max_views: 100,
        }
    }
}

/// A view as a user states it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ViewConfig {
    /// Name that queries know it by: lower-case letters, digits and `_`.
    pub name: ViewName,
    /// One `SELECT … FROM … GROUP BY tumble(INTERVAL '1 minute'), …`.
    pub query: String,
    /// How late and how soon.
    #[serde(flatten)]
    pub options: ViewOptions,
}

/// How late events may be, and how soon results are seen.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct ViewOptions {
    /// How much older than the newest event before it an event may be and still be counted.
    pub lateness_secs: u64,
    /// How long a partition may be silent before the others stop waiting for it.
    pub idle_secs: u64,
    /// When results are seen.
    pub emit: Emit,
    /// How often rows of open windows are refreshed; not more often than checkpoints are made
    /// (`stream.checkpoint_interval_ms`).
    pub refresh_ms: u64,
    /// What becomes of events that come later than that.
    pub late: Late,
    /// Whether the view begins with what the lake holds, or with the events that come from now on.
    pub backfill: bool,
}

impl Default for ViewOptions {
    fn default() -> Self {
        Self {
            lateness_secs: 10,
            idle_secs: 5,
            emit: Emit::OnUpdate,
            refresh_ms: 1_000,
            late: Late::Keep,
            backfill: false,
        }
    }
}

/// When a view's results are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Emit {
    /// As soon as there are some; rows of windows that are still open have `is_final = false`.
    #[default]
    OnUpdate,
    /// Once their window is closed.
    OnClose,
}

/// What becomes of events that are too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Late {
    /// They go to the table `late_events`, with how late they were.
    #[default]
    Keep,
    /// They are counted.
    Count,
}

/// Name of a view.
#[derive(
    Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct ViewName(String);

impl ViewName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ViewName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let fits = (1..=MAX_NAME_BYTES).contains(&name.len())
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if fits {
            return Ok(Self(name));
        }
        Err(format!(
            "expected a name of 1 to {MAX_NAME_BYTES} lower-case letters, digits and `_` that \
             begins with a letter, found `{name}`"
        ))
    }
}

impl From<ViewName> for String {
    fn from(name: ViewName) -> Self {
        name.0
    }
}

impl std::fmt::Display for ViewName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_view_has_defaults_and_refuses_what_it_does_not_know() {
        let stated =
            json!({"name": "v", "query": "SELECT 1", "lateness_secs": 60, "emit": "on_close"});
        let view: ViewConfig = serde_json::from_value(stated).unwrap();
        let expected =
            ViewOptions { lateness_secs: 60, emit: Emit::OnClose, ..ViewOptions::default() };
        assert_eq!(view.options, expected);
        let unknown = json!({"name": "v", "query": "SELECT 1", "latenes_secs": 60});
        let error = serde_json::from_value::<ViewConfig>(unknown).unwrap_err().to_string();
        assert!(error.contains("latenes_secs"), "{error}");
        let name = json!({"name": "Not A Name", "query": "SELECT 1"});
        assert!(serde_json::from_value::<ViewConfig>(name).is_err());
    }
}
