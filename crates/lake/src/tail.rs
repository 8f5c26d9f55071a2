//! Rows the log has and the table's files do not have yet.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result as QueryResult, Statistics};
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use thalweg_log::{LogError, TopicPartition};

use crate::conform::{batch_bytes, conform, to_table};
use crate::error::Result;
use crate::snapshot::Snapshot;
use crate::table::Table;
use crate::tail_index::Range;
use crate::tail_pruning::TailPruning;

/// Rows read from the log at a time.
const READ_BYTES: usize = 8 << 20;

/// The rows of one partition after a version of the table.
#[derive(Clone)]
pub(crate) struct Tail {
    at: TopicPartition,
    /// Rows at hand, with the topic's columns.
    batches: Vec<RecordBatch>,
    /// Offsets still to be read: more than a query may hold in memory.
    rest: VecDeque<Range>,
}

/// What of the log behind `snapshot` may hold what `pruning` looks for, by partition; partitions
/// without such rows are left out.
///
/// # Errors
/// [`LogError::OffsetOutOfRange`] when the log no longer has what `snapshot` does not cover:
/// a newer version does cover it.
pub(crate) async fn read(
    table: &Table,
    snapshot: &Snapshot,
    pruning: &TailPruning,
) -> Result<Vec<Tail>> {
    let budget = table.config.tail_bytes / snapshot.offsets.len().max(1);
    let mut tails = vec![];
    for (at, &from) in &snapshot.offsets {
        let end = table.log.offsets(at.clone())?.end;
        let mut rest = VecDeque::from(table.tail_index.ranges(at, (from, end), pruning)?);
        let (mut batches, mut bytes) = (vec![], 0);
        while bytes < budget
            && let Some(range) = rest.pop_front()
        {
            let (read, more) = step(table, at, range).await?;
            if let Some(more) = more {
                rest.push_front(more);
            }
            let read = pruning.keep(read)?;
            bytes += read.iter().map(batch_bytes).sum::<usize>();
            batches.extend(read);
        }
        if !rest.is_empty() || !batches.is_empty() {
            tails.push(Tail { at: at.clone(), batches, rest });
        }
    }
    Ok(tails)
}

/// Rows at the beginning of `range` that the table will take, and what is left of the range.
async fn step(
    table: &Table,
    at: &TopicPartition,
    Range { from, end, bytes }: Range,
) -> Result<(Vec<RecordBatch>, Option<Range>), LogError> {
    let at_most = bytes.map_or(READ_BYTES, |bytes| bytes.min(READ_BYTES));
    let entries = table.log.read(at.clone(), from, at_most).await?;
    // Where one entry ends and the next begins may differ from one read to the next.
    let entries = entries.into_iter().take_while(|entry| entry.offset < end);
    let entries = entries.map(|entry| entry.before(end));
    let (mut batches, mut next) = (vec![], from);
    for entry in entries {
        // The writer passes over rows that do not fit, too, and says so.
        if let Ok(batch) = conform(entry.after(from), &table.spec.schema)
            && batch.num_rows() > 0
        {
            batches.push(batch);
        }
        next = entry.next_offset;
    }
    // A log that has nothing before its own end is at its end.
    let more = from < next && next < end;
    Ok((batches, more.then_some(Range { from: next, end, bytes })))
}

/// Serves [`Tail`]s to a query, each as one partition.
pub(crate) struct TailExec {
    table: Arc<Table>,
    pruning: TailPruning,
    /// Held so that the log keeps what is still to be read.
    snapshot: Arc<Snapshot>,
    tails: Vec<Tail>,
    projection: Arc<[usize]>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl TailExec {
    pub(crate) fn new(
        table: Arc<Table>,
        snapshot: Arc<Snapshot>,
        tails: Vec<Tail>,
        pruning: TailPruning,
        projection: Arc<[usize]>,
        schema: SchemaRef,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(schema),
            Partitioning::UnknownPartitioning(tails.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let (properties, metrics) = (Arc::new(properties), ExecutionPlanMetricsSet::new());
        Self { table, pruning, snapshot, tails, projection, properties, metrics }
    }

    fn rows(&self, partition: Option<usize>) -> Precision<usize> {
        let tails = match partition {
            Some(partition) => &self.tails[partition..=partition],
            None => &self.tails[..],
        };
        let rows = tails.iter().flat_map(|tail| &tail.batches).map(RecordBatch::num_rows).sum();
        match tails.iter().any(|tail| !tail.rest.is_empty()) {
            true => Precision::Inexact(rows),
            false => Precision::Exact(rows),
        }
    }
}

/// Reads `ranges` a step at a time.
fn read_on(
    table: Arc<Table>,
    pruning: TailPruning,
    at: TopicPartition,
    ranges: VecDeque<Range>,
) -> BoxStream<'static, QueryResult<RecordBatch>> {
    let steps = stream::try_unfold(ranges, move |mut ranges| {
        let (table, pruning, at) = (Arc::clone(&table), pruning.clone(), at.clone());
        async move {
            let Some(range) = ranges.pop_front() else { return Ok(None) };
            let (batches, more) = step(&table, &at, range)
                .await
                .map_err(|error| DataFusionError::External(error.into()))?;
            if let Some(more) = more {
                ranges.push_front(more);
            }
            let batches = pruning.keep(batches)?;
            Ok::<_, DataFusionError>(Some((stream::iter(batches.into_iter().map(Ok)), ranges)))
        }
    });
    steps.try_flatten().boxed()
}

impl ExecutionPlan for TailExec {
    fn name(&self) -> &'static str {
        "TailExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> QueryResult<TreeNodeRecursion>,
    ) -> QueryResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> QueryResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> QueryResult<Arc<dyn ExecutionPlan>> {
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        self.replace_children(children, options)
    }

    fn execute(
        &self,
        partition: usize,
        _: Arc<TaskContext>,
    ) -> QueryResult<SendableRecordBatchStream> {
        let tail = self.tails[partition].clone();
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let at_hand = stream::iter(tail.batches.into_iter().map(Ok));
        let rest = read_on(Arc::clone(&self.table), self.pruning.clone(), tail.at, tail.rest);
        let rows = at_hand.chain(rest);
        let (table, projection, schema) =
            (Arc::clone(&self.table), Arc::clone(&self.projection), self.schema());
        let snapshot = Arc::clone(&self.snapshot);
        let rows = rows.map(move |batch| {
            let _until_read = &snapshot;
            let _timer = metrics.elapsed_compute().timer();
            let batch = to_table(&table.spec, &batch?, &projection, &schema)?;
            metrics.record_output(batch.num_rows());
            Ok(batch)
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), rows)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(
        &self,
        _: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> QueryResult<Arc<Statistics>> {
        let unknown = Statistics::new_unknown(&self.schema());
        Ok(Arc::new(unknown.with_num_rows(self.rows(args.partition()))))
    }
}

impl DisplayAs for TailExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let streamed = self.tails.iter().filter(|tail| !tail.rest.is_empty()).count();
        write!(f, "TailExec: rows={}, partitions={}", self.rows(None), self.tails.len())?;
        if streamed > 0 { write!(f, ", streamed={streamed}") } else { Ok(()) }
    }
}

impl fmt::Debug for TailExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_as(DisplayFormatType::Default, f)
    }
}
