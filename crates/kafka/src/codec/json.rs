//! Rows as JSON objects, one a message, with the names and values of the columns.
//!
//! Times are RFC 3339 text, binary values hexadecimal text, numbers that JSON lacks (`NaN`,
//! `Infinity`) text, and a null is left out: whatever reads JSON reads these, and what is read
//! again equals what was written.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, PrimitiveArray, RecordBatch},
    compute::cast,
    datatypes::{
        ArrowPrimitiveType, DataType, Field, FieldRef, Float32Type, Float64Type, Schema, SchemaRef,
    },
    error::ArrowError,
};
use arrow_json::{
    EncoderFactory, EncoderOptions, LineDelimitedWriter, ReaderBuilder, WriterBuilder,
    writer::{Encoder, LineDelimited, NullableEncoder},
};

/// Objects of `batch`, one a row.
pub(super) fn write(batch: &RecordBatch) -> Result<Vec<Vec<u8>>, ArrowError> {
    let mut writer: LineDelimitedWriter<Vec<u8>> = WriterBuilder::new()
        .with_encoder_factory(Arc::new(Floats))
        .build::<_, LineDelimited>(Vec::new());
    let fields: Vec<FieldRef> = batch.schema_ref().fields().iter().map(with_offset).collect();
    writer.write(&conform(batch, &Arc::new(Schema::new(fields)))?)?;
    writer.finish()?;
    // A newline within a value is escaped.
    let lines = writer.into_inner();
    let lines = lines.split(|byte| *byte == b'\n').take(batch.num_rows());
    Ok(lines.map(<[u8]>::to_vec).collect())
}

/// The rows that `objects` hold, as a batch of `schema`.
///
/// # Errors
/// One of them is not a JSON object of these columns.
pub(super) fn read<'o>(
    objects: impl Iterator<Item = &'o [u8]>,
    schema: &SchemaRef,
) -> Result<RecordBatch, ArrowError> {
    let (mut lines, mut rows) = (Vec::new(), 0);
    for object in objects {
        // Two objects in one message, or half of one, would be read as other rows than are there.
        serde_json::from_slice::<&serde_json::value::RawValue>(object)
            .map_err(|error| ArrowError::JsonError(error.to_string()))?;
        lines.extend_from_slice(object);
        lines.push(b'\n');
        rows += 1;
    }
    let plain = Arc::new(Schema::new(schema.fields().iter().map(plain).collect::<Vec<_>>()));
    let mut decoder = ReaderBuilder::new(plain).with_batch_size(rows.max(1)).build_decoder()?;
    let taken = decoder.decode(&lines)?;
    let batch = decoder.flush()?.filter(|batch| batch.num_rows() == rows && taken == lines.len());
    let Some(batch) = batch else {
        return Err(ArrowError::JsonError(format!("expected {rows} objects, found others")));
    };
    conform(&batch, schema)
}

/// `batch` with the column types of `schema`.
fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| {
        if column.data_type() == field.data_type() {
            return Ok(ArrayRef::clone(column));
        }
        cast(column, field.data_type())
    });
    RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<Vec<_>, _>>()?)
}

/// UTC as an offset: `arrow` knows names of time zones only with a database of all of them.
fn with_offset(field: &FieldRef) -> FieldRef {
    match field.data_type() {
        DataType::Timestamp(unit, Some(zone)) if &**zone == "UTC" => {
            let offset = DataType::Timestamp(*unit, Some("+00:00".into()));
            Arc::new(Field::new(field.name(), offset, field.is_nullable()))
        }
        _ => Arc::clone(field),
    }
}

/// The field as the reader knows it: dictionaries are read as their values.
fn plain(field: &FieldRef) -> FieldRef {
    match field.data_type() {
        DataType::Dictionary(_, values) => {
            Arc::new(Field::new(field.name(), values.as_ref().clone(), field.is_nullable()))
        }
        _ => with_offset(field),
    }
}

/// Writes numbers that JSON lacks as text, which the reader takes for the number.
#[derive(Debug)]
struct Floats;

struct FloatEncoder<'a, T: ArrowPrimitiveType>(&'a PrimitiveArray<T>);

impl<T: ArrowPrimitiveType<Native: Into<f64> + serde::Serialize>> Encoder for FloatEncoder<'_, T> {
    fn encode(&mut self, index: usize, out: &mut Vec<u8>) {
        let value = self.0.value(index);
        let wide: f64 = value.into();
        if wide.is_finite() {
            serde_json::to_writer(out, &value).expect("writing to a Vec cannot fail");
            return;
        }
        let name = match wide {
            _ if wide.is_nan() => "\"NaN\"",
            _ if wide > 0.0 => "\"Infinity\"",
            _ => "\"-Infinity\"",
        };
        out.extend_from_slice(name.as_bytes());
    }
}

impl EncoderFactory for Floats {
    fn make_default_encoder<'a>(
        &self,
        _field: &'a FieldRef,
        array: &'a dyn Array,
        _options: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let encoder: Box<dyn Encoder + 'a> = match array.data_type() {
            DataType::Float32 => Box::new(FloatEncoder(array.as_primitive::<Float32Type>())),
            DataType::Float64 => Box::new(FloatEncoder(array.as_primitive::<Float64Type>())),
            _ => return Ok(None),
        };
        Ok(Some(NullableEncoder::new(encoder, array.nulls().cloned())))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{BinaryArray, Date32Array, Float64Array, ListArray, StringArray};
    use arrow::datatypes::Int64Type;

    use super::*;

    fn round_trip(batch: &RecordBatch) -> RecordBatch {
        let objects = write(batch).unwrap();
        read(objects.iter().map(Vec::as_slice), &batch.schema()).unwrap()
    }

    #[test]
    fn columns_of_views_come_back_as_they_were() {
        let numbers = [Some(0.1), None, Some(f64::INFINITY), Some(f64::NEG_INFINITY), Some(-0.0)];
        let lists = vec![Some(vec![Some(1), None]), None, Some(vec![]), Some(vec![None]), None];
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("number", Arc::new(Float64Array::from(numbers.to_vec()))),
            ("list", Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(lists))),
            ("day", Arc::new(Date32Array::from(vec![Some(0), None, Some(-1), Some(20_000), None]))),
            ("bytes", Arc::new(BinaryArray::from(vec![&b"\xff\0"[..], b"", b"\n", b"a", b"{}"]))),
            ("text", Arc::new(StringArray::from(vec!["\n\"", "", "{\"a\":1}", "é", "\u{0}"]))),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(
            columns.into_iter().map(|(name, column)| (name, column, true)),
        )
        .unwrap();
        assert_eq!(round_trip(&batch), batch);
    }

    #[test]
    fn what_is_no_number_in_json_is_still_that_number() {
        let numbers: ArrayRef = Arc::new(Float64Array::from(vec![f64::NAN, f64::INFINITY]));
        let batch = RecordBatch::try_from_iter([("number", numbers)]).unwrap();
        assert_eq!(write(&batch).unwrap()[0], br#"{"number":"NaN"}"#);
        let read = round_trip(&batch);
        let read = read.column(0).as_primitive::<Float64Type>();
        assert!(read.value(0).is_nan() && read.value(1) == f64::INFINITY);
    }

    #[test]
    fn what_is_not_one_object_of_the_columns_is_an_error() {
        let numbers: ArrayRef = Arc::new(Float64Array::from(vec![1.0]));
        let schema = RecordBatch::try_from_iter([("number", numbers)]).unwrap().schema();
        let objects: [&[u8]; 7] = [
            b"",
            b"{",
            b"[]",
            b"{\"number\":1} {\"number\":2}",
            b"{\"number\":1}}",
            b"{\"number\":\"many\"}",
            b"\xff",
        ];
        for object in objects {
            let read = read([&b"{\"number\":1}"[..], object].into_iter(), &schema);
            assert!(read.is_err(), "{:?}: {read:?}", String::from_utf8_lossy(object));
        }
    }
}
