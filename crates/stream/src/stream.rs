//! What views read: topics with a schema and an event time.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch, new_null_array};
use arrow::compute::{cast, filter_record_batch, max};
use arrow::datatypes::{Field, Schema, SchemaRef, TimestampMicrosecondType};
use arrow::error::ArrowError;
use thalweg_event::{
    schema::{column, log_schema, topic},
    span::span_schema,
};

use crate::watermark::BEGINNING;

/// Rows with an event time, from one or several topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Name, in queries.
    pub name: String,
    /// Topics whose rows it has, all of them.
    pub topics: Vec<String>,
    /// Columns, as they are on the topics.
    pub schema: SchemaRef,
    /// Column of type timestamp(µs, UTC): when a row's event happened.
    pub time_column: String,
}

impl Stream {
    /// Every event.
    pub fn logs() -> Self {
        Self {
            name: "logs".into(),
            topics: vec![topic::LOGS_CRITICAL.into(), topic::LOGS_ROUTINE.into()],
            schema: log_schema(),
            time_column: column::TIMESTAMP.into(),
        }
    }

    /// Every span of a trace.
    pub fn spans() -> Self {
        Self {
            name: "spans".into(),
            topics: vec![topic::SPANS.into()],
            schema: span_schema(),
            time_column: column::TIMESTAMP.into(),
        }
    }
}

impl Stream {
    /// The columns at `places` of the stream, from rows that may have been stored before some
    /// columns existed, or with other encodings.
    pub(crate) fn columns(
        &self,
        rows: &RecordBatch,
        places: &[usize],
    ) -> Result<RecordBatch, ArrowError> {
        if rows.schema_ref() == &self.schema {
            return rows.project(places);
        }
        let fields = places.iter().map(|n| self.schema.field(*n).clone().with_nullable(true));
        let fields: Vec<Field> = fields.collect();
        let column = |field: &Field| match rows.column_by_name(field.name()) {
            Some(column) => cast(column, field.data_type()),
            None => Ok(new_null_array(field.data_type(), rows.num_rows())),
        };
        let columns = fields.iter().map(column).collect::<Result<Vec<_>, _>>()?;
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
    }

    /// The rows that are not older than `since`, in microseconds. Those without a time are kept.
    pub(crate) fn since(&self, rows: &RecordBatch, since: i64) -> Result<RecordBatch, ArrowError> {
        let times = rows.column_by_name(&self.time_column);
        let times = times.and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
        let Some(times) = times else { return Ok(rows.clone()) };
        let is_in = times.iter().map(|time| time.is_none_or(|time| time >= since));
        let is_in: BooleanArray = is_in.map(Some).collect();
        match is_in.true_count() == rows.num_rows() {
            true => Ok(rows.clone()),
            false => filter_record_batch(rows, &is_in),
        }
    }

    /// The newest event time of `rows`, in microseconds.
    pub(crate) fn newest(&self, rows: &RecordBatch) -> i64 {
        let times = rows.column_by_name(&self.time_column);
        let times = times.and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
        times.and_then(max).unwrap_or(BEGINNING)
    }
}

/// Streams by name.
#[derive(Debug, Default, Clone)]
pub(crate) struct Streams(BTreeMap<String, Arc<Stream>>);

impl Streams {
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Stream>> {
        self.0.get(name).map(Arc::clone)
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    pub(crate) fn insert(&mut self, stream: Stream) {
        self.0.insert(stream.name.clone(), Arc::new(stream));
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, TimestampMicrosecondArray};

    use super::*;

    #[test]
    fn rows_from_before_a_time_are_left_out_and_those_without_a_time_are_not() {
        let times = TimestampMicrosecondArray::from(vec![Some(4), Some(5), None, Some(6)]);
        let times = Arc::new(times.with_timezone("UTC")) as ArrayRef;
        let rows = RecordBatch::try_from_iter([(column::TIMESTAMP, times)]).unwrap();
        let kept = Stream::logs().since(&rows, 5).unwrap();
        let kept = kept.column(0).as_primitive::<TimestampMicrosecondType>();
        assert_eq!(kept.iter().collect::<Vec<_>>(), [Some(5), None, Some(6)]);
        assert_eq!(Stream::logs().since(&rows, 4).unwrap().num_rows(), 4);
    }
}
