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

/// Where an append landed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first row.
    pub offset: Offset,
    /// Offset after its last row.
    pub next_offset: Offset,
}

/// A durable record batch, occupying the offsets `offset..next_offset`.
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
    /// The rows at and after `from` (zero-copy), or all of them when the entry begins later.
    pub fn after(&self, from: Offset) -> RecordBatch {
        let skip = from.saturating_sub(self.offset).min(self.batch.num_rows() as u64) as usize;
        self.batch.slice(skip, self.batch.num_rows() - skip)
    }
}
