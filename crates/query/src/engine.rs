//! The engine: tables, threads and limits shared by every way of asking.

use std::sync::{Arc, OnceLock, Weak};

use arrow::array::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::common::Column;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use datafusion_functions_json::JSON_UNION_DATA_TYPE;
use datafusion_functions_json::functions::json_union_to_text;
use futures::stream::BoxStream;
use thalweg_access::{Asker, Audit};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::config::QueryConfig;
use crate::session::{Functions, Sessions};
use crate::sight::Sight;
use crate::view_statement::ViewStatements;
use crate::{QueryError, View};

/// A table and the name queries know it by.
pub struct NamedTable {
    /// Name, in lower case unless users shall quote it.
    pub name: String,
    /// The rows.
    pub provider: Arc<dyn TableProvider>,
    /// Whether only administrators see it.
    pub is_for_admins: bool,
}

/// Opens a stream of the rows that arrive in table `logs` from now on.
///
/// The stream is read promptly: a follower that cannot keep up loses rows behind it, not in it.
/// It ends when the process stops.
pub type LiveLogs = Arc<dyn Fn() -> BoxStream<'static, RecordBatch> + Send + Sync>;

/// Answers queries over tables.
///
/// Queries run on threads of their own, so that taking in events never waits for them, and share
/// one budget of memory, of spill space and of queries at once.
pub struct QueryEngine {
    config: QueryConfig,
    sessions: Sessions,
    audit: Audit,
    running: Arc<Semaphore>,
    tailers: Arc<Semaphore>,
    live: LiveLogs,
    views: OnceLock<Weak<dyn ViewStatements>>,
    stopping: CancellationToken,
    /// Taken only when the engine is dropped.
    runtime: Option<Runtime>,
}

impl QueryEngine {
    /// Builds an engine over `tables` and the files that `config` names, in whose queries
    /// `functions` are known; what is asked is left in `audit`.
    ///
    /// # Errors
    /// [`QueryError::Table`] when a file is missing or cannot be read as its format, or when two
    /// tables have one name; [`QueryError::Internal`] when threads cannot be started.
    pub async fn new(
        config: QueryConfig,
        tables: Vec<NamedTable>,
        functions: Functions,
        live: LiveLogs,
        audit: Audit,
    ) -> Result<Arc<Self>, QueryError> {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = config.threads.unwrap_or_else(cores).max(1);
        let sessions = Sessions::open(&config, threads, tables, functions).await?;
        show_limits(&config);
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("query")
            .enable_all()
            .build()
            .map_err(|error| QueryError::Internal(format!("cannot start threads: {error}")))?;
        Ok(Arc::new(Self {
            running: Arc::new(Semaphore::new(config.max_running_queries)),
            tailers: Arc::new(Semaphore::new(config.max_tailers)),
            views: OnceLock::new(),
            stopping: CancellationToken::new(),
            runtime: Some(runtime),
            config,
            sessions,
            audit,
            live,
        }))
    }

    /// Adds a table, for queries that begin from now on.
    ///
    /// # Errors
    /// [`QueryError::Table`] when there is one of that name.
    pub fn add_table(&self, table: NamedTable) -> Result<(), QueryError> {
        self.sessions.add(table)
    }

    /// Puts a table in the place of the one of that name; queries that are running go on with that.
    pub fn replace_table(&self, table: NamedTable) {
        self.sessions.replace(table);
    }

    /// Removes a table; queries that are running go on with it.
    pub fn remove_table(&self, name: &str) {
        self.sessions.remove(name);
    }

    /// Whether there is a table of that name.
    pub fn has_table(&self, name: &str) -> bool {
        self.sessions.has(name)
    }

    /// Says who carries out `CREATE VIEW` and `DROP VIEW`; without that, they are refused. Only
    /// the first call has an effect.
    pub fn set_view_statements(&self, views: Weak<dyn ViewStatements>) {
        let _ = self.views.set(views);
    }

    pub(crate) fn view_statements(&self) -> Option<Arc<dyn ViewStatements>> {
        self.views.get().and_then(Weak::upgrade)
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

    /// What `asker` sees and may ask.
    ///
    /// # Errors
    /// [`QueryError::Internal`] when no session can be made for it.
    pub fn view(self: &Arc<Self>, asker: Asker) -> Result<View, QueryError> {
        let sight = Sight::of(&asker.principal);
        let context = self.sessions.of(&sight)?;
        Ok(View::new(Arc::clone(self), context, sight, asker))
    }

    /// Shows in metrics what queries use now.
    pub fn show_limits(&self) {
        let (memory_bytes, spilled_bytes) = self.sessions.used();
        metrics::gauge!("thalweg_query_memory_bytes").set(memory_bytes as f64);
        metrics::gauge!("thalweg_query_spilled_bytes").set(spilled_bytes as f64);
    }

    /// A place for one more running query.
    pub(crate) fn admit_query(&self) -> Result<OwnedSemaphorePermit, QueryError> {
        let limit = self.config.max_running_queries;
        let full = |_| QueryError::TooManyQueries { limit };
        self.running.clone().try_acquire_owned().map_err(full)
    }

    pub(crate) fn audit(&self) -> &Audit {
        &self.audit
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

fn show_limits(config: &QueryConfig) {
    for (name, limit) in [
        ("thalweg_query_memory_limit_bytes", config.memory_bytes as f64),
        ("thalweg_query_spilled_limit_bytes", config.spill_bytes as f64),
        ("thalweg_query_running_limit", config.max_running_queries as f64),
        ("thalweg_query_tailers_limit", config.max_tailers as f64),
        ("thalweg_query_postgres_connections_limit", config.max_postgres_connections as f64),
    ] {
        metrics::gauge!(name).set(limit);
    }
}

/// Turns result columns of the JSON functions' union type, which no client knows, into text.
pub(crate) fn json_values_as_text(plan: LogicalPlan) -> Result<LogicalPlan, QueryError> {
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
