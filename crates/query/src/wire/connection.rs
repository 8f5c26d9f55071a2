//! One Postgres connection, from its greeting to its end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use datafusion_postgres::pgwire::api::auth::StartupHandler;
use datafusion_postgres::pgwire::api::cancel::{CancelHandler, DefaultCancelHandler};
use datafusion_postgres::pgwire::api::{
    ClientInfo, ClientPortalStore, ConnectionManager, NoopHandler, PgWireConnectionState,
};
use datafusion_postgres::pgwire::error::PgWireError;
use datafusion_postgres::pgwire::messages::PgWireBackendMessage;
use datafusion_postgres::pgwire::messages::PgWireFrontendMessage;
use datafusion_postgres::pgwire::tokio::server::{
    MaybeTls, PgWireMessageServerCodec, negotiate_tls, process_error, process_message,
};
use futures::StreamExt;
use thalweg_access::Gate;
use thalweg_edge::Arrival;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::codec::{Framed, FramedParts};

use super::fatal;
use super::handler::{Prepared, QueryHandler};
use super::kept::{Kept, Ledger};
use super::login::Login;
use crate::QueryEngine;

/// Time from connecting until the client has proved who it is.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest message: a statement, or its parameters.
const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// Delay between two looks at a connection whose client has sent something while a query runs.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// The message a client ends a connection with (protocol chapter "Message Formats").
const TERMINATE: [u8; 5] = [b'X', 0, 0, 0, 4];

/// What serving a connection takes.
pub(super) struct Connection {
    pub(super) engine: Arc<QueryEngine>,
    pub(super) gate: Gate,
    pub(super) manager: Arc<ConnectionManager>,
    /// Whether there is room for it; if not, it is only told so.
    pub(super) is_admitted: bool,
}

type Socket = Framed<Bounded<MaybeTls>, PgWireMessageServerCodec<Prepared>>;

impl Connection {
    /// Serves the client until it leaves. When it leaves while a query runs, the query stops.
    pub(super) async fn serve(self, arrival: Arrival) -> io::Result<()> {
        let (socket, acceptor, _open) = arrival.into_parts();
        // Nothing is read while a query runs: a second handle sees the client leave.
        let socket = socket.into_std()?;
        let watched = TcpStream::from_std(socket.try_clone()?)?;
        let socket = TcpStream::from_std(socket)?;
        let talk = async {
            let greeted = tokio::time::timeout(STARTUP_TIMEOUT, self.greet(socket, acceptor));
            match greeted.await {
                Ok(greeted) => match greeted? {
                    Some((socket, handler)) => converse(socket, handler, self.manager).await,
                    None => Ok(()),
                },
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no login in time")),
            }
        };
        tokio::select! {
            result = talk => result,
            () = client_left(watched) => Ok(()),
        }
    }

    /// Encrypts the connection if that is asked for, and finds out who the client is; `None` when
    /// it is none that asks queries.
    async fn greet(
        &self,
        socket: TcpStream,
        acceptor: Option<tokio_rustls::TlsAcceptor>,
    ) -> io::Result<Option<(Socket, QueryHandler)>> {
        let Some(socket) = negotiate_tls::<Prepared>(socket, acceptor).await? else {
            return Ok(None);
        };
        let mut socket = bounded(socket);
        let login = Login::new(&self.gate, &self.manager, self.is_admitted);
        while let Some(message) = next(&mut socket).await? {
            if let PgWireFrontendMessage::CancelRequest(request) = message {
                DefaultCancelHandler::new(Arc::clone(&self.manager))
                    .on_cancel_request(request)
                    .await;
                return Ok(None);
            }
            let answered = login.on_startup(&mut socket, message).await;
            let handler = match (answered, login.principal()) {
                (Err(error), _) => Err(error),
                (Ok(()), Some(principal)) => {
                    let handler = QueryHandler::open(&self.engine, principal, socket.socket_addr());
                    handler.map(Some)
                }
                (Ok(()), None) => Ok(None),
            };
            match handler {
                Ok(Some(handler)) => return Ok(Some((socket, handler))),
                Ok(None) => {}
                Err(error) => {
                    // Whatever went wrong, there is no way on from here.
                    process_error(&mut socket, fatal_of(error), false).await?;
                    return Ok(None);
                }
            }
        }
        Ok(None)
    }
}

/// Answers the client's messages until it leaves.
async fn converse(
    mut socket: Socket,
    handler: QueryHandler,
    manager: Arc<ConnectionManager>,
) -> io::Result<()> {
    let (handler, nothing) = (Arc::new(handler), Arc::new(NoopHandler));
    let cancel = Arc::new(DefaultCancelHandler::new(manager));
    let mut ledger = Ledger::default();
    while let Some(message) = next(&mut socket).await? {
        if matches!(message, PgWireFrontendMessage::Terminate(_)) {
            return Ok(());
        }
        let waits_for_sync = match socket.state() {
            PgWireConnectionState::CopyInProgress(is_extended) => is_extended,
            _ => message.is_extended_query(),
        };
        // Messages after a failed one are skipped until the client has read of it.
        let kept = match socket.state() {
            PgWireConnectionState::AwaitingSync => None,
            _ => Kept::of(&message),
        };
        let (simple, extended) = (Arc::clone(&handler), Arc::clone(&handler));
        let (startup, copy, cancel) =
            (Arc::clone(&nothing), Arc::clone(&nothing), Arc::clone(&cancel));
        let answered =
            process_message(message, &mut socket, startup, simple, extended, copy, cancel).await;
        if let (Ok(()), Some(kept)) = (&answered, kept) {
            ledger.note(kept, socket.portal_store());
        }
        if let Err(error) = answered {
            let is_last = matches!(&error, PgWireError::UserError(info) if info.is_fatal());
            process_error(&mut socket, error, waits_for_sync).await?;
            if is_last {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The client's next message; `None` when it has left, or sends what cannot be read.
async fn next(socket: &mut Socket) -> io::Result<Option<PgWireFrontendMessage>> {
    socket.get_mut().left_bytes = MAX_MESSAGE_BYTES;
    let message = socket.next().await;
    match message {
        Some(Ok(message)) => Ok(Some(message)),
        Some(Err(_)) if socket.get_ref().left_bytes == 0 => {
            let text = format!("a message is longer than {MAX_MESSAGE_BYTES} bytes");
            process_error(socket, fatal("54000", text), false).await?;
            Ok(None)
        }
        _ => Ok(None),
    }
}

/// The same error, such that the connection ends with it.
fn fatal_of(error: PgWireError) -> PgWireError {
    use datafusion_postgres::pgwire::error::ErrorInfo;
    let mut info = ErrorInfo::from(error);
    info.severity = "FATAL".to_owned();
    PgWireError::UserError(Box::new(info))
}

async fn client_left(socket: TcpStream) {
    let mut next = [0; TERMINATE.len() + 1];
    loop {
        match socket.peek(&mut next).await {
            Ok(0) | Err(_) => return,
            Ok(length) if next.get(..length) == Some(&TERMINATE[..]) => return,
            // The next request, to be read when the running one is done.
            Ok(_) => tokio::time::sleep(LOOK_INTERVAL).await,
        }
    }
}

/// Bytes of which only so many are read until more are allowed: a message is gathered in memory
/// as a whole.
pub(super) struct Bounded<T> {
    io: T,
    left_bytes: usize,
}

fn bounded(socket: Framed<MaybeTls, PgWireMessageServerCodec<Prepared>>) -> Socket {
    let parts = socket.into_parts();
    let io = Bounded { io: parts.io, left_bytes: MAX_MESSAGE_BYTES };
    let mut bounded = FramedParts::new::<PgWireBackendMessage>(io, parts.codec);
    bounded.read_buf = parts.read_buf;
    bounded.write_buf = parts.write_buf;
    Framed::from_parts(bounded)
}

impl<T: AsyncRead + Unpin> AsyncRead for Bounded<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left_bytes == 0 {
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buffer))?;
        let read = buffer.filled().len() - before;
        self.left_bytes = self.left_bytes.saturating_sub(read);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Bounded<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
