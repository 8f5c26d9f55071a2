//! The engine: tables, threads and limits shared by every way of asking.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::common::{Column, DFSchema};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::prelude::{DataFrame, SessionContext};
use datafusion::sql::parser::Statement;
use datafusion_functions_json::JSON_UNION_DATA_TYPE;
use datafusion_functions_json::functions::json_union_to_text;
use futures::stream::BoxStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::config::QueryConfig;
use crate::run::{Limits, RunningQuery, count};
use crate::{QueryError, read_only, session};

/// A table and the name queries know it by.
pub struct NamedTable {
    /// Name, in lower case unless users shall quote it.
    pub name: String,
    /// The rows.
    pub provider: Arc<dyn TableProvider>,
}

/// Opens a stream of the rows that arrive in table `logs` from now on.
///
/// The stream is read promptly: a follower that cannot keep up loses rows behind it, not in it.
/// It ends when the process stops.
pub type LiveLogs = Arc<dyn Fn() -> BoxStream<'static, RecordBatch> + Send + Sync>;

/// Answers queries over a fixed set of tables.
///
/// Queries run on threads of their own, so that taking in events never waits for them, and share
/// one budget of memory, of spill space and of queries at once.
pub struct QueryEngine {
    config: QueryConfig,
    context: SessionContext,
    running: Arc<Semaphore>,
    tailers: Arc<Semaphore>,
    live: LiveLogs,
    stopping: CancellationToken,
    /// Taken only when the engine is dropped.
    runtime: Option<Runtime>,
}

impl QueryEngine {
    /// Builds an engine over `tables` and the files that `config` names.
    ///
    /// # Errors
    /// [`QueryError::Table`] when a file is missing or cannot be read as its format, or when two
    /// tables have one name; [`QueryError::Internal`] when threads cannot be started.
    pub async fn new(
        config: QueryConfig,
        tables: Vec<NamedTable>,
        live: LiveLogs,
    ) -> Result<Arc<Self>, QueryError> {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = config.threads.unwrap_or_else(cores).max(1);
        let context = session::build(&config, threads, tables).await?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("query")
            .enable_all()
            .build()
            .map_err(|error| QueryError::Internal(format!("cannot start threads: {error}")))?;
        Ok(Arc::new(Self {
            running: Arc::new(Semaphore::new(config.max_running_queries)),
            tailers: Arc::new(Semaphore::new(config.max_tailers)),
            stopping: CancellationToken::new(),
            runtime: Some(runtime),
            config,
            context,
            live,
        }))
    }

    /// Limits and files the engine was built with.
    pub fn config(&self) -> &QueryConfig {
        &self.config
    }

    /// Queries running now.
    pub fn running_queries(&self) -> usize {
        self.config.max_running_queries.saturating_sub(self.running.available_permits())
    }

    /// Ends every stream of `/api/v1/logs/tail`, which otherwise never end, so that servers can
    /// stop gracefully. Queries go on.
    pub fn stop_tails(&self) {
        self.stopping.cancel();
    }

    /// Answers one SQL statement.
    ///
    /// # Errors
    /// See [`QueryError`]; errors met after the first rows come out of the returned query.
    pub async fn sql(&self, sql: &str, limits: Limits) -> Result<RunningQuery, QueryError> {
        let dialect = self.context.state().config_options().sql_parser.dialect;
        let statement = self.context.state().sql_to_statement(sql, &dialect)?;
        let plan = self.plan(statement).await?;
        self.start(plan, limits).await
    }

    /// Plans a statement, if it only reads.
    ///
    /// # Errors
    /// [`QueryError::NotReading`] when it does more, [`QueryError::Invalid`] when it makes no sense.
    pub async fn plan(&self, statement: Statement) -> Result<LogicalPlan, QueryError> {
        let planned = async {
            read_only::check_statement(&statement)?;
            let plan = self.context.state().statement_to_plan(statement).await?;
            read_only::check_plan(&plan)?;
            json_values_as_text(plan)
        };
        planned.await.inspect_err(|_| count("invalid"))
    }

    /// Starts executing a plan and returns once its first rows are there, or it has ended.
    ///
    /// # Errors
    /// [`QueryError::NotReading`] when the plan changes anything, [`QueryError::TooManyQueries`]
    /// at the limit of running queries, or why the plan failed before its first rows.
    pub async fn start(
        &self,
        plan: LogicalPlan,
        limits: Limits,
    ) -> Result<RunningQuery, QueryError> {
        read_only::check_plan(&plan)?;
        let permit = self.running.clone().try_acquire_owned().map_err(|_| {
            count("refused");
            QueryError::TooManyQueries { limit: self.config.max_running_queries }
        })?;
        RunningQuery::start(self.runtime(), self.context.state(), plan, limits, permit).await
    }

    /// A table by name, to build a plan on.
    pub(crate) async fn table(&self, name: &str) -> Result<DataFrame, QueryError> {
        Ok(self.context.table(name).await?)
    }

    pub(crate) fn physical_expr(
        &self,
        expr: Expr,
        schema: &DFSchema,
    ) -> Result<Arc<dyn PhysicalExpr>, QueryError> {
        Ok(self.context.create_physical_expr(expr, schema)?)
    }

    pub(crate) fn live_logs(&self) -> BoxStream<'static, RecordBatch> {
        (self.live)()
    }

    pub(crate) fn admit_tailer(&self) -> Result<OwnedSemaphorePermit, QueryError> {
        let limit = self.config.max_tailers;
        let full = |_| QueryError::TooManyTailers { limit };
        self.tailers.clone().try_acquire_owned().map_err(full)
    }

    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    pub(crate) fn context(&self) -> &SessionContext {
        &self.context
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("the runtime is taken only by drop")
    }
}

impl Drop for QueryEngine {
    fn drop(&mut self) {
        // A plain drop would block, which asynchronous callers must not.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Turns result columns of the JSON functions' union type, which no client knows, into text.
fn json_values_as_text(plan: LogicalPlan) -> Result<LogicalPlan, QueryError> {
    if !plan.schema().fields().iter().any(|field| *field.data_type() == *JSON_UNION_DATA_TYPE) {
        return Ok(plan);
    }
    let columns: Vec<Expr> = plan
        .schema()
        .iter()
        .map(|(qualifier, field)| {
            let column = Expr::Column(Column::from((qualifier, field)));
            if *field.data_type() == *JSON_UNION_DATA_TYPE {
                json_union_to_text(column).alias(field.name())
            } else {
                column
            }
        })
        .collect();
    Ok(LogicalPlanBuilder::from(plan).project(columns)?.build()?)
}
