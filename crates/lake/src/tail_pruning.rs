//! Tells which batches of the tail cannot hold rows a query asks for.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, StringArray, StringViewArray,
    TimestampMicrosecondArray, UInt64Array,
};
use arrow::compute::{max, min};
use arrow::datatypes::{DataType, Int32Type, TimestampMicrosecondType};
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, Result as QueryResult, ScalarValue};
use datafusion::physical_optimizer::pruning::PruningPredicate;

use crate::spec::TableSpec;

/// Bytes of distinct values of a column that a summary keeps; of more it knows nothing.
const MAX_VALUES_BYTES: usize = 2 << 10;

/// A batch in short: the bounds of its times, and the values in its dictionaries, which are few
/// and at hand.
pub(crate) struct Summary {
    rows: u64,
    times: Option<(i64, i64)>,
    /// By column of the topic; `None` for those that are not summed up.
    columns: Vec<Option<Values>>,
}

struct Values {
    /// Ascending; possibly some that no row has.
    distinct: Vec<Box<str>>,
    nulls: u64,
}

impl Summary {
    /// Sums up a batch that has the topic's schema.
    pub(crate) fn of(spec: &TableSpec, batch: &RecordBatch) -> Self {
        let times = batch.schema_ref().index_of(&spec.time_column).ok().and_then(|index| {
            let times = batch.column(index).as_primitive_opt::<TimestampMicrosecondType>()?;
            Some((min(times)?, max(times)?))
        });
        let columns = batch.columns().iter().map(Values::of).collect();
        Self { rows: batch.num_rows() as u64, times, columns }
    }
}

impl Values {
    fn of(column: &ArrayRef) -> Option<Self> {
        let column = column.as_dictionary_opt::<Int32Type>()?;
        let values: &StringArray = column.values().as_string_opt::<i32>()?;
        if values.value_data().len() > MAX_VALUES_BYTES || values.len() > MAX_VALUES_BYTES {
            return None;
        }
        let mut distinct: Vec<Box<str>> = values.iter().flatten().map(Into::into).collect();
        distinct.sort_unstable();
        Some(Self { distinct, nulls: column.null_count() as u64 })
    }
}

/// Chooses batches for a query.
#[derive(Clone)]
pub(crate) struct TailPruning {
    spec: Arc<TableSpec>,
    predicate: Option<Arc<PruningPredicate>>,
}

impl TailPruning {
    pub(crate) fn new(spec: Arc<TableSpec>, predicate: Option<Arc<PruningPredicate>>) -> Self {
        Self { spec, predicate }
    }

    /// Which of the batches summed up may hold rows for which the predicate is true.
    pub(crate) fn may_hold(&self, summaries: &[Arc<Summary>]) -> QueryResult<Vec<bool>> {
        match &self.predicate {
            Some(predicate) => predicate.prune(&Statistics { spec: &self.spec, summaries }),
            None => Ok(vec![true; summaries.len()]),
        }
    }

    /// The batches, all with the topic's schema, that may hold rows for which the predicate is
    /// true.
    pub(crate) fn keep(&self, mut batches: Vec<RecordBatch>) -> QueryResult<Vec<RecordBatch>> {
        if self.predicate.is_some() {
            let sum_up = |batch| Arc::new(Summary::of(&self.spec, batch));
            let summaries: Vec<_> = batches.iter().map(sum_up).collect();
            let mut kept = self.may_hold(&summaries)?.into_iter();
            batches.retain(|_| kept.next().unwrap_or(true));
        }
        Ok(batches)
    }
}

struct Statistics<'s> {
    spec: &'s TableSpec,
    summaries: &'s [Arc<Summary>],
}

impl Statistics<'_> {
    fn bounds(
        &self,
        column: &Column,
        of_times: fn(&(i64, i64)) -> i64,
        of_values: fn(&[Box<str>]) -> Option<&Box<str>>,
    ) -> Option<ArrayRef> {
        let index = self.spec.schema.index_of(column.name()).ok()?;
        match self.spec.schema.field(index).data_type() {
            DataType::Timestamp(_, zone) if *column.name() == self.spec.time_column => {
                let bounds = self.summaries.iter().map(|s| s.times.as_ref().map(of_times));
                let bounds = bounds.collect::<TimestampMicrosecondArray>();
                Some(Arc::new(bounds.with_timezone_opt(zone.clone())))
            }
            DataType::Dictionary(_, _) => {
                let bounds = self.values(index).map(|values| of_values(&values?.distinct));
                Some(Arc::new(bounds.collect::<StringViewArray>()))
            }
            _ => None,
        }
    }

    /// Values of a column in each batch, where they are known.
    fn values(&self, index: usize) -> impl Iterator<Item = Option<&Values>> {
        self.summaries.iter().map(move |summary| summary.columns.get(index)?.as_ref())
    }
}

impl PruningStatistics for Statistics<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |(least, _)| *least, <[_]>::first)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.bounds(column, |(_, greatest)| *greatest, <[_]>::last)
    }

    fn num_containers(&self) -> usize {
        self.summaries.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let index = self.spec.schema.index_of(column.name()).ok()?;
        let nulls = self.values(index).map(|values| values.map(|values| values.nulls));
        Some(Arc::new(nulls.collect::<UInt64Array>()))
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        let rows = self.summaries.iter().map(|summary| Some(summary.rows));
        Some(Arc::new(rows.collect::<UInt64Array>()))
    }

    fn contained(&self, column: &Column, values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        let index = self.spec.schema.index_of(column.name()).ok()?;
        let wanted: Option<HashSet<&str>> =
            values.iter().map(|value| value.try_as_str().flatten()).collect();
        let wanted = wanted?;
        let contained = self.values(index).map(|values| {
            let found = values?.distinct.iter().any(|value| wanted.contains(&**value));
            // Where some are found, others may be there too.
            (!found).then_some(false)
        });
        Some(contained.collect())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use arrow::array::DictionaryArray;
    use arrow::datatypes::SchemaRef;
    use datafusion::logical_expr::{Expr, col, lit};
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::scan::predicate;

    pub(crate) fn batch(spec: &TableSpec, seconds: i64, services: &[&str]) -> RecordBatch {
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

    /// Looks for rows of `service`.
    pub(crate) fn pruning(service: &str) -> TailPruning {
        let spec = Arc::new(TableSpec::logs());
        let filter = col("service").eq(lit(ScalarValue::Utf8View(Some(service.into()))));
        let state = SessionContext::new().state();
        let predicate = predicate(&state, &spec.table_schema(), &[filter]).unwrap();
        TailPruning::new(spec, predicate)
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
