//! An alert as it is routed, delivered and shown.

use std::{borrow::Cow, collections::BTreeMap};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    evidence::Evidence,
    instance::{Instance, State},
    labels::{ALERT_NAME, Fingerprint, Labels, SERVICE},
};

/// The annotation that says in one line what is wrong.
const SUMMARY: &str = "summary";

/// An alert that fires or did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Short name of its labels.
    pub fingerprint: Fingerprint,
    /// What it is.
    pub labels: Labels,
    /// Texts for people.
    pub annotations: BTreeMap<String, String>,
    /// How far it has come.
    pub state: State,
    /// Value at the last evaluation in which its condition held.
    pub value: Option<f64>,
    /// How a detector came to its judgement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    /// When its condition began to hold.
    pub active_at: DateTime<Utc>,
    /// When it began to fire; while it is pending, when its condition began to hold.
    pub starts_at: DateTime<Utc>,
    /// When it was resolved.
    pub ends_at: Option<DateTime<Utc>>,
}

impl Alert {
    /// The alert that an instance is.
    pub fn new(labels: &Labels, instance: &Instance) -> Self {
        Self {
            fingerprint: labels.fingerprint(),
            labels: labels.clone(),
            annotations: instance.annotations.clone(),
            state: instance.state,
            value: instance.value,
            evidence: instance.evidence.clone(),
            active_at: instance.active_at,
            starts_at: instance.fired_at.unwrap_or(instance.active_at),
            ends_at: instance.resolved_at,
        }
    }

    /// What is needed to say later that it is over: less than what was said of it at first.
    pub(crate) fn outline(&self) -> Self {
        let is_kept = |(name, _): &(&String, &String)| *name == SUMMARY;
        let kept = self.annotations.iter().filter(is_kept);
        let annotations = kept.map(|(name, text)| (name.clone(), text.clone())).collect();
        Self { annotations, evidence: None, ..self.clone() }
    }

    /// Name of its rule or anomaly.
    pub fn name(&self) -> &str {
        self.labels.value(ALERT_NAME)
    }

    /// The service that it is about; empty when it is about none or many.
    pub fn service(&self) -> &str {
        self.labels.value(SERVICE)
    }

    /// Whether it fires.
    pub fn is_firing(&self) -> bool {
        self.state == State::Firing
    }

    /// One line for people.
    pub fn summary(&self) -> Cow<'_, str> {
        match self.annotations.get(SUMMARY) {
            Some(summary) if !summary.is_empty() => summary.into(),
            _ => format!("{} {}", self.name(), self.labels).into(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An alert that fires since 1970.
    pub(crate) fn firing(labels: &[(&str, &str)]) -> Alert {
        let labels = Labels::new(labels.iter().copied());
        Alert {
            fingerprint: labels.fingerprint(),
            labels,
            annotations: BTreeMap::new(),
            state: State::Firing,
            value: None,
            evidence: None,
            active_at: DateTime::UNIX_EPOCH,
            starts_at: DateTime::UNIX_EPOCH,
            ends_at: None,
        }
    }

    #[test]
    fn without_a_summary_the_labels_tell_what_it_is_about() {
        let mut alert = firing(&[("alertname", "Errors"), ("service", "cart")]);
        assert_eq!(alert.summary(), r#"Errors {alertname="Errors", service="cart"}"#);
        alert.annotations.insert("summary".into(), "cart is down".into());
        assert_eq!(alert.summary(), "cart is down");
    }
}
