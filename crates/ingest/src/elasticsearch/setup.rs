//! What agents ask of Elasticsearch before they send events.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{
    HeaderName, HeaderValue, Method, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, HOST},
};
use serde_json::{Value, json};

use super::error_body;
use crate::{body, pipeline::Ingest};

/// The version agents are told: what they may expect of the bulk interface.
const VERSION: &str = "8.19.0";
const NAME: &str = "thalweg";
/// Says to the official clients that this is a product they may talk to.
const PRODUCT: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-elastic-product"), HeaderValue::from_static("Elasticsearch"));
/// JSON of Elasticsearch 8, for clients that ask for it by this name.
const VERSIONED_JSON: &str = "application/vnd.elasticsearch+json;compatible-with=8";

pub(super) fn router(ingest: Arc<Ingest>) -> Router {
    let kept = || get(missing).put(acknowledge).post(acknowledge);
    Router::new()
        .route("/_license", get(license))
        .route("/_xpack", get(xpack))
        .route("/_cat/health", get(cat_health))
        .route("/_cluster/health", get(health))
        .route("/_cluster/health/{index}", get(health))
        .route("/_nodes", get(nodes))
        .route("/_nodes/{nodes}", get(nodes))
        .route("/_nodes/{nodes}/{metrics}", get(nodes))
        .route("/_index_template/{name}", kept())
        .route("/_component_template/{name}", kept())
        .route("/_template/{name}", kept())
        .route("/_ilm/policy/{name}", kept())
        .route("/_ingest/pipeline/{name}", kept())
        .route("/_data_stream/{name}", kept())
        .route("/_data_stream/{name}/_lifecycle", kept())
        .route("/_alias/{name}", kept())
        .route("/{index}/_alias/{name}", kept())
        .route("/_aliases", post(acknowledge))
        .with_state(ingest)
}

/// Marks answers as an Elasticsearch's.
pub(super) async fn brand(request: Request, next: Next) -> Response {
    let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let is_versioned = accept.is_some_and(|types| types.contains("vnd.elasticsearch+json"));
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(PRODUCT.0, PRODUCT.1);
    if is_versioned && headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json") {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(VERSIONED_JSON));
    }
    response
}

/// Answers `GET /` and `HEAD /` of agents as Elasticsearch does; requests of browsers, which ask
/// for HTML, go on to whatever is served there. A layer for the whole HTTP interface.
pub async fn answer_agents(request: Request, next: Next) -> Response {
    let asks_for_html = request
        .headers()
        .get_all(ACCEPT)
        .iter()
        .any(|types| types.to_str().is_ok_and(|types| types.contains("text/html")));
    let is_root =
        request.uri().path() == "/" && matches!(*request.method(), Method::GET | Method::HEAD);
    if !is_root || asks_for_html {
        return next.run(request).await;
    }
    let mut response = Json(root()).into_response();
    response.headers_mut().insert(PRODUCT.0, PRODUCT.1);
    response
}

fn root() -> Value {
    json!({
        "name": NAME,
        "cluster_name": NAME,
        "cluster_uuid": "thalweg-cluster-uuid--",
        "version": {
            "number": VERSION,
            "build_flavor": "default",
            "build_type": "docker",
            "build_hash": "unknown",
            "build_date": "2025-07-23T22:05:13.747Z",
            "build_snapshot": false,
            "lucene_version": "9.12.1",
            "minimum_wire_compatibility_version": "7.17.0",
            "minimum_index_compatibility_version": "7.0.0",
        },
        "tagline": "You Know, for Search",
    })
}

async fn license() -> Json<Value> {
    Json(json!({"license": {
        "status": "active",
        "uid": "00000000-0000-0000-0000-000000000000",
        "type": "basic",
        "issue_date": "2025-01-01T00:00:00.000Z",
        "issue_date_in_millis": 1_735_689_600_000_i64,
        "max_nodes": 1000,
        "issued_to": NAME,
        "issuer": "elasticsearch",
        "start_date_in_millis": -1,
    }}))
}

async fn xpack() -> Json<Value> {
    let off = json!({"available": false, "enabled": false});
    Json(json!({
        "license": {
            "uid": "00000000-0000-0000-0000-000000000000",
            "type": "basic",
            "mode": "basic",
            "status": "active",
        },
        "features": {
            "ilm": {"available": true, "enabled": true},
            "data_streams": {"available": true, "enabled": true},
            "security": off,
            "ml": off,
            "monitoring": off,
            "watcher": off,
        },
        "tagline": "You know, for X",
    }))
}

async fn health() -> Json<Value> {
    Json(json!({
        "cluster_name": NAME,
        "status": "green",
        "timed_out": false,
        "number_of_nodes": 1,
        "number_of_data_nodes": 1,
        "active_primary_shards": 1,
        "active_shards": 1,
        "relocating_shards": 0,
        "initializing_shards": 0,
        "unassigned_shards": 0,
        "delayed_unassigned_shards": 0,
        "number_of_pending_tasks": 0,
        "number_of_in_flight_fetch": 0,
        "task_max_waiting_in_queue_millis": 0,
        "active_shards_percent_as_number": 100.0,
    }))
}

/// Columns as Elasticsearch's, without the times: rsyslog only looks whether there is an answer.
async fn cat_health() -> String {
    format!("- - {NAME} green 1 1 1 1 0 0 0 0 - 100.0%\n")
}

/// One node, at the address the client used: clients that look for nodes find the same again.
async fn nodes(request: Request) -> Json<Value> {
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).or(authority);
    let address = host.unwrap_or_default();
    Json(json!({
        "_nodes": {"total": 1, "successful": 1, "failed": 0},
        "cluster_name": NAME,
        "nodes": {NAME: {
            "name": NAME,
            "version": VERSION,
            "build_flavor": "default",
            "roles": ["data", "ingest", "master"],
            "http": {"bound_address": [address], "publish_address": address},
            "ingest": {"processors": []},
            "plugins": [],
            "modules": [],
        }},
    }))
}

/// Nothing that agents may have created before is kept.
async fn missing(request: Request) -> Response {
    let reason = format!("{} does not exist", request.uri().path());
    let status = StatusCode::NOT_FOUND;
    (status, Json(error_body("resource_not_found_exception", &reason, status))).into_response()
}

async fn acknowledge(State(ingest): State<Arc<Ingest>>, body: Body) -> Json<Value> {
    body::discard(body, ingest.limits()).await;
    Json(json!({"acknowledged": true}))
}
