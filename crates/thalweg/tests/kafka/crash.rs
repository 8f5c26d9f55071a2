//! `kill -9` of the server while clients write, with brokers well and not.

use std::{path::Path, time::Duration};

use tempfile::TempDir;
use thalweg_kafka_broker::{Cluster, Options};
use tokio::runtime::Runtime;

use crate::{
    log_in,
    server::Server,
    sharing::each_writers_events_are_in_order,
    writers::{
        VIEW, Writer, acknowledged, each_event_is_there_once, views_counted_each_event_once,
        write_while,
    },
};

const WRITERS: usize = 3;
/// Frequent flushes and compactions, so that kills hit them too.
pub(crate) const SETTINGS: [&str; 4] = [
    "lake.flush_interval_ms=150",
    "lake.maintenance_interval_secs=1",
    "lake.compaction_min_files=2",
    "stream.checkpoint_interval_ms=50",
];
const ENCODINGS: [&str; 2] = ["otlp_proto", "json"];

/// Rounds of each fault. The windows of the first close in the second.
pub(crate) fn rounds() -> usize {
    thalweg_kafka_broker::rounds().max(2)
}

pub(crate) fn millis(range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(fastrand::u64(range))
}

/// A server over a cluster, and those who write to it through all that befalls them.
struct Trial {
    cluster: Cluster,
    directory: TempDir,
    runtime: Runtime,
    writers: Vec<Writer>,
    more: Vec<&'static str>,
}

impl Trial {
    fn new(nodes: usize, more: Vec<&'static str>) -> Self {
        Self {
            cluster: Cluster::start(Options { nodes, ..Options::default() }).unwrap(),
            directory: tempfile::tempdir().unwrap(),
            runtime: Runtime::new().unwrap(),
            writers: Writer::some(WRITERS),
            more,
        }
    }

    fn start(&self, round: usize) -> Server {
        let log = log_in(&self.cluster, ENCODINGS[round % 2]);
        let mut settings = SETTINGS.to_vec();
        settings.push(&log);
        settings.extend(&self.more);
        Server::start(self.data_dir(), &settings)
    }

    fn data_dir(&self) -> &Path {
        self.directory.path()
    }

    /// Has the writers write while `fault` is worked, which ends with the server.
    fn round(&mut self, round: usize, fault: impl FnOnce(&mut Cluster, Server)) {
        let server = self.start(round);
        write_while(&self.runtime, &mut self.writers, server, |server| {
            fault(&mut self.cluster, server);
        });
        println!("round {round}: {} events acknowledged so far", acknowledged(&self.writers));
    }

    fn check(&self) -> Server {
        let server = self.start(0);
        each_event_is_there_once(&server, &self.writers, rounds() * 10);
        server
    }
}

#[test]
fn after_any_kill_every_acknowledged_event_is_there_exactly_once() {
    let mut trial = Trial::new(1, vec![VIEW]);
    for round in 0..rounds() {
        trial.round(round, |_, server| {
            std::thread::sleep(millis(500..2500));
            server.kill();
        });
    }
    let server = trial.check();
    views_counted_each_event_once(&server);
    server.stop();
}

#[test]
fn a_kill_while_a_broker_is_paused_neither_loses_nor_repeats_what_is_on_its_way() {
    let mut trial = Trial::new(1, vec![]);
    for round in 0..rounds() {
        trial.round(round, |cluster, server| {
            std::thread::sleep(millis(300..1500));
            cluster.pause(0).unwrap();
            // Less or more than a broker has to acknowledge: in its hands only, or spooled too.
            std::thread::sleep(millis(200..3000));
            server.kill();
            std::thread::sleep(millis(0..500));
            cluster.resume(0).unwrap();
        });
    }
    trial.check().stop();
}

/// While one of three is paused, the others have rows that are not shown to consumers yet: those that
/// were spooled because nobody acknowledged them in time are among these.
#[test]
fn a_kill_while_one_of_three_brokers_is_paused_does_not_repeat_what_is_not_shown_yet() {
    let mut trial = Trial::new(3, vec![VIEW]);
    for round in 0..rounds() {
        trial.round(round, |cluster, server| {
            if round > 0 {
                cluster.resume((round - 1) % 3).unwrap();
            }
            std::thread::sleep(millis(1500..4000));
            cluster.pause(round % 3).unwrap();
            std::thread::sleep(millis(1200..2500));
            // The next one starts at once.
            server.kill();
        });
    }
    trial.cluster.resume((rounds() - 1) % 3).unwrap();
    let server = trial.check();
    views_counted_each_event_once(&server);
    server.stop();
}

#[test]
fn a_broker_of_three_that_is_killed_takes_nothing_with_it() {
    let mut trial = Trial::new(3, vec![VIEW]);
    for round in 0..rounds() {
        trial.round(round, |cluster, server| {
            std::thread::sleep(millis(1000..2000));
            cluster.kill(round % 3);
            std::thread::sleep(millis(2000..5000));
            cluster.start_node(round % 3).unwrap();
            std::thread::sleep(millis(500..1500));
            server.stop();
        });
    }
    let server = trial.check();
    views_counted_each_event_once(&server);
    each_writers_events_are_in_order(&trial.cluster, &server);
    server.stop();
}

#[test]
fn a_kill_while_all_brokers_are_away_keeps_what_was_spooled() {
    let mut trial = Trial::new(1, vec![]);
    for round in 0..rounds() {
        trial.round(round, |cluster, server| {
            std::thread::sleep(millis(300..1500));
            cluster.kill_all();
            std::thread::sleep(millis(1500..4000));
            server.kill();
            cluster.start_all().unwrap();
        });
    }
    trial.check().stop();
}

#[test]
fn a_stop_while_all_brokers_are_away_keeps_what_was_spooled() {
    let mut trial = Trial::new(1, vec![]);
    trial.round(0, |cluster, server| {
        std::thread::sleep(millis(300..1500));
        cluster.kill_all();
        std::thread::sleep(millis(1500..4000));
        server.stop();
        cluster.start_all().unwrap();
    });
    trial.check().stop();
}
