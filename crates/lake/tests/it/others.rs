//! Other programs change the table, and the disk refuses.

use std::fs;
use std::time::Duration;

use deltalake::DeltaTable;
use deltalake::kernel::TableFeatures;
use tempfile::TempDir;
use thalweg_lake::LakeTable;
use tokio::time::{sleep, timeout};

use crate::events::{DAY_START_MICROS, append, count, log, number, open, quiet, session};

async fn as_another_program(table: &LakeTable) -> DeltaTable {
    let url = deltalake::ensure_table_uri(table.path().to_str().unwrap()).unwrap();
    deltalake::open_table(url).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_another_program_deletes_are_gone_and_the_writer_goes_on() {
    let (directory, log) = (TempDir::new().unwrap(), log());
    let table = open(&directory, quiet(), &log).await;
    append(&log, 0, 300, DAY_START_MICROS).await;
    table.flush().await.unwrap();
    let other = as_another_program(&table).await;
    other.delete().with_predicate("service = 'auth'").await.unwrap();
    append(&log, 300, 300, DAY_START_MICROS).await;
    table.flush().await.unwrap();
    let session = session(&table);
    assert_eq!(count(&session).await, 200 + 300);
    assert_eq!(number(&session, "SELECT count(*) FROM logs WHERE service = 'auth'").await, 100);
    table.maintain(DAY_START_MICROS / 1000).await.unwrap();
    assert_eq!(count(&session).await, 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_with_features_we_do_not_write_is_read_through_deltalake() {
    let (directory, log) = (TempDir::new().unwrap(), log());
    let table = open(&directory, quiet(), &log).await;
    append(&log, 0, 300, DAY_START_MICROS).await;
    table.flush().await.unwrap();
    let other = as_another_program(&table).await;
    let feature = other.add_feature().with_feature(TableFeatures::DeletionVectors);
    feature.with_allow_protocol_versions_increase(true).await.unwrap();
    table.maintain(DAY_START_MICROS / 1000).await.unwrap();
    append(&log, 300, 300, DAY_START_MICROS).await;
    let session = session(&table);
    assert_eq!(count(&session).await, 600);
    assert_eq!(number(&session, "SELECT count(*) FROM logs WHERE service = 'auth'").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_refuses_delays_the_commit_and_loses_nothing() {
    let (directory, log) = (TempDir::new().unwrap(), log());
    let table = open(&directory, quiet(), &log).await;
    let obstacle = table.path().join("date=2026-11-24");
    fs::write(&obstacle, "not a directory").unwrap();
    append(&log, 0, 300, DAY_START_MICROS).await;
    let session = session(&table);
    assert!(timeout(Duration::from_millis(600), table.flush()).await.is_err());
    assert_eq!((table.version(), count(&session).await), (0, 300));
    append(&log, 300, 300, DAY_START_MICROS).await;
    fs::remove_file(&obstacle).unwrap();
    sleep(Duration::from_millis(10)).await;
    timeout(Duration::from_secs(20), table.flush()).await.unwrap().unwrap();
    assert_eq!(count(&session).await, 600);
}
