//! The latest entries of a partition, in memory.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use crate::types::{Entry, Offset};

/// Memory that the tail caches of all partitions share.
pub(crate) struct CacheBudget {
    limit_bytes: usize,
    used_bytes: AtomicUsize,
}

/// Entries up to the durable end without a gap, bounded by their memory.
///
/// Holds what some consumer group has still to read, so that groups and readers who keep up never
/// wait for the disk, and lets go of it when they have.
pub(crate) struct TailCache {
    entries: VecDeque<(Entry, usize)>,
    budget: Arc<CacheBudget>,
}

impl CacheBudget {
    pub(crate) fn new(limit_bytes: usize) -> Arc<Self> {
        metrics::gauge!("thalweg_log_cache_limit_bytes").set(limit_bytes as f64);
        Arc::new(Self { limit_bytes, used_bytes: AtomicUsize::new(0) })
    }

    fn take(&self, bytes: usize) {
        let used = self.used_bytes.fetch_add(bytes, Relaxed) + bytes;
        metrics::gauge!("thalweg_log_cache_bytes").set(used as f64);
    }

    fn give_back(&self, bytes: usize) {
        let used = self.used_bytes.fetch_sub(bytes, Relaxed) - bytes;
        metrics::gauge!("thalweg_log_cache_bytes").set(used as f64);
    }

    fn is_exceeded(&self) -> bool {
        self.used_bytes.load(Relaxed) > self.limit_bytes
    }
}

impl TailCache {
    pub(crate) fn new(budget: Arc<CacheBudget>) -> Self {
        Self { entries: VecDeque::new(), budget }
    }

    /// Adds the entry at the end, which keeps `bytes` alive; the oldest make room for it.
    pub(crate) fn push(&mut self, entry: Entry, bytes: usize) {
        self.budget.take(bytes);
        self.entries.push_back((entry, bytes));
        while self.budget.is_exceeded() && self.drop_oldest() {}
    }

    /// Lets go of entries before `offset`, which every consumer group has read.
    pub(crate) fn release(&mut self, offset: Offset) {
        while self.entries.front().is_some_and(|(oldest, _)| oldest.next_offset <= offset) {
            self.drop_oldest();
        }
    }

    /// Entries from the first that ends after `from`, at least one and up to about `max_bytes`;
    /// `None` if the cache does not reach back that far.
    pub(crate) fn read(&self, from: Offset, max_bytes: usize) -> Option<Vec<Entry>> {
        if self.entries.front().is_none_or(|(oldest, _)| oldest.offset > from) {
            return None;
        }
        let first = self.entries.partition_point(|(entry, _)| entry.next_offset <= from);
        let mut room = max_bytes;
        let mut found = vec![];
        for (entry, bytes) in self.entries.range(first..) {
            if *bytes > room && !found.is_empty() {
                break;
            }
            room = room.saturating_sub(*bytes);
            found.push(entry.clone());
        }
        Some(found)
    }

    fn drop_oldest(&mut self) -> bool {
        let Some((_, bytes)) = self.entries.pop_front() else { return false };
        self.budget.give_back(bytes);
        true
    }
}

impl Drop for TailCache {
    fn drop(&mut self) {
        while self.drop_oldest() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch};

    fn entry(offset: Offset) -> Entry {
        let values = Arc::new(Int64Array::from_iter_values(0..100)) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("v", values)]).unwrap();
        Entry { offset, next_offset: offset + 100, append_unix_millis: 0, batch }
    }

    fn offsets(entries: Option<Vec<Entry>>) -> Option<Vec<Offset>> {
        entries.map(|entries| entries.iter().map(|entry| entry.offset).collect())
    }

    #[test]
    fn oldest_entries_make_room_and_are_no_longer_answered() {
        let mut cache = TailCache::new(CacheBudget::new(30));
        (0..5).for_each(|i| cache.push(entry(i * 100), 10));
        assert_eq!(offsets(cache.read(100, usize::MAX)), None);
        assert_eq!(offsets(cache.read(250, usize::MAX)), Some(vec![200, 300, 400]));
        assert_eq!(offsets(cache.read(300, 19)), Some(vec![300]));
        assert_eq!(offsets(cache.read(300, 0)), Some(vec![300]));
    }

    #[test]
    fn an_entry_beyond_the_limit_empties_the_cache() {
        let mut cache = TailCache::new(CacheBudget::new(10));
        cache.push(entry(0), 11);
        assert_eq!(offsets(cache.read(0, usize::MAX)), None);
        assert_eq!(cache.budget.used_bytes.load(Relaxed), 0);
    }

    #[test]
    fn what_every_group_has_read_is_let_go() {
        let budget = CacheBudget::new(100);
        let mut cache = TailCache::new(Arc::clone(&budget));
        (0..5).for_each(|i| cache.push(entry(i * 100), 10));
        cache.release(250);
        assert_eq!(offsets(cache.read(200, usize::MAX)), Some(vec![200, 300, 400]));
        assert_eq!(budget.used_bytes.load(Relaxed), 30);
        drop(cache);
        assert_eq!(budget.used_bytes.load(Relaxed), 0);
    }

    #[test]
    fn partitions_share_one_budget() {
        let budget = CacheBudget::new(30);
        let [mut busy, mut idle] = [(); 2].map(|()| TailCache::new(Arc::clone(&budget)));
        idle.push(entry(0), 10);
        (0..5).for_each(|i| busy.push(entry(i * 100), 10));
        assert_eq!(offsets(busy.read(300, usize::MAX)), Some(vec![300, 400]));
        assert_eq!(offsets(idle.read(0, usize::MAX)), Some(vec![0]));
    }
}
