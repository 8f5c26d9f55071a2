//! A durable, partitioned log of Arrow record batches.
//!
//! Topics are split into partitions; a partition is an ordered sequence of
//! [`Entry`]s, each a record batch at an [`Offset`]. Appends are acknowledged
//! when they are durable. [`Log`] is what a broker such as Kafka can also offer;
//! [`EmbeddedLog`] is the implementation that needs nothing installed.
//!
//! ```text
//!  append ─▶ queue ─▶ writer thread ─▶ segment file ─ fdatasync ─▶ durable end ─▶ answers
//!  append ─▶          (one per             │                          │
//!  append ─▶           partition)          ▼                          ▼
//!                                  read, offset_at ◀─ tail cache ◀─ tail
//! ```
//!
//! ```
//! use std::sync::Arc;
//! use arrow::array::{ArrayRef, Int64Array, RecordBatch};
//! use thalweg_log::{EmbeddedLog, Log, LogConfig, TopicConfig, TopicPartition};
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! # let directory = tempfile::tempdir()?;
//! let topics = vec![TopicConfig::new("logs", 4)];
//! let (log, recovery) = EmbeddedLog::open(LogConfig {
//!     directory: directory.path().into(),
//!     topics,
//!     ..LogConfig::default()
//! })?;
//! assert!(recovery.is_clean());
//!
//! let values = Arc::new(Int64Array::from_iter_values([1, 2, 3])) as ArrayRef;
//! let batch = RecordBatch::try_from_iter([("value", values)])?;
//! let at = TopicPartition::new("logs", 2);
//! log.append(at.clone(), batch.clone()).await?;
//! assert_eq!(log.read(at, 0, 1 << 20).await?[0].batch, batch);
//! # Ok::<_, Box<dyn std::error::Error>>(()) })?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! `FORMAT.md` describes the files.

mod bytes_at;
mod config;
mod embedded;
mod entry;
mod error;
mod groups;
mod index;
mod ownership;
mod packed;
mod partition;
mod progress;
mod queue;
mod recovery;
mod replace;
mod retention;
mod scan;
mod segment;
mod tail_cache;
mod topics;
mod types;
mod writer;

pub use config::{LogConfig, RetentionConfig, TopicConfig};
pub use embedded::EmbeddedLog;
pub use error::{LogError, Result};
pub use ownership::{HandOver, Owned, Ownership, lock_file};
pub use packed::{pack, unpack};
pub use progress::Progress;
pub use recovery::{Cut, Loss, RecoveryReport};
pub use replace::replace_file;
pub use topics::Topics;
pub use types::{Appended, Entry, Offset, OffsetRange, TopicPartition};

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::Schema};
use futures::{
    FutureExt, TryFutureExt,
    future::{BoxFuture, ready},
    stream::BoxStream,
};

/// A log of topics and partitions.
///
/// The seam between the embedded log and a broker: no method speaks of files.
/// Topics and their numbers of partitions are declared to the log, not through this trait.
pub trait Log: Send + Sync + 'static {
    /// Number of partitions of `topic`.
    ///
    /// # Errors
    /// [`LogError::UnknownTopic`].
    fn partitions(&self, topic: &str) -> Result<u32>;

    /// Appends `batch` and resolves once it is durable.
    ///
    /// The rows stay together and in order. Dropping the future does not take the append back.
    /// An empty batch is a barrier: it resolves when everything queued before it is durable.
    ///
    /// # Errors
    /// [`LogError::StorageFull`], [`LogError::Unavailable`] and [`LogError::Overloaded`] are worth
    /// a retry later, [`LogError::Rejected`] is not.
    fn append(&self, at: TopicPartition, batch: RecordBatch) -> BoxFuture<'_, Result<Appended>>;

    /// Resolves when everything queued before it is durable, as with an empty batch, but does not wait
    /// for what an earlier process may have left under way: a question whether appends work.
    ///
    /// # Errors
    /// As of [`Log::append`].
    fn takes_appends(&self, at: TopicPartition) -> BoxFuture<'_, Result<()>> {
        let barrier = RecordBatch::new_empty(Arc::new(Schema::empty()));
        self.append(at, barrier).map_ok(drop).boxed()
    }

    /// Durable entries from the first one that ends after `from`, up to about `max_bytes` of
    /// memory; empty at the end of the partition. The first entry may begin before `from`:
    /// [`Entry::after`] gives the rows at and after an offset.
    ///
    /// # Errors
    /// [`LogError::OffsetOutOfRange`] when `from` has been removed by retention.
    fn read(
        &self,
        at: TopicPartition,
        from: Offset,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<Vec<Entry>>>;

    /// Like [`Log::read`], but goes on for ever: waits for new entries at the end.
    fn tail(&self, at: TopicPartition, from: Offset) -> BoxStream<'static, Result<Entry>>;

    /// First retained offset and the offset after the last durable row.
    ///
    /// # Errors
    /// [`LogError::UnknownTopic`], [`LogError::UnknownPartition`].
    fn offsets(&self, at: TopicPartition) -> Result<OffsetRange>;

    /// Whether rows have been acknowledged that have still to reach the partition.
    ///
    /// # Errors
    /// [`LogError::UnknownTopic`], [`LogError::UnknownPartition`].
    fn awaits_more(&self, at: TopicPartition) -> Result<bool> {
        self.offsets(at).map(|_| false)
    }

    /// The offset after the last durable row, also of rows that another process has just appended,
    /// of which [`Log::offsets`] may not tell yet.
    fn latest_end(&self, at: TopicPartition) -> BoxFuture<'_, Result<Offset>> {
        Box::pin(ready(self.offsets(at).map(|offsets| offsets.end)))
    }

    /// Which partitions this process works on: all, unless it shares the log with others.
    fn ownership(&self) -> Ownership {
        Ownership::all()
    }

    /// Offset of the first entry appended at or after `unix_millis` (end offset if none).
    fn offset_at(&self, at: TopicPartition, unix_millis: i64) -> BoxFuture<'_, Result<Offset>>;

    /// Records durably that `group` has read everything before `offset`. Registers the group:
    /// from now on retention keeps what it has still to read.
    fn commit(&self, group: &str, at: TopicPartition, offset: Offset) -> BoxFuture<'_, Result<()>>;

    /// Offset last committed by `group`.
    fn committed(&self, group: &str, at: TopicPartition) -> Result<Option<Offset>>;
}
