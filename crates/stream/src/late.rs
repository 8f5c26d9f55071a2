//! Events that came too late for a view.

use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::json::LineDelimitedWriter;
use thalweg_event::schema::{dictionary_type, timestamp_type};

use crate::error::Result;

/// Topic, and table, of late events.
pub const LATE_EVENTS: &str = "late_events";
const VIEW: &str = "view";

/// Schema of [`LATE_EVENTS`]: the event's time, which view it came too late for, by how much, and
/// the columns that the view reads as JSON.
pub fn late_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            Field::new("timestamp", timestamp_type(), false),
            Field::new(VIEW, dictionary_type(), false),
            Field::new("late_ms", DataType::Int64, false),
            Field::new("event", DataType::Utf8, false),
        ]))
    });
    Arc::clone(&SCHEMA)
}

/// Rows of [`LATE_EVENTS`] for `events` that happened at `times`, in microseconds, when the
/// watermark was at `watermark`.
pub(crate) fn late_rows(
    view: &str,
    events: &RecordBatch,
    times: &Int64Array,
    watermark: i64,
) -> Result<RecordBatch> {
    // The event time is carried along as the last column; the view may read it too.
    let schema = events.schema();
    let is_first =
        |n: &usize| schema.index_of(schema.field(*n).name()).is_ok_and(|first| first == *n);
    let columns: Vec<usize> = (0..events.num_columns()).filter(is_first).collect();
    let events = &events.project(&columns)?;
    let mut json = LineDelimitedWriter::new(Vec::new());
    json.write(events)?;
    json.finish()?;
    let json = json.into_inner();
    let text = String::from_utf8_lossy(&json);
    let timestamps: TimestampMicrosecondArray = times.reinterpret_cast();
    let view: ArrayRef =
        Arc::new(StringArray::from_iter_values(std::iter::repeat_n(view, times.len())));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(timestamps.with_timezone("UTC")),
        arrow::compute::cast(&view, &dictionary_type())?,
        Arc::new(times.unary::<_, arrow::datatypes::Int64Type>(|time| (watermark - time) / 1_000)),
        Arc::new(text.lines().map(Some).collect::<StringArray>()),
    ];
    Ok(RecordBatch::try_new(late_schema(), columns)?)
}

/// How many rows of a batch of [`LATE_EVENTS`] are of `view`.
pub(crate) fn count_of(view: &str, batch: &RecordBatch) -> usize {
    views(batch).map_or(0, |views| views.iter().filter(|found| *found == Some(view)).count())
}

/// The view that the first row of a batch of [`LATE_EVENTS`] is of.
pub(crate) fn view_of(batch: &RecordBatch) -> Option<String> {
    views(batch)?.iter().next().flatten().map(str::to_owned)
}

fn views(batch: &RecordBatch) -> Option<StringArray> {
    let views = arrow::compute::cast(batch.column_by_name(VIEW)?, &DataType::Utf8).ok()?;
    Some(arrow::array::AsArray::as_string::<i32>(&views).clone())
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;

    use super::*;

    #[test]
    fn a_time_that_is_read_and_carried_is_told_once() {
        let times = Int64Array::from(vec![0]);
        let time: ArrayRef =
            Arc::new(TimestampMicrosecondArray::from(vec![0]).with_timezone("UTC"));
        let field = Field::new("timestamp", timestamp_type(), true);
        let schema = Arc::new(Schema::new(vec![field.clone(), field]));
        let events = RecordBatch::try_new(schema, vec![Arc::clone(&time), time]).unwrap();
        let rows = late_rows("view", &events, &times, 2_000_000).unwrap();
        let event = rows.column(3).as_string::<i32>().value(0);
        assert_eq!(event, r#"{"timestamp":"1970-01-01T00:00:00Z"}"#);
        assert_eq!(count_of("view", &rows), 1);
        assert_eq!(count_of("other", &rows), 0);
    }
}
