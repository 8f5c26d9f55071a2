//! A whole node: the engines wired together and listening.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use futures::{StreamExt as _, stream};
use metrics_exporter_prometheus::PrometheusHandle;
use rustix::process::{Resource, getrlimit, setrlimit};
use thalweg_access::{Access, Audit, Gate, Scope, TokenFile};
use thalweg_alert::Alerts;
use thalweg_edge::{Application, Edge, Tls};
use thalweg_event::schema::topic;
use thalweg_ingest::{Ingest, IngestConfig, syslog::Syslog};
use thalweg_lake::LakeTable;
use thalweg_log::{Log, Topics};
use thalweg_query::{Functions, LiveLogs, MadeTable, NamedTable, QueryEngine};
use thalweg_stream::{Stream, Templates, templates_schema};
use tokio::{
    net::{TcpListener, UdpSocket},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    alerts::EngineRows,
    audit::AuditWriter,
    config::{Address, Config},
    config_api, format_api, health, identity_api, log_api, metrics_table, openapi, replay_api,
    replays::NodeReplays,
    sources::NodeSources,
    tables,
    views::NodeViews,
};

/// Longest that requests under way may take once the server is told to stop.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Open files that the log, the tables and the queries may need.
const FILES_BESIDES_CONNECTIONS: u64 = 1024;

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
    log: Arc<dyn Topics>,
    tables: Vec<Arc<LakeTable>>,
    query: Arc<QueryEngine>,
    sources: NodeSources,
    views: Arc<NodeViews>,
    alerts: Arc<Alerts>,
    templates: Arc<Templates>,
    stopping: CancellationToken,
    listeners: Vec<JoinHandle<()>>,
    audit: AuditWriter,
    /// Read files again when they change.
    watchers: Vec<AbortOnDropHandle<()>>,
}

impl Server {
    /// Opens the log and the tables under the data directory and starts to listen.
    pub(crate) async fn start(config: &Config, metrics: PrometheusHandle) -> anyhow::Result<Self> {
        let access = Access::open(TokenFile::in_directory(&config.data_dir))?;
        if let Some(exposed) = config.listen.exposed_without_tokens(access.has_tokens()) {
            anyhow::bail!("{exposed}");
        }
        let tls = config.tls.clone().map(Tls::open).transpose().context("tls")?;
        let edge = Edge::new(config.limits.clone(), tls.clone());
        allow_open_files(config.limits.max_connections);

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

        let log_topics = config.log.log_topics(&config.data_dir)?;
        let log = config.log.open(&config.data_dir, &log_topics).await?;
        let shared: Arc<dyn Log> = log.clone();

        let mut tables = Vec::new();
        for spec in tables::all(log_topics.names.clone()) {
            let directory = config.data_dir.join("lake").join(&spec.name);
            let table = LakeTable::open(&directory, spec, config.lake.clone(), shared.clone());
            tables.push(table.await?);
        }
        let (audit, entries) = Audit::new();
        let audit_writer = AuditWriter::start(shared.clone(), entries);
        let logs = Stream { topics: log_topics.names.clone(), ..Stream::logs() };
        let templates = Templates::start(&config.data_dir.join("stream"), &logs, shared.clone())?;
        let query = query_engine(config, &tables, &templates, metrics.clone(), audit).await?;
        let sources = NodeSources::start(config, &shared, &query).await?;
        let streams = vec![logs, Stream::spans()];
        let views =
            NodeViews::start(config, log.clone(), streams, &tables[..2], &templates, query.clone());
        let views = views.await?;
        let rows = Arc::new(EngineRows::new(query.clone(), config.alerting.max_queries));
        let directory = config.data_dir.join("alerts");
        let alerts = Alerts::start(config.alerts(), rows, shared.clone(), &directory)?;
        let former_topics = log_topics.former().map(str::to_owned).collect();
        let ingest = IngestConfig { former_topics, ..config.ingest.clone() };
        let ingest = Ingest::open(shared.clone(), ingest).await?;

        let replays =
            NodeReplays::new(shared.clone(), views.clone(), tables.clone(), sources.tables());
        let gate = |address: SocketAddr| Gate::new(access.clone(), address.ip());
        let health = health::Health {
            log: shared,
            log_topics: log_topics.names.into(),
            ingest: ingest.clone(),
            query: query.clone(),
            alerts: alerts.clone(),
            metrics,
        };
        let operating = log_api::router(log.clone()).merge(replay_api::router(replays));
        let routes =
            http_routes(config, &gate(addresses.http), &ingest, &query, &alerts, operating, health);
        let grpc = thalweg_ingest::grpc::router(ingest.clone());
        let grpc = gate(addresses.otlp_grpc).protect(grpc, Some(Scope::Ingest));

        let stopping = CancellationToken::new();
        let postgres = edge.listen("postgres", postgres, Application::Postgres);
        let syslog = edge.listen("syslog", syslog, Application::Unnamed);
        let (received, storing) = Syslog::start(ingest, &config.ingest.syslog);
        let listeners = vec![
            tokio::spawn(edge.clone().serve_http("http", http, routes, stopping.clone())),
            tokio::spawn(edge.serve_http("otlp_grpc", otlp_grpc, grpc, stopping.clone())),
            tokio::spawn(serve_udp(received.clone(), syslog_udp, stopping.clone())),
            tokio::spawn(received.serve_tcp(syslog, stopping.clone())),
            storing,
            tokio::spawn(thalweg_query::wire::serve(
                query.clone(),
                postgres,
                gate(addresses.postgres),
                stopping.clone().cancelled_owned(),
            )),
        ];
        let mut watchers = vec![AbortOnDropHandle::new(tokio::spawn(access.keep_current()))];
        watchers.extend(tls.map(|tls| AbortOnDropHandle::new(tokio::spawn(tls.keep_current()))));
        let audit = audit_writer;
        Ok(Self {
            addresses,
            log,
            tables,
            query,
            sources,
            views,
            alerts,
            templates,
            stopping,
            listeners,
            audit,
            watchers,
        })
    }

    /// Where the server listens.
    pub(crate) fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Finishes what is under way, commits what is buffered, and closes everything.
    pub(crate) async fn stop(mut self) {
        self.stopping.cancel();
        self.query.stop_tails();
        for listener in self.listeners {
            let abort = listener.abort_handle();
            if tokio::time::timeout(DRAIN_TIMEOUT, listener).await.is_err() {
                tracing::warn!("requests still under way after {DRAIN_TIMEOUT:?} are cut off");
                abort.abort();
            }
        }
        drop(self.watchers);
        self.audit.stop().await;
        self.alerts.stop().await;
        self.views.stop().await;
        self.sources.stop().await;
        self.templates.shutdown().await;
        for table in &self.tables {
            table.shutdown().await;
        }
        let log = self.log;
        if tokio::task::spawn_blocking(move || log.close()).await.is_err() {
            tracing::error!("the log was not closed; the next start checks its last segments");
        }
    }
}

/// Raises the limit of open files as far as it may be raised, and says so if that is not enough.
fn allow_open_files(connections: usize) {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
    let needed = connections as u64 + FILES_BESIDES_CONNECTIONS;
    match getrlimit(Resource::Nofile).current {
        Some(allowed) if allowed < needed => tracing::warn!(
            "{allowed} files may be open; limits.max_connections = {connections} needs {needed}: \
             raise `ulimit -n`, or lower the setting"
        ),
        _ => {}
    }
}

async fn bind(address: Address, setting: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address.0).await.with_context(|| {
        format!("{setting}: cannot listen on {}; is another server running there?", address.0)
    })
}

/// What is served over HTTP, and what each part asks of those who want it.
fn http_routes(
    config: &Config,
    gate: &Gate,
    ingest: &Arc<Ingest>,
    query: &Arc<QueryEngine>,
    alerts: &Arc<Alerts>,
    operating: axum::Router,
    health: health::Health,
) -> axum::Router {
    let sending =
        thalweg_ingest::http::router(ingest.clone()).merge(format_api::router(ingest.clone()));
    let asking = thalweg_query::http::router(query.clone())
        .merge(thalweg_alert::http::router(alerts.clone()));
    let metrics = health::metrics_router(health.clone());
    // Metrics tell how busy a server is and nothing of what it stores: anyone on this machine may
    // read them, and whoever has a token.
    let metrics = if gate.is_loopback() { metrics } else { gate.protect(metrics, None) };
    gate.protect(sending, Some(Scope::Ingest))
        .merge(gate.protect(asking, Some(Scope::Query)))
        .merge(gate.protect(config_api::router(config), Some(Scope::Admin)))
        .merge(gate.protect(identity_api::router(), None))
        // Names and sizes of all topics tell of services that a token may be limited from.
        .merge(gate.protect(operating, Some(Scope::Admin)))
        .merge(metrics)
        .merge(health::router(health))
        .merge(openapi::router())
        .merge(thalweg_console::router())
        .layer(axum::middleware::from_fn(thalweg_ingest::elasticsearch::answer_agents))
}

/// Binds the UDP port of the same number as a TCP port that is bound already. Datagrams carry
/// neither encryption nor proof of who sent them: none are taken from other machines.
async fn bind_udp(address: SocketAddr, setting: &str) -> anyhow::Result<Option<UdpSocket>> {
    if !address.ip().is_loopback() {
        tracing::info!("{setting}: {address} takes syslog over TLS only, not over UDP");
        return Ok(None);
    }
    let bound = UdpSocket::bind(address).await.with_context(|| {
        format!("{setting}: cannot receive on UDP {address}; is another server running there?")
    });
    bound.map(Some)
}

async fn serve_udp(syslog: Syslog, socket: Option<UdpSocket>, stopping: CancellationToken) {
    if let Some(socket) = socket {
        syslog.serve_udp(socket, stopping).await;
    }
}

async fn query_engine(
    config: &Config,
    tables: &[Arc<LakeTable>],
    templates: &Arc<Templates>,
    metrics: PrometheusHandle,
    audit: Audit,
) -> anyhow::Result<Arc<QueryEngine>> {
    let mut named: Vec<NamedTable> = tables
        .iter()
        .map(|table| NamedTable {
            name: table.name().to_owned(),
            provider: table.clone(),
            is_for_admins: table.name() == topic::AUDIT,
        })
        .collect();
    named.push(NamedTable {
        name: tables::TEMPLATES.into(),
        provider: MadeTable::new(templates_schema(), {
            let templates = templates.clone();
            move || templates.rows()
        }),
        is_for_admins: false,
    });
    named.push(metrics_table::table(metrics));
    let logs = tables[0].clone();
    let live: LiveLogs = Arc::new(move || match logs.follow() {
        Ok(rows) => rows.filter_map(async |rows| rows.ok()).boxed(),
        Err(error) => {
            tracing::error!(%error, "table logs cannot be followed");
            stream::empty().boxed()
        }
    });
    let templates = templates.clone();
    let functions: Functions = Arc::new(move |session| {
        thalweg_stream::register_functions(session);
        thalweg_stream::register_template_functions(session, &templates, false);
    });
    Ok(QueryEngine::new(config.query.clone(), named, functions, live, audit).await?)
}
