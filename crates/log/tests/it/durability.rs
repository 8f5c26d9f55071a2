//! What was acknowledged is there, whatever happens.

use std::{collections::BTreeSet, fs, io::Write};

use futures::future::join_all;
use proptest::prelude::*;
use thalweg_log::{EmbeddedLog, Log, LogError};

use crate::rows::*;

/// Something that happens to a log.
#[derive(Clone, Debug)]
enum Event {
    Append {
        count: usize,
        text_bytes: usize,
    },
    Restart,
    /// `kill -9`, with a torn write behind the last acknowledged byte.
    Crash {
        torn: Torn,
    },
    /// All index files are gone.
    LoseIndexes,
}

#[derive(Clone, Debug)]
enum Torn {
    Nothing,
    Garbage(Vec<u8>),
    /// The first bytes of a group of entries, of which one byte did not reach the disk.
    Entries {
        keep: prop::sample::Index,
        hole: Option<prop::sample::Index>,
    },
}

fn event() -> impl Strategy<Value = Event> {
    let torn = prop_oneof![
        Just(Torn::Nothing),
        prop::collection::vec(any::<u8>(), 1..300).prop_map(Torn::Garbage),
        any::<(prop::sample::Index, Option<prop::sample::Index>)>()
            .prop_map(|(keep, hole)| Torn::Entries { keep, hole }),
    ];
    prop_oneof![
        8 => (1..400usize, 0..300usize)
            .prop_map(|(count, text_bytes)| Event::Append { count, text_bytes }),
        1 => Just(Event::Restart),
        2 => torn.prop_map(|torn| Event::Crash { torn }),
        1 => Just(Event::LoseIndexes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_history_keeps_all_that_was_acknowledged(events in prop::collection::vec(event(), 1..40)) {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let mut directory = tempfile::tempdir().unwrap();
            let (mut log, _) = open(directory.path());
            let mut acknowledged = 0;
            for event in events {
                match event {
                    Event::Append { count, text_bytes } => {
                        acknowledged = append(&log, count, text_bytes).await.unwrap();
                    }
                    Event::Restart => {
                        drop(log);
                        let (again, report) = open(directory.path());
                        log = again;
                        assert!(report.is_clean(), "{report:?}");
                        assert_eq!(report.scanned_bytes, 0);
                    }
                    Event::Crash { torn } => {
                        let copy = crash_copy(directory.path());
                        let written = tear(&torn, &log, directory.path(), copy.path()).await;
                        drop(log);
                        directory = copy;
                        let (again, report) = open(directory.path());
                        log = again;
                        assert_eq!(report.losses, []);
                        let kept = log.offsets(at()).unwrap().end;
                        let cut: u64 = report.cuts.iter().map(|cut| cut.bytes).sum();
                        // Whole entries of the torn write may stay; every other byte is accounted for.
                        assert!(kept >= acknowledged);
                        assert!(cut <= written);
                        assert!(kept > acknowledged || cut == written);
                        acknowledged = kept;
                    }
                    Event::LoseIndexes => {
                        drop(log);
                        for index in files(directory.path(), "index") {
                            fs::remove_file(index).unwrap();
                        }
                        let (again, report) = open(directory.path());
                        log = again;
                        assert!(report.is_clean(), "{report:?}");
                    }
                }
                assert_eq!(readable(&log).await, all(acknowledged));
            }
        });
    }
}

/// Writes an unacknowledged tail into the last segment of `copy`; says how many bytes.
async fn tear(
    torn: &Torn,
    log: &EmbeddedLog,
    original: &std::path::Path,
    copy: &std::path::Path,
) -> u64 {
    let bytes = match torn {
        Torn::Nothing => vec![],
        Torn::Garbage(bytes) => bytes.clone(),
        Torn::Entries { keep, hole } => {
            let last = |directory| files(directory, "segment").pop().unwrap();
            let durable = fs::metadata(last(copy)).unwrap().len() as usize;
            append(log, 20, 10).await.unwrap();
            let file = fs::read(last(original)).unwrap();
            if last(original).file_name() != last(copy).file_name() {
                return 0;
            }
            let mut tail = file[durable..].to_vec();
            tail.truncate(keep.index(tail.len()) + 1);
            if let Some(hole) = hole {
                let hole = hole.index(tail.len());
                tail[hole] ^= 0xff;
            }
            tail
        }
    };
    let last = files(copy, "segment").pop().unwrap();
    fs::OpenOptions::new().append(true).open(last).unwrap().write_all(&bytes).unwrap();
    bytes.len() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_senders_share_an_fsync() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(directory.path());
    config.segment_bytes = 64 << 20;
    let (log, _) = EmbeddedLog::open(config).unwrap();
    let appends = 2_000;
    let sent = (0..appends).map(|i| log.append(at(), batch(i, 1, 10)));
    let appended: BTreeSet<_> =
        join_all(sent).await.into_iter().map(|a| a.unwrap().offset).collect();
    assert_eq!(appended, (0..appends).collect());
    drop(log);
    // As `FORMAT.md` has it: one fsync per distinct group offset.
    let file = fs::read(files(directory.path(), "segment").pop().unwrap()).unwrap();
    let mut groups = BTreeSet::new();
    let mut position = 64;
    while position < file.len() {
        let header = &file[position..position + 64];
        groups.insert(u64::from_le_bytes(header[24..32].try_into().unwrap()));
        position += 64 + u32::from_le_bytes(header[44..48].try_into().unwrap()) as usize;
    }
    println!("{appends} appends, {} fsyncs", groups.len());
    assert!(groups.len() < appends as usize / 4, "{} fsyncs for {appends} appends", groups.len());
}

#[tokio::test]
async fn an_empty_batch_waits_for_everything_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path());
    let (appended, barrier) =
        futures::join!(log.append(at(), batch(0, 5, 10)), log.append(at(), batch(0, 0, 0)));
    assert_eq!(appended.unwrap().next_offset, 5);
    let barrier = barrier.unwrap();
    assert_eq!((barrier.offset, barrier.next_offset), (5, 5));
}

#[tokio::test]
async fn a_large_batch_becomes_several_entries_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(directory.path());
    config.segment_bytes = 256 << 20;
    config.tail_cache_bytes = 64 << 20;
    let (log, _) = EmbeddedLog::open(config).unwrap();
    append(&log, 20_000, 1_000).await.unwrap();
    let entries = log.read(at(), 0, usize::MAX).await.unwrap();
    assert!(entries.len() >= 3);
    assert_eq!(entries.iter().flat_map(offsets_of).collect::<Vec<_>>(), all(20_000));
}

#[tokio::test]
async fn two_opens_of_one_directory_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path());
    assert!(matches!(EmbeddedLog::open(config(directory.path())), Err(LogError::InUse(_))));
    drop(log);
    open(directory.path());
}

#[tokio::test]
async fn a_closed_log_refuses_appends_and_can_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _) = open(directory.path());
    append(&log, 10, 10).await.unwrap();
    log.close();
    assert!(matches!(log.append(at(), batch(10, 1, 1)).await, Err(LogError::Unavailable { .. })));
    assert_eq!(readable(&log).await, all(10));
}

#[test]
fn fewer_partitions_than_on_disk_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = config(directory.path());
    config.topics[0].partitions = 3;
    drop(EmbeddedLog::open(config.clone()).unwrap());
    config.topics[0].partitions = 2;
    let refused = EmbeddedLog::open(config).err().unwrap();
    assert!(refused.to_string().contains("has a partition 2, but 2 are declared"), "{refused}");
}
