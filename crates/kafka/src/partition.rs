//! What this process knows of a partition: its ends, and its latest rows.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use arrow::array::RecordBatch;
use metrics::Gauge;
use parking_lot::{Mutex, MutexGuard};
use thalweg_log::{Entry, LogError, Offset, OffsetRange, TopicPartition};
use tokio::sync::watch;

use crate::{
    codec::Codec,
    overflow::{Overflow, OverflowBudget, Packed},
    places::Places,
};

/// Memory that the latest rows of all partitions share. Once it is used up, a partition that has more
/// than its share gives up its oldest rows for newer ones, to the disk if somebody has still to read
/// them; those that had a burst before may hold as much again.
pub(crate) struct RecentBudget {
    limit_bytes: usize,
    overflow: Arc<OverflowBudget>,
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
    /// What stands before those.
    overflow: Overflow,
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
    /// Where those are who read them, or what stands before them on disk.
    places: Places,
}

/// Where to find the rows from some offset on.
#[derive(Debug)]
pub(crate) enum Found {
    /// Here they are.
    Entries(Vec<Entry>),
    /// They are on this machine's disk.
    OnDisk(Vec<Packed>),
    /// Nobody has them yet.
    AtEnd,
    /// They are in Kafka and have still to be read.
    Elsewhere,
}

impl RecentBudget {
    pub(crate) fn new(limit_bytes: usize, overflow: Arc<OverflowBudget>) -> Arc<Self> {
        metrics::gauge!("thalweg_log_cache_limit_bytes").set(limit_bytes as f64);
        Self::shown_as(metrics::gauge!("thalweg_log_cache_bytes"), limit_bytes, overflow)
    }

    /// Memory of a source, beside that of the log. Only its table reads it: nobody is behind.
    pub(crate) fn of_source(name: &str, limit_bytes: usize) -> Arc<Self> {
        let name = name.to_owned();
        let shown = metrics::gauge!("thalweg_source_cache_bytes", "source" => name);
        Self::shown_as(shown, limit_bytes, OverflowBudget::none())
    }

    fn shown_as(shown: Gauge, limit_bytes: usize, overflow: Arc<OverflowBudget>) -> Arc<Self> {
        let (used_bytes, partitions) = Default::default();
        Arc::new(Self { limit_bytes, overflow, used_bytes, partitions, shown })
    }

    fn change(&self, more: usize, less: usize) {
        self.used_bytes.fetch_add(more, Ordering::Relaxed);
        let used = self.used_bytes.fetch_sub(less, Ordering::Relaxed) - less;
        self.shown.set(used as f64);
    }

    fn is_exceeded(&self) -> bool {
        self.used_bytes.load(Ordering::Relaxed) > self.limit_bytes
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
            overflow: Overflow::new(Arc::clone(&budget.overflow)),
            budget,
            recent: Mutex::new(Recent {
                bytes: 0,
                entries: VecDeque::new(),
                from,
                places: Places::default(),
            }),
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

    /// Takes what was read next. Blocks for the disk where somebody is behind.
    pub(crate) fn push(&self, entries: Vec<Entry>) {
        let Some(end) = entries.last().map(|last| last.next_offset) else { return };
        let mut recent = self.recent.lock();
        for entry in entries {
            let bytes = batch_bytes(&entry.batch);
            self.budget.change(bytes, 0);
            recent.bytes += bytes;
            recent.entries.push_back((entry, bytes));
        }
        let share = self.budget.share_bytes();
        while self.budget.is_exceeded() && recent.bytes > share {
            self.drop_oldest(&mut recent);
        }
        drop(recent);
        self.note_end(end);
        self.followed.send_replace(end);
    }

    fn drop_oldest(&self, recent: &mut MutexGuard<'_, Recent>) {
        let Some((oldest, bytes)) = recent.entries.front().cloned() else { return };
        match recent.places.last(Instant::now()) {
            Some(place) if place < oldest.next_offset => {
                MutexGuard::unlocked(recent, || self.overflow.push(&oldest, bytes));
            }
            _ => self.overflow.clear(),
        }
        recent.entries.pop_front();
        recent.from = oldest.next_offset;
        recent.bytes -= bytes;
        self.budget.change(0, bytes);
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
        let mut recent = self.recent.lock();
        if from < recent.from {
            let packed = self.overflow.find(from, max_bytes);
            let Some(last) = packed.last() else { return Ok(Found::Elsewhere) };
            self.note_place(&mut recent.places, from, last.next_offset());
            return Ok(Found::OnDisk(packed));
        }
        if from >= self.followed() {
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
        let Some(last) = found.last() else { return Ok(Found::Elsewhere) };
        self.note_place(&mut recent.places, from, last.next_offset);
        Ok(Found::Entries(found))
    }

    /// Notes that a reader has gone on, and gives back the disk behind the last of all.
    fn note_place(&self, places: &mut Places, from: Offset, next: Offset) {
        let now = Instant::now();
        places.note(from, next, now);
        if let Some(last) = places.last(now) {
            self.overflow.release(last);
        }
    }

    /// Notes that what was on disk could not be read.
    pub(crate) fn forget_disk(&self) {
        self.overflow.clear();
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
            RecentBudget::new(limit_bytes, OverflowBudget::new(std::env::temp_dir(), 1 << 20)),
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
            Found::OnDisk(packed) => {
                Some(packed.iter().map(|packed| packed.read().unwrap().offset).collect())
            }
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
    fn who_is_behind_reads_from_the_disk_what_memory_has_no_room_for() {
        let partition = partition(200);
        partition.push(vec![entry(100), entry(110)]);
        assert_eq!(found(&partition, 100), Some(vec![100, 110]), "a reader at 120");
        (2..9).for_each(|n| partition.push(vec![entry(100 + n * 10)]));
        assert_eq!(found(&partition, 110), None, "nobody was as far behind");
        assert_eq!(found(&partition, 125), Some(vec![120, 130, 140, 150, 160]), "on disk");
        assert_eq!(found(&partition, 170), Some(vec![170, 180]), "in memory");
        let Found::OnDisk(packed) = partition.find(130, 100).unwrap() else {
            panic!("not on disk")
        };
        assert_eq!(packed.len(), 1, "no more than was asked for");
        assert_eq!(packed[0].read().unwrap().batch, entry(130).batch);
        partition.forget_disk();
        assert_eq!(found(&partition, 140), None);
        assert_eq!(found(&partition, 170), Some(vec![170, 180]));
    }

    #[test]
    fn the_disk_is_given_back_once_nobody_is_behind() {
        let partition = partition(200);
        partition.push(vec![entry(100)]);
        assert_eq!(found(&partition, 100), Some(vec![100]));
        (1..5).for_each(|n| partition.push(vec![entry(100 + n * 10)]));
        assert_eq!(partition.overflow.from(), Some(110));
        assert_eq!(found(&partition, 110), Some(vec![110, 120]));
        assert_eq!(partition.overflow.from(), None, "at once");
        assert_eq!(found(&partition, 130), Some(vec![130, 140]));
        partition.push(vec![entry(150)]);
        assert_eq!(partition.overflow.from(), None);
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
