//! When the next heartbeat is due.

/// Gains of the filter once it has settled; the second is α² / (2 − α), critically damped.
const PHASE_GAIN: f64 = 1.0 / 16.0;
const INTERVAL_GAIN: f64 = 1.0 / 496.0;
const DEVIATION_GAIN: f64 = 1.0 / 64.0;
/// Errors beyond this many mean deviations are outliers, and pull no harder than that.
const OUTLIER: f64 = 4.0;
/// Heartbeats over which the interval is a plain mean, before the filter takes over.
const WARM_UP: u32 = 32;
/// A heartbeat that follows another within this part of the interval was held up with it.
const QUEUED: f64 = 0.25;
/// Unless it comes so many intervals before it is due: then the sender has become faster.
const AHEAD: f64 = 2.0;

/// Follows a sender's period and phase through jitter, loss, stalls and drift.
///
/// An α-β filter (Benedict and Bordner 1962) of arrival times by sequence number, in place of the
/// window of Chen, Toueg and Aguilera's NFD-E (2002, §6.3): it takes 72 bytes, follows drifting
/// clocks, and is not pulled away by single outliers. A heartbeat and those that were held up with
/// it and follow on its heels count as one arrival, with the delay of the last, which is the least.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    now: Filter,
    /// As it was before the latest heartbeat that did not queue.
    before: Filter,
    steps_since_before: f64,
    last_arrival_us: u64,
    beats: u32,
}

#[derive(Clone, Copy, Debug)]
struct Filter {
    /// Filtered arrival time of the latest heartbeat.
    phase_us: f64,
    interval_us: f64,
    deviation_us: f64,
}

/// How a heartbeat came, measured against the schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Arrival {
    /// Time past the moment at which this very heartbeat was due; negative if early.
    pub(crate) error_us: f64,
    /// Whether it came on the heels of its predecessor.
    pub(crate) queued: bool,
}

impl Schedule {
    pub(crate) fn new(interval_us: f64) -> Self {
        let first = Filter { phase_us: 0.0, interval_us, deviation_us: interval_us / 4.0 };
        Self { now: first, before: first, steps_since_before: 0.0, last_arrival_us: 0, beats: 0 }
    }

    /// Takes in the first heartbeat, ever or after an outage.
    pub(crate) fn begin(&mut self, arrival_us: u64) {
        self.now.phase_us = arrival_us as f64;
        (self.before, self.steps_since_before) = (self.now, 0.0);
        self.last_arrival_us = arrival_us;
    }

    pub(crate) fn interval_us(&self) -> f64 {
        self.now.interval_us
    }

    /// How long after the moment at which the next heartbeat was due a time is; 0 if before.
    ///
    /// It is due when the filtered phase says so, but not before one interval has passed since the
    /// latest arrival: delays and stalls that persist shift the schedule.
    pub(crate) fn lateness_us(&self, now_us: u64) -> u64 {
        let since_arrival = now_us.saturating_sub(self.last_arrival_us) as f64;
        let since_phase = now_us as f64 - self.now.phase_us;
        // The cast takes what is below zero to zero.
        (since_arrival.min(since_phase) - self.now.interval_us) as u64
    }

    /// Takes in the heartbeat `steps` after the latest.
    pub(crate) fn arrive(&mut self, steps: u64, arrival_us: u64) -> Arrival {
        let steps = steps as f64;
        let gap_us = arrival_us.saturating_sub(self.last_arrival_us) as f64;
        let ahead_us = self.now.phase_us + steps * self.now.interval_us - arrival_us as f64;
        let queued = self.beats > 0
            && gap_us < QUEUED * self.now.interval_us
            && ahead_us < AHEAD * self.now.interval_us;
        if !queued {
            (self.before, self.steps_since_before) = (self.now, 0.0);
            self.beats = self.beats.saturating_add(1);
        }
        self.steps_since_before += steps;
        let (before, steps) = (self.before, self.steps_since_before);
        let due_us = before.phase_us + steps * before.interval_us;
        let error_us = arrival_us as f64 - due_us;
        let (phase_gain, interval_gain, limit_us) = if self.beats <= WARM_UP {
            let gain = 1.0 / f64::from(self.beats);
            (gain.max(PHASE_GAIN), gain, f64::INFINITY)
        } else {
            (PHASE_GAIN, INTERVAL_GAIN, OUTLIER * before.deviation_us + 1.0)
        };
        let pull_us = error_us.clamp(-limit_us, limit_us);
        let per_step_us = if steps == 1.0 { pull_us } else { pull_us / steps };
        self.now = Filter {
            phase_us: due_us + phase_gain * pull_us,
            interval_us: (before.interval_us + interval_gain * per_step_us).max(1.0),
            deviation_us: before.deviation_us
                + DEVIATION_GAIN * (error_us.abs() - before.deviation_us),
        };
        self.last_arrival_us = self.last_arrival_us.max(arrival_us);
        Arrival { error_us, queued }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000;

    fn regular(beats: u64) -> Schedule {
        let mut schedule = Schedule::new(1e6);
        schedule.begin(0);
        for beat in 1..=beats {
            schedule.arrive(1, beat * 100 * MS);
        }
        schedule
    }

    #[test]
    fn period_is_learnt_whatever_the_first_estimate() {
        assert!((regular(40).interval_us() - 1e5).abs() < 1.0);
    }

    #[test]
    fn lateness_counts_from_the_first_heartbeat_that_is_missing() {
        let schedule = regular(100);
        assert_eq!(schedule.lateness_us(10_050 * MS), 0);
        assert!(schedule.lateness_us(10_350 * MS).abs_diff(250 * MS) < 10);
    }

    #[test]
    fn loss_leaves_period_and_phase_alone() {
        let mut schedule = regular(100);
        let arrival = schedule.arrive(5, 10_500 * MS);
        assert!(arrival.error_us.abs() < 1.0, "{arrival:?}");
        assert!((schedule.interval_us() - 1e5).abs() < 1.0);
    }

    #[test]
    fn backlog_of_a_stall_leaves_period_and_phase_alone() {
        let mut schedule = regular(1_000);
        // Ten seconds of silence, then all at once, then as before.
        for beat in 1_001..1_100 {
            schedule.arrive(1, 110_000 * MS + beat);
        }
        assert!((schedule.interval_us() - 1e5).abs() < 10.0, "{}", schedule.interval_us());
        assert!((schedule.now.phase_us - 109_900e3).abs() < 2e3, "{}", schedule.now.phase_us);
    }

    #[test]
    fn a_sender_that_becomes_ten_times_as_fast_is_followed() {
        let (mut schedule, mut most_ahead_us) = (regular(1_000), 0.0f64);
        for beat in 1..=2_000 {
            schedule.arrive(1, 100_000 * MS + beat * 10 * MS);
            let ahead_us = schedule.now.phase_us - (100_000 + beat * 10) as f64 * 1e3;
            most_ahead_us = ahead_us.max(most_ahead_us);
        }
        assert!(most_ahead_us < 2e6, "{most_ahead_us}");
        assert!((schedule.interval_us() - 1e4).abs() < 1e3, "{}", schedule.interval_us());
        assert!(schedule.lateness_us(120_100 * MS) > 50_000);
    }

    #[test]
    fn one_outlier_does_not_move_the_schedule_and_a_lasting_delay_does() {
        let mut schedule = regular(1_000);
        schedule.arrive(1, 100_100 * MS + 50 * MS);
        assert!((schedule.now.phase_us - 100_100e3).abs() < 1e3, "{}", schedule.now.phase_us);
        for beat in 1_002..1_400 {
            schedule.arrive(1, beat * 100 * MS + 50 * MS);
        }
        assert!(
            (schedule.now.phase_us - (139_900e3 + 50e3)).abs() < 1e3,
            "{}",
            schedule.now.phase_us
        );
    }
}
