//! The bounded queue between a partition's senders and its writer thread.

use std::collections::VecDeque;

use arrow::array::RecordBatch;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use std::sync::Arc;

use crate::{
    entry::EncodedBatch,
    error::Result,
    types::{Appended, Offset},
};

/// Memory of the appends that may wait for a partition's writer; beyond it, senders wait.
const QUEUE_BYTES: usize = 64 << 20;
/// Memory after which a group of appends is closed: it bounds what shares the fate of one write.
const GROUP_BYTES: usize = 16 << 20;
/// What an append costs at least, which bounds the number of waiting appends.
const MIN_COST_BYTES: usize = 1 << 10;

/// An append on its way to the disk.
pub(crate) struct Append {
    pub(crate) rows: Rows,
    pub(crate) reply: oneshot::Sender<Result<Appended>>,
    /// Its part of the queue's memory, given back when it is dropped.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// The rows of an append.
pub(crate) enum Rows {
    /// Few: the writer merges them with their neighbours.
    Few(RecordBatch),
    /// Many: already encoded by the sender, in pieces. None at all is a barrier.
    Encoded(Vec<EncodedBatch>),
}

impl Rows {
    pub(crate) fn count(&self) -> Offset {
        match self {
            Self::Few(batch) => batch.num_rows() as Offset,
            Self::Encoded(pieces) => {
                pieces.iter().map(|piece| piece.batch.num_rows() as Offset).sum()
            }
        }
    }
}

/// What the writer has to do next.
pub(crate) enum Work {
    /// Write these with one `fdatasync`.
    Group(Vec<Append>),
    /// Close the active segment if its last entry is older than this.
    RollIfOlder(i64),
}

/// Appends waiting for the writer, in order.
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    filled: Condvar,
    budget: Arc<Semaphore>,
}

#[derive(Default)]
struct Waiting {
    appends: VecDeque<Append>,
    roll_if_older: Option<i64>,
    closed: bool,
}

/// The log is being closed.
#[derive(Debug)]
pub(crate) struct Closed;

impl Queue {
    pub(crate) fn new() -> Self {
        Self {
            waiting: Mutex::default(),
            filled: Condvar::new(),
            budget: Arc::new(Semaphore::new(QUEUE_BYTES)),
        }
    }

    /// Waits until there is room for an append of `bytes`; first come, first served.
    pub(crate) async fn reserve(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Closed> {
        let cost = bytes.clamp(MIN_COST_BYTES, QUEUE_BYTES);
        let cost = u32::try_from(cost).expect("the queue is smaller than 4 GiB");
        Arc::clone(&self.budget).acquire_many_owned(cost).await.map_err(|_| Closed)
    }

    /// Bytes that are taken.
    pub(crate) fn reserved_bytes(&self) -> usize {
        QUEUE_BYTES - self.budget.available_permits()
    }

    /// Hands an append to the writer.
    pub(crate) fn push(&self, append: Append) -> Result<(), Closed> {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Err(Closed);
        }
        waiting.appends.push_back(append);
        drop(waiting);
        self.filled.notify_one();
        Ok(())
    }

    /// Asks the writer to close the active segment if its last entry is older than `unix_millis`.
    pub(crate) fn request_roll(&self, unix_millis: i64) {
        self.waiting.lock().roll_if_older = Some(unix_millis);
        self.filled.notify_one();
    }

    /// Accepts no more; the writer still gets what is waiting.
    pub(crate) fn close(&self) {
        self.budget.close();
        self.waiting.lock().closed = true;
        self.filled.notify_one();
    }

    /// Waits for work; `None` when the queue is closed and empty.
    pub(crate) fn take(&self) -> Option<Work> {
        let mut waiting = self.waiting.lock();
        loop {
            if !waiting.appends.is_empty() {
                let mut bytes = 0;
                let mut group = vec![];
                while bytes < GROUP_BYTES
                    && let Some(append) = waiting.appends.pop_front()
                {
                    bytes += append.permit.num_permits();
                    group.push(append);
                }
                return Some(Work::Group(group));
            }
            if let Some(unix_millis) = waiting.roll_if_older.take() {
                return Some(Work::RollIfOlder(unix_millis));
            }
            if waiting.closed {
                return None;
            }
            self.filled.wait(&mut waiting);
        }
    }
}
