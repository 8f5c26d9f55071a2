//! What a reader sees.

use futures::StreamExt as _;
use thalweg_kafka_broker::{Cluster, Options};
use thalweg_log::{Log as _, LogConfig, LogError, TopicConfig, Topics as _};

use crate::node::{
    ENCODINGS, all_ids, close, config, event_ids, events, eventually, open, routine, topics,
};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_appended_is_read_and_tailed_and_still_there_after_a_restart() {
    let cluster = Cluster::start(Options::default()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut expected = vec![];
    for (round, encoding) in ENCODINGS.into_iter().enumerate() {
        let log = open(config(&cluster, directory.path(), encoding)).await;
        let mut tail = log.tail(routine(1), 0);
        for number in 0..5 {
            let ids: Vec<String> = (0..300).map(|row| format!("{round}-{number}-{row}")).collect();
            let batch = events("a", ids.iter().map(|id| (id.as_str(), "m")));
            let appended = log.append(routine(1), batch).await.unwrap();
            let end = log.offsets(routine(1)).unwrap().end;
            assert_eq!(appended.next_offset, end, "the end is behind what was acknowledged");
            expected.extend(ids);
        }
        assert_eq!(all_ids(&log, &routine(1)).await, expected);
        assert!(all_ids(&log, &routine(0)).await.is_empty());
        let mut tailed = vec![];
        while tailed.len() < expected.len() {
            tailed.extend(event_ids(&tail.next().await.unwrap().unwrap().batch));
        }
        assert_eq!(tailed, expected);
        close(log).await;
        assert!(tail.next().await.is_none(), "a closed log ends its tails");
    }
    let log = open(config(&cluster, directory.path(), ENCODINGS[0])).await;
    assert_eq!(all_ids(&log, &routine(1)).await, expected);
    close(log).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_found_by_time_and_told_to_kafka_by_group() {
    let cluster = Cluster::start(Options::default()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let log = open(config(&cluster, directory.path(), ENCODINGS[1])).await;
    log.append(routine(0), events("a", [("1", "m"), ("2", "m")].into_iter())).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now = i64::try_from(now.as_millis()).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    log.append(routine(0), events("a", [("3", "m")].into_iter())).await.unwrap();
    assert_eq!(log.offset_at(routine(0), now).await.unwrap(), 2);
    assert_eq!(log.offset_at(routine(0), 0).await.unwrap(), 0);
    assert_eq!(log.offset_at(routine(0), now + 60_000).await.unwrap(), 3);

    log.commit("lake/logs", routine(0), 2).await.unwrap();
    assert_eq!(log.committed("lake/logs", routine(0)).unwrap(), Some(2));
    assert_eq!(log.groups(), ["lake/logs"]);
    let beyond = log.commit("lake/logs", routine(0), 4).await.unwrap_err();
    assert!(matches!(beyond, LogError::OffsetOutOfRange { .. }), "{beyond}");
    close(log).await;
    let groups = cluster
        .java()
        .command(128, "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand")
        .args(["--bootstrap-server", &cluster.addresses()[0], "--describe", "--group", "lake/logs"])
        .output()
        .unwrap();
    let groups = String::from_utf8_lossy(&groups.stdout).into_owned();
    let line = groups.lines().find(|line| line.contains("logs.routine")).unwrap_or_default();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[..6], ["lake/logs", "logs.routine", "0", "2", "3", "1"], "{groups}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_comes_and_goes_while_the_log_is_open() {
    let cluster = Cluster::start(Options::default()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let log = open(config(&cluster, directory.path(), ENCODINGS[1])).await;
    let change = |change: fn(&dyn thalweg_log::Topics) -> thalweg_log::Result<()>| {
        let log = log.clone();
        async move { tokio::task::spawn_blocking(move || change(&*log)).await.unwrap() }
    };
    let at = thalweg_log::TopicPartition::new("view.a", 0);
    let batch = events("a", [("1", "m")].into_iter());
    let unknown = log.append(at.clone(), batch.clone()).await.unwrap_err();
    assert!(matches!(unknown, LogError::UnknownTopic(_)), "{unknown}");
    for _ in 0..2 {
        change(|log| {
            let schema = thalweg_event::schema::log_schema();
            log.create_topic(&TopicConfig::new("view.a", 1), schema)
        })
        .await
        .unwrap();
        log.append(at.clone(), batch.clone()).await.unwrap();
        assert_eq!(all_ids(&log, &at).await, ["1"]);
        change(|log| log.remove_topic("view.a")).await.unwrap();
        assert!(log.offsets(at.clone()).is_err());
        let gone = async || change(|log| log.remove_topic("view.a")).await.is_err();
        eventually("the topic is gone from Kafka", gone).await;
    }
    close(log).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_has_removed_is_out_of_range_and_says_what_there_is() {
    let cluster = Cluster::start(Options::default()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let log = open(config(&cluster, directory.path(), ENCODINGS[1])).await;
    for id in ["1", "2", "3"] {
        log.append(routine(0), events("a", [(id, "m")].into_iter())).await.unwrap();
    }
    close(log).await;
    let removed = directory.path().join("removed.json");
    let json = r#"{"version":1,"partitions":[{"topic":"logs.routine","partition":0,"offset":2}]}"#;
    std::fs::write(&removed, json).unwrap();
    let status = cluster
        .java()
        .command(128, "org.apache.kafka.tools.DeleteRecordsCommand")
        .args(["--bootstrap-server", &cluster.addresses()[0], "--offset-json-file"])
        .arg(&removed)
        .status()
        .unwrap();
    assert!(status.success());
    let config = config(&cluster, &directory.path().join("spool"), ENCODINGS[1]);
    let log = thalweg_kafka::KafkaLog::open(config, LogConfig::default(), topics()).await.unwrap();
    assert_eq!(log.offsets(routine(0)).unwrap().start, 2);
    match log.read(routine(0), 1, 1 << 20).await.unwrap_err() {
        LogError::OffsetOutOfRange { offset, start, end, .. } => {
            assert_eq!((offset, start, end), (1, 2, 3));
        }
        other => panic!("{other}"),
    }
    assert_eq!(all_ids(&log, &routine(0)).await, ["3"]);
    close(log).await;
}
