//! Topics that others write, read as tables.

use std::{path::Path, time::Duration};

use tempfile::TempDir;
use thalweg_kafka_broker::{Cluster, Options};

use crate::{
    clients::{await_rows, script},
    log_in,
    operating::{eventually, metric},
    server::{Server, get},
};

/// Frequent flushes, so that kills hit them too.
const FLUSH: &str = "lake.flush_interval_ms=150";
const ROUNDS: usize = 4;
/// Payments of a round.
const PAYMENTS: usize = 500;

/// A cluster of others, and the data of a node that reads it.
struct World {
    cluster: Cluster,
    directory: TempDir,
}

impl World {
    fn new() -> Self {
        // Whoever asks for a topic carelessly makes it.
        let settings = vec!["auto.create.topics.enable=true".into()];
        let cluster = Cluster::start(Options { settings, ..Options::default() }).unwrap();
        Self { cluster, directory: tempfile::tempdir().unwrap() }
    }

    fn brokers(&self) -> String {
        self.cluster.addresses().join(",")
    }

    fn client(&self, command: &str, args: &[&str]) -> Vec<String> {
        let brokers = self.brokers();
        script("kafka_messages.py", &[&[command, &*brokers], args].concat())
    }

    fn data_dir(&self) -> &Path {
        self.directory.path()
    }

    /// The setting for these sources: name, topic, and more of each.
    fn sources(&self, sources: &[(&str, &str, &str)]) -> String {
        let brokers = self.brokers();
        let source = |(name, topic, more): &(&str, &str, &str)| {
            format!("{{name: {name}, kafka: {{brokers: [\"{brokers}\"], topic: {topic}, {more}}}}}")
        };
        let sources: Vec<String> = sources.iter().map(source).collect();
        format!("sources=[{}]", sources.join(", "))
    }
}

const PAYMENT: &str = "format: json, time_column: paid_at, columns: {id: bigint, amount: double, \
    currency: text, paid_at: timestamp}";

/// `kill -9` of the server while others write.
fn each_message_is_there_once(world: &World, settings: &[&str]) {
    world.client("make", &["payments", "2"]);
    world.client("make", &["events", "1"]);
    let sources =
        world.sources(&[("payments", "payments", PAYMENT), ("others", "events", "format: otlp")]);
    let settings = [settings, &[&*sources, FLUSH]].concat();
    world.client("oddities", &["payments"]);
    for round in 0..ROUNDS {
        let server = Server::start(world.data_dir(), &settings);
        std::thread::scope(|scope| {
            let first = (round * PAYMENTS).to_string();
            scope.spawn(move || {
                world.client("payments", &["payments", &first, &PAYMENTS.to_string()]);
            });
            std::thread::sleep(Duration::from_millis(fastrand::u64(500..2500)));
            server.kill();
        });
    }
    world.client("write", &["events"]);
    let server = Server::start(world.data_dir(), &settings);
    let total = ROUNDS * PAYMENTS;
    // With the tombstone and payment -2, whose transaction was committed.
    let expected = format!("{},{},{}", total + 2, total + 1, total * (total - 1) / 2 - 2);
    await_rows(&server, "SELECT count(*), count(DISTINCT id), sum(id) FROM payments", &[&expected]);
    let row = "SELECT id, amount, currency, timestamp = paid_at, value->'tags'->0 FROM payments \
               WHERE key = '61' AND date = '2026-11-25'";
    assert_eq!(server.sql(row), ["61,15.25,EUR,true,61"]);
    let tombstone = "SELECT count(*) FROM payments WHERE key = 'deleted' AND value IS NULL";
    assert_eq!(server.sql(tombstone), ["1"]);
    let places = "SELECT count(*), count(DISTINCT kafka_partition) FROM \
                  (SELECT DISTINCT kafka_partition, kafka_offset FROM payments)";
    assert_eq!(server.sql(places), [format!("{},2", total + 2)]);
    await_rows(
        &server,
        "SELECT message, level, attributes->>'user.id' FROM others WHERE message = 'otlp'",
        &["otlp,ERROR,42"],
    );
    // At least once: a kill may come between a rejected record and the offset behind it.
    let rejected = "SELECT DISTINCT format, encode(original, 'hex'), \
                    reason LIKE 'message % of payments/%: expected a member%' FROM rejected ORDER BY 3";
    let damaged = "kafka,7b64616d61676564";
    await_rows(&server, rejected, &[&format!("{damaged},false"), &format!("{damaged},true")]);
    assert_eq!(server.sql("SELECT count(*) FROM logs WHERE service = 'others'"), ["0"]);

    // What was read by processes that are gone is read anew by one that is not.
    let payments = "SELECT count(*), count(DISTINCT id), sum(id) FROM payments";
    let rejected = server.sql("SELECT count(*) FROM rejected");
    replay(&server, "payments", "1970-01-01T00:00:00Z");
    assert_eq!(server.sql(payments), [&*expected]);
    assert_eq!(server.sql(places), [format!("{},2", total + 2)]);
    replay(&server, "payments", "2026-11-25T00:00:00Z");
    assert_eq!(server.sql(payments), [&*expected]);
    assert_eq!(server.sql("SELECT count(*) FROM rejected"), rejected);
    server.stop();
}

fn replay(server: &Server, table: &str, from: &str) {
    let output = server.run(["replay", table, "--from", from]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn sources_are_read_exactly_once_through_kills_beside_an_embedded_log() {
    each_message_is_there_once(&World::new(), &[]);
}

#[test]
fn sources_are_read_exactly_once_through_kills_beside_a_log_in_kafka() {
    let world = World::new();
    let log = log_in(&world.cluster, "json");
    each_message_is_there_once(&world, &[&log]);
}

#[test]
fn sources_whose_brokers_are_away_keep_no_node_from_starting() {
    let mut world = World::new();
    world.client("make", &["payments", "1"]);
    world.client("payments", &["payments", "0", "10"]);
    let sources = world.sources(&[
        ("payments", "payments", PAYMENT),
        ("news", "payments", "format: json, from: latest, columns: {id: bigint}"),
        ("nothing", "no.such.topic", "format: json"),
    ]);
    // Nothing is committed before a stop: queries see what was read.
    let settings = [&*sources, "lake.flush_interval_ms=600000"];
    let count = "SELECT count(*) FROM payments";

    world.cluster.kill_all();
    let server = Server::start(world.data_dir(), &settings);
    assert_eq!(server.sql(count), ["0"]);
    let columns = "SELECT column_name, data_type FROM information_schema.columns \
                   WHERE table_name = 'payments' AND column_name = 'amount'";
    assert_eq!(server.sql(columns), ["amount,Float64"]);
    eventually("no topic can be read", || metric(&server, "thalweg_source_up") == 0.0);
    world.cluster.start_all().unwrap();
    await_rows(&server, count, &["10"]);
    eventually("two of three topics are there", || metric(&server, "thalweg_source_up") == 2.0);
    assert!(!world.client("topics", &[]).contains(&"no.such.topic".to_owned()));

    // A partition more is found, and what it has belongs to a table that began before.
    world.client("make", &["payments", "3"]);
    world.client("payments", &["payments", "10", "90"]);
    await_rows(&server, count, &["100"]);
    await_rows(&server, "SELECT count(*), min(id) FROM news", &["90,10"]);
    eventually("all is read", || metric(&server, "thalweg_source_lag_messages") == 0.0);
    server.stop();

    world.cluster.kill_all();
    let server = Server::start(world.data_dir(), &settings);
    assert_eq!(server.sql("SELECT count(*), count(DISTINCT id) FROM payments"), ["100,100"]);
    server.stop();
    world.cluster.start_all().unwrap();
    let server = Server::start(world.data_dir(), &settings);
    world.client("payments", &["payments", "100", "10"]);
    await_rows(&server, "SELECT count(*), count(DISTINCT id) FROM payments", &["110,110"]);
    await_rows(&server, "SELECT count(*), min(id) FROM news", &["100,10"]);
    server.stop();

    // Offsets mean nothing in a topic that was made anew.
    let other = World { directory: world.directory, ..World::new() };
    other.client("make", &["payments", "3"]);
    other.client("payments", &["payments", "500", "10"]);
    let sources = other.sources(&[("payments", "payments", PAYMENT)]);
    let server = Server::start(other.data_dir(), &[&*sources, FLUSH]);
    eventually("it is told from the topic that was read", || {
        get(&format!("{}/metrics", server.http))
            .contains("thalweg_source_up{source=\"payments\"} 0")
    });
    assert_eq!(server.sql("SELECT max(id) FROM payments"), ["109"]);
    server.stop();
}

#[test]
fn a_topic_that_was_made_anew_is_not_mixed_with_the_former_one() {
    let world = World::new();
    world.client("make", &["payments", "1"]);
    world.client("payments", &["payments", "0", "100"]);
    let sources = world.sources(&[("payments", "payments", PAYMENT)]);
    let settings = [&*sources, FLUSH];
    let server = Server::start(world.data_dir(), &settings);
    await_rows(&server, "SELECT count(*) FROM payments", &["100"]);

    // Its offsets are fewer at first, and then more: those of other messages all the same.
    world.client("remove", &["payments"]);
    eventually("it is gone", || !world.client("topics", &[]).contains(&"payments".to_owned()));
    world.client("make", &["payments", "1"]);
    world.client("payments", &["payments", "1000", "10"]);
    let known = world.data_dir().join("sources/payments.json");
    eventually("it is found out", || {
        std::fs::read_to_string(&known).unwrap().contains("it was made anew")
    });
    world.client("payments", &["payments", "1010", "200"]);
    eventually("it is not read", || metric(&server, "thalweg_source_up") == 0.0);
    server.stop();
    let server = Server::start(world.data_dir(), &settings);
    eventually("it is not read then", || metric(&server, "thalweg_source_up") == 0.0);
    assert_eq!(server.sql("SELECT count(*), max(id) FROM payments"), ["100,99"]);
    server.stop();
}
