//! One series of values in time.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    config::AnomalyConfig,
    detector::{Detector, Verdict},
};

/// Pauses between values that are remembered.
const REMEMBERED_PAUSES: usize = 16;

/// The values of one key, as far as they are remembered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Series {
    pub(super) detector: Detector,
    /// The window that it reported for last.
    pub(super) last: DateTime<Utc>,
    /// What was said of its last value; nothing if it had none.
    pub(super) verdict: Option<Verdict>,
    /// Windows from one report to the next, lately.
    pauses: VecDeque<u32>,
}

impl Series {
    pub(super) fn new(config: &AnomalyConfig, first: DateTime<Utc>) -> Self {
        let (verdict, pauses) = Default::default();
        Self { detector: Detector::new(config), last: first, verdict, pauses }
    }

    /// Takes in what it reported for the window that begins `at`, which is `step` long.
    pub(super) fn take(
        &mut self,
        config: &AnomalyConfig,
        at: DateTime<Utc>,
        value: Option<f64>,
        step: Option<i64>,
    ) {
        let pause = windows(at - self.last, step);
        if pause > 0 {
            if self.pauses.len() == REMEMBERED_PAUSES {
                self.pauses.pop_front();
            }
            self.pauses.push_back(u32::try_from(pause).unwrap_or(u32::MAX));
        }
        self.last = at;
        let skipped = pause.saturating_sub(1);
        self.verdict = value.map(|value| self.detector.observe(config, value, skipped));
    }

    /// Windows that it has been silent for at `clock`, if that is long enough for its last value
    /// to tell nothing of now.
    pub(super) fn silent(
        &self,
        config: &AnomalyConfig,
        clock: DateTime<Utc>,
        step: Option<i64>,
    ) -> Option<usize> {
        let silent = windows(clock - self.last, step);
        let longest = self.pauses.iter().copied().max().unwrap_or(1) as usize;
        (silent > config.missing_after.get().max(2 * longest)).then_some(silent)
    }
}

/// Windows of `step` microseconds in a span; one while it is not known how long they are.
fn windows(span: chrono::TimeDelta, step: Option<i64>) -> usize {
    let micros = span.num_microseconds().unwrap_or(i64::MAX);
    match step {
        Some(step) if step > 0 => usize::try_from((micros + step / 2) / step).unwrap_or(0),
        _ => usize::from(micros > 0),
    }
}
