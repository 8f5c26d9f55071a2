//! Refusal under load.

use std::sync::Arc;

use thalweg_ingest::{AdmissionConfig, IngestConfig};

use crate::{
    memory_log::MemoryLog,
    server::{Answer, Server, event, nameless},
};

const MIB: usize = 1 << 20;

fn config(admission: AdmissionConfig) -> IngestConfig {
    IngestConfig {
        body_limit_bytes: MIB,
        decompressed_limit_bytes: MIB,
        admission,
        ..IngestConfig::default()
    }
}

fn post(server: &Arc<Server>, body: String) -> tokio::task::JoinHandle<Answer> {
    let server = Arc::clone(server);
    tokio::spawn(async move { server.ndjson(body).await })
}

#[tokio::test]
async fn when_memory_is_full_large_bodies_are_refused_and_small_critical_ones_are_not() {
    let log = MemoryLog::new();
    let admission =
        AdmissionConfig { in_flight_limit_bytes: 2 * MIB as u64, ..AdmissionConfig::default() };
    let server = Arc::new(Server::with_config(log.clone(), config(admission)).await);
    log.hold("logs.routine");
    let large = nameless(&"x".repeat(940_000));
    let first = post(&server, large.clone());
    let second = post(&server, large.clone());
    log.has_been_asked(2).await;
    let refused = server.ndjson(large.clone()).await;
    assert_eq!((refused.status, refused.retry_after.as_deref()), (429, Some("1")), "{refused:?}");
    assert!(refused.error().contains("bytes"), "{refused:?}");
    // More than is left of what large bodies may use.
    server.ndjson(event(&"u".repeat(20_000), "ERROR")).await.assert_accepted(1);

    log.let_go();
    first.await.unwrap().assert_accepted(1);
    second.await.unwrap().assert_accepted(1);
    server.ndjson(large).await.assert_accepted(1);
}

#[tokio::test]
async fn decompressed_bytes_count_as_well() {
    let log = MemoryLog::new();
    let admission =
        AdmissionConfig { in_flight_limit_bytes: 2 * MIB as u64, ..AdmissionConfig::default() };
    let server = Arc::new(Server::with_config(log.clone(), config(admission)).await);
    log.hold("logs.routine");
    let large = nameless(&"x".repeat(900_000));
    let held = [post(&server, large.clone()), post(&server, large.clone())];
    log.has_been_asked(2).await;
    let small = zstd::encode_all(large.as_bytes(), 1).unwrap();
    assert!(small.len() < 1000);
    let request = server.request("/api/v1/logs", "application/x-ndjson");
    let request = request.header("content-encoding", "zstd").body(small);
    assert_eq!(Answer::of(request.send().await.unwrap()).await.status, 429);
    log.let_go();
    for held in held {
        held.await.unwrap().assert_accepted(1);
    }
}

#[tokio::test]
async fn too_many_requests_are_refused() {
    let log = MemoryLog::new();
    let admission = AdmissionConfig { max_requests: 3, ..AdmissionConfig::default() };
    let server = Arc::new(Server::with_config(log.clone(), config(admission)).await);
    log.hold("logs.routine");
    let held: Vec<_> = (0..3).map(|_| post(&server, nameless("x"))).collect();
    log.has_been_asked(3).await;
    let refused = server.ndjson(nameless("x")).await;
    assert_eq!(refused.status, 429);
    assert!(refused.error().contains("requests"), "{refused:?}");
    log.let_go();
    for held in held {
        held.await.unwrap().assert_accepted(1);
    }
}
