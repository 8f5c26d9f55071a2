//! The Postgres wire protocol: psql, drivers and BI tools.
//!
//! `pgwire` speaks the protocol and `datafusion-postgres` translates catalogs, types and
//! statements; this module adds the engine's gate and limits, and what these two leave open:
//! cancellation of running rows, noticing a client that left, and bounded fetches.

mod connection;
mod handler;
mod kept;
mod login;
mod rewrites;
mod statements;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use datafusion_postgres::pgwire::api::ConnectionManager;
use datafusion_postgres::pgwire::error::{ErrorInfo, PgWireError};
use thalweg_access::Gate;
use thalweg_edge::Listener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::QueryEngine;
use connection::Connection;

/// Time that running queries get to finish when the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
const DRAIN_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Connections beyond the limit that are open at once only to be told so.
const REFUSALS_AT_ONCE: usize = 16;

/// Serves Postgres clients that `listener` accepts and `gate` lets in until `shutdown` completes;
/// then lets running queries finish for some seconds and closes all connections.
pub async fn serve(
    engine: Arc<QueryEngine>,
    listener: Listener,
    gate: Gate,
    shutdown: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(engine.config().max_postgres_connections));
    let refusals = Arc::new(Semaphore::new(REFUSALS_AT_ONCE));
    let manager = Arc::new(ConnectionManager::new());
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let arrival = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            arrival = listener.accept() => arrival,
        };
        let (permit, is_admitted) = match places.clone().try_acquire_owned() {
            Ok(permit) => (permit, true),
            Err(_) => match refusals.clone().try_acquire_owned() {
                Ok(permit) => (permit, false),
                Err(_) => continue,
            },
        };
        let peer = arrival.address();
        let (engine, gate, manager) = (engine.clone(), gate.clone(), manager.clone());
        let connection = Connection { engine, gate, manager, is_admitted };
        connections.spawn(async move {
            let _permit = permit;
            if let Err(error) = connection.serve(arrival).await {
                tracing::debug!(%error, %peer, "Postgres connection ended");
            }
        });
    }
    drop(listener);
    drain(&engine).await;
    connections.shutdown().await;
}

/// An error with which the connection ends (appendix "PostgreSQL Error Codes").
fn fatal(code: &str, text: impl Into<String>) -> PgWireError {
    let info = ErrorInfo::new("FATAL".to_owned(), code.to_owned(), text.into());
    PgWireError::UserError(Box::new(info))
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
