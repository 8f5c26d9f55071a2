//! `GET /api/v1/traces/{trace_id}`: one request across all services, in causal order.

mod order;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use arrow::array::{Array as _, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use arrow::error::ArrowError;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use datafusion::prelude::{col, lit};
use serde_json::json;
use thalweg_event::schema::column;
use thalweg_event::span::{SpanKind, column as span_column};

use crate::answer::Format;
use crate::http::HttpAsker;
use crate::json::{RowShape, for_each_row};
use crate::{Limits, QueryEngine, QueryError, View};
use order::{Node, order};

const LOGS_TABLE: &str = "logs";
const SPANS_TABLE: &str = "spans";
/// Most spans of an answer; the earliest are kept.
const MAX_SPANS: usize = 10_000;
/// Most logs of an answer; the earliest are kept.
const MAX_LOGS: usize = 10_000;
/// Most bytes of rows of an answer, as JSON, if there are several.
const MAX_BYTES: usize = 16 << 20;

/// One request across all services, in causal order.
///
/// `{"trace_id","services":[…],"spans":n,"logs":n,"truncated":bool,"entries":[…]}`. An entry is
/// `{"depth":n,"span":{…}}` or `{"depth":n,"log":{…}}`, its row an object without the columns that
/// have no value. A span comes after the span that caused it, whatever their clocks say, and
/// siblings in the order of their starts; `"orphaned":true` marks a span whose parent is not
/// there. A log stands among the children of its span at its time; one of no span among those of
/// the root that was under way. An answer holds at most 10,000 spans, 10,000 logs and 16 MiB.
#[utoipa::path(
    get,
    path = "/api/v1/traces/{trace_id}",
    tag = "query",
    params(("trace_id" = String, Path, description = "32 hexadecimal digits")),
    responses(
        (status = 200, description = "Spans and logs", body = crate::answer_schema::TraceAnswer),
        (status = 400, description = "The id is not 32 hexadecimal digits, or only zeros"),
        (status = 404, description = "Nothing of the trace is stored"),
        (status = 429, description = "Too many queries are running"),
        (status = 504, description = "The query took too long"),
    )
)]
pub(crate) async fn trace(
    State(engine): State<Arc<QueryEngine>>,
    asker: HttpAsker,
    trace_id: Result<Path<String>, PathRejection>,
) -> Result<Response, QueryError> {
    let Path(trace_id) =
        trace_id.map_err(|rejection| QueryError::parameter("trace_id", rejection.body_text()))?;
    let trace_id = parse_id(&trace_id)?;
    let (mut trace, view) = (Trace::default(), engine.view(asker.0)?);
    trace.read_spans(&view, &trace_id).await?;
    trace.read_logs(&view, &trace_id).await?;
    if trace.nodes.is_empty() {
        return Err(QueryError::NotFound(format!(
            "expected spans or logs of trace {trace_id}, found none; they are visible within a \
             second of their acknowledgement and until `lake.retention_days` are over"
        )));
    }
    Ok(([(header::CONTENT_TYPE, Format::Json.content_type())], trace.write(&trace_id))
        .into_response())
}

/// The id as it is stored.
fn parse_id(text: &str) -> Result<String, QueryError> {
    let is_id = text.len() == 32
        && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        && text.bytes().any(|byte| byte != b'0');
    if !is_id {
        let message =
            format!("expected 32 hexadecimal digits that are not all zero, found {text:?}");
        return Err(QueryError::parameter("trace_id", message));
    }
    Ok(text.to_ascii_lowercase())
}

/// What has been read of a trace.
#[derive(Default)]
struct Trace {
    nodes: Vec<Node>,
    /// The rows of the nodes as JSON objects.
    rows: Vec<String>,
    bytes: usize,
    spans: usize,
    services: BTreeSet<String>,
    truncated: bool,
}

impl Trace {
    async fn read_spans(&mut self, view: &View, trace_id: &str) -> Result<(), QueryError> {
        let time = span_column::START_TIME_UNIX_NANO;
        // What was sent again after ingest had forgotten it is here twice.
        let mut seen = HashSet::new();
        self.read(view, (SPANS_TABLE, time, MAX_SPANS), trace_id, |batch, row| {
            let [event_id, span_id, parent, kind] =
                [column::EVENT_ID, column::SPAN_ID, span_column::PARENT_SPAN_ID, span_column::KIND]
                    .map(|name| batch.text(name, row));
            seen.insert(event_id).then(|| Node::Span {
                start: batch.time(time, row).unwrap_or_default(),
                end: batch.time(span_column::END_TIME_UNIX_NANO, row),
                id: span_id.unwrap_or_default(),
                parent,
                receives: [SpanKind::Server, SpanKind::Consumer]
                    .iter()
                    .any(|receiver| kind.as_deref() == Some(receiver.name())),
            })
        })
        .await?;
        self.spans = self.nodes.len();
        Ok(())
    }

    async fn read_logs(&mut self, view: &View, trace_id: &str) -> Result<(), QueryError> {
        let time = column::TIME_UNIX_NANO;
        self.read(view, (LOGS_TABLE, time, MAX_LOGS), trace_id, |batch, row| {
            let span = batch.text(column::SPAN_ID, row);
            Some(Node::Log { time: batch.time(time, row).unwrap_or_default(), span })
        })
        .await
    }

    /// Reads the rows of a table, named with its column of time and the most rows, that `node`
    /// makes something of.
    async fn read(
        &mut self,
        view: &View,
        (table, time, max_rows): (&str, &str, usize),
        trace_id: &str,
        mut node: impl FnMut(&Columns, usize) -> Option<Node>,
    ) -> Result<(), QueryError> {
        let rows = view.table(table).await?.filter(col(column::TRACE_ID).eq(lit(trace_id)))?;
        let by = |name: &str| col(name).sort(true, false);
        let plan = rows.sort(vec![by(time), by(column::EVENT_ID)])?.into_unoptimized_plan();
        let limits =
            Limits { rows: Some(max_rows), timeout: view.engine().config().default_timeout() };
        let asked = format!("trace {trace_id}: {table}");
        let mut query = view.start(plan, &asked, limits).await?;
        while let Some(batch) = query.next_batch().await? {
            let internal = |error: ArrowError| QueryError::Internal(error.to_string());
            let columns = Columns::of(&batch).map_err(internal)?;
            let (mut row, mut is_full) = (0, false);
            for_each_row(&batch, RowShape::Log, |text| {
                // One row is given however long it is.
                is_full |= self.bytes > 0 && self.bytes + text.len() > MAX_BYTES;
                if is_full {
                    self.truncated = true;
                } else if let Some(node) = node(&columns, row) {
                    self.services.extend(columns.text(column::SERVICE, row));
                    self.nodes.push(node);
                    self.rows.push(String::from_utf8_lossy(text).into_owned());
                    self.bytes += text.len();
                }
                row += 1;
            })
            .map_err(internal)?;
            if is_full {
                return Ok(());
            }
        }
        self.truncated |= query.is_truncated();
        Ok(())
    }

    fn write(&self, trace_id: &str) -> String {
        let head = json!({
            "trace_id": trace_id,
            "services": self.services,
            "spans": self.spans,
            "logs": self.nodes.len() - self.spans,
            "truncated": self.truncated,
        });
        let mut out = head.to_string();
        out.pop();
        out.push_str(",\"entries\":[");
        for (number, placed) in order(&self.nodes).into_iter().enumerate() {
            out.push_str(if number > 0 { ",\n{" } else { "\n{" });
            out.push_str(&format!("\"depth\":{}", placed.depth));
            if placed.orphaned {
                out.push_str(",\"orphaned\":true");
            }
            out.push_str(if placed.node < self.spans { ",\"span\":" } else { ",\"log\":" });
            out.push_str(&self.rows[placed.node]);
            out.push('}');
        }
        out.push_str("]}\n");
        out
    }
}

/// The columns of a batch that place its rows.
struct Columns(Vec<(String, Column)>);

enum Column {
    Text(StringArray),
    Time(Int64Array),
}

impl Columns {
    fn of(batch: &RecordBatch) -> Result<Self, ArrowError> {
        const TEXTS: [&str; 5] = [
            column::EVENT_ID,
            column::SPAN_ID,
            column::SERVICE,
            span_column::PARENT_SPAN_ID,
            span_column::KIND,
        ];
        const TIMES: [&str; 3] = [
            column::TIME_UNIX_NANO,
            span_column::START_TIME_UNIX_NANO,
            span_column::END_TIME_UNIX_NANO,
        ];
        let mut columns = Vec::new();
        for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            let name = field.name();
            let column = if TEXTS.contains(&name.as_str()) {
                Column::Text(cast(array, &DataType::Utf8)?.as_string().clone())
            } else if TIMES.contains(&name.as_str()) {
                Column::Time(cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().clone())
            } else {
                continue;
            };
            columns.push((name.clone(), column));
        }
        Ok(Self(columns))
    }

    fn find(&self, name: &str) -> Option<&Column> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, column)| column)
    }

    fn text(&self, name: &str, row: usize) -> Option<String> {
        match self.find(name)? {
            Column::Text(texts) if texts.is_valid(row) => Some(texts.value(row).to_owned()),
            _ => None,
        }
    }

    fn time(&self, name: &str, row: usize) -> Option<i64> {
        match self.find(name)? {
            Column::Time(times) if times.is_valid(row) => Some(times.value(row)),
            _ => None,
        }
    }
}
