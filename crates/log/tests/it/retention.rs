//! Removing old segments, and not removing what is still to be read.

use std::{path::Path, time::Duration};

use thalweg_log::{EmbeddedLog, Log, LogError, RetentionConfig};
use tokio::time::sleep;

use crate::rows::*;

const HOUR_MILLIS: i64 = 3_600_000;

fn open_with(directory: &Path, retention: RetentionConfig) -> EmbeddedLog {
    let config = thalweg_log::LogConfig { retention, ..config(directory) };
    EmbeddedLog::open(config).unwrap().0
}

async fn fill(log: &EmbeddedLog) -> i64 {
    for _ in 0..60 {
        append(log, 300, 20).await.unwrap();
    }
    log.read(at(), 17_999, 1).await.unwrap()[0].append_unix_millis
}

fn start(log: &EmbeddedLog) -> u64 {
    log.offsets(at()).unwrap().start
}

#[tokio::test]
async fn old_segments_go_and_young_ones_stay() {
    let directory = tempfile::tempdir().unwrap();
    let log =
        open_with(directory.path(), RetentionConfig { age_secs: 3_600, ..Default::default() });
    let last = fill(&log).await;
    log.apply_retention(last + HOUR_MILLIS - 60_000);
    assert_eq!(start(&log), 0);
    log.apply_retention(last + HOUR_MILLIS + 1);
    let kept = start(&log);
    assert!(kept > 0);
    assert_eq!(readable(&log).await, (kept..18_000).collect::<Vec<_>>());
    assert!(matches!(
        log.read(at(), kept - 1, 1).await,
        Err(LogError::OffsetOutOfRange { start, .. }) if start == kept
    ));
    // The idle last segment is closed, and then old enough as well.
    for _ in 0..500 {
        log.apply_retention(last + HOUR_MILLIS + 1);
        if start(&log) == 18_000 {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(start(&log), 18_000);
    assert_eq!(files(directory.path(), "segment").len(), 1);
    assert_eq!(append(&log, 10, 1).await.unwrap(), 18_010);
}

#[tokio::test]
async fn the_size_is_kept_below_the_limit_once_groups_have_read_and_rested() {
    let directory = tempfile::tempdir().unwrap();
    let retention =
        RetentionConfig { partition_bytes: 200 << 10, grace_secs: 600, ..Default::default() };
    let log = open_with(directory.path(), retention);
    log.commit("lake", at(), 0).await.unwrap();
    let now = fill(&log).await;
    log.apply_retention(now + HOUR_MILLIS);
    assert_eq!(start(&log), 0, "nothing has been read");
    log.commit("lake", at(), 9_000).await.unwrap();
    log.apply_retention(now + HOUR_MILLIS);
    assert_eq!(start(&log), 0, "queries may still be reading");
    log.apply_retention(now + HOUR_MILLIS + 599_000);
    assert_eq!(start(&log), 0);
    log.apply_retention(now + HOUR_MILLIS + 600_000);
    let kept = start(&log);
    assert!(kept > 0 && kept <= 9_000, "{kept}");
    assert_eq!(readable_from(&log, 9_000).await, (9_000..18_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn only_the_hard_limit_takes_what_a_group_has_still_to_read() {
    let directory = tempfile::tempdir().unwrap();
    let retention = RetentionConfig {
        partition_bytes: 100 << 10,
        partition_hard_limit_bytes: 300 << 10,
        ..Default::default()
    };
    let log = open_with(directory.path(), retention);
    log.commit("slow", at(), 0).await.unwrap();
    let now = fill(&log).await;
    log.apply_retention(now);
    assert!(start(&log) > 0);
    let bytes: u64 =
        files(directory.path(), "segment").iter().map(|f| f.metadata().unwrap().len()).sum();
    assert!(bytes <= 300 << 10 && bytes > 200 << 10, "{bytes}");
}

#[tokio::test]
async fn a_forgotten_group_holds_nothing_back() {
    let directory = tempfile::tempdir().unwrap();
    let log = open_with(directory.path(), RetentionConfig { age_secs: 1, ..Default::default() });
    log.commit("gone", at(), 0).await.unwrap();
    let now = fill(&log).await;
    log.apply_retention(now + HOUR_MILLIS);
    assert_eq!(start(&log), 0);
    log.forget_group("gone").unwrap();
    log.apply_retention(now + HOUR_MILLIS);
    assert!(start(&log) > 0);
}
