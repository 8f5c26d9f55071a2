//! The distribution of lateness as it is, given how turbulent the path has been lately.

use crate::histogram::{Histogram, ParetoTail, Position};
use crate::log::{log2, log10};
use crate::schedule::Schedule;

/// Classes of turbulence: a factor of four each, from 8 µs upwards.
const CLASSES: usize = 8;
const FIRST_CLASS_LOG2: f32 = 3.0;
const CLASS_LOG2: f32 = 2.0;
/// Turbulence is a mean over about this many heartbeats.
const TURBULENCE_GAIN: f32 = 1.0 / 64.0;
/// What all classes together say about one of them is worth this many of its own samples.
const POOL_SAMPLES: f64 = 4.0;
/// After this many heartbeats the first-heartbeat estimate has half its reach.
const FIRST_ESTIMATE_SAMPLES: f64 = 16.0;

/// Histograms of lateness, one for each class of recent turbulence, and one for all together.
///
/// Delays come in episodes: a heartbeat is late most often when others just were unpunctual.
/// Lateness in calm and in storm are therefore counted apart, as finance filters the tails of
/// series whose variance wanders (McNeil and Frey 2000), but without assuming that they share a
/// shape. Lost heartbeats need no model of their own: a loss is a lateness of an interval or more.
#[derive(Clone, Debug)]
pub(crate) struct Empirical {
    schedule: Schedule,
    by_class: [Histogram; CLASSES],
    pool: Histogram,
    /// Fitted to the pool.
    tail: ParetoTail,
    /// Mean log₂ of the error of the latest heartbeats, in microseconds: a mean of logarithms, so
    /// that a single outlier does not make a storm.
    turbulence_log2: f32,
    first_std_dev_us: f32,
}

impl Empirical {
    pub(crate) fn new(interval_us: f64, std_dev_us: f64) -> Self {
        Self {
            schedule: Schedule::new(interval_us),
            by_class: [Histogram::EMPTY; CLASSES],
            pool: Histogram::EMPTY,
            tail: Histogram::EMPTY.fit_tail(),
            turbulence_log2: libm::log2(std_dev_us) as f32,
            first_std_dev_us: std_dev_us as f32,
        }
    }

    pub(crate) fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    pub(crate) fn begin(&mut self, arrival_us: u64) {
        self.schedule.begin(arrival_us);
    }

    /// Takes in the heartbeat `steps` after the latest.
    pub(crate) fn arrive(&mut self, steps: u64, arrival_us: u64, min_lateness_us: u64) {
        let lateness_us = self.schedule.lateness_us(arrival_us).max(min_lateness_us);
        let at = Position::of(lateness_us);
        let class = self.class();
        self.by_class[class].add(at);
        let halved = self.pool.add(at);
        if halved || at.is_at_or_above(usize::from(self.tail.lowest_bucket)) {
            self.tail = self.pool.fit_tail();
        }
        let arrival = self.schedule.arrive(steps, arrival_us);
        // One that queued behind its predecessor says how long that was stuck, and nothing new.
        if !arrival.queued {
            let error_log2 = log2_roughly(arrival.error_us.abs() as f32 + 2.0);
            self.turbulence_log2 += TURBULENCE_GAIN * (error_log2 - self.turbulence_log2);
        }
    }

    fn class(&self) -> usize {
        let class = (self.turbulence_log2 - FIRST_CLASS_LOG2) / CLASS_LOG2;
        // The cast takes what is below zero to zero.
        (class as usize).min(CLASSES - 1)
    }

    /// −log₁₀ of the probability that the next heartbeat is later than this beyond its due time.
    ///
    /// Counts where there are enough; beyond, half counts, and half what all classes together say
    /// about the shape of the tail; beyond all counts, a Pareto tail.
    pub(crate) fn phi(&self, lateness_us: u64) -> f64 {
        let class = &self.by_class[self.class()];
        // One imagined sample stands for all that has not been seen.
        let (pool_above, class_above) = if lateness_us as f64 > self.seen_up_to_us() {
            (self.unseen_above(lateness_us), 0.0)
        } else {
            let at = Position::of(lateness_us);
            (self.pool.count_above(at) + 1.0, class.count_above(at))
        };
        let class_above = match class.sparse_from() {
            Some((edge, above_edge)) if class_above < above_edge => {
                let shape = pool_above / (self.pool.count_above(edge) + 1.0);
                (class_above + above_edge * shape) / 2.0
            }
            _ => class_above,
        };
        let prior = POOL_SAMPLES * pool_above / (self.pool.total() + 1.0);
        -log10((class_above + prior) / (class.total() + POOL_SAMPLES))
    }

    /// The largest lateness seen, or while little has been seen, what the first estimate suggests.
    fn seen_up_to_us(&self) -> f64 {
        let reach = FIRST_ESTIMATE_SAMPLES / (FIRST_ESTIMATE_SAMPLES + self.pool.total());
        (f64::from(self.first_std_dev_us) * reach).max(f64::from(self.tail.from))
    }

    /// How much of the imagined sample is later than this, which is beyond all that was seen.
    fn unseen_above(&self, lateness_us: u64) -> f64 {
        let ratio = self.seen_up_to_us() / lateness_us as f64;
        libm::exp2(f64::from(self.tail.index) * log2(ratio))
    }
}

/// log₂ of a number of at least 1, off by 0.09 at most: exact at powers of two, straight between.
fn log2_roughly(value: f32) -> f32 {
    (value.to_bits() as f32) / (1 << 23) as f32 - 127.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rough_logarithm_is_within_a_tenth() {
        for value in [1.0f32, 1.4, 2.0, 3.0, 100.0, 12_345.0, 1e9] {
            assert!((log2_roughly(value) - value.log2()).abs() < 0.09, "{value}");
        }
    }

    /// Lateness of 1 ms in calm and of 100 ms in storms, half the time each.
    fn two_moods() -> (Empirical, u64, u64) {
        let mut empirical = Empirical::new(1e6, 1e3);
        empirical.begin(0);
        let mut late = false;
        let mut last_us = 0;
        for beat in 1..20_000u64 {
            let stormy = (beat / 1_000) % 2 == 1;
            late = !late;
            let lateness_us = if late { if stormy { 100_000 } else { 1_000 } } else { 0 };
            last_us = beat * 1_000_000 + lateness_us;
            empirical.arrive(1, last_us, 1);
        }
        (empirical, 20_000, last_us)
    }

    #[test]
    fn same_lateness_is_more_suspicious_in_calm() {
        let (mut empirical, first, _) = two_moods();
        let stormy_phi = empirical.phi(50_000);
        for beat in first..first + 500 {
            empirical.arrive(1, beat * 1_000_000 + (beat % 2) * 1_000, 1);
        }
        let calm_phi = empirical.phi(50_000);
        assert!(stormy_phi < 0.7, "half the beats are that late in a storm: {stormy_phi}");
        assert!(calm_phi > 1.6, "none is in calm: {calm_phi}");
    }

    #[test]
    fn counts_are_the_probability_where_they_are_dense() {
        let mut empirical = Empirical::new(1e5, 1e3);
        empirical.begin(0);
        // One in ten, in scattered order, comes 40 ms late.
        for beat in 1..50_000u64 {
            let scattered = beat.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            let lateness_us = if scattered % 10 == 0 { 40_000 } else { scattered % 1_000 };
            empirical.arrive(1, beat * 100_000 + lateness_us, 1);
        }
        let phi = empirical.phi(20_000);
        assert!((phi - 1.0).abs() < 0.15, "{phi}");
    }
}
