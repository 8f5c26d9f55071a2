//! How the OpenAPI document describes answers that are written while a query runs.

#![expect(
    dead_code,
    reason = "these types describe what is written row by row, and are never made"
)]

use arrow::datatypes::{DataType, Schema as ArrowSchema};
use thalweg_event::schema::{column, log_schema};
use thalweg_event::span::span_schema;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::{KnownFormat, RefOr, SchemaFormat};
use utoipa::{PartialSchema, ToSchema};

/// Columns that are objects in answers.
const OBJECTS: [&str; 2] = [column::ATTRIBUTES, column::RESOURCE];

/// An event, without the columns that have no value.
#[derive(Debug)]
pub(crate) struct LogRow;

/// A span, without the columns that have no value.
#[derive(Debug)]
pub(crate) struct SpanRow;

/// A page of logs.
#[derive(Debug, ToSchema)]
pub(crate) struct LogPage {
    /// The events, in the order asked for.
    rows: Vec<LogRow>,
    /// Where the next page begins; null on the last one.
    next_cursor: Option<String>,
}

/// Rows that answer a query.
#[derive(Debug, ToSchema)]
pub(crate) struct SqlAnswer {
    /// The columns.
    columns: Vec<SqlColumn>,
    /// The rows, each with a value for each column.
    rows: Vec<Vec<serde_json::Value>>,
    /// Rows in the answer.
    row_count: u64,
    /// Whether rows were left out because of the limit; missing when the query failed midway.
    truncated: Option<bool>,
    /// Time from the start of the query to its last row; missing when the query failed midway.
    elapsed_ms: Option<f64>,
    /// Why the query failed after its first rows.
    error: Option<serde_json::Value>,
}

/// A column of an answer.
#[derive(Debug, ToSchema)]
pub(crate) struct SqlColumn {
    /// Its name.
    name: String,
    /// Its type, as Postgres calls it.
    r#type: String,
}

/// One request across all services.
#[derive(Debug, ToSchema)]
pub(crate) struct TraceAnswer {
    /// Its id.
    trace_id: String,
    /// Services that took part.
    services: Vec<String>,
    /// Number of spans.
    spans: u64,
    /// Number of logs.
    logs: u64,
    /// Whether spans or logs were left out.
    truncated: bool,
    /// Spans and logs in causal order.
    entries: Vec<TraceEntry>,
}

/// A span or a log of a trace.
#[derive(Debug, ToSchema)]
pub(crate) struct TraceEntry {
    /// Causes between the request and it.
    depth: u64,
    /// Whether its parent is not there.
    orphaned: Option<bool>,
    /// The span.
    span: Option<SpanRow>,
    /// The log.
    log: Option<LogRow>,
}

impl PartialSchema for LogRow {
    fn schema() -> RefOr<Schema> {
        row_schema(&log_schema())
    }
}

impl ToSchema for LogRow {}

impl PartialSchema for SpanRow {
    fn schema() -> RefOr<Schema> {
        row_schema(&span_schema())
    }
}

impl ToSchema for SpanRow {}

/// The columns of a table as the properties of an object.
fn row_schema(columns: &ArrowSchema) -> RefOr<Schema> {
    let mut object = ObjectBuilder::new();
    for field in columns.fields() {
        object = object.property(field.name(), value_schema(field.name(), field.data_type()));
        if !field.is_nullable() {
            object = object.required(field.name());
        }
    }
    object.into()
}

fn value_schema(name: &str, data_type: &DataType) -> ObjectBuilder {
    let of = |kind: Type| ObjectBuilder::new().schema_type(SchemaType::Type(kind));
    match data_type {
        _ if OBJECTS.contains(&name) => of(Type::Object),
        DataType::Int8 | DataType::Int16 | DataType::Int32 => of(Type::Integer),
        // Beyond ±(2⁵³ − 1) they are text.
        DataType::Int64 => {
            ObjectBuilder::new().schema_type(SchemaType::from_iter([Type::Integer, Type::String]))
        }
        DataType::Float32 | DataType::Float64 => of(Type::Number),
        DataType::Boolean => of(Type::Boolean),
        DataType::Timestamp(..) => {
            of(Type::String).format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        }
        _ => of(Type::String),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_described_by_the_columns_of_their_tables() {
        let schema = serde_json::to_value(LogRow::schema()).unwrap();
        assert_eq!(schema["properties"]["message"]["type"], "string");
        assert_eq!(schema["properties"]["timestamp"]["format"], "date-time");
        assert_eq!(schema["properties"]["attributes"]["type"], "object");
        assert_eq!(schema["properties"]["http_status"]["type"], "integer");
        assert_eq!(schema["required"][0], "timestamp");
    }
}
