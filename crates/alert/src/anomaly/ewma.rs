//! A control chart of the exponentially weighted mean.

use serde::{Deserialize, Serialize};

use super::{config::EwmaConfig, detector::Expectation};

/// Values further from the mean than this many standard deviations are clipped when they are
/// learned from.
const CLIP: f64 = 3.0;
/// How far the chart may go, as a multiple of its limit: a shift that was large must not ring on
/// for long when it is over.
const FARTHEST: f64 = 1.1;
/// How far one value may move the chart, as a multiple of its limit: a spike is judged as what it
/// is, and then forgotten.
const FARTHEST_AT_ONCE: f64 = 0.5;

/// What is usual, and the mean on the chart.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Ewma {
    count: usize,
    mean: f64,
    variance: f64,
    /// The chart, as a distance from `mean`.
    offset: f64,
}

impl Ewma {
    /// The mean on the chart, once `value` is taken in.
    pub(super) fn smoothed(&self, config: &EwmaConfig, value: f64) -> f64 {
        let lambda = config.lambda.get();
        self.mean + lambda * (value - self.mean) + (1.0 - lambda) * self.offset
    }

    pub(super) fn expect(&self, config: &EwmaConfig, min_deviation: f64) -> Option<Expectation> {
        let lambda = config.lambda.get();
        // Roberts' asymptotic deviation of the mean.
        let unit = self.variance.sqrt() * (lambda / (2.0 - lambda)).sqrt();
        let is_known = self.count > 1;
        is_known.then(|| Expectation::around(self.mean, unit, config.limit.get(), min_deviation))
    }

    pub(super) fn learn(
        &mut self,
        config: &EwmaConfig,
        value: f64,
        min_deviation: f64,
        is_unusual: bool,
    ) {
        let lambda = config.lambda.get();
        if let Some(expected) = self.expect(config, min_deviation) {
            let limit = expected.high - expected.center;
            let at_once = FARTHEST_AT_ONCE * limit;
            let moved = (lambda * (value - self.mean)).clamp(-at_once, at_once);
            let offset = (1.0 - lambda) * self.offset + moved;
            self.offset = offset.clamp(-FARTHEST * limit, FARTHEST * limit);
        }
        if is_unusual {
            return;
        }
        self.count += 1;
        let is_warm = self.count > config.memory.get() / 8;
        let farthest = (CLIP * self.variance.sqrt()).max(min_deviation);
        let distance = value - self.mean;
        let distance = if is_warm { distance.clamp(-farthest, farthest) } else { distance };
        // As a plain mean at first, with every value of the same weight.
        let weight = 1.0 / self.count.min(config.memory.get()) as f64;
        let step = weight * distance;
        self.mean += step;
        // The chart begins at the first value.
        if self.count > 1 {
            self.offset -= step;
        }
        self.variance = (1.0 - weight) * (self.variance + distance * step);
    }

    pub(super) fn adopt(&mut self, recent: &[f64]) {
        let count = recent.len();
        let mean = recent.iter().sum::<f64>() / count as f64;
        let squares = recent.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        *self = Self { count, mean, variance: squares / count as f64, offset: 0.0 };
    }
}
