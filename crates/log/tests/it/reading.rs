//! Reading by offset, by time, and at the end.

use std::time::Duration;

use futures::StreamExt;
use thalweg_log::{EmbeddedLog, Log, LogError, TopicPartition};
use tokio::time::{sleep, timeout};

use crate::rows::*;

#[tokio::test]
async fn reading_starts_at_the_entry_that_holds_the_offset() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path());
    for _ in 0..60 {
        append(&log, 300, 20).await.unwrap();
    }
    assert!(files(directory.path(), "segment").len() > 3);
    for from in [0, 1, 299, 300, 301, 9_000, 17_999] {
        let entries = log.read(at(), from, 1).await.unwrap();
        assert_eq!(entries.len(), 1);
        let rows = entries[0].after(from);
        assert_eq!(rows.num_rows() as u64, entries[0].next_offset - from);
        assert!(entries[0].offset <= from && from < entries[0].next_offset);
        assert_eq!(readable_from(&log, from).await, (from..18_000).collect::<Vec<_>>());
    }
    assert_eq!(log.read(at(), 18_000, 1).await.unwrap().len(), 0);
    assert!(matches!(
        log.read(at(), 18_001, 1).await,
        Err(LogError::OffsetOutOfRange { offset: 18_001, start: 0, end: 18_000, .. })
    ));
}

#[tokio::test]
async fn a_time_finds_the_first_entry_appended_at_or_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path());
    let mut times = vec![];
    for _ in 0..40 {
        let end = append(&log, 300, 10).await.unwrap();
        times.push((log.read(at(), end - 1, 1).await.unwrap()[0].append_unix_millis, end - 300));
        sleep(Duration::from_millis(2)).await;
    }
    drop(log);
    let (log, _) = open(directory.path());
    for window in times.windows(2) {
        let [(before, _), (time, offset)] = window else { unreachable!() };
        assert!(before < time);
        assert_eq!(log.offset_at(at(), *time).await.unwrap(), *offset);
        assert_eq!(log.offset_at(at(), before + 1).await.unwrap(), *offset);
    }
    assert_eq!(log.offset_at(at(), 0).await.unwrap(), 0);
    assert_eq!(log.offset_at(at(), i64::MAX).await.unwrap(), 12_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_reads_what_is_there_and_then_what_comes() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path());
    for _ in 0..30 {
        append(&log, 300, 20).await.unwrap();
    }
    let mut tail = log.tail(at(), 100);
    let mut seen = vec![];
    while seen.last() != Some(&8_999) {
        seen.extend(offsets_of(&tail.next().await.unwrap().unwrap()));
    }
    assert_eq!(seen, all(9_000));
    let nothing = timeout(Duration::from_millis(50), tail.next()).await;
    assert!(nothing.is_err());
    let (appended, woken) =
        futures::join!(append(&log, 1, 1), timeout(Duration::from_secs(5), tail.next()));
    assert_eq!(appended.unwrap(), 9_001);
    assert_eq!(woken.unwrap().unwrap().unwrap().offset, 9_000);
    log.close();
    assert!(tail.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_see_only_whole_batches_in_order_while_others_write() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path());
    let tail = log.tail(at(), 0).take_while(|entry| {
        let more = entry.as_ref().unwrap().offset < 6_000;
        std::future::ready(more)
    });
    let write = async {
        for _ in 0..61 {
            append(&log, 100, 50).await.unwrap();
        }
    };
    let read = tail.map(|entry| offsets_of(&entry.unwrap())).concat();
    let ((), seen) = futures::join!(write, read);
    assert_eq!(seen, all(6_000));
}

#[tokio::test]
async fn unknown_places_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path());
    assert!(matches!(log.partitions("nope"), Err(LogError::UnknownTopic(name)) if name == "nope"));
    let beyond = TopicPartition::new(TOPIC, 1);
    assert!(matches!(log.offsets(beyond.clone()), Err(LogError::UnknownPartition(_))));
    let refused = log.append(beyond.clone(), batch(0, 1, 1)).await.unwrap_err();
    assert_eq!(refused.to_string(), "partition logs/1 does not exist");
    assert!(log.tail(beyond, 0).next().await.unwrap().is_err());
}

#[tokio::test]
async fn committed_offsets_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path());
    append(&log, 100, 1).await.unwrap();
    assert_eq!(log.committed("lake", at()).unwrap(), None);
    log.commit("lake", at(), 40).await.unwrap();
    log.commit("stream", at(), 70).await.unwrap();
    log.commit("stream", at(), 60).await.unwrap();
    assert!(matches!(log.commit("lake", at(), 101).await, Err(LogError::OffsetOutOfRange { .. })));
    drop(log);
    let (log, _) = open(directory.path());
    assert_eq!(log.committed("lake", at()).unwrap(), Some(40));
    assert_eq!(log.committed("stream", at()).unwrap(), Some(60));
    log.forget_group("stream").unwrap();
    drop(log);
    let (log, _) = open(directory.path());
    assert_eq!(log.committed("stream", at()).unwrap(), None);
    assert_eq!(log.committed("lake", at()).unwrap(), Some(40));
}

#[tokio::test]
async fn a_damaged_file_of_groups_is_not_taken_for_an_empty_one() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path());
    append(&log, 100, 1).await.unwrap();
    log.commit("lake", at(), 40).await.unwrap();
    drop(log);
    let path = directory.path().join("groups.json");
    let file = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, file.replace("40", "41")).unwrap();
    let refused = EmbeddedLog::open(config(directory.path())).err().unwrap();
    assert!(matches!(&refused, LogError::Corrupt { .. }), "{refused}");
    assert!(refused.to_string().contains("groups.json"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_read_is_never_ahead_of_the_end_that_the_log_tells() {
    let directory = tempfile::tempdir().unwrap();
    let log = std::sync::Arc::new(open(directory.path()).0);
    let readers = (0..3).map(|_| {
        let log = log.clone();
        tokio::spawn(async move {
            let mut end = 0;
            while end < APPENDS {
                let from = end.saturating_sub(1);
                let read = log.read(at(), from, 1 << 20).await.unwrap();
                let seen = read.last().map_or(0, |last| last.next_offset);
                end = log.offsets(at()).unwrap().end;
                assert!(seen <= end, "read up to {seen}, and the log ends at {end}");
                tokio::task::yield_now().await;
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    for n in 0..APPENDS {
        log.append(at(), batch(n, 1, 1)).await.unwrap();
    }
    for reader in readers {
        reader.await.unwrap();
    }
}

/// Enough for the writer to be seen between showing entries and the end behind them.
const APPENDS: u64 = 4_000;
