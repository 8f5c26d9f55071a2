//! What brokers refuse, and what no row can be made of.

use std::time::Duration;

use arrow::array::{AsArray as _, RecordBatch};
use rdkafka::{
    ClientConfig,
    producer::{FutureProducer, FutureRecord},
};
use thalweg_event::schema::topic;
use thalweg_kafka::KafkaLog;
use thalweg_kafka_broker::{Cluster, Options};
use thalweg_log::{Log as _, LogError, TopicPartition};

use crate::node::{
    ENCODINGS, all, all_ids, close, config, event_ids, events, eventually, open, routine,
};

async fn rejected(log: &KafkaLog) -> Vec<(String, String)> {
    let text = |batch: &RecordBatch, row: usize| {
        let original = batch["original"].as_binary::<i32>().value(row);
        let original = String::from_utf8_lossy(original).into_owned();
        (batch["reason"].as_string::<i32>().value(row).to_owned(), original)
    };
    let batches = all(log, &TopicPartition::new(topic::REJECTED, 0)).await;
    batches
        .iter()
        .flat_map(|batch| (0..batch.num_rows()).map(|row| text(batch, row)).collect::<Vec<_>>())
        .collect()
}

fn set_topic_limit(cluster: &Cluster, bytes: usize) {
    let status = cluster
        .java()
        .command(128, "kafka.admin.ConfigCommand")
        .args(["--bootstrap-server", &cluster.addresses()[0], "--alter"])
        .args(["--entity-type", "topics", "--entity-name", "logs.routine"])
        .args(["--add-config", &format!("max.message.bytes={bytes}")])
        .status()
        .unwrap();
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_the_broker_finds_too_large_is_refused_with_its_reason() {
    let cluster = Cluster::start(Options::default()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let log = open(config(&cluster, directory.path(), ENCODINGS[1])).await;
    set_topic_limit(&cluster, 10_000);
    // Random, so that compression does not make it fit.
    let large: String = std::iter::repeat_with(fastrand::alphanumeric).take(50_000).collect();
    let error = log
        .append(routine(0), events("a", [("large", large.as_str())].into_iter()))
        .await
        .unwrap_err();
    assert!(matches!(error, LogError::Rejected { .. }), "{error}");
    assert!(error.to_string().to_lowercase().contains("too large"), "{error}");
    log.append(routine(0), events("a", [("small", "m")].into_iter())).await.unwrap();
    assert_eq!(all_ids(&log, &routine(0)).await, ["small"]);
    close(log).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_spooled_and_is_refused_then_goes_to_the_rejected_records() {
    let mut cluster = Cluster::start(Options::default()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let settings = || config(&cluster, directory.path(), ENCODINGS[1]);
    close(open(settings()).await).await;
    set_topic_limit(&cluster, 10_000);
    let log = open(settings()).await;
    cluster.kill_all();
    let large: String = std::iter::repeat_with(fastrand::alphanumeric).take(50_000).collect();
    for (id, message) in [("1", "m"), ("large", large.as_str()), ("2", "m")] {
        log.append(routine(0), events("a", [(id, message)].into_iter())).await.unwrap();
    }
    cluster.start_all().unwrap();
    eventually("what can be stored is", async || all_ids(&log, &routine(0)).await.len() == 2).await;
    assert_eq!(all_ids(&log, &routine(0)).await, ["1", "2"]);
    eventually("the other is rejected", async || rejected(&log).await.len() == 1).await;
    let (reason, original) = rejected(&log).await.remove(0);
    assert!(reason.starts_with("logs.routine/0: the broker refuses it: "), "{reason}");
    assert!(original.contains(&large), "the whole event is kept");
    close(log).await;
}

async fn send_as_others(cluster: &Cluster, payload: &[u8]) {
    let brokers = cluster.addresses().join(",");
    let others: FutureProducer =
        ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
    let record: FutureRecord<'_, (), [u8]> =
        FutureRecord::to("logs.routine").partition(0).payload(payload);
    others.send(record, Duration::from_secs(10)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_messages_of_others_are_rejected_once_and_stop_nobody() {
    let cluster = Cluster::start(Options::default()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let log = open(config(&cluster, directory.path(), ENCODINGS[0])).await;
    log.append(routine(0), events("a", [("1", "m")].into_iter())).await.unwrap();
    send_as_others(&cluster, b"{\"service\":").await;
    send_as_others(&cluster, br#"{"service":"b","level":"INFO","message":"m","event_id":"2"}"#)
        .await;
    close(log).await;
    // What comes while nobody looks is found too.
    send_as_others(&cluster, b"\xff\xff\xff\xff").await;
    for _ in 0..2 {
        let log = open(config(&cluster, directory.path(), ENCODINGS[0])).await;
        let found = async || rejected(&log).await.len() >= 2;
        eventually("both damaged messages are rejected", found).await;
        let rejected = rejected(&log).await;
        assert_eq!(rejected.len(), 2, "{rejected:?}");
        assert!(rejected[1].0.starts_with("message 3 of logs.routine/0: "), "{rejected:?}");
        assert_eq!(rejected[0].1, "{\"service\":");
        let ids: Vec<String> = all(&log, &routine(0)).await.iter().flat_map(event_ids).collect();
        assert_eq!(ids, ["1", "2"]);
        close(log).await;
    }
}
