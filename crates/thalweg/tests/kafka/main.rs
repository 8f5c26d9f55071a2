//! A whole server with its log in Kafka, against real brokers: `make test-kafka`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod clients;
mod crash;
mod operating;
mod sharing;
mod sources;

#[path = "../it/server.rs"]
#[allow(dead_code, reason = "the other tests use all of it")]
mod server;
#[path = "../it/writers.rs"]
mod writers;

use thalweg_kafka_broker::Cluster;

/// The setting that has a server keep its log in `cluster`.
fn log_in(cluster: &Cluster, encoding: &str) -> String {
    let brokers = cluster.addresses();
    let replication = brokers.len().min(3);
    let brokers = brokers.join("\", \"");
    format!(
        "log.kafka={{brokers: [\"{brokers}\"], encoding: {encoding}, replication: {replication}}}"
    )
}
