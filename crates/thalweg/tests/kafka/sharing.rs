//! Two processes that share the partitions, one of which comes and goes.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use thalweg_kafka_broker::{Cluster, Options};
use tokio::runtime::Runtime;

use crate::{
    clients::script,
    crash::{SETTINGS, millis, rounds},
    log_in,
    operating::{eventually, metric},
    server::{Server, get},
    writers::{
        VIEW, Writer, Writing, acknowledged, each_event_is_there_once,
        views_counted_each_event_once,
    },
};

/// Those who write to the process that stays: as many as it takes to write to all partitions.
const AT_SURVIVOR: usize = 12;
/// Those who write to the one that comes and goes.
const AT_OTHER: usize = 4;
const TOPICS: &str = "log.topics=[{name: logs.routine, partitions: 4}, \
    {name: logs.critical, partitions: 2}]";
const PARTITIONS: usize = 6;
/// Longest that partitions may take to move.
const PATIENCE: Duration = Duration::from_secs(60);

fn start(cluster: &Cluster, directory: &Path, node: &str) -> Server {
    let sharing = format!(", shared: true, node: {node}}}");
    let log = log_in(cluster, "json").replace('}', &sharing);
    let mut settings = SETTINGS.to_vec();
    settings.extend([&log, TOPICS, VIEW]);
    Server::start(directory, &settings)
}

/// By partition, the first offset that the table of logs does not cover, as its Delta log says.
fn covered(directory: &Path) -> BTreeMap<String, u64> {
    let mut covered = BTreeMap::new();
    let commits = std::fs::read_dir(directory.join("lake/logs/_delta_log")).unwrap();
    let commits = commits.map(|entry| entry.unwrap().path());
    for path in commits.filter(|path| path.extension().is_some_and(|end| end == "json")) {
        let actions = std::fs::read_to_string(path).unwrap();
        for action in actions.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
            if let (Some(id), Some(offset)) =
                (action["txn"]["appId"].as_str(), action["txn"]["version"].as_u64())
                && id.starts_with("thalweg/logs.")
            {
                let latest = covered.entry(id.to_owned()).or_insert(0);
                *latest = offset.max(*latest);
            }
        }
    }
    covered
}

/// Waits until the table has more of all partitions than it had; answers how long that took.
fn until_all_move(directory: &Path, before: &BTreeMap<String, u64>) -> Duration {
    let began = Instant::now();
    loop {
        let now = covered(directory);
        let stuck: Vec<_> = before.iter().filter(|(id, offset)| now[*id] <= **offset).collect();
        if stuck.is_empty() {
            return began.elapsed();
        }
        assert!(began.elapsed() < PATIENCE, "nobody works on {stuck:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Events of each writer stand in Kafka in the order in which it sent them.
pub(crate) fn each_writers_events_are_in_order(cluster: &Cluster, server: &Server) {
    let brokers = cluster.addresses().join(",");
    for priority in ["routine", "critical"] {
        let count = format!("SELECT count(*) FROM logs WHERE priority = '{priority}'");
        let count = server.sql(&count).remove(0);
        let topic = format!("logs.{priority}");
        let mut latest: BTreeMap<String, u64> = BTreeMap::new();
        for line in script("kafka_messages.py", &["read", &brokers, &topic, &count]) {
            let event: Value = serde_json::from_str(&line).unwrap();
            let id = event["event_id"].as_str().unwrap();
            let (writer, number) = id.split_once('-').unwrap();
            let number: u64 = number.parse().unwrap();
            if let Some(before) = latest.insert(writer.to_owned(), number) {
                assert!(before < number, "{writer}: {number} stands behind {before}");
            }
        }
    }
}

#[test]
fn a_process_that_comes_and_goes_leaves_each_event_once_and_in_order() {
    let cluster = Cluster::start(Options::default()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let runtime = Runtime::new().unwrap();
    let survivor = start(&cluster, directory, "a");
    let mut of_survivor = Writer::some(AT_SURVIVOR + AT_OTHER);
    let mut of_other = of_survivor.split_off(AT_SURVIVOR);
    let mut resumed = vec![];
    for round in 0..=rounds() {
        let is_last = round == rounds();
        let other = start(&cluster, directory, "b");
        let at_survivor = Writing::begin(&runtime, of_survivor, &survivor);
        let at_other = Writing::begin(&runtime, of_other, &other);
        // So that both work on partitions most of the time.
        std::thread::sleep(millis(4000..8000));
        let began = Instant::now();
        match is_last {
            true => other.stop(),
            false => other.kill(),
        }
        let before = covered(directory);
        assert_eq!(before.len(), PARTITIONS, "writers write to all partitions: {before:?}");
        let took = until_all_move(directory, &before);
        println!("round {round}: all partitions are worked on {:?} later", began.elapsed());
        if !is_last {
            resumed.push(took);
        }
        of_survivor = at_survivor.end(&runtime);
        of_other = at_other.end(&runtime);
    }
    let (least, most) = (resumed.iter().min(), resumed.iter().max());
    println!("rows of a killed process' partitions are in the table after {least:?} to {most:?}");
    let other = start(&cluster, directory, "b");
    let mut writers = of_survivor;
    writers.extend(of_other);
    println!("{} events were acknowledged", acknowledged(&writers));
    eventually("one of both looks after the alerts", || attending([&survivor, &other]) == 1.0);
    for server in [&survivor, &other] {
        get(&format!("{}/readyz", server.http));
        each_event_is_there_once(server, &writers, rounds() * 100);
        views_counted_each_event_once(server);
    }
    each_writers_events_are_in_order(&cluster, &survivor);
    other.stop();
    survivor.stop();
}

/// Partitions that have not moved for so long do not move any more.
const SETTLED_AFTER: Duration = Duration::from_secs(6);
/// More than the time after which a process without a sign of life owns nothing.
const CUT_OFF_AFTER: Duration = Duration::from_secs(15);

/// How many processes look after the alerts.
fn attending<'s>(servers: impl IntoIterator<Item = &'s Server>) -> f64 {
    servers.into_iter().map(|server| metric(server, "thalweg_alert_attended")).sum()
}

#[test]
fn somebody_looks_after_the_alerts_while_brokers_are_away() {
    let mut cluster = Cluster::start(Options::default()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let nodes = ["a", "b"].map(|node| start(&cluster, directory.path(), node));
    let partitions = |node| metric(node, "thalweg_kafka_owned_partitions");
    eventually("both work on partitions", || nodes.iter().all(|node| partitions(node) > 1.0));
    // Nobody has what is being handed over when brokers go.
    let (mut shares, mut since) = ([0.0; 2], Instant::now());
    eventually("all is handed over, and one looks after the alerts", || {
        let now = nodes.each_ref().map(partitions);
        if std::mem::replace(&mut shares, now) != now || attending(&nodes) != 1.0 {
            since = Instant::now();
        }
        since.elapsed() > SETTLED_AFTER
    });
    cluster.kill_all();
    std::thread::sleep(CUT_OFF_AFTER);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        assert_eq!(attending(&nodes), 1.0);
        std::thread::sleep(Duration::from_millis(100));
    }
    cluster.start_all().unwrap();
    eventually("both work on partitions again", || nodes.iter().all(|node| partitions(node) > 1.0));
    eventually("one still looks after the alerts", || attending(&nodes) == 1.0);
    nodes.into_iter().for_each(Server::stop);
}

#[test]
fn a_replay_that_a_stop_cut_off_does_not_go_on_where_processes_share_partitions() {
    let cluster = Cluster::start(Options::default()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let node = start(&cluster, directory.path(), "a");
    node.sql(
        "CREATE VIEW per_minute AS SELECT service, count(*) AS events FROM logs \
         GROUP BY tumble('1 minute'), service",
    );
    node.stop();
    let kept = |file: &str| directory.path().join("stream").join(file);
    let created: Value =
        serde_json::from_slice(&std::fs::read(kept("created.json")).unwrap()).unwrap();
    let pending = json!({"number": 1, "since_micros": 0});
    let replays =
        json!({"per_minute": {"query": created[0]["query"], "pending": pending, "last": 1}});
    std::fs::write(kept("replays.json"), replays.to_string()).unwrap();
    let node = start(&cluster, directory.path(), "a");
    let tables = std::fs::read_dir(directory.path().join("lake")).unwrap();
    let tables = tables.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let tables: Vec<String> = tables.filter(|name| name.starts_with("view.per_minute.")).collect();
    assert!(tables.len() == 1 && !tables[0].contains('-'), "{tables:?}");
    node.stop();
}

#[test]
fn a_view_that_one_process_creates_is_there_for_all_until_one_drops_it() {
    let cluster = Cluster::start(Options::default()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let nodes = ["a", "b"].map(|node| start(&cluster, directory.path(), node));
    let rows = |server: &Server| {
        let output = server.run(["query", "--output", "csv", "SELECT count(*) FROM per_minute"]);
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    };
    nodes[0].sql(
        "CREATE VIEW per_minute AS SELECT service, count(*) AS events FROM logs \
         GROUP BY tumble('1 minute'), service",
    );
    eventually("the other process has it too", || rows(&nodes[1]).is_some());
    nodes[1].sql("DROP VIEW per_minute");
    eventually("nobody has it any more", || nodes.iter().all(|node| rows(node).is_none()));
    let left = std::fs::read_dir(directory.path().join("lake")).unwrap();
    let left = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(left.filter(|name| name.starts_with("view.per_minute")).count(), 0);
    nodes.into_iter().for_each(Server::stop);
}
