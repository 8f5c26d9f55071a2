//! The log of a node: on this machine's disk, or in Kafka.

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use schemars::JsonSchema;
use serde::Deserialize;
use thalweg_alert::ALERTS;
use thalweg_event::schema::topic;
use thalweg_ingest::{LOGS_PREFIX, LogRoutes};
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
    /// Events with topics of their own: the first rule that an event meets names its topic. Without
    /// one, critical events go to `logs.critical` and others to `logs.routine`.
    pub(crate) routes: LogRoutes,
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
            routes: LogRoutes::default(),
            segment_bytes,
            tail_cache_bytes,
            retention,
            retention_interval_secs,
            kafka: None,
        }
    }
}

/// The topics of events of a node: the built-in ones, those of `log.routes`, and those of rules that
/// were removed. In the latter there may be events that have yet to be read, and for as long as the
/// topics exist they are read as the others are.
pub(crate) struct LogTopics {
    /// All of them.
    pub(crate) names: Vec<String>,
    /// Those that no rule names any more, with the partitions that they have on disk.
    former: Vec<TopicConfig>,
}

impl LogTopics {
    /// Names of those that no rule names any more.
    pub(crate) fn former(&self) -> impl Iterator<Item = &str> {
        self.former.iter().map(|topic| topic.name.as_str())
    }
}

impl LogSettings {
    /// The topics of events of a node that keeps its data in `data_dir`: each has a directory there
    /// before it gets its first event, in the log or, with Kafka, in the spool; in that of any of the
    /// processes that share the directory.
    pub(crate) fn log_topics(&self, data_dir: &Path) -> anyhow::Result<LogTopics> {
        let built_in = [topic::LOGS_CRITICAL, topic::LOGS_ROUTINE];
        let routed = self.routes.topics().into_iter().filter(|name| !built_in.contains(name));
        let mut names: Vec<String> =
            built_in.into_iter().chain(routed).map(str::to_owned).collect();
        let mut former = BTreeMap::new();
        for directory in self.directories(data_dir)? {
            for name in directories(&directory)? {
                if name.starts_with(LOGS_PREFIX) && !names.contains(&name) {
                    let numbers = directories(&directory.join(&name))?;
                    let numbers = numbers.iter().filter_map(|number| number.parse::<u32>().ok());
                    let found = numbers.max().map_or(1, |last| last.saturating_add(1));
                    let partitions = former.entry(name).or_insert(1);
                    *partitions = found.max(*partitions);
                }
            }
        }
        names.extend(former.keys().cloned());
        let former =
            former.into_iter().map(|(name, count)| TopicConfig::new(name, count)).collect();
        Ok(LogTopics { names, former })
    }

    /// Where there are rows that this process, or one that shares the data directory, acknowledged.
    fn directories(&self, data_dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
        if !self.kafka.as_ref().is_some_and(|kafka| kafka.shared) {
            return Ok(vec![self.directory(data_dir)?]);
        }
        let spools = data_dir.join("spool");
        Ok(directories(&spools)?.into_iter().map(|node| spools.join(node)).collect())
    }

    /// Where rows are that are acknowledged, as far as they are on this machine.
    fn directory(&self, data_dir: &Path) -> anyhow::Result<PathBuf> {
        match &self.kafka {
            Some(kafka) => spool_directory(kafka, data_dir),
            None => Ok(data_dir.join("log")),
        }
    }

    /// Opens the log of a node that keeps its data in `data_dir`.
    pub(crate) async fn open(
        &self,
        data_dir: &Path,
        log_topics: &LogTopics,
    ) -> anyhow::Result<Arc<dyn Topics>> {
        for topic in log_topics.former() {
            tracing::info!(topic, "no rule of log.routes names the topic; it is still read");
        }
        let declared = self.declared(log_topics);
        let directory = self.directory(data_dir)?;
        let log_config = LogConfig {
            directory: directory.clone(),
            topics: declared.iter().map(|topic| topic.config.clone()).collect(),
            segment_bytes: self.segment_bytes,
            tail_cache_bytes: self.tail_cache_bytes,
            retention: self.retention.clone(),
            retention_interval_secs: self.retention_interval_secs,
        };
        log_config.validate()?;
        if let Some(kafka) = &self.kafka {
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
    fn declared(&self, log_topics: &LogTopics) -> Vec<Topic> {
        let topic = |name: String, schema| {
            let mut known = self.topics.iter().chain(&log_topics.former);
            let configured = known.find(|topic| topic.name == name).cloned();
            let config = configured.unwrap_or_else(|| TopicConfig::new(name.as_str(), 1));
            // Views look there for what they have told before a crash.
            let (may_spool, stays_when_cut_off) = (name != LATE_EVENTS, name == ALERTS);
            Topic { config, schema, may_spool, stays_when_cut_off }
        };
        let mut declared = vec![];
        for table in tables::all(log_topics.names.clone()) {
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

/// Names of the directories in a directory, which may be missing.
fn directories(path: &Path) -> anyhow::Result<Vec<String>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(error).with_context(|| path.display().to_string()),
    };
    let mut names = vec![];
    for entry in entries {
        let entry = entry.with_context(|| path.display().to_string())?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            names.extend(entry.file_name().into_string());
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_of_rules_that_were_removed_are_found_again_with_all_their_partitions() {
        let data = tempfile::tempdir().unwrap();
        for partition in ["logs.payment/0", "logs.payment/11", "logs.routine/0", "audit/0"] {
            fs::create_dir_all(data.path().join("log").join(partition)).unwrap();
        }
        let routes = r#"[{"services": ["cart"], "topic": "logs.cart"}]"#;
        let routes = serde_json::from_str(routes).unwrap();
        let settings = LogSettings { routes, ..LogSettings::default() };
        let found = settings.log_topics(data.path()).unwrap();
        let names = ["logs.critical", "logs.routine", "logs.cart", "logs.payment"];
        assert_eq!(found.names, names);
        assert_eq!(found.former, [TopicConfig::new("logs.payment", 12)]);
        let nothing = settings.log_topics(&data.path().join("missing")).unwrap();
        assert_eq!(nothing.names, names[..3]);
    }

    #[test]
    fn processes_that_share_a_data_directory_know_the_topics_of_all() {
        let data = tempfile::tempdir().unwrap();
        for partition in ["a/logs.payment/0", "b/logs.payment/3", "b/logs.cart/0"] {
            fs::create_dir_all(data.path().join("spool").join(partition)).unwrap();
        }
        let kafka = r#"{"brokers": ["a:1"], "shared": true, "node": "c"}"#;
        let kafka = Some(serde_json::from_str(kafka).unwrap());
        let settings = LogSettings { kafka, ..LogSettings::default() };
        let found = settings.log_topics(data.path()).unwrap();
        assert_eq!(
            found.former,
            [TopicConfig::new("logs.cart", 1), TopicConfig::new("logs.payment", 4)]
        );
    }
}
