//! The document that describes the HTTP interface.

use axum::{Json, Router, routing::get};
use utoipa::OpenApi as _;

/// OpenAPI 3.1 document of everything on the HTTP port.
pub(crate) fn document() -> utoipa::openapi::OpenApi {
    let mut document = thalweg_ingest::http::Api::openapi();
    document.merge(thalweg_query::http::ApiDoc::openapi());
    document.merge(thalweg_alert::http::ApiDoc::openapi());
    document.merge(crate::format_api::ApiDoc::openapi());
    document.merge(crate::log_api::ApiDoc::openapi());
    document.merge(crate::replay_api::ApiDoc::openapi());
    document.merge(crate::health::ApiDoc::openapi());
    document.merge(crate::config_api::ApiDoc::openapi());
    document.merge(crate::identity_api::ApiDoc::openapi());
    document.info = utoipa::openapi::InfoBuilder::new()
        .title("thalweg")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("Logs and traces from the wire to a SQL answer"))
        .build();
    document
}

pub(crate) fn router() -> Router {
    Router::new().route("/openapi.json", get(|| async { Json(document()) }))
}
