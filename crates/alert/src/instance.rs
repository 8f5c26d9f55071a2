//! One thing that may be wrong, and since when.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{evidence::Evidence, labels::Labels};

/// How far an alert has come.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its condition holds, but not yet for as long as it must.
    Pending,
    /// Somebody should know.
    Firing,
    /// It was firing and is no more.
    Resolved,
}

/// What an evaluation says of one alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// The condition is over.
    Clear,
    /// Neither: a firing alert goes on, another does not begin.
    Hold,
    /// The condition holds.
    Fire,
}

/// What an evaluation found.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Which alert it is about.
    pub labels: Labels,
    /// What it means for the alert.
    pub signal: Signal,
    /// The value that it was judged by.
    pub value: Option<f64>,
    /// Texts for people.
    pub annotations: BTreeMap<String, String>,
    /// How a detector came to its judgement.
    pub evidence: Option<Evidence>,
}

/// An alert: an instance of a rule or an anomaly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// How far it has come.
    pub state: State,
    /// Value at the last evaluation in which its condition held.
    pub value: Option<f64>,
    /// Texts for people.
    pub annotations: BTreeMap<String, String>,
    /// How a detector came to its judgement.
    pub evidence: Option<Evidence>,
    /// When its condition began to hold.
    pub active_at: DateTime<Utc>,
    /// When it began to fire.
    pub fired_at: Option<DateTime<Utc>>,
    /// When it was resolved.
    pub resolved_at: Option<DateTime<Utc>>,
    /// Time watched in its state: while pending, that its condition held; while firing, that it
    /// was clear; since it was resolved.
    ///
    /// Time is added up as it is watched, so that neither a clock that is set nor time in which
    /// nobody looked counts.
    pub(crate) watched: Duration,
    /// Whether `watched` of a firing alert has begun.
    pub(crate) is_clearing: bool,
}

impl Instance {
    pub(crate) fn new(sample: Sample, now: DateTime<Utc>) -> Self {
        Self {
            state: State::Pending,
            value: sample.value,
            annotations: sample.annotations,
            evidence: sample.evidence,
            active_at: now,
            fired_at: None,
            resolved_at: None,
            watched: Duration::ZERO,
            is_clearing: false,
        }
    }

    pub(crate) fn enter(&mut self, state: State, now: DateTime<Utc>) {
        self.state = state;
        self.watched = Duration::ZERO;
        self.is_clearing = false;
        match state {
            State::Pending => self.active_at = now,
            State::Firing => self.fired_at = Some(now),
            State::Resolved => self.resolved_at = Some(now),
        }
    }
}
