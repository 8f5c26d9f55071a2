//! Leaves out batches of the tail that cannot hold rows a query asks for.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, StringViewArray,
    TimestampMicrosecondArray, UInt64Array,
};
use arrow::compute::{max, max_string, min, min_string};
use arrow::datatypes::{DataType, Int32Type, TimestampMicrosecondType};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, Result as QueryResult, ScalarValue};
use datafusion::physical_optimizer::pruning::PruningPredicate;

use crate::spec::TableSpec;

/// Chooses batches by the bounds of their times and by the values in their dictionaries, which
/// are few and at hand.
#[derive(Clone)]
pub(crate) struct TailPruning {
    spec: Arc<TableSpec>,
    predicate: Option<Arc<PruningPredicate>>,
}

impl TailPruning {
    pub(crate) fn new(spec: Arc<TableSpec>, predicate: Option<PruningPredicate>) -> Self {
        Self { spec, predicate: predicate.map(Arc::new) }
    }

    /// The batches that may hold rows for which the predicate is true. All have the topic's
    /// schema.
    pub(crate) fn keep(&self, mut batches: Vec<RecordBatch>) -> QueryResult<Vec<RecordBatch>> {
        let Some(predicate) = &self.predicate else { return Ok(batches) };
        let statistics = BatchStatistics { spec: &self.spec, batches: &batches };
        let mut kept = predicate.prune(&statistics)?.into_iter();
        batches.retain(|_| kept.next().unwrap_or(true));
        Ok(batches)
    }
}

struct BatchStatistics<'b> {
    spec: &'b TableSpec,
    batches: &'b [RecordBatch],
}

impl BatchStatistics<'_> {
    fn bounds(
        &self,
        column: &Column,
        of_times: fn(&TimestampMicrosecondArray) -> Option<i64>,
        of_values: fn(&StringArray) -> Option<&str>,
    ) -> Option<ArrayRef> {
        let columns = self.columns(column)?;
        if column.name() == self.spec.time_column {
            let bounds = columns.map(|c| of_times(c.as_primitive::<TimestampMicrosecondType>()));
            let bounds = TimestampMicrosecondArray::from_iter(bounds);
            return Some(Arc::new(bounds.with_timezone_opt(self.time_zone())));
        }
        let bounds = columns.map(|c| of_values(dictionary(c)?));
        Some(Arc::new(bounds.collect::<StringViewArray>()))
    }

    /// `column` of every batch, if it is one whose bounds are at hand.
    fn columns(&self, column: &Column) -> Option<impl Iterator<Item = &ArrayRef>> {
        let index = self.spec.schema.index_of(column.name()).ok()?;
        let is_dictionary =
            matches!(self.spec.schema.field(index).data_type(), DataType::Dictionary(_, _));
        (is_dictionary || column.name() == self.spec.time_column)
            .then(|| self.batches.iter().map(move |batch| batch.column(index)))
    }

    fn time_zone(&self) -> Option<Arc<str>> {
        match self.spec.schema.field_with_name(&self.spec.time_column).ok()?.data_type() {
            DataType::Timestamp(_, zone) => zone.clone(),
            _ => None,
        }
    }
}

impl PruningStatistics for BatchStatistics<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, min, min_string)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, max, max_string)
    }

    fn num_containers(&self) -> usize {
        self.batches.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let nulls = self.columns(column)?.map(|column| column.null_count() as u64);
        Some(Arc::new(nulls.map(Some).collect::<UInt64Array>()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let rows = self.batches.iter().map(|batch| Some(batch.num_rows() as u64));
        Some(Arc::new(rows.collect::<UInt64Array>()))
    }

    fn contained(&self, column: &Column, values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        let wanted: Option<HashSet<&str>> =
            values.iter().map(|value| value.try_as_str().flatten()).collect();
        let wanted = wanted?;
        let contained = self.columns(column)?.map(|column| {
            let found = dictionary(column)?.iter().flatten().any(|value| wanted.contains(value));
            // Where some are found, others may be there too.
            (!found).then_some(false)
        });
        Some(contained.collect())
    }
}

/// The distinct values of a dictionary column, possibly some that no row has.
fn dictionary(column: &ArrayRef) -> Option<&StringArray> {
    column.as_dictionary_opt::<Int32Type>()?.values().as_string_opt::<i32>()
}

#[cfg(test)]
mod tests {
    use arrow::array::DictionaryArray;
    use arrow::datatypes::SchemaRef;
    use datafusion::logical_expr::{Expr, col, lit};
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::scan::predicate;

    fn batch(spec: &TableSpec, seconds: i64, services: &[&str]) -> RecordBatch {
        let columns = spec.schema.fields().iter().map(|field| -> ArrayRef {
            match field.name().as_str() {
                "timestamp" => {
                    let times = vec![seconds * 1_000_000; services.len()];
                    Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"))
                }
                "service" => {
                    Arc::new(services.iter().copied().collect::<DictionaryArray<Int32Type>>())
                }
                _ => arrow::array::new_null_array(field.data_type(), services.len()),
            }
        });
        let fields = spec.schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true));
        let schema: SchemaRef = Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()));
        RecordBatch::try_new(schema, columns.collect()).unwrap()
    }

    fn kept(filter: Expr) -> Vec<usize> {
        let spec = Arc::new(TableSpec::logs());
        let services: [&[&str]; 3] = [&["a", "c"], &["b"], &["c", "c"]];
        let batches = services.iter().enumerate().map(|(i, s)| batch(&spec, i as i64, s));
        let batches: Vec<_> = batches.collect();
        let state = SessionContext::new().state();
        let predicate = predicate(&state, &spec.table_schema(), &[filter]).unwrap();
        let pruned = TailPruning::new(spec, predicate).keep(batches.clone()).unwrap();
        let place = |kept: &RecordBatch| batches.iter().position(|batch| batch == kept).unwrap();
        pruned.iter().map(place).collect()
    }

    #[test]
    fn only_batches_with_the_service_are_kept() {
        let text = |text: &str| lit(ScalarValue::Utf8View(Some(text.into())));
        assert_eq!(kept(col("service").eq(text("b"))), [1], "though b lies between a and c");
        assert_eq!(kept(col("service").eq(text("c"))), [0, 2]);
        assert_eq!(kept(col("service").gt(text("b"))), [0, 2]);
        assert_eq!(kept(col("service").is_null()), [] as [usize; 0]);
    }

    #[test]
    fn only_batches_of_the_time_are_kept() {
        let time = |seconds: i64| {
            let micros = Some(seconds * 1_000_000);
            lit(ScalarValue::TimestampMicrosecond(micros, Some("UTC".into())))
        };
        assert_eq!(kept(col("timestamp").gt_eq(time(1)).and(col("timestamp").lt(time(2)))), [1]);
    }

    #[test]
    fn what_cannot_be_told_is_kept() {
        assert_eq!(kept(col("message").eq(lit("x"))), [0, 1, 2]);
        assert_eq!(kept(col("service").eq(col("message"))), [0, 1, 2]);
    }
}
