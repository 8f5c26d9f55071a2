//! Small answers, read as a whole.

use arrow::array::{Array as _, AsArray as _, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};

use crate::{QueryError, RunningQuery};

/// Columns of an answer of few rows, read by their place.
pub(crate) struct SmallAnswer(Vec<RecordBatch>);

/// A row of a [`SmallAnswer`].
pub(crate) struct SmallRow<'a> {
    batch: &'a RecordBatch,
    row: usize,
}

impl SmallAnswer {
    /// Waits for all rows of a query whose plan gives few.
    pub(crate) async fn read(mut query: RunningQuery) -> Result<Self, QueryError> {
        let mut batches = Vec::new();
        while let Some(batch) = query.next_batch().await? {
            batches.push(batch);
        }
        Ok(Self(batches))
    }

    /// The rows, in the order of the answer.
    pub(crate) fn rows(&self) -> impl Iterator<Item = SmallRow<'_>> {
        let rows = |batch: &RecordBatch| 0..batch.num_rows();
        self.0.iter().flat_map(move |batch| rows(batch).map(move |row| SmallRow { batch, row }))
    }
}

impl SmallRow<'_> {
    /// The value of a column as text; `None` where it has none.
    pub(crate) fn text(&self, column: usize) -> Result<Option<String>, QueryError> {
        let texts = self.value(column, &DataType::Utf8)?;
        let texts: &StringArray = texts.as_string();
        Ok(texts.is_valid(0).then(|| texts.value(0).to_owned()))
    }

    /// The value of a column as a number; 0 where it has none.
    pub(crate) fn number(&self, column: usize) -> Result<i64, QueryError> {
        let numbers = self.value(column, &DataType::Int64)?;
        let numbers: &Int64Array = numbers.as_primitive::<Int64Type>();
        Ok(if numbers.is_valid(0) { numbers.value(0) } else { 0 })
    }

    fn value(&self, column: usize, to: &DataType) -> Result<arrow::array::ArrayRef, QueryError> {
        let value = self.batch.column(column).slice(self.row, 1);
        cast(&value, to).map_err(|error| QueryError::Internal(error.to_string()))
    }
}
