//! A table whose rows are made when they are asked for.

use std::{fmt, sync::Arc};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    common::Result,
    datasource::memory::MemorySourceConfig,
    logical_expr::{Expr, TableType},
    physical_plan::ExecutionPlan,
};

/// A table whose rows are made anew for each query.
pub struct MadeTable {
    schema: SchemaRef,
    rows: Box<dyn Fn() -> RecordBatch + Send + Sync>,
}

impl MadeTable {
    /// The table of the rows, all of `schema`, that `rows` makes.
    pub fn new(
        schema: SchemaRef,
        rows: impl Fn() -> RecordBatch + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { schema, rows: Box::new(rows) })
    }
}

impl fmt::Debug for MadeTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MadeTable").field("schema", &self.schema).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for MadeTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _session: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = vec![vec![(self.rows)()]];
        let columns = projection.cloned();
        Ok(MemorySourceConfig::try_new_exec(&rows, Arc::clone(&self.schema), columns)?)
    }
}
