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
/// How late rows may be before it is known how late they are: after a start the view may have to
/// catch up.
const UNKNOWN_LAG: TimeDelta = TimeDelta::minutes(10);

/// What outlives the process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct WatchState {
    /// What was watched, and how: what was learned of it is of no use for anything else.
    subject: String,
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
    /// Since when somebody watches: what happened before, silence among it, is not known.
    since: Option<DateTime<Utc>>,
    /// How far behind the clock the newest rows were when they came, lately.
    lags: VecDeque<TimeDelta>,
    left_out: usize,
}

impl Watch {
    pub(crate) fn new(config: AnomalyConfig, state: WatchState) -> Self {
        let is_same = state.subject == config.subject();
        let state = if is_same { state } else { WatchState::default() };
        let WatchState { series, newest, step, .. } = state;
        let series = series.into_iter().collect();
        Self { config, series, newest, step, since: None, lags: VecDeque::new(), left_out: 0 }
    }

    /// What is to outlive the process.
    pub(crate) fn state(&self) -> WatchState {
        let series = self.series.iter().map(|(key, series)| (key.clone(), series.clone()));
        WatchState {
            subject: self.config.subject(),
            series: series.collect(),
            newest: self.newest,
            step: self.step,
        }
    }

    /// From where the view is to be read.
    pub(crate) fn cursor(&self, now: DateTime<Utc>) -> Cursor {
        let earliest = now - self.config.lookback.get();
        Cursor::after(self.newest.map_or(earliest, |newest| newest.max(earliest)))
    }

    /// Takes in new rows.
    pub(crate) fn feed(&mut self, points: Points, now: DateTime<Utc>) {
        self.since.get_or_insert(now);
        let before = self.newest;
        if !points.is_empty() {
            self.left_out = points.lost;
        }
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

    /// Up to when rows should be there: the view's time, and that by which the clock went on since
    /// while somebody watched.
    fn clock(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        let newest = self.newest.unwrap_or(now);
        // Rows come late, by as much as they usually do.
        let lag = self.lags.iter().max().copied().unwrap_or(UNKNOWN_LAG);
        let watched_from = newest.max(self.since.unwrap_or(now));
        newest + (now - lag - watched_from).max(TimeDelta::zero())
    }

    /// Rows that found no room, when there were rows last.
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array};
    use proptest::prelude::*;

    use super::{super::config::tests::anomaly, super::query::Point, *};
    use crate::{number::Positive, rows};

    /// How late rows of a window are.
    const LAG_SECS: i64 = 15;

    /// A view with windows of ten seconds.
    struct View {
        watch: Watch,
        window: i64,
    }

    impl View {
        fn new(more: &str) -> Self {
            let config = anomaly(&format!("detector: {{robust_z: {{}}}}\n{more}")).unwrap();
            Self { watch: Watch::new(config, WatchState::default()), window: 0 }
        }

        fn now(&self) -> DateTime<Utc> {
            DateTime::from_timestamp(self.window * 10 + LAG_SECS, 0).unwrap()
        }

        /// The next window, in which services report values; the alerts as of then.
        fn window(&mut self, values: &[(&str, f64)]) -> Vec<String> {
            self.window += 1;
            let at = DateTime::from_timestamp(self.window * 10, 0).unwrap();
            let point = |(service, value): &(&str, f64)| Point {
                at,
                key: Labels::new([("service", service)]),
                value: Some(*value),
            };
            let points = values.iter().map(point).collect();
            self.watch.feed(Points { points, is_truncated: false, lost: 0 }, self.now());
            self.alerts()
        }

        fn alerts(&self) -> Vec<String> {
            let samples = self.watch.samples(self.now());
            let name = |sample: &Sample| {
                format!("{} {}", sample.labels.value("service"), sample.labels.value(ANOMALY))
            };
            samples.iter().map(name).collect()
        }

        fn windows(&mut self, count: usize, values: &[(&str, f64)]) -> Vec<String> {
            let mut alerts = Vec::new();
            for n in 0..count {
                // Never quite the same, as in life.
                let wavering = values.iter().map(|(name, v)| (*name, v + (n % 5) as f64));
                alerts = self.window(&wavering.collect::<Vec<_>>());
            }
            alerts
        }
    }

    #[test]
    fn an_alert_explains_itself() {
        let mut view =
            View::new("labels: {team: shop}\nannotations: {runbook: '{{ service }}: {{ score }}'}");
        assert_eq!(view.windows(40, &[("cart", 100.0), ("pay", 50.0)]), [""; 0]);
        assert_eq!(view.window(&[("cart", 100.0), ("pay", 500.0)]), ["pay value"]);
        let sample = view.watch.samples(view.now()).remove(0);
        assert_eq!(
            sample.labels.to_string(),
            r#"{alertname="Traffic", anomaly="value", service="pay", severity="warning", team="shop"}"#
        );
        assert_eq!(sample.value, Some(500.0));
        let annotations = &sample.annotations;
        assert_eq!(annotations["summary"], "requests of pay is 500, expected 43.1 to 60.9");
        assert_eq!((&*annotations["expected"], &*annotations["observed"]), ("43.1 to 60.9", "500"));
        assert!(annotations["history"].ends_with("50, 51, 52, 53, 54"), "{annotations:?}");
        assert!(annotations["runbook"].starts_with("pay: "), "{annotations:?}");
        let evidence = sample.evidence.unwrap();
        assert_eq!((&*evidence.detector, evidence.history.len()), ("robust_z", SHOWN_VALUES));
        assert_eq!(view.window(&[("cart", 100.0), ("pay", 50.0)]), [""; 0]);
    }

    #[test]
    fn only_the_side_that_is_asked_for_is_worth_an_alert() {
        for (direction, expected) in
            [("above", vec![]), ("below", vec!["a value"]), ("both", vec!["a value"])]
        {
            let mut view = View::new(&format!("direction: {direction}"));
            view.windows(40, &[("a", 100.0)]);
            assert_eq!(view.window(&[("a", 0.0)]), expected, "{direction}");
        }
    }

    #[test]
    fn a_series_that_used_to_report_is_missing_when_it_is_silent_and_comes_back() {
        let mut view = View::new("missing_after: 3");
        view.windows(40, &[("cart", 100.0), ("pay", 50.0)]);
        assert_eq!(view.windows(3, &[("cart", 100.0)]), [""; 0]);
        assert_eq!(view.window(&[("cart", 100.0)]), ["pay missing"]);
        let sample = view.watch.samples(view.now()).remove(0);
        assert_eq!(
            sample.annotations["summary"],
            "requests of pay has no value for 4 windows, since 1970-01-01 00:06:40 UTC"
        );
        assert_eq!(view.window(&[("cart", 100.0), ("pay", 50.0)]), [""; 0]);
    }

    #[test]
    fn a_series_whose_rows_are_not_to_be_judged_is_not_missing() {
        let mut view = View::new("missing_after: 3\nwhere: requests >= 20");
        view.windows(40, &[("night", 100.0)]);
        for _ in 0..20 {
            view.window += 1;
            let at = DateTime::from_timestamp(view.window * 10, 0).unwrap();
            let key = Labels::new([("service", "night")]);
            let points = vec![Point { at, key, value: None }];
            view.watch.feed(Points { points, is_truncated: false, lost: 0 }, view.now());
            assert_eq!(view.alerts(), [""; 0]);
        }
        assert_eq!(view.window(&[("night", 900.0)]), ["night value"]);
    }

    #[test]
    fn a_view_that_stands_still_is_missing_by_the_clock() {
        let mut view = View::new("missing_after: 3");
        view.windows(40, &[("pay", 50.0)]);
        view.window += 3;
        assert_eq!(view.alerts(), [""; 0]);
        view.window += 1;
        assert_eq!(view.alerts(), ["pay missing"]);
    }

    #[test]
    fn a_series_that_reports_now_and_then_is_not_missing_between() {
        let mut view = View::new("missing_after: 3");
        for n in 0..300 {
            let rare = n % 8 == 0;
            let alerts = if rare {
                view.window(&[("a", 1.0), ("rare", 1.0)])
            } else {
                view.window(&[("a", 1.0)])
            };
            assert_eq!(alerts, [""; 0], "{n}");
        }
        assert_eq!(view.windows(17, &[("a", 1.0)]), ["rare missing"]);
    }

    #[test]
    fn what_reported_too_little_to_be_known_is_not_missed_and_forgotten_in_the_end() {
        let mut view = View::new("forget_after: 100s");
        view.windows(5, &[("a", 1.0), ("new", 1.0)]);
        assert_eq!(view.windows(8, &[("a", 1.0)]), [""; 0]);
        assert_eq!(view.watch.series.len(), 2);
        view.windows(3, &[("a", 1.0)]);
        assert_eq!(view.watch.series.len(), 1);
    }

    #[test]
    fn what_was_learned_outlives_a_long_stop_and_nothing_is_missing_because_of_it() {
        let mut view = View::new("forget_after: 1h");
        view.windows(40, &[("a", 100.0)]);
        view.watch = Watch::new(view.watch.config.clone(), view.watch.state());
        // For a day nobody looks, and then the view has to catch up.
        let start = view.now() + TimeDelta::days(1);
        for minutes in [0, 1, 9] {
            let now = start + TimeDelta::minutes(minutes);
            let points = Points { points: Vec::new(), is_truncated: false, lost: 0 };
            view.watch.feed(points, now);
            assert_eq!(view.watch.samples(now).len(), 0, "after {minutes} minutes");
        }
        assert_eq!(view.watch.series.len(), 1);
        assert_eq!(view.window(&[("a", 900.0)]), ["a value"]);

        // A view that stands still while somebody watches is missed, and forgotten in the end.
        for (minutes, (missing, series)) in [(20, (1, 1)), (80, (0, 0))] {
            let now = start + TimeDelta::minutes(minutes);
            let points = Points { points: Vec::new(), is_truncated: false, lost: 0 };
            view.watch.feed(points, now);
            let found = (view.watch.samples(now).len(), view.watch.series.len());
            assert_eq!(found, (missing, series), "after {minutes} minutes");
        }
    }

    #[test]
    fn series_beyond_the_limit_are_counted() {
        let mut view = View::new("max_series: 2");
        view.window(&[("a", 1.0), ("b", 1.0), ("c", 1.0), ("d", 1.0)]);
        assert_eq!((view.watch.series.len(), view.watch.left_out()), (2, 2));
        let nothing = Points { points: Vec::new(), is_truncated: false, lost: 0 };
        view.watch.feed(nothing, view.now());
        assert_eq!(view.watch.left_out(), 2, "the view is asked more often than it has new rows");
        view.window(&[("a", 1.0), ("b", 1.0)]);
        assert_eq!(view.watch.left_out(), 0);
    }

    #[test]
    fn a_restart_goes_on_where_it_was_and_takes_no_row_twice() {
        let mut view = View::new("");
        view.windows(40, &[("a", 100.0)]);
        view.window(&[("a", 900.0)]);
        let text = serde_json::to_string(&view.watch.state()).unwrap();
        let mut config = view.watch.config.clone();
        view.watch = Watch::new(config.clone(), serde_json::from_str(&text).unwrap());
        assert_eq!(view.alerts(), ["a value"]);
        let seen = |view: &View| view.watch.series.values().next().unwrap().detector.seen();
        view.window -= 1;
        assert_eq!(view.window(&[("a", 100.0)]), ["a value"], "the same window again");
        assert_eq!(seen(&view), 41);
        assert_eq!(view.window(&[("a", 101.0)]), [""; 0]);

        // Another detector knows nothing of what this one has learned, and begins with the past.
        config.detector = anomaly("detector: {ewma: {}}").unwrap().detector;
        let other = Watch::new(config, view.watch.state());
        assert_eq!((other.series.len(), other.newest), (0, None));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        /// One event with an absurd value must not keep the next start from reading the state.
        #[test]
        fn whatever_values_come_what_is_learned_and_found_can_be_read_again(
            values in proptest::collection::vec(value(), 1..40), which in 0_usize..6,
        ) {
            let detector = [
                "robust_z: {window: 5}", "ewma: {}", "ewma: {memory: 10, limit: 1.0e-90}",
                "holt_winters: {season: 2}", "rate_of_change: {ratio: 1.1, min_baseline: 1.0e-99}",
                "rate_of_change: {ratio: 1.0e+99, min_baseline: 1}",
            ][which];
            let mut config = anomaly(&format!("detector: {{{detector}}}\nmin_history: 2")).unwrap();
            config.min_deviation = Positive::try_from(1e-99).unwrap();
            config.adapt_after = crate::number::Count::of(4);
            let mut view = View::new("");
            view.watch = Watch::new(config, WatchState::default());
            for value in values {
                let column: ArrayRef = Arc::new(Float64Array::from(vec![value]));
                if let Some(value) = rows::numbers(&column).unwrap()[0] {
                    view.window(&[("a", value)]);
                }
                let text = serde_json::to_string(&view.watch.state()).unwrap();
                prop_assert!(serde_json::from_str::<WatchState>(&text).is_ok(), "{}", text);
                for sample in view.watch.samples(view.now()) {
                    let text = serde_json::to_string(&sample.evidence).unwrap();
                    prop_assert!(serde_json::from_str::<Evidence>(&text).is_ok(), "{}", text);
                }
            }
        }
    }

    /// Any number, and often an absurd one.
    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            proptest::num::f64::ANY,
            proptest::sample::select(vec![0.0, 1e-300, 1e99, -1e100, 1e200, f64::MAX, f64::MIN]),
        ]
    }

    #[test]
    fn a_history_that_is_read_at_once_raises_alerts_for_its_last_window_only() {
        let mut view = View::new("");
        let point = |n: i64, value: f64| Point {
            at: DateTime::from_timestamp(n * 10, 0).unwrap(),
            key: Labels::new([("service", "a")]),
            value: Some(value),
        };
        let points =
            (1..100).map(|n| point(n, if n == 60 { 900.0 } else { 100.0 + (n % 3) as f64 }));
        view.window = 99;
        let points = Points { points: points.collect(), is_truncated: false, lost: 0 };
        view.watch.feed(points, view.now());
        assert_eq!(view.alerts(), [""; 0]);
        assert_eq!(view.window(&[("a", 900.0)]), ["a value"]);
    }
}
