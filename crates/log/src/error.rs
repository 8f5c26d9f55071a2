//! Errors of the log.

use crate::types::{Offset, TopicPartition};

/// Result of a log operation.
pub type Result<T, E = LogError> = std::result::Result<T, E>;

/// What can go wrong in a log.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// The topic was not declared when the log was opened.
    #[error("topic `{0}` does not exist")]
    UnknownTopic(String),
    /// The topic has fewer partitions.
    #[error("partition {0} does not exist")]
    UnknownPartition(TopicPartition),
    /// Retention removed the offset, or it lies beyond the end.
    #[error("offset {offset} of {at} is outside the retained range {start}..{end}")]
    OffsetOutOfRange {
        /// Where.
        at: TopicPartition,
        /// What was asked for.
        offset: Offset,
        /// First retained offset.
        start: Offset,
        /// Offset after the last durable row.
        end: Offset,
    },
    /// The disk (or quota) is full; nothing of the append was kept.
    #[error("no space left for {0}; free disk space or lower retention, then retry")]
    StorageFull(TopicPartition),
    /// The log cannot take appends now.
    #[error("{at} does not accept appends: {reason}")]
    Unavailable {
        /// Where.
        at: TopicPartition,
        /// Why.
        reason: String,
    },
    /// As much waits to be stored as may wait; senders have to slow down.
    #[error("{at} has as much waiting as it may: {reason}")]
    Overloaded {
        /// Where.
        at: TopicPartition,
        /// Which limit is reached, and what to do.
        reason: String,
    },
    /// The batch cannot be stored, now or later.
    #[error("{at} cannot store the batch: {reason}")]
    Rejected {
        /// Where.
        at: TopicPartition,
        /// Why.
        reason: String,
    },
    /// The settings contradict themselves or what is on disk.
    #[error("log settings: {0}")]
    Config(String),
    /// Another process (or this one) has the log open.
    #[error("{0} is in use by another process; stop it, or choose another directory")]
    InUse(String),
    /// Bytes on disk are not what was written.
    #[error("{place}: {reason}")]
    Corrupt {
        /// File and byte position.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// The operating system refused an operation on a file.
    #[error("{place}: {reason}")]
    Io {
        /// File and operation.
        place: String,
        /// The system's message.
        reason: String,
    },
}

/// Turns what the system said about `place` (a file, an operation) into a [`LogError::Io`].
pub(crate) fn io_error(place: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> LogError {
    move |error| LogError::Io { place: place.to_string(), reason: error.to_string() }
}
