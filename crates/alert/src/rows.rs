//! Rows that a query found.

use std::collections::BTreeMap;

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, Float64Array, RecordBatch},
    compute::cast,
    datatypes::{DataType, Float64Type, TimestampMicrosecondType},
    error::ArrowError,
    util::display::{ArrayFormatter, FormatOptions},
};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use thalweg_event::schema::timestamp_type;

use crate::{
    labels::one_line,
    number::{LARGEST, Short},
};

/// Longest text of a column that is read, bytes.
const MAX_TEXT_BYTES: usize = 4_096;

/// Answers SQL: the seam between alerts and a query engine.
#[async_trait]
pub trait Rows: Send + Sync + 'static {
    /// The first `max_rows` rows of `sql`, a query that reads. When the future is dropped the
    /// query is given up.
    ///
    /// # Errors
    /// What is wrong with the query, for whoever wrote it.
    async fn rows(&self, sql: &str, max_rows: usize) -> Result<Vec<RecordBatch>, String>;
}

/// A row: its columns by what they are good for.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Row {
    /// Columns of text that have a value.
    pub(crate) texts: Vec<(String, String)>,
    /// The number in the column `value`.
    pub(crate) value: Option<f64>,
    /// All columns, as text for people.
    pub(crate) columns: BTreeMap<String, String>,
}

/// Reads rows whose columns of text say what they are about and whose column `value_column`, if
/// there is one, says how much.
pub(crate) fn read(batch: &RecordBatch, value_column: &str) -> Result<Vec<Row>, ArrowError> {
    let mut rows = vec![Row::default(); batch.num_rows()];
    let options = FormatOptions::default().with_null("");
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        let name = field.name();
        let is_value = name == value_column;
        if is_value {
            for (row, value) in rows.iter_mut().zip(numbers(column)?) {
                row.value = value;
            }
        }
        let is_text = !is_value && is_text(field.data_type());
        let fractions = fractions(column)?;
        let formatter = ArrayFormatter::try_new(column, &options)?;
        for (n, row) in rows.iter_mut().enumerate() {
            if column.is_null(n) {
                continue;
            }
            let text = match &fractions {
                Some(numbers) if !numbers.is_null(n) => Short(numbers.value(n)).to_string(),
                _ => one_line(&formatter.value(n).try_to_string()?, MAX_TEXT_BYTES),
            };
            if is_text {
                row.texts.push((name.clone(), text.clone()));
            }
            row.columns.insert(name.clone(), text);
        }
    }
    Ok(rows)
}

/// The numbers of a column; what is no number, or too large a one to reckon with, is none.
pub(crate) fn numbers(column: &ArrayRef) -> Result<Vec<Option<f64>>, ArrowError> {
    let column = cast(column, &DataType::Float64)?;
    let numbers = column.as_primitive::<Float64Type>();
    Ok(numbers.iter().map(|number| number.filter(|number| number.abs() <= LARGEST)).collect())
}

/// The numbers of a column that may have fractions, all digits of which nobody reads.
fn fractions(column: &ArrayRef) -> Result<Option<Float64Array>, ArrowError> {
    let data_type = column.data_type();
    if !data_type.is_floating() && !data_type.is_decimal() {
        return Ok(None);
    }
    let numbers = cast(column, &DataType::Float64)?;
    Ok(Some(numbers.as_primitive().clone()))
}

/// The times of a column.
pub(crate) fn times(column: &ArrayRef) -> Result<Vec<Option<DateTime<Utc>>>, ArrowError> {
    let column = cast(column, &timestamp_type())?;
    let micros = column.as_primitive::<TimestampMicrosecondType>();
    Ok(micros.iter().map(|micros| micros.and_then(DateTime::from_timestamp_micros)).collect())
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{
            BooleanArray, DictionaryArray, Int64Array, StringViewArray, TimestampMicrosecondArray,
        },
        datatypes::Int32Type,
    };

    use super::*;

    #[test]
    fn text_of_any_encoding_says_what_a_row_is_about() {
        let services: DictionaryArray<Int32Type> = vec!["payment", "cart"].into_iter().collect();
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("service", Arc::new(services) as ArrayRef, false),
            ("host", Arc::new(StringViewArray::from(vec![Some("a\nb"), None])) as _, true),
            ("value", Arc::new(Int64Array::from(vec![Some(3), None])) as _, true),
            ("requests", Arc::new(Int64Array::from(vec![7, 8])) as _, false),
            ("is_final", Arc::new(BooleanArray::from(vec![true, false])) as _, false),
        ])
        .unwrap();
        let rows = read(&batch, "value").unwrap();
        let text = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(rows[0].texts, [text("service", "payment"), text("host", "a b")]);
        assert_eq!(rows[1].texts, [text("service", "cart")]);
        assert_eq!((rows[0].value, rows[1].value), (Some(3.0), None));
        assert_eq!((&*rows[0].columns["requests"], &*rows[0].columns["is_final"]), ("7", "true"));
    }

    #[test]
    fn fractions_are_shown_with_the_digits_that_people_read_and_counts_with_all() {
        let rates = Float64Array::from(vec![0.389_261_74]);
        let batch = RecordBatch::try_from_iter([
            ("value", Arc::new(rates.clone()) as ArrayRef),
            ("amount", cast(&rates, &DataType::Decimal128(20, 8)).unwrap()),
            ("count", Arc::new(Int64Array::from(vec![123_456])) as _),
        ])
        .unwrap();
        let row = read(&batch, "value").unwrap().remove(0);
        assert_eq!(row.value, Some(0.389_261_74));
        let columns = ["value", "amount", "count"].map(|name| row.columns[name].as_str());
        assert_eq!(columns, ["0.3893", "0.3893", "123456"]);
    }

    #[test]
    fn what_is_no_number_is_none() {
        let texts: ArrayRef =
            Arc::new(StringViewArray::from(vec!["1.5", "x", "NaN", "inf", "-1e200"]));
        assert_eq!(numbers(&texts).unwrap(), [Some(1.5), None, None, None, None]);
        let times_of: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![Some(1), None]));
        assert_eq!(times(&times_of).unwrap(), [DateTime::from_timestamp_micros(1), None]);
    }
}
