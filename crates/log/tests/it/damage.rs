//! Bytes that are not what was written: nothing wrong is ever read, and what is lost is said.

use std::{fs, path::Path};

use proptest::prelude::*;
use thalweg_log::{EmbeddedLog, Log, Offset, RecoveryReport};

use crate::rows::*;

/// A closed log of a few segments; its end.
async fn written(directory: &Path) -> Offset {
    let (log, _) = open(directory);
    let mut end = 0;
    for i in 0..24 {
        end = append(&log, 40 + i * 13 % 70, 100).await.unwrap();
    }
    end
}

/// Opens, reads everything, and checks that the log goes on behind `end`.
async fn survivors(directory: &Path, end: Offset) -> (Vec<Offset>, RecoveryReport) {
    let (log, report) = open(directory);
    let found = readable(&log).await;
    let next = log.offsets(at()).unwrap().end;
    assert!(next >= found.last().map_or(0, |last| last + 1));
    append(&log, 3, 10).await.unwrap();
    assert_eq!(readable_from(&log, next).await, (next..next + 3).collect::<Vec<_>>());
    assert!(found.iter().all(|offset| *offset < end));
    (found, report)
}

fn flip(path: &Path, at: usize, with: u8) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= with;
    fs::write(path, bytes).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn truncation_anywhere_in_the_last_segment_leaves_a_clean_prefix(
        cut in any::<prop::sample::Index>(),
        keep_indexes in any::<bool>(),
    ) {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let end = written(directory.path()).await;
            let last = files(directory.path(), "segment").pop().unwrap();
            let base: Offset = last.file_stem().unwrap().to_str().unwrap().parse().unwrap();
            let bytes = fs::read(&last).unwrap();
            let length = cut.index(bytes.len());
            fs::write(&last, &bytes[..length]).unwrap();
            if !keep_indexes {
                files(directory.path(), "index").iter().for_each(|index| fs::remove_file(index).unwrap());
            }
            let (found, report) = survivors(directory.path(), end).await;
            assert_eq!(found, all(found.len() as u64), "a prefix");
            assert!(found.len() as u64 >= base);
            if keep_indexes {
                assert_eq!(report.losses.last().unwrap().offsets.end, end, "the index knows better");
            } else {
                assert_eq!(report.losses, []);
            }
        });
    }

    #[test]
    fn a_flipped_byte_loses_at_most_the_entry_it_is_in(
        file in any::<prop::sample::Index>(),
        byte in any::<prop::sample::Index>(),
        with in 1..=255u8,
        keep_indexes in any::<bool>(),
    ) {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let end = written(directory.path()).await;
            if !keep_indexes {
                files(directory.path(), "index").iter().for_each(|index| fs::remove_file(index).unwrap());
            }
            let mut paths = files(directory.path(), "segment");
            paths.extend(files(directory.path(), "index"));
            let path = file.get(&paths);
            let length = fs::metadata(path).unwrap().len() as usize;
            flip(path, byte.index(length), with);
            let (found, report) = survivors(directory.path(), end).await;
            let lost = end - found.len() as u64;
            assert!(lost <= 110, "{lost} rows lost, no entry has more than 110; {report:?}");
            if path.extension().unwrap() == "index" {
                assert_eq!(lost, 0);
            }
            if !keep_indexes && lost > 0 {
                assert!(!report.is_clean(), "everything was scanned");
            }
        });
    }

    #[test]
    fn hostile_files_are_survived(
        garbage in prop::collection::vec(any::<u8>(), 0..2_000),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..40),
        file in any::<prop::sample::Index>(),
    ) {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let end = written(directory.path()).await;
            let mut paths = files(directory.path(), "segment");
            paths.extend(files(directory.path(), "index"));
            let path = file.get(&paths);
            let mut bytes = fs::read(path).unwrap();
            for (at, with) in flips {
                let at = at.index(bytes.len());
                bytes[at] = with;
            }
            bytes.extend(garbage);
            fs::write(path, bytes).unwrap();
            survivors(directory.path(), end).await;
        });
    }
}

#[tokio::test]
async fn damage_in_an_old_segment_does_not_hide_later_entries() {
    let directory = tempfile::tempdir().unwrap();
    let end = written(directory.path()).await;
    let segments = files(directory.path(), "segment");
    assert!(segments.len() >= 3);
    flip(&segments[0], 64 + 64 + 100, 0xff);
    let (found, report) = survivors(directory.path(), end).await;
    assert!(report.is_clean(), "an indexed segment is checked when it is read");
    assert_eq!(found, (40..end).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_whole_segment_that_is_gone_is_skipped() {
    let directory = tempfile::tempdir().unwrap();
    let end = written(directory.path()).await;
    let segments = files(directory.path(), "segment");
    fs::write(&segments[1], vec![0; 5_000]).unwrap();
    fs::remove_file(segments[1].with_extension("index")).unwrap();
    let (log, report) = open(directory.path());
    assert_eq!(report.losses.len(), 1);
    let lost = report.losses[0].offsets;
    assert!(lost.start > 0 && lost.end < end && lost.start < lost.end);
    let expected: Vec<_> =
        all(end).into_iter().filter(|o| !(lost.start..lost.end).contains(o)).collect();
    assert_eq!(readable(&log).await, expected);
    assert_eq!(log.read(at(), lost.start, 1).await.unwrap()[0].offset, lost.end);
    assert!(segments[1].with_extension("unreadable").exists(), "set aside, not deleted");
}

#[tokio::test]
async fn offsets_that_a_group_has_read_are_not_given_out_again() {
    let directory = tempfile::tempdir().unwrap();
    let (log, _): (EmbeddedLog, _) = open(directory.path());
    let end = append(&log, 100, 10).await.unwrap();
    log.commit("lake", at(), end).await.unwrap();
    let copy = crash_copy(directory.path());
    let only = files(copy.path(), "segment").pop().unwrap();
    fs::OpenOptions::new().write(true).open(only).unwrap().set_len(64).unwrap();
    let (log, report) = open(copy.path());
    assert_eq!(report.losses.len(), 1);
    assert_eq!(log.offsets(at()).unwrap().end, end);
    assert_eq!(append(&log, 1, 1).await.unwrap(), end + 1);
    assert_eq!(readable_from(&log, 0).await, [end]);
}
