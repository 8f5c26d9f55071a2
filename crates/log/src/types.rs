//! What the log's users see: offsets, places and entries.

use std::sync::Arc;

use arrow::array::RecordBatch;

/// Position of a row in a partition; grows by one per row in the embedded log. With a broker
/// it grows by one per message, so only order may be relied on.
pub type Offset = u64;

/// One partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition number, from 0.
    pub partition: u32,
}

/// Retained offsets of a partition: `start..end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetRange {
    /// First retained offset.
    pub start: Offset,
    /// Offset after the last durable row.
    pub end: Offset,
}

/// Where an append landed. One that is durable elsewhere and has yet to reach its partition is
/// told as an empty range at the partition's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first row.
    pub offset: Offset,
    /// Offset after its last row.
    pub next_offset: Offset,
}

/// A durable record batch, occupying the offsets `offset..next_offset`.
///
/// An entry of a single offset is one message of any number of rows. In any other, row `i` stands
/// at `offset + i`, and offsets behind the last row hold nothing.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Offset of the first row.
    pub offset: Offset,
    /// Offset after the last row: where to go on reading.
    pub next_offset: Offset,
    /// When the entry was appended, milliseconds since the Unix epoch.
    pub append_unix_millis: i64,
    /// The rows.
    pub batch: RecordBatch,
}

impl TopicPartition {
    /// Partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: u32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

impl Entry {
    /// The rows before `end` (zero-copy), as an entry that ends there, or at its own end if that
    /// comes first. `end` lies behind the entry's first offset.
    #[must_use]
    pub fn before(mut self, end: Offset) -> Self {
        if end < self.next_offset && self.next_offset - self.offset > 1 {
            let kept = end.saturating_sub(self.offset).min(self.batch.num_rows() as u64) as usize;
            (self.batch, self.next_offset) = (self.batch.slice(0, kept), end);
        }
        self
    }

    /// The rows at and after `from` (zero-copy), or all of them when the entry begins later.
    pub fn after(&self, from: Offset) -> RecordBatch {
        let skip = from.saturating_sub(self.offset).min(self.batch.num_rows() as u64) as usize;
        self.batch.slice(skip, self.batch.num_rows() - skip)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray as _, Int64Array};
    use arrow::datatypes::Int64Type;

    use super::*;

    fn entry(offset: Offset, next_offset: Offset, values: std::ops::Range<i64>) -> Entry {
        let values = Arc::new(Int64Array::from_iter_values(values)) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("v", values)]).unwrap();
        Entry { offset, next_offset, append_unix_millis: 0, batch }
    }

    fn values(batch: &RecordBatch) -> Vec<i64> {
        batch.column(0).as_primitive::<Int64Type>().values().to_vec()
    }

    #[test]
    fn an_entry_is_cut_between_its_rows() {
        let cut = entry(10, 14, 0..4).before(12);
        assert_eq!((values(&cut.batch), cut.next_offset), (vec![0, 1], 12));
        assert_eq!(values(&entry(10, 14, 0..4).after(12)), [2, 3]);
        let whole = entry(10, 14, 0..4).before(20);
        assert_eq!((values(&whole.batch), whole.next_offset), (vec![0, 1, 2, 3], 14));
    }

    #[test]
    fn offsets_without_rows_cut_nothing_off() {
        let cut = entry(10, 20, 0..2).before(15);
        assert_eq!((values(&cut.batch), cut.next_offset), (vec![0, 1], 15));
        assert!(values(&entry(10, 20, 0..2).after(15)).is_empty());
    }

    #[test]
    fn a_message_of_many_rows_stays_whole() {
        let whole = entry(10, 11, 0..5).before(11);
        assert_eq!((values(&whole.batch), whole.next_offset), (vec![0, 1, 2, 3, 4], 11));
        assert_eq!(values(&entry(10, 11, 0..5).after(10)), [0, 1, 2, 3, 4]);
    }
}
