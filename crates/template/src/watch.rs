//! Counts of templates over time, and what is remarkable about them.

use std::collections::{HashMap, VecDeque};

use crate::rate::chance;
use crate::template::TemplateId;

/// When something is remarkable, and how much is remembered. Times are microseconds.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct WatchConfig {
    /// How long templates only become known, and none is called new: an hour.
    pub learning_micros: i64,
    /// The time over which messages are counted before they are compared with
    /// those before: a minute.
    pub window_micros: i64,
    /// How many windows make up the rate before: 30.
    pub windows: usize,
    /// How improbable a count has to be at an unchanged rate; bounds the false
    /// alarms a template and window. One in a million.
    pub chance: f64,
    /// How many times more or fewer messages there have to be: twice. Great
    /// counts make small differences certain, and nobody cares for them.
    pub factor: f64,
    /// How many templates are counted; those not seen for longest are
    /// forgotten, an eighth at a time. 10,000.
    pub max_templates: usize,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self {
            learning_micros: 3_600_000_000,
            window_micros: 60_000_000,
            windows: 30,
            chance: 1e-6,
            factor: 2.0,
            max_templates: 10_000,
        }
    }
}

/// How often and when messages of a template came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemplateStatistics {
    /// How many.
    pub count: u64,
    /// The earliest, in microseconds.
    pub first_seen: i64,
    /// The latest, in microseconds.
    pub last_seen: i64,
}

/// Something remarkable about a template.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Signal {
    /// The first message of a template, after the time of learning.
    New {
        /// Which one.
        template: TemplateId,
        /// When, in microseconds.
        at: i64,
    },
    /// More or fewer messages than at the rate before.
    RateChanged {
        /// Of which template.
        template: TemplateId,
        /// When the window ended, in microseconds.
        at: i64,
        /// How many there were per window before.
        before: f64,
        /// How many there are in this window.
        now: u32,
        /// How probable that was at most, had the rate not changed.
        chance: f64,
    },
}

struct Counts {
    statistics: TemplateStatistics,
    /// In the window that is open.
    now: u32,
    /// In the windows before since the rate last changed, the oldest first.
    before: VecDeque<u32>,
}

/// Counts the messages of templates, window by window.
///
/// Not part of a [snapshot](crate::Miner::snapshot): rates of before a restart say little about
/// those after it. What is to last is [remembered](Self::remember).
///
/// Time is whatever the caller says it is, and goes on by [`advance`](Self::advance);
/// what is [recorded](Self::record) counts in the window that is open. After a
/// change the rate is learnt anew, so a change that lasts is told once.
pub struct Watch {
    config: WatchConfig,
    started_at: i64,
    window_ends_at: i64,
    counts: HashMap<TemplateId, Counts>,
}

impl Watch {
    /// Starts to learn at a time, in microseconds.
    ///
    /// Limits below 1 are taken as 1.
    #[must_use]
    pub fn new(config: WatchConfig, now: i64) -> Self {
        let config = WatchConfig {
            window_micros: config.window_micros.max(1),
            windows: config.windows.max(1),
            max_templates: config.max_templates.max(1),
            ..config
        };
        let window_ends_at = now.saturating_add(config.window_micros);
        Self { config, started_at: now, window_ends_at, counts: HashMap::new() }
    }

    /// Counts a message with this time, in microseconds.
    ///
    /// Returns a signal if it is the first of its template after the time of learning.
    pub fn record(&mut self, template: TemplateId, at: i64) -> Option<Signal> {
        if let Some(counts) = self.counts.get_mut(&template) {
            counts.now = counts.now.saturating_add(1);
            let statistics = &mut counts.statistics;
            statistics.count += 1;
            statistics.first_seen = statistics.first_seen.min(at);
            statistics.last_seen = statistics.last_seen.max(at);
            return None;
        }
        if self.counts.len() >= self.config.max_templates {
            self.forget();
        }
        let statistics = TemplateStatistics { count: 1, first_seen: at, last_seen: at };
        self.counts.insert(template, Counts { statistics, now: 1, before: VecDeque::new() });
        let is_learning = at < self.started_at.saturating_add(self.config.learning_micros);
        (!is_learning).then_some(Signal::New { template, at })
    }

    /// Takes over what was known of a template before a restart, so that it is not new.
    pub fn remember(&mut self, template: TemplateId, statistics: TemplateStatistics) {
        if self.counts.len() >= self.config.max_templates {
            self.forget();
        }
        self.counts.insert(template, Counts { statistics, now: 0, before: VecDeque::new() });
    }

    /// Adds the counts of a template that was merged into another to that one's.
    pub fn merge(&mut self, from: TemplateId, into: TemplateId) {
        if from == into {
            return;
        }
        let Some(from) = self.counts.remove(&from) else { return };
        let Some(into) = self.counts.get_mut(&into) else {
            self.counts.insert(into, from);
            return;
        };
        let (sum, added) = (&mut into.statistics, from.statistics);
        sum.count += added.count;
        sum.first_seen = sum.first_seen.min(added.first_seen);
        sum.last_seen = sum.last_seen.max(added.last_seen);
        into.now = into.now.saturating_add(from.now);
        // Both end with the window that was closed last.
        while into.before.len() < from.before.len() {
            into.before.push_front(0);
        }
        for (sum, added) in into.before.iter_mut().rev().zip(from.before.iter().rev()) {
            *sum = sum.saturating_add(*added);
        }
    }

    /// Lets time go on, and compares the counts of each window that ended by `now` with those
    /// before it.
    ///
    /// Signals of one window are in the order of template ids. Takes time
    /// linear in templates for each window, of which at most one more than the
    /// rate is made of are looked at.
    pub fn advance(&mut self, now: i64) -> Vec<Signal> {
        let mut signals = Vec::new();
        let mut closed = 0;
        while self.window_ends_at <= now {
            if closed > self.config.windows {
                // Nothing happened in windows this old, and all have seen that.
                let width = self.config.window_micros;
                let skipped = now.saturating_sub(self.window_ends_at) / width;
                let skipped = skipped.saturating_add(1).saturating_mul(width);
                self.window_ends_at = self.window_ends_at.saturating_add(skipped);
                break;
            }
            self.close_window(&mut signals);
            closed += 1;
            let Some(end) = self.window_ends_at.checked_add(self.config.window_micros) else {
                break;
            };
            self.window_ends_at = end;
        }
        signals
    }

    fn close_window(&mut self, signals: &mut Vec<Signal>) {
        let first = signals.len();
        for (&template, counts) in &mut self.counts {
            let now = std::mem::take(&mut counts.now);
            let sum: u64 = counts.before.iter().copied().map(u64::from).sum();
            let before = sum as f64 / counts.before.len().max(1) as f64;
            let (less, more) = if f64::from(now) < before {
                (f64::from(now), before)
            } else {
                (before, f64::from(now))
            };
            let chance = chance(counts.before.iter().copied(), now)
                .filter(|&chance| chance < self.config.chance && more >= less * self.config.factor);
            if let Some(chance) = chance {
                counts.before.clear();
                let at = self.window_ends_at;
                signals.push(Signal::RateChanged { template, at, before, now, chance });
                continue;
            }
            if counts.before.len() == self.config.windows {
                counts.before.pop_front();
            }
            counts.before.push_back(now);
        }
        signals[first..].sort_by_key(|signal| match signal {
            Signal::New { template, .. } | Signal::RateChanged { template, .. } => *template,
        });
    }

    /// What is known of a template.
    #[must_use]
    pub fn statistics(&self, template: TemplateId) -> Option<TemplateStatistics> {
        self.counts.get(&template).map(|counts| counts.statistics)
    }

    /// What is known of every template, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (TemplateId, TemplateStatistics)> {
        self.counts.iter().map(|(&template, counts)| (template, counts.statistics))
    }

    fn forget(&mut self) {
        let mut by_age: Vec<(i64, TemplateId)> =
            self.iter().map(|(template, statistics)| (statistics.last_seen, template)).collect();
        by_age.sort_unstable();
        by_age.truncate((self.config.max_templates / 8).max(1));
        for (_, template) in by_age {
            self.counts.remove(&template);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;
    const MINUTE: i64 = 60 * SECOND;
    const A: TemplateId = TemplateId(1);
    const B: TemplateId = TemplateId(2);

    /// Records so many messages of a template in each minute; returns all signals.
    fn minutes(watch: &mut Watch, from: i64, template: TemplateId, counts: &[u32]) -> Vec<Signal> {
        let mut signals = Vec::new();
        for (minute, &count) in (from..).zip(counts) {
            for message in 0..i64::from(count) {
                signals.extend(watch.record(template, minute * MINUTE + message));
            }
            signals.extend(watch.advance((minute + 1) * MINUTE));
        }
        signals
    }

    #[test]
    fn a_template_is_new_after_the_time_of_learning_only() {
        let mut watch = Watch::new(WatchConfig::default(), 0);
        assert_eq!(watch.record(A, 59 * MINUTE), None);
        let new = Signal::New { template: B, at: 60 * MINUTE };
        assert_eq!(watch.record(B, 60 * MINUTE), Some(new));
        assert_eq!(watch.record(B, 61 * MINUTE), None);
        assert_eq!(watch.record(A, 61 * MINUTE), None);
    }

    #[test]
    fn statistics_count_and_remember_the_first_and_the_last() {
        let mut watch = Watch::new(WatchConfig::default(), 0);
        for at in [30, 10, 20] {
            let _ = watch.record(A, at);
        }
        let expected = TemplateStatistics { count: 3, first_seen: 10, last_seen: 30 };
        assert_eq!(watch.statistics(A), Some(expected));
        assert_eq!(watch.statistics(B), None);
    }

    #[test]
    fn a_steady_rate_is_not_remarkable() {
        let mut watch = Watch::new(WatchConfig::default(), 0);
        let steady: Vec<u32> = (0..100).map(|minute| 20 + minute * 7 % 9).collect();
        assert_eq!(minutes(&mut watch, 0, A, &steady), []);
    }

    #[test]
    fn a_change_that_lasts_is_told_once() {
        let mut watch = Watch::new(WatchConfig::default(), 0);
        assert_eq!(minutes(&mut watch, 0, A, &[20; 20]), []);
        let signals = minutes(&mut watch, 20, A, &[100; 20]);
        assert!(matches!(
            signals[..],
            [Signal::RateChanged { template: A, at, before: 20.0, now: 100, .. }] if at == 21 * MINUTE
        ));
    }

    #[test]
    fn silence_is_told() {
        let mut watch = Watch::new(WatchConfig::default(), 0);
        minutes(&mut watch, 0, A, &[20; 30]);
        let signals = watch.advance(40 * MINUTE);
        assert!(matches!(signals[..], [Signal::RateChanged { now: 0, .. }]), "{signals:?}");
    }

    #[test]
    fn small_differences_between_great_counts_are_not_told() {
        let mut watch = Watch::new(WatchConfig::default(), 0);
        minutes(&mut watch, 0, A, &[10_000; 20]);
        assert_eq!(minutes(&mut watch, 20, A, &[15_000]), []);
    }

    #[test]
    fn merged_templates_are_counted_as_one() {
        let mut watch = Watch::new(WatchConfig::default(), 0);
        minutes(&mut watch, 0, A, &[10; 10]);
        minutes(&mut watch, 10, B, &[10; 2]);
        watch.merge(B, A);
        assert_eq!(watch.statistics(A).map(|statistics| statistics.count), Some(120));
        assert_eq!(watch.statistics(B), None);
    }

    #[test]
    fn the_least_recent_are_forgotten() {
        let config = WatchConfig { max_templates: 8, ..WatchConfig::default() };
        let mut watch = Watch::new(config, 0);
        for id in 0..20 {
            let _ = watch.record(TemplateId(id), id as i64);
        }
        assert_eq!(watch.iter().count(), 8);
        assert!(watch.statistics(TemplateId(19)).is_some());
        assert!(watch.statistics(TemplateId(0)).is_none());
    }

    #[test]
    fn time_may_jump() {
        let mut watch = Watch::new(WatchConfig::default(), 0);
        let _ = watch.record(A, 0);
        let _ = watch.advance(i64::MAX);
        let _ = watch.advance(i64::MIN);
        let _ = watch.record(A, i64::MIN);
        let config = WatchConfig { window_micros: 1, ..WatchConfig::default() };
        let mut watch = Watch::new(config, i64::MIN);
        let _ = watch.advance(i64::MAX);
    }

    #[test]
    fn a_template_known_before_a_restart_is_not_new() {
        let config = WatchConfig { learning_micros: 0, ..WatchConfig::default() };
        let mut watch = Watch::new(config, 0);
        watch.remember(A, TemplateStatistics { count: 7, first_seen: -9, last_seen: -3 });
        assert_eq!(watch.record(A, 5), None);
        let expected = TemplateStatistics { count: 8, first_seen: -9, last_seen: 5 };
        assert_eq!(watch.statistics(A), Some(expected));
    }
}
