//! Connections accepted within limits.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use metrics::gauge;
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    config::EdgeConfig,
    meters,
    peer::{ClientCertificate, Peer},
    places::{Full, Place, Places},
    stream::Stream,
    tls::{Application, Tls},
};

/// Pause after a failed accept, which is mostly a lack of file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// What all listeners of a server share: TLS, and the limits of what clients hold.
pub struct Edge {
    pub(crate) config: EdgeConfig,
    pub(crate) tls: Option<Arc<Tls>>,
    connections: Arc<Places>,
    pub(crate) requests: Arc<Places>,
}

/// A listening socket.
pub struct Listener {
    edge: Arc<Edge>,
    socket: TcpListener,
    name: &'static str,
    application: Application,
}

/// A connection that has a place, and whose client has not been heard yet.
pub struct Arrival {
    socket: TcpStream,
    address: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    open: Open,
    handshake_timeout: Duration,
    write_timeout: Duration,
}

/// Counts a connection for as long as it is there.
#[derive(Debug)]
struct Open {
    _place: Place,
    listener: &'static str,
}

impl Edge {
    /// Limits by `config`; encrypts everything if there is `tls`.
    pub fn new(config: EdgeConfig, tls: Option<Arc<Tls>>) -> Arc<Self> {
        meters::describe(&config);
        Arc::new(Self {
            connections: Places::new(
                config.max_connections,
                config.max_connections_per_client,
                (Some(meters::CONNECTIONS), meters::CLIENT_CONNECTIONS),
            ),
            requests: Places::new(
                usize::MAX,
                config.max_requests_per_client,
                (None, meters::CLIENT_REQUESTS),
            ),
            config,
            tls,
        })
    }

    /// Accepts the connections that come to `socket`; `name` is what metrics call it.
    pub fn listen(
        self: &Arc<Self>,
        name: &'static str,
        socket: TcpListener,
        application: Application,
    ) -> Listener {
        Listener { edge: Arc::clone(self), socket, name, application }
    }

    /// Whether connections are encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }
}

impl Listener {
    /// The next connection; those beyond a limit are closed at once.
    pub async fn accept(&self) -> Arrival {
        loop {
            let (socket, address) = match self.socket.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, listener = self.name, "a connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                    continue;
                }
            };
            let place = match self.edge.connections.take(address.ip()) {
                Ok(place) => place,
                Err(full) => {
                    meters::cut_off(match full {
                        Full::InAll(_) => "connections",
                        Full::ForClient(_) => "client_connections",
                    });
                    tracing::debug!(%address, listener = self.name, "connection refused: {full}");
                    continue;
                }
            };
            // Failing here means that the client has left already.
            let _ = socket.set_nodelay(true);
            let config = &self.edge.config;
            return Arrival {
                socket,
                address,
                acceptor: self.edge.tls.as_ref().map(|tls| tls.acceptor(self.application)),
                open: Open::new(place, self.name),
                handshake_timeout: config.handshake_timeout(),
                write_timeout: config.write_timeout(),
            };
        }
    }

    /// What the listener shares with others.
    pub fn edge(&self) -> &Arc<Edge> {
        &self.edge
    }
}

impl Arrival {
    /// Where the connection comes from.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Shakes hands if the connection is to be encrypted. What is returned third is to be kept
    /// for as long as the connection.
    ///
    /// # Errors
    /// The handshake fails, or takes too long.
    pub async fn connect(self) -> io::Result<(Stream, Peer, impl Send + Sync + use<>)> {
        let Self { socket, address, acceptor, open, handshake_timeout, write_timeout } = self;
        let mut peer = Peer { address, is_encrypted: acceptor.is_some(), certificate: None };
        let stream = match acceptor {
            None => Stream::plain(socket, write_timeout),
            Some(acceptor) => {
                let handshake = timeout(handshake_timeout, acceptor.accept(socket)).await;
                let stream = handshake.unwrap_or_else(|_| {
                    meters::cut_off("handshake_timeout");
                    let late = format!("no TLS handshake within {handshake_timeout:?}");
                    Err(io::Error::new(io::ErrorKind::TimedOut, late))
                })?;
                let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
                let certificate = certificates.first().and_then(ClientCertificate::read);
                peer.certificate = certificate.map(Arc::new);
                Stream::encrypted(stream, write_timeout)
            }
        };
        Ok((stream, peer, open))
    }

    /// The bare socket and what encrypts it, for protocols that begin unencrypted. What is
    /// returned third is to be kept for as long as the connection.
    pub fn into_parts(self) -> (TcpStream, Option<TlsAcceptor>, impl Send + Sync + use<>) {
        (self.socket, self.acceptor, self.open)
    }
}

impl Open {
    fn new(place: Place, listener: &'static str) -> Self {
        gauge!(meters::CONNECTIONS_BY_LISTENER, "listener" => listener).increment(1);
        Self { _place: place, listener }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        gauge!(meters::CONNECTIONS_BY_LISTENER, "listener" => self.listener).decrement(1);
    }
}
