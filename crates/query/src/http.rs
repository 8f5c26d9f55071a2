//! HTTP endpoints: SQL, pages of logs and what they hold, traces, and the live log.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use arrow::error::ArrowError;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{ConnectInfo, DefaultBodyLimit, FromRequestParts, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::StreamExt;
use serde::Deserialize;
use serde_json::json;
use thalweg_access::{Asker, Caller, NoGate};
use thalweg_event::schema::column;
use utoipa::{IntoParams, OpenApi, ToSchema};

use crate::answer::{self, AnswerWriter, Format};
use crate::answer_schema::{LogPage, SqlAnswer, TraceAnswer};
use crate::error_body::error_json;
use crate::json::{RowShape, for_each_row};
use crate::page::{self, Cursor, Order};
use crate::selection::{Selection, number};
use crate::tail::{self, Tailed};
use crate::{Limits, QueryEngine, QueryError, RunningQuery, facet, histogram, search_sql, traces};

/// Longest body of a request, in bytes.
const MAX_BODY_BYTES: usize = 256 << 10;
pub(crate) const LOGS_TABLE: &str = "logs";
const DEFAULT_PAGE_ROWS: usize = 100;
const MAX_PAGE_ROWS: usize = 1_000;
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);

/// The endpoints' part of the OpenAPI description.
#[derive(Debug, OpenApi)]
#[openapi(
    paths(
        sql,
        logs,
        crate::facet::facet,
        crate::histogram::histogram,
        crate::search_sql::search_sql,
        tail_logs,
        crate::traces::trace,
    ),
    components(schemas(SqlRequest, Order, SqlAnswer, LogPage, TraceAnswer))
)]
pub struct ApiDoc;

/// Routes `/api/v1/sql`, `/api/v1/logs` with what is below it, and `/api/v1/traces`, to be served
/// behind a `thalweg_access::Gate`.
pub fn router(engine: Arc<QueryEngine>) -> Router {
    Router::new()
        .route("/api/v1/sql", post(sql))
        .route("/api/v1/logs", get(logs))
        .route("/api/v1/logs/facet", get(facet::facet))
        .route("/api/v1/logs/histogram", get(histogram::histogram))
        .route("/api/v1/logs/sql", get(search_sql::search_sql))
        .route("/api/v1/logs/tail", get(tail_logs))
        .route("/api/v1/traces/{trace_id}", get(traces::trace))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(engine)
}

/// A query to answer.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SqlRequest {
    /// One SQL statement that reads.
    #[schema(example = "SELECT service, count(*) FROM logs GROUP BY service")]
    query: String,
    /// Rows after which the answer is cut off, which it then says.
    limit: Option<usize>,
    /// Seconds after which the query is given up.
    timeout_secs: Option<u64>,
}

impl SqlRequest {
    fn limits(&self, engine: &QueryEngine) -> Result<Limits, QueryError> {
        let config = engine.config();
        let rows = self.limit.unwrap_or(config.default_rows.min(config.max_rows));
        if rows > config.max_rows {
            let message = format!("expected at most {}, found {rows}", config.max_rows);
            return Err(QueryError::parameter("limit", message));
        }
        let timeout_secs = self.timeout_secs.unwrap_or(config.default_timeout_secs);
        if self.timeout_secs.is_some() && !(1..=config.max_timeout_secs).contains(&timeout_secs) {
            let message =
                format!("expected 1 to {}, found {timeout_secs}", config.max_timeout_secs);
            return Err(QueryError::parameter("timeout_secs", message));
        }
        Ok(Limits { rows: Some(rows), timeout: Duration::from_secs(timeout_secs) })
    }
}

/// Answer a SQL query.
///
/// The answer is JSON (`columns` with name and Postgres type, `rows` as arrays, `row_count`,
/// `truncated`, `elapsed_ms`), one JSON object a line, CSV with a header, or an Arrow IPC stream,
/// as `Accept` asks. Integers beyond ±(2⁵³ − 1) are strings in JSON. A query that fails after its
/// first rows ends a JSON answer with a member `error`, a line-wise one with a line `{"error":…}`,
/// and breaks off the other formats.
#[utoipa::path(
    post,
    path = "/api/v1/sql",
    tag = "query",
    request_body = SqlRequest,
    responses(
        (status = 200, description = "Rows, in the format asked for", content(
            (SqlAnswer = "application/json"),
            (String = "application/x-ndjson"),
            (String = "text/csv"),
            (Vec<u8> = "application/vnd.apache.arrow.stream"),
        )),
        (status = 400, description = "The query or a parameter is wrong; says where if known"),
        (status = 403, description = "The statement does more than read"),
        (status = 406, description = "No acceptable format"),
        (status = 422, description = "The query met a value it cannot process, or needs too much memory"),
        (status = 429, description = "Too many queries are running"),
        (status = 504, description = "The query took too long"),
    )
)]
async fn sql(
    State(engine): State<Arc<QueryEngine>>,
    asker: HttpAsker,
    headers: HeaderMap,
    request: Result<Json<SqlRequest>, JsonRejection>,
) -> Result<Response, QueryError> {
    let Json(request) =
        request.map_err(|rejection| QueryError::parameter("body", rejection.body_text()))?;
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = Format::negotiate(&accept.collect::<Vec<_>>().join(","))?;
    let query = engine.view(asker.0)?.sql(&request.query, request.limits(&engine)?).await?;
    let body = answer::body(query, format.writer())?;
    Ok(([(header::CONTENT_TYPE, format.content_type())], body).into_response())
}

/// Conditions, order and place of a page of logs.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PageParameters {
    /// Earliest time: RFC 3339, seconds or milliseconds since 1970, or relative (`-15m`, `now-1h`).
    from: Option<String>,
    /// Time before which rows must lie, written like `from`.
    to: Option<String>,
    /// Service, or several separated by commas.
    service: Option<String>,
    /// Least severe level (`warn` also finds errors), or exact levels separated by commas.
    level: Option<String>,
    /// Search: words and "phrases" in the message, `field:value`, comparisons like
    /// `duration_ms>500`, `attributes.key:value`, and `-` to negate; all must hold.
    q: Option<String>,
    /// Trace identifier, in hexadecimal.
    trace_id: Option<String>,
    /// Rows on the page, 100 unless given, at most 1000.
    limit: Option<usize>,
    /// Where the page begins: `next_cursor` of the page before, with all else unchanged.
    cursor: Option<String>,
    /// Newest first unless given.
    #[serde(default)]
    #[param(inline)]
    order: Order,
}

/// A page of logs.
///
/// `{"rows":[{…}],"next_cursor":…}`: columns without a value are left out, `attributes` and
/// `resource` are objects, and `next_cursor` is null on the last page.
#[utoipa::path(
    get,
    path = "/api/v1/logs",
    tag = "query",
    params(PageParameters),
    responses(
        (status = 200, description = "Rows and the cursor of the next page", body = LogPage),
        (status = 400, description = "A parameter is wrong; says which and where"),
        (status = 429, description = "Too many queries are running"),
        (status = 504, description = "The query took too long"),
    )
)]
async fn logs(
    State(engine): State<Arc<QueryEngine>>,
    asker: HttpAsker,
    uri: Uri,
    parameters: Result<Query<PageParameters>, QueryRejection>,
) -> Result<Response, QueryError> {
    let Query(parameters) = parameters.map_err(query_string_fault)?;
    let PageParameters { from, to, service, level, q, trace_id, limit, cursor, order } = parameters;
    let limit = number("limit", limit, DEFAULT_PAGE_ROWS, MAX_PAGE_ROWS)?;
    let selection = Selection { from, to, service, level, q, trace_id };
    let times = selection.times()?;
    let cursor = cursor.map(|text| Cursor::decode(&text, order)).transpose()?;
    // One row more than wanted tells whether there is another page.
    let view = engine.view(asker.0)?;
    let conditions = selection.conditions(&view)?.into_iter().chain(times.conditions()).collect();
    let table = view.table(LOGS_TABLE).await?;
    let plan = page::plan(table, conditions, order, cursor.as_ref(), limit + 1)?;
    let limits = Limits { rows: None, timeout: engine.config().default_timeout() };
    let query = view.start(plan, &asked(&uri), limits).await?;
    let writer = PageWriter { order, limit, written: 0, last: None, more: false };
    let body = answer::body(query, Box::new(writer))?;
    Ok(([(header::CONTENT_TYPE, Format::Json.content_type())], body).into_response())
}

/// Writes a page and the cursor after it.
struct PageWriter {
    order: Order,
    limit: usize,
    written: usize,
    last: Option<Cursor>,
    more: bool,
}

impl AnswerWriter for PageWriter {
    fn start(&mut self, _schema: &SchemaRef, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        out.extend_from_slice(b"{\"rows\":[");
        Ok(())
    }

    fn rows(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        let wanted = batch.num_rows().min(self.limit - self.written);
        self.more |= wanted < batch.num_rows();
        let batch = batch.slice(0, wanted);
        if wanted > 0 {
            self.last = cursor_at(&batch, wanted - 1, self.order);
        }
        for_each_row(&batch, RowShape::Log, |row| {
            out.extend_from_slice(if self.written > 0 { b",\n" } else { b"\n" });
            out.extend_from_slice(row);
            self.written += 1;
        })
    }

    fn end(&mut self, _query: &RunningQuery, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        let next = self.last.as_ref().filter(|_| self.more).map(Cursor::encode);
        out.extend_from_slice(format!("],\"next_cursor\":{}}}\n", json!(next)).as_bytes());
        Ok(())
    }

    fn fail(&mut self, error: &QueryError, out: &mut Vec<u8>) -> bool {
        let tail = format!("],\"error\":{}}}\n", error_json(error)["error"]);
        out.extend_from_slice(tail.as_bytes());
        true
    }
}

fn cursor_at(batch: &RecordBatch, row: usize, order: Order) -> Option<Cursor> {
    let times = batch.column_by_name(column::TIMESTAMP)?;
    let ids = batch.column_by_name(column::EVENT_ID)?;
    let event_id = match ids.as_string_view_opt() {
        Some(ids) => ids.value(row),
        None => ids.as_string_opt::<i32>()?.value(row),
    };
    Some(Cursor {
        order,
        timestamp_micros: times.as_primitive_opt::<TimestampMicrosecondType>()?.value(row),
        event_id: event_id.to_owned(),
    })
}

/// Conditions on the rows to follow.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct TailParameters {
    /// Service, or several separated by commas.
    service: Option<String>,
    /// Least severe level (`warn` also finds errors), or exact levels separated by commas.
    level: Option<String>,
    /// Search, as for a page of logs.
    q: Option<String>,
    /// Trace identifier, in hexadecimal.
    trace_id: Option<String>,
}

/// The log as it grows.
///
/// Server-sent events: each row is a `message` with the row as a JSON object. A client that reads
/// too slowly gets an event `dropped` with `{"rows":…}` in the place of the rows left out. A
/// comment every 15 seconds shows that the connection is alive.
#[utoipa::path(
    get,
    path = "/api/v1/logs/tail",
    tag = "query",
    params(TailParameters),
    responses(
        (status = 200, description = "Events", body = String, content_type = "text/event-stream"),
        (status = 400, description = "A parameter is wrong; says which and where"),
        (status = 429, description = "Too many clients follow the log"),
    )
)]
async fn tail_logs(
    State(engine): State<Arc<QueryEngine>>,
    asker: HttpAsker,
    uri: Uri,
    parameters: Result<Query<TailParameters>, QueryRejection>,
) -> Result<Response, QueryError> {
    let Query(TailParameters { service, level, q, trace_id }) =
        parameters.map_err(query_string_fault)?;
    let selection = Selection { service, level, q, trace_id, ..Selection::default() };
    let view = engine.view(asker.0)?;
    let conditions = selection.conditions(&view)?;
    let events = tail::follow(&view, conditions, &asked(&uri))?.map(|tailed| {
        Ok::<_, Infallible>(match tailed {
            Tailed::Row(row) => Event::default().data(row),
            Tailed::Dropped(rows) => {
                Event::default().event("dropped").data(json!({"rows": rows}).to_string())
            }
        })
    });
    let heartbeat = KeepAlive::new().interval(HEARTBEAT_INTERVAL).text("heartbeat");
    Ok(Sse::new(events).keep_alive(heartbeat).into_response())
}

/// Who asks over HTTP.
pub(crate) struct HttpAsker(pub(crate) Asker);

impl<S: Sync> FromRequestParts<S> for HttpAsker {
    type Rejection = NoGate;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, NoGate> {
        let Caller(principal) = Caller::of(&parts.extensions)?;
        let address = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|client| client.0);
        Ok(Self(Asker { principal, protocol: "http", address }))
    }
}

/// A request for the audit log.
pub(crate) fn asked(uri: &Uri) -> String {
    format!("GET {}", uri.path_and_query().map_or("", |path| path.as_str()))
}

pub(crate) fn query_string_fault(rejection: QueryRejection) -> QueryError {
    QueryError::parameter("query string", rejection.body_text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described() {
        let description = ApiDoc::openapi();
        let paths: Vec<&str> = description.paths.paths.keys().map(String::as_str).collect();
        assert_eq!(
            paths,
            [
                "/api/v1/logs",
                "/api/v1/logs/facet",
                "/api/v1/logs/histogram",
                "/api/v1/logs/sql",
                "/api/v1/logs/tail",
                "/api/v1/sql",
                "/api/v1/traces/{trace_id}"
            ]
        );
    }
}
