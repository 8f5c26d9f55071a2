//! Settings of the embedded log.

use std::{collections::BTreeSet, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{LogError, Result};

/// Most partitions of a topic: each has a thread and a tail cache.
const MAX_PARTITIONS: u32 = 1024;
/// Longest topic name; it names a directory.
const MAX_NAME_BYTES: usize = 200;
/// Smallest segment worth a file.
const MIN_SEGMENT_BYTES: u64 = 64 << 10;

/// Where the log is kept, what is in it, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Directory of the log; created if it is not there. Not a setting of a user: the program that
    /// opens the log says it.
    #[serde(skip)]
    pub directory: PathBuf,
    /// The topics to open. Others that are on disk are left as they are.
    pub topics: Vec<TopicConfig>,
    /// A segment file that has reached this size is closed and a new one begun. Retention removes
    /// whole segments, and a start after a crash reads up to this much of every partition.
    pub segment_bytes: u64,
    /// Memory for the latest entries of all partitions together: what a consumer group has still
    /// to read is kept here as long as it fits, and otherwise read from disk.
    pub tail_cache_bytes: usize,
    /// How much is kept, for topics that do not say it themselves.
    pub retention: RetentionConfig,
    /// How often retention looks for segments to remove.
    pub retention_interval_secs: u64,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopicConfig {
    /// Letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// Number of partitions; can be raised later, never lowered.
    #[serde(default = "one_partition")]
    pub partitions: u32,
    /// How much is kept, if not what the log's own `retention` says.
    #[serde(default)]
    pub retention: Option<RetentionConfig>,
}

/// How much of a partition is kept.
///
/// A segment is removed when its last entry is older than the age or the partition larger than
/// the size, every registered consumer group has read it, and it has rested for the grace time
/// since. Only the hard limit removes what a group has still to read, and says so.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionConfig {
    /// Entries are kept at least this long, size permitting.
    pub age_secs: u64,
    /// Bytes on disk per partition that are kept, age permitting.
    pub partition_bytes: u64,
    /// Bytes on disk per partition beyond which the oldest segments are removed even if a consumer
    /// group has not read them.
    pub partition_hard_limit_bytes: u64,
    /// Time a segment rests after the last group has read it, for queries that are reading it.
    pub grace_secs: u64,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            directory: "data/log".into(),
            topics: vec![],
            segment_bytes: 128 << 20,
            tail_cache_bytes: 256 << 20,
            retention: RetentionConfig::default(),
            retention_interval_secs: 10,
        }
    }
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self {
            age_secs: 24 * 3_600,
            partition_bytes: 4 << 30,
            partition_hard_limit_bytes: 32 << 30,
            grace_secs: 600,
        }
    }
}

impl TopicConfig {
    /// A topic with the log's own retention.
    pub fn new(name: impl Into<String>, partitions: u32) -> Self {
        Self { name: name.into(), partitions, retention: None }
    }
}

impl LogConfig {
    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// [`LogError::Config`] names the first contradiction.
    pub fn validate(&self) -> Result<()> {
        let mut names = BTreeSet::new();
        for topic in &self.topics {
            let name = &topic.name;
            if !is_file_name(name) {
                return Err(LogError::Config(format!(
                    "topic name `{name}` is not 1 to {MAX_NAME_BYTES} letters, digits, `.`, `_` \
                     or `-` that begin with a letter or digit"
                )));
            }
            if !names.insert(name) {
                return Err(LogError::Config(format!("topic `{name}` is declared twice")));
            }
            if !(1..=MAX_PARTITIONS).contains(&topic.partitions) {
                return Err(LogError::Config(format!(
                    "topic `{name}` has {} partitions, expected 1 to {MAX_PARTITIONS}",
                    topic.partitions
                )));
            }
            let retention = topic.retention.as_ref().unwrap_or(&self.retention);
            if retention.partition_hard_limit_bytes < retention.partition_bytes {
                return Err(LogError::Config(format!(
                    "topic `{name}` has a hard limit of {} bytes, below the {} bytes it should keep",
                    retention.partition_hard_limit_bytes, retention.partition_bytes
                )));
            }
        }
        if self.segment_bytes < MIN_SEGMENT_BYTES {
            return Err(LogError::Config(format!(
                "segment_bytes is {}, expected at least {MIN_SEGMENT_BYTES}",
                self.segment_bytes
            )));
        }
        if self.retention_interval_secs == 0 {
            return Err(LogError::Config(
                "retention_interval_secs is 0, expected 1 or more".into(),
            ));
        }
        Ok(())
    }
}

fn one_partition() -> u32 {
    1
}

fn is_file_name(name: &str) -> bool {
    name.len() <= MAX_NAME_BYTES
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}
