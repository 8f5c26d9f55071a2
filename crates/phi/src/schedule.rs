//! When the next heartbeat should arrive.

/// Gains of the filter once it has settled; the second is α² / (2 − α), critically damped.
const PHASE_GAIN: f64 = 1.0 / 16.0;
const INTERVAL_GAIN: f64 = 1.0 / 496.0;
const DEVIATION_GAIN: f64 = 1.0 / 64.0;
/// Errors beyond this many mean deviations are outliers, and pull no harder than that.
const OUTLIER: f64 = 4.0;
/// Heartbeats over which the interval is a plain mean, before the filter takes over.
const WARM_UP: u32 = 32;

/// Follows a sender's period and phase through jitter, loss and drift.
///
/// An α-β filter (Benedict and Bordner 1962) of arrival times by sequence number, in place of the
/// window of Chen, Toueg and Aguilera's NFD-E (2002, §6.3): it does the same in 40 bytes, follows
/// drifting clocks, and is not pulled away by single outliers.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    /// Filtered arrival time of the latest heartbeat.
    phase_us: f64,
    last_arrival_us: u64,
    interval_us: f64,
    deviation_us: f64,
    beats: u32,
}

impl Schedule {
    /// A schedule that starts with a heartbeat now.
    pub(crate) fn new(interval_us: f64, arrival_us: u64) -> Self {
        Self {
            phase_us: arrival_us as f64,
            last_arrival_us: arrival_us,
            interval_us,
            deviation_us: interval_us / 4.0,
            beats: 0,
        }
    }

    pub(crate) fn interval_us(&self) -> f64 {
        self.interval_us
    }

    pub(crate) fn deviation_us(&self) -> f64 {
        self.deviation_us
    }

    /// How long after the moment at which the next heartbeat was due a time is; 0 if before.
    ///
    /// It is due when the filtered phase says so, but not before one interval has passed since the
    /// latest arrival: delays and stalls that persist shift the schedule.
    pub(crate) fn lateness_us(&self, now_us: u64) -> u64 {
        let since_arrival = now_us.saturating_sub(self.last_arrival_us) as f64;
        let since_phase = now_us as f64 - self.phase_us;
        (since_arrival.min(since_phase) - self.interval_us).max(0.0) as u64
    }

    /// Takes in the arrival of the heartbeat `steps` after the latest.
    pub(crate) fn arrive(&mut self, steps: u64, arrival_us: u64) {
        let steps = steps as f64;
        let gap_us = arrival_us.saturating_sub(self.last_arrival_us) as f64;
        let due_us = self.phase_us + steps * self.interval_us;
        let error_us = arrival_us as f64 - due_us;
        if self.beats < WARM_UP {
            self.beats += 1;
            let gain = 1.0 / f64::from(self.beats);
            self.interval_us += gain * (gap_us / steps - self.interval_us);
            self.phase_us = due_us + gain.max(PHASE_GAIN) * error_us;
        } else {
            let limit_us = OUTLIER * self.deviation_us + 1.0;
            let pull_us = error_us.clamp(-limit_us, limit_us);
            self.phase_us = due_us + PHASE_GAIN * pull_us;
            self.interval_us += INTERVAL_GAIN * pull_us / steps;
        }
        self.interval_us = self.interval_us.max(1.0);
        self.deviation_us += DEVIATION_GAIN * (error_us.abs() - self.deviation_us);
        self.last_arrival_us = self.last_arrival_us.max(arrival_us);
    }
}
