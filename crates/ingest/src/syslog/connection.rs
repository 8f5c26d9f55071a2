//! One connection: bytes read, messages told apart, handed to the queue.

use std::{net::IpAddr, time::Duration};

use bytes::{Buf as _, BytesMut};
use metrics::counter;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::{Instant, timeout_at},
};

use super::{
    framing::{self, Frame},
    meters,
    queue::{Chunk, Queue},
};
use crate::decode::syslog::trim_end;

/// Room made for each read. With the longest message it bounds the buffer of a connection.
const READ_BYTES: usize = 16 << 10;

/// How long a sender may keep a connection waiting.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    /// Between messages.
    pub(super) idle: Duration,
    /// From the first byte of a message to its last.
    pub(super) message: Duration,
}

/// Why a connection was cut off.
#[derive(Debug, thiserror::Error)]
pub(super) enum CutOff {
    #[error("a message is longer than {} bytes", crate::decode::syslog::MAX_MESSAGE_BYTES)]
    TooLong,
    #[error("nothing came for too long")]
    TooSlow,
    #[error("{0}")]
    Broken(#[from] std::io::Error),
}

impl CutOff {
    /// Name of this kind in metrics.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::TooSlow => "too_slow",
            Self::Broken(_) => "broken",
        }
    }
}

/// Reads until the connection ends. While the queue is full nothing is read, so that the sender
/// has to wait.
///
/// # Errors
/// [`CutOff`]; what came before it is in the queue, of a message that is too long its beginning.
pub(super) async fn read(
    mut stream: impl AsyncRead + Unpin,
    sender: IpAddr,
    queue: &Queue,
    timeouts: Timeouts,
) -> Result<(), CutOff> {
    let mut buffer = BytesMut::new();
    let mut deadline = Instant::now() + timeouts.idle;
    loop {
        buffer.reserve(READ_BYTES);
        let had_part = !buffer.is_empty();
        let end = match timeout_at(deadline, stream.read_buf(&mut buffer)).await {
            Ok(Ok(0)) => Some(Ok(())),
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(Err(error.into())),
            Err(_) => Some(Err(CutOff::TooSlow)),
        };
        let mut chunk = Chunk::default();
        let (length, outcome) = take_messages(&buffer, end.is_some(), sender, &mut chunk);
        buffer.advance(length);
        if chunk.messages > 0 {
            counter!(meters::MESSAGES, "transport" => "stream").increment(chunk.messages);
            queue.push(chunk).await;
        }
        outcome?;
        if let Some(end) = end {
            return end;
        }
        // The clock of a message runs from its first byte, however slowly the others come.
        if buffer.is_empty() {
            deadline = Instant::now() + timeouts.idle;
        } else if length > 0 || !had_part {
            deadline = Instant::now() + timeouts.message;
        }
    }
}

/// Moves the whole messages of `buffer` to `chunk`; says how many bytes they took.
fn take_messages(
    buffer: &[u8],
    is_end: bool,
    sender: IpAddr,
    chunk: &mut Chunk,
) -> (usize, Result<(), CutOff>) {
    let mut taken = 0;
    loop {
        match framing::next(&buffer[taken..], is_end) {
            Frame::Message { message, length } => {
                chunk.push(sender, trim_end(message));
                taken += length;
            }
            Frame::Incomplete => return (taken, Ok(())),
            Frame::TooLong(beginning) => {
                chunk.push(sender, beginning);
                return (buffer.len(), Err(CutOff::TooLong));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncWriteExt as _, DuplexStream},
        sync::mpsc::UnboundedReceiver,
        task::JoinHandle,
    };

    use super::*;
    use crate::syslog::queue;

    const LONG: Duration = Duration::from_secs(3600);
    const SHORT: Duration = Duration::from_millis(100);

    type Waiting = UnboundedReceiver<(Chunk, tokio::sync::OwnedSemaphorePermit)>;

    /// The sender's end, the reader, and what it has read.
    fn connect(timeouts: Timeouts) -> (DuplexStream, JoinHandle<Result<(), CutOff>>, Waiting) {
        let (near, far) = tokio::io::duplex(1024);
        let (queue, waiting) = queue::channel();
        let sender = IpAddr::from([127, 0, 0, 1]);
        let reading = tokio::spawn(async move { read(far, sender, &queue, timeouts).await });
        (near, reading, waiting)
    }

    async fn messages(mut waiting: Waiting) -> u64 {
        let mut messages = 0;
        while let Some((chunk, _)) = waiting.recv().await {
            messages += chunk.messages;
        }
        messages
    }

    #[tokio::test]
    async fn a_message_that_does_not_end_is_taken_as_it_is_however_it_drips() {
        let (mut near, reading, waiting) = connect(Timeouts { idle: LONG, message: SHORT });
        while near.write_all(b".").await.is_ok() {
            tokio::time::sleep(SHORT / 10).await;
        }
        let outcome = reading.await.unwrap();
        assert!(matches!(outcome, Err(CutOff::TooSlow)), "{outcome:?}");
        assert_eq!(messages(waiting).await, 1);
    }

    #[tokio::test]
    async fn a_connection_may_be_silent_between_messages() {
        let (mut near, reading, waiting) = connect(Timeouts { idle: LONG, message: SHORT });
        for message in ["<1>a\n", "<1>b\n"] {
            near.write_all(message.as_bytes()).await.unwrap();
            tokio::time::sleep(SHORT * 2).await;
        }
        drop(near);
        reading.await.unwrap().unwrap();
        assert_eq!(messages(waiting).await, 2);
    }
}
