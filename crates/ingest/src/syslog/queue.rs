//! Received messages on their way into the ingest, one batch after the other.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use metrics::{counter, gauge};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use super::meters;
use crate::{
    body::{Encoding, Payload},
    decode::syslog::received,
    error::IngestError,
    pipeline::{Accepted, Ingest, Request, SYSLOG_RECEIVED},
    sender::Sender,
};

/// Bytes received and not yet durable, with what they cost around them.
const QUEUE_BYTES: usize = 16 << 20;
/// What a chunk costs besides its bytes.
const CHUNK_OVERHEAD_BYTES: usize = 128;
/// Bytes that are stored at once, if as many are waiting.
const BATCH_BYTES: usize = 2 << 20;
/// How long a batch waits for more messages.
const GATHER_TIME: Duration = Duration::from_millis(10);
/// Wait before a batch that was refused is tried again, unless the refusal names a longer one.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// Messages that were received together.
#[derive(Default)]
pub(super) struct Chunk {
    /// As [`received::push`] writes them.
    pub(super) bytes: Vec<u8>,
    pub(super) messages: u64,
}

impl Chunk {
    /// Adds a message, unless there is nothing in it.
    pub(super) fn push(&mut self, sender: IpAddr, message: &[u8]) {
        if !message.trim_ascii().is_empty() {
            received::push(&mut self.bytes, sender, message);
            self.messages += 1;
        }
    }

    /// What the chunk takes of [`QUEUE_BYTES`].
    fn cost(&self) -> u32 {
        (self.bytes.len() + CHUNK_OVERHEAD_BYTES).min(QUEUE_BYTES) as u32
    }
}

/// The receivers' end.
#[derive(Clone)]
pub(super) struct Queue {
    room: Arc<Semaphore>,
    chunks: mpsc::UnboundedSender<(Chunk, OwnedSemaphorePermit)>,
}

impl Queue {
    /// Adds `chunk` once there is room for it.
    pub(super) async fn push(&self, chunk: Chunk) {
        let room = Arc::clone(&self.room).acquire_many_owned(chunk.cost()).await;
        self.send(chunk, room.expect("the semaphore is never closed"));
    }

    /// Adds `chunk` if there is room for it, else hands it back.
    pub(super) fn try_push(&self, chunk: Chunk) -> Result<(), Chunk> {
        match Arc::clone(&self.room).try_acquire_many_owned(chunk.cost()) {
            Ok(room) => {
                self.send(chunk, room);
                Ok(())
            }
            Err(_) => Err(chunk),
        }
    }

    fn send(&self, chunk: Chunk, room: OwnedSemaphorePermit) {
        gauge!(meters::QUEUED_BYTES).increment(room.num_permits() as f64);
        // The storing task goes on for as long as there are senders, unless it panicked.
        if let Err(mpsc::error::SendError((chunk, _))) = self.chunks.send((chunk, room)) {
            counter!(meters::LOST, "reason" => "failed").increment(chunk.messages);
        }
    }
}

/// A queue, and its other end.
pub(super) fn channel() -> (Queue, mpsc::UnboundedReceiver<(Chunk, OwnedSemaphorePermit)>) {
    gauge!(meters::QUEUE_LIMIT_BYTES).set(QUEUE_BYTES as f64);
    let (chunks, waiting) = mpsc::unbounded_channel();
    (Queue { room: Arc::new(Semaphore::new(QUEUE_BYTES)), chunks }, waiting)
}

/// A queue, and the task that stores what is in it.
pub(super) fn start(ingest: Arc<Ingest>) -> (Queue, JoinHandle<()>) {
    let (queue, waiting) = channel();
    (queue, tokio::spawn(store_batches(ingest, waiting)))
}

/// Stores one batch after the other: two at once could change places.
async fn store_batches(
    ingest: Arc<Ingest>,
    mut waiting: mpsc::UnboundedReceiver<(Chunk, OwnedSemaphorePermit)>,
) {
    let batch_bytes = BATCH_BYTES.min(ingest.limits().decompressed_bytes);
    while let Some((mut batch, mut room)) = waiting.recv().await {
        let deadline = Instant::now() + GATHER_TIME;
        while batch.bytes.len() < batch_bytes
            && let Ok(Some((chunk, more))) = timeout_at(deadline, waiting.recv()).await
        {
            batch.bytes.extend_from_slice(&chunk.bytes);
            batch.messages += chunk.messages;
            room.merge(more);
        }
        store(&ingest, batch).await;
        gauge!(meters::QUEUED_BYTES).decrement(room.num_permits() as f64);
    }
}

/// Stores a batch, however long the ingest is overloaded or the log unavailable: meanwhile the
/// queue fills, and the senders wait.
async fn store(ingest: &Arc<Ingest>, Chunk { bytes, messages }: Chunk) {
    let bytes = Bytes::from(bytes);
    loop {
        let Err(error) = try_store(ingest, bytes.clone()).await else { return };
        crate::meters::refused(&error);
        let Some(delay) = error.retry_after() else {
            counter!(meters::LOST, "reason" => "failed").increment(messages);
            tracing::error!(%error, messages, "syslog messages cannot be stored");
            return;
        };
        let delay = match error {
            IngestError::Overloaded(_) => RETRY_DELAY,
            _ => delay,
        };
        tracing::warn!(%error, messages, ?delay, "syslog messages wait to be stored");
        tokio::time::sleep(delay).await;
    }
}

async fn try_store(ingest: &Arc<Ingest>, bytes: Bytes) -> Result<Accepted, IngestError> {
    // Of many senders at once, none of whom can show a token.
    let anyone = Sender::anyone(Ipv4Addr::UNSPECIFIED.into());
    let mut permit = ingest.admission().enter(&anyone, Some(bytes.len() as u64))?;
    permit.take(bytes.len())?;
    let request = Request { format: SYSLOG_RECEIVED.to_owned(), ..Request::default() };
    ingest.process(request, Payload { encoding: Encoding::Identity, bytes, permit }).await
}
