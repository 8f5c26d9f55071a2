//! Alerts as of a moment, to be shown.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{alert::Alert, labels::Fingerprint, severity::Severity, silence::Silence};

/// Alerts, rules and silences as of a moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Alerts that are pending, firing or were resolved lately.
    pub alerts: Arc<[ShownAlert]>,
    /// How the rules and anomalies are doing.
    pub rules: Vec<RuleStatus>,
    /// Silences that were asked for.
    pub silences: Vec<Silence>,
}

/// An alert, and whether anybody is told of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ShownAlert {
    /// The alert.
    pub alert: Alert,
    /// Silences that hold for it: ids, and names of recurring ones.
    pub silenced_by: Vec<String>,
    /// Alerts that explain it.
    pub inhibited_by: Vec<Fingerprint>,
}

impl ShownAlert {
    /// Whether nobody is told of it.
    pub fn is_muted(&self) -> bool {
        !self.silenced_by.is_empty() || !self.inhibited_by.is_empty()
    }
}

/// How a rule or an anomaly is doing.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct RuleStatus {
    /// Its name.
    pub name: String,
    /// `rule` or `anomaly`.
    pub kind: &'static str,
    /// How bad its alerts are.
    pub severity: Severity,
    /// The SQL that a rule asks.
    pub query: Option<String>,
    /// Values at which its alerts fire and are resolved, where it has a threshold.
    pub threshold: Option<String>,
    /// The column that an anomaly watches, as `view.column`.
    pub watches: Option<String>,
    /// Whether its last evaluation went well.
    pub health: Health,
    /// Why it did not.
    pub error: Option<String>,
    /// Since when it does not.
    pub failing_since: Option<DateTime<Utc>>,
    /// When it was evaluated last.
    pub last_evaluated: Option<DateTime<Utc>>,
    /// How long that took, in seconds.
    pub evaluation_secs: f64,
    /// Alerts and series that were left out because there were too many.
    pub left_out: usize,
}

/// Whether a rule's last evaluation went well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// It was not evaluated yet.
    Waiting,
    /// It did.
    Ok,
    /// It did not.
    Failing,
}
