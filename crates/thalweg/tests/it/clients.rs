//! Users' own clients: the OpenTelemetry SDK, those of Elasticsearch, Loki and Splunk, rsyslog,
//! psql, psycopg, DuckDB and deltalake.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::server::{Server, get, post};

const SCRIPTS: &str = "../../clients";

/// The Python of `make test`, with the clients installed.
fn python() -> Option<PathBuf> {
    let python = std::env::var_os("CLIENTS_PYTHON").map(PathBuf::from);
    let python = python.filter(|python| python.exists());
    if python.is_none() {
        eprintln!(
            "SKIPPED: CLIENTS_PYTHON is not set (`make test` does), so Python clients were NOT tested"
        );
    }
    python
}

/// Runs a client script and returns what it printed.
fn script(python: &PathBuf, name: &str, args: &[&str]) -> String {
    let script = PathBuf::from(SCRIPTS).join(name);
    let output = Command::new(python).arg(script).args(args).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{name}: {}{}", text(&output.stdout), text(&output.stderr));
    assert!(!text(&output.stderr).contains("Failed to export"), "{name}: {}", text(&output.stderr));
    text(&output.stdout).trim().to_owned()
}

fn send(server: &Server, lines: &str) {
    let (status, answer) = post(&format!("{}/api/v1/logs?format=ndjson", server.http), lines);
    assert_eq!(status, 200, "{answer}");
}

#[test]
fn the_opentelemetry_sdk_exports_logs_that_are_found_by_trace_id() {
    let Some(python) = python() else { return };
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    for (protocol, endpoint, trace_id) in [
        ("http", &server.http, "0af7651916cd43dd8448eb211c80319c"),
        ("grpc", &format!("http://{}", server.otlp_grpc), "1af7651916cd43dd8448eb211c80319d"),
    ] {
        script(&python, "otel_logs.py", &[protocol, endpoint, trace_id]);
        let columns = "level, severity_number, http_method, http_status, span_id, host, environment, \
                       attributes->>'user.id', resource->>'team', replace(message, chr(10), '|')";
        let rows = server.sql(&format!(
            "SELECT {columns} FROM logs WHERE trace_id = '{trace_id}' AND service = 'otel-{protocol}' ORDER BY severity_number"
        ));
        assert_eq!(
            rows,
            [
                "INFO,9,POST,201,0102030405060708,box,test,,sre,charged 7 € for café|and tea",
                "ERROR,17,,,0102030405060708,box,test,42,sre,card refused",
            ]
        );
        let outside = format!(
            "SELECT message FROM logs WHERE service = 'otel-{protocol}' AND trace_id IS NULL"
        );
        assert_eq!(server.sql(&outside), ["outside of any trace"]);
    }
}

#[test]
fn elasticsearchs_client_indexes_documents_and_each_is_stored_once() {
    let Some(python) = python() else { return };
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    assert_eq!(script(&python, "elasticsearch_bulk.py", &[&server.http]), "ok");
    let by_level = "SELECT level, count(*), count(DISTINCT trace_id), count(DISTINCT event_id) \
                    FROM logs WHERE service = 'orders' GROUP BY level ORDER BY level";
    assert_eq!(server.sql(by_level), ["ERROR,10,10,10", "INFO,990,990,990"]);
    let one = format!(
        "SELECT event_id, http_method, http_status, attributes->>'elasticsearch.index', \
         attributes->'order'->>'id', replace(message, chr(10), '|') \
         FROM logs WHERE trace_id = '{:032x}'",
        7
    );
    let index = "orders-2026.11.25";
    let row = format!("{index}/order-7,POST,201,{index},7,order 7 für 7 €|thanks");
    assert_eq!(server.sql(&one), [row]);
    assert_eq!(server.sql("SELECT message FROM logs WHERE service = 'billing'"), ["fine"]);
    let rejected = "SELECT count(*) FROM rejected WHERE format = 'elasticsearch-bulk'";
    assert_eq!(server.sql(rejected), ["2"]);
}

#[test]
fn a_client_of_loki_pushes_lines_with_labels() {
    let Some(python) = python() else { return };
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    assert_eq!(script(&python, "loki_push.py", &[&server.http]), "ok");
    let cart = "SELECT level, attributes->>'zone', attributes->>'user', replace(message, chr(10), '|') \
                FROM logs WHERE service = 'cart' ORDER BY timestamp";
    assert_eq!(server.sql(cart), ["INFO,eu,,added café|to the cart", "ERROR,eu,7,cart is full"]);
    let agent = "SELECT time_unix_nano, level, message, trace_id, attributes->>'pod', \
                 attributes->>'loki.tenant' FROM logs WHERE service = 'agent' ORDER BY 1";
    assert_eq!(
        server.sql(agent),
        [
            "1764064800000000001,WARN,first,2af7651916cd43dd8448eb211c80319e,p-1,team-a",
            "1764064800000000002,WARN,,,,team-a",
            "1764064800000000003,WARN,third,,,",
        ]
    );
    let reason = server.sql("SELECT reason FROM rejected WHERE format = 'loki-json'").join("");
    assert!(reason.contains("timestamp: expected nanoseconds"), "{reason}");
}

#[test]
fn clients_of_splunks_collector_are_acknowledged_what_is_stored() {
    let Some(python) = python() else { return };
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    assert_eq!(script(&python, "splunk_hec.py", &[&server.http]), "ok");
    let columns = "service, host, level, attributes->>'region', attributes->'user'->>'id', \
                   time_unix_nano, replace(message, chr(10), '|')";
    let orders =
        format!("SELECT {columns} FROM logs WHERE service = 'shop:order' ORDER BY timestamp");
    assert_eq!(
        server.sql(&orders),
        [
            "shop:order,h1,,,,1764064800123000000,ordered für 7 €|thanks",
            "shop:order,,ERROR,eu,42,1764064801123456789,refused",
        ]
    );
    let others = "SELECT service, message FROM logs WHERE service <> 'shop:order' ORDER BY message";
    assert_eq!(
        server.sql(others),
        [
            "shop:raw,WARN line one",
            "shop:handler,from the handler",
            "unknown_service,kept",
            "shop:raw,line two",
        ]
    );
    let rejected = "SELECT record_index, reason FROM rejected WHERE format = 'splunk-events'";
    assert_eq!(server.sql(rejected), ["1,\"event: required, but missing\""]);
}

/// A program started by a test; stopped when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Longest that rsyslog may take to start, read a file and send it.
const RSYSLOG_TIMEOUT: Duration = Duration::from_secs(30);

#[test]
fn rsyslog_forwards_a_file_through_its_elasticsearch_output() {
    let rsyslogd = Path::new("/usr/sbin/rsyslogd");
    if !rsyslogd.exists() {
        eprintln!(
            "SKIPPED: rsyslog is not installed (`make test` installs it), so it was NOT tested"
        );
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(&directory.path().join("data"), &[]);
    let (log_file, work) = (directory.path().join("till.log"), directory.path().join("work"));
    std::fs::create_dir(&work).unwrap();
    std::fs::write(&log_file, "first \"quoted\" line\nzweite Zeile für 7 €\nlast\n").unwrap();
    let config = std::fs::read_to_string(Path::new(SCRIPTS).join("rsyslog.conf")).unwrap();
    let config = config
        .replace("LOG_FILE", log_file.to_str().unwrap())
        .replace("WORK_DIRECTORY", work.to_str().unwrap())
        .replace("PORT", server.http.rsplit(':').next().unwrap());
    let config_file = directory.path().join("rsyslog.conf");
    std::fs::write(&config_file, config).unwrap();
    let mut command = Command::new(rsyslogd);
    command.args(["-n", "-f"]).arg(&config_file).arg("-i").arg(directory.path().join("pid"));
    let _rsyslog = Running(command.stdin(Stdio::null()).spawn().unwrap());

    let lines = "SELECT level, attributes->>'elasticsearch.index', message FROM logs \
                 WHERE service = 'till' ORDER BY time_unix_nano";
    let begun = Instant::now();
    let rows = loop {
        let rows = server.sql(lines);
        if rows.len() >= 3 || begun.elapsed() > RSYSLOG_TIMEOUT {
            break rows;
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    assert_eq!(
        rows,
        [
            "WARN,syslog,\"first \"\"quoted\"\" line\"",
            "WARN,syslog,zweite Zeile für 7 €",
            "WARN,syslog,last",
        ]
    );
}

#[test]
fn the_opentelemetry_sdk_exports_spans_that_make_a_trace_with_their_logs() {
    let Some(python) = python() else { return };
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    for (protocol, endpoint) in
        [("http", &server.http), ("grpc", &format!("http://{}", server.otlp_grpc))]
    {
        let trace_id = script(&python, "otel_traces.py", &[protocol, endpoint]);
        script(&python, "otel_logs.py", &[protocol, endpoint, &trace_id]);
        let columns = "service, kind, status_code, status_message, http_method, http_path, http_status, host, \
                       environment, attributes->>'user.id', resource->>'team', scope->>'name', \
                       duration_ms > 0, parent_span_id IS NULL, replace(name, chr(10), '|')";
        let rows = server.sql(&format!(
            "SELECT {columns} FROM spans WHERE trace_id = '{trace_id}' ORDER BY service"
        ));
        let expected = [
            "checkout-PROTOCOL,SERVER,UNSET,,POST,/checkout,502,box,test,42,sre,shop,true,true,POST /checkout",
            "payment-PROTOCOL,CLIENT,ERROR,refused,,,,box,test,,sre,bank,true,false,charge 7 € for café|and tea",
        ];
        assert_eq!(rows, expected.map(|row| row.replace("PROTOCOL", protocol)));

        let answer = get(&format!("{}/api/v1/traces/{trace_id}", server.http));
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let entries = answer["entries"].as_array().unwrap();
        let (root, child) = (&entries[0], &entries[1]);
        assert_eq!((&root["depth"], &child["depth"]), (&0.into(), &1.into()), "{answer}");
        assert_eq!(root["span"]["service"], format!("checkout-{protocol}"));
        assert_eq!(root["span"]["links"][0]["attributes"]["why"], "retry");
        assert_eq!(child["span"]["parent_span_id"], root["span"]["span_id"]);
        let event = &child["span"]["events"][0];
        assert_eq!(
            (&event["name"], &event["attributes"]["tags"][1]),
            (&"card refused".into(), &"b".into())
        );
        assert_eq!((&answer["spans"], &answer["logs"]), (&2.into(), &2.into()), "{answer}");
        assert!(entries.iter().any(|entry| entry["log"]["message"] == "card refused"), "{answer}");
    }
}

const THREE_EVENTS: &str = r#"
{"service":"psycopg","level":"INFO","message":"one","timestamp":"2026-01-02T03:04:04Z","http_status":200}
{"service":"psycopg","level":"INFO","message":"two","timestamp":"2026-01-02T03:04:04Z"}
{"service":"psycopg","level":"ERROR","message":"three","timestamp":"2026-01-02T03:04:05.678901Z","http_status":503,"duration_ms":12.5,"metadata":{"user.id":42}}
"#;

#[test]
fn psycopg_reads_with_parameters_in_text_and_binary() {
    let Some(python) = python() else { return };
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    send(&server, THREE_EVENTS);
    let port = server.postgres.rsplit(':').next().unwrap();
    assert_eq!(script(&python, "psycopg_queries.py", &[port]), "ok");
}

#[test]
fn psql_describes_tables_and_answers_queries() {
    if Command::new("psql").arg("--version").output().is_err() {
        eprintln!("SKIPPED: psql is not installed (`make test` installs it), so it was NOT tested");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    send(&server, THREE_EVENTS);
    let port = server.postgres.rsplit(':').next().unwrap();
    let psql = |command: &str| {
        let output = Command::new("psql")
            .args(["-h", "127.0.0.1", "-p", port, "-U", "thalweg", "-At", "-c", command])
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{command}: {error}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(
        psql("SELECT level, count(*) FROM logs GROUP BY level ORDER BY level"),
        "ERROR|1\nINFO|2"
    );
    let tables = psql("\\d");
    assert!(tables.contains("logs") && tables.contains("rejected"), "{tables}");
    let columns = psql("\\d logs");
    assert!(
        columns.contains("trace_id") && columns.contains("timestamp with time zone"),
        "{columns}"
    );
}

#[test]
fn other_engines_read_the_table_and_count_the_same_rows() {
    let Some(python) = python() else { return };
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["lake.flush_interval_ms=100"]);
    for part in 0..10 {
        let line = |n: usize| {
            format!(r#"{{"service":"s{}","level":"INFO","message":"m{n}"}}"#, n % 7) + "\n"
        };
        send(&server, &(part * 500..(part + 1) * 500).map(line).collect::<String>());
    }
    assert_eq!(server.sql("SELECT count(*) FROM logs"), ["5000"]);
    server.stop();
    let table = directory.path().join("lake/logs");
    assert_eq!(script(&python, "read_delta.py", &[table.to_str().unwrap()]), "5000 5000 5000");
}
