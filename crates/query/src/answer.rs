//! Answers as bytes, written while the query runs.

use arrow::array::RecordBatch;
use arrow::csv::WriterBuilder as CsvWriterBuilder;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use axum::body::Body;
use bytes::Bytes;
use datafusion_postgres::arrow_pg::datatypes::into_pg_type;
use futures::stream::{self, StreamExt};
use serde_json::json;

use crate::error_body::error_json;
use crate::json::{RowShape, for_each_row};
use crate::{QueryError, RunningQuery};

/// Writes one answer in one format. Each step appends to a buffer that is sent at once.
pub(crate) trait AnswerWriter: Send + 'static {
    /// What comes before the rows.
    fn start(&mut self, schema: &SchemaRef, out: &mut Vec<u8>) -> Result<(), ArrowError>;

    /// Some rows.
    fn rows(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError>;

    /// What comes after the last row.
    fn end(&mut self, query: &RunningQuery, out: &mut Vec<u8>) -> Result<(), ArrowError>;

    /// An error after the first rows. `false` when the format has no place for it; the connection
    /// is then broken off, so that the answer cannot be taken for a whole one.
    fn fail(&mut self, _error: &QueryError, _out: &mut Vec<u8>) -> bool {
        false
    }
}

/// The answer to `query` as a body. Dropping the body stops the query.
///
/// # Errors
/// When the columns cannot be written in this format.
pub(crate) fn body(
    query: RunningQuery,
    mut writer: Box<dyn AnswerWriter>,
) -> Result<Body, QueryError> {
    let mut head = Vec::new();
    writer
        .start(query.schema(), &mut head)
        .map_err(|error| QueryError::Invalid { message: error.to_string(), position: None })?;
    let rest = stream::try_unfold(Some((query, writer)), |state| async move {
        let Some((mut query, mut writer)) = state else { return Ok(None) };
        let mut out = Vec::new();
        let step = match query.next_batch().await {
            Ok(Some(batch)) => writer.rows(&batch, &mut out).map(|()| true),
            Ok(None) => writer.end(&query, &mut out).map(|()| false),
            Err(error) if writer.fail(&error, &mut out) => Ok(false),
            Err(error) => return Err(error),
        };
        let more = step.map_err(|error| QueryError::Internal(error.to_string()))?;
        Ok(Some((Bytes::from(out), more.then_some((query, writer)))))
    });
    Ok(Body::from_stream(stream::iter([Ok(Bytes::from(head))]).chain(rest)))
}

/// Formats of answers to SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    NdJson,
    Csv,
    Arrow,
}

impl Format {
    /// The first format of an `Accept` header (RFC 9110 §12.5.1) that can be written, by the
    /// client's preference; JSON where it has none.
    pub(crate) fn negotiate(accept: &str) -> Result<Self, QueryError> {
        let mut wanted: Vec<(u32, Self)> = accept.split(',').filter_map(media_range).collect();
        if accept.trim().is_empty() {
            return Ok(Self::Json);
        }
        // Stable: equal preferences keep the client's order.
        wanted.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
        match wanted.first() {
            Some((_, format)) => Ok(*format),
            None => Err(QueryError::NotAcceptable(accept.to_owned())),
        }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::NdJson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }

    pub(crate) fn writer(self) -> Box<dyn AnswerWriter> {
        match self {
            Self::Json => Box::new(JsonWriter { rows: 0 }),
            Self::NdJson => Box::new(NdJsonWriter),
            Self::Csv => Box::new(CsvWriter),
            Self::Arrow => Box::new(ArrowWriter(None)),
        }
    }
}

/// One element of an `Accept` header: its weight in thousandths and its format.
fn media_range(element: &str) -> Option<(u32, Format)> {
    let mut parts = element.split(';').map(str::trim);
    let format = match parts.next()?.to_ascii_lowercase().as_str() {
        "application/json" | "application/*" | "*/*" => Format::Json,
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Format::NdJson,
        "text/csv" | "text/*" => Format::Csv,
        "application/vnd.apache.arrow.stream" => Format::Arrow,
        _ => return None,
    };
    let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |text| {
        text.parse::<f32>().ok().filter(|weight| (0.0..=1.0).contains(weight))
    })?;
    let thousandths = (weight * 1000.0) as u32;
    (thousandths > 0).then_some((thousandths, format))
}

/// `{"columns":[…],"rows":[[…],…],"row_count":…,"truncated":…,"elapsed_ms":…}`
struct JsonWriter {
    rows: u64,
}

impl AnswerWriter for JsonWriter {
    fn start(&mut self, schema: &SchemaRef, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        let columns: Vec<_> = schema
            .fields()
            .iter()
            .map(|field| {
                // The names Postgres clients see.
                let name = into_pg_type(field.data_type()).map_or_else(
                    |_| field.data_type().to_string(),
                    |pg_type| pg_type.name().to_owned(),
                );
                json!({"name": field.name(), "type": name})
            })
            .collect();
        out.extend_from_slice(format!(r#"{{"columns":{},"rows":["#, json!(columns)).as_bytes());
        Ok(())
    }

    fn rows(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        for_each_row(batch, RowShape::Array, |row| {
            out.extend_from_slice(if self.rows > 0 { b",\n" } else { b"\n" });
            out.extend_from_slice(row);
            self.rows += 1;
        })
    }

    fn end(&mut self, query: &RunningQuery, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        let elapsed_ms = query.elapsed().as_micros() as f64 / 1000.0;
        let tail = format!(
            "],\"row_count\":{},\"truncated\":{},\"elapsed_ms\":{elapsed_ms}}}\n",
            self.rows,
            query.is_truncated()
        );
        out.extend_from_slice(tail.as_bytes());
        Ok(())
    }

    fn fail(&mut self, error: &QueryError, out: &mut Vec<u8>) -> bool {
        let tail =
            format!("],\"row_count\":{},\"error\":{}}}\n", self.rows, error_json(error)["error"]);
        out.extend_from_slice(tail.as_bytes());
        true
    }
}

/// One object a line. A line with the only member `truncated` tells that rows were left out, one
/// with `error` that the query failed midway.
struct NdJsonWriter;

impl AnswerWriter for NdJsonWriter {
    fn start(&mut self, _schema: &SchemaRef, _out: &mut Vec<u8>) -> Result<(), ArrowError> {
        Ok(())
    }

    fn rows(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        for_each_row(batch, RowShape::Object, |row| {
            out.extend_from_slice(row);
            out.push(b'\n');
        })
    }

    fn end(&mut self, query: &RunningQuery, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        if query.is_truncated() {
            out.extend_from_slice(b"{\"truncated\":true}\n");
        }
        Ok(())
    }

    fn fail(&mut self, error: &QueryError, out: &mut Vec<u8>) -> bool {
        out.extend_from_slice(format!("{}\n", error_json(error)).as_bytes());
        true
    }
}

/// RFC 4180 with a header line; null and empty text are both empty.
struct CsvWriter;

impl CsvWriter {
    fn write(batch: &RecordBatch, header: bool, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        CsvWriterBuilder::new().with_header(header).build(out).write(batch)
    }
}

impl AnswerWriter for CsvWriter {
    fn start(&mut self, schema: &SchemaRef, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        if let Some(field) = schema.fields().iter().find(|field| field.data_type().is_nested()) {
            let message = format!(
                "column {} of type {} cannot be written as CSV; cast it or ask for JSON",
                field.name(),
                field.data_type()
            );
            return Err(ArrowError::CsvError(message));
        }
        Self::write(&RecordBatch::new_empty(schema.clone()), true, out)
    }

    fn rows(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        Self::write(batch, false, out)
    }

    fn end(&mut self, _query: &RunningQuery, _out: &mut Vec<u8>) -> Result<(), ArrowError> {
        Ok(())
    }
}

/// Arrow IPC streaming format.
struct ArrowWriter(Option<StreamWriter<Vec<u8>>>);

impl ArrowWriter {
    fn writer(&mut self) -> Result<&mut StreamWriter<Vec<u8>>, ArrowError> {
        self.0.as_mut().ok_or_else(|| ArrowError::IpcError("written before its start".to_owned()))
    }
}

impl AnswerWriter for ArrowWriter {
    fn start(&mut self, schema: &SchemaRef, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        let writer = self.0.insert(StreamWriter::try_new(Vec::new(), schema)?);
        out.append(writer.get_mut());
        Ok(())
    }

    fn rows(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        let writer = self.writer()?;
        writer.write(batch)?;
        out.append(writer.get_mut());
        Ok(())
    }

    fn end(&mut self, _query: &RunningQuery, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        let writer = self.writer()?;
        writer.finish()?;
        out.append(writer.get_mut());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_preference_chooses_the_format() {
        for (accept, format) in [
            ("", Format::Json),
            ("*/*", Format::Json),
            ("text/html, text/csv;q=0.9, application/json;q=0.95", Format::Json),
            ("text/csv, application/json", Format::Csv),
            ("application/json;q=0, application/x-ndjson", Format::NdJson),
            ("application/vnd.apache.arrow.stream", Format::Arrow),
        ] {
            assert_eq!(Format::negotiate(accept).unwrap(), format, "{accept}");
        }
        assert_eq!(Format::negotiate("image/png").unwrap_err().code(), "not_acceptable");
    }
}
