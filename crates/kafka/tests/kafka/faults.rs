//! Brokers that are killed, paused and away while clients write.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use thalweg_kafka::{Encoding, KafkaLog};
use thalweg_kafka_broker::{Cluster, Options, rounds};
use thalweg_log::{Log as _, LogError, TopicPartition};

use crate::node::{ENCODINGS, all_ids, close, config, events, open, routine};

const WRITERS: usize = 4;
/// How long a busy machine may take to forward what was spooled.
const PATIENCE_SECS: usize = 120;

/// What a writer has had acknowledged, in order.
struct Writer {
    name: String,
    at: TopicPartition,
    next: usize,
    acknowledged: Vec<String>,
    refused: usize,
    slowest: Duration,
}

impl Writer {
    async fn write(mut self, log: Arc<KafkaLog>, stop: Arc<AtomicBool>) -> Self {
        while !stop.load(Ordering::Relaxed) {
            let size = fastrand::usize(1..40);
            let ids: Vec<String> =
                (self.next..self.next + size).map(|n| format!("{}-{n}", self.name)).collect();
            let batch = events(&self.name, ids.iter().map(|id| (id.as_str(), "message")));
            let began = Instant::now();
            match log.append(self.at.clone(), batch).await {
                Ok(_) => {
                    self.next += size;
                    self.acknowledged.extend(ids);
                    self.slowest = self.slowest.max(began.elapsed());
                }
                // Refused at the door: the same events are sent again.
                Err(LogError::Overloaded { .. }) => {
                    self.refused += 1;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("{}: {error}", self.name),
            }
            tokio::time::sleep(Duration::from_millis(fastrand::u64(0..4))).await;
        }
        self
    }
}

/// What writers did while `fault` was worked.
struct Outcome {
    refused: usize,
    slowest: Duration,
}

/// Writes while `fault` is worked, and checks with a reader of its own that every acknowledged
/// event is there exactly once, in order.
async fn survive(
    cluster: &mut Cluster,
    directory: &std::path::Path,
    encoding: Encoding,
    round: usize,
    spool_bytes: u64,
    fault: impl AsyncFnOnce(&mut Cluster),
) -> Outcome {
    let mut settings = config(cluster, &directory.join("spool"), encoding);
    settings.spool.limit_bytes = spool_bytes;
    let log = open(settings.clone()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| Writer {
            name: format!("r{round}w{number}"),
            at: routine(u32::try_from(number).unwrap() % 2),
            next: 0,
            acknowledged: vec![],
            refused: 0,
            slowest: Duration::ZERO,
        })
        .map(|writer| tokio::spawn(writer.write(Arc::clone(&log), Arc::clone(&stop))))
        .collect();
    tokio::time::sleep(Duration::from_millis(fastrand::u64(100..1500))).await;
    fault(cluster).await;
    tokio::time::sleep(Duration::from_millis(fastrand::u64(500..2000))).await;
    stop.store(true, Ordering::Relaxed);
    let mut finished = vec![];
    for writer in writers {
        finished.push(writer.await.unwrap());
    }
    close(log).await;

    let log = open(settings).await;
    let acknowledged: HashSet<&String> =
        finished.iter().flat_map(|writer| &writer.acknowledged).collect();
    // Opening waits until the spool is empty, unless the machine is so busy that it takes longer.
    let mut found = places(&log).await;
    for _ in 0..PATIENCE_SECS {
        if acknowledged.iter().all(|id| found.contains_key(*id)) {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        found = places(&log).await;
    }
    close(log).await;
    let repeated: Vec<_> = found.iter().filter(|(_, places)| places.len() > 1).collect();
    assert!(repeated.is_empty(), "round {round}: repeated {repeated:?}");
    for writer in &finished {
        let positions = writer.acknowledged.iter().map(|id| {
            let places = found.get(id);
            places.unwrap_or_else(|| panic!("round {round}: {id} was acknowledged and is lost"))[0]
        });
        let positions: Vec<_> = positions.collect();
        assert!(positions.is_sorted(), "round {round}: {} is out of order", writer.name);
    }
    assert!(acknowledged.len() > 50, "the writers hardly wrote: {}", acknowledged.len());
    let slowest = finished.iter().map(|writer| writer.slowest).max().unwrap_or_default();
    let refused = finished.iter().map(|writer| writer.refused).sum();
    println!(
        "round {round}: {} events acknowledged, slowest {slowest:?}, {refused} refused",
        acknowledged.len()
    );
    Outcome { refused, slowest }
}

/// Where each event stands: partitions, and positions in them.
async fn places(log: &KafkaLog) -> HashMap<String, Vec<(u32, usize)>> {
    let mut found: HashMap<String, Vec<(u32, usize)>> = HashMap::new();
    for partition in 0..2 {
        let ids = all_ids(log, &routine(partition)).await;
        for (position, id) in ids.into_iter().enumerate() {
            found.entry(id).or_default().push((partition, position));
        }
    }
    found
}

async fn pause(millis: std::ops::Range<u64>) {
    tokio::time::sleep(Duration::from_millis(fastrand::u64(millis))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_brokers_is_killed() {
    let mut cluster = Cluster::start(Options { nodes: 3, ..Options::default() }).unwrap();
    let directory = tempfile::tempdir().unwrap();
    for round in 0..rounds() {
        let encoding = ENCODINGS[round % 2];
        let victim = round % 3;
        survive(&mut cluster, directory.path(), encoding, round, u64::MAX, async |cluster| {
            cluster.kill(victim);
            pause(1000..4000).await;
            cluster.start_node(victim).unwrap();
            cluster.await_up().unwrap();
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_brokers_is_paused() {
    let mut cluster = Cluster::start(Options { nodes: 3, ..Options::default() }).unwrap();
    let directory = tempfile::tempdir().unwrap();
    for round in 0..rounds() {
        let encoding = ENCODINGS[round % 2];
        let victim = round % 3;
        survive(&mut cluster, directory.path(), encoding, round, u64::MAX, async |cluster| {
            cluster.pause(victim).unwrap();
            pause(1500..6000).await;
            cluster.resume(victim).unwrap();
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_brokers_are_away_for_half_a_minute() {
    let mut cluster = Cluster::start(Options { nodes: 3, ..Options::default() }).unwrap();
    let directory = tempfile::tempdir().unwrap();
    for round in 0..rounds() {
        let encoding = ENCODINGS[round % 2];
        let outcome =
            survive(&mut cluster, directory.path(), encoding, round, u64::MAX, async |cluster| {
                cluster.kill_all();
                pause(30_000..30_001).await;
                cluster.start_all().unwrap();
            })
            .await;
        assert!(
            outcome.slowest < Duration::from_secs(10),
            "senders waited {:?}, as if there were no spool",
            outcome.slowest
        );
        assert_eq!(outcome.refused, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_refuses_and_loses_nothing() {
    let mut cluster = Cluster::start(Options::default()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    for round in 0..rounds() {
        let encoding = ENCODINGS[round % 2];
        let limit = 200_000;
        let outcome =
            survive(&mut cluster, directory.path(), encoding, round, limit, async |cluster| {
                cluster.pause(0).unwrap();
                pause(5000..7000).await;
                cluster.resume(0).unwrap();
            })
            .await;
        assert_ne!(outcome.refused, 0, "the spool was never full");
    }
}
