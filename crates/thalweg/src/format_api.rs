//! `GET /api/v1/formats`: the line formats this server knows.

use std::sync::Arc;

use axum::{Json, Router, extract::State, routing::get};
use serde::{Deserialize, Serialize};
use thalweg_ingest::Ingest;
use utoipa::{OpenApi, ToSchema};

/// This module's part of the OpenAPI document.
#[derive(Debug, OpenApi)]
#[openapi(paths(formats), components(schemas(FormatInfo)))]
pub(crate) struct ApiDoc;

/// What a sender needs to know of a format to cut a file into bodies.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct FormatInfo {
    /// Name, as in `?format=`.
    pub(crate) name: String,
    /// Whether a newline within double quotes belongs to the record.
    pub(crate) quoted_newlines: bool,
    /// Whether each body begins with a record that names the columns.
    pub(crate) has_header: bool,
}

pub(crate) fn router(ingest: Arc<Ingest>) -> Router {
    Router::new().route("/api/v1/formats", get(formats)).with_state(ingest)
}

/// The line formats this server knows.
#[utoipa::path(get, path = "/api/v1/formats", tag = "ingest", responses((status = 200, description = "Formats", body = [FormatInfo])))]
async fn formats(State(ingest): State<Arc<Ingest>>) -> Json<Vec<FormatInfo>> {
    let formats = ingest.formats();
    let info = |name: &str| {
        let format = formats.get(name)?;
        Some(FormatInfo {
            name: name.to_owned(),
            quoted_newlines: format.has_quoted_newlines(),
            has_header: format.has_header(),
        })
    };
    Json(formats.names().filter_map(info).collect())
}
