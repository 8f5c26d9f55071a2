//! One running query: its threads, limits, cancellation and accounting.

use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::execution::SessionState;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use thalweg_access::Record;
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use crate::QueryError;

/// Batches computed ahead of the client. Small: a client that reads slowly pauses its query.
const BATCHES_AHEAD: usize = 2;
/// Rows handed over at once, so that writing them out never holds a server's thread for long.
const BATCH_ROWS: usize = 2_048;

/// What one query may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Rows after which the answer is cut off; `None` for all.
    pub rows: Option<usize>,
    /// Time until the last row must have been handed over.
    pub timeout: Duration,
}

/// A query being executed. Dropping it stops the execution and frees its place.
pub struct RunningQuery {
    schema: SchemaRef,
    started: Instant,
    first: Option<RecordBatch>,
    batches: mpsc::Receiver<RecordBatch>,
    end: Option<oneshot::Receiver<Result<End, QueryError>>>,
    truncated: bool,
    _task: AbortOnDropHandle<()>,
}

struct End {
    truncated: bool,
}

impl RunningQuery {
    pub(crate) async fn start(
        runtime: &Runtime,
        state: SessionState,
        plan: LogicalPlan,
        limits: Limits,
        permit: OwnedSemaphorePermit,
        record: Record,
    ) -> Result<Self, QueryError> {
        let started = Instant::now();
        let (batch_sender, batches) = mpsc::channel(BATCHES_AHEAD);
        let (end_sender, end) = oneshot::channel();
        let (schema_sender, schema) = oneshot::channel();
        let task = runtime.spawn(async move {
            let mut account = Account::open(started, record);
            let work =
                execute(&state, plan, limits.rows, schema_sender, batch_sender, &mut account);
            let result = tokio::time::timeout(limits.timeout, work)
                .await
                .unwrap_or(Err(QueryError::Timeout(limits.timeout)));
            account.outcome = match &result {
                Ok(_) => "ok",
                Err(QueryError::Timeout(_)) => "timeout",
                Err(QueryError::Cancelled) => "cancelled",
                Err(_) => "error",
            };
            // The place is held here and not by the client's side, so that it is free only when
            // the execution is gone, and before the client learns of it, so that its next query
            // finds it free.
            drop((account, permit));
            // The client may have left.
            let _ = end_sender.send(result);
        });
        let mut query = Self {
            schema: arrow::datatypes::Schema::empty().into(),
            started,
            first: None,
            batches,
            end: Some(end),
            truncated: false,
            _task: AbortOnDropHandle::new(task),
        };
        if let Ok(schema) = schema.await {
            query.schema = schema;
        }
        // Most errors come before the first rows; waiting for these lets them have a status.
        query.first = query.next_batch().await?;
        Ok(query)
    }

    /// Columns of the answer.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Time since the query was started.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether rows were left out because of the row limit; known after the last batch.
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// The next rows; `None` after the last.
    ///
    /// # Errors
    /// Why the query failed; nothing comes after an error.
    pub async fn next_batch(&mut self) -> Result<Option<RecordBatch>, QueryError> {
        if let Some(batch) = self.first.take() {
            return Ok(Some(batch));
        }
        if let Some(batch) = self.batches.recv().await {
            return Ok(Some(batch));
        }
        match self.end.take() {
            None => Ok(None),
            Some(end) => {
                // The sender is lost only when the execution panicked.
                let panicked = |_| QueryError::Internal("the query's execution panicked".into());
                self.truncated = end.await.map_err(panicked)??.truncated;
                Ok(None)
            }
        }
    }
}

async fn execute(
    state: &SessionState,
    plan: LogicalPlan,
    rows: Option<usize>,
    schema: oneshot::Sender<SchemaRef>,
    batches: mpsc::Sender<RecordBatch>,
    account: &mut Account,
) -> Result<End, QueryError> {
    let plan = match rows {
        // One more than wanted tells whether rows were left out. An explanation has few rows and
        // must be at the root.
        Some(rows) if !matches!(plan, LogicalPlan::Explain(_) | LogicalPlan::Analyze(_)) => {
            LogicalPlanBuilder::from(plan).limit(0, Some(rows.saturating_add(1)))?.build()?
        }
        _ => plan,
    };
    let physical = state.create_physical_plan(&plan).await?;
    let mut stream = execute_stream(physical, state.task_ctx())?;
    let mut rows_left = rows.unwrap_or(usize::MAX);
    // The client may have left.
    let _ = schema.send(stream.schema());
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        let wanted = batch.num_rows().min(rows_left);
        for start in (0..wanted).step_by(BATCH_ROWS) {
            let part = batch.slice(start, BATCH_ROWS.min(wanted - start));
            account.rows += part.num_rows() as u64;
            batches.send(part).await.map_err(|_| QueryError::Cancelled)?;
        }
        if wanted < batch.num_rows() {
            return Ok(End { truncated: true });
        }
        rows_left -= wanted;
    }
    Ok(End { truncated: false })
}

/// Counts a query by how it ended.
pub(crate) fn count(outcome: &'static str) {
    metrics::counter!("thalweg_query_queries_total", "outcome" => outcome).increment(1);
}

/// Writes what a query took to the metrics and the audit log when it is over, however it ended.
struct Account {
    started: Instant,
    rows: u64,
    outcome: &'static str,
    record: Record,
}

impl Account {
    fn open(started: Instant, record: Record) -> Self {
        metrics::gauge!("thalweg_query_running").increment(1);
        // An execution dropped midway was cancelled: its client left.
        Self { started, rows: 0, outcome: "cancelled", record }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        metrics::gauge!("thalweg_query_running").decrement(1);
        count(self.outcome);
        self.record.set_outcome(self.outcome, self.rows);
        metrics::counter!("thalweg_query_rows_total").increment(self.rows);
        metrics::histogram!("thalweg_query_seconds").record(self.started.elapsed().as_secs_f64());
    }
}
