//! Other programs that read what thalweg writes to Kafka, and write what thalweg reads.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use thalweg_kafka_broker::{Cluster, Options};

use crate::{
    log_in,
    server::{Server, post},
};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../clients");
/// Longest that what others wrote may take to be in the tables.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a client script with the Python that has the clients, and returns what it printed.
pub(crate) fn script(name: &str, args: &[&str]) -> Vec<String> {
    let python = std::env::var_os("CLIENTS_PYTHON").map(PathBuf::from);
    let python = python.expect("CLIENTS_PYTHON is not set: run these tests by `make test-kafka`");
    let script = Path::new(SCRIPTS).join(name);
    let output = Command::new(python).arg(script).args(args).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{name}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout).lines().map(str::to_owned).collect()
}

fn send(server: &Server, lines: &str) {
    let (status, answer) = post(&format!("{}/api/v1/logs?format=ndjson", server.http), lines);
    assert_eq!(status, 200, "{answer}");
}

/// Waits until the rows that answer `sql` are `expected`.
fn await_rows(server: &Server, sql: &str, expected: &[&str]) {
    let began = Instant::now();
    while server.sql(sql) != expected {
        let found = server.sql(sql);
        assert!(began.elapsed() < PATIENCE, "{sql}: {found:?}, expected {expected:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn confluents_client_reads_what_is_written_in_either_encoding() {
    for encoding in ["otlp_proto", "json"] {
        let cluster = Cluster::start(Options::default()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let server = Server::start(directory.path(), &[&log_in(&cluster, encoding)]);
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let event = json!({
            "timestamp": "2026-11-25T10:00:00.123456789Z", "service": "checkout", "level": "INFO",
            "message": "charged 7 €", "event_id": "e1", "trace_id": trace,
            "span_id": "b7ad6b7169203331", "metadata": {"user.id": 42},
        });
        send(&server, &event.to_string());
        let brokers = cluster.addresses().join(",");
        let lines = script("kafka_messages.py", &["read", &brokers, "logs.routine", "1"]);
        let found: Value = serde_json::from_str(&lines[0]).unwrap();
        let expected = json!({
            "service": "checkout", "message": "charged 7 €", "level": "INFO", "trace_id": trace,
            "time_unix_nano": 1_795_600_800_123_456_789_i64, "user": 42, "event_id": "e1",
            "key": "checkout", "schema": "1",
            "traceparent": format!("00-{trace}-b7ad6b7169203331-01"),
        });
        assert_eq!(found, expected, "{encoding}");
        server.stop();
    }
}

#[test]
fn what_confluents_client_writes_is_in_the_tables() {
    let cluster = Cluster::start(Options::default()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[&log_in(&cluster, "otlp_proto")]);
    script("kafka_messages.py", &["write", &cluster.addresses().join(","), "logs.routine"]);
    await_rows(
        &server,
        "SELECT message, level, time_unix_nano % 1000, attributes->>'user.id' FROM logs \
         WHERE service = 'others' AND message = 'otlp'",
        &["otlp,ERROR,1,42"],
    );
    await_rows(
        &server,
        "SELECT level, event_id FROM logs WHERE message = 'native'",
        &["WARN,native-1"],
    );
    await_rows(
        &server,
        "SELECT format, encode(original, 'hex') FROM rejected",
        &["kafka,7b64616d61676564"],
    );
    server.stop();
}

#[test]
fn spark_counts_by_minute_what_the_view_counts() {
    let jars = std::env::var("SPARK_KAFKA_JARS");
    let jars = jars.expect("SPARK_KAFKA_JARS is not set: run these tests by `make test-kafka`");
    let cluster = Cluster::start(Options::default()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let view = "views=[{name: by_minute, lateness_secs: 3600, query: \
        \"SELECT service, count(*) AS events FROM logs GROUP BY tumble('1 minute'), service\"}]";
    let server = Server::start(directory.path(), &[&log_in(&cluster, "json"), view]);
    let lines: Vec<String> = (0..2000)
        .map(|number| {
            let (minute, second) = (number % 7, number % 60);
            format!(
                r#"{{"service":"s{}","level":"INFO","message":"m","timestamp":"2026-11-25T10:{minute:02}:{second:02}Z"}}"#,
                number % 3
            )
        })
        .collect();
    send(&server, &lines.join("\n"));
    let sql = "SELECT to_char(window_start, '%Y-%m-%dT%H:%M:%S'), service, events FROM by_minute \
               ORDER BY window_start, service";
    let began = Instant::now();
    while server.sql("SELECT sum(events) FROM by_minute") != ["2000"] {
        assert!(began.elapsed() < PATIENCE, "the view has {:?}", server.sql(sql));
        std::thread::sleep(Duration::from_millis(100));
    }
    let scratch = directory.path().join("spark");
    let brokers = cluster.addresses().join(",");
    let args = [&*brokers, "logs.routine", &jars, scratch.to_str().unwrap()];
    let spark = script("spark_counts.py", &args);
    assert_eq!(spark.len(), 21);
    assert_eq!(server.sql(sql), spark);
    server.stop();
}
