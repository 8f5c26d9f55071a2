//! A forecast with trend and season.

use serde::{Deserialize, Serialize};

use super::{
    config::HoltWintersConfig,
    detector::{Expectation, median},
};

/// Standard deviations in a mean absolute deviation of normally distributed errors.
const SIGMA_PER_MEAN_DEVIATION: f64 = 1.2533;
/// Errors larger than this many standard deviations are clipped when they are learned from.
const CLIP: f64 = 3.0;
/// Weight of the newest error in what is known of errors.
const ERROR_WEIGHT: f64 = 0.02;
/// Seasons that are seen before anything is forecast.
const FIRST_SEASONS: usize = 2;

/// Additive triple exponential smoothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct HoltWinters {
    /// Values of the first seasons, until they are complete.
    first: Option<Vec<f64>>,
    level: f64,
    trend: f64,
    season: Vec<f64>,
    /// Place of the next window in the season.
    place: usize,
    /// Mean absolute error.
    deviation: f64,
}

impl HoltWinters {
    pub(super) fn new(season: usize) -> Self {
        let (level, trend, deviation) = (0.0, 0.0, 0.0);
        Self {
            first: Some(Vec::new()),
            level,
            trend,
            season: vec![0.0; season],
            place: 0,
            deviation,
        }
    }

    fn is_learning(&self) -> bool {
        self.first.is_some()
    }

    pub(super) fn expect(
        &self,
        config: &HoltWintersConfig,
        min_deviation: f64,
    ) -> Option<Expectation> {
        if self.is_learning() {
            return None;
        }
        let center = self.level + self.trend + self.season[self.place];
        let unit = self.deviation * SIGMA_PER_MEAN_DEVIATION;
        Some(Expectation::around(center, unit, config.band.get(), min_deviation))
    }

    /// Lets windows pass that had no value.
    pub(super) fn skip(&mut self, windows: usize) {
        let length = self.season.len();
        if let Some(first) = &mut self.first {
            // The first seasons need a value in every place, and end with one that was seen; after a
            // longer pause they begin anew.
            let room = FIRST_SEASONS * length - 1 - first.len();
            match first.last().copied() {
                Some(last) if windows <= room => first.extend(std::iter::repeat_n(last, windows)),
                _ => first.clear(),
            }
            return;
        }
        // A trend is not to be trusted for longer than it was seen.
        self.level += self.trend * windows.min(length) as f64;
        self.place = (self.place + windows) % length;
    }

    pub(super) fn learn(
        &mut self,
        config: &HoltWintersConfig,
        value: f64,
        min_deviation: f64,
        is_unusual: bool,
    ) {
        if let Some(first) = &mut self.first {
            first.push(value);
            if first.len() == FIRST_SEASONS * self.season.len()
                && let Some(first) = self.first.take()
            {
                self.begin(&first);
            }
            return;
        }
        if is_unusual {
            self.skip(1);
            return;
        }
        let forecast = self.level + self.trend + self.season[self.place];
        let farthest = (CLIP * SIGMA_PER_MEAN_DEVIATION * self.deviation).max(min_deviation);
        let error = (value - forecast).clamp(-farthest, farthest);
        let value = forecast + error;
        let (alpha, beta, gamma) = (config.alpha.get(), config.beta.get(), config.gamma.get());
        let before = self.level;
        let seasonal = self.season[self.place];
        self.level = alpha * (value - seasonal) + (1.0 - alpha) * (before + self.trend);
        self.trend = beta * (self.level - before) + (1.0 - beta) * self.trend;
        self.season[self.place] = gamma * (value - self.level) + (1.0 - gamma) * seasonal;
        self.deviation += ERROR_WEIGHT * (error.abs() - self.deviation);
        self.place = (self.place + 1) % self.season.len();
    }

    /// Begins from the first two seasons.
    fn begin(&mut self, first: &[f64]) {
        let length = self.season.len();
        let middle = (length as f64 - 1.0) / 2.0;
        let (one, two) = first.split_at(length);
        let mean = |values: &[f64]| values.iter().sum::<f64>() / length as f64;
        let (mean_one, mean_two) = (mean(one), mean(two));
        self.trend = (mean_two - mean_one) / length as f64;
        let mut errors = 0.0;
        for (n, place) in self.season.iter_mut().enumerate() {
            let drift = self.trend * (n as f64 - middle);
            let (first, second) = (one[n] - mean_one - drift, two[n] - mean_two - drift);
            *place = f64::midpoint(first, second);
            errors += (first - second).abs() / 2.0;
        }
        // Each of two values is off their mean by a factor of √2 less than off the truth.
        self.deviation = errors / length as f64 * std::f64::consts::SQRT_2;
        self.level = mean_two + self.trend * middle;
        self.place = 0;
    }

    /// Takes the level of the last values for the new one; the season stays.
    pub(super) fn adopt(&mut self, recent: &[f64]) {
        if self.is_learning() {
            return;
        }
        let length = self.season.len();
        // The last value has just been passed.
        let place_of = |age: usize| (self.place + length - 1 - age % length) % length;
        let levels: Vec<f64> = recent
            .iter()
            .rev()
            .enumerate()
            .map(|(age, value)| value - self.season[place_of(age)])
            .collect();
        let Some(level) = median(levels.clone()) else { return };
        self.deviation =
            levels.iter().map(|l| (l - level).abs()).sum::<f64>() / levels.len() as f64;
        (self.level, self.trend) = (level, 0.0);
    }
}
