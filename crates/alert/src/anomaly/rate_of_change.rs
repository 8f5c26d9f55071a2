//! Change in a short time.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{
    config::RateOfChangeConfig,
    detector::{Expectation, median},
};

/// The values of the windows before.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct RateOfChange(VecDeque<f64>);

impl RateOfChange {
    pub(super) fn expect(
        &self,
        config: &RateOfChangeConfig,
        min_deviation: f64,
    ) -> Option<Expectation> {
        if self.0.len() < config.over.get() {
            return None;
        }
        let center = median(self.0.iter().copied().collect())?;
        let baseline = center.abs().max(config.min_baseline.get());
        let rise = (baseline * (config.ratio - 1.0)).max(min_deviation);
        let fall = (baseline * (1.0 - 1.0 / config.ratio)).max(min_deviation);
        Some(Expectation { low: center - fall, center, high: center + rise, unit: baseline })
    }

    /// Takes in every value: what changed once and stays so changes no more.
    pub(super) fn learn(&mut self, config: &RateOfChangeConfig, value: f64) {
        self.0.push_back(value);
        while self.0.len() > config.over.get() {
            self.0.pop_front();
        }
    }
}
