//! A view as a table: its closed windows from where they are kept, its open ones from the view.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::logical_expr::{Expr, Operator, TableProviderFilterPushDown, TableType, col, lit};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Column, Literal};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::union::UnionExec;

use crate::config::Emit;
use crate::plan::{Plan, WINDOW_END};
use crate::view::Published;

/// Whether a row is of a closed window, and will not change any more.
const IS_FINAL: &str = "is_final";

/// The rows of a view: final ones of all closed windows and, if it emits on update, those of its
/// open ones as they were after the last checkpoint.
#[derive(Debug)]
pub struct ViewTable {
    /// The rows of closed windows, with the view's columns.
    closed: Arc<dyn TableProvider>,
    plan: Arc<Plan>,
    emit: Emit,
    published: Arc<ArcSwapOption<Published>>,
    schema: SchemaRef,
}

impl ViewTable {
    pub(crate) fn new(
        closed: Arc<dyn TableProvider>,
        plan: Arc<Plan>,
        emit: Emit,
        published: Arc<ArcSwapOption<Published>>,
    ) -> Self {
        let mut fields = plan.output.fields().to_vec();
        for field in &mut fields {
            if *field.data_type() == DataType::Utf8 {
                *field = Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8View));
            }
        }
        fields.push(Arc::new(Field::new(IS_FINAL, DataType::Boolean, false)));
        Self { closed, plan, emit, published, schema: Arc::new(Schema::new(fields)) }
    }

    /// The rows of open windows.
    fn open_rows(&self, published: &Published) -> Result<Vec<RecordBatch>> {
        let external = |error: crate::StreamError| DataFusionError::External(error.into());
        let mut batches = vec![];
        for results in published.open.results().map_err(external)? {
            let rows = self.plan.output(results).map_err(external)?;
            let not_final = arrow::array::BooleanArray::from(vec![false; rows.num_rows()]);
            let mut columns = rows.columns().to_vec();
            columns.push(Arc::new(not_final));
            let cast = columns.iter().zip(self.schema.fields());
            let cast = cast.map(|(column, field)| arrow::compute::cast(column, field.data_type()));
            let columns = cast.collect::<Result<Vec<_>, _>>()?;
            batches.push(RecordBatch::try_new(Arc::clone(&self.schema), columns)?);
        }
        Ok(batches)
    }

    /// Closed windows' rows up to `closed_until`, with all columns of the table.
    async fn closed_rows(
        &self,
        session: &dyn Session,
        filters: &[Expr],
        closed_until: Option<i64>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut filters: Vec<Expr> =
            filters.iter().filter(|filter| !reads_is_final(filter)).cloned().collect();
        let until = closed_until
            .map(|until| ScalarValue::TimestampMicrosecond(Some(until), Some("UTC".into())));
        filters.extend(until.clone().map(|until| col(WINDOW_END).lt_eq(lit(until))));
        let schema = self.closed.schema();
        let columns = self.plan.output.fields().iter().map(|field| schema.index_of(field.name()));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let mut rows = self.closed.scan(session, Some(&columns), &filters, None).await?;
        if let Some(until) = until {
            let end = Column::new_with_schema(WINDOW_END, &rows.schema())?;
            let condition =
                BinaryExpr::new(Arc::new(end), Operator::LtEq, Arc::new(Literal::new(until)));
            rows = Arc::new(FilterExec::try_new(Arc::new(condition), rows)?);
        }
        let mut shown: Vec<(Arc<dyn PhysicalExpr>, String)> = vec![];
        for (n, field) in self.schema.fields().iter().enumerate() {
            let column: Arc<dyn PhysicalExpr> = match field.name() == IS_FINAL {
                true => Arc::new(Literal::new(ScalarValue::Boolean(Some(true)))),
                false => {
                    let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), n));
                    match column.data_type(&rows.schema())? == *field.data_type() {
                        true => column,
                        false => Arc::new(CastExpr::new(column, field.data_type().clone(), None)),
                    }
                }
            };
            shown.push((column, field.name().clone()));
        }
        Ok(Arc::new(ProjectionExec::try_new(shown, rows)?))
    }
}

#[async_trait]
impl TableProvider for ViewTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::View
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        // What is open is looked at first: windows that close meanwhile are left out below.
        let published = match self.emit {
            Emit::OnUpdate => self.published.load_full(),
            Emit::OnClose => None,
        };
        let closed_until = published.as_ref().map(|published| published.closed_until);
        let open = match &published {
            Some(published) => self.open_rows(published)?,
            None => vec![],
        };
        let closed = self.closed_rows(session, filters, closed_until).await?;
        let schema = Arc::clone(&self.schema);
        let open = MemorySourceConfig::try_new_exec(&[open], schema, None)?;
        let rows = UnionExec::try_new(vec![closed, open])?;
        let Some(projection) = projection else {
            return Ok(rows);
        };
        let shown = projection.iter().map(|n| {
            let name = self.schema.field(*n).name();
            (Arc::new(Column::new(name, *n)) as Arc<dyn PhysicalExpr>, name.clone())
        });
        Ok(Arc::new(ProjectionExec::try_new(shown.collect::<Vec<_>>(), rows)?))
    }
}

fn reads_is_final(filter: &Expr) -> bool {
    filter.column_refs().iter().any(|column| column.name == IS_FINAL)
}
