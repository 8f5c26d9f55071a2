//! How the lake writes, compacts and forgets.

use schemars::JsonSchema;
use serde::Deserialize;

/// Settings of the lake's tables; the defaults suit one machine with a few cores.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LakeConfig {
    /// Rows wait at most this long before they are committed. Queries see them before that, from
    /// the log; only readers of the Delta files themselves wait.
    pub flush_interval_ms: u64,
    /// Rows that make the writer commit at once.
    pub flush_rows: usize,
    /// Bytes of buffered rows that make the writer commit at once: bounds the writer's memory.
    pub flush_bytes: usize,
    /// Rows of a Parquet row group, the unit of pruning and of the readers' memory.
    pub row_group_rows: usize,
    /// zstd level of new files, 1 to 22.
    pub zstd_level: i32,
    /// Bytes of uncommitted rows a query holds in memory; what goes beyond is streamed.
    pub tail_bytes: usize,
    /// Compaction stops merging files that have reached this size.
    pub target_file_bytes: u64,
    /// Files of similar size that make a merge worthwhile; the number of files per day stays near
    /// this times the logarithm, to this base, of the day's bytes.
    pub compaction_min_files: usize,
    /// How often compaction, retention and vacuum look for work.
    pub maintenance_interval_secs: u64,
    /// Days of events to keep; 0 keeps them for ever.
    pub retention_days: u32,
    /// Files that left the table are deleted after this time, which readers of an older version
    /// of the table have to finish; at least five minutes. Queries of this process are safe
    /// however long they take.
    pub vacuum_age_secs: u64,
    /// Delta commits between checkpoints of the Delta log.
    pub checkpoint_commits: u64,
    /// Hours that older versions of the table can be travelled back to.
    pub delta_log_hours: u32,
}

impl Default for LakeConfig {
    fn default() -> Self {
        Self {
            flush_interval_ms: 5_000,
            flush_rows: 128 * 1024,
            flush_bytes: 64 << 20,
            row_group_rows: 128 * 1024,
            zstd_level: 1,
            tail_bytes: 64 << 20,
            target_file_bytes: 128 << 20,
            compaction_min_files: 8,
            maintenance_interval_secs: 30,
            retention_days: 30,
            vacuum_age_secs: 3_600,
            checkpoint_commits: 100,
            delta_log_hours: 24,
        }
    }
}
