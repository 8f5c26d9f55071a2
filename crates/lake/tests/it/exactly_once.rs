//! Each row once, whatever happens and whenever one looks.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Int32Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use futures::StreamExt;
use tempfile::TempDir;
use thalweg_event::schema::topic;
use thalweg_lake::{LakeConfig, LakeError, TableSpec};
use thalweg_log::{Log, TopicPartition};
use tokio::runtime::Runtime;
use tokio::time::{sleep, timeout};

use crate::events::{
    DAY_MICROS, DAY_START_MICROS, append, count, events, log, number, open, quiet, rows, session,
};
use crate::memory_log::MemoryLog;

/// Rows of the Delta table alone, as another program counts them.
async fn committed_rows(path: &Path) -> usize {
    let url = deltalake::ensure_table_uri(path.to_str().unwrap()).unwrap();
    let table = deltalake::open_table(url).await.unwrap();
    let session = datafusion::prelude::SessionContext::new();
    session.register_table("logs", table.table_provider().await.unwrap()).unwrap();
    number(&session, "SELECT count(DISTINCT event_id) FROM logs").await as usize
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_visible_before_and_after_its_commit() {
    let (directory, log) = (TempDir::new().unwrap(), log());
    let table = open(&directory, quiet(), &log).await;
    let session = session(&table);
    append(&log, 0, 100, DAY_START_MICROS).await;
    assert_eq!(count(&session).await, 100);
    assert_eq!(table.version(), 0);
    table.flush().await.unwrap();
    assert_eq!(table.version(), 1);
    assert_eq!(count(&session).await, 100);
    append(&log, 100, 50, DAY_START_MICROS).await;
    assert_eq!(count(&session).await, 150);
    assert_eq!(committed_rows(table.path()).await, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_never_see_a_gap_or_an_overlap_while_rows_move_into_the_table() {
    let (directory, log) = (TempDir::new().unwrap(), log());
    let config = LakeConfig { flush_interval_ms: 5, flush_rows: 700, ..quiet() };
    let table = open(&directory, config, &log).await;
    let writer = tokio::spawn({
        let log = Arc::clone(&log);
        async move {
            for batch in 0..300 {
                append(&log, batch * 50, 50, DAY_START_MICROS + batch as i64 * DAY_MICROS / 100)
                    .await;
                log.drop_committed();
                sleep(Duration::from_millis(5)).await;
            }
        }
    });
    let session = session(&table);
    let mut queries = 0;
    while !writer.is_finished() {
        let acknowledged = log.end() as i64;
        let seen = count(&session).await;
        let appended = log.end() as i64;
        assert!((acknowledged..=appended).contains(&seen), "{acknowledged} {seen} {appended}");
        queries += 1;
    }
    assert_eq!(count(&session).await, 15_000);
    assert!(queries > 3 && table.version() > 3, "{queries} queries, version {}", table.version());
}

#[test]
fn a_crash_at_any_moment_neither_loses_nor_repeats_a_row() {
    let (directory, log) = (TempDir::new().unwrap(), log());
    let config = LakeConfig { flush_interval_ms: 1, ..quiet() };
    let mut appended = 0;
    for crash in 0..40_u64 {
        let runtime = Runtime::new().unwrap();
        runtime.block_on(async {
            let table = open(&directory, config.clone(), &log).await;
            append(&log, appended, 50, DAY_START_MICROS + crash as i64 * DAY_MICROS / 10).await;
            appended += 50;
            sleep(Duration::from_micros(crash * 700)).await;
            std::mem::forget(table); // nothing is shut down
        });
        // Tasks are dropped at whatever await they are in; calls to the disk under way go on,
        // and may well end after the next process has started.
        runtime.shutdown_background();
    }
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let table = open(&directory, config, &log).await;
        let session = session(&table);
        assert_eq!(count(&session).await, appended as i64);
        table.flush().await.unwrap();
        assert_eq!(count(&session).await, appended as i64);
        assert_eq!(committed_rows(table.path()).await, appended as usize);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_commits_what_is_buffered_and_a_new_process_goes_on_from_there() {
    let (directory, log) = (TempDir::new().unwrap(), log());
    let table = open(&directory, quiet(), &log).await;
    append(&log, 0, 100, DAY_START_MICROS).await;
    table.flush().await.unwrap();
    append(&log, 100, 100, DAY_START_MICROS).await;
    sleep(Duration::from_millis(200)).await;
    table.shutdown().await;
    assert_eq!(committed_rows(table.path()).await, 200);
    assert!(matches!(table.flush().await, Ok(()) | Err(LakeError::Stopped(_))));
    drop(table);
    log.drop_committed();
    let table = open(&directory, quiet(), &log).await;
    append(&log, 200, 100, DAY_START_MICROS).await;
    assert_eq!(count(&session(&table)).await, 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_keeps_what_a_running_query_has_still_to_read() {
    let (directory, log) = (TempDir::new().unwrap(), log());
    let config = LakeConfig { tail_bytes: 0, ..quiet() };
    let table = open(&directory, config, &log).await;
    for batch in 0..30 {
        append(&log, batch * 100, 100, DAY_START_MICROS).await;
    }
    let plan = session(&table).sql("SELECT event_id FROM logs").await.unwrap();
    let mut stream = plan.execute_stream().await.unwrap();
    let mut seen = stream.next().await.unwrap().unwrap().num_rows();
    table.flush().await.unwrap();
    log.drop_committed();
    while let Some(batch) = stream.next().await {
        seen += batch.unwrap().num_rows();
    }
    assert_eq!(seen, 3_000);
    drop(stream);
    table.maintain(0).await.unwrap();
    log.drop_committed();
    let kept = log.offsets(TopicPartition::new(topic::LOGS_ROUTINE, 1)).unwrap();
    assert_eq!(kept.start, kept.end);
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_get_rows_appended_after_they_came() {
    let (directory, log) = (TempDir::new().unwrap(), log());
    let table = open(&directory, quiet(), &log).await;
    append(&log, 0, 10, DAY_START_MICROS).await;
    let mut rows = table.follow().unwrap();
    append(&log, 10, 10, DAY_START_MICROS).await;
    let batch = timeout(Duration::from_secs(5), rows.next()).await.unwrap().unwrap().unwrap();
    assert_eq!((batch.num_rows(), batch.schema()), (10, TableSpec::logs().table_schema()));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_do_not_fit_are_passed_over_and_others_are_cast() {
    let (directory, log) = (TempDir::new().unwrap(), log());
    let table = open(&directory, quiet(), &log).await;
    let place = TopicPartition::new(topic::LOGS_CRITICAL, 0);
    let schema = Arc::new(Schema::new(vec![Field::new("pid", DataType::Int32, false)]));
    let unfit = RecordBatch::try_new(schema, vec![Arc::new(Int32Array::from(vec![1]))]).unwrap();
    log.append(place.clone(), unfit).await.unwrap();
    let plain = events(0, 10, DAY_START_MICROS).project(&[0, 1, 2, 3, 4, 7]).unwrap();
    log.append(place, plain).await.unwrap();
    let session = session(&table);
    assert_eq!(count(&session).await, 10);
    table.flush().await.unwrap();
    assert_eq!(count(&session).await, 10);
    assert_eq!(number(&session, "SELECT count(level) FROM logs").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_lost_its_past_is_refused() {
    let directory = TempDir::new().unwrap();
    let full = log();
    let table = open(&directory, quiet(), &full).await;
    append(&full, 0, 10, DAY_START_MICROS).await;
    table.flush().await.unwrap();
    table.shutdown().await;
    let fresh = MemoryLog::new(&[(topic::LOGS_CRITICAL, 1), (topic::LOGS_ROUTINE, 2)]);
    let spec = TableSpec::logs();
    let opened =
        thalweg_lake::LakeTable::open(directory.path(), spec, quiet(), fresh as Arc<dyn Log>).await;
    assert!(matches!(opened, Err(LakeError::LogBehindTable { covered: 10, end: 0, .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_survive_the_round_trip_unchanged() {
    let (directory, log) = (TempDir::new().unwrap(), log());
    let table = open(&directory, quiet(), &log).await;
    append(&log, 0, 500, DAY_START_MICROS - 250_000).await;
    let session = session(&table);
    let sql = "SELECT * FROM logs ORDER BY event_id";
    let from_tail =
        arrow::compute::concat_batches(&table_schema(), &rows(&session, sql).await).unwrap();
    table.flush().await.unwrap();
    let from_files =
        arrow::compute::concat_batches(&table_schema(), &rows(&session, sql).await).unwrap();
    assert_eq!(from_files, from_tail);
    assert_eq!(number(&session, "SELECT count(DISTINCT date) FROM logs").await, 2);
}

fn table_schema() -> arrow::datatypes::SchemaRef {
    TableSpec::logs().table_schema()
}
