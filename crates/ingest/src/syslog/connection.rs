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
/// Time a sender has for one message from its first byte.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(60);

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
    idle_timeout: Duration,
) -> Result<(), CutOff> {
    let mut buffer = BytesMut::new();
    let mut deadline = Instant::now() + idle_timeout;
    loop {
        buffer.reserve(READ_BYTES);
        let end = match timeout_at(deadline, stream.read_buf(&mut buffer)).await {
            Ok(Ok(0)) => Some(Ok(())),
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(Err(error.into())),
            Err(_) => Some(Err(CutOff::TooSlow)),
        };
        let had_part = !buffer.is_empty();
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
            deadline = Instant::now() + idle_timeout;
        } else if length > 0 || !had_part {
            deadline = Instant::now() + MESSAGE_TIMEOUT;
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
    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::syslog::queue;

    const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

    /// What comes of a sender that writes each of `parts` after a pause, and then waits.
    async fn outcome(parts: &[(u64, &str)]) -> (Result<(), CutOff>, u64, Duration) {
        let (mut near, far) = tokio::io::duplex(1024);
        let (queue, mut waiting) = queue::channel();
        let begun = Instant::now();
        let reading = tokio::spawn(async move {
            read(far, IpAddr::from([127, 0, 0, 1]), &queue, IDLE_TIMEOUT).await
        });
        for (pause_secs, part) in parts {
            tokio::time::sleep(Duration::from_secs(*pause_secs)).await;
            // The reader may have gone.
            let _ = near.write_all(part.as_bytes()).await;
        }
        let outcome = reading.await.unwrap();
        let mut messages = 0;
        while let Some((chunk, _)) = waiting.recv().await {
            messages += chunk.messages;
        }
        (outcome, messages, begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_does_not_end_is_taken_as_it_is_after_its_time() {
        let slow = [(10, "<1>a: done\n<1>b: be"), (30, "gun"), (29, " ")];
        let (outcome, messages, time) = outcome(&slow).await;
        assert!(matches!(outcome, Err(CutOff::TooSlow)), "{outcome:?}");
        assert_eq!(messages, 2);
        assert_eq!(time.as_secs(), 10 + MESSAGE_TIMEOUT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_may_be_silent_between_messages() {
        let (outcome, messages, time) = outcome(&[(0, "<1>a\n"), (3500, "<1>b\n")]).await;
        assert!(matches!(outcome, Err(CutOff::TooSlow)), "{outcome:?}");
        assert_eq!((messages, time.as_secs()), (2, 7100));
    }
}
