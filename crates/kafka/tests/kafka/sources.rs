//! Topics that others write.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    producer::{FutureProducer, FutureRecord},
};
use serde_json::json;
use thalweg_event::schema::topic;
use thalweg_kafka::{KafkaSource, Source, SourceLog};
use thalweg_kafka_broker::Cluster;
use thalweg_log::{EmbeddedLog, Log, LogConfig, TopicConfig, TopicPartition};

use crate::{
    node::eventually,
    security::{acl, plain_cluster},
};

const TOPIC: &str = "payments";

/// Settings of a client that may do everything.
fn admin(cluster: &Cluster) -> ClientConfig {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", cluster.addresses().join(","))
        .set("security.protocol", "sasl_plaintext")
        .set("sasl.mechanism", "PLAIN")
        .set("sasl.username", "admin")
        .set("sasl.password", "admin-secret");
    client
}

async fn write(producer: &FutureProducer, payload: &str) {
    let record = FutureRecord::to(TOPIC).key("k").payload(payload);
    producer.send(record, Duration::from_secs(10)).await.unwrap();
}

/// Waits until the topic has `count` rows from its beginning on.
async fn await_rows(log: &SourceLog, count: usize) {
    eventually("rows are read", async || {
        let entries = log.read(TopicPartition::new(TOPIC, 0), 0, 1 << 20).await.unwrap();
        entries.iter().map(|entry| entry.batch.num_rows()).sum::<usize>() == count
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_needs_no_more_than_to_read_its_topic() {
    let (cluster, directory) = (plain_cluster(), tempfile::tempdir().unwrap());
    let client: AdminClient<DefaultClientContext> = admin(&cluster).create().unwrap();
    let new = NewTopic::new(TOPIC, 1, TopicReplication::Fixed(1));
    client.create_topics([&new], &AdminOptions::new()).await.unwrap()[0].as_ref().unwrap();
    let producer: FutureProducer = admin(&cluster).create().unwrap();
    write(&producer, "{}").await;

    let password_file = directory.path().join("password");
    std::fs::write(&password_file, "s3cret").unwrap();
    let settings = json!({
        "brokers": cluster.addresses(), "topic": TOPIC, "format": "json",
        "sasl": {"mechanism": "PLAIN", "username": "thalweg", "password_file": password_file},
    });
    let kafka: KafkaSource = serde_json::from_value(settings).unwrap();
    let source = Source::new("p", &kafka, None).unwrap();
    let topics = vec![TopicConfig::new(topic::REJECTED, 1)];
    let log_dir = directory.path().join("log");
    let config = LogConfig { directory: log_dir, topics, ..LogConfig::default() };
    let rejected: Arc<dyn Log> = Arc::new(EmbeddedLog::open(config).unwrap().0);
    let open = |known| SourceLog::open(&source, known, &BTreeMap::new(), rejected.clone()).unwrap();
    let log = open(None);
    let look = |log: Arc<SourceLog>| tokio::task::spawn_blocking(move || log.look());

    let refused = look(log.clone()).await.unwrap().unwrap_err();
    assert!(refused.contains("no such topic that this user may describe"), "{refused}");
    let may_read = ["--allow-principal", "User:thalweg", "--operation", "Read", "--topic", TOPIC];
    acl(&cluster, directory.path(), &may_read);
    let mut known = None;
    eventually("what it may is known to brokers", async || {
        known = look(log.clone()).await.unwrap().ok().flatten();
        known.is_some()
    })
    .await;
    let known = known.unwrap();
    assert_eq!(known.begins, [0]);
    let log = open(Some(known));
    assert_eq!(look(log.clone()).await.unwrap(), Ok(None));
    await_rows(&log, 1).await;

    // It may not say how far it has come, which it tries every five seconds.
    tokio::time::sleep(Duration::from_secs(7)).await;
    write(&producer, "damaged").await;
    write(&producer, "{}").await;
    await_rows(&log, 2).await;
    let damaged = rejected.offsets(TopicPartition::new(topic::REJECTED, 0)).unwrap();
    assert_eq!(damaged.end, 1, "what is rejected is stored before rows behind it are seen");
    log.close();
}
