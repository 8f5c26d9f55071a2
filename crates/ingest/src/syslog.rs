//! Syslog over UDP and TCP.
//!
//! ```text
//! UDP datagrams ──────▶ drop when full ─┐
//! TCP, TLS connections ▶ wait when full ┴▶ queue ─▶ one batch after the other ─▶ Ingest
//! ```
//!
//! Syslog has no answers: a sender learns of overload only by our reading more slowly, which TCP
//! passes on and UDP does not. What arrives while a batch becomes durable is the next batch, so
//! batches grow with the load, and the messages of a connection keep their order.

mod config;
mod connection;
mod framing;
mod meters;
mod queue;
mod udp;

use std::{net::IpAddr, sync::Arc, time::Duration};

use metrics::{counter, gauge};
use thalweg_edge::Listener;
use tokio::{
    io::AsyncRead,
    net::UdpSocket,
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::pipeline::Ingest;
pub use config::{SyslogConfig, UtcOffset};
use connection::Timeouts;
use queue::Queue;

/// Time a sender has for one message from its first byte.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(60);

/// Takes syslog messages and stores them in batches.
#[derive(Clone)]
pub struct Syslog {
    queue: Queue,
    connections: Arc<Semaphore>,
    timeouts: Timeouts,
}

impl Syslog {
    /// Begins to store into `ingest` what the listeners receive. The task ends once every clone
    /// of the value is gone and all that was received is stored.
    pub fn start(ingest: Arc<Ingest>, config: &SyslogConfig) -> (Self, JoinHandle<()>) {
        meters::describe();
        gauge!(meters::CONNECTIONS_LIMIT).set(config.max_connections as f64);
        let (queue, storing) = queue::start(ingest);
        let syslog = Self {
            queue,
            connections: Arc::new(Semaphore::new(config.max_connections)),
            timeouts: Timeouts {
                idle: Duration::from_secs(config.idle_timeout_secs),
                message: MESSAGE_TIMEOUT,
            },
        };
        (syslog, storing)
    }

    /// Receives datagrams, each a message, until told to stop.
    pub async fn serve_udp(self, socket: UdpSocket, stopping: CancellationToken) {
        stopping.run_until_cancelled(udp::receive(&socket, &self.queue)).await;
    }

    /// Accepts connections until told to stop, and then ends those that are open.
    pub async fn serve_tcp(self, listener: Listener, stopping: CancellationToken) {
        let mut connections = JoinSet::new();
        loop {
            let arrival = tokio::select! {
                () = stopping.cancelled() => break,
                Some(_) = connections.join_next() => continue,
                arrival = listener.accept() => arrival,
            };
            let (syslog, stopping) = (self.clone(), stopping.clone());
            connections.spawn(async move {
                let sender = arrival.address();
                match arrival.connect().await {
                    Ok((stream, _, _open)) => {
                        syslog.serve_connection(stream, sender.ip(), stopping).await;
                    }
                    Err(error) => tracing::debug!(%error, %sender, "syslog connection ended"),
                }
            });
        }
        drop(listener);
        while connections.join_next().await.is_some() {}
    }

    /// Reads messages from one connection, over TCP or TLS on top of it, until it ends, breaks
    /// the limits or is told to stop. Nothing is ever written.
    ///
    /// A connection beyond [`SyslogConfig::max_connections`] is closed at once.
    pub async fn serve_connection(
        &self,
        stream: impl AsyncRead + Unpin + Send,
        sender: IpAddr,
        stopping: CancellationToken,
    ) {
        let Ok(_place) = self.connections.try_acquire() else {
            counter!(meters::REFUSED_CONNECTIONS).increment(1);
            tracing::debug!(%sender, "syslog connection refused: max_connections is reached");
            return;
        };
        gauge!(meters::CONNECTIONS).increment(1);
        let reading = connection::read(stream, sender.to_canonical(), &self.queue, self.timeouts);
        if let Some(Err(end)) = stopping.run_until_cancelled(reading).await {
            counter!(meters::CUT_OFF, "reason" => end.kind()).increment(1);
            tracing::debug!(%sender, reason = %end, "syslog connection cut off");
        }
        gauge!(meters::CONNECTIONS).decrement(1);
    }
}
