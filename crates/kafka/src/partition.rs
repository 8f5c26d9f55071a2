//! What this process knows of a partition: its ends, and its latest rows.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use arrow::array::RecordBatch;
use metrics::Gauge;
use parking_lot::Mutex;
use thalweg_log::{Entry, LogError, Offset, OffsetRange, TopicPartition};
use tokio::sync::watch;

use crate::codec::Codec;

/// Memory that the latest rows of all partitions share. Once it is used up, a partition that has more
/// than its share gives up its oldest rows for newer ones; those that had a burst before may hold as
/// much again.
pub(crate) struct RecentBudget {
    limit_bytes: usize,
    used_bytes: AtomicUsize,
    partitions: AtomicUsize,
    shown: Gauge,
}

/// A partition, as everything in this process sees it.
pub(crate) struct Partition {
    pub(crate) at: TopicPartition,
    pub(crate) codec: Codec,
    budget: Arc<RecentBudget>,
    recent: Mutex<Recent>,
    /// Offset behind the latest row that was read.
    followed: watch::Sender<Offset>,
    /// Offset behind the latest row that is known to be there; rows that were acknowledged but not
    /// read yet lie before it.
    end: AtomicU64,
    start: AtomicU64,
    /// Whether rows were acknowledged that have still to reach it.
    awaits_more: AtomicBool,
}

/// The latest entries that were read, without a gap.
struct Recent {
    bytes: usize,
    entries: VecDeque<(Entry, usize)>,
    /// Offset from which on the entries have everything.
    from: Offset,
}

/// Where to find the rows from some offset on.
#[derive(Debug)]
pub(crate) enum Found {
    /// Here they are.
    Entries(Vec<Entry>),
    /// Nobody has them yet.
    AtEnd,
    /// They are in Kafka and have still to be read.
    Elsewhere,
}

impl RecentBudget {
    pub(crate) fn new(limit_bytes: usize) -> Arc<Self> {
        metrics::gauge!("thalweg_log_cache_limit_bytes").set(limit_bytes as f64);
        Self::shown_as(metrics::gauge!("thalweg_log_cache_bytes"), limit_bytes)
    }

    /// Memory of a source, beside that of the log.
    pub(crate) fn of_source(name: &str, limit_bytes: usize) -> Arc<Self> {
        let name = name.to_owned();
        Self::shown_as(metrics::gauge!("thalweg_source_cache_bytes", "source" => name), limit_bytes)
    }

    fn shown_as(shown: Gauge, limit_bytes: usize) -> Arc<Self> {
        let (used_bytes, partitions) = Default::default();
        Arc::new(Self { limit_bytes, used_bytes, partitions, shown })
    }

    fn change(&self, more: usize, less: usize) -> usize {
        self.used_bytes.fetch_add(more, Ordering::Relaxed);
        let used = self.used_bytes.fetch_sub(less, Ordering::Relaxed) - less;
        self.shown.set(used as f64);
        used
    }

    /// What one partition may use.
    fn share_bytes(&self) -> usize {
        self.limit_bytes / self.partitions.load(Ordering::Relaxed).max(1)
    }
}

impl Partition {
    /// A partition that has the offsets `range` and is followed from `from` on.
    pub(crate) fn new(
        at: TopicPartition,
        codec: Codec,
        range: OffsetRange,
        from: Offset,
        budget: Arc<RecentBudget>,
    ) -> Arc<Self> {
        budget.partitions.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self {
            at,
            codec,
            budget,
            recent: Mutex::new(Recent { bytes: 0, entries: VecDeque::new(), from }),
            followed: watch::Sender::new(from),
            end: AtomicU64::new(range.end.max(from)),
            start: AtomicU64::new(range.start),
            awaits_more: AtomicBool::new(false),
        })
    }

    pub(crate) fn awaits_more(&self) -> bool {
        self.awaits_more.load(Ordering::Acquire)
    }

    pub(crate) fn set_awaiting_more(&self, awaits_more: bool) {
        self.awaits_more.store(awaits_more, Ordering::Release);
    }

    pub(crate) fn offsets(&self) -> OffsetRange {
        let end = self.end.load(Ordering::Acquire);
        OffsetRange { start: self.start.load(Ordering::Acquire).min(end), end }
    }

    /// Notes that everything before `end` is in Kafka.
    pub(crate) fn note_end(&self, end: Offset) {
        self.end.fetch_max(end, Ordering::AcqRel);
    }

    /// Notes that retention has removed everything before `start`.
    pub(crate) fn note_start(&self, start: Offset) {
        self.start.fetch_max(start, Ordering::AcqRel);
    }

    /// Offset behind the latest row that was read.
    pub(crate) fn followed(&self) -> Offset {
        *self.followed.borrow()
    }

    /// Tells when more was read.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Offset> {
        self.followed.subscribe()
    }

    /// Takes what was read next.
    pub(crate) fn push(&self, entries: Vec<Entry>) {
        let Some(end) = entries.last().map(|last| last.next_offset) else { return };
        let share = self.budget.share_bytes();
        let mut recent = self.recent.lock();
        for entry in entries {
            let bytes = batch_bytes(&entry.batch);
            let mut used = self.budget.change(bytes, 0);
            recent.bytes += bytes;
            recent.entries.push_back((entry, bytes));
            while used > self.budget.limit_bytes
                && recent.bytes > share
                && let Some((oldest, bytes)) = recent.entries.pop_front()
            {
                recent.from = oldest.next_offset;
                recent.bytes -= bytes;
                used = self.budget.change(0, bytes);
            }
        }
        drop(recent);
        self.note_end(end);
        self.followed.send_replace(end);
    }

    /// Rows from `from` on, at least one entry and up to about `max_bytes`.
    ///
    /// # Errors
    /// [`LogError::OffsetOutOfRange`].
    pub(crate) fn find(&self, from: Offset, max_bytes: usize) -> Result<Found, LogError> {
        let range = self.offsets();
        if from < range.start || from > range.end {
            return Err(self.out_of_range(from));
        }
        if from == range.end {
            return Ok(Found::AtEnd);
        }
        let recent = self.recent.lock();
        if from < recent.from || from >= self.followed() {
            return Ok(Found::Elsewhere);
        }
        let first = recent.entries.partition_point(|(entry, _)| entry.next_offset <= from);
        let (mut room, mut found) = (max_bytes, vec![]);
        for (entry, bytes) in recent.entries.range(first..) {
            if *bytes > room && !found.is_empty() {
                break;
            }
            room = room.saturating_sub(*bytes);
            found.push(entry.clone());
        }
        Ok(if found.is_empty() { Found::Elsewhere } else { Found::Entries(found) })
    }

    pub(crate) fn out_of_range(&self, offset: Offset) -> LogError {
        let OffsetRange { start, end } = self.offsets();
        LogError::OffsetOutOfRange { at: self.at.clone(), offset, start, end }
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        self.budget.change(0, self.recent.get_mut().bytes);
        self.budget.partitions.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Memory that the rows of `batch` take.
pub(crate) fn batch_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|c| c.to_data().get_slice_memory_size().unwrap_or(0)).sum()
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};

    use super::*;
    use crate::config::Encoding;

    fn partition(limit_bytes: usize) -> Arc<Partition> {
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1));
        let schema = RecordBatch::try_from_iter([("v", values)]).unwrap().schema();
        Partition::new(
            TopicPartition::new("t", 0),
            Codec::new(schema, Encoding::Json, 1_000_000),
            OffsetRange { start: 10, end: 100 },
            100,
            RecentBudget::new(limit_bytes),
        )
    }

    fn entry(offset: Offset) -> Entry {
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(0..10));
        let batch = RecordBatch::try_from_iter([("v", values)]).unwrap();
        Entry { offset, next_offset: offset + 10, append_unix_millis: 0, batch }
    }

    fn found(partition: &Partition, from: Offset) -> Option<Vec<Offset>> {
        match partition.find(from, usize::MAX).unwrap() {
            Found::Entries(entries) => Some(entries.iter().map(|entry| entry.offset).collect()),
            Found::AtEnd => Some(vec![]),
            Found::Elsewhere => None,
        }
    }

    #[test]
    fn the_latest_rows_are_at_hand_and_older_ones_elsewhere() {
        let partition = partition(200);
        (0..5).for_each(|n| partition.push(vec![entry(100 + n * 10)]));
        assert_eq!(found(&partition, 99), None);
        assert_eq!(found(&partition, 100), None, "two entries of 80 bytes fit 200");
        assert_eq!(found(&partition, 135), Some(vec![130, 140]));
        assert_eq!(found(&partition, 150), Some(vec![]));
        assert!(partition.find(9, 1).is_err());
        assert!(partition.find(151, 1).is_err());
    }

    #[test]
    fn rows_that_were_acknowledged_count_before_they_are_read() {
        let partition = partition(1000);
        partition.note_end(110);
        assert_eq!(partition.offsets().end, 110);
        assert_eq!(found(&partition, 100), None);
        partition.push(vec![entry(100)]);
        assert_eq!(found(&partition, 100), Some(vec![100]));
    }
}
