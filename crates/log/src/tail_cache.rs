//! The latest entries of a partition, in memory.

use std::collections::VecDeque;

use crate::types::{Entry, Offset};

/// Entries up to the durable end without a gap, bounded by their memory.
pub(crate) struct TailCache {
    entries: VecDeque<(Entry, usize)>,
    bytes: usize,
    limit_bytes: usize,
}

impl TailCache {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, limit_bytes }
    }

    /// Adds the entry at the end, which keeps `bytes` alive; the oldest make room for it.
    pub(crate) fn push(&mut self, entry: Entry, bytes: usize) {
        self.bytes += bytes;
        self.entries.push_back((entry, bytes));
        while self.bytes > self.limit_bytes
            && let Some((_, bytes)) = self.entries.pop_front()
        {
            self.bytes -= bytes;
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

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
        let mut cache = TailCache::new(30);
        (0..5).for_each(|i| cache.push(entry(i * 100), 10));
        assert_eq!(offsets(cache.read(100, usize::MAX)), None);
        assert_eq!(offsets(cache.read(250, usize::MAX)), Some(vec![200, 300, 400]));
        assert_eq!(offsets(cache.read(300, 19)), Some(vec![300]));
        assert_eq!(offsets(cache.read(300, 0)), Some(vec![300]));
    }

    #[test]
    fn an_entry_beyond_the_limit_empties_the_cache() {
        let mut cache = TailCache::new(10);
        cache.push(entry(0), 11);
        assert_eq!(offsets(cache.read(0, usize::MAX)), None);
        assert_eq!(cache.bytes, 0);
    }
}
