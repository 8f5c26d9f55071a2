//! `/healthz`, `/readyz` and `/metrics`.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use futures::future::{join_all, try_join_all};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use thalweg_access::{Asker, Principal};
use thalweg_alert::{AlertError, Alerts};
use thalweg_event::schema::topic;
use thalweg_ingest::Ingest;
use thalweg_log::{Log, TopicPartition};
use thalweg_query::{Limits, QueryEngine};
use utoipa::{OpenApi, ToSchema};

use crate::telemetry;

/// Longest a part may take to show that it works.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// This module's part of the OpenAPI document.
#[derive(Debug, OpenApi)]
#[openapi(paths(healthz, readyz, metrics), components(schemas(Readiness, Part)))]
pub(crate) struct ApiDoc;

/// What the probes look at.
#[derive(Clone)]
pub(crate) struct Health {
    pub(crate) log: Arc<dyn Log>,
    /// Topics of events.
    pub(crate) log_topics: Arc<[String]>,
    pub(crate) ingest: Arc<Ingest>,
    pub(crate) query: Arc<QueryEngine>,
    pub(crate) alerts: Arc<Alerts>,
    pub(crate) metrics: PrometheusHandle,
}

/// Whether the server can do its work.
#[derive(Debug, Serialize, ToSchema)]
struct Readiness {
    ready: bool,
    parts: Vec<Part>,
}

/// One part of the server.
#[derive(Debug, Serialize, ToSchema)]
struct Part {
    name: String,
    /// `null` when the part works.
    error: Option<String>,
}

pub(crate) fn router(health: Health) -> Router {
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).with_state(health)
}

pub(crate) fn metrics_router(health: Health) -> Router {
    Router::new().route("/metrics", get(metrics)).with_state(health)
}

/// Whether the process answers at all.
#[utoipa::path(get, path = "/healthz", tag = "operation", responses((status = 200, description = "It does")))]
async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether the log takes appends, queries are answered and alerts are looked after.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operation",
    responses(
        (status = 200, description = "Ready", body = Readiness),
        (status = 503, description = "Not ready, and why", body = Readiness),
    )
)]
async fn readyz(State(health): State<Health>) -> impl IntoResponse {
    let others = [topic::REJECTED, topic::AUDIT];
    let topics = health.log_topics.iter().map(String::as_str).chain(others);
    let (mut parts, query) = tokio::join!(
        join_all(topics.map(|topic| part(format!("log {topic}"), health.log_takes_appends(topic)))),
        part("query".to_owned(), health.queries_are_answered()),
    );
    parts.push(query);
    let alerts = match health.alerts.check() {
        Ok(()) | Err(AlertError::Standby) => None,
        Err(error) => Some(error.to_string()),
    };
    parts.push(Part { name: "alerts".to_owned(), error: alerts });
    let ready = parts.iter().all(|part| part.error.is_none());
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, parts }))
}

/// Metrics in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "operation", responses((status = 200, description = "Metrics", body = String)))]
async fn metrics(State(health): State<Health>) -> impl IntoResponse {
    health.ingest.show_limits();
    health.query.show_limits();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], telemetry::render(&health.metrics))
}

async fn part(name: String, probe: impl Future<Output = Result<(), String>>) -> Part {
    let outcome = tokio::time::timeout(PROBE_TIMEOUT, probe).await;
    let error =
        outcome.unwrap_or_else(|_| Err(format!("no answer within {PROBE_TIMEOUT:?}"))).err();
    Part { name, error }
}

impl Health {
    async fn log_takes_appends(&self, topic: &str) -> Result<(), String> {
        let partitions = self.log.partitions(topic).map_err(|error| error.to_string())?;
        let probe = |partition| self.log.takes_appends(TopicPartition::new(topic, partition));
        let probed = try_join_all((0..partitions).map(probe)).await;
        probed.map(drop).map_err(|error| error.to_string())
    }

    async fn queries_are_answered(&self) -> Result<(), String> {
        let limits = Limits { rows: Some(1), timeout: PROBE_TIMEOUT };
        let asker = Asker { principal: Principal::anyone(), protocol: "probe", address: None };
        let view = self.query.view(asker).map_err(|error| error.to_string())?;
        view.sql("SELECT 1", limits).await.map(drop).map_err(|error| error.to_string())
    }
}
