//! The Postgres wire protocol: psql, drivers and BI tools.
//!
//! `pgwire` speaks the protocol and `datafusion-postgres` translates catalogs, types and
//! statements; this module adds the engine's gate and limits, and what these two leave open:
//! cancellation of running rows, noticing a client that left, and bounded fetches.

mod connection;
mod handler;
mod rewrites;
mod statements;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::QueryEngine;
use connection::Connection;
use handler::QueryHandler;

/// Time that running queries get to finish when the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
const DRAIN_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Pause after a failed accept, which is mostly a lack of file descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);
/// Connections beyond the limit that are open at once only to be told so.
const REFUSALS_AT_ONCE: usize = 16;

/// Serves Postgres clients on `listener` until `shutdown` completes; then lets running queries
/// finish for some seconds and closes all connections.
///
/// There is no authentication yet: listen on a loopback address only.
pub async fn serve(
    engine: Arc<QueryEngine>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(engine.config().max_postgres_connections));
    let refusals = Arc::new(Semaphore::new(REFUSALS_AT_ONCE));
    let handler = Arc::new(QueryHandler::new(engine.clone()));
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a Postgres connection");
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                continue;
            }
        };
        let (permit, is_admitted) = match places.clone().try_acquire_owned() {
            Ok(permit) => (permit, true),
            Err(_) => match refusals.clone().try_acquire_owned() {
                Ok(permit) => (permit, false),
                Err(_) => continue,
            },
        };
        let connection = Connection::new(handler.clone(), is_admitted);
        connections.spawn(async move {
            let _permit = permit;
            if let Err(error) = connection.serve(socket).await {
                tracing::debug!(%error, %peer, "Postgres connection ended");
            }
        });
    }
    drain(&engine).await;
    connections.shutdown().await;
}

async fn drain(engine: &QueryEngine) {
    let idle = async {
        while engine.running_queries() > 0 {
            tokio::time::sleep(DRAIN_POLL_INTERVAL).await;
        }
    };
    // Queries that outlive the time are cancelled with their connections.
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, idle).await;
}
