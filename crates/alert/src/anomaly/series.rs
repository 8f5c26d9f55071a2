//! One series of values in time.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    config::AnomalyConfig,
    detector::{Detector, Verdict},
};

/// Pauses between values that are remembered.
const REMEMBERED_PAUSES: usize = 16;

/// The values of one key, as far as they are remembered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Series {
    pub(super) detector: Detector,
    /// The window that it reported for last.
    pub(super) last: DateTime<Utc>,
    /// What was said of its last value; nothing if it had none.
    pub(super) verdict: Option<Verdict>,
    /// Windows from one report to the next, lately.
    pauses: VecDeque<u32>,
}

impl Series {
    pub(super) fn new(config: &AnomalyConfig, first: DateTime<Utc>) -> Self {
        let (verdict, pauses) = Default::default();
        Self { detector: Detector::new(config), last: first, verdict, pauses }
    }

    /// Takes in what it reported for the window that begins `at`, which is `step` long.
    pub(super) fn take(
        &mut self,
        config: &AnomalyConfig,
        at: DateTime<Utc>,
        value: Option<f64>,
        step: Option<i64>,
    ) {
        let pause = windows(at - self.last, step);
        if pause > 0 {
            if self.pauses.len() == REMEMBERED_PAUSES {
                self.pauses.pop_front();
            }
            self.pauses.push_back(u32::try_from(pause).unwrap_or(u32::MAX));
        }
        self.last = at;
        let skipped = pause.saturating_sub(1);
        self.verdict = match value {
            Some(value) => Some(self.detector.observe(config, value, skipped)),
            None => {
                self.detector.skip(skipped + 1);
                None
            }
        };
    }

    /// Windows that it has been silent for at `clock`, if that is long enough for its last value
    /// to tell nothing of now.
    pub(super) fn silent(
        &self,
        config: &AnomalyConfig,
        clock: DateTime<Utc>,
        step: Option<i64>,
    ) -> Option<usize> {
        let silent = windows(clock - self.last, step);
        let longest = self.pauses.iter().copied().max().unwrap_or(1) as usize;
        (silent > config.missing_after.get().max(2 * longest)).then_some(silent)
    }
}

/// Windows of `step` microseconds in a span; one while it is not known how long they are.
fn windows(span: chrono::TimeDelta, step: Option<i64>) -> usize {
    let micros = span.num_microseconds().unwrap_or(i64::MAX);
    match step {
        Some(step) if step > 0 => usize::try_from((micros + step / 2) / step).unwrap_or(0),
        _ => usize::from(micros > 0),
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::{super::config::tests::anomaly, *};

    const STEP: TimeDelta = TimeDelta::seconds(10);
    const SEASON: usize = 24;

    /// What is said of the windows of a series with a season, of which some report nothing (`None`)
    /// and some no value (`Some(None)`).
    fn verdicts(report: impl Fn(usize) -> Option<Option<f64>>) -> Vec<(usize, Verdict)> {
        let config = anomaly(&format!("detector: {{holt_winters: {{season: {SEASON}}}}}")).unwrap();
        let mut series = Series::new(&config, DateTime::UNIX_EPOCH);
        let judged = |n: usize| {
            let value = report(n)?;
            let at = DateTime::UNIX_EPOCH + STEP * i32::try_from(n).unwrap();
            series.take(&config, at, value, STEP.num_microseconds());
            Some((n, series.verdict?))
        };
        (0..400).filter_map(judged).collect()
    }

    fn seasonal(window: usize) -> f64 {
        100.0 + 50.0 * (std::f64::consts::TAU * window as f64 / SEASON as f64).sin()
    }

    #[test]
    fn a_season_is_kept_over_windows_that_report_no_value() {
        let verdicts = verdicts(|n| Some((n < 100 || n % 7 != 0).then(|| seasonal(n))));
        assert!(verdicts.iter().all(|(_, verdict)| verdict.side.is_none()), "{verdicts:?}");
    }

    #[test]
    fn first_seasons_that_are_interrupted_for_long_begin_anew() {
        let verdicts = verdicts(|n| (!(30..79).contains(&n)).then(|| Some(seasonal(n))));
        for (n, verdict) in verdicts.iter().filter(|(n, _)| *n >= 79 + 2 * SEASON) {
            let expected = verdict.expectation.unwrap().center;
            assert!((expected - seasonal(*n)).abs() < 1.0, "{n}: {verdict:?}");
        }
    }
}
