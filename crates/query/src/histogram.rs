//! `GET /api/v1/logs/histogram`: how many events there were when, by level.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::Uri;
use chrono::{DateTime, Utc};
use datafusion::arrow::datatypes::DataType;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::{LogicalPlan, cast};
use datafusion::prelude::{DataFrame, Expr, col, lit};
use serde::{Deserialize, Serialize};
use thalweg_event::schema::column;
use utoipa::{IntoParams, ToSchema};

use crate::collect::SmallAnswer;
use crate::http::{HttpAsker, LOGS_TABLE, asked, query_string_fault};
use crate::selection::{Selection, TimeRange, matching, number};
use crate::{Limits, QueryEngine, QueryError};

const DEFAULT_BUCKETS: u32 = 60;
const MAX_BUCKETS: u32 = 1_000;
/// Time shown when a request says only where it ends: the last 15 minutes.
const DEFAULT_RANGE_MICROS: i64 = 15 * 60 * 1_000_000;
/// Name of the level of events that have none.
const NO_LEVEL: &str = "NONE";

/// Widths of buckets that people can read, in milliseconds; beyond the last, whole days.
const INTERVALS_MS: [i64; 24] = [
    1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000,
    120_000, 300_000, 600_000, 1_800_000, 3_600_000, 10_800_000, 21_600_000, 43_200_000,
];
const DAY_MS: i64 = 86_400_000;

/// Which logs to count, and how finely.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct HistogramParameters {
    /// Earliest time, as for a page of logs; 15 minutes before `to` unless given.
    from: Option<String>,
    /// Time before which rows must lie; now unless given.
    to: Option<String>,
    /// Service, or several separated by commas.
    service: Option<String>,
    /// Least severe level (`warn` also finds errors), or exact levels separated by commas.
    level: Option<String>,
    /// Search, as for a page of logs.
    q: Option<String>,
    /// Trace identifier, in hexadecimal.
    trace_id: Option<String>,
    /// Buckets wanted, 60 unless given, at most 1000; there may be fewer.
    buckets: Option<u32>,
}

/// How many events there were when.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Histogram {
    /// Time from which events are counted.
    from: DateTime<Utc>,
    /// Time before which they are.
    to: DateTime<Utc>,
    /// Width of the buckets, in milliseconds. They begin at its multiples since 1970.
    interval_ms: i64,
    /// Events in all.
    total: i64,
    /// Buckets that are not empty, oldest first.
    buckets: Vec<Bucket>,
}

/// The events of a stretch of time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Bucket {
    /// When it begins.
    start: DateTime<Utc>,
    /// Events by level; `NONE` are those without one.
    levels: BTreeMap<String, i64>,
}

/// How many events there were when, by level.
#[utoipa::path(
    get,
    path = "/api/v1/logs/histogram",
    tag = "query",
    params(HistogramParameters),
    responses(
        (status = 200, description = "Counts by time and level", body = Histogram),
        (status = 400, description = "A parameter is wrong; says which and where"),
        (status = 429, description = "Too many queries are running"),
        (status = 504, description = "The query took too long"),
    )
)]
pub(crate) async fn histogram(
    State(engine): State<Arc<QueryEngine>>,
    asker: HttpAsker,
    uri: Uri,
    parameters: Result<Query<HistogramParameters>, QueryRejection>,
) -> Result<Json<Histogram>, QueryError> {
    let Query(parameters) = parameters.map_err(query_string_fault)?;
    let HistogramParameters { from, to, service, level, q, trace_id, buckets } = parameters;
    let selection = Selection { from, to, service, level, q, trace_id };
    let wanted = number("buckets", buckets, DEFAULT_BUCKETS, MAX_BUCKETS)?;
    let times = selection.times()?;
    let to = times.to_micros.unwrap_or_else(|| Utc::now().timestamp_micros());
    let from = times.from_micros.unwrap_or(to.saturating_sub(DEFAULT_RANGE_MICROS));
    if from >= to {
        let message = format!("expected a time before `to`, found {}", time(from)?.to_rfc3339());
        return Err(QueryError::parameter("from", message));
    }
    let interval_ms = interval_ms(to.saturating_sub(from), wanted);
    let view = engine.view(asker.0)?;
    let range = TimeRange { from_micros: Some(from), to_micros: Some(to) };
    let conditions = selection.conditions(&view)?.into_iter().chain(range.conditions());
    let plan = plan(view.table(LOGS_TABLE).await?, conditions, interval_ms * 1_000)?;
    let limits = Limits { rows: None, timeout: engine.config().default_timeout() };
    let answer = SmallAnswer::read(view.start(plan, &asked(&uri), limits).await?).await?;

    let mut histogram =
        Histogram { from: time(from)?, to: time(to)?, interval_ms, total: 0, buckets: vec![] };
    for row in answer.rows() {
        let start = time(row.number(0)? * interval_ms * 1_000)?;
        let level = row.text(1)?.unwrap_or_else(|| NO_LEVEL.to_owned());
        let events = row.number(2)?;
        histogram.total += events;
        match histogram.buckets.last_mut() {
            Some(bucket) if bucket.start == start => drop(bucket.levels.insert(level, events)),
            _ => histogram.buckets.push(Bucket { start, levels: [(level, events)].into() }),
        }
    }
    Ok(Json(histogram))
}

fn plan(
    logs: DataFrame,
    conditions: impl Iterator<Item = Expr>,
    interval_micros: i64,
) -> Result<LogicalPlan, QueryError> {
    let matching = matching(logs, conditions)?;
    let bucket = cast(col(column::TIMESTAMP), DataType::Int64) / lit(interval_micros);
    let counted = matching
        .aggregate(
            vec![bucket.alias("bucket"), col(column::LEVEL)],
            vec![count(lit(1_i64)).alias("events")],
        )?
        .sort(vec![col("bucket").sort(true, false)])?;
    Ok(counted.into_unoptimized_plan())
}

/// The finest width of buckets of which `wanted` cover the time.
fn interval_ms(range_micros: i64, wanted: u32) -> i64 {
    let least_ms = range_micros / 1_000 / i64::from(wanted);
    INTERVALS_MS
        .into_iter()
        .find(|interval| *interval >= least_ms)
        .unwrap_or_else(|| (least_ms / DAY_MS + 1) * DAY_MS)
}

fn time(micros: i64) -> Result<DateTime<Utc>, QueryError> {
    DateTime::from_timestamp_micros(micros).ok_or_else(|| {
        QueryError::parameter("from", format!("expected a time of this era, found {micros} µs"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_as_fine_as_was_asked_for_and_of_widths_that_people_read() {
        let second = 1_000_000;
        for (range_secs, wanted, expected_ms) in
            [(60, 60, 1_000), (900, 60, 15_000), (86_400, 60, 1_800_000), (864_000, 2, 5 * DAY_MS)]
        {
            let interval = interval_ms(range_secs * second, wanted);
            assert!(interval >= expected_ms, "{range_secs} s in {wanted}: {interval} ms");
            assert!(
                range_secs * 1_000 / interval <= i64::from(wanted),
                "{range_secs} s in {wanted}: {interval} ms"
            );
        }
        assert_eq!(interval_ms(900 * second, 60), 15_000);
        assert_eq!(interval_ms(1, 1_000), 1, "never zero");
    }
}
