//! `GET /api/v1/logs/sql`: the SQL that a search stands for.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use datafusion::prelude::Expr;
use datafusion::sql::unparser::Unparser;
use datafusion::sql::unparser::dialect::PostgreSqlDialect;
use serde::Serialize;
use thalweg_event::schema::column;
use utoipa::ToSchema;

use crate::http::{HttpAsker, LOGS_TABLE, query_string_fault};
use crate::selection::Selection;
use crate::{QueryEngine, QueryError};

/// A search as SQL.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SearchSql {
    /// One statement, for `POST /api/v1/sql` or any Postgres client.
    sql: String,
}

/// The SQL that a search stands for.
///
/// Relative times are written out as of now. The statement has no `LIMIT`.
#[utoipa::path(
    get,
    path = "/api/v1/logs/sql",
    tag = "query",
    params(Selection),
    responses(
        (status = 200, description = "The search as SQL", body = SearchSql),
        (status = 400, description = "A parameter is wrong; says which and where"),
    )
)]
pub(crate) async fn search_sql(
    State(engine): State<Arc<QueryEngine>>,
    asker: HttpAsker,
    parameters: Result<Query<Selection>, QueryRejection>,
) -> Result<Json<SearchSql>, QueryError> {
    let Query(selection) = parameters.map_err(query_string_fault)?;
    let view = engine.view(asker.0)?;
    let conditions = selection.conditions(&view)?;
    let conditions = selection.times()?.conditions().chain(conditions);
    Ok(Json(SearchSql { sql: statement(conditions)? }))
}

fn statement(conditions: impl Iterator<Item = Expr>) -> Result<String, QueryError> {
    let dialect = PostgreSqlDialect {};
    let unparser = Unparser::new(&dialect);
    let conditions = conditions
        .map(|condition| Ok(unparser.expr_to_sql(&condition)?.to_string()))
        .collect::<Result<Vec<String>, QueryError>>()?;
    let filter = match conditions[..] {
        [] => String::new(),
        _ => format!("\nWHERE ({})", conditions.join(")\n  AND (")),
    };
    let (timestamp, event_id) = (column::TIMESTAMP, column::EVENT_ID);
    Ok(format!(
        "SELECT * FROM {LOGS_TABLE}{filter}\n\
         ORDER BY {timestamp} DESC, {event_id} DESC"
    ))
}
