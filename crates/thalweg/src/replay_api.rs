//! `/api/v1/replays/{name}`: begins a view or a table anew from a time on, and tells how far that has
//! come.

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

use crate::replays::{Asked, NodeReplays, Refused, Stage};

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
    /// Whether a table may have fewer rows than before, those that the log has lost.
    #[serde(default)]
    pub(crate) allow_fewer: bool,
}

/// How the latest replay of a view or a table stands.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct ReplayStatus {
    /// Name of the view or the table.
    pub(crate) name: String,
    /// Event time of the first rows.
    pub(crate) from: String,
    pub(crate) state: ReplayState,
    /// Rows read so far; of a view, those of history only.
    pub(crate) rows: Option<u64>,
    /// Offsets of the log that are still to be read, once what the lake has been.
    pub(crate) lag: Option<u64>,
    /// What keeps it from going on, or has ended it.
    pub(crate) fault: Option<String>,
}

/// The states of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ReplayState {
    /// The former version answers; the new one reads what it takes from the lake: a view its history, a
    /// table its rows from before the time.
    ReadingHistory,
    /// The former version answers; the new one reads the log.
    CatchingUp,
    /// The new version answers.
    Done,
    /// It was given up; the former version answers.
    Failed,
}

pub(crate) fn router(replays: Arc<NodeReplays>) -> Router {
    Router::new().route("/api/v1/replays/{name}", get(status).post(begin)).with_state(replays)
}

/// Begins a view anew with what its streams have from a time on, or reads the part of a table from a
/// time on from the log anew. It answers as before until the new version has caught up; then that
/// takes its place.
#[utoipa::path(
    post,
    path = "/api/v1/replays/{name}",
    tag = "operation",
    params(("name" = String, Path, description = "Name of the view or the table")),
    request_body = ReplayRequest,
    responses(
        (status = 202, description = "It has begun", body = ReplayStatus),
        (status = 400, description = "The time is none, has yet to come, or is one since which the log has lost rows"),
        (status = 403, description = "The token has not the scope `admin`"),
        (status = 404, description = "There is no such view or table"),
        (status = 409, description = "It is being replayed already, or another view reads it"),
    )
)]
async fn begin(
    State(replays): State<Arc<NodeReplays>>,
    Path(name): Path<String>,
    Json(request): Json<ReplayRequest>,
) -> Response {
    let Ok(from) = DateTime::parse_from_rfc3339(&request.from) else {
        let found = request.from;
        return refuse(Refused::Asked(format!(
            "from: expected a time such as 2026-11-01T00:00:00Z, found `{found}`"
        )));
    };
    let asked = Asked { from_micros: from.timestamp_micros(), allow_fewer: request.allow_fewer };
    match replays.begin(&name, asked).await {
        Ok(()) => (StatusCode::ACCEPTED, status(State(replays), Path(name)).await).into_response(),
        Err(refused) => refuse(refused),
    }
}

/// How the latest replay of a view or a table stands.
#[utoipa::path(
    get,
    path = "/api/v1/replays/{name}",
    tag = "operation",
    params(("name" = String, Path, description = "Name of the view or the table")),
    responses(
        (status = 200, description = "How it stands", body = ReplayStatus),
        (status = 403, description = "The token has not the scope `admin`"),
        (status = 404, description = "There is no such view or table, or it was never replayed"),
    )
)]
async fn status(State(replays): State<Arc<NodeReplays>>, Path(name): Path<String>) -> Response {
    let (since_micros, stage) = match replays.stage(&name) {
        Ok(known) => known,
        Err(refused) => return refuse(refused),
    };
    let from = DateTime::from_timestamp_micros(since_micros).unwrap_or(DateTime::<Utc>::MIN_UTC);
    let from = from.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    let (state, rows, lag, fault) = match stage {
        Stage::Running(progress) => {
            let state = match progress.lag {
                None => ReplayState::ReadingHistory,
                Some(_) => ReplayState::CatchingUp,
            };
            (state, Some(progress.rows), progress.lag, progress.fault)
        }
        Stage::Done => (ReplayState::Done, None, None, None),
        Stage::Failed(why) => (ReplayState::Failed, None, None, Some(why)),
    };
    Json(ReplayStatus { name, from, state, rows, lag, fault }).into_response()
}

fn refuse(refused: Refused) -> Response {
    let status = match refused {
        Refused::Unknown(_) => StatusCode::NOT_FOUND,
        Refused::Asked(_) => StatusCode::BAD_REQUEST,
        Refused::Conflict(_) => StatusCode::CONFLICT,
        Refused::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let body = serde_json::json!({"error": {"message": refused.to_string()}});
    (status, Json(body)).into_response()
}
