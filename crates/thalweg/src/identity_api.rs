//! `GET /api/v1/me`: who the server takes the caller for.

use axum::{Json, Router, routing::get};
use serde::Serialize;
use thalweg_access::{Caller, Scope};
use utoipa::{OpenApi, ToSchema};

/// This module's part of the OpenAPI document.
#[derive(Debug, OpenApi)]
#[openapi(paths(me), components(schemas(Identity)))]
pub(crate) struct ApiDoc;

/// Who the server takes the caller for.
#[derive(Debug, Serialize, ToSchema)]
struct Identity {
    /// Name of the token, or `anonymous` where none is asked for.
    name: String,
    /// What the caller may do: `ingest`, `query`, `admin`.
    scopes: Vec<&'static str>,
    /// The only services whose rows the caller reads and writes; null for all.
    services: Option<Vec<String>>,
}

/// Routes `/api/v1/me`, to be served behind a gate that asks for any token.
pub(crate) fn router() -> Router {
    Router::new().route("/api/v1/me", get(me))
}

/// Who the server takes the caller for.
#[utoipa::path(
    get,
    path = "/api/v1/me",
    tag = "operation",
    responses(
        (status = 200, description = "The caller", body = Identity),
        (status = 401, description = "A token is needed, and none or a wrong one was shown"),
    )
)]
async fn me(Caller(principal): Caller) -> Json<Identity> {
    let scopes = Scope::ALL.into_iter().filter(|scope| principal.may(*scope));
    Json(Identity {
        name: principal.name().to_owned(),
        scopes: scopes.map(Scope::name).collect(),
        services: principal.services().map(|services| services.iter().cloned().collect()),
    })
}
