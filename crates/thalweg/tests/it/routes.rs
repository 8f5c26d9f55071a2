//! Topics by rule: where events go, and that a changed rule loses none.

use std::path::Path;

use serde_json::json;

use crate::{
    server::{Server, post, thalweg},
    views::eventually,
};

const RULES: &str = "\
log:
  routes:
    - {services: [payment, checkout], topic: logs.payment}
    - {environments: [prod-eu], topic: logs.eu}
  topics:
    - {name: logs.payment, partitions: 3}
";

/// Views are checked often, tables written seldom: what is not committed is in the log only.
const SETTINGS: &[&str] = &["stream.checkpoint_interval_ms=100", "lake.flush_interval_ms=3600000"];

fn send(server: &Server, number: usize) {
    let event = |service: &str, environment: &str| {
        let event = json!({"service": service, "environment": environment,
            "message": format!("{service} {number}"), "eventId": format!("{service}-{number}")});
        event.to_string() + "\n"
    };
    let events = [("payment", "prod-us"), ("checkout", ""), ("cart", "prod-eu"), ("cart2", "")];
    let body: String =
        events.iter().map(|(service, environment)| event(service, environment)).collect();
    let (status, text) = post(&format!("{}/api/v1/logs?format=ndjson", server.http), &body);
    assert_eq!(status, 200, "{text}");
}

/// Rows that were appended to each topic of events.
fn rows_by_topic(server: &Server) -> Vec<(String, u64)> {
    let output = server.run(["topics", "--output", "csv"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let mut rows = std::collections::BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("logs.")) {
        let fields: Vec<&str> = line.split(',').collect();
        *rows.entry(fields[0].to_owned()).or_insert(0) += fields[3].parse::<u64>().unwrap();
    }
    rows.into_iter().collect()
}

#[test]
fn rules_come_and_go_and_no_event_is_lost_or_counted_twice() {
    let data = tempfile::tempdir().unwrap();
    let config = data.path().join("config.yaml");
    std::fs::write(&config, RULES).unwrap();
    let view = "CREATE VIEW counts AS SELECT service, count(*) AS events FROM logs \
        GROUP BY tumble(INTERVAL '1 day'), service";
    let start =
        |config: Option<&Path>| Server::start_with(&data.path().join("data"), config, SETTINGS);

    // A view and the templates are there before the first rule.
    let server = start(None);
    let (status, text) =
        post(&format!("{}/api/v1/sql", server.http), &json!({"query": view}).to_string());
    assert_eq!(status, 200, "{text}");
    send(&server, 0);
    server.stop();

    let server = start(Some(&config));
    send(&server, 1);
    send(&server, 2);
    let expected = [("logs.critical", 0), ("logs.eu", 2), ("logs.payment", 4), ("logs.routine", 6)];
    assert_eq!(rows_by_topic(&server), expected.map(|(topic, rows)| (topic.to_owned(), rows)));
    server.kill();

    // The rules are gone: what only the log has of their topics is still read, each event once, and
    // one that is sent again is recognised.
    let server = start(None);
    send(&server, 2);
    send(&server, 3);
    let expected =
        [("logs.critical", 0), ("logs.eu", 2), ("logs.payment", 4), ("logs.routine", 10)];
    assert_eq!(rows_by_topic(&server), expected.map(|(topic, rows)| (topic.to_owned(), rows)));
    let all = ["cart,4", "cart2,4", "checkout,4", "payment,4"];
    assert_eq!(server.sql("SELECT service, count(*) FROM logs GROUP BY 1 ORDER BY 1"), all);
    eventually(&server, "SELECT service, sum(events) FROM counts GROUP BY 1 ORDER BY 1", &all);
    eventually(&server, "SELECT sum(events) FROM templates", &["16"]);
    server.stop();
}

#[test]
fn a_mistake_in_a_rule_is_shown_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config.yaml");
    for (rule, place, expected) in [
        ("{services: [a], topic: payment}", "line 3", "expected a topic `logs.NAME`"),
        ("{service: [a], topic: logs.a}", "line 3", "unknown field `service`"),
        ("{topic: logs.a}", "line 3", "expected `services` or `environments`"),
    ] {
        std::fs::write(&config, format!("log:\n  routes:\n    - {rule}\n")).unwrap();
        let output = thalweg().arg("check").arg(&config).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains(expected) && told.contains(place), "{told}");
    }
}
