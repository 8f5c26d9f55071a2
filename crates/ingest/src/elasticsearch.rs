//! The part of Elasticsearch's HTTP interface that agents speak.
//!
//! Bulk requests are stored ([`crate::decode`] says how documents become events). What agents ask
//! before they send is answered so that they go on: they find a healthy single node of version 8,
//! no templates, policies or pipelines, and may create them, to no effect.

mod answer;
mod setup;

pub use setup::answer_agents;

use std::{sync::Arc, time::Instant};

use axum::{
    Json, Router,
    extract::{Path, Query, Request as HttpRequest, State, rejection::QueryRejection},
    middleware,
    response::{IntoResponse, Response},
    routing::post,
};
use http::{StatusCode, header::CONTENT_ENCODING};
use serde::Deserialize;
use serde_json::json;
use utoipa::IntoParams;

use self::answer::{BulkAnswer, Filter};
use crate::{
    body::Encoding,
    edge,
    error::IngestError,
    pipeline::{ELASTICSEARCH_BULK, Ingest, Request},
};

/// Longest name of an index, bytes: Elasticsearch's own limit.
const MAX_INDEX_BYTES: usize = 255;

/// The endpoints that agents use, except `/`: see [`answer_agents`].
pub(crate) fn router(ingest: Arc<Ingest>) -> Router {
    Router::new()
        .route("/_bulk", post(bulk).put(bulk))
        .route("/{index}/_bulk", post(bulk_into).put(bulk_into))
        .with_state(Arc::clone(&ingest))
        .merge(setup::router(ingest))
        .layer(middleware::from_fn(setup::brand))
}

/// What a bulk request says in its query.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct BulkParams {
    /// Parts of the answer to be sent, such as `errors,items.*.status`.
    filter_path: Option<String>,
    /// Kept as attribute `elasticsearch.pipeline`; pipelines do not run here.
    pipeline: Option<String>,
}

/// Stores documents as Elasticsearch's bulk interface does; also at `/{index}/_bulk`, and by `PUT`.
#[utoipa::path(
    post,
    path = "/_bulk",
    tag = "ingest",
    params(BulkParams),
    request_body(
        description = "Actions `create` and `index`, each with its document on the next line",
        content((String = "application/x-ndjson")),
    ),
    responses(
        (status = 200, description = "What became of each action, in order"),
        (status = 400, description = "The actions cannot be told apart"),
        (status = 408, description = "The body did not arrive in time"),
        (status = 413, description = "The body is too long"),
        (status = 415, description = "The encoding is unknown"),
        (status = 429, description = "Overloaded; see `Retry-After`"),
        (status = 503, description = "The log takes nothing now"),
    )
)]
pub(crate) async fn bulk(
    State(ingest): State<Arc<Ingest>>,
    params: Result<Query<BulkParams>, QueryRejection>,
    request: HttpRequest,
) -> Response {
    store(&ingest, String::new(), params, request).await
}

async fn bulk_into(
    State(ingest): State<Arc<Ingest>>,
    Path(index): Path<String>,
    params: Result<Query<BulkParams>, QueryRejection>,
    request: HttpRequest,
) -> Response {
    store(&ingest, index, params, request).await
}

async fn store(
    ingest: &Arc<Ingest>,
    index: String,
    params: Result<Query<BulkParams>, QueryRejection>,
    request: HttpRequest,
) -> Response {
    let begun = Instant::now();
    let (parts, body) = request.into_parts();
    let (params, asked) = match params {
        Ok(Query(params)) => (params, Ok(())),
        Err(error) => (BulkParams::default(), Err(IngestError::Unreadable(error.body_text()))),
    };
    let asked = asked.and_then(|()| {
        if index.len() > MAX_INDEX_BYTES {
            return Err(IngestError::Unreadable(format!(
                "index: expected a name of at most {MAX_INDEX_BYTES} bytes, found {}",
                index.len()
            )));
        }
        let pipeline = params.pipeline.unwrap_or_default();
        let params = vec![("index", index), ("pipeline", pipeline)];
        let format = ELASTICSEARCH_BULK.to_owned();
        let request = Request { format, params, ..Request::default() };
        Ok((request, Encoding::of(parts.headers.get(CONTENT_ENCODING))?))
    });
    match edge::accept_bulk(ingest, asked, &parts, body).await {
        Ok(stored) => {
            let filter = Filter::parse(params.filter_path.as_deref());
            BulkAnswer::new(stored, filter, begun.elapsed()).into_response()
        }
        Err(error) => refuse(&error),
    }
}

fn refuse(error: &IngestError) -> Response {
    let status = error.http_status();
    let kind = match status {
        StatusCode::TOO_MANY_REQUESTS => "es_rejected_execution_exception",
        StatusCode::PAYLOAD_TOO_LARGE => "content_too_long_exception",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "media_type_header_exception",
        StatusCode::REQUEST_TIMEOUT => "receive_timeout_transport_exception",
        StatusCode::SERVICE_UNAVAILABLE => "cluster_block_exception",
        status if status.is_client_error() => "illegal_argument_exception",
        _ => "exception",
    };
    edge::refuse(error, Json(error_body(kind, &error.to_string(), status)))
}

fn error_body(kind: &str, reason: &str, status: StatusCode) -> serde_json::Value {
    let cause = json!({"type": kind, "reason": reason});
    let error = json!({"root_cause": [cause], "type": kind, "reason": reason});
    json!({"error": error, "status": status.as_u16()})
}
