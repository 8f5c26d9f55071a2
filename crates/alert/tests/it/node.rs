//! A node's alerts, over a table that the test writes.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, Float64Array, RecordBatch, StringArray},
    compute::cast,
    datatypes::DataType,
};
use async_trait::async_trait;
use parking_lot::Mutex;
use thalweg_alert::{ALERTS, Alerts, AlertsConfig, Rows, Snapshot, State, UNDELIVERED};
use thalweg_log::{EmbeddedLog, Log, LogConfig, TopicConfig, TopicPartition};

/// Longest that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Services and values, or an error.
type Found = Result<Vec<(&'static str, f64)>, String>;

/// What every query finds.
#[derive(Clone)]
pub(crate) struct Table(Arc<Mutex<Found>>);

impl Table {
    pub(crate) fn of(rows: &[(&'static str, f64)]) -> Self {
        Self(Arc::new(Mutex::new(Ok(rows.to_vec()))))
    }

    pub(crate) fn set(&self, rows: &[(&'static str, f64)]) {
        *self.0.lock() = Ok(rows.to_vec());
    }

    pub(crate) fn fail(&self, error: &str) {
        *self.0.lock() = Err(error.to_owned());
    }
}

#[async_trait]
impl Rows for Table {
    async fn rows(&self, _sql: &str, max_rows: usize) -> Result<Vec<RecordBatch>, String> {
        let rows = self.0.lock().clone()?;
        let rows = &rows[..rows.len().min(max_rows)];
        let services = StringArray::from_iter_values(rows.iter().map(|(service, _)| service));
        let values = Float64Array::from_iter_values(rows.iter().map(|(_, value)| *value));
        let columns: [(&str, ArrayRef); 2] =
            [("service", Arc::new(services)), ("value", Arc::new(values))];
        Ok(vec![RecordBatch::try_from_iter(columns).unwrap()])
    }
}

/// A log and a state directory that outlive the alerts.
pub(crate) struct Disk {
    directory: tempfile::TempDir,
    pub(crate) log: Arc<EmbeddedLog>,
}

impl Disk {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let topics = [ALERTS, UNDELIVERED].map(|name| TopicConfig::new(name, 1)).into();
        let config =
            LogConfig { directory: directory.path().join("log"), topics, ..LogConfig::default() };
        let (log, _) = EmbeddedLog::open(config).unwrap();
        Self { directory, log: Arc::new(log) }
    }

    pub(crate) fn state(&self) -> std::path::PathBuf {
        self.directory.path().join("state")
    }

    pub(crate) async fn start(&self, yaml: &str, table: &Table) -> Arc<Alerts> {
        start(yaml, Arc::new(table.clone()), self.log.clone(), &self.state()).await
    }

    /// Texts of some columns of all rows of a topic.
    pub(crate) async fn rows(&self, topic: &str, columns: &[&str]) -> Vec<Vec<String>> {
        let entries = self.log.read(TopicPartition::new(topic, 0), 0, 1 << 24).await.unwrap();
        let mut rows = Vec::new();
        for entry in entries {
            let texts: Vec<ArrayRef> = columns
                .iter()
                .map(|name| cast(&entry.batch[*name], &DataType::Utf8).unwrap())
                .collect();
            for row in 0..entry.batch.num_rows() {
                let text = |column: &ArrayRef| match column.is_null(row) {
                    true => String::new(),
                    false => column.as_string::<i32>().value(row).to_owned(),
                };
                rows.push(texts.iter().map(text).collect());
            }
        }
        rows
    }
}

pub(crate) async fn start(
    yaml: &str,
    rows: Arc<dyn Rows>,
    log: Arc<dyn Log>,
    state: &Path,
) -> Arc<Alerts> {
    let config: AlertsConfig = serde_saphyr::from_str(yaml).unwrap();
    Alerts::start(config, rows, log, state).unwrap()
}

/// Waits until `question` has an answer.
pub(crate) async fn eventually<T>(what: &str, mut question: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = question().await {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// Waits until the alerts of services are so.
pub(crate) async fn until(alerts: &Alerts, service: &str, state: Option<State>) -> Arc<Snapshot> {
    eventually(&format!("{service} {state:?}"), async || {
        let snapshot = alerts.snapshot();
        let found = snapshot.alerts.iter().find(|shown| shown.alert.service() == service);
        (found.map(|shown| shown.alert.state) == state).then_some(snapshot)
    })
    .await
}
