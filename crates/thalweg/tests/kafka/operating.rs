//! What an operator sees of the log, and what senders see of a full spool.

use std::time::{Duration, Instant};

use thalweg_kafka_broker::{Cluster, Options};

use crate::{
    log_in,
    server::{Server, demonstrate_incident, get, post},
};

/// Longest that something may take to be seen.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn csv(server: &Server, command: &str) -> String {
    let output = server.run([command, "--output", "csv"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_demonstration_checks_itself_over_kafka() {
    let cluster = Cluster::start(Options::default()).unwrap();
    demonstrate_incident(&["--set", &log_in(&cluster, "otlp_proto")]);
}

#[test]
fn topics_and_the_lag_of_groups_are_shown() {
    let cluster = Cluster::start(Options::default()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let log = log_in(&cluster, "json");
    let settings = [log.as_str(), "lake.flush_interval_ms=200"];
    let server = Server::start(directory.path(), &settings);
    let events = "{\"service\":\"a\",\"message\":\"1\"}\n{\"service\":\"a\",\"message\":\"2\"}\n";
    let (status, answer) = post(&format!("{}/api/v1/logs?format=ndjson", server.http), events);
    assert_eq!(status, 200, "{answer}");
    let topics = csv(&server, "topics");
    assert!(topics.starts_with("topic,partition,start,end\n"), "{topics}");
    assert!(topics.contains("\nlogs.routine,0,0,2\n"), "{topics}");
    eventually("the table's group has read both events", || {
        csv(&server, "groups").contains("\nlake/logs,logs.routine,0,2,2,0\n")
    });
    server.stop();
}

#[test]
fn a_damaged_table_is_read_from_kafka_anew_while_events_come() {
    let cluster = Cluster::start(Options::default()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let log = log_in(&cluster, "json");
    let settings = [log.as_str(), "lake.flush_interval_ms=200"];
    let send = |server: &Server, numbers: std::ops::Range<u32>| {
        let event = |n: u32| format!(r#"{{"service":"a","message":"hello","event_id":"{n}"}}"#);
        let body: Vec<String> = numbers.map(event).collect();
        let url = format!("{}/api/v1/logs?format=ndjson", server.http);
        assert_eq!(post(&url, &body.join("\n")).0, 200);
    };
    let server = Server::start(directory.path(), &settings);
    send(&server, 0..100);
    eventually("the events are committed", || {
        csv(&server, "groups").contains("\nlake/logs,logs.routine,0,100,100,0\n")
    });
    server.stop();
    let folders = std::fs::read_dir(directory.path().join("lake/logs")).unwrap();
    let folders = folders.map(|entry| entry.unwrap().path());
    let dates = folders.filter(|folder| folder.to_string_lossy().contains("date="));
    for file in dates.flat_map(|folder| std::fs::read_dir(folder).unwrap()) {
        std::fs::write(file.unwrap().path(), b"damaged").unwrap();
    }
    let server = Server::start(directory.path(), &settings);
    send(&server, 100..150);
    let output = server.run(["replay", "logs", "--from", "2020-01-01T00:00:00Z"]);
    send(&server, 150..200);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let count = "SELECT count(message), count(DISTINCT event_id) FROM logs";
    assert_eq!(server.sql(count), ["200,200"]);
    server.stop();
}

#[test]
fn a_view_is_dropped_while_brokers_are_away() {
    let mut cluster = Cluster::start(Options::default()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let log = log_in(&cluster, "otlp_proto");
    let server = Server::start(directory.path(), &[log.as_str()]);
    server.sql(
        "CREATE VIEW per_second WITH (lateness_secs = 0) AS SELECT service, count(*) AS events \
         FROM logs GROUP BY tumble('1 second'), service",
    );
    let event = "{\"service\":\"a\",\"message\":\"1\"}\n";
    let send = || post(&format!("{}/api/v1/logs?format=ndjson", server.http), event).0;
    assert_eq!(send(), 200);
    eventually("a window is closed", || {
        server.sql("SELECT sum(events) FROM per_second WHERE is_final") == ["1"]
    });
    assert_eq!(send(), 200);
    cluster.kill_all();
    // It has a window by now that it cannot deliver.
    std::thread::sleep(Duration::from_secs(5));
    let began = Instant::now();
    let output = server.run(["query", "DROP VIEW per_second"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    cluster.start_all().unwrap();
    server.stop();
}

/// Value of a metric, summed over its labels; not a number while there is none of that name.
pub(crate) fn metric(server: &Server, name: &str) -> f64 {
    let metrics = get(&format!("{}/metrics", server.http));
    let lines = metrics
        .lines()
        .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.reduce(|sum, value| sum + value).unwrap_or(f64::NAN)
}

#[test]
fn a_full_spool_is_429_to_senders_and_empties_when_the_broker_is_back() {
    let cluster = Cluster::start(Options::default()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let log = log_in(&cluster, "otlp_proto").replace('}', ", spool: {limit_bytes: 20000}}");
    // In place of the built-in rule, which waits a minute.
    let waits = "alerts=[{name: SpoolNotForwarded, every: 1s, threshold: {fire: '> 1'}, query: \
        \"SELECT labels->>'topic' AS topic, max(value) AS value FROM metrics \
        WHERE name = 'thalweg_kafka_spool_age_seconds' GROUP BY 1\"}]";
    let server = Server::start(directory.path(), &[&log, waits]);
    let url = format!("{}/api/v1/logs?format=ndjson", server.http);
    let event = |number: usize| {
        format!(r#"{{"service":"a","message":"{}","event_id":"{number}"}}"#, "x".repeat(1000))
    };
    cluster.pause(0).unwrap();
    let (mut accepted, mut refusal) = (0, None);
    for number in 0..100 {
        match post(&url, &event(number)) {
            (200, _) => accepted += 1,
            refused => {
                refusal = Some(refused);
                break;
            }
        }
    }
    let (status, answer) = refusal.expect("20 kB do not hold 100 kB");
    assert_eq!(status, 429, "{answer}");
    assert!(answer.contains("log.kafka.spool.limit_bytes is 20000"), "{answer}");
    assert!(accepted > 0);
    assert_ne!(metric(&server, "thalweg_kafka_spool_rows"), 0.0);
    eventually("the oldest event has waited", || {
        post(&url, &event(100)).0 == 429 && metric(&server, "thalweg_kafka_spool_age_seconds") > 0.0
    });
    let fires = |name: &str| {
        let alerts = csv(&server, "alerts");
        alerts.lines().any(|line| line.contains(name) && line.contains("firing"))
    };
    eventually("alerts fire, though nothing comes any more", || {
        fires("SpoolNearlyFull") && fires("SpoolNotForwarded")
    });
    cluster.resume(0).unwrap();
    eventually("the spool is empty", || metric(&server, "thalweg_kafka_spool_rows") == 0.0);
    assert_eq!(post(&url, &event(101)).0, 200);
    let count = "SELECT count(*), count(DISTINCT event_id) FROM logs";
    let expected = format!("{0},{0}", accepted + 1);
    eventually("each accepted event can be queried", || server.sql(count) == [expected.as_str()]);
    eventually("alerts are over", || !fires("SpoolNearlyFull") && !fires("SpoolNotForwarded"));
    server.stop();
}

#[test]
fn a_view_that_has_a_query_again_shows_nothing_of_the_topic_before() {
    let cluster = Cluster::start(Options::default()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let log = log_in(&cluster, "json");
    let start = |service: &str| {
        let view = format!(
            "views=[{{name: per_ten, backfill: true, query: \"SELECT count(*) AS events FROM logs \
             WHERE service = '{service}' GROUP BY tumble('10 seconds')\"}}]"
        );
        let settings = [
            log.as_str(),
            view.as_str(),
            "stream.checkpoint_interval_ms=100",
            "stream.builtin_views=false",
            "lake.retention_days=3650",
        ];
        Server::start(directory.path(), &settings)
    };
    let shows_each_window_once = |server: &Server| {
        eventually("both windows are closed", || {
            server.sql("SELECT events FROM per_ten WHERE is_final") == ["1", "1"]
        });
    };
    let server = start("a");
    for minute in [0, 10, 20] {
        let event = format!(
            "{{\"timestamp\":\"2026-01-05T10:{minute:02}:00Z\",\"service\":\"a\",\"message\":\"x\"}}\n"
        );
        let (status, answer) = post(&format!("{}/api/v1/logs?format=ndjson", server.http), &event);
        assert_eq!(status, 200, "{answer}");
    }
    shows_each_window_once(&server);
    server.stop();
    start("b").stop();
    let server = start("a");
    shows_each_window_once(&server);
    // Long enough for what a topic had before to be shown as well.
    std::thread::sleep(Duration::from_secs(2));
    shows_each_window_once(&server);
    server.stop();
}
