//! How far event time has come.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use thalweg_log::TopicPartition;

/// Before every event.
pub(crate) const BEGINNING: i64 = i64::MIN;

/// How far event time has come in all partitions of a view's streams, in microseconds.
///
/// Events of a partition may be up to the lateness older than the newest one before them. The
/// watermark is what the slowest partition has reached (Akidau et al., 2013, section 4.2). A
/// partition that has been read to its end and stays silent for the idle time does not hold it
/// back; when all are silent, event time goes on as the clock does. Events from the future, of
/// senders whose clocks are fast, do not make those of all others late: the watermark stays
/// behind the clock.
#[derive(Debug)]
pub(crate) struct Watermark {
    lateness: i64,
    idle: Duration,
    partitions: BTreeMap<TopicPartition, Partition>,
    /// The newest event of the history that the view began with, and when it was read.
    history: (i64, Instant),
    reached: i64,
}

#[derive(Debug)]
struct Partition {
    newest: i64,
    /// When its last event came.
    heard: Instant,
    /// Whether everything in it has been read.
    is_at_end: bool,
}

/// The time: for waiting, and of day.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) instant: Instant,
    /// Microseconds since the Unix epoch.
    pub(crate) unix_micros: i64,
}

/// What is kept of a [`Watermark`] across restarts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reached {
    pub(crate) watermark: i64,
    /// Newest event time by topic and partition.
    pub(crate) newest: Vec<(String, u32, i64)>,
    /// Newest event time of the history that the view began with.
    pub(crate) history: i64,
}

impl Watermark {
    pub(crate) fn new(
        partitions: impl IntoIterator<Item = TopicPartition>,
        lateness: Duration,
        idle: Duration,
        now: Instant,
    ) -> Self {
        let silent = || Partition { newest: BEGINNING, heard: now, is_at_end: false };
        Self {
            lateness: i64::try_from(lateness.as_micros()).unwrap_or(i64::MAX),
            idle,
            partitions: partitions.into_iter().map(|at| (at, silent())).collect(),
            history: (BEGINNING, now),
            reached: BEGINNING,
        }
    }

    /// Takes up what was reached before a restart.
    pub(crate) fn resume(&mut self, reached: &Reached) {
        self.reached = reached.watermark;
        self.history.0 = reached.history;
        for (topic, partition, newest) in &reached.newest {
            let at = TopicPartition::new(topic.as_str(), *partition);
            if let Some(partition) = self.partitions.get_mut(&at) {
                partition.newest = *newest;
            }
        }
    }

    /// What to keep across restarts.
    pub(crate) fn reached(&self) -> Reached {
        let newest = self.partitions.iter();
        let newest = newest.map(|(at, p)| (at.topic.to_string(), at.partition, p.newest)).collect();
        Reached { watermark: self.reached, newest, history: self.history.0 }
    }

    /// Notes that events came of which the newest is from `newest`.
    pub(crate) fn observe(&mut self, at: &TopicPartition, newest: i64, now: Now) {
        if let Some(partition) = self.partitions.get_mut(at) {
            partition.newest = partition.newest.max(newest.min(now.unix_micros));
            partition.heard = now.instant;
        }
    }

    /// Notes that history was read, which is behind all partitions and which no one waits for.
    pub(crate) fn observe_history(&mut self, newest: i64, now: Now) {
        let newest = newest.min(now.unix_micros);
        self.history = (self.history.0.max(newest), now.instant);
    }

    /// Notes whether everything in a partition has been read.
    pub(crate) fn set_at_end(&mut self, at: &TopicPartition, is_at_end: bool) {
        if let Some(partition) = self.partitions.get_mut(at) {
            partition.is_at_end = is_at_end;
        }
    }

    /// Raises the watermark to `reached`; answers whether it was lower.
    pub(crate) fn raise(&mut self, reached: i64) -> bool {
        let is_lower = self.reached < reached;
        self.reached = self.reached.max(reached);
        is_lower
    }

    /// The watermark: no event is expected any more that is older. Never goes back.
    pub(crate) fn advance(&mut self, now: Instant) -> i64 {
        let is_idle =
            |p: &Partition| p.is_at_end && now.saturating_duration_since(p.heard) >= self.idle;
        let active = self.partitions.values().filter(|partition| !is_idle(partition));
        let newest = match active.map(|partition| partition.newest).min() {
            Some(slowest) => slowest,
            // All are silent: the newest event of all, and the time that has gone by since.
            None => {
                let heard = self.partitions.values().map(|p| (p.newest, p.heard));
                let (newest, heard) = heard.chain([self.history]).max().unwrap_or(self.history);
                let silent = now.saturating_duration_since(heard).as_micros();
                match newest {
                    BEGINNING => BEGINNING,
                    _ => newest.saturating_add(i64::try_from(silent).unwrap_or(i64::MAX)),
                }
            }
        };
        if newest != BEGINNING {
            self.reached = self.reached.max(newest.saturating_sub(self.lateness));
        }
        self.reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    fn at(partition: u32) -> TopicPartition {
        TopicPartition::new("logs", partition)
    }

    fn on(instant: Instant) -> Now {
        Now { instant, unix_micros: 1_000 * SECOND }
    }

    fn watermark(now: Instant) -> Watermark {
        Watermark::new([at(0), at(1)], Duration::from_secs(10), Duration::from_secs(5), now)
    }

    #[test]
    fn the_slowest_partition_holds_the_watermark_back_until_it_is_idle() {
        let start = Instant::now();
        let mut watermark = watermark(start);
        watermark.observe(&at(0), 100 * SECOND, on(start));
        assert_eq!(watermark.advance(start), BEGINNING);
        watermark.observe(&at(1), 50 * SECOND, on(start));
        assert_eq!(watermark.advance(start), 40 * SECOND);
        let later = start + Duration::from_secs(6);
        watermark.observe(&at(0), 106 * SECOND, on(later));
        assert_eq!(watermark.advance(later), 40 * SECOND, "more of it may still have to be read");
        watermark.set_at_end(&at(1), true);
        assert_eq!(watermark.advance(later), 96 * SECOND);
    }

    #[test]
    fn event_time_goes_on_with_the_clock_when_all_partitions_are_silent() {
        let start = Instant::now();
        let mut watermark = watermark(start);
        watermark.observe(&at(0), 100 * SECOND, on(start));
        watermark.observe(&at(1), 90 * SECOND, on(start));
        watermark.set_at_end(&at(0), true);
        watermark.set_at_end(&at(1), true);
        assert_eq!(watermark.advance(start + Duration::from_secs(4)), 80 * SECOND);
        assert_eq!(watermark.advance(start + Duration::from_secs(60)), 150 * SECOND);
    }

    #[test]
    fn a_watermark_never_goes_back() {
        let start = Instant::now();
        let mut watermark = watermark(start);
        watermark.observe(&at(0), 100 * SECOND, on(start));
        watermark.observe(&at(1), 100 * SECOND, on(start));
        assert_eq!(watermark.advance(start), 90 * SECOND);
        let mut restarted = super::tests::watermark(start);
        restarted.resume(&watermark.reached());
        restarted.observe(&at(0), 20 * SECOND, on(start));
        assert_eq!(restarted.advance(start), 90 * SECOND);
        assert_eq!(restarted.reached(), watermark.reached());
    }

    #[test]
    fn an_event_from_the_future_does_not_make_the_present_late() {
        let start = Instant::now();
        let mut watermark = watermark(start);
        watermark.observe(&at(0), 1_000 * SECOND, on(start));
        watermark.observe(&at(1), 9_000 * SECOND, on(start));
        assert_eq!(watermark.advance(start), 990 * SECOND);
    }

    #[test]
    fn without_any_event_there_is_no_watermark() {
        let start = Instant::now();
        let mut watermark = watermark(start);
        watermark.set_at_end(&at(0), true);
        watermark.set_at_end(&at(1), true);
        assert_eq!(watermark.advance(start + Duration::from_secs(3_600)), BEGINNING);
    }
}
