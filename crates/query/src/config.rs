//! What an operator can set about queries.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

/// Limits of the query engine and the files it reads besides the lake.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QueryConfig {
    /// Memory all running queries may use together for sorting, grouping and joining; beyond it
    /// they spill to disk, and a query that cannot spill fails.
    pub memory_bytes: usize,
    /// Disk space all running queries may use together for spilled data.
    pub spill_bytes: u64,
    /// Where spilled data goes; the system's temporary directory when absent.
    pub spill_dir: Option<PathBuf>,
    /// Threads that execute queries, apart from those that take in events; as many as the
    /// machine has cores when absent.
    pub threads: Option<usize>,
    /// Queries running at once; one more is refused with 429.
    pub max_running_queries: usize,
    /// Rows of an HTTP answer unless the request asks for another number.
    pub default_rows: usize,
    /// Most rows an HTTP request may ask for.
    pub max_rows: usize,
    /// Time a query may take unless the request asks for another one.
    pub default_timeout_secs: u64,
    /// Most time a request may ask for.
    pub max_timeout_secs: u64,
    /// Clients following `/api/v1/logs/tail` at once.
    pub max_tailers: usize,
    /// Rows kept for a follower that reads too slowly, before rows are dropped for it.
    pub tail_buffer_rows: usize,
    /// Postgres connections open at once.
    pub max_postgres_connections: usize,
    /// Files to read as tables.
    pub tables: Vec<FileTableConfig>,
}

impl Default for QueryConfig {
    fn default() -> Self {
        Self {
            memory_bytes: 512 << 20,
            spill_bytes: 10 << 30,
            spill_dir: None,
            threads: None,
            max_running_queries: 16,
            default_rows: 10_000,
            max_rows: 1_000_000,
            default_timeout_secs: 30,
            max_timeout_secs: 300,
            max_tailers: 64,
            tail_buffer_rows: 1_000,
            max_postgres_connections: 100,
            tables: Vec::new(),
        }
    }
}

impl QueryConfig {
    pub(crate) fn default_timeout(&self) -> Duration {
        Duration::from_secs(self.default_timeout_secs)
    }
}

/// A file that is read as a table.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileTableConfig {
    /// Name of the table in SQL.
    pub name: String,
    /// Path of the file. Its columns and their types are found out once, at start.
    pub path: PathBuf,
    /// Format of the file; told by the ending of its name when absent.
    #[serde(default)]
    pub format: Option<FileFormat>,
}

/// Formats of files that can be tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FileFormat {
    /// Apache Parquet.
    Parquet,
    /// Comma-separated values with a header line.
    Csv,
    /// One JSON object a line.
    Json,
}

impl FileFormat {
    /// The format that files with this ending (without the dot, in any case) usually have.
    pub fn from_extension(extension: &str) -> Option<Self> {
        match extension.to_ascii_lowercase().as_str() {
            "parquet" => Some(Self::Parquet),
            "csv" => Some(Self::Csv),
            "json" | "ndjson" | "jsonl" => Some(Self::Json),
            _ => None,
        }
    }
}
