//! The distribution of lateness as it is, given how the path has been lately.

use crate::histogram::{Histogram, Position};
use crate::log::log2_roughly;
use crate::schedule::Schedule;
use crate::survival::Survival;

/// Classes of turbulence: a factor of four each, from 8 µs upwards; and trouble.
const CLASSES: usize = 8;
const TROUBLE: usize = CLASSES - 1;
const FIRST_CLASS_LOG2: f32 = 3.0;
const CLASS_LOG2: f32 = 2.0;
/// How far into another class turbulence must go before it counts: a boundary is not a place to
/// flutter.
const INERTIA_LOG2: f32 = 0.25;
/// Turbulence is a mean over about this many heartbeats.
const TURBULENCE_GAIN: f32 = 1.0 / 64.0;
/// Trouble is over when so many heartbeats in a row have come.
const TROUBLE_BEATS: u8 = 8;
/// After this many heartbeats the first-heartbeat estimate has half its reach.
const FIRST_ESTIMATE_SAMPLES: f32 = 16.0;
/// First intervals of 2 to this many microseconds and more coarsen the unit: the largest magnitude
/// told apart is some 16 to 32 of them.
const UNIT_INTERVAL_LOG2: u32 = 20;
/// Estimates are made anew when a sample is rarer than one of so many in its class and bucket, and
/// at the latest after so many samples, or so large a share of all.
const RARE: u16 = 16;
const STALE_BEATS: u32 = 256;
const STALE_SHARE: u32 = 16;

/// Histograms of lateness, one for each class of recent experience.
///
/// Delays come in episodes: a heartbeat is late most often when others just were unpunctual, or
/// lost. Lateness in calm, in storm and in trouble is therefore counted apart, as finance filters
/// the tails of series whose variance wanders (McNeil and Frey 2000), but without assuming that
/// they share a shape. Lost heartbeats need no model of their own: a loss is a lateness of an
/// interval or more.
#[derive(Clone, Debug)]
pub(crate) struct Empirical {
    schedule: Schedule,
    by_class: [Histogram; CLASSES],
    class: u8,
    trouble_beats: u8,
    /// Mean log₂ of the error of the latest heartbeats, in microseconds: a mean of logarithms, so
    /// that a single outlier does not make a storm.
    turbulence_log2: f32,
    first_std_dev_us: f32,
    /// Magnitudes are counted in 2 to this many microseconds, so that a good many intervals fit.
    unit_log2: u8,
    /// Of the class that the next heartbeat will be counted in, as of `stale_beats` ago.
    survival: Survival,
    stale_beats: u32,
}

impl Empirical {
    pub(crate) fn new(interval_us: f64, std_dev_us: f64) -> Self {
        let by_class = [Histogram::EMPTY; CLASSES];
        let unit_log2 = (interval_us as u64 >> UNIT_INTERVAL_LOG2).max(1).ilog2();
        let unit_us = (1u64 << unit_log2) as f64;
        let survival = Survival::estimate(
            &by_class,
            0,
            0,
            (std_dev_us / unit_us) as f32,
            interval_us / unit_us,
        );
        Self {
            schedule: Schedule::new(interval_us),
            by_class,
            class: 0,
            trouble_beats: 0,
            turbulence_log2: libm::log2(std_dev_us) as f32,
            first_std_dev_us: std_dev_us as f32,
            unit_log2: unit_log2 as u8,
            survival,
            stale_beats: 0,
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
        let lateness_us = self.schedule.lateness_us(arrival_us);
        let punctual = lateness_us < min_lateness_us;
        let at =
            if punctual { Position::ZERO } else { Position::of(lateness_us >> self.unit_log2) };
        let counts = &mut self.by_class[usize::from(self.class)];
        counts.add(at);
        self.stale_beats += 1;
        let stale = self.stale_beats >= STALE_BEATS.min(counts.total() / STALE_SHARE);
        let rare = at.bucket > 0 && counts.count_in(at) <= RARE;

        let late = steps > 1 || lateness_us as f64 > self.schedule.interval_us();
        self.trouble_beats =
            if late { TROUBLE_BEATS } else { self.trouble_beats.saturating_sub(1) };
        let arrival = self.schedule.arrive(steps, arrival_us);
        // One that queued behind its predecessor says how long that was stuck, and nothing new.
        if !arrival.queued {
            let error_log2 = log2_roughly(arrival.error_us.abs() as f32 + 2.0);
            self.turbulence_log2 += TURBULENCE_GAIN * (error_log2 - self.turbulence_log2);
        }

        let class = self.next_class();
        if class != self.class || stale || rare {
            self.class = class;
            self.estimate(min_lateness_us);
        }
    }

    fn next_class(&self) -> u8 {
        if self.trouble_beats > 0 {
            return TROUBLE as u8;
        }
        let place = (self.turbulence_log2 - FIRST_CLASS_LOG2) / CLASS_LOG2;
        let class = f32::from(self.class);
        let inertia = INERTIA_LOG2 / CLASS_LOG2;
        let stays = place >= class - inertia && place < class + 1.0 + inertia;
        if stays && usize::from(self.class) != TROUBLE {
            return self.class;
        }
        // The cast takes what is below zero to zero.
        (place as u8).min(TROUBLE as u8 - 1)
    }

    fn estimate(&mut self, min_lateness_us: u64) {
        let beats = self.by_class.iter().map(|counts| counts.total() as f32).sum::<f32>();
        let reach = FIRST_ESTIMATE_SAMPLES / (FIRST_ESTIMATE_SAMPLES + beats);
        let units = 1.0 / (1u64 << self.unit_log2) as f64;
        self.survival = Survival::estimate(
            &self.by_class,
            usize::from(self.class),
            min_lateness_us >> self.unit_log2,
            self.first_std_dev_us * reach * units as f32,
            self.schedule.interval_us() * units,
        );
        self.stale_beats = 0;
    }

    /// −log₁₀ of the probability that the next heartbeat is later than this beyond its due time.
    pub(crate) fn phi(&self, lateness_us: u64) -> f64 {
        self.survival.phi(lateness_us >> self.unit_log2)
    }

    /// −log₁₀ of the probability that it comes within an interval after this, beyond its due time.
    pub(crate) fn urgency(&self, lateness_us: u64) -> f64 {
        self.survival.urgency(lateness_us >> self.unit_log2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lateness of 1 ms in calm and of 100 ms in storms, half the time each.
    fn two_moods() -> (Empirical, u64) {
        let mut empirical = Empirical::new(1e6, 1e3);
        empirical.begin(0);
        let mut late = false;
        for beat in 1..20_000u64 {
            let stormy = (beat / 1_000) % 2 == 1;
            late = !late;
            let lateness_us = if late { if stormy { 100_000 } else { 1_000 } } else { 0 };
            empirical.arrive(1, beat * 1_000_000 + lateness_us, 1);
        }
        (empirical, 20_000)
    }

    #[test]
    fn same_lateness_is_more_suspicious_in_calm() {
        let (mut empirical, first) = two_moods();
        let stormy_phi = empirical.phi(50_000);
        for beat in first..first + 500 {
            empirical.arrive(1, beat * 1_000_000 + (beat % 2) * 1_000, 1);
        }
        let calm_phi = empirical.phi(50_000);
        assert!(stormy_phi < 0.7, "half the beats are that late in a storm: {stormy_phi}");
        assert!(calm_phi > 1.6, "none is in calm: {calm_phi}");
    }

    #[test]
    fn a_loss_makes_the_next_more_likely_where_losses_cluster() {
        let mut empirical = Empirical::new(1e6, 1e3);
        empirical.begin(0);
        let mut last = 0;
        // Of every thousand, the first ten but for one in three get lost.
        for beat in (1..50_000u64).filter(|beat| beat % 1_000 > 10 || beat % 3 == 0) {
            empirical.arrive(beat - last, beat * 1_000_000, 1);
            last = beat;
        }
        let calm_phi = empirical.phi(1_500_000);
        empirical.arrive(2, 50_001_000_000, 1);
        let shaken_phi = empirical.phi(1_500_000);
        assert!(calm_phi > 2.5, "lost twice in a row, out of the blue: {calm_phi}");
        assert!(shaken_phi < 1.0, "when losses have begun: {shaken_phi}");
    }
}
