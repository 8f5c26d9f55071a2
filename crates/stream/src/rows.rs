//! What is computed of single rows: filters and projections.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{filter_record_batch, prep_null_mask_filter};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::{Result, exec_err};
use datafusion::physical_expr::PhysicalExpr;

/// Filters and projections, in their order.
///
/// Batches carry columns of the engine's own behind those that the query names; they pass
/// projections unchanged.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    pub(crate) steps: Vec<Step>,
}

/// One filter or projection.
#[derive(Debug)]
pub(crate) enum Step {
    Filter(Arc<dyn PhysicalExpr>),
    Project(Vec<Arc<dyn PhysicalExpr>>, SchemaRef),
}

impl Steps {
    /// What becomes of a batch whose last `carried` columns are the engine's own.
    pub(crate) fn apply(&self, mut batch: RecordBatch, carried: usize) -> Result<RecordBatch> {
        for step in &self.steps {
            if batch.num_rows() == 0 {
                return self.nothing(&batch, carried);
            }
            batch = match step {
                Step::Filter(condition) => filter(&batch, condition)?,
                Step::Project(expressions, schema) => {
                    project(&batch, expressions, schema, carried)?
                }
            };
        }
        Ok(batch)
    }

    /// No rows, with the columns that the last projection leaves.
    fn nothing(&self, batch: &RecordBatch, carried: usize) -> Result<RecordBatch> {
        let projected = self.steps.iter().rev().find_map(|step| match step {
            Step::Project(_, schema) => Some(schema),
            Step::Filter(_) => None,
        });
        let schema = match projected {
            Some(schema) => with_carried(schema, batch, carried),
            None => batch.schema(),
        };
        Ok(RecordBatch::new_empty(schema))
    }
}

/// Rows for which `condition` holds.
pub(crate) fn filter(
    batch: &RecordBatch,
    condition: &Arc<dyn PhysicalExpr>,
) -> Result<RecordBatch> {
    let mask = condition.evaluate(batch)?.into_array(batch.num_rows())?;
    let Some(mask) = mask.as_boolean_opt() else {
        return exec_err!("a condition is of type {}, expected a boolean", mask.data_type());
    };
    keep(batch, mask)
}

/// Rows for which `mask` is true.
pub(crate) fn keep(batch: &RecordBatch, mask: &BooleanArray) -> Result<RecordBatch> {
    let mask = if mask.null_count() > 0 { &prep_null_mask_filter(mask) } else { mask };
    match mask.true_count() {
        all if all == batch.num_rows() => Ok(batch.clone()),
        _ => Ok(filter_record_batch(batch, mask)?),
    }
}

fn project(
    batch: &RecordBatch,
    expressions: &[Arc<dyn PhysicalExpr>],
    schema: &SchemaRef,
    carried: usize,
) -> Result<RecordBatch> {
    let rows = batch.num_rows();
    let computed = expressions.iter().map(|expr| expr.evaluate(batch)?.into_array(rows));
    let mut columns = computed.collect::<Result<Vec<_>>>()?;
    columns.extend_from_slice(&batch.columns()[batch.num_columns() - carried..]);
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let schema = with_carried(schema, batch, carried);
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}

fn with_carried(schema: &SchemaRef, batch: &RecordBatch, carried: usize) -> SchemaRef {
    let all = batch.schema();
    let own = &all.fields()[all.fields().len() - carried..];
    Arc::new(Schema::new(schema.fields().iter().chain(own).map(Arc::clone).collect::<Vec<_>>()))
}
