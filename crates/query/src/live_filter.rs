//! Conditions on rows that arrive.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use datafusion::common::DFSchema;
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::PhysicalExpr;
use thalweg_event::schema::log_schema;

use crate::{QueryError, View};

/// Conditions that must all hold for a row of the live log.
///
/// Batches may carry the same columns in several encodings (a dictionary, a view); conditions are
/// planned anew when those change.
pub(crate) struct LiveFilter {
    view: View,
    /// One after the other: the later are evaluated only on rows for which the earlier hold.
    conditions: Vec<Expr>,
    schema: SchemaRef,
    predicates: Vec<Arc<dyn PhysicalExpr>>,
}

impl LiveFilter {
    /// Plans `conditions`, after that on what `view` shows at all.
    ///
    /// # Errors
    /// [`QueryError::Invalid`] when a condition makes no sense.
    pub(crate) fn new(view: View, conditions: Vec<Expr>) -> Result<Self, QueryError> {
        let asked = conditions.into_iter().reduce(Expr::and);
        let conditions: Vec<Expr> = view.restriction().into_iter().chain(asked).collect();
        let schema = log_schema();
        let predicates = plan(&view, &conditions, &schema)?;
        Ok(Self { view, conditions, schema, predicates })
    }

    /// The rows for which all conditions hold.
    pub(crate) fn matching(&mut self, batch: &RecordBatch) -> Result<RecordBatch, QueryError> {
        if batch.schema() != self.schema {
            self.predicates = plan(&self.view, &self.conditions, &batch.schema())?;
            self.schema = batch.schema();
        }
        let mut matching = batch.clone();
        for predicate in &self.predicates {
            let holds = predicate.evaluate(&matching)?.into_array(matching.num_rows())?;
            matching = filter_record_batch(&matching, holds.as_boolean())
                .map_err(|error| QueryError::Internal(error.to_string()))?;
        }
        Ok(matching)
    }
}

fn plan(
    view: &View,
    conditions: &[Expr],
    schema: &SchemaRef,
) -> Result<Vec<Arc<dyn PhysicalExpr>>, QueryError> {
    let schema = DFSchema::try_from(schema.clone())?;
    conditions.iter().map(|condition| view.physical_expr(condition.clone(), &schema)).collect()
}
