//! The part of Grafana Loki's HTTP interface that agents speak.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{HeaderMap, StatusCode, header::CONTENT_ENCODING};
use serde_json::{Value, json};

use crate::{
    answer::faults_as_text,
    body::Encoding,
    edge::{self, media_type},
    error::IngestError,
    pipeline::{Ingest, LOKI_JSON, LOKI_PROTOBUF, Request},
};

/// Names the tenant that a push is for.
const TENANT: &str = "x-scope-orgid";

pub(crate) fn router(ingest: Arc<Ingest>) -> Router {
    Router::new()
        .route("/loki/api/v1/push", post(push))
        .route("/loki/api/v1/status/buildinfo", get(build_info))
        .route("/ready", get(async || "ready\n"))
        .with_state(ingest)
}

/// Stores lines as Grafana Loki does.
#[utoipa::path(
    post,
    path = "/loki/api/v1/push",
    tag = "ingest",
    request_body(
        description = "A push request; protobuf is compressed with Snappy",
        content((serde_json::Value = "application/json"), (Vec<u8> = "application/x-protobuf")),
    ),
    responses(
        (status = 204, description = "All entries are durable"),
        (status = 400, description = "The body cannot be read, or entries were rejected", body = String),
        (status = 413, description = "The body is too long", body = String),
        (status = 415, description = "The content type or encoding is unknown", body = String),
        (status = 429, description = "Overloaded; see `Retry-After`", body = String),
        (status = 503, description = "The log takes nothing now, or the body was slow", body = String),
    )
)]
pub(crate) async fn push(
    State(ingest): State<Arc<Ingest>>,
    request: http::Request<Body>,
) -> Response {
    let (parts, body) = request.into_parts();
    let asked = format_and_encoding(&parts.headers).map(|(format, encoding)| {
        let tenant = parts.headers.get(TENANT).and_then(|tenant| tenant.to_str().ok());
        let params = vec![("tenant", tenant.unwrap_or_default().to_owned())];
        let request = Request { format: format.to_owned(), params, ..Request::default() };
        (request, encoding)
    });
    match edge::accept_bulk(&ingest, asked, &parts, body).await.map(|stored| stored.accepted) {
        Ok(accepted) if accepted.rejected == 0 => StatusCode::NO_CONTENT.into_response(),
        Ok(accepted) => {
            let (good, bad) = (accepted.accepted, accepted.rejected);
            let faults = faults_as_text(&accepted);
            let text = format!("{bad} entries were rejected and {good} stored: {faults}\n");
            (StatusCode::BAD_REQUEST, text).into_response()
        }
        Err(error) => edge::refuse_as(status(&error), &error, format!("{error}\n")),
    }
}

/// Promtail and its like repeat after 429 and 5xx only.
fn status(error: &IngestError) -> StatusCode {
    match error {
        IngestError::TooSlow(_) => StatusCode::SERVICE_UNAVAILABLE,
        _ => error.http_status(),
    }
}

/// As Loki reads them: anything that is not called JSON is protobuf, and protobuf is compressed
/// with Snappy whether a header says so or not.
fn format_and_encoding(headers: &HeaderMap) -> Result<(&'static str, Encoding), IngestError> {
    let encoding = headers.get(CONTENT_ENCODING);
    match media_type(headers) {
        "application/json" => Ok((LOKI_JSON, Encoding::of(encoding)?)),
        "" | "application/x-protobuf" => match encoding {
            Some(name) if name != "snappy" && name != "identity" => Err(IngestError::Unsupported(
                format!("content encoding: expected snappy for protobuf, found {name:?}"),
            )),
            _ => Ok((LOKI_PROTOBUF, Encoding::Snappy)),
        },
        other => Err(IngestError::Unsupported(format!(
            "content type: expected application/json or application/x-protobuf, found `{other}`"
        ))),
    }
}

async fn build_info() -> Json<Value> {
    Json(json!({
        "version": "3.5.0",
        "revision": "thalweg",
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
    }))
}
