//! A threshold that holds a rate of mistakes.

use core::time::Duration;

use crate::config::ConfigError;
use crate::histogram::{FLOOR, Histogram, Position};

/// Level ½ is the histogram's floor; levels up to 32,000 are told apart.
const PER_LEVEL: f64 = 2.0 * FLOOR as f64;
const DAY_US: f64 = 86_400e6;

/// Finds the level that live peers exceed so many times a day, from how high they came before.
///
/// Each heartbeat ends a silence, and the level just before it is how close the silence came to a
/// mistake. Near misses are far more frequent than mistakes: their tail, a Pareto fit over the
/// highest (peaks over threshold; Siffer et al. 2017, §4), says where to draw the line long before
/// the mistakes to count have been made. One may serve a peer or a class of peers; 120 bytes.
///
/// Do not report the silence of a peer that was really down.
///
/// ```
/// use std::time::Duration;
/// use thalweg_phi::{AdaptiveThreshold, Config, Detector};
///
/// let mut peer = Detector::new(&Config::default())?;
/// let mut threshold = AdaptiveThreshold::new(1.0, 8.0)?;
/// let mut last = Duration::ZERO;
/// for second in 0..1_000 {
///     let now = Duration::from_millis(second * 1_000 + second * second % 97);
///     threshold.observe(peer.phi(now), now - last);
///     peer.heartbeat(now);
///     last = now;
/// }
/// assert!(threshold.level() > 1.0);
/// # Ok::<(), thalweg_phi::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct AdaptiveThreshold {
    target_per_day: f64,
    first_level: f64,
    peaks: Histogram,
    observed_us: f64,
}

impl AdaptiveThreshold {
    /// Aims at so many mistakes per day; starts with `first_level`, and keeps it until 16 silences
    /// have come above level ½.
    ///
    /// # Errors
    /// [`ConfigError::Target`] unless the target is finite and above zero.
    pub fn new(target_per_day: f64, first_level: f64) -> Result<Self, ConfigError> {
        if !(target_per_day.is_finite() && target_per_day > 0.0) {
            return Err(ConfigError::Target { found: target_per_day });
        }
        Ok(Self { target_per_day, first_level, peaks: Histogram::EMPTY, observed_us: 0.0 })
    }

    /// Takes in how high a level was when a heartbeat ended a silence of this length. O(1).
    ///
    /// What is older than some 100,000 near misses fades.
    pub fn observe(&mut self, peak_level: f64, silence: Duration) {
        // The cast takes negative levels to zero, and what is too high to the highest.
        if self.peaks.add(Position::of((peak_level * PER_LEVEL) as u64)) {
            self.observed_us /= 2.0;
        }
        self.observed_us += silence.as_micros() as f64;
    }

    /// The level to suspect at; not below ½. O(1).
    pub fn level(&self) -> f64 {
        let allowed = self.target_per_day * self.observed_us / DAY_US;
        self.peaks
            .exceeded_by(allowed.max(f64::MIN_POSITIVE))
            .map_or(self.first_level, |magnitude| magnitude / PER_LEVEL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Peaks as a calibrated φ has them: one in ten above 1, one in a hundred above 2.
    fn calibrated(threshold: &mut AdaptiveThreshold, beats: u32) {
        for beat in 0..beats {
            // A permutation of 0.5 / beats … 1, in scattered order (the golden ratio's multiples).
            let uniform = (f64::from(beat) * 0.618_033_988_749_895).fract();
            let peak = -libm::log10(uniform.max(0.5 / f64::from(beats)));
            threshold.observe(peak, Duration::from_secs(1));
        }
    }

    #[test]
    fn level_is_the_one_that_a_calibrated_detector_exceeds_as_often() {
        // 86,400 beats a day: 864 mistakes are φ = 2, 8.64 are φ = 4, one in ten days is φ = 6.
        // The last is extrapolated a hundredfold, and may only err on the careful side.
        for (target, low, high) in [(864.0, 1.8, 2.2), (8.64, 3.8, 4.4), (0.0864, 5.9, 9.5)] {
            let mut threshold = AdaptiveThreshold::new(target, 8.0).unwrap();
            calibrated(&mut threshold, 86_400);
            let found = threshold.level();
            assert!((low..high).contains(&found), "{target} a day: {found}");
        }
    }

    #[test]
    fn first_level_holds_until_there_is_something_to_fit() {
        let mut threshold = AdaptiveThreshold::new(1.0, 8.0).unwrap();
        calibrated(&mut threshold, 40);
        assert_eq!(threshold.level(), 8.0);
    }

    #[test]
    fn targets_that_make_no_sense_are_refused() {
        for target in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(AdaptiveThreshold::new(target, 8.0).is_err());
        }
    }
}
