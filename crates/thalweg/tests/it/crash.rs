//! `kill -9` at random moments while clients write.

use std::time::Duration;

use crate::{
    server::Server,
    writers::{
        VIEW, Writer, acknowledged, each_event_is_there_once, views_counted_each_event_once,
        write_while,
    },
};

/// Kills of the server.
const ROUNDS: usize = 20;
const WRITERS: usize = 3;
/// Frequent flushes and compactions, so that kills hit them too.
const SETTINGS: &[&str] = &[
    "lake.flush_interval_ms=150",
    "lake.maintenance_interval_secs=1",
    "lake.compaction_min_files=2",
    "log.segment_bytes=65536",
    "stream.checkpoint_interval_ms=50",
    VIEW,
];

#[test]
fn after_any_kill_every_acknowledged_event_is_there_exactly_once() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut writers = Writer::some(WRITERS);
    for round in 0..ROUNDS {
        let server = Server::start(directory.path(), SETTINGS);
        write_while(&runtime, &mut writers, server, |server| {
            std::thread::sleep(Duration::from_millis(fastrand::u64(20..900)));
            server.kill();
        });
        println!("round {round}: {} events acknowledged so far", acknowledged(&writers));
    }
    let server = Server::start(directory.path(), SETTINGS);
    each_event_is_there_once(&server, &writers, ROUNDS * 10);
    views_counted_each_event_once(&server);
    server.stop();
}
