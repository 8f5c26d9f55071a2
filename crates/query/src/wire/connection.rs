//! One Postgres connection, from its greeting to its end.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion_postgres::pgwire::api::auth::StartupHandler;
use datafusion_postgres::pgwire::api::auth::noop::NoopStartupHandler;
use datafusion_postgres::pgwire::api::cancel::{CancelHandler, DefaultCancelHandler};
use datafusion_postgres::pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use datafusion_postgres::pgwire::api::{ClientInfo, ConnectionManager, PgWireServerHandlers};
use datafusion_postgres::pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::startup::ParameterStatus;
use datafusion_postgres::pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use datafusion_postgres::pgwire::tokio::process_socket;
use futures::{Sink, SinkExt};
use tokio::net::TcpStream;

use super::handler::QueryHandler;
use crate::pg_functions::POSTGRES_VERSION;

/// Delay between two looks at a connection whose client has sent something while a query runs.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// The message a client ends a connection with (protocol chapter "Message Formats").
const TERMINATE: [u8; 5] = [b'X', 0, 0, 0, 4];

/// Settings that clients read at the start, where pgwire's defaults are not ours.
const SERVER_PARAMETERS: [(&str, &str); 3] = [
    ("server_version", POSTGRES_VERSION),
    ("is_superuser", "off"),
    ("default_transaction_read_only", "on"),
];

pub(super) struct Connection {
    handler: Arc<QueryHandler>,
    greeting: Arc<Greeting>,
}

impl Connection {
    pub(super) fn new(handler: Arc<QueryHandler>, is_admitted: bool) -> Self {
        let manager = handler.connections();
        Self { handler, greeting: Arc::new(Greeting { is_admitted, manager }) }
    }

    /// Serves the client until it leaves. When it leaves while a query runs, the query stops.
    pub(super) async fn serve(self, socket: TcpStream) -> io::Result<()> {
        socket.set_nodelay(true)?;
        // pgwire does not read while a query runs: a second handle sees the client leave.
        let socket = socket.into_std()?;
        let watched = TcpStream::from_std(socket.try_clone()?)?;
        let socket = TcpStream::from_std(socket)?;
        tokio::select! {
            result = process_socket(socket, None, self) => result,
            () = client_left(watched) => Ok(()),
        }
    }
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

impl PgWireServerHandlers for Connection {
    fn simple_query_handler(&self) -> Arc<impl SimpleQueryHandler> {
        self.handler.clone()
    }

    fn extended_query_handler(&self) -> Arc<impl ExtendedQueryHandler> {
        self.handler.clone()
    }

    fn startup_handler(&self) -> Arc<impl StartupHandler> {
        self.greeting.clone()
    }

    fn cancel_handler(&self) -> Arc<impl CancelHandler> {
        Arc::new(DefaultCancelHandler::new(self.handler.connections()))
    }
}

/// Start of a connection, without authentication.
struct Greeting {
    is_admitted: bool,
    manager: Arc<ConnectionManager>,
}

#[async_trait]
impl NoopStartupHandler for Greeting {
    fn connection_manager(&self) -> Option<Arc<ConnectionManager>> {
        Some(self.manager.clone())
    }

    async fn post_startup<C>(
        &self,
        client: &mut C,
        _message: PgWireFrontendMessage,
    ) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        if !self.is_admitted {
            return Err(PgWireError::UserError(Box::new(ErrorInfo::new(
                "FATAL".to_owned(),
                "53300".to_owned(),
                "too many connections; close some or raise max_postgres_connections".to_owned(),
            ))));
        }
        for (name, value) in SERVER_PARAMETERS {
            let status = ParameterStatus::new(name.to_owned(), value.to_owned());
            client.feed(PgWireBackendMessage::ParameterStatus(status)).await?;
        }
        Ok(())
    }
}
