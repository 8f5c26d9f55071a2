//! `/api/v1/views/{name}/replay`: begins a view anew from a time on, and tells how far it has come.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use utoipa::{OpenApi, ToSchema};

use crate::views::{NodeViews, Refused, Stage};

/// This module's part of the OpenAPI document.
#[derive(Debug, OpenApi)]
#[openapi(paths(begin, status), components(schemas(ReplayRequest, ReplayStatus, ReplayState)))]
pub(crate) struct ApiDoc;

/// Where a replay begins.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplayRequest {
    /// Event time of the first rows, in RFC 3339.
    pub(crate) from: String,
}

/// How the latest replay of a view stands.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ReplayStatus {
    /// Name of the view.
    pub(crate) view: String,
    /// Event time of the first rows.
    pub(crate) from: String,
    pub(crate) state: ReplayState,
    /// Rows of history read so far.
    pub(crate) history_rows: Option<u64>,
    /// Offsets of the log that are still to be read, once history has been.
    pub(crate) lag: Option<u64>,
    /// What keeps it from going on, or has ended it.
    pub(crate) fault: Option<String>,
}

/// The states of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ReplayState {
    /// The former version answers; the new one reads what the lake has.
    ReadingHistory,
    /// The former version answers; the new one reads what the log has behind that.
    CatchingUp,
    /// The new version answers.
    Done,
    /// It was given up; the former version answers.
    Failed,
}

pub(crate) fn router(views: Arc<NodeViews>) -> Router {
    Router::new().route("/api/v1/views/{name}/replay", get(status).post(begin)).with_state(views)
}

/// Begins a view anew with what its streams have from a time on. The view answers as before until
/// the new version has caught up; then that takes its place.
#[utoipa::path(
    post,
    path = "/api/v1/views/{name}/replay",
    tag = "views",
    params(("name" = String, Path, description = "Name of the view")),
    request_body = ReplayRequest,
    responses(
        (status = 202, description = "It has begun", body = ReplayStatus),
        (status = 400, description = "The time is none, or has yet to come"),
        (status = 403, description = "The token has not the scope `admin`"),
        (status = 404, description = "There is no such view"),
        (status = 409, description = "It is being replayed already, or another view reads it"),
    )
)]
async fn begin(
    State(views): State<Arc<NodeViews>>,
    Path(name): Path<String>,
    Json(request): Json<ReplayRequest>,
) -> Response {
    let Ok(from) = DateTime::parse_from_rfc3339(&request.from) else {
        let found = request.from;
        return refuse(Refused::Time(format!(
            "from: expected a time such as 2026-11-01T00:00:00Z, found `{found}`"
        )));
    };
    match views.replay(&name, from.timestamp_micros()).await {
        Ok(()) => (StatusCode::ACCEPTED, status(State(views), Path(name)).await).into_response(),
        Err(refused) => refuse(refused),
    }
}

/// How the latest replay of a view stands.
#[utoipa::path(
    get,
    path = "/api/v1/views/{name}/replay",
    tag = "views",
    params(("name" = String, Path, description = "Name of the view")),
    responses(
        (status = 200, description = "How it stands", body = ReplayStatus),
        (status = 403, description = "The token has not the scope `admin`"),
        (status = 404, description = "There is no such view, or it was never replayed"),
    )
)]
async fn status(State(views): State<Arc<NodeViews>>, Path(view): Path<String>) -> Response {
    let Some((since_micros, stage)) = views.replay_stage(&view) else {
        return refuse(Refused::Unknown(format!("no replay of a view `{view}` is known")));
    };
    let from = DateTime::from_timestamp_micros(since_micros).unwrap_or(DateTime::<Utc>::MIN_UTC);
    let from = from.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    let (state, history_rows, lag, fault) = match stage {
        Stage::Running(progress) => {
            let state = match progress.lag {
                None => ReplayState::ReadingHistory,
                Some(_) => ReplayState::CatchingUp,
            };
            (state, Some(progress.history_rows), progress.lag, progress.fault)
        }
        Stage::Done => (ReplayState::Done, None, None, None),
        Stage::Failed(why) => (ReplayState::Failed, None, None, Some(why)),
    };
    Json(ReplayStatus { view, from, state, history_rows, lag, fault }).into_response()
}

fn refuse(refused: Refused) -> Response {
    let status = match refused {
        Refused::Unknown(_) => StatusCode::NOT_FOUND,
        Refused::Time(_) => StatusCode::BAD_REQUEST,
        Refused::Conflict(_) => StatusCode::CONFLICT,
        Refused::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let body = serde_json::json!({"error": {"message": refused.to_string()}});
    (status, Json(body)).into_response()
}
