//! What is usual for one series, and what is not.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{
    config::{AnomalyConfig, DetectorConfig},
    ewma::Ewma,
    holt_winters::HoltWinters,
    rate_of_change::RateOfChange,
    robust_z::RobustZ,
};

/// Values that are remembered as they were, to show them and to begin anew from them.
const REMEMBERED: usize = 64;
/// How much a normal value counts against one that is unusual: when every fifth value or more is
/// unusual, that is how things are by now.
const NORMAL_WEIGHT: f64 = 0.25;

/// What is usual for one series.
///
/// Values that are unusual are not learned from, and large ones that are not quite unusual are
/// clipped, so that an incident does not become what is expected. But when they go on for as long
/// as the configuration says, they are the new normal, and the detector begins anew from them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Detector {
    model: Model,
    seen: usize,
    /// Unusual values lately, less a part of the normal ones.
    strange: f64,
    recent: VecDeque<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Model {
    RobustZ(RobustZ),
    Ewma(Ewma),
    HoltWinters(HoltWinters),
    RateOfChange(RateOfChange),
}

/// What is expected of the next value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Expectation {
    /// Lowest value that is normal.
    pub low: f64,
    /// What is most likely.
    pub center: f64,
    /// Highest value that is normal.
    pub high: f64,
    /// What distances are measured in.
    pub unit: f64,
}

/// On which side of what was expected a value lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// Below.
    Low,
    /// Above.
    High,
}

/// What a detector says of a value.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The value.
    pub value: f64,
    /// What was compared with what was expected: the value, or the mean that a control chart
    /// judges.
    pub judged: f64,
    /// What was expected; nothing before enough was seen.
    pub expectation: Option<Expectation>,
    /// On which side it is unusual, if it is.
    pub side: Option<Side>,
    /// Distance from what was expected, in its unit.
    pub score: f64,
}

impl Expectation {
    /// Values up to `limit` units from `center` are normal, and those within `min_deviation`.
    pub(super) fn around(center: f64, unit: f64, limit: f64, min_deviation: f64) -> Self {
        let unit = unit.max(min_deviation / limit);
        Self { low: center - limit * unit, center, high: center + limit * unit, unit }
    }

    fn side(&self, value: f64) -> Option<Side> {
        if value > self.high {
            Some(Side::High)
        } else if value < self.low {
            Some(Side::Low)
        } else {
            None
        }
    }
}

impl Detector {
    /// A detector that has seen nothing.
    pub fn new(config: &AnomalyConfig) -> Self {
        let model = Model::new(&config.detector);
        Self { model, seen: 0, strange: 0.0, recent: VecDeque::new() }
    }

    /// Judges the value of the next window and learns from it; `skipped` windows before it had
    /// none.
    pub fn observe(&mut self, config: &AnomalyConfig, value: f64, skipped: usize) -> Verdict {
        let min_deviation = config.min_deviation.get();
        self.model.skip(skipped);
        let judged = self.model.judged(&config.detector, value);
        let expectation = self.model.expect(&config.detector, min_deviation);
        let is_ready = self.seen >= config.min_history.get();
        let expectation = expectation.filter(|_| is_ready);
        let side = expectation.and_then(|expected| expected.side(judged));
        let score = expectation.map_or(0.0, |expected| (judged - expected.center) / expected.unit);

        self.model.learn(&config.detector, value, min_deviation, side.is_some());
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(value);
        self.seen += 1;
        self.strange += if side.is_some() { 1.0 } else { -NORMAL_WEIGHT };
        self.strange = self.strange.max(0.0);
        if self.strange >= config.adapt_after.get() as f64 {
            self.strange = 0.0;
            let recent = self.recent.make_contiguous();
            // Those before them were normal once.
            let first = recent.len().saturating_sub(config.adapt_after.get());
            self.model.adopt(&config.detector, &recent[first..]);
        }
        Verdict { value, judged, expectation, side, score }
    }

    /// Lets windows pass that had no value to judge.
    pub fn skip(&mut self, windows: usize) {
        self.model.skip(windows);
    }

    /// The values seen last, oldest first; at most `count`.
    pub fn recent(&self, count: usize) -> impl Iterator<Item = f64> {
        self.recent.iter().copied().skip(self.recent.len().saturating_sub(count))
    }

    /// Number of values seen.
    pub fn seen(&self) -> usize {
        self.seen
    }
}

impl Model {
    fn new(config: &DetectorConfig) -> Self {
        match config {
            DetectorConfig::RobustZ(_) => Self::RobustZ(RobustZ::default()),
            DetectorConfig::Ewma(_) => Self::Ewma(Ewma::default()),
            DetectorConfig::HoltWinters(config) => {
                Self::HoltWinters(HoltWinters::new(config.season.get()))
            }
            DetectorConfig::RateOfChange(_) => Self::RateOfChange(RateOfChange::default()),
        }
    }

    fn skip(&mut self, windows: usize) {
        if let Self::HoltWinters(model) = self {
            model.skip(windows);
        }
    }

    fn judged(&self, config: &DetectorConfig, value: f64) -> f64 {
        match (self, config) {
            (Self::Ewma(model), DetectorConfig::Ewma(config)) => model.smoothed(config, value),
            _ => value,
        }
    }

    fn expect(&self, config: &DetectorConfig, min_deviation: f64) -> Option<Expectation> {
        match (self, config) {
            (Self::RobustZ(model), DetectorConfig::RobustZ(config)) => {
                model.expect(config, min_deviation)
            }
            (Self::Ewma(model), DetectorConfig::Ewma(config)) => {
                model.expect(config, min_deviation)
            }
            (Self::HoltWinters(model), DetectorConfig::HoltWinters(config)) => {
                model.expect(config, min_deviation)
            }
            (Self::RateOfChange(model), DetectorConfig::RateOfChange(config)) => {
                model.expect(config, min_deviation)
            }
            _ => None,
        }
    }

    fn learn(&mut self, config: &DetectorConfig, value: f64, min_deviation: f64, unusual: bool) {
        match (self, config) {
            (Self::RobustZ(model), DetectorConfig::RobustZ(config)) => {
                model.learn(config, value, unusual);
            }
            (Self::Ewma(model), DetectorConfig::Ewma(config)) => {
                model.learn(config, value, min_deviation, unusual);
            }
            (Self::HoltWinters(model), DetectorConfig::HoltWinters(config)) => {
                model.learn(config, value, min_deviation, unusual);
            }
            (Self::RateOfChange(model), DetectorConfig::RateOfChange(config)) => {
                model.learn(config, value);
            }
            _ => {}
        }
    }

    fn adopt(&mut self, config: &DetectorConfig, recent: &[f64]) {
        match (self, config) {
            (Self::RobustZ(model), DetectorConfig::RobustZ(config)) => model.adopt(config, recent),
            (Self::Ewma(model), _) => model.adopt(recent),
            (Self::HoltWinters(model), _) => model.adopt(recent),
            // Its baseline is of the last windows anyway.
            _ => {}
        }
    }
}

/// The median; of an even number of values the mean of the two in the middle.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    let is_even = values.len().is_multiple_of(2);
    if values.is_empty() {
        return None;
    }
    let middle = values.len() / 2;
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let upper = *upper;
    let lower = below.iter().copied().max_by(f64::total_cmp).filter(|_| is_even);
    Some(lower.map_or(upper, |lower| f64::midpoint(lower, upper)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        for (values, expected) in [
            (&[][..], None),
            (&[3.0], Some(3.0)),
            (&[3.0, 1.0], Some(2.0)),
            (&[9.0, 1.0, 2.0], Some(2.0)),
            (&[9.0, 1.0, 2.0, 4.0], Some(3.0)),
        ] {
            assert_eq!(median(values.to_vec()), expected);
        }
    }
}
