//! Appends to a lane.

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::Schema};
use thalweg_log::{Appended, LogError, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::{
    client::unavailable,
    message::Outgoing,
    partition::{Partition, batch_bytes},
};

/// Memory for the appends of a partition that are under way.
const MEMORY_BYTES: usize = 64 << 20;
/// Unit in which it is counted.
const PERMIT_BYTES: usize = 1 << 10;
/// Appends of fewer rows are encoded where they are.
const FEW_ROWS: usize = 64;
/// Appends that wait for their lane.
const QUEUE: usize = 1024;

/// An append, encoded.
pub(crate) struct Request {
    pub(crate) batch: RecordBatch,
    pub(crate) messages: Vec<Outgoing>,
    pub(crate) bytes: usize,
    pub(crate) reply: oneshot::Sender<Result<Appended>>,
    /// Of the memory for appends under way.
    pub(crate) permit: OwnedSemaphorePermit,
    /// Whether nothing is to be written, not even a mark.
    pub(crate) only_asks: bool,
}

/// Where appends to a partition go.
#[derive(Clone)]
pub(crate) struct LaneHandle {
    partition: Arc<Partition>,
    requests: mpsc::Sender<Request>,
    memory: Arc<Semaphore>,
}

impl LaneHandle {
    pub(crate) fn new(partition: Arc<Partition>) -> (Self, mpsc::Receiver<Request>) {
        let (requests, received) = mpsc::channel(QUEUE);
        let memory = Arc::new(Semaphore::new(MEMORY_BYTES / PERMIT_BYTES));
        (Self { partition, requests, memory }, received)
    }

    /// Appends `batch`; resolves once it is durable.
    ///
    /// # Errors
    /// As of [`thalweg_log::Log::append`].
    pub(crate) async fn append(&self, batch: RecordBatch) -> Result<Appended> {
        self.request(batch, false).await
    }

    /// Resolves once an append would be durable.
    ///
    /// # Errors
    /// As of [`thalweg_log::Log::append`].
    pub(crate) async fn takes_appends(&self) -> Result<()> {
        let nothing = RecordBatch::new_empty(Arc::new(Schema::empty()));
        self.request(nothing, true).await.map(drop)
    }

    async fn request(&self, batch: RecordBatch, only_asks: bool) -> Result<Appended> {
        let at = &self.partition.at;
        let closed = || unavailable(at, &"the log is closed");
        let bytes = batch_bytes(&batch);
        let permits = bytes.clamp(1, MEMORY_BYTES).div_ceil(PERMIT_BYTES);
        let permits = u32::try_from(permits).expect("the memory is counted in an u32");
        let permit = Arc::clone(&self.memory).acquire_many_owned(permits).await;
        let permit = permit.map_err(|_| closed())?;
        let encoded = if batch.num_rows() < FEW_ROWS {
            self.partition.codec.encode(&batch)
        } else {
            let (partition, batch) = (Arc::clone(&self.partition), batch.clone());
            let encode = move || partition.codec.encode(&batch);
            tokio::task::spawn_blocking(encode).await.unwrap_or_else(|e| Err(e.to_string()))
        };
        let rejected = |reason| LogError::Rejected { at: at.clone(), reason };
        let messages = encoded.map_err(rejected)?;
        let bytes = messages.iter().map(Outgoing::bytes).sum();
        let (reply, answer) = oneshot::channel();
        let request = Request { batch, messages, bytes, reply, permit, only_asks };
        self.requests.send(request).await.map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }
}
