//! The ingest on a real log.

use std::{path::Path, sync::Arc};

use thalweg_log::{EmbeddedLog, Log, LogConfig, TopicConfig, TopicPartition};

use crate::{
    memory_log::{TOPICS, texts},
    server::{Server, event, nameless},
};

fn open(directory: &Path) -> Arc<EmbeddedLog> {
    let topic = |name: &str| TopicConfig { name: name.to_owned(), partitions: 1, retention: None };
    let topics = TOPICS.map(topic).into();
    let config = LogConfig { directory: directory.to_owned(), topics, ..LogConfig::default() };
    Arc::new(EmbeddedLog::open(config).unwrap().0)
}

async fn stored(log: &EmbeddedLog, topic: &str, column: &str) -> Vec<String> {
    let at = TopicPartition::new(topic, 0);
    let (mut from, mut found) = (0, Vec::new());
    loop {
        let entries = log.read(at.clone(), from, 1 << 20).await.unwrap();
        let Some(last) = entries.last() else { return found };
        from = last.next_offset;
        found.extend(entries.iter().flat_map(|entry| texts(&entry.batch, column)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_is_in_the_log_after_it_is_opened_again_and_is_not_stored_twice() {
    let directory = tempfile::tempdir().unwrap();
    let body = event("a", "INFO") + &event("b", "ERROR") + "bad\n" + &nameless("c");
    for restart in 0..3 {
        let log = open(directory.path());
        // On a runtime of its own, so that nothing keeps the log open.
        let (served, body) = (log.clone(), body.clone());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let posted = runtime.spawn(async move { Server::start(served).await.ndjson(body).await });
        posted.await.unwrap().assert_accepted(3);
        runtime.shutdown_background();

        assert_eq!(stored(&log, "logs.critical", "event_id").await, ["b"]);
        let mut routine = stored(&log, "logs.routine", "message").await;
        routine.sort();
        let mut expected = vec!["c"; restart + 1];
        expected.push("m-a");
        assert_eq!(routine, expected);
        assert_eq!(stored(&log, "rejected", "format").await, vec!["ndjson"; restart + 1]);
        log.close();
        drop(log);
        // The server's tasks hold the log until they have been dropped.
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}
