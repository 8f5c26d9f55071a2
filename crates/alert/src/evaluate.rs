//! Asking the queries of rules and anomalies, each in its time.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use arrow::array::RecordBatch;
use fastrand::Rng;
use futures::FutureExt as _;
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};

use crate::{
    anomaly::{AnomalyConfig, Cursor},
    core::{Evaluation, Found},
    rows::Rows,
    rule::RuleConfig,
};

/// Rows that one query of an anomaly reads at most; more are read by the next ones.
const MAX_POINTS: usize = 20_000;
/// Rules do not all begin at once.
const SPREAD: Duration = Duration::from_millis(250);

/// What asking needs.
#[derive(Clone)]
pub(crate) struct Asking {
    pub(crate) rows: Arc<dyn Rows>,
    pub(crate) places: Arc<Semaphore>,
    pub(crate) query_timeout: Duration,
    pub(crate) max_alerts: usize,
    pub(crate) evaluations: mpsc::Sender<Evaluation>,
}

/// Evaluates a rule until nobody wants to know.
pub(crate) async fn evaluate_rule(rule: RuleConfig, asking: Asking, rng: Rng) {
    let mut pace = Pace::new(rule.every.get(), rng);
    // One more tells whether there are more.
    let max_rows = asking.max_alerts + 1;
    loop {
        let elapsed = pace.wait().await;
        let started = Instant::now();
        let found = asking.ask(rule.query.as_str(), max_rows).await.and_then(|batches| {
            let (samples, is_complete) = rule.samples(&batches, asking.max_alerts)?;
            Ok(Found::Samples { samples, is_complete })
        });
        let name = rule.name.as_str().to_owned();
        let evaluation = Evaluation { name, found, elapsed, took: started.elapsed() };
        if asking.evaluations.send(evaluation).await.is_err() {
            return;
        }
    }
}

/// Evaluates an anomaly, from the rows after `cursor` on, until nobody wants to know.
pub(crate) async fn evaluate_anomaly(
    anomaly: AnomalyConfig,
    mut cursor: Cursor,
    asking: Asking,
    rng: Rng,
) {
    let mut pace = Pace::new(anomaly.every.get(), rng);
    loop {
        let mut elapsed = pace.wait().await;
        let mut is_behind = true;
        while is_behind {
            let started = Instant::now();
            let sql = anomaly.sql(&cursor);
            let found = asking.ask(&sql, MAX_POINTS).await;
            let found = found.and_then(|batches| anomaly.points(&batches, MAX_POINTS));
            is_behind = matches!(&found, Ok(points) if points.is_truncated);
            if let Ok(points) = &found {
                cursor.advance(points);
            }
            let name = anomaly.name.as_str().to_owned();
            let found = found.map(Found::Points);
            let evaluation = Evaluation { name, found, elapsed, took: started.elapsed() };
            if asking.evaluations.send(evaluation).await.is_err() {
                return;
            }
            elapsed = Duration::ZERO;
        }
    }
}

impl Asking {
    /// The rows of a query; whatever becomes of it, an answer comes.
    async fn ask(&self, sql: &str, max_rows: usize) -> Result<Vec<RecordBatch>, String> {
        let _place = self.places.acquire().await.map_err(|error| error.to_string())?;
        let asked = AssertUnwindSafe(self.rows.rows(sql, max_rows)).catch_unwind();
        match timeout(self.query_timeout, asked).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err("the query ended with a panic; please report it".to_owned()),
            Err(_) => {
                let limit = self.query_timeout;
                Err(format!("the query took longer than {limit:?}; make it read less"))
            }
        }
    }
}

/// When to evaluate.
struct Pace {
    ticks: tokio::time::Interval,
    last: Option<Instant>,
}

impl Pace {
    fn new(every: Duration, mut rng: Rng) -> Self {
        let first = Instant::now() + SPREAD.min(every).mul_f64(rng.f64());
        let mut ticks = interval_at(first, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { ticks, last: None }
    }

    /// Waits for the next evaluation, and says how long after the one before it is.
    async fn wait(&mut self) -> Duration {
        self.ticks.tick().await;
        let now = Instant::now();
        let elapsed = self.last.map_or(Duration::ZERO, |last| now - last);
        self.last = Some(now);
        elapsed
    }
}
