//! Compaction, retention and vacuum change files, never answers.

use std::path::{Path, PathBuf};

use futures::StreamExt;
use tempfile::TempDir;
use thalweg_lake::{DATE_COLUMN, LakeConfig};

use crate::events::{
    DAY_MICROS, DAY_START_MICROS, append, count, log, number, open, quiet, rows, session,
};

/// Well after anything the tests write.
fn now_millis() -> i64 {
    chrono::Utc::now().timestamp_millis() + 3_600_000
}

fn parquet_files(table: &Path) -> Vec<PathBuf> {
    let partitions = std::fs::read_dir(table).unwrap().map(|entry| entry.unwrap().path());
    let partitions = partitions.filter(|path| path.to_string_lossy().contains(DATE_COLUMN));
    partitions
        .flat_map(|path| std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_keeps_rows_and_vacuum_removes_what_it_left() {
    let (directory, log) = (TempDir::new().unwrap(), log());
    let config = LakeConfig { vacuum_age_secs: 0, compaction_min_files: 4, ..quiet() };
    let table = open(&directory, config, &log).await;
    for commit in 0..20 {
        let start = DAY_START_MICROS + commit as i64 * 1_000_000;
        append(&log, commit * 100, 100, start).await;
        table.flush().await.unwrap();
    }
    let session = session(&table);
    let sql = "SELECT * FROM logs ORDER BY event_id";
    let before = rows(&session, sql).await;
    let done = table.maintain(DAY_START_MICROS / 1000).await.unwrap();
    assert_eq!((done.compactions, done.files_vacuumed), (3, 0), "their files are too young");
    let schema = before[0].schema();
    let [before, after] = [before, rows(&session, sql).await]
        .map(|rows| arrow::compute::concat_batches(&schema, &rows).unwrap());
    assert_eq!(after, before);
    assert_eq!(parquet_files(table.path()).len(), 23);
    let done = table.maintain(now_millis()).await.unwrap();
    assert!(done.files_vacuumed >= 20, "{done:?}");
    let left = 23 + done.compactions - done.files_vacuumed;
    assert_eq!(parquet_files(table.path()).len(), left);
    assert_eq!(count(&session).await, 2_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn compacted_files_are_sorted() {
    let (directory, log) = (TempDir::new().unwrap(), log());
    let config = LakeConfig { vacuum_age_secs: 0, compaction_min_files: 4, ..quiet() };
    let table = open(&directory, config, &log).await;
    for commit in 0..4 {
        append(&log, commit * 100, 100, DAY_START_MICROS + commit as i64 * 10_000).await;
        table.flush().await.unwrap();
    }
    table.maintain(DAY_START_MICROS / 1000).await.unwrap();
    table.maintain(now_millis()).await.unwrap();
    let session = datafusion::prelude::SessionContext::new();
    let files = parquet_files(table.path());
    assert_eq!(files.len(), 1);
    let options = datafusion::prelude::ParquetReadOptions::default();
    session.register_parquet("file", files[0].to_str().unwrap(), options).await.unwrap();
    let unsorted = "SELECT count(*) FROM (SELECT service s, timestamp t, \
        lag(service) OVER (ORDER BY n) ps, lag(timestamp) OVER (ORDER BY n) pt \
        FROM (SELECT service, timestamp, row_number() OVER () n FROM file)) \
        WHERE ps > s OR (ps = s AND pt > t)";
    assert_eq!(number(&session, unsorted).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_drops_whole_dates() {
    let (directory, log) = (TempDir::new().unwrap(), log());
    let table = open(&directory, LakeConfig { retention_days: 2, ..quiet() }, &log).await;
    for day in 0..5 {
        append(&log, day * 100, 100, DAY_START_MICROS + day as i64 * DAY_MICROS).await;
    }
    table.flush().await.unwrap();
    let last_day_millis = (DAY_START_MICROS + 4 * DAY_MICROS) / 1000;
    let done = table.maintain(last_day_millis).await.unwrap();
    assert_eq!(done.files_expired, 2);
    let session = session(&table);
    assert_eq!(count(&session).await, 300);
    let oldest = "SELECT count(*) FROM logs WHERE date < DATE '2026-11-26'";
    assert_eq!(number(&session, oldest).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn vacuum_leaves_files_a_query_reads() {
    let (directory, log) = (TempDir::new().unwrap(), log());
    let config = LakeConfig { vacuum_age_secs: 0, retention_days: 1, ..quiet() };
    let table = open(&directory, config, &log).await;
    append(&log, 0, 20_000, DAY_START_MICROS).await;
    table.flush().await.unwrap();
    let query = session(&table).sql("SELECT message FROM logs").await.unwrap();
    let mut stream = query.execute_stream().await.unwrap();
    let done = table.maintain(now_millis() + 10 * DAY_MICROS / 1000).await.unwrap();
    assert_eq!((done.files_expired, done.files_vacuumed), (1, 0));
    let mut seen = 0;
    while let Some(batch) = stream.next().await {
        seen += batch.unwrap().num_rows();
    }
    assert_eq!(seen, 20_000);
    drop(stream);
    let done = table.maintain(now_millis() + 10 * DAY_MICROS / 1000).await.unwrap();
    assert_eq!(done.files_vacuumed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_opened_from_its_checkpoint() {
    let (directory, log) = (TempDir::new().unwrap(), log());
    let config = LakeConfig { delta_log_hours: 0, checkpoint_commits: 3, ..quiet() };
    let table = open(&directory, config.clone(), &log).await;
    for commit in 0..5 {
        append(&log, commit * 100, 100, DAY_START_MICROS).await;
        table.flush().await.unwrap();
    }
    table.maintain(now_millis()).await.unwrap();
    table.shutdown().await;
    let commits = std::fs::read_dir(table.path().join("_delta_log")).unwrap();
    let commits =
        commits.filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|x| x == "json"));
    assert!(commits.count() <= 1);
    drop(table);
    append(&log, 500, 100, DAY_START_MICROS).await;
    let table = open(&directory, config, &log).await;
    assert_eq!(table.version(), 5);
    let session = session(&table);
    assert_eq!(count(&session).await, 600);
    let sql = "SELECT count(*) FROM logs WHERE timestamp < '2026-11-24T00:00:00.050Z'";
    assert_eq!(number(&session, sql).await, 6 * 50);
}
