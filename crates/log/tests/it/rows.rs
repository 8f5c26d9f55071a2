//! Rows that know their offset, so that a log of them can be checked without a second copy.

use std::{path::Path, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, DictionaryArray, Int64Array, RecordBatch, StringArray},
    datatypes::{Int32Type, Int64Type},
};
use thalweg_log::{
    EmbeddedLog, Entry, Log, LogConfig, Offset, RecoveryReport, Result, TopicConfig, TopicPartition,
};

pub(crate) const TOPIC: &str = "logs";

/// The only partition most tests need.
pub(crate) fn at() -> TopicPartition {
    TopicPartition::new(TOPIC, 0)
}

/// Small segments, so that little data has many, and no retention unless asked for.
pub(crate) fn config(directory: &Path) -> LogConfig {
    LogConfig {
        directory: directory.to_owned(),
        topics: vec![TopicConfig::new(TOPIC, 1)],
        segment_bytes: 64 << 10,
        tail_cache_bytes: 16 << 10,
        retention_interval_secs: 3_600,
        ..LogConfig::default()
    }
}

pub(crate) fn open(directory: &Path) -> (EmbeddedLog, RecoveryReport) {
    EmbeddedLog::open(config(directory)).unwrap()
}

/// `count` rows for the offsets from `first` on, each of about `text_bytes` that do not compress.
pub(crate) fn batch(first: Offset, count: usize, text_bytes: usize) -> RecordBatch {
    let mut random = fastrand::Rng::with_seed(first);
    let offsets = (first..).take(count).map(|offset| offset as i64);
    let text = (0..count).map(|_| {
        std::iter::repeat_with(|| random.alphanumeric()).take(text_bytes).collect::<String>()
    });
    let service = (0..count).map(|i| if i % 2 == 0 { "checkout" } else { "search" });
    RecordBatch::try_from_iter([
        ("offset", Arc::new(Int64Array::from_iter_values(offsets)) as ArrayRef),
        ("text", Arc::new(StringArray::from_iter_values(text))),
        ("service", Arc::new(service.collect::<DictionaryArray<Int32Type>>())),
    ])
    .unwrap()
}

/// Appends rows that know the offset they will have, which must be the end of the log.
pub(crate) async fn append(log: &EmbeddedLog, count: usize, text_bytes: usize) -> Result<Offset> {
    let end = log.offsets(at())?.end;
    let appended = log.append(at(), batch(end, count, text_bytes)).await?;
    assert_eq!(appended.offset, end);
    assert_eq!(appended.next_offset, end + count as u64);
    Ok(appended.next_offset)
}

/// Offsets of all rows that can be read from `from` on; checks that each row stands at the offset
/// it was appended at, that they ascend, and that their other columns are what was appended.
pub(crate) async fn readable_from(log: &EmbeddedLog, from: Offset) -> Vec<Offset> {
    let mut found = vec![];
    let mut next = from;
    loop {
        let entries = log.read(at(), next, 10 << 10).await.unwrap();
        let Some(last) = entries.last() else { return found };
        assert!(last.next_offset > next);
        next = last.next_offset;
        for entry in entries {
            found.extend(offsets_of(&entry).into_iter().filter(|offset| *offset >= from));
        }
        assert!(found.is_sorted_by(|one, other| one < other));
    }
}

/// The offsets that the rows of `entry` know; they must be those of the entry.
pub(crate) fn offsets_of(entry: &Entry) -> Vec<Offset> {
    let known: Vec<_> = entry.batch["offset"]
        .as_primitive::<Int64Type>()
        .values()
        .iter()
        .map(|v| *v as u64)
        .collect();
    assert_eq!(known, (entry.offset..entry.next_offset).collect::<Vec<_>>());
    let services = entry.batch["service"].as_dictionary::<Int32Type>();
    let names = services.downcast_dict::<StringArray>().unwrap();
    assert!(names.into_iter().all(|name| matches!(name, Some("checkout" | "search"))));
    known
}

pub(crate) async fn readable(log: &EmbeddedLog) -> Vec<Offset> {
    readable_from(log, log.offsets(at()).unwrap().start).await
}

/// The offsets `0..end`, as a log that lost nothing has them.
pub(crate) fn all(end: Offset) -> Vec<Offset> {
    (0..end).collect()
}

/// Files of the partition with `extension`, oldest first.
pub(crate) fn files(directory: &Path, extension: &str) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(directory.join(TOPIC).join("0"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect();
    files.sort();
    files
}

/// The log's files as they are now, as after a `kill -9`.
pub(crate) fn crash_copy(directory: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let partition = copy.path().join(TOPIC).join("0");
    std::fs::create_dir_all(&partition).unwrap();
    for extension in ["segment", "index"] {
        for file in files(directory, extension) {
            std::fs::copy(&file, partition.join(file.file_name().unwrap())).unwrap();
        }
    }
    let groups = directory.join("groups.json");
    if groups.exists() {
        std::fs::copy(groups, copy.path().join("groups.json")).unwrap();
    }
    copy
}
