//! What streams held before a view began.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use futures::stream::BoxStream;
use thalweg_log::{Offset, TopicPartition};

use crate::error::Result;

/// The rows that a stream has had until now, and where its topics go on from there: nothing is in
/// both, nothing between them.
pub struct History {
    /// All rows before `cursors`, in any order; of those that are too old to be asked for, some.
    pub rows: BoxStream<'static, Result<RecordBatch>>,
    /// The offsets behind them.
    pub cursors: BTreeMap<TopicPartition, Offset>,
}

/// Where views get the history of their streams from: a seam, for streams know no tables.
#[async_trait]
pub trait Histories: Send + Sync + 'static {
    /// Opens the history of `stream`, of which `columns` are read. Rows of an event time before
    /// `since_micros` need not be among it.
    async fn open(
        &self,
        stream: &str,
        columns: &[String],
        since_micros: Option<i64>,
    ) -> Result<History>;
}
