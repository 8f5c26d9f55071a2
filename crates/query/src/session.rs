//! The DataFusion sessions that queries run in.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use datafusion::common::config::Dialect;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::{
    CsvReadOptions, JsonReadOptions, ParquetReadOptions, SessionConfig, SessionContext,
};
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_postgres::datafusion_pg_catalog::setup_pg_catalog;

use parking_lot::Mutex;

use crate::config::{FileFormat, FileTableConfig, QueryConfig};
use crate::sight::Sight;
use crate::{NamedTable, QueryError, percentile, pg_functions};

/// Name of the database that Postgres clients see.
pub(crate) const CATALOG: &str = "thalweg";
const SCHEMA: &str = "public";

/// Consumers of memory named in the error of a query that exceeds the budget.
const TOP_CONSUMERS: NonZeroUsize = NonZeroUsize::new(3).expect("three is not zero");

/// The most sessions kept; principals limited to other services have theirs made anew.
const MAX_SESSIONS: usize = 64;

/// Sessions over one set of tables, each showing what some principals see of it. They share the
/// budget of memory and spill space.
pub(crate) struct Sessions {
    threads: usize,
    runtime: Arc<RuntimeEnv>,
    functions: Functions,
    state: Mutex<State>,
}

/// The tables, and the sessions that show them.
struct State {
    tables: Vec<NamedTable>,
    made: HashMap<Sight, SessionContext>,
}

/// Makes further functions known to a session.
pub type Functions = Arc<dyn Fn(&SessionContext) + Send + Sync>;

impl Sessions {
    /// Sessions with `tables` and the files of `config`.
    pub(crate) async fn open(
        config: &QueryConfig,
        threads: usize,
        mut tables: Vec<NamedTable>,
        functions: Functions,
    ) -> Result<Self, QueryError> {
        let runtime = Arc::new(
            RuntimeEnvBuilder::new()
                .with_memory_pool(Arc::new(TrackConsumersPool::new(
                    FairSpillPool::new(config.memory_bytes),
                    TOP_CONSUMERS,
                )))
                .with_disk_manager_builder(
                    DiskManagerBuilder::default()
                        .with_mode(match &config.spill_dir {
                            Some(directory) => {
                                DiskManagerMode::Directories(vec![directory.clone()])
                            }
                            None => DiskManagerMode::OsTmpDirectory,
                        })
                        .with_max_temp_directory_size(config.spill_bytes),
                )
                .build()?,
        );
        for file in &config.tables {
            // A session of its own: only what it finds out of the file is kept.
            let runtime = Arc::clone(&runtime);
            let session = SessionContext::new_with_config_rt(session_config(threads), runtime);
            register_file(&session, file).await?;
            let provider = session.table_provider(file.name.as_str()).await?;
            tables.push(NamedTable { name: file.name.clone(), provider, is_for_admins: false });
        }
        refuse_twice(&tables)?;
        let state = Mutex::new(State { tables, made: HashMap::new() });
        let sessions = Self { threads, runtime, functions, state };
        sessions.of(&Sight::Everything)?;
        Ok(sessions)
    }

    /// Adds a table to all sessions. Queries that are running do not notice.
    pub(crate) fn add(&self, table: NamedTable) -> Result<(), QueryError> {
        let mut state = self.state.lock();
        if state.tables.iter().any(|other| other.name == table.name) {
            return Err(taken(&table.name));
        }
        state.tables.push(table);
        state.made.clear();
        Ok(())
    }

    /// Puts a table in the place of the one of that name, in all sessions. Queries that are running do
    /// not notice.
    pub(crate) fn replace(&self, table: NamedTable) {
        let mut state = self.state.lock();
        state.tables.retain(|other| other.name != table.name);
        state.tables.push(table);
        state.made.clear();
    }

    /// Removes a table from all sessions, if it is there. Queries that are running do not notice.
    pub(crate) fn remove(&self, name: &str) {
        let mut state = self.state.lock();
        state.tables.retain(|table| table.name != name);
        state.made.clear();
    }

    /// Whether there is a table of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.state.lock().tables.iter().any(|table| table.name == name)
    }

    /// The session that shows `sight`.
    pub(crate) fn of(&self, sight: &Sight) -> Result<SessionContext, QueryError> {
        let mut state = self.state.lock();
        if let Some(session) = state.made.get(sight) {
            return Ok(session.clone());
        }
        if state.made.len() >= MAX_SESSIONS {
            state.made.clear();
        }
        let session = self.make(sight, &state.tables)?;
        state.made.insert(sight.clone(), session.clone());
        Ok(session)
    }

    fn make(&self, sight: &Sight, tables: &[NamedTable]) -> Result<SessionContext, QueryError> {
        let config = session_config(self.threads);
        let mut context = SessionContext::new_with_config_rt(config, Arc::clone(&self.runtime));
        setup_pg_catalog(&context, CATALOG, EmptyContextProvider).map_err(|error| *error)?;
        pg_functions::register(&context);
        // After the catalog, which rebuilds the session's state.
        register_functions(&mut context)?;
        (self.functions)(&context);
        for table in tables {
            if let Some(provider) = sight.table(table) {
                context.register_table(table.name.as_str(), provider)?;
            }
        }
        Ok(context)
    }

    /// Bytes of memory and of spill space in use.
    pub(crate) fn used(&self) -> (usize, u64) {
        let spilled = self.runtime.disk_manager.used_disk_space();
        (self.runtime.memory_pool.reserved(), spilled)
    }
}

/// A session with the functions of queries and no tables, for plans that are computed elsewhere.
///
/// # Errors
/// [`QueryError::Internal`] when the session cannot be made.
pub fn planning_session() -> Result<SessionContext, QueryError> {
    let mut context = SessionContext::new_with_config(session_config(1));
    register_functions(&mut context)?;
    Ok(context)
}

fn register_functions(context: &mut SessionContext) -> Result<(), QueryError> {
    datafusion_functions_json::register_all(context)?;
    percentile::register(context);
    Ok(())
}

fn session_config(threads: usize) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_target_partitions(threads)
        .with_information_schema(true)
        .with_default_catalog_and_schema(CATALOG, SCHEMA);
    let options = config.options_mut();
    options.sql_parser.dialect = Dialect::PostgreSQL;
    // Spans give errors about names a line and a column.
    options.sql_parser.collect_spans = true;
    // Log queries filter hard and read few columns: decode the others only where rows survive.
    options.execution.parquet.pushdown_filters = true;
    options.execution.parquet.reorder_filters = true;
    config
}

fn refuse_twice(tables: &[NamedTable]) -> Result<(), QueryError> {
    let mut names = HashSet::new();
    match tables.iter().find(|table| !names.insert(table.name.as_str())) {
        None => Ok(()),
        Some(NamedTable { name, .. }) => Err(taken(name)),
    }
}

fn taken(name: &str) -> QueryError {
    let reason = "the name is taken by another table; choose another name".to_owned();
    QueryError::Table { name: name.to_owned(), reason }
}

async fn register_file(
    context: &SessionContext,
    table: &FileTableConfig,
) -> Result<(), QueryError> {
    let path = table.path.display();
    let fault = |reason: String| QueryError::Table { name: table.name.clone(), reason };
    let metadata = std::fs::metadata(&table.path)
        .map_err(|error| fault(format!("cannot read {path}: {error}; correct its path")))?;
    if !metadata.is_file() {
        return Err(fault(format!("expected a file, found a directory at {path}")));
    }
    let extension = table.path.extension().and_then(|text| text.to_str()).unwrap_or_default();
    let format =
        table.format.or_else(|| FileFormat::from_extension(extension)).ok_or_else(|| {
            fault(format!(
                "cannot tell the format of {path}; add `format: parquet`, `csv` or `json`"
            ))
        })?;
    // An absolute path is never taken for the URL of something else.
    let path = std::path::absolute(&table.path)
        .ok()
        .as_deref()
        .and_then(Path::to_str)
        .map(str::to_owned)
        .ok_or_else(|| fault(format!("the path {path} is not valid UTF-8")))?;
    let extension = if extension.is_empty() { String::new() } else { format!(".{extension}") };
    let name = table.name.as_str();
    let registered = match format {
        FileFormat::Parquet => {
            let options = ParquetReadOptions { file_extension: &extension, ..Default::default() };
            context.register_parquet(name, path, options).await
        }
        FileFormat::Csv => {
            let options = CsvReadOptions::new().file_extension(&extension);
            context.register_csv(name, path, options).await
        }
        FileFormat::Json => {
            let options = JsonReadOptions { file_extension: &extension, ..Default::default() };
            context.register_json(name, path, options).await
        }
    };
    registered
        .map_err(|error| fault(format!("{} at {}", error.strip_backtrace(), table.path.display())))
}
