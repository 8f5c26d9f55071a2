//! The log of a node: on this machine's disk, or in Kafka.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use schemars::JsonSchema;
use serde::Deserialize;
use thalweg_kafka::{KafkaConfig, KafkaLog, NodeName, SpoolConfig, Topic};
use thalweg_log::{EmbeddedLog, LogConfig, RetentionConfig, TopicConfig, Topics};
use thalweg_stream::LATE_EVENTS;

use crate::tables;

/// Where events are kept until they are in tables, and how much of them.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogSettings {
    /// What is said of topics one by one; topics that are not named have one partition.
    pub(crate) topics: Vec<TopicConfig>,
    /// A segment file that has reached this size is closed and a new one begun. Retention removes
    /// whole segments, and a start after a crash reads up to this much of every partition.
    pub(crate) segment_bytes: u64,
    /// Memory for the latest entries of all partitions together.
    pub(crate) tail_cache_bytes: usize,
    /// How much is kept, for topics that do not say it themselves. With Kafka, age and size count,
    /// for topics that thalweg makes.
    pub(crate) retention: RetentionConfig,
    /// How often retention looks for segments to remove.
    pub(crate) retention_interval_secs: u64,
    /// Kafka in place of this machine's disk.
    pub(crate) kafka: Option<KafkaConfig>,
}

impl Default for LogSettings {
    fn default() -> Self {
        let LogConfig {
            directory: _,
            topics,
            segment_bytes,
            tail_cache_bytes,
            retention,
            retention_interval_secs,
        } = LogConfig::default();
        Self {
            topics,
            segment_bytes,
            tail_cache_bytes,
            retention,
            retention_interval_secs,
            kafka: None,
        }
    }
}

impl LogSettings {
    /// Opens the log of a node that keeps its data in `data_dir`.
    pub(crate) async fn open(&self, data_dir: &Path) -> anyhow::Result<Arc<dyn Topics>> {
        let declared = self.declared();
        let log_config = LogConfig {
            directory: data_dir.join("log"),
            topics: declared.iter().map(|topic| topic.config.clone()).collect(),
            segment_bytes: self.segment_bytes,
            tail_cache_bytes: self.tail_cache_bytes,
            retention: self.retention.clone(),
            retention_interval_secs: self.retention_interval_secs,
        };
        log_config.validate()?;
        if let Some(kafka) = &self.kafka {
            let directory = spool_directory(kafka, data_dir)?;
            let spool = SpoolConfig { directory, ..kafka.spool.clone() };
            let kafka = KafkaConfig { spool, ..kafka.clone() };
            return Ok(KafkaLog::open(kafka, log_config, declared).await?);
        }
        let opened = tokio::task::spawn_blocking(|| EmbeddedLog::open(log_config)).await;
        let (log, recovery) = opened??;
        tracing::info!(?recovery, "log opened");
        Ok(Arc::new(log))
    }

    /// The topics of a node, with what the operator says of them.
    fn declared(&self) -> Vec<Topic> {
        let topic = |name: String, schema| {
            let configured = self.topics.iter().find(|topic| topic.name == name).cloned();
            let config = configured.unwrap_or_else(|| TopicConfig::new(name.as_str(), 1));
            // Views look there for what they have told before a crash.
            Topic { config, schema, may_spool: name != LATE_EVENTS }
        };
        let mut declared = vec![];
        for table in tables::all() {
            let schema = table.schema.clone();
            declared.extend(table.topics.into_iter().map(|name| topic(name, schema.clone())));
        }
        declared
    }
}

/// Where the spool is: each of the processes that share a data directory has its own.
fn spool_directory(kafka: &KafkaConfig, data_dir: &Path) -> anyhow::Result<PathBuf> {
    let directory = data_dir.join("spool");
    if !kafka.shared {
        return Ok(directory);
    }
    let node = kafka.node.clone().or_else(NodeName::of_host);
    let node = node.context(
        "log.kafka.node: this host has no name that could be a directory's; \
         say how this process is called among those that share the partitions",
    )?;
    Ok(directory.join(node.as_str()))
}
