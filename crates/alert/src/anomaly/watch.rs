//! The series of one anomaly.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{
    config::{AnomalyConfig, Direction},
    detector::{Side, Verdict},
    query::{Cursor, Points},
    series::Series,
};
use crate::{
    evidence::Evidence,
    instance::{Sample, Signal},
    labels::{ALERT_NAME, Labels, SEVERITY},
    number::Short,
};

/// The label that tells unusual values from missing ones.
const ANOMALY: &str = "anomaly";
/// Values before that an alert shows.
const SHOWN_VALUES: usize = 20;
/// Delays of rows behind the clock that are remembered.
const REMEMBERED_LAGS: usize = 16;

/// What outlives the process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct WatchState {
    series: Vec<(Labels, Series)>,
    /// The newest window of any series.
    newest: Option<DateTime<Utc>>,
    /// Length of a window in microseconds: the shortest time from one to the next.
    step: Option<i64>,
}

/// The series of one anomaly, and what they are worth alerts for.
pub(crate) struct Watch {
    config: AnomalyConfig,
    series: BTreeMap<Labels, Series>,
    newest: Option<DateTime<Utc>>,
    step: Option<i64>,
    /// How far behind the clock the newest rows were when they came, lately.
    lags: VecDeque<TimeDelta>,
    left_out: usize,
}

impl Watch {
    pub(crate) fn new(config: AnomalyConfig, state: WatchState) -> Self {
        let WatchState { series, newest, step } = state;
        let of_config =
            series.into_iter().filter(|(_, series)| series.detector.is_of(&config.detector));
        let series = of_config.collect();
        Self { config, series, newest, step, lags: VecDeque::new(), left_out: 0 }
    }

    /// What is to outlive the process.
    pub(crate) fn state(&self) -> WatchState {
        let series = self.series.iter().map(|(key, series)| (key.clone(), series.clone()));
        WatchState { series: series.collect(), newest: self.newest, step: self.step }
    }

    /// From where the view is to be read.
    pub(crate) fn cursor(&self, now: DateTime<Utc>) -> Cursor {
        let earliest = now - self.config.lookback.get();
        Cursor::after(self.newest.map_or(earliest, |newest| newest.max(earliest)))
    }

    /// Takes in new rows.
    pub(crate) fn feed(&mut self, points: Points, now: DateTime<Utc>) {
        let before = self.newest;
        self.left_out = points.lost;
        for point in points.points {
            if let Some(newest) = self.newest
                && point.at > newest
            {
                let since = (point.at - newest).num_microseconds().unwrap_or(i64::MAX);
                self.step = Some(self.step.map_or(since, |step| step.min(since)));
            }
            self.newest = self.newest.max(Some(point.at));
            if !self.series.contains_key(&point.key) {
                if self.series.len() >= self.config.max_series.get() {
                    self.left_out += 1;
                    continue;
                }
                self.series.insert(point.key.clone(), Series::new(&self.config, point.at));
            }
            let Some(series) = self.series.get_mut(&point.key) else { continue };
            if point.at > series.last || series.detector.seen() == 0 {
                series.take(&self.config, point.at, point.value, self.step);
            }
        }
        // What is read of the past says nothing of how late rows usually are.
        if self.newest > before && before.is_some() && !points.is_truncated {
            let lag = self.newest.map(|newest| now - newest).unwrap_or_default();
            if self.lags.len() == REMEMBERED_LAGS {
                self.lags.pop_front();
            }
            self.lags.push_back(lag.max(TimeDelta::zero()));
        }
        let clock = self.clock(now);
        let forget_after = self.config.forget_after.get();
        self.series.retain(|_, series| {
            (clock - series.last).to_std().is_ok_and(|silent| silent < forget_after)
                || series.last >= clock
        });
    }

    /// Up to when rows should be there.
    fn clock(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        let newest = self.newest.unwrap_or(now);
        // Rows come late, by as much as they usually do.
        self.lags.iter().max().map_or(newest, |lag| newest.max(now - *lag))
    }

    /// Rows in the last feed that found no room.
    pub(crate) fn left_out(&self) -> usize {
        self.left_out
    }

    /// What is worth an alert as of `now`.
    pub(crate) fn samples(&self, now: DateTime<Utc>) -> Vec<Sample> {
        let clock = self.clock(now);
        let sample =
            |(key, series): (&Labels, &Series)| match series.silent(&self.config, clock, self.step)
            {
                Some(silent) => {
                    let is_watched = self.config.missing_after.get() > 0
                        && series.detector.seen() >= self.config.min_history.get();
                    is_watched.then(|| self.missing(key, series, silent))
                }
                None => {
                    let verdict = series.verdict.filter(|verdict| self.is_unusual(verdict))?;
                    Some(self.unusual(key, series, &verdict))
                }
            };
        self.series.iter().filter_map(sample).collect()
    }

    fn is_unusual(&self, verdict: &Verdict) -> bool {
        matches!(
            (verdict.side, self.config.direction),
            (Some(_), Direction::Both)
                | (Some(Side::High), Direction::Above)
                | (Some(Side::Low), Direction::Below)
        )
    }

    fn unusual(&self, key: &Labels, series: &Series, verdict: &Verdict) -> Sample {
        let detector = self.config.detector.name();
        let (low, high) = verdict.expectation.map_or((0.0, 0.0), |range| (range.low, range.high));
        let expected = format!("{} to {}", Short(low), Short(high));
        // The last one is the value itself.
        let mut history: Vec<f64> = series.detector.recent(SHOWN_VALUES + 1).collect();
        history.pop();
        let is_smoothed = verdict.judged != verdict.value;
        let judged = if is_smoothed {
            format!("{} (smoothed; {} itself)", Short(verdict.judged), Short(verdict.value))
        } else {
            Short(verdict.value).to_string()
        };
        let summary =
            format!("{}{} is {judged}, expected {expected}", self.config.column.as_str(), of(key));
        let evidence = Evidence {
            detector: detector.to_owned(),
            expected_low: Some(low),
            expected_high: Some(high),
            observed: Some(verdict.judged),
            score: verdict.score,
            history,
        };
        self.sample(key, "value", Some(verdict.value), summary, expected, evidence)
    }

    fn missing(&self, key: &Labels, series: &Series, silent: usize) -> Sample {
        let summary = format!(
            "{}{} has no value for {silent} windows, since {}",
            self.config.column.as_str(),
            of(key),
            series.last.format("%Y-%m-%d %H:%M:%S UTC"),
        );
        let evidence = Evidence {
            detector: "missing".to_owned(),
            expected_low: None,
            expected_high: None,
            observed: None,
            score: silent as f64,
            history: series.detector.recent(SHOWN_VALUES).collect(),
        };
        self.sample(key, "missing", None, summary, "a value in every window".to_owned(), evidence)
    }

    fn sample(
        &self,
        key: &Labels,
        anomaly: &str,
        value: Option<f64>,
        summary: String,
        expected: String,
        evidence: Evidence,
    ) -> Sample {
        let name = self.config.name.as_str();
        let labels = key.with(&self.config.labels).with([
            (ALERT_NAME, name),
            (SEVERITY, self.config.severity.name()),
            (ANOMALY, anomaly),
        ]);
        let history: Vec<String> =
            evidence.history.iter().map(|value| Short(*value).to_string()).collect();
        let observed = value.map_or("nothing".to_owned(), |value| Short(value).to_string());
        let mut annotations = BTreeMap::from([
            ("summary".to_owned(), summary),
            ("expected".to_owned(), expected.clone()),
            ("observed".to_owned(), observed.clone()),
            ("history".to_owned(), history.join(", ")),
        ]);
        let mut columns: BTreeMap<String, String> = labels.clone().into();
        columns.extend([
            ("value".to_owned(), observed),
            ("expected".to_owned(), expected),
            ("score".to_owned(), Short(evidence.score).to_string()),
        ]);
        for (name, template) in &self.config.annotations {
            annotations.insert(name.clone(), template.fill(&columns));
        }
        Sample { labels, signal: Signal::Fire, value, annotations, evidence: Some(evidence) }
    }
}

/// ` of payment`, or ` of eu, payment`.
fn of(key: &Labels) -> String {
    let values: Vec<&str> = key.iter().map(|(_, value)| value).collect();
    if values.is_empty() { String::new() } else { format!(" of {}", values.join(", ")) }
}
