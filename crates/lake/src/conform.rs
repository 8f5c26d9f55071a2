//! Brings record batches into the shapes the writer and the queries expect.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Date32Array, RecordBatch, RecordBatchOptions, new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use arrow::error::ArrowError;

use crate::spec::TableSpec;

/// Microseconds of a day.
const DAY_MICROS: i64 = 86_400_000_000;

/// Days since the Unix epoch of a time in microseconds.
pub(crate) fn date_of(time_micros: i64) -> i32 {
    // A day count of any i64 in microseconds is below 2^28.
    time_micros.div_euclid(DAY_MICROS) as i32
}

/// Bytes of memory the rows of `batch` take, without those of the buffers it is a slice of.
pub(crate) fn batch_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|c| c.to_data().get_slice_memory_size().unwrap_or(0)).sum()
}

/// `batch` with exactly the columns of `schema`, in its order: cast where types differ, null
/// where a nullable column is missing.
///
/// # Errors
/// A column is missing that must not be null, or holds values the column's type cannot hold.
pub(crate) fn conform(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    if Arc::ptr_eq(schema, batch.schema_ref()) {
        return Ok(batch);
    }
    let column = |field: &arrow::datatypes::FieldRef| match batch.column_by_name(field.name()) {
        Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
        Some(column) => cast_strictly(column, field.data_type()),
        None => Ok(new_null_array(field.data_type(), batch.num_rows())),
    };
    let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(Arc::clone(schema), columns)
}

/// The columns `projection` of the table, read from `batch`, which has the schema of the topic.
pub(crate) fn to_table(
    spec: &TableSpec,
    batch: &RecordBatch,
    projection: &[usize],
    projected: &SchemaRef,
) -> Result<RecordBatch, ArrowError> {
    let column =
        |(&index, field): (&usize, &arrow::datatypes::FieldRef)| match batch.columns().get(index) {
            Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
            Some(column) => cast_strictly(column, field.data_type()),
            None => dates(spec, batch),
        };
    let columns = projection.iter().zip(projected.fields()).map(column);
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(projected), columns, &options)
}

fn dates(spec: &TableSpec, batch: &RecordBatch) -> Result<ArrayRef, ArrowError> {
    let times = batch.column(batch.schema_ref().index_of(&spec.time_column)?);
    let times = times.as_primitive::<TimestampMicrosecondType>();
    Ok(Arc::new(Date32Array::from_iter_values(times.values().iter().map(|&t| date_of(t)))))
}

fn cast_strictly(
    column: &ArrayRef,
    data_type: &arrow::datatypes::DataType,
) -> Result<ArrayRef, ArrowError> {
    cast_with_options(column, data_type, &CastOptions { safe: false, ..Default::default() })
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn schema(fields: Vec<Field>) -> SchemaRef {
        Arc::new(Schema::new(fields))
    }

    #[test]
    fn the_day_before_the_epoch_is_minus_one() {
        assert_eq!([date_of(-1), date_of(0), date_of(DAY_MICROS)], [-1, 0, 1]);
    }

    #[test]
    fn columns_are_cast_reordered_and_filled_with_nulls() {
        let found = schema(vec![
            Field::new("extra", DataType::Utf8, true),
            Field::new("count", DataType::Int32, true),
        ]);
        let columns: Vec<ArrayRef> =
            vec![Arc::new(StringArray::from(vec!["x"])), Arc::new(Int32Array::from(vec![7]))];
        let batch = RecordBatch::try_new(found, columns).unwrap();
        let wanted = schema(vec![
            Field::new("count", DataType::Int64, false),
            Field::new("note", DataType::Utf8, true),
        ]);
        let batch = conform(batch, &wanted).unwrap();
        assert_eq!(batch.column(0).as_ref(), &Int64Array::from(vec![7]));
        assert_eq!(batch.column(1).null_count(), 1);
    }

    #[test]
    fn a_missing_column_that_must_not_be_null_is_refused() {
        let found = schema(vec![Field::new("count", DataType::Int32, true)]);
        let batch = RecordBatch::try_new(found, vec![Arc::new(Int32Array::from(vec![7]))]).unwrap();
        let wanted = schema(vec![Field::new("id", DataType::Utf8, false)]);
        assert!(conform(batch, &wanted).is_err());
    }
}
