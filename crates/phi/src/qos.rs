//! How well a detector does, in the terms of Chen, Toueg and Aguilera.

use core::time::Duration;

/// Measures a detector's quality of service from its verdicts and from the truth.
///
/// The metrics are those of Chen, Toueg and Aguilera, "On the quality of service of failure
/// detectors" (2002, §2.2 and §2.3). Report what happens in the order of time.
///
/// ```
/// use std::time::Duration;
/// use thalweg_phi::QosMeter;
///
/// let hour = |hours: u64| Duration::from_secs(hours * 3_600);
/// let mut meter = QosMeter::new(hour(0));
/// meter.suspect(hour(6)); // a mistake
/// meter.trust(hour(7));
/// meter.crash(hour(24));
/// meter.suspect(hour(24) + Duration::from_secs(3));
/// let qos = meter.report(hour(30));
/// assert_eq!(qos.mistakes, 1);
/// assert_eq!(qos.mistakes_per_day, 1.0);
/// assert_eq!(qos.mistake_duration, Some(hour(1)));
/// assert_eq!(qos.query_accuracy, 23.0 / 24.0);
/// assert_eq!(qos.detection_time, Some(Duration::from_secs(3)));
/// ```
#[derive(Clone, Debug)]
pub struct QosMeter {
    state: State,
    /// Since when the process is up or down.
    since: Duration,
    suspected_at: Option<Duration>,
    up: Duration,
    mistaken: Duration,
    mistakes: u64,
    detections: u32,
    detecting: Duration,
    slowest: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Up,
    Down,
}

/// What a [`QosMeter`] has measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Qos {
    /// Times that a live process came to be suspected.
    pub mistakes: u64,
    /// λ_M: mistakes per day that the process was up; 0 if it never was.
    pub mistakes_per_day: f64,
    /// T_M: mean time until a mistake was corrected, or overtaken by a crash or the report.
    pub mistake_duration: Option<Duration>,
    /// T_MR: mean time from one mistake to the next.
    pub mistake_recurrence: Option<Duration>,
    /// T_G: mean time from the correction of a mistake to the next mistake.
    pub good_period: Option<Duration>,
    /// P_A: probability that a live process is trusted at a random time; 1 if it never was up.
    pub query_accuracy: f64,
    /// T_D: mean time from a crash to the suspicion that stayed; 0 for a process that happened to
    /// be suspected already. Crashes that were not detected are not in it.
    pub detection_time: Option<Duration>,
    /// The longest detection time.
    pub slowest_detection: Option<Duration>,
}

impl QosMeter {
    /// A meter of a process that is up, and trusted.
    pub fn new(now: Duration) -> Self {
        Self {
            state: State::Up,
            since: now,
            suspected_at: None,
            up: Duration::ZERO,
            mistaken: Duration::ZERO,
            mistakes: 0,
            detections: 0,
            detecting: Duration::ZERO,
            slowest: Duration::ZERO,
        }
    }

    /// The detector begins to suspect the process. Without effect if it does already. O(1).
    pub fn suspect(&mut self, now: Duration) {
        if self.suspected_at.is_none() {
            self.suspected_at = Some(now);
            self.mistakes += u64::from(self.state == State::Up);
        }
    }

    /// The detector trusts the process again. Without effect if it does already. O(1).
    pub fn trust(&mut self, now: Duration) {
        if let Some(suspected_at) = self.suspected_at.take()
            && self.state == State::Up
        {
            self.mistaken += now.saturating_sub(suspected_at.max(self.since));
        }
    }

    /// The process crashes. Without effect if it is down already. O(1).
    pub fn crash(&mut self, now: Duration) {
        if self.state == State::Up {
            self.end_up_time(now);
            (self.state, self.since) = (State::Down, now);
        }
    }

    /// The process is up again. If it is suspected, the crash was detected, and what is left of
    /// the suspicion is no new mistake, but counts against query accuracy. O(1).
    pub fn recover(&mut self, now: Duration) {
        if self.state == State::Down {
            self.end_down_time();
            (self.state, self.since) = (State::Up, now);
        }
    }

    fn end_up_time(&mut self, now: Duration) {
        self.up += now.saturating_sub(self.since);
        if let Some(suspected_at) = self.suspected_at {
            self.mistaken += now.saturating_sub(suspected_at.max(self.since));
        }
    }

    fn end_down_time(&mut self) {
        if let Some(suspected_at) = self.suspected_at {
            let taken = suspected_at.saturating_sub(self.since);
            self.detections += 1;
            self.detecting += taken;
            self.slowest = self.slowest.max(taken);
        }
    }

    /// The metrics up to now. The meter goes on. O(1).
    pub fn report(&self, now: Duration) -> Qos {
        let mut so_far = self.clone();
        match self.state {
            State::Up => so_far.end_up_time(now),
            State::Down => so_far.end_down_time(),
        }
        so_far.totals()
    }

    fn totals(&self) -> Qos {
        let mean =
            |total: Duration| (self.mistakes > 0).then(|| total.div_f64(self.mistakes as f64));
        let up_secs = self.up.as_secs_f64();
        let ever_up = up_secs > 0.0;
        Qos {
            mistakes: self.mistakes,
            mistakes_per_day: if ever_up { self.mistakes as f64 * 86_400.0 / up_secs } else { 0.0 },
            mistake_duration: mean(self.mistaken),
            mistake_recurrence: mean(self.up),
            good_period: mean(self.up.saturating_sub(self.mistaken)),
            query_accuracy: if ever_up { 1.0 - self.mistaken.as_secs_f64() / up_secs } else { 1.0 },
            detection_time: (self.detections > 0).then(|| self.detecting / self.detections),
            slowest_detection: (self.detections > 0).then_some(self.slowest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn suspicion_withdrawn_after_the_crash_is_not_the_detection() {
        let mut meter = QosMeter::new(secs(0));
        meter.crash(secs(100));
        meter.suspect(secs(101));
        meter.trust(secs(102)); // a heartbeat that was in flight
        meter.suspect(secs(107));
        meter.recover(secs(200));
        let qos = meter.report(secs(200));
        assert_eq!((qos.mistakes, qos.detection_time), (0, Some(secs(7))));
    }

    #[test]
    fn mistake_that_a_crash_overtakes_ends_there_and_detects_at_once() {
        let mut meter = QosMeter::new(secs(0));
        meter.suspect(secs(90));
        meter.crash(secs(100));
        let qos = meter.report(secs(150));
        assert_eq!(qos.mistake_duration, Some(secs(10)));
        assert_eq!(qos.detection_time, Some(secs(0)));
        assert_eq!(qos.query_accuracy, 0.9);
    }

    #[test]
    fn recurrence_is_duration_and_good_period_together() {
        let mut meter = QosMeter::new(secs(0));
        for begin in [100, 300, 700] {
            meter.suspect(secs(begin));
            meter.suspect(secs(begin + 1)); // still the same
            meter.trust(secs(begin + 10));
        }
        let qos = meter.report(secs(900));
        assert_eq!(qos.mistakes, 3);
        assert_eq!(qos.mistake_recurrence, Some(secs(300)));
        assert_eq!(qos.mistake_duration.zip(qos.good_period), Some((secs(10), secs(290))));
    }

    #[test]
    fn slowest_detection_is_told_apart_from_the_mean() {
        let mut meter = QosMeter::new(secs(0));
        for (crash, taken) in [(100, 2), (200, 6)] {
            meter.crash(secs(crash));
            meter.suspect(secs(crash + taken));
            meter.recover(secs(crash + 50));
            meter.trust(secs(crash + 51));
        }
        let qos = meter.report(secs(300));
        assert_eq!(qos.detection_time.zip(qos.slowest_detection), Some((secs(4), secs(6))));
        assert_eq!(qos.mistakes, 0);
    }
}
