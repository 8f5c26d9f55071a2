//! The audit log: entries from their queue into the log, a batch at a time.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use arrow::{
    array::{
        Float64Array, Int64Array, RecordBatch, StringArray, StringDictionaryBuilder,
        TimestampMicrosecondArray,
    },
    datatypes::Int32Type,
};
use thalweg_access::AuditEntry;
use thalweg_event::schema::{audit_schema, topic};
use thalweg_log::{Log, TopicPartition};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// Entries of a batch at most.
const BATCH_ENTRIES: usize = 4096;
/// Time in which entries gather before they are written together.
const GATHER_TIME: Duration = Duration::from_millis(100);
/// Pause after an append that failed.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Writes entries as they come.
pub(crate) struct AuditWriter {
    stopping: CancellationToken,
    writing: JoinHandle<()>,
}

impl AuditWriter {
    pub(crate) fn start(log: Arc<dyn Log>, entries: mpsc::Receiver<AuditEntry>) -> Self {
        let stopping = CancellationToken::new();
        let writing = tokio::spawn(write(log, entries, stopping.clone()));
        Self { stopping, writing }
    }

    /// Writes what is in the queue, and stops.
    pub(crate) async fn stop(self) {
        self.stopping.cancel();
        if let Err(error) = self.writing.await {
            tracing::error!(%error, "the audit log was not written to its end");
        }
    }
}

async fn write(
    log: Arc<dyn Log>,
    mut entries: mpsc::Receiver<AuditEntry>,
    stopping: CancellationToken,
) {
    let mut batch = Vec::new();
    while !stopping.is_cancelled() {
        let came = entries.recv_many(&mut batch, 1);
        if stopping.run_until_cancelled(came).await == Some(0) {
            return;
        }
        stopping.run_until_cancelled(tokio::time::sleep(GATHER_TIME)).await;
        while batch.len() < BATCH_ENTRIES
            && let Ok(entry) = entries.try_recv()
        {
            batch.push(entry);
        }
        batch.retain(|entry| !is_routine(entry));
        if batch.is_empty() {
            continue;
        }
        let rows = to_rows(&batch);
        while let Err(error) = log.append(TopicPartition::new(topic::AUDIT, 0), rows.clone()).await
        {
            tracing::error!(%error, entries = batch.len(), "the audit log cannot be written");
            if stopping.is_cancelled() {
                return;
            }
            tokio::time::sleep(RETRY_DELAY).await;
        }
        batch.clear();
    }
}

/// Whether an entry is of the server's own questions, asked every few seconds, and answered.
fn is_routine(entry: &AuditEntry) -> bool {
    entry.asker.address.is_none() && entry.outcome == "ok"
}

fn to_rows(entries: &[AuditEntry]) -> RecordBatch {
    let few = |text: fn(&AuditEntry) -> &str| {
        let mut column = StringDictionaryBuilder::<Int32Type>::new();
        entries.iter().for_each(|entry| column.append_value(text(entry)));
        Arc::new(column.finish())
    };
    let micros = entries.iter().map(|entry| {
        let since_epoch = entry.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX)
    });
    let tokens = entries.iter().map(|entry| entry.asker.principal.token().map(String::from));
    let clients = entries.iter().map(|entry| entry.asker.address.map(|at| at.ip().to_string()));
    let statements = entries.iter().map(|entry| entry.statement.as_str());
    let rows = entries.iter().map(|entry| i64::try_from(entry.rows).unwrap_or(i64::MAX));
    let elapsed = entries.iter().map(|entry| entry.elapsed.as_secs_f64() * 1e3);
    RecordBatch::try_new(
        audit_schema(),
        vec![
            Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC")),
            few(|entry| entry.asker.principal.name()),
            Arc::new(tokens.collect::<StringArray>()),
            Arc::new(clients.collect::<StringArray>()),
            few(|entry| entry.asker.protocol),
            Arc::new(StringArray::from_iter_values(statements)),
            few(|entry| entry.outcome),
            Arc::new(Int64Array::from_iter_values(rows)),
            Arc::new(Float64Array::from_iter_values(elapsed)),
        ],
    )
    .expect("columns are in the order of the schema")
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use arrow::array::AsArray as _;
    use thalweg_access::{Asker, Principal};

    use super::*;

    #[test]
    fn an_entry_becomes_a_row() {
        let asker = Asker {
            principal: Principal::anyone(),
            protocol: "http",
            address: Some(([10, 0, 0, 1], 9).into()),
        };
        let entry = AuditEntry {
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(7),
            asker,
            statement: "SELECT 1".to_owned(),
            outcome: "ok",
            rows: 3,
            elapsed: Duration::from_millis(5),
        };
        let rows = to_rows(&[entry]);
        assert_eq!(rows.num_rows(), 1);
        assert_eq!(rows["client"].as_string::<i32>().value(0), "10.0.0.1");
        assert_eq!(rows["statement"].as_string::<i32>().value(0), "SELECT 1");
        assert_eq!(rows["rows"].as_primitive::<arrow::datatypes::Int64Type>().value(0), 3);
    }
}
