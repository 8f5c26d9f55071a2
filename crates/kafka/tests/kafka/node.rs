//! A process with a log in Kafka, and events for it.

use std::{path::Path, sync::Arc, time::Duration};

use arrow::array::{AsArray as _, RecordBatch};
use thalweg_event::{
    BatchContext, EventBatchBuilder, PriorityRules,
    schema::{log_schema, rejected_schema, topic},
};
use thalweg_kafka::{Broker, Encoding, KafkaConfig, KafkaLog, Topic};
use thalweg_kafka_broker::Cluster;
use thalweg_log::{Log as _, LogConfig, TopicConfig, TopicPartition, Topics as _};

/// Both encodings of events.
pub(crate) const ENCODINGS: [Encoding; 2] = [Encoding::OtlpProto, Encoding::Json];

/// Settings for a log of `cluster`, with its spool in `directory`.
pub(crate) fn config(cluster: &Cluster, directory: &Path, encoding: Encoding) -> KafkaConfig {
    let brokers = cluster.addresses().into_iter().map(|a| Broker::try_from(a).unwrap());
    let brokers: Vec<Broker> = brokers.collect();
    let replication = u16::try_from(brokers.len()).unwrap().min(3);
    let mut config = KafkaConfig { encoding, replication, ..KafkaConfig::new(brokers) };
    config.spool.directory = directory.to_owned();
    config
}

/// The topics of these tests: events in two partitions, and rejected records.
pub(crate) fn topics() -> Vec<Topic> {
    let topic = |name: &str, partitions, schema| Topic {
        config: TopicConfig::new(name, partitions),
        schema,
        may_spool: true,
        stays_when_cut_off: false,
    };
    vec![topic(topic::LOGS_ROUTINE, 2, log_schema()), topic(topic::REJECTED, 1, rejected_schema())]
}

/// Opens the log; what it reports is printed when a test fails.
pub(crate) async fn open(config: KafkaConfig) -> Arc<KafkaLog> {
    let _ = tracing_subscriber::fmt().with_test_writer().with_ansi(false).try_init();
    KafkaLog::open(config, LogConfig::default(), topics()).await.unwrap()
}

/// Closes the log as a server does that is told to stop.
pub(crate) async fn close(log: Arc<KafkaLog>) {
    tokio::task::spawn_blocking(move || log.close()).await.unwrap();
}

pub(crate) fn routine(partition: u32) -> TopicPartition {
    TopicPartition::new(topic::LOGS_ROUTINE, partition)
}

/// Events with these ids and messages.
pub(crate) fn events<'e>(
    service: &str,
    events: impl Iterator<Item = (&'e str, &'e str)>,
) -> RecordBatch {
    let rules = PriorityRules::default();
    let mut builder =
        EventBatchBuilder::new(BatchContext::new(1_764_000_000_000_000_000, &rules, [7; 10]));
    for (id, message) in events {
        let mut row = builder.row();
        row.service(service);
        row.event_id(id);
        row.message(message);
        row.commit().unwrap();
    }
    builder.finish()
}

pub(crate) fn event_ids(batch: &RecordBatch) -> Vec<String> {
    batch["event_id"].as_string::<i32>().iter().map(|id| id.unwrap().to_owned()).collect()
}

/// Everything that a partition has, read to its end.
pub(crate) async fn all(log: &KafkaLog, at: &TopicPartition) -> Vec<RecordBatch> {
    let range = log.offsets(at.clone()).unwrap();
    let (mut from, mut batches) = (range.start, vec![]);
    while from < range.end {
        let entries = log.read(at.clone(), from, 1 << 20).await.unwrap();
        assert!(!entries.is_empty(), "{at} has nothing from {from} to {}", range.end);
        for entry in entries {
            batches.push(entry.after(from));
            from = entry.next_offset;
        }
    }
    batches
}

/// Ids of all events of a partition, in order.
pub(crate) async fn all_ids(log: &KafkaLog, at: &TopicPartition) -> Vec<String> {
    all(log, at).await.iter().flat_map(event_ids).collect()
}

/// Waits until `is_so`, for as long as a busy machine may take.
pub(crate) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("not within a minute: {what}");
}
