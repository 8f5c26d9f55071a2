//! A table of which only some rows are seen.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DFSchema, Result, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{
    BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType,
};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

/// The rows of a table for which a restriction holds.
///
/// What a query says about rows is evaluated only above the restriction, or is known not to fail
/// and to have no effect: else an error could tell of a row that is not seen (`1 / (amount - 7)`),
/// and a count answered from statistics of all.
#[derive(Debug)]
pub(crate) struct RestrictedTable {
    all: Arc<dyn TableProvider>,
    restriction: Expr,
}

impl RestrictedTable {
    pub(crate) fn new(all: Arc<dyn TableProvider>, restriction: Expr) -> Self {
        Self { all, restriction }
    }

    /// The rows for which all `filters` hold.
    async fn filtered(
        &self,
        session: &dyn Session,
        columns: &[usize],
        filters: &[Expr],
    ) -> Result<Arc<dyn ExecutionPlan>> {
        // A table need not look at filters that it did not ask for, and none has a limit: it
        // would count rows that are not seen.
        let asked: Vec<&Expr> = filters.iter().collect();
        let supported = self.all.supports_filters_pushdown(&asked)?;
        let offered: Vec<Expr> = filters
            .iter()
            .zip(supported)
            .filter(|(_, supported)| *supported != TableProviderFilterPushDown::Unsupported)
            .map(|(filter, _)| filter.clone())
            .collect();
        let all = self.all.scan(session, Some(&columns.to_vec()), &offered, None).await?;
        let schema = DFSchema::try_from(all.schema())?;
        let filter = conjunction(filters.to_vec()).expect("the restriction is among them");
        let filter = session.create_physical_expr(filter, &schema)?;
        Ok(Arc::new(FilterExec::try_new(filter, all)?))
    }
}

#[async_trait]
impl TableProvider for RestrictedTable {
    fn schema(&self) -> SchemaRef {
        self.all.schema()
    }

    fn table_type(&self) -> TableType {
        self.all.table_type()
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| match is_harmless(filter) {
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = self.all.schema();
        let wanted: Vec<usize> = match projection {
            Some(columns) => columns.clone(),
            None => (0..schema.fields().len()).collect(),
        };
        let harmless = filters.iter().filter(|filter| is_harmless(filter)).cloned();
        let filters: Vec<Expr> =
            std::iter::once(self.restriction.clone()).chain(harmless).collect();
        // The columns wanted, and after them those that the filters need.
        let mut columns = wanted.clone();
        for column in filters.iter().flat_map(|filter| filter.column_refs()) {
            let index = schema.index_of(&column.name)?;
            if !columns.contains(&index) {
                columns.push(index);
            }
        }
        let mut seen = self.filtered(session, &columns, &filters).await?;
        if columns.len() > wanted.len() {
            let column = |index: usize| {
                let name = schema.field(wanted[index]).name();
                (Arc::new(Column::new(name, index)) as Arc<dyn PhysicalExpr>, name.clone())
            };
            let columns: Vec<_> = (0..wanted.len()).map(column).collect();
            seen = Arc::new(ProjectionExec::try_new(columns, seen)?);
        }
        Ok(Arc::new(RestrictedExec::new(seen)))
    }
}

fn is_comparison(op: Operator) -> bool {
    use Operator::*;
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// Whether evaluating the expression on any row neither fails nor has an effect: comparisons of
/// columns with constants, and what is made of them by AND, OR and NOT.
fn is_harmless(expr: &Expr) -> bool {
    let is_operand = |expr: &Expr| matches!(expr, Expr::Column(_) | Expr::Literal(..));
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And | Operator::Or, right }) => {
            is_harmless(left) && is_harmless(right)
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            is_comparison(*op) && is_operand(left) && is_operand(right)
        }
        Expr::Not(inner) => is_harmless(inner),
        Expr::IsNull(inner) | Expr::IsNotNull(inner) => is_operand(inner),
        Expr::Between(between) => {
            [&between.expr, &between.low, &between.high].into_iter().all(|part| is_operand(part))
        }
        Expr::InList(in_list) => is_operand(&in_list.expr) && in_list.list.iter().all(is_operand),
        _ => false,
    }
}

/// Lets rows through and nothing else: neither filters down to rows that are not seen, nor
/// statistics up.
#[derive(Debug)]
struct RestrictedExec {
    seen: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl RestrictedExec {
    fn new(seen: Arc<dyn ExecutionPlan>) -> Self {
        // Partitions and order of the rows below, but nothing that is known of their values.
        let below = seen.properties();
        let mut equivalence = EquivalenceProperties::new(seen.schema());
        if let Some(order) = below.output_ordering() {
            equivalence.add_ordering(order.iter().cloned());
        }
        let properties = PlanProperties::new(
            equivalence,
            below.output_partitioning().clone(),
            below.emission_type,
            below.boundedness,
        );
        Self { seen, properties: Arc::new(properties) }
    }
}

impl ExecutionPlan for RestrictedExec {
    fn name(&self) -> &'static str {
        "RestrictedExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.seen]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(match children.pop() {
            Some(seen) => Arc::new(Self::new(seen)),
            None => self,
        })
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        self.replace_children(children, options)
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        self.seen.execute(partition, context)
    }

    fn statistics_from_inputs(
        &self,
        _: &[Arc<Statistics>],
        _: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        Ok(Arc::new(Statistics::new_unknown(&self.schema())))
    }
}

impl DisplayAs for RestrictedExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::{cast, col, lit};

    use super::*;

    #[test]
    fn only_what_cannot_fail_is_evaluated_on_rows_that_are_not_seen() {
        let time = col("timestamp").gt_eq(lit(7));
        let harmless = [
            time.clone(),
            time.clone().and(col("level").eq(lit("INFO")).or(col("host").is_null())),
            col("level").in_list(vec![lit("INFO")], true),
            col("status").between(lit(1), lit(2)),
        ];
        assert!(harmless.iter().all(is_harmless));
        let number = || cast(col("message"), arrow::datatypes::DataType::Int64);
        let telling = [
            number().gt(lit(0)),
            (lit(1) / col("bytes")).gt(lit(0)),
            time.and(number().is_null()),
            col("message").like(lit("%x%")),
            col("message").in_list(vec![number()], false),
        ];
        assert!(!telling.iter().any(is_harmless));
    }
}
