//! Distance from the median.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{
    config::RobustZConfig,
    detector::{Expectation, median},
};

/// Standard deviations in a median absolute deviation of normally distributed values.
const SIGMA_PER_MAD: f64 = 1.4826;
/// Standard deviations in a mean absolute deviation of normally distributed values.
const SIGMA_PER_MEAN_DEVIATION: f64 = 1.2533;

/// The last values that were usual.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct RobustZ(VecDeque<f64>);

impl RobustZ {
    pub(super) fn expect(&self, config: &RobustZConfig, min_deviation: f64) -> Option<Expectation> {
        let center = median(self.0.iter().copied().collect())?;
        let deviations: Vec<f64> = self.0.iter().map(|value| (value - center).abs()).collect();
        let mean = deviations.iter().sum::<f64>() / deviations.len() as f64;
        let unit = match median(deviations)? * SIGMA_PER_MAD {
            // More than half of the values are equal: the others still tell something.
            0.0 => mean * SIGMA_PER_MEAN_DEVIATION,
            unit => unit,
        };
        Some(Expectation::around(center, unit, config.threshold.get(), min_deviation))
    }

    pub(super) fn learn(&mut self, config: &RobustZConfig, value: f64, is_unusual: bool) {
        if is_unusual {
            return;
        }
        self.0.push_back(value);
        while self.0.len() > config.window.get() {
            self.0.pop_front();
        }
    }

    pub(super) fn adopt(&mut self, config: &RobustZConfig, recent: &[f64]) {
        let first = recent.len().saturating_sub(config.window.get());
        self.0 = recent[first..].iter().copied().collect();
    }
}
