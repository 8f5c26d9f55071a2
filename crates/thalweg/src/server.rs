//! A whole node: the engines wired together and listening.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::serve::ListenerExt as _;
use futures::{StreamExt as _, stream};
use metrics_exporter_prometheus::PrometheusHandle;
use thalweg_event::schema::topic;
use thalweg_ingest::{Ingest, syslog::Syslog};
use thalweg_lake::{LakeTable, TableSpec};
use thalweg_log::{EmbeddedLog, Log, LogConfig, TopicConfig};
use thalweg_query::{LiveLogs, NamedTable, QueryEngine};
use tokio::{
    net::{TcpListener, UdpSocket},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, LoopbackAddress},
    format_api, health, openapi,
};

/// Longest that requests under way may take once the server is told to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Addresses a server listens on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) http: SocketAddr,
    pub(crate) otlp_grpc: SocketAddr,
    /// TCP and, on the same port, UDP.
    pub(crate) syslog: SocketAddr,
    pub(crate) postgres: SocketAddr,
}

/// A running node.
pub(crate) struct Server {
    addresses: Addresses,
    log: Arc<EmbeddedLog>,
    tables: Vec<Arc<LakeTable>>,
    query: Arc<QueryEngine>,
    stopping: CancellationToken,
    listeners: Vec<JoinHandle<()>>,
}

impl Server {
    /// Opens the log and the tables under the data directory and starts to listen.
    pub(crate) async fn start(config: &Config, metrics: PrometheusHandle) -> anyhow::Result<Self> {
        let http = bind(config.listen.http, "listen.http").await?;
        let otlp_grpc = bind(config.listen.otlp_grpc, "listen.otlp_grpc").await?;
        let syslog = bind(config.listen.syslog, "listen.syslog").await?;
        let syslog_udp = bind_udp(syslog.local_addr()?, "listen.syslog").await?;
        let postgres = bind(config.listen.postgres, "listen.postgres").await?;
        let addresses = Addresses {
            http: http.local_addr()?,
            otlp_grpc: otlp_grpc.local_addr()?,
            syslog: syslog.local_addr()?,
            postgres: postgres.local_addr()?,
        };

        let log_config = log_config(config);
        let (log, recovery) =
            tokio::task::spawn_blocking(|| EmbeddedLog::open(log_config)).await??;
        tracing::info!(?recovery, "log opened");
        let log = Arc::new(log);
        let shared: Arc<dyn Log> = log.clone();

        let mut tables = Vec::new();
        for spec in [TableSpec::logs(), TableSpec::spans(), TableSpec::rejected()] {
            let directory = config.data_dir.join("lake").join(&spec.name);
            let table = LakeTable::open(&directory, spec, config.lake.clone(), shared.clone());
            tables.push(table.await?);
        }
        let query = query_engine(config, &tables).await?;
        let ingest = Ingest::open(shared.clone(), config.ingest.clone()).await?;

        let stopping = CancellationToken::new();
        let routes = thalweg_ingest::http::router(ingest.clone())
            .merge(thalweg_query::http::router(query.clone()))
            .merge(format_api::router(ingest.clone()))
            .merge(health::router(health::Health { log: shared, query: query.clone(), metrics }))
            .merge(openapi::router())
            .layer(axum::middleware::from_fn(thalweg_ingest::elasticsearch::answer_agents));
        let (received, storing) = Syslog::start(ingest.clone(), &config.ingest.syslog);
        let listeners = vec![
            tokio::spawn(received.clone().serve_udp(syslog_udp, stopping.clone())),
            tokio::spawn(received.serve_tcp(syslog, stopping.clone())),
            storing,
            serve("http", http, routes, stopping.clone()),
            serve("otlp_grpc", otlp_grpc, thalweg_ingest::grpc::router(ingest), stopping.clone()),
            tokio::spawn(thalweg_query::wire::serve(
                query.clone(),
                postgres,
                stopping.clone().cancelled_owned(),
            )),
        ];
        Ok(Self { addresses, log, tables, query, stopping, listeners })
    }

    /// Where the server listens.
    pub(crate) fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Finishes what is under way, commits what is buffered, and closes everything.
    pub(crate) async fn stop(self) {
        self.stopping.cancel();
        self.query.stop_tails();
        for listener in self.listeners {
            let abort = listener.abort_handle();
            if tokio::time::timeout(DRAIN_TIMEOUT, listener).await.is_err() {
                tracing::warn!("requests still under way after {DRAIN_TIMEOUT:?} are cut off");
                abort.abort();
            }
        }
        for table in &self.tables {
            table.shutdown().await;
        }
        let log = self.log;
        if tokio::task::spawn_blocking(move || log.close()).await.is_err() {
            tracing::error!("the log was not closed; the next start checks its last segments");
        }
    }
}

/// The log of a node: its topics, with what the operator says of them.
fn log_config(config: &Config) -> LogConfig {
    let topics = [topic::LOGS_CRITICAL, topic::LOGS_ROUTINE, topic::SPANS, topic::REJECTED];
    let topics = topics.map(|name| {
        let configured = config.log.topics.iter().find(|topic| topic.name == name);
        configured.cloned().unwrap_or_else(|| TopicConfig::new(name, 1))
    });
    LogConfig {
        directory: config.data_dir.join("log"),
        topics: topics.into(),
        ..config.log.clone()
    }
}

async fn bind(address: LoopbackAddress, setting: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address.0).await.with_context(|| {
        format!("{setting}: cannot listen on {}; is another server running there?", address.0)
    })
}

/// Binds the UDP port of the same number as a TCP port that is bound already.
async fn bind_udp(address: SocketAddr, setting: &str) -> anyhow::Result<UdpSocket> {
    UdpSocket::bind(address).await.with_context(|| {
        format!("{setting}: cannot receive on UDP {address}; is another server running there?")
    })
}

/// Serves `routes` until the server stops; requests under way are finished.
fn serve(
    name: &'static str,
    listener: TcpListener,
    routes: axum::Router,
    stopping: CancellationToken,
) -> JoinHandle<()> {
    let service = routes.into_make_service_with_connect_info::<SocketAddr>();
    // Answers are written in parts; each would wait for the one before to be acknowledged.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "answers may be delayed");
        }
    });
    let serving = axum::serve(listener, service).with_graceful_shutdown(stopping.cancelled_owned());
    tokio::spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "{name} listener ended");
        }
    })
}

async fn query_engine(
    config: &Config,
    tables: &[Arc<LakeTable>],
) -> anyhow::Result<Arc<QueryEngine>> {
    let named = tables
        .iter()
        .map(|table| NamedTable { name: table.name().to_owned(), provider: table.clone() })
        .collect();
    let logs = tables[0].clone();
    let live: LiveLogs = Arc::new(move || match logs.follow() {
        Ok(rows) => rows.filter_map(async |rows| rows.ok()).boxed(),
        Err(error) => {
            tracing::error!(%error, "table logs cannot be followed");
            stream::empty().boxed()
        }
    });
    Ok(QueryEngine::new(config.query.clone(), named, live).await?)
}
