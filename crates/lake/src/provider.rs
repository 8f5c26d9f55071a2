//! The table as DataFusion sees it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result as QueryResult, ScalarValue};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType, ident, lit};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{CastExpr, Column};
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionContext;
use thalweg_log::{LogError, Offset, TopicPartition};

use crate::error::LakeError;
use crate::scan;
use crate::snapshot::{DataFile, Snapshot};
use crate::table::{LakeTable, Table};
use crate::tail::{self, Tail, TailExec};
use crate::tail_pruning::TailPruning;

/// Attempts to catch a version of the table before the log drops what it does not cover.
const SNAPSHOT_ATTEMPTS: usize = 5;

#[async_trait]
impl TableProvider for LakeTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.table.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// Filters choose files, row groups and pages; what is left is filtered above the scan, or
    /// by the Parquet reader if the session says so.
    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> QueryResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> QueryResult<Arc<dyn ExecutionPlan>> {
        let table = &self.table;
        let predicate = scan::predicate(session, &table.schema, filters)?;
        let pruning = TailPruning::new(Arc::clone(&table.spec), predicate.clone());
        let (snapshot, tails) = consistent(table, &pruning).await?;
        let columns: Arc<[usize]> = match projection {
            Some(columns) => columns.as_slice().into(),
            None => (0..table.schema.fields().len()).collect(),
        };
        let schema = Arc::new(table.schema.project(&columns)?);
        let mut inputs: Vec<Arc<dyn ExecutionPlan>> = vec![];
        if let Some(foreign) = &snapshot.foreign {
            inputs.push(scan_foreign(foreign.as_ref(), session, &schema, filters, limit).await?);
        } else {
            let files = scan::prune(predicate.as_deref(), &table.schema, &snapshot.files)?;
            inputs.extend(scan_files(table, session, &snapshot, files, &columns, limit)?);
        }
        if !tails.is_empty() {
            let table = Arc::clone(table);
            let schema = Arc::clone(&schema);
            let tail = TailExec::new(table, snapshot, tails, pruning, columns, schema);
            inputs.push(Arc::new(tail));
        }
        if inputs.is_empty() {
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        UnionExec::try_new(inputs)
    }
}

impl LakeTable {
    /// The rows of `columns` that are committed, in any order, and the offsets behind them: what
    /// the topics have from there on is not among the rows. Files whose rows are all older than
    /// `since_micros`, since the Unix epoch, are left out.
    ///
    /// # Errors
    /// A column is missing, or the files cannot be read.
    pub async fn committed(
        &self,
        session: &SessionContext,
        columns: &[String],
        since_micros: Option<i64>,
    ) -> QueryResult<(BTreeMap<TopicPartition, Offset>, SendableRecordBatchStream)> {
        let (table, state) = (&self.table, session.state());
        let snapshot = table.snapshots.current();
        let columns = columns.iter().map(|name| table.schema.index_of(name));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let schema = Arc::new(table.schema.project(&columns)?);
        let filters: Vec<Expr> = since_micros
            .map(|since| is_since(&table.spec.time_column, since))
            .into_iter()
            .collect();
        let plan = match &snapshot.foreign {
            Some(foreign) => {
                Some(scan_foreign(foreign.as_ref(), &state, &schema, &filters, None).await?)
            }
            None => {
                let predicate = scan::predicate(&state, &table.schema, &filters)?;
                let files = scan::prune(predicate.as_deref(), &table.schema, &snapshot.files)?;
                scan_files(table, &state, &snapshot, files, &columns, None)?
            }
        };
        let plan = plan.unwrap_or_else(|| Arc::new(EmptyExec::new(schema)));
        let rows = execute_stream(plan, session.task_ctx())?;
        Ok((snapshot.offsets.clone(), rows))
    }
}

fn is_since(time_column: &str, micros: i64) -> Expr {
    let time = ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into()));
    ident(time_column).gt_eq(lit(time))
}

/// A scan of files, if there are any.
fn scan_files(
    table: &Arc<Table>,
    session: &dyn Session,
    snapshot: &Arc<Snapshot>,
    files: Vec<Arc<DataFile>>,
    columns: &[usize],
    limit: Option<usize>,
) -> QueryResult<Option<Arc<dyn ExecutionPlan>>> {
    let groups = balanced(files, session.config().target_partitions());
    if groups.is_empty() {
        return Ok(None);
    }
    let columns = Some(columns.to_vec());
    let files = scan::plan(session, table, snapshot, groups, columns, limit, None)?;
    Ok(Some(files))
}

/// A version of the table and all rows the log has behind it.
async fn consistent(
    table: &Table,
    pruning: &TailPruning,
) -> QueryResult<(Arc<Snapshot>, Vec<Tail>)> {
    let mut attempt = 1;
    loop {
        let snapshot = table.snapshots.current();
        match tail::read(table, &snapshot, pruning).await {
            Ok(tails) => return Ok((snapshot, tails)),
            Err(LakeError::Log(LogError::OffsetOutOfRange { .. }))
                if attempt < SNAPSHOT_ATTEMPTS =>
            {
                attempt += 1
            }
            Err(error) => return Err(DataFusionError::External(error.into())),
        }
    }
}

/// Spreads files over at most `partitions` groups of similar size. Newest rows come first in each
/// group, so that queries for the latest rows can soon skip the rest.
fn balanced(mut files: Vec<Arc<DataFile>>, partitions: usize) -> Vec<Vec<Arc<DataFile>>> {
    files.sort_by_key(|file| Reverse((file.date, file.written_unix_millis)));
    let mut groups: Vec<(u64, Vec<Arc<DataFile>>)> = vec![];
    groups.resize_with(partitions.min(files.len()), Default::default);
    for file in files {
        if let Some((bytes, group)) = groups.iter_mut().min_by_key(|(bytes, _)| *bytes) {
            *bytes += file.size_bytes;
            group.push(file);
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

/// Reads a table with features of other programs the way deltalake does, in our column types.
async fn scan_foreign(
    foreign: &dyn TableProvider,
    session: &dyn Session,
    schema: &Schema,
    filters: &[Expr],
    limit: Option<usize>,
) -> QueryResult<Arc<dyn ExecutionPlan>> {
    let found = foreign.schema();
    let columns = schema.fields().iter().map(|field| Ok(found.index_of(field.name())?));
    let columns = columns.collect::<QueryResult<Vec<_>>>()?;
    let plan = foreign.scan(session, Some(&columns), filters, limit).await?;
    let columns = schema.fields().iter().enumerate().map(|(index, field)| {
        let column = Arc::new(Column::new(field.name(), index)) as Arc<dyn PhysicalExpr>;
        let cast = CastExpr::new_with_target_field(column, Arc::clone(field), None);
        (Arc::new(cast) as Arc<dyn PhysicalExpr>, field.name().clone())
    });
    let columns: Vec<_> = columns.collect();
    Ok(Arc::new(ProjectionExec::try_new(columns, plan)?))
}
