//! Continuous views, from configuration and statements to answers.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    server::{Server, post, thalweg},
    weblog::{CONFIG, WEBLOG},
};

/// Checkpoints come often, so that tests need not wait.
const SETTINGS: &[&str] = &["stream.checkpoint_interval_ms=100"];
/// Checkpoints come often, no views but those of the test are kept, and no rows are too old.
const ALONE: &[&str] = &[
    "stream.checkpoint_interval_ms=100",
    "stream.builtin_views=false",
    "lake.retention_days=3650",
];
/// Longest that a view may take to show what it should.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `sql` answers `expected`.
#[track_caller]
pub(crate) fn eventually(server: &Server, sql: &str, expected: &[&str]) {
    let start = Instant::now();
    loop {
        let found = server.sql(sql);
        if found == expected {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{sql}: found {found:?}, expected {expected:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What the server says to a statement.
fn say(server: &Server, sql: &str) -> (u16, String) {
    post(&format!("{}/api/v1/sql", server.http), &json!({ "query": sql }).to_string())
}

pub(crate) fn send(server: &Server, events: &[(&str, &str)]) {
    let body: String = events
        .iter()
        .map(|(timestamp, service)| {
            json!({"timestamp": timestamp, "service": service, "message": "hello"}).to_string()
                + "\n"
        })
        .collect();
    let (status, text) = post(&format!("{}/api/v1/logs?format=ndjson", server.http), &body);
    assert_eq!(status, 200, "{text}");
}

#[test]
fn the_public_web_log_by_minute_and_status_equals_batch_sql() {
    if !Path::new(WEBLOG).exists() {
        eprintln!("SKIPPED: {WEBLOG} is absent, so views of the real web log were NOT tested");
        return;
    }
    let (data, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // The file's lines are out of order by up to 26 days.
    let view = "\nviews:\n  - name: by_status\n    lateness_secs: 2592000\n    idle_secs: 1\n    query: \
        SELECT http_status, count(*) AS requests, count(DISTINCT client_ip) AS clients FROM logs \
        GROUP BY tumble(INTERVAL '1 minute'), http_status\n";
    let config = data.path().join("config.yaml");
    std::fs::write(&config, std::fs::read_to_string(CONFIG).unwrap() + view).unwrap();
    let server = Server::start_with(&data.path().join("data"), Some(&config), SETTINGS);
    let ingest = thalweg()
        .env("XDG_STATE_HOME", state.path())
        .args(["ingest", "--url", &server.http, "--format", "weblog", WEBLOG])
        .status();
    assert!(ingest.unwrap().success());
    eventually(&server, "SELECT sum(requests) FROM by_status", &["15789"]);
    // A later event closes all windows.
    send(&server, &[("2018-06-01T00:00:00Z", "later")]);
    let final_rows = "SELECT window_start, http_status, requests, clients FROM by_status \
        WHERE is_final ORDER BY 1, 2 LIMIT 20000";
    let batch = "SELECT tumble(INTERVAL '1 minute', timestamp), http_status, count(*), \
        count(DISTINCT client_ip) FROM logs WHERE service = 'web' GROUP BY 1, 2 ORDER BY 1, 2 \
        LIMIT 20000";
    eventually(&server, "SELECT sum(requests) FROM by_status WHERE is_final", &["15789"]);
    let (view, batch) = (server.sql(final_rows), server.sql(batch));
    assert!(batch.len() > 2_000, "{}", batch.len());
    assert!(view == batch, "{} rows in the view, {} in batch SQL", view.len(), batch.len());
    assert_eq!(server.sql("SELECT count(*) FROM late_events"), ["0"]);
}

#[test]
fn a_view_created_by_statement_joins_history_and_what_comes_and_survives_restarts() {
    let data = tempfile::tempdir().unwrap();
    let settings = [SETTINGS, &["lake.flush_interval_ms=100"]].concat();
    let server = Server::start(data.path(), &settings);
    let day = "2026-01-05T10:00";
    let at = |second: u32| format!("{day}:{second:02}Z");
    let events: Vec<String> = (0..40).map(at).collect();
    let (before, after) = events.split_at(20);
    let sent = |times: &[String]| {
        send(&server, &times.iter().map(|time| (time.as_str(), "a")).collect::<Vec<_>>());
    };
    // Some is in the lake when the view begins, some still in the log behind it.
    sent(&before[..10]);
    std::thread::sleep(Duration::from_millis(500));
    sent(&before[10..]);
    let create = "CREATE VIEW per_ten WITH (lateness_secs = 60, backfill = true) AS \
        SELECT service, count(*) AS events FROM logs GROUP BY tumble(INTERVAL '10 seconds'), service";
    let (status, text) = say(&server, create);
    assert_eq!(status, 200, "{text}");
    assert!(text.contains("view per_ten created"), "{text}");
    sent(after);
    let counts = "SELECT events FROM per_ten ORDER BY window_start";
    eventually(&server, counts, &["10", "10", "10", "10"]);

    let (status, text) = say(&server, create);
    assert_eq!(status, 400, "{text}");
    assert!(text.contains("already"), "{text}");
    let (status, text) = say(
        &server,
        "CREATE VIEW minutes AS SELECT sum(events) AS events FROM per_ten GROUP BY tumble(INTERVAL '1 minute')",
    );
    assert_eq!(status, 200, "{text}");
    let (status, text) = say(&server, "DROP VIEW per_ten");
    assert_eq!((status, text.contains("read by view `minutes`")), (400, true), "{text}");

    server.kill();
    let server = Server::start(data.path(), &settings);
    eventually(&server, counts, &["10", "10", "10", "10"]);
    // Ten minutes later all windows are closed, and the view above has them.
    send(&server, &[("2026-01-05T10:11:00Z", "b"), ("2026-01-05T10:22:00Z", "b")]);
    eventually(
        &server,
        "SELECT events FROM per_ten WHERE is_final AND service = 'a' ORDER BY window_start",
        &["10"; 4],
    );
    eventually(&server, "SELECT events FROM minutes ORDER BY window_start LIMIT 1", &["40"]);
    // What comes too late is not counted, and not lost.
    send(&server, &[("2026-01-05T10:00:05Z", "a")]);
    // How late goes on with the clock while nothing comes.
    let late = "SELECT late_ms >= 1250000, event FROM late_events WHERE view = 'per_ten'";
    let event = r#"true,"{""service"":""a"",""timestamp"":""2026-01-05T10:00:05Z""}""#;
    eventually(&server, late, &[event]);

    for statement in ["DROP VIEW minutes", "DROP VIEW per_ten", "DROP VIEW IF EXISTS per_ten"] {
        let (status, text) = say(&server, statement);
        assert_eq!(status, 200, "{statement}: {text}");
    }
    let (status, text) = say(&server, counts);
    assert_eq!((status, text.contains("per_ten")), (400, true), "{text}");
    server.stop();
    let server = Server::start(data.path(), &settings);
    assert_eq!(say(&server, counts).0, 400, "a dropped view stays away");
    let left: Vec<_> =
        walk(data.path()).into_iter().filter(|path| path.contains("per_ten")).collect();
    assert!(left.is_empty(), "{left:?}");
}

const PER_TEN: &str = "SELECT count(*) AS events FROM logs GROUP BY tumble(INTERVAL '10 seconds')";
const CLOSED: &str = "SELECT events FROM per_ten WHERE is_final ORDER BY window_start";

/// Two windows of ten seconds with one event, which a later event closes.
fn close_two(server: &Server) {
    for minute in [0, 10, 20] {
        send(server, &[(format!("2026-01-05T10:{minute:02}:00Z").as_str(), "a")]);
    }
    eventually(server, CLOSED, &["1", "1"]);
}

#[test]
fn a_configured_view_can_have_a_query_again_that_it_had_before() {
    let data = tempfile::tempdir().unwrap();
    let config = data.path().join("config.yaml");
    let start = |query: &str| {
        let view = format!("views:\n  - name: per_ten\n    backfill: true\n    query: {query}\n");
        std::fs::write(&config, view).unwrap();
        Server::start_with(&data.path().join("data"), Some(&config), ALONE)
    };
    let server = start(PER_TEN);
    close_two(&server);
    server.stop();
    let server = start(&PER_TEN.replace("logs", "logs WHERE service = 'b'"));
    assert_eq!(server.sql(CLOSED), Vec::<String>::new());
    server.stop();
    let server = start(PER_TEN);
    eventually(&server, CLOSED, &["1", "1"]);
    let aside = walk(data.path()).into_iter().filter(|path| path.contains("former.view.per_ten."));
    assert!(aside.count() > 0, "the former table is not lost");
}

#[test]
fn a_created_view_that_cannot_be_begun_keeps_what_it_has() {
    let data = tempfile::tempdir().unwrap();
    let none = [ALONE, &["stream.max_views=0"]].concat();
    let server = Server::start(data.path(), ALONE);
    assert_eq!(say(&server, &format!("CREATE VIEW per_ten AS {PER_TEN}")).0, 200);
    close_two(&server);
    // Its rows are in the topic, not in the table yet.
    server.kill();
    let server = Server::start(data.path(), &none);
    assert_eq!(say(&server, CLOSED).0, 400);
    server.kill();
    let server = Server::start(data.path(), ALONE);
    assert_eq!(server.sql(CLOSED), ["1", "1"]);
    server.stop();

    let source = "sources=[{name: per_ten, kafka: {brokers: [\"a:1\"], topic: t, format: json}}]";
    let files = "query.tables=[{name: per_ten, path: f.csv}]";
    for taken in [source, files] {
        let data = data.path().to_str().unwrap();
        let output =
            thalweg().args(["serve", "--data-dir", data, "--set", taken]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains("the name is taken by a view"), "{text}");
    }
    let server = Server::start(data.path(), &none);
    assert_eq!(say(&server, "DROP VIEW per_ten").0, 200);
    let left = walk(data.path()).into_iter().filter(|path| path.contains("per_ten"));
    assert_eq!(left.collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn a_view_begins_anew_where_a_table_of_its_name_was_left() {
    let data = tempfile::tempdir().unwrap();
    let create = format!("CREATE VIEW per_ten WITH (backfill = true) AS {PER_TEN}");
    let server = Server::start(data.path(), ALONE);
    assert_eq!(say(&server, &create).0, 200);
    close_two(&server);
    server.stop();
    let server = Server::start(data.path(), ALONE);
    let all = walk(&data.path().join("lake")).into_iter();
    let table = all.min_by_key(|path| (!path.contains("view.per_ten."), path.len())).unwrap();
    let copy = |from: &str, to: &str| Command::new("cp").args(["-r", from, to]).status().unwrap();
    let kept = data.path().join("kept").display().to_string();
    // As after a kill amid the statement.
    assert!(copy(&table, &kept).success());
    assert_eq!(say(&server, "DROP VIEW per_ten").0, 200);
    assert!(copy(&kept, &table).success());
    let (status, text) = say(&server, &create);
    assert_eq!(status, 200, "{text}");
    eventually(&server, CLOSED, &["1", "1"]);
}

fn walk(directory: &Path) -> Vec<String> {
    let mut found = vec![];
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        found.push(path.display().to_string());
        if path.is_dir() {
            found.extend(walk(&path));
        }
    }
    found
}

#[test]
fn the_built_in_views_show_health_and_attacks() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), SETTINGS);
    let event = |n: usize, status: u16, path: &str| {
        json!({"service": "web", "message": "request", "http_status": status, "http_path": path,
               "client_ip": "203.0.113.9", "duration_ms": n, "metadata": {"user.id": format!("u{n}")}})
        .to_string()
            + "\n"
    };
    let mut body: String = (1..=30).map(|n| event(n, 401, "/login")).collect();
    body += &event(31, 200, "/download?file=../../etc/passwd");
    body += &event(32, 500, "/boom");
    let (status, text) = post(&format!("{}/api/v1/logs?format=ndjson", server.http), &body);
    assert_eq!(status, 200, "{text}");
    eventually(
        &server,
        "SELECT service, sum(events), sum(errors), sum(requests), sum(failed_requests) FROM service_health GROUP BY service",
        &["web,32,1,32,1"],
    );
    eventually(
        &server,
        "SELECT client_ip, sum(unauthorized), sum(not_found) FROM refused_clients GROUP BY 1",
        &["203.0.113.9,30,0"],
    );
    eventually(
        &server,
        "SELECT client_ip, probes, answered, example FROM probing_clients",
        &["203.0.113.9,1,1,/download?file=../../etc/passwd"],
    );
    eventually(&server, "SELECT client_ip, accounts FROM account_sweeps", &["203.0.113.9,30"]);
}

#[test]
fn messages_are_counted_by_template_and_ids_outlive_restarts() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), SETTINGS);
    let log = |server: &Server, from: usize| {
        let line = |n: usize| {
            let message = match n % 3 {
                0 => format!("session {n} closed after {} ms", n * 7),
                _ => format!("connection from 10.0.0.{n} refused"),
            };
            json!({"service": "web", "message": message}).to_string() + "\n"
        };
        let body: String = (from..from + 30).map(line).collect();
        let (status, text) = post(&format!("{}/api/v1/logs?format=ndjson", server.http), &body);
        assert_eq!(status, 200, "{text}");
    };
    let templates = "SELECT template, events FROM templates WHERE events > 9 ORDER BY events DESC";
    log(&server, 0);
    eventually(
        &server,
        templates,
        &["connection from <*> refused,20", "session <*> closed after <*>,10"],
    );
    eventually(
        &server,
        "SELECT sum(events) FROM top_templates WHERE template_id IS NOT NULL",
        &["30"],
    );
    let id = "SELECT DISTINCT template_id(message), template(message) FROM logs WHERE message LIKE 'session%'";
    let before = server.sql(id);
    assert_eq!(before.len(), 1, "{before:?}");
    assert!(before[0].ends_with(",session <*> closed after <*>"), "{before:?}");
    server.stop();

    let server = Server::start(data.path(), SETTINGS);
    assert_eq!(server.sql(id), before);
    log(&server, 30);
    eventually(
        &server,
        templates,
        &["connection from <*> refused,40", "session <*> closed after <*>,20"],
    );
}

/// Milliseconds after ten o'clock.
fn nanos(millis: u64) -> String {
    (1_767_607_200_000_000_000 + millis * 1_000_000).to_string()
}

/// One span of ten milliseconds as OTLP/JSON.
fn span(trace: u64, id: u64, parent: u64, service: &str, start_ms: u64, failed: bool) -> Value {
    let parent = if parent == 0 { String::new() } else { format!("{parent:016x}") };
    json!({
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]},
        "scopeSpans": [{"spans": [{
            "traceId": format!("{trace:032x}"), "spanId": format!("{id:016x}"), "parentSpanId": parent,
            "name": "call", "kind": 2,
            "startTimeUnixNano": nanos(start_ms), "endTimeUnixNano": nanos(start_ms + 10),
            "status": {"code": if failed { 2 } else { 1 }},
        }]}],
    })
}

fn send_spans(server: &Server, spans: Vec<Value>) {
    let (status, text) =
        post(&format!("{}/v1/traces", server.http), &json!({"resourceSpans": spans}).to_string());
    assert_eq!((status, text.as_str()), (200, "{}"));
}

#[test]
fn the_map_of_services_shows_who_calls_whom() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), SETTINGS);
    let mut callees = vec![];
    let mut callers = vec![];
    for trace in 1..=20 {
        let start = trace * 50;
        callers.push(span(trace, trace * 10, 0, "web", start, false));
        callees.push(span(trace, trace * 10 + 1, trace * 10, "checkout", start + 1, false));
        // A span below one of the same service is no call of another.
        callees.push(span(trace, trace * 10 + 2, trace * 10 + 1, "checkout", start + 2, false));
        callees.push(span(
            trace,
            trace * 10 + 3,
            trace * 10 + 2,
            "payment",
            start + 3,
            trace % 4 == 0,
        ));
    }
    // The same ids in another trace, and a caller that nobody has seen, are no calls either.
    callees.push(span(999, 11, 10, "search", 40, false));
    callees.push(span(1, 77, 12_345, "search", 41, false));
    send_spans(&server, callees);
    send_spans(&server, callers);
    eventually(
        &server,
        "SELECT caller, callee, calls, errors, error_rate, round(p99_ms) FROM service_map ORDER BY 1",
        &["checkout,payment,20,5,0.25,10.0", "web,checkout,20,0,0.0,10.0"],
    );
}

#[test]
fn a_view_joins_spans_with_their_error_logs_from_history_on() {
    let data = tempfile::tempdir().unwrap();
    let settings = [SETTINGS, &["lake.flush_interval_ms=100"]].concat();
    let server = Server::start(data.path(), &settings);
    let fail = |traces: std::ops::Range<u64>| {
        let span = |n: u64| span(n + 1, n + 1, 0, "payment", n * 500, true);
        send_spans(&server, traces.clone().map(span).collect());
        let body: String = traces
            .map(|n| {
                let timestamp = format!("2026-01-05T10:00:{:02}.250Z", n / 2);
                json!({"timestamp": timestamp, "service": "payment", "level": "ERROR",
                       "message": "no connection", "trace_id": format!("{:032x}", n + 1)})
                .to_string()
                    + "\n"
            })
            .collect();
        let (status, text) = post(&format!("{}/api/v1/logs?format=ndjson", server.http), &body);
        assert_eq!(status, 200, "{text}");
    };
    // Some is in the lake when the view begins, some still in the log behind it, some comes later.
    fail(0..20);
    std::thread::sleep(Duration::from_millis(500));
    fail(20..40);
    let select = "SELECT s.service, l.message, count(*) AS failures, max(s.duration_ms) AS worst_ms \
        FROM spans s JOIN logs l ON s.trace_id = l.trace_id \
            AND l.timestamp BETWEEN s.timestamp - INTERVAL '1 second' AND s.timestamp + INTERVAL '1 second' \
        WHERE l.severity_number >= 17";
    let (status, text) = say(
        &server,
        &format!(
            "CREATE VIEW failures WITH (lateness_secs = 60, backfill = true) AS {select} \
             GROUP BY tumble(INTERVAL '10 seconds', s.timestamp), s.service, l.message"
        ),
    );
    assert_eq!(status, 200, "{text}");
    fail(40..60);
    let batch = format!("{select} GROUP BY tumble(INTERVAL '10 seconds', s.timestamp), 1, 2");
    eventually(&server, &format!("SELECT count(*), sum(failures) FROM ({batch})"), &["3,60"]);
    let columns = "service, message, failures, worst_ms";
    eventually(
        &server,
        &format!("SELECT {columns} FROM failures ORDER BY window_start"),
        &["payment,no connection,20,10.0"; 3],
    );
}
