//! Errors of the lake.

use std::path::{Path, PathBuf};

use chrono::{DateTime, SecondsFormat};
use thalweg_log::{LogError, Offset, TopicPartition};

/// Result of an operation on the lake.
pub type Result<T, E = LakeError> = std::result::Result<T, E>;

/// What can go wrong in the lake.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// The log refused.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The Delta log cannot be read or written.
    #[error("table `{table}`: {source}")]
    Delta {
        /// Table name.
        table: String,
        /// What deltalake says.
        source: Box<deltalake::DeltaTableError>,
    },
    /// A query of the lake's own files went wrong.
    #[error(transparent)]
    Query(#[from] datafusion::error::DataFusionError),
    /// A Parquet file cannot be written.
    #[error("{}: {source}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the encoder says.
        source: parquet::errors::ParquetError,
    },
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// File or directory.
        path: PathBuf,
        /// The system's message.
        source: std::io::Error,
    },
    /// A record batch is not what the table takes.
    #[error("record batch does not fit the table: {0}")]
    Schema(#[from] arrow::error::ArrowError),
    /// A column of a table specification is of a type Delta tables do not have.
    #[error("column `{column}` of table `{table}` is {found}, which a Delta table cannot hold")]
    UnsupportedType {
        /// Table name.
        table: String,
        /// Column name.
        column: String,
        /// Its Arrow type.
        found: String,
    },
    /// The table on disk has other columns.
    #[error(
        "table `{table}` at {} has the columns {found}, expected {expected}; move it away to start a new one",
        path.display()
    )]
    OtherColumns {
        /// Table name.
        table: String,
        /// Where it is.
        path: PathBuf,
        /// Columns of the specification.
        expected: String,
        /// Columns on disk.
        found: String,
    },
    /// The table has rows from offsets that the log has not reached: another log wrote them.
    #[error(
        "table `{table}` covers {at} up to offset {covered}, but the log ends at {end}; \
         restore the log that belongs to the table, or move the table away"
    )]
    LogBehindTable {
        /// Table name.
        table: String,
        /// Where.
        at: TopicPartition,
        /// First offset the table does not cover.
        covered: Offset,
        /// Offset after the log's last row.
        end: Offset,
    },
    /// Merged files do not have the rows of the files they were merged from; they are not used.
    #[error(
        "a merge of files gave {found} rows, expected {expected}; the files are left as they are"
    )]
    MergeLostRows {
        /// Rows of the inputs.
        expected: usize,
        /// Rows of the output.
        found: usize,
    },
    /// The log no longer has all that was appended since the time to replay from.
    #[error("the log begins at {} ({at}); replay from then on, or later", time_text(*begins_micros))]
    LogBegins {
        /// The partition that begins last.
        at: TopicPartition,
        /// When the first entry was appended that it still has, microseconds since the Unix epoch.
        begins_micros: i64,
    },
    /// The log has fewer rows than the part of the table that would be made anew from it.
    #[error(
        "the log has {found} of the rows at and after that time, and table `{table}` {before}: nothing was \
         changed, as the new version would lose some (allow_fewer lets it)"
    )]
    FewerRows {
        /// Table name.
        table: String,
        /// Rows that the table has.
        before: u64,
        /// Rows that the log has.
        found: u64,
    },
    /// A file with rows to be kept cannot be read.
    #[error(
        "{} has rows from before the time to replay from and cannot be read: {source}{}",
        path.display(),
        earlier(*begins_micros)
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Time of its first row, microseconds since the Unix epoch, if that is known.
        begins_micros: Option<i64>,
        /// What the reader says.
        source: datafusion::error::DataFusionError,
    },
    /// Another program has given the table features with which it cannot be replayed.
    #[error("another program has given table `{0}` features that a replay does not know")]
    Foreign(String),
    /// Files that were to be replaced are not in the table any more.
    #[error("another program has removed files of table `{0}` while it was replayed; begin anew")]
    FilesGone(String),
    /// A replay was cut off.
    #[error("the table was closed while it was replayed; begin anew")]
    CutOff,
    /// The table is being replayed already.
    #[error("table `{0}` is being replayed already")]
    Replaying(String),
    /// The table covers other offsets than those its writer has gone on from.
    #[error("table `{0}` has been changed behind its writer, which starts again from its offsets")]
    Overtaken(String),
    /// The writer was stopped before it had committed what was asked for.
    #[error("the writer of table `{0}` has stopped")]
    Stopped(String),
}

/// A time in microseconds since the Unix epoch, as people write it.
pub(crate) fn time_text(micros: i64) -> String {
    let time = DateTime::from_timestamp_micros(micros);
    time.map_or_else(|| micros.to_string(), |t| t.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

fn earlier(begins_micros: Option<i64>) -> String {
    let begins = begins_micros.map(time_text);
    begins.map_or_else(String::new, |at| format!("; to make it anew, replay from {at} or earlier"))
}

impl LakeError {
    pub(crate) fn delta(table: &str) -> impl Fn(deltalake::DeltaTableError) -> Self + '_ {
        move |source| Self::Delta { table: table.into(), source: Box::new(source) }
    }

    pub(crate) fn io(path: &Path) -> impl Fn(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.into(), source }
    }

    pub(crate) fn parquet(path: &Path) -> impl Fn(parquet::errors::ParquetError) -> Self + '_ {
        move |source| Self::Parquet { path: path.into(), source }
    }
}
