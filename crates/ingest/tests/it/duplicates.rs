//! Events that are sent again are stored once.

use std::sync::Arc;

use thalweg_ingest::{DuplicatesConfig, IngestConfig};

use crate::{
    memory_log::MemoryLog,
    server::{Server, event, nameless},
};

#[tokio::test]
async fn an_event_sent_again_is_accepted_and_stored_once() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    server.ndjson(event("a", "INFO") + &event("b", "ERROR")).await.assert_accepted(2);
    let again = event("b", "ERROR") + &event("c", "INFO") + &event("a", "INFO");
    server.ndjson(again.clone()).await.assert_accepted(3);
    assert_eq!(log.messages(), ["m-a", "m-b", "m-c"]);
    server.ndjson(again).await.assert_accepted(3);
    assert_eq!(log.asked().len(), 3, "nothing is left to append");
}

#[tokio::test]
async fn an_id_repeated_in_one_body_is_stored_once() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    let body = event("a", "INFO") + &nameless("x") + &event("a", "ERROR") + &event("b", "INFO");
    server.ndjson(body).await.assert_accepted(4);
    assert_eq!(log.messages(), ["m-a", "m-b", "x"]);
}

#[tokio::test]
async fn events_without_an_id_are_never_taken_for_duplicates() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    for _ in 0..2 {
        server.ndjson(nameless("x")).await.assert_accepted(1);
    }
    assert_eq!(log.messages(), ["x", "x"]);
}

#[tokio::test]
async fn a_body_repeated_under_the_same_prefix_is_stored_once() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    let (path, ndjson) = ("/api/v1/logs?id_prefix=file-7&id_start=", "application/x-ndjson");
    let body = nameless("x") + &event("own", "INFO") + &nameless("y");
    for _ in 0..2 {
        server.post(&format!("{path}40"), ndjson, body.clone()).await.assert_accepted(3);
    }
    server.post(&format!("{path}42"), ndjson, nameless("y")).await.assert_accepted(1);
    assert_eq!(log.texts("logs.routine", "event_id"), ["file-7:40", "own", "file-7:42"]);
}

#[tokio::test]
async fn what_is_being_stored_is_waited_for() {
    let log = MemoryLog::new();
    let server = Arc::new(Server::start(log.clone()).await);
    log.hold("logs.routine");
    let post = |body: String| {
        let server = Arc::clone(&server);
        tokio::spawn(async move { server.ndjson(body).await })
    };
    let first = post(event("a", "INFO"));
    log.has_been_asked(1).await;
    let twin = post(event("a", "INFO") + &event("b", "ERROR"));
    log.has_been_asked(2).await;
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert!(!twin.is_finished(), "an event is not acknowledged before it is durable");
    log.let_go();
    first.await.unwrap().assert_accepted(1);
    twin.await.unwrap().assert_accepted(2);
    assert_eq!(log.messages(), ["m-a", "m-b"]);
}

#[tokio::test]
async fn when_what_is_waited_for_fails_the_sender_is_told_to_retry() {
    let log = MemoryLog::new();
    let server = Arc::new(Server::start(log.clone()).await);
    log.hold("logs.routine");
    log.storage_full("logs.routine");
    let post = |body: String| {
        let server = Arc::clone(&server);
        tokio::spawn(async move { server.ndjson(body).await })
    };
    let first = post(event("a", "INFO"));
    log.has_been_asked(1).await;
    let body = event("a", "INFO") + &event("b", "ERROR");
    let twin = post(body.clone());
    log.has_been_asked(2).await;
    log.let_go();
    assert_eq!(first.await.unwrap().status, 503);
    let twin = twin.await.unwrap();
    assert_eq!((twin.status, twin.retry_after.as_deref()), (503, Some("1")));
    log.heal();
    server.ndjson(body).await.assert_accepted(2);
    assert_eq!(log.messages(), ["m-a", "m-b"]);
}

#[tokio::test]
async fn after_a_failed_append_only_what_failed_is_stored_again() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    let body = event("a", "INFO") + &event("b", "ERROR");
    log.storage_full("logs.routine");
    assert_eq!(server.ndjson(body.clone()).await.status, 503);
    assert_eq!(log.messages(), ["m-b"]);
    log.heal();
    server.ndjson(body).await.assert_accepted(2);
    assert_eq!(log.messages(), ["m-a", "m-b"]);
}

#[tokio::test]
async fn ids_are_known_again_after_a_restart() {
    let log = MemoryLog::with_partitions(3);
    let body = event("a", "INFO") + &event("b", "ERROR");
    Server::start(log.clone()).await.ndjson(body.clone()).await.assert_accepted(2);
    let appends = log.asked().len();
    let restarted = Server::start(log.clone()).await;
    restarted.ndjson(body).await.assert_accepted(2);
    assert_eq!(log.asked().len(), appends);
}

#[tokio::test]
async fn generated_ids_take_no_room_after_a_restart() {
    let log = MemoryLog::new();
    let body = event("a", "INFO") + &event("b", "INFO");
    let before = Server::start(log.clone()).await;
    before.ndjson(body.clone()).await.assert_accepted(2);
    before.ndjson(nameless("x").repeat(100)).await.assert_accepted(100);
    let duplicates = DuplicatesConfig { max_ids: 50, ..DuplicatesConfig::default() };
    let config = IngestConfig { duplicates, ..IngestConfig::default() };
    let restarted = Server::with_config(log.clone(), config).await;
    restarted.ndjson(body).await.assert_accepted(2);
    assert_eq!(log.messages().len(), 102);
}

#[tokio::test]
async fn a_window_of_zero_lets_everything_through() {
    let log = MemoryLog::new();
    let duplicates = DuplicatesConfig { window_secs: 0, ..DuplicatesConfig::default() };
    let config = IngestConfig { duplicates, ..IngestConfig::default() };
    let server = Server::with_config(log.clone(), config).await;
    server.ndjson(event("a", "INFO").repeat(2)).await.assert_accepted(2);
    assert_eq!(log.messages(), ["m-a", "m-a"]);
}

#[tokio::test]
async fn a_sender_that_goes_away_leaves_its_events_stored_once() {
    let log = MemoryLog::new();
    let server = Arc::new(Server::start(log.clone()).await);
    log.hold("logs.routine");
    let body = event("a", "INFO");
    let first = tokio::spawn({
        let (server, body) = (Arc::clone(&server), body.clone());
        async move { server.ndjson(body).await }
    });
    log.has_been_asked(1).await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    log.let_go();
    server.ndjson(body).await.assert_accepted(1);
    assert_eq!(log.messages(), ["m-a"]);
}

#[tokio::test]
async fn an_id_of_one_service_takes_nothing_from_another() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    server.ndjson(event("same", "INFO")).await.assert_accepted(1);
    let other = event("same", "INFO").replace("checkout", "payment");
    for _ in 0..2 {
        server.ndjson(other.clone()).await.assert_accepted(1);
    }
    assert_eq!(log.messages(), ["m-same", "m-same"]);
}
