//! Topics made and removed in Kafka. Everything here blocks.

use std::{
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    admin::{
        AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
    },
    client::Client,
    error::{KafkaError, RDKafkaErrorCode},
    metadata::Metadata,
};
use thalweg_event::schema::topic;
use thalweg_log::{LogError, Result, RetentionConfig, TopicConfig, TopicPartition};
use tokio::runtime::Handle;

use crate::{
    client::{ASK_TIMEOUT, PROBE_TIMEOUT, Reports, client_config, unavailable, wrong_settings},
    config::KafkaConfig,
};

/// Pause between looks for brokers, or for leaders of new partitions.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// A topic's setting of how large a batch of messages may be.
const BATCH_LIMIT: &str = "max.message.bytes";
/// Milliseconds of a second.
const MILLIS: u64 = 1000;

/// Changes topics.
pub(crate) struct Admin {
    client: AdminClient<Reports>,
    replication: i32,
    runtime: Handle,
}

impl Admin {
    /// # Errors
    /// [`LogError::Config`].
    pub(crate) fn new(config: &KafkaConfig, runtime: Handle) -> Result<Self> {
        let client = client_config(config, &[]).map_err(|error| wrong_settings(&error))?;
        let client =
            rdkafka::config::FromClientConfigAndContext::from_config_and_context(&client, Reports);
        let client = client.map_err(|error: KafkaError| wrong_settings(&error))?;
        Ok(Self { client, replication: config.replication.into(), runtime })
    }

    fn ask(&self) -> &Client<Reports> {
        self.client.inner()
    }

    /// Waits until a broker answers, for `patience` at most.
    ///
    /// # Errors
    /// [`LogError::Config`] that says what to look at.
    pub(crate) fn await_brokers(&self, brokers: &str, patience: Duration) -> Result<()> {
        let began = Instant::now();
        loop {
            match self.ask().fetch_metadata(None, LOOK_AGAIN * 4) {
                Ok(_) => return Ok(()),
                Err(error) if began.elapsed() >= patience => {
                    return Err(LogError::Config(format!(
                        "log.kafka.brokers: no answer from {brokers} within {patience:?} \
                         ({error}); start Kafka, or correct the addresses, `tls` and `sasl`"
                    )));
                }
                Err(error) => tracing::info!(%error, "waiting for Kafka at {brokers}"),
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Makes sure that there is a topic with the partitions of `topic`; answers how many it has.
    ///
    /// # Errors
    /// [`LogError::Config`] with the broker's reason, [`LogError::Unavailable`] without one.
    pub(crate) fn ensure(&self, topic: &TopicConfig, retention: &RetentionConfig) -> Result<u32> {
        let wanted = topic.partitions;
        // Whoever may not make topics may use those that are there.
        if let Some(found) = self.led(&topic.name).filter(|found| *found >= wanted) {
            return Ok(found);
        }
        let partitions = i32::try_from(wanted).unwrap_or(i32::MAX);
        let age_millis = retention.age_secs.saturating_mul(MILLIS).min(i64::MAX as u64).to_string();
        // Kafka waits for no reader: only what no reader may be waited for is removed.
        let bytes = retention.partition_hard_limit_bytes;
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX).to_string();
        // What is acknowledged is on two machines, if there are so many that one may be away.
        let in_sync = if self.replication >= 3 { "2" } else { "1" };
        let new = NewTopic::new(&topic.name, partitions, TopicReplication::Fixed(self.replication))
            .set("retention.ms", &age_millis)
            .set("retention.bytes", &bytes)
            .set("min.insync.replicas", in_sync);
        let options = AdminOptions::new().operation_timeout(Some(ASK_TIMEOUT));
        let refused = |reason: String| {
            LogError::Config(format!("topic `{}` cannot be made in Kafka: {reason}", topic.name))
        };
        let unanswered =
            |error: KafkaError| unavailable(&TopicPartition::new(topic.name.as_str(), 0), &error);
        let made = self.runtime.block_on(self.client.create_topics([&new], &options));
        match made.map_err(unanswered)?.pop() {
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) | Some(Ok(_)) | None => {}
            Some(Err((_, code))) => return Err(refused(code.to_string())),
        }
        let found = self.await_leaders(&topic.name, 1)?;
        if found >= wanted {
            return Ok(found);
        }
        let more = NewPartitions::new(&topic.name, wanted as usize);
        let raised = self.runtime.block_on(self.client.create_partitions([&more], &options));
        if let Some(Err((_, code))) = raised.map_err(unanswered)?.pop() {
            return Err(refused(code.to_string()));
        }
        self.await_leaders(&topic.name, wanted)
    }

    /// The smallest of the topics' limits of what is sent at once; `None` when brokers do not tell.
    pub(crate) fn batch_limit(&self, topics: &[String]) -> Option<usize> {
        let topics = topics.iter().map(|topic| ResourceSpecifier::Topic(topic));
        let topics: Vec<ResourceSpecifier<'_>> = topics.collect();
        let options = AdminOptions::new().request_timeout(Some(ASK_TIMEOUT));
        let asked = self.client.describe_configs(&topics, &options);
        let limits = match self.runtime.block_on(asked) {
            Ok(limits) => limits,
            Err(error) => {
                tracing::info!(%error, "brokers do not tell how large messages may be");
                return None;
            }
        };
        let limits = limits.into_iter().filter_map(|topic| {
            topic.ok()?.get(BATCH_LIMIT)?.value.as_ref()?.parse::<usize>().ok()
        });
        limits.min()
    }

    /// Expects that a broker answers, soon. Orders that nobody takes time out after a minute, and
    /// librdkafka may then fail an assertion when it is closed (`rd_kafka_enq_once_del_source_return`).
    fn expect_answer(&self) -> Result<(), String> {
        let asked = self.ask().fetch_metadata(Some(topic::REJECTED), PROBE_TIMEOUT);
        asked.map(drop).map_err(|error| format!("no broker answers: {error}"))
    }

    /// Number of partitions of `topic`, if all have a leader.
    fn led(&self, topic: &str) -> Option<u32> {
        let metadata = self.ask().fetch_metadata(Some(topic), ASK_TIMEOUT).ok()?;
        led_partitions(&metadata, topic)
    }

    /// Waits until all partitions of `topic`, at least so many, have a leader; answers how many
    /// they are.
    fn await_leaders(&self, topic: &str, at_least: u32) -> Result<u32> {
        let began = Instant::now();
        loop {
            if let Some(partitions) = self.led(topic).filter(|found| *found >= at_least) {
                return Ok(partitions);
            }
            if began.elapsed() >= ASK_TIMEOUT {
                let reason = "it has no leader in Kafka; are all its brokers running?";
                return Err(unavailable(&TopicPartition::new(topic, 0), &reason));
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// # Errors
    /// [`LogError::UnknownTopic`]; [`LogError::Config`] with the broker's reason.
    pub(crate) fn remove(&self, topic: &str) -> Result<()> {
        let options = AdminOptions::new().operation_timeout(Some(ASK_TIMEOUT));
        let failed = |reason: String| {
            LogError::Config(format!("topic `{topic}` cannot be removed from Kafka: {reason}"))
        };
        self.expect_answer().map_err(failed)?;
        let removed = self.runtime.block_on(self.client.delete_topics(&[topic], &options));
        match removed.map_err(|error| failed(error.to_string()))?.pop() {
            Some(Err((_, RDKafkaErrorCode::UnknownTopicOrPartition))) => {
                Err(LogError::UnknownTopic(topic.to_owned()))
            }
            Some(Err((_, code))) => Err(failed(code.to_string())),
            // One that is made anew at once must not be taken for the one that was.
            Some(Ok(_)) | None => {
                let began = Instant::now();
                while self.led(topic).is_some() && began.elapsed() < ASK_TIMEOUT {
                    thread::sleep(LOOK_AGAIN);
                }
                Ok(())
            }
        }
    }

    /// # Errors
    /// [`LogError::Config`] with the broker's reason.
    pub(crate) fn forget_group(&self, group: &str) -> Result<()> {
        let options = AdminOptions::new().operation_timeout(Some(ASK_TIMEOUT));
        let failed = |reason: String| {
            LogError::Config(format!("group `{group}` cannot be removed from Kafka: {reason}"))
        };
        self.expect_answer().map_err(failed)?;
        let removed = self.runtime.block_on(self.client.delete_groups(&[group], &options));
        match removed.map_err(|error| failed(error.to_string()))?.pop() {
            Some(Err((_, RDKafkaErrorCode::GroupIdNotFound))) | Some(Ok(_)) | None => Ok(()),
            Some(Err((_, code))) => Err(failed(code.to_string())),
        }
    }
}

/// Number of partitions of `topic`, if all have a leader.
fn led_partitions(metadata: &Metadata, topic: &str) -> Option<u32> {
    let topic = metadata.topics().iter().find(|found| found.name() == topic)?;
    let partitions = topic.partitions();
    let is_led = topic.error().is_none()
        && !partitions.is_empty()
        && partitions.iter().all(|partition| partition.leader() >= 0);
    is_led.then_some(u32::try_from(partitions.len()).ok()?)
}
