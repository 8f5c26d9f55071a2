//! Anomalies of a view that grows.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use thalweg_alert::{ALERTS, Rows, State};

use crate::node::{Disk, eventually, start, until};

const YAML: &str = "anomalies:
  - name: SlowAnswers
    view: service_health
    column: p99_ms
    by: [service]
    detector: {robust_z: {threshold: 6}}
    min_deviation: 20
    direction: above
    severity: critical
    every: 1s
alerting: {restart_grace: 0s}
";

/// A view of windows of one second: `p99_ms` of two services.
#[derive(Default)]
struct View {
    rows: Mutex<Vec<(DateTime<Utc>, &'static str, f64)>>,
    asked: Mutex<Vec<String>>,
}

impl View {
    fn window(&self, second: i64, payment: f64) {
        let at = DateTime::from_timestamp(second, 0).unwrap();
        self.rows
            .lock()
            .extend([(at, "cart", 30.0 + (second % 4) as f64), (at, "payment", payment)]);
    }
}

#[async_trait]
impl Rows for View {
    async fn rows(&self, sql: &str, max_rows: usize) -> Result<Vec<RecordBatch>, String> {
        self.asked.lock().push(sql.to_owned());
        let (_, after) = sql.split_once("> TIMESTAMP '").ok_or("no time")?;
        let after: DateTime<Utc> = after.split('\'').next().unwrap().parse().unwrap();
        let rows = self.rows.lock();
        let new: Vec<_> = rows.iter().filter(|(at, ..)| *at > after).take(max_rows).collect();
        let times = new.iter().map(|(at, ..)| at.timestamp_micros());
        let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
        let columns: [(&str, ArrayRef); 3] = [
            ("window_start", Arc::new(times)),
            ("p99_ms", Arc::new(Float64Array::from_iter_values(new.iter().map(|(.., v)| *v)))),
            ("service", Arc::new(StringArray::from_iter_values(new.iter().map(|(_, s, _)| s)))),
        ];
        Ok(vec![RecordBatch::try_from_iter(columns).unwrap()])
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_that_is_slow_is_named_within_a_window_and_the_alert_ends_with_it() {
    let disk = Disk::new();
    let view = Arc::new(View::default());
    let now = Utc::now().timestamp();
    // An hour of history is there already.
    for second in now - 3_600..now - 10 {
        view.window(second, 40.0 + (second % 5) as f64);
    }
    let alerts = start(YAML, view.clone(), disk.log.clone(), &disk.state()).await;
    eventually("the history is read", async || (view.asked.lock().len() > 1).then_some(())).await;
    assert!(alerts.snapshot().alerts.is_empty());

    view.window(now - 9, 400.0);
    let snapshot = until(&alerts, "payment", Some(State::Firing)).await;
    let alert = &snapshot.alerts[0].alert;
    let summary = &alert.annotations["summary"];
    assert!(summary.starts_with("p99_ms of payment is 400, expected "), "{summary}");
    assert_eq!(alert.evidence.as_ref().unwrap().observed, Some(400.0));

    // The alert outlives a restart, and reading goes on where it was.
    alerts.stop().await;
    let asked = view.asked.lock().len();
    let alerts = start(YAML, view.clone(), disk.log.clone(), &disk.state()).await;
    until(&alerts, "payment", Some(State::Firing)).await;
    eventually("the view is asked", async || (view.asked.lock().len() > asked).then_some(())).await;
    let last = DateTime::from_timestamp(now - 9, 0).unwrap().format("%Y-%m-%dT%H:%M:%S");
    assert!(view.asked.lock()[asked].contains(&last.to_string()), "{:?}", view.asked.lock()[asked]);

    view.window(now - 8, 41.0);
    until(&alerts, "payment", Some(State::Resolved)).await;
    alerts.stop().await;
    let rows = disk.rows(ALERTS, &["alert", "service", "state"]).await;
    assert_eq!(
        rows,
        [["SlowAnswers", "payment", "firing"], ["SlowAnswers", "payment", "resolved"]]
    );
}
