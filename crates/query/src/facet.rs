//! `GET /api/v1/logs/facet`: the most frequent values of a field.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::Uri;
use datafusion::execution::FunctionRegistry as _;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::{Expr, ident, lit};
use serde::{Deserialize, Serialize};
use thalweg_event::schema::column;
use utoipa::{IntoParams, ToSchema};

use crate::collect::SmallAnswer;
use crate::http::{HttpAsker, LOGS_TABLE, asked, query_string_fault};
use crate::selection::{Selection, TEMPLATE, TEMPLATE_ID, is_column, matching, number};
use crate::{Limits, QueryEngine, QueryError, View};

const DEFAULT_VALUES: usize = 10;
const MAX_VALUES: usize = 1_000;

/// Which logs to count, by which field.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct FacetParameters {
    /// A column, or `template` for the template of the message.
    field: String,
    /// Earliest time, as for a page of logs.
    from: Option<String>,
    /// Time before which rows must lie.
    to: Option<String>,
    /// Service, or several separated by commas.
    service: Option<String>,
    /// Least severe level (`warn` also finds errors), or exact levels separated by commas.
    level: Option<String>,
    /// Search, as for a page of logs.
    q: Option<String>,
    /// Trace identifier, in hexadecimal.
    trace_id: Option<String>,
    /// Values wanted, 10 unless given, at most 1000.
    limit: Option<usize>,
}

/// The most frequent values of a field.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Facet {
    /// The field.
    field: String,
    /// Its values, the most frequent first.
    values: Vec<FacetValue>,
    /// Whether there are more.
    more: bool,
}

/// A value, and how many events have it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FacetValue {
    /// The value as it is searched for; null for events without one.
    value: Option<String>,
    /// What to call it: the template's text, or the value itself.
    label: Option<String>,
    /// Events that have it.
    events: i64,
}

/// The most frequent values of a field.
#[utoipa::path(
    get,
    path = "/api/v1/logs/facet",
    tag = "query",
    params(FacetParameters),
    responses(
        (status = 200, description = "Values and their counts", body = Facet),
        (status = 400, description = "A parameter is wrong; says which and where"),
        (status = 429, description = "Too many queries are running"),
        (status = 504, description = "The query took too long"),
    )
)]
pub(crate) async fn facet(
    State(engine): State<Arc<QueryEngine>>,
    asker: HttpAsker,
    uri: Uri,
    parameters: Result<Query<FacetParameters>, QueryRejection>,
) -> Result<Json<Facet>, QueryError> {
    let Query(parameters) = parameters.map_err(query_string_fault)?;
    let FacetParameters { field, from, to, service, level, q, trace_id, limit } = parameters;
    let selection = Selection { from, to, service, level, q, trace_id };
    let limit = number("limit", limit, DEFAULT_VALUES, MAX_VALUES)?;
    let view = engine.view(asker.0)?;
    let keys = keys(&view, &field)?;
    // One value more than wanted tells whether there are others.
    let plan = plan(&view, &selection, &keys, limit + 1).await?;
    let limits = Limits { rows: None, timeout: engine.config().default_timeout() };
    let answer = SmallAnswer::read(view.start(plan, &asked(&uri), limits).await?).await?;
    let mut values = Vec::new();
    for row in answer.rows() {
        let value = row.text(0)?;
        let label = row.text(keys.len() - 1)?;
        values.push(FacetValue { value, label, events: row.number(keys.len())? });
    }
    let more = values.len() > limit;
    values.truncate(limit);
    Ok(Json(Facet { field, values, more }))
}

/// What rows are told apart by: the value, and what it is called if that is something else.
fn keys(view: &View, field: &str) -> Result<Vec<Expr>, QueryError> {
    if field == TEMPLATE
        && let (Ok(id), Ok(text)) = (view.context().udf(TEMPLATE_ID), view.context().udf(TEMPLATE))
    {
        let message = || vec![ident(column::MESSAGE)];
        return Ok(vec![id.call(message()), text.call(message())]);
    }
    if is_column(field) {
        return Ok(vec![ident(field)]);
    }
    let message = format!("expected a column of table logs, or `template`, found {field:?}");
    Err(QueryError::parameter("field", message))
}

async fn plan(
    view: &View,
    selection: &Selection,
    keys: &[Expr],
    values: usize,
) -> Result<LogicalPlan, QueryError> {
    let conditions = selection.conditions(view)?.into_iter().chain(selection.times()?.conditions());
    let matching = matching(view.table(LOGS_TABLE).await?, conditions)?;
    let names = keys.iter().enumerate().map(|(at, _)| format!("key{at}")).collect::<Vec<_>>();
    let aliased = keys.iter().zip(&names).map(|(key, name)| key.clone().alias(name)).collect();
    let events = "events";
    let counted = matching.aggregate(aliased, vec![count(lit(1_i64)).alias(events)])?;
    let order = names.iter().map(|name| ident(name).sort(true, false));
    let order = [ident(events).sort(false, false)].into_iter().chain(order).collect();
    Ok(counted.sort(order)?.limit(0, Some(values))?.into_unoptimized_plan())
}
