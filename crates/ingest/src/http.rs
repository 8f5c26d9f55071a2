//! The HTTP endpoints: native on `/api/v1/logs`, OTLP on `/v1/logs` and `/v1/traces`, and those of
//! other systems.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Body,
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
    routing::post,
};
use http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_TYPE};
use prost::Message;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, OpenApi, ToSchema};

use crate::{
    answer::{ExportServiceResponse, Status},
    edge::{accept, media_type, refuse},
    elasticsearch,
    error::IngestError,
    loki,
    pipeline::{Accepted, Ingest, Request},
    signal::Signal,
    splunk,
};

/// The HTTP endpoints of `ingest`, to be served with `ConnectInfo<SocketAddr>` behind a
/// `thalweg_access::Gate`.
pub fn router(ingest: Arc<Ingest>) -> Router {
    Router::new()
        .route("/api/v1/logs", post(post_logs))
        .route("/v1/logs", post(post_otlp_logs))
        .route("/v1/traces", post(post_otlp_traces))
        .with_state(Arc::clone(&ingest))
        .merge(elasticsearch::router(Arc::clone(&ingest)))
        .merge(loki::router(Arc::clone(&ingest)))
        .merge(splunk::router(ingest))
}

/// Description of the HTTP endpoints.
#[derive(OpenApi)]
#[openapi(
    paths(
        post_logs,
        post_otlp_logs,
        post_otlp_traces,
        elasticsearch::bulk,
        loki::push,
        splunk::post_events,
        splunk::post_raw,
    ),
    components(schemas(Answer, RecordError, Refusal))
)]
pub struct Api;

/// How the body of a request is to be read.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Params {
    /// Format of the body; by default the content type tells.
    format: Option<String>,
    /// Service of events that name none.
    service: Option<String>,
    /// Gives record `i` the id `{id_prefix}:{id_start + i}` unless it brings its own.
    id_prefix: Option<String>,
    /// Number of the first record, 0 if not given.
    #[serde(default)]
    id_start: u64,
    /// With `true` nothing is stored: the answer tells what would become of the records.
    #[serde(default)]
    dry_run: bool,
}

/// What became of a body's records; all accepted ones are durable.
#[derive(Debug, Serialize, ToSchema)]
struct Answer {
    /// Number of good records, those stored before among them.
    accepted: usize,
    /// Number of bad records, now in table `rejected`.
    rejected: usize,
    /// What is wrong with the first 100 bad records.
    errors: Vec<RecordError>,
}

/// What is wrong with a record.
#[derive(Debug, Serialize, ToSchema)]
struct RecordError {
    /// Index of the record in the body, from 0.
    index: usize,
    /// What was expected and what was found.
    reason: String,
}

/// Why a request was not accepted.
#[derive(Debug, Serialize, ToSchema)]
struct Refusal {
    /// What was expected and what was found.
    error: String,
}

/// Stores logs in JSON, NDJSON, plain text or an access-log format.
#[utoipa::path(
    post,
    path = "/api/v1/logs",
    tag = "ingest",
    params(Params),
    request_body(
        description = "Records; may be compressed with gzip, zstd or deflate",
        content(
            (Vec<serde_json::Value> = "application/json"),
            (String = "application/x-ndjson"),
            (String = "text/plain"),
        )
    ),
    responses(
        (status = 200, description = "Good records are durable", body = Answer),
        (status = 400, description = "The body cannot be read", body = Refusal),
        (status = 408, description = "The body did not arrive in time", body = Refusal),
        (status = 413, description = "The body is too long", body = Refusal),
        (status = 415, description = "The format or encoding is unknown", body = Refusal),
        (status = 422, description = "Every record was rejected", body = Answer),
        (status = 429, description = "Overloaded; see `Retry-After`", body = Refusal),
        (status = 503, description = "The log takes nothing now, e.g. its disk is full", body = Refusal),
    )
)]
async fn post_logs(
    State(ingest): State<Arc<Ingest>>,
    params: Result<Query<Params>, QueryRejection>,
    request: http::Request<Body>,
) -> Response {
    let (parts, body) = request.into_parts();
    let asked = params
        .map_err(|rejection| IngestError::Unreadable(rejection.body_text()))
        .and_then(|Query(params)| {
            let format = match params.format {
                Some(format) => format,
                None => format_of_type(&ingest, &parts.headers)?.to_owned(),
            };
            let ids = params.id_prefix.map(|prefix| (prefix, params.id_start));
            let (default_service, is_dry_run) = (params.service, params.dry_run);
            Ok(Request { format, default_service, ids, is_dry_run, ..Request::default() })
        });
    match accept(&ingest, asked, &parts, body).await {
        Ok(Accepted { accepted, rejected, faults }) => {
            let status = match (accepted, rejected) {
                (0, 1..) => StatusCode::UNPROCESSABLE_ENTITY,
                _ => StatusCode::OK,
            };
            let error =
                |(index, fault): (_, thalweg_event::Fault)| RecordError { index, reason: fault.0 };
            let errors = faults.into_iter().map(error).collect();
            (status, Json(Answer { accepted, rejected, errors })).into_response()
        }
        Err(error) => refuse(&error, Json(Refusal { error: error.to_string() })),
    }
}

/// Stores OpenTelemetry logs (OTLP/HTTP).
#[utoipa::path(
    post,
    path = "/v1/logs",
    tag = "ingest",
    request_body(
        description = "`ExportLogsServiceRequest`; may be compressed with gzip, zstd or deflate",
        content(
            (Vec<u8> = "application/x-protobuf"),
            (serde_json::Value = "application/json"),
        )
    ),
    responses(
        (status = 200, description = "`ExportLogsServiceResponse`, in the encoding of the request"),
        (status = 400, description = "Unreadable, or every record was rejected; `google.rpc.Status`"),
        (status = 408, description = "The body did not arrive in time; `google.rpc.Status`"),
        (status = 413, description = "The body is too long; `google.rpc.Status`"),
        (status = 415, description = "Neither protobuf nor JSON; `google.rpc.Status`"),
        (status = 429, description = "Overloaded, see `Retry-After`; `google.rpc.Status`"),
        (status = 503, description = "The log takes nothing now; `google.rpc.Status`"),
    )
)]
async fn post_otlp_logs(
    State(ingest): State<Arc<Ingest>>,
    request: http::Request<Body>,
) -> Response {
    post_otlp(&ingest, Signal::Logs, request).await
}

/// Stores OpenTelemetry spans (OTLP/HTTP).
#[utoipa::path(
    post,
    path = "/v1/traces",
    tag = "ingest",
    request_body(
        description = "`ExportTraceServiceRequest`; may be compressed with gzip, zstd or deflate",
        content(
            (Vec<u8> = "application/x-protobuf"),
            (serde_json::Value = "application/json"),
        )
    ),
    responses(
        (status = 200, description = "`ExportTraceServiceResponse`, in the encoding of the request"),
        (status = 400, description = "Unreadable, or every span was rejected; `google.rpc.Status`"),
        (status = 408, description = "The body did not arrive in time; `google.rpc.Status`"),
        (status = 413, description = "The body is too long; `google.rpc.Status`"),
        (status = 415, description = "Neither protobuf nor JSON; `google.rpc.Status`"),
        (status = 429, description = "Overloaded, see `Retry-After`; `google.rpc.Status`"),
        (status = 503, description = "The log takes nothing now; `google.rpc.Status`"),
    )
)]
async fn post_otlp_traces(
    State(ingest): State<Arc<Ingest>>,
    request: http::Request<Body>,
) -> Response {
    post_otlp(&ingest, Signal::Traces, request).await
}

async fn post_otlp(ingest: &Arc<Ingest>, signal: Signal, request: http::Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let content_type = media_type(&parts.headers);
    // The answer is written as the request was.
    let is_json = content_type != "application/x-protobuf";
    let format = match content_type {
        "application/x-protobuf" => Ok(signal.protobuf()),
        "application/json" => Ok(signal.json()),
        other => Err(IngestError::Unsupported(format!(
            "content type: expected application/x-protobuf or application/json, found `{other}`"
        ))),
    };
    let asked = format.map(|format| Request { format: format.to_owned(), ..Request::default() });
    let status = |status: &Status| match is_json {
        true => Json(status).into_response(),
        false => protobuf(status),
    };
    match accept(ingest, asked, &parts, body).await {
        Ok(accepted) if accepted.accepted == 0 && accepted.rejected > 0 => {
            (StatusCode::BAD_REQUEST, status(&Status::all_rejected(&accepted))).into_response()
        }
        Ok(accepted) => {
            let answer = ExportServiceResponse::from(&accepted);
            if is_json { Json(answer.to_json(signal)).into_response() } else { protobuf(&answer) }
        }
        Err(error) => refuse(&error, status(&Status::from(&error))),
    }
}

/// Name of the native format that the content type stands for.
fn format_of_type(ingest: &Ingest, headers: &HeaderMap) -> Result<&'static str, IngestError> {
    match media_type(headers) {
        "application/json" => Ok("json"),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Ok("ndjson"),
        "text/plain" => Ok("text"),
        other => {
            let formats = ingest.format_names().collect::<Vec<_>>().join(", ");
            Err(IngestError::Unsupported(format!(
                "content type: expected application/json, application/x-ndjson or text/plain, \
                 found `{other}`; or name the format as `?format=`, one of {formats}"
            )))
        }
    }
}

fn protobuf(message: &impl Message) -> Response {
    let protobuf = HeaderValue::from_static("application/x-protobuf");
    ([(CONTENT_TYPE, protobuf)], message.encode_to_vec()).into_response()
}
