//! Datagrams, each a message (RFC 5426).

use std::{io::ErrorKind, time::Duration};

use metrics::counter;
use tokio::net::UdpSocket;

use super::{
    meters,
    queue::{Chunk, Queue},
};
use crate::decode::syslog::trim_end;

/// Longest datagram that UDP can carry.
const MAX_DATAGRAM_BYTES: usize = 65_535;
/// Datagrams are handed on once they have this many bytes, or no more are waiting.
const CHUNK_BYTES: usize = 128 << 10;
/// Pause after an error of the socket, so that it cannot keep a thread busy.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// Receives for ever. What finds the queue full is dropped and counted: the sender of a datagram
/// cannot be made to wait.
pub(super) async fn receive(socket: &UdpSocket, queue: &Queue) {
    let mut datagram = vec![0; MAX_DATAGRAM_BYTES];
    loop {
        if let Err(error) = receive_waiting(socket, queue, &mut datagram).await {
            tracing::warn!(%error, "syslog datagrams cannot be received");
            tokio::time::sleep(ERROR_PAUSE).await;
        }
    }
}

/// Waits for datagrams and takes all that are there.
async fn receive_waiting(
    socket: &UdpSocket,
    queue: &Queue,
    datagram: &mut [u8],
) -> std::io::Result<()> {
    socket.readable().await?;
    let mut chunk = Chunk::default();
    let outcome = loop {
        match socket.try_recv_from(datagram) {
            Ok((length, sender)) => {
                chunk.push(sender.ip().to_canonical(), trim_end(&datagram[..length]));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(()),
            Err(error) => break Err(error),
        }
        if chunk.bytes.len() >= CHUNK_BYTES {
            break Ok(());
        }
    };
    if chunk.messages > 0 {
        counter!(meters::MESSAGES, "transport" => "udp").increment(chunk.messages);
        if let Err(dropped) = queue.try_push(chunk) {
            counter!(meters::LOST, "reason" => "queue_full").increment(dropped.messages);
        }
    }
    outcome
}
