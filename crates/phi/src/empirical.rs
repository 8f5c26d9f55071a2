//! The distribution of silences as it is, given how turbulent the path has been lately.

use crate::histogram::{Histogram, ParetoTail, Position};
use crate::schedule::Schedule;

/// Classes of turbulence: a factor of four each, from 64 µs upwards.
const CLASSES: usize = 9;
/// How fast turbulence is forgotten: by a factor of four every 89 heartbeats.
const TURBULENCE_GAIN: f32 = 1.0 / 64.0;
/// A class with fewer samples than this is mostly described by all classes together.
const POOL_SAMPLES: f64 = 4.0;
/// After this many heartbeats the first-heartbeat estimate has half its reach.
const FIRST_ESTIMATE_SAMPLES: f64 = 16.0;

/// Histograms of lateness, one for each class of recent turbulence, and one for all together.
///
/// Delays come in episodes: a heartbeat is late most often when others just were. The lateness
/// of one in calm and of one in a storm are therefore counted apart, as heteroscedastic series are
/// treated in finance (McNeil and Frey 2000), but without assuming that they share a shape. Lost
/// heartbeats need no model of their own: a loss is a lateness of an interval or more.
#[derive(Clone, Debug)]
pub(crate) struct Empirical {
    schedule: Schedule,
    by_class: [Histogram; CLASSES],
    pool: Histogram,
    tail: ParetoTail,
    /// Mean lateness of the latest heartbeats.
    turbulence_us: f32,
    first_std_dev_us: f32,
}

impl Empirical {
    pub(crate) fn new(interval_us: f64, first_std_dev_us: f64, arrival_us: u64) -> Self {
        let pool = Histogram::default();
        Self {
            schedule: Schedule::new(interval_us, arrival_us),
            by_class: Default::default(),
            tail: pool.fit_tail(),
            pool,
            turbulence_us: 0.0,
            first_std_dev_us: first_std_dev_us as f32,
        }
    }

    pub(crate) fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    fn class(&self) -> usize {
        ((self.turbulence_us as u64 | 1).ilog2().saturating_sub(4) as usize / 2).min(CLASSES - 1)
    }

    pub(crate) fn arrive(&mut self, steps: u64, arrival_us: u64, min_lateness_us: u64) {
        let lateness_us = self.schedule.lateness_us(arrival_us);
        let at = Position::of(lateness_us.max(min_lateness_us));
        self.by_class[self.class()].add(at);
        let halved = self.pool.add(at);
        if halved || at.is_at_or_above(self.tail.lowest_bucket) {
            self.tail = self.pool.fit_tail();
        }
        self.turbulence_us += TURBULENCE_GAIN * (lateness_us as f32 - self.turbulence_us);
        self.schedule.arrive(steps, arrival_us);
    }

    /// −log₁₀ of the probability that the next heartbeat is later than this beyond its due time.
    pub(crate) fn phi(&self, lateness_us: u64) -> f64 {
        let at = Position::of(lateness_us);
        let samples = self.pool.total();
        let reach = FIRST_ESTIMATE_SAMPLES / (FIRST_ESTIMATE_SAMPLES + samples);
        let from_us = (self.first_std_dev_us * reach as f32).max(self.tail.from);
        // One imagined sample in the tail stands for all that has not been seen yet.
        let ratio = from_us / lateness_us as f32;
        let unseen = if ratio < 1.0 { libm::powf(ratio, self.tail.index) } else { 1.0 };
        let pooled = (self.pool.count_above(at) + f64::from(unseen)) / (samples + 1.0);
        let class = &self.by_class[self.class()];
        let probability = (class.count_above(at) + POOL_SAMPLES * pooled)
            / (class.total() + POOL_SAMPLES);
        -libm::log10(probability)
    }
}
