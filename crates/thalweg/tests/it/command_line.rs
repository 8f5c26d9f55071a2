//! The command line: exit codes, errors that help, and the demonstration's own check.

use std::{
    io::{Read as _, Write as _},
    process::{Command, Stdio},
};

use crate::server::{Server, binary, demonstrate, demonstrate_incident, post, thalweg};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn exit_codes_tell_success_failure_and_usage_apart() {
    assert_eq!(thalweg().arg("--version").output().unwrap().status.code(), Some(0));
    assert_eq!(thalweg().arg("nonsense").output().unwrap().status.code(), Some(2));
    let unreachable =
        thalweg().args(["query", "--url", "http://127.0.0.1:9", "SELECT 1"]).output().unwrap();
    assert_eq!(unreachable.status.code(), Some(1));
    assert!(text(&unreachable.stderr).contains("thalweg serve"), "{}", text(&unreachable.stderr));
}

#[test]
fn check_points_at_the_line_and_column_of_each_mistake() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"listen:\n  http: 0.0.0.0:7070\nquery:\n  max_rowz: 3\n").unwrap();
    let output = thalweg().arg("check").arg(file.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = text(&output.stderr);
    for part in ["line 2", "can be reached from other machines", "line 4", "max_rowz", "2 mistakes"]
    {
        assert!(errors.contains(part), "`{part}` is not in {errors}");
    }
    for example in ["examples/weblog.yaml", "examples/thalweg.yaml", "deploy/thalweg.yaml"] {
        let path = format!("../../{example}");
        let output = thalweg().arg("check").arg(path).output().unwrap();
        assert!(output.status.success(), "{example}: {}", text(&output.stderr));
    }
}

#[test]
fn check_points_at_mistakes_in_the_settings_of_kafka() {
    let check = |settings: &str| {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(settings.as_bytes()).unwrap();
        let output = thalweg().arg("check").arg(file.path()).output().unwrap();
        (output.status.code(), text(&output.stderr))
    };
    let (code, errors) = check("log:\n  kafka:\n    brokers: [kafka]\n    encodin: json\n");
    assert_eq!(code, Some(1));
    for part in ["line 3", "a broker's address such as kafka-1:9092", "line 4", "encodin"] {
        assert!(errors.contains(part), "`{part}` is not in {errors}");
    }
    let (code, errors) = check("log:\n  kafka:\n    brokers: []\n");
    assert_eq!(code, Some(1));
    assert!(errors.contains("log.kafka: brokers: expected one `host:port` or more"), "{errors}");
    let good = "log:\n  kafka:\n    brokers: [kafka-1:9092]\n    encoding: json\n";
    assert_eq!(check(good), (Some(0), String::new()));
}

#[test]
fn topics_and_the_lag_of_groups_are_shown() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["lake.flush_interval_ms=100"]);
    let event = r#"{"service":"a","message":"m"}"#;
    assert_eq!(post(&format!("{}/api/v1/logs", server.http), event).0, 200);
    let csv = |command| text(&server.run([command, "--output", "csv"]).stdout);
    let topics = csv("topics");
    assert!(topics.starts_with("topic,partition,start,end\n"), "{topics}");
    assert!(topics.contains("\nlogs.routine,0,0,1\n"), "{topics}");
    let is_read = || csv("groups").contains("\nlake/logs,logs.routine,0,1,1,0\n");
    let began = std::time::Instant::now();
    while !is_read() {
        assert!(began.elapsed().as_secs() < 30, "{}", csv("groups"));
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    server.stop();
}

#[test]
fn schemas_and_completions_are_printed() {
    let output = |args: &[&str]| {
        let output = thalweg().args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    };
    assert!(output(&["schema"]).contains("trace_id"));
    assert!(output(&["schema", "spans"]).contains("parent_span_id"));
    let config: serde_json::Value = serde_json::from_str(&output(&["schema", "config"])).unwrap();
    assert!(config["properties"]["listen"].is_object(), "{config}");
    let openapi: serde_json::Value = serde_json::from_str(&output(&["schema", "openapi"])).unwrap();
    for path in [
        "/api/v1/logs",
        "/api/v1/sql",
        "/v1/logs",
        "/v1/traces",
        "/api/v1/traces/{trace_id}",
        "/api/v1/logs/tail",
        "/healthz",
        "/readyz",
        "/metrics",
    ] {
        assert!(openapi["paths"][path].is_object(), "{path} is not documented");
    }
    assert!(output(&["completions", "bash"]).contains("thalweg"));
}

#[test]
fn a_short_demonstration_checks_itself() {
    demonstrate_incident(&[]);
}

#[test]
fn without_an_incident_no_alert_fires() {
    let printed = demonstrate(&["--for", "20s", "--rate", "100", "--no-incident"]);
    assert!(!printed.contains("── incident"), "{printed}");
    assert!(printed.contains("check: no alert fired"), "{printed}");
}

#[test]
fn doctor_names_what_it_examined() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let address = server.http.trim_start_matches("http://");
    let output = thalweg()
        .args(["doctor", "--set", &format!("listen.http={address}"), "--data-dir"])
        .arg(directory.path())
        .output()
        .unwrap();
    let printed = text(&output.stdout);
    assert!(output.status.success(), "{printed}{}", text(&output.stderr));
    for part in ["data directory", "fsync", "free space", "server", "ready"] {
        assert!(printed.contains(part), "`{part}` is not in {printed}");
    }
}

#[test]
fn an_interrupted_ingest_goes_on_without_repeating_rows() {
    let (data, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(data.path(), &[]);
    let file = data.path().join("events.ndjson");
    let line =
        |n: usize| format!(r#"{{"service":"s","message":"{}","n":{n}}}"#, "x".repeat(300)) + "\n";
    std::fs::write(&file, (0..100_000).map(line).collect::<String>()).unwrap();
    let ingest = || {
        let mut command = thalweg();
        command
            .env("XDG_STATE_HOME", state.path())
            .args(["ingest", "--url", &server.http])
            .arg(&file);
        command
    };
    for _ in 0..3 {
        let mut interrupted = ingest().stdout(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(fastrand::u64(50..600)));
        interrupted.kill().unwrap();
        interrupted.wait().unwrap();
    }
    let output = ingest().output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let counts = server.sql("SELECT count(*), count(DISTINCT attributes->>'n') FROM logs");
    assert_eq!(counts, ["100000,100000"]);
}

/// Runs `thalweg top` against `url` on a terminal of its own, reads what it draws until that
/// `is_enough`, and presses q. Answers what was drawn.
fn top(url: &str, is_enough: impl Fn(&str) -> bool) -> String {
    let top = format!("{} top --every 200ms --url {url}", binary().display());
    // `script` gives it a terminal.
    let mut terminal = Command::new("script")
        .args(["-qec", &format!("stty cols 100 rows 30; {top}"), "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut screen = terminal.stdout.take().unwrap();
    let (mut drawn, mut bytes) = (Vec::new(), [0; 4096]);
    while !is_enough(&text(&drawn)) {
        let read = screen.read(&mut bytes).unwrap();
        assert!(read > 0, "ended early: {}", text(&drawn));
        drawn.extend_from_slice(&bytes[..read]);
    }
    terminal.stdin.take().unwrap().write_all(b"q").unwrap();
    screen.read_to_end(&mut drawn).unwrap();
    let drawn = text(&drawn);
    assert!(terminal.wait().unwrap().success(), "{drawn}");
    assert!(drawn.contains("\x1b[?1049l"), "the terminal is as it was");
    drawn
}

#[test]
fn top_draws_services_and_ends_when_told_to() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &["stream.checkpoint_interval_ms=100"]);
    let event = r#"{"service":"till","level":"ERROR","message":"no paper"}"#;
    let (status, answer) = post(&format!("{}/api/v1/logs?format=json", server.http), event);
    assert_eq!(status, 200, "{answer}");
    top(&server.http, |drawn| drawn.contains("till"));
}

#[test]
fn top_ends_when_told_to_while_the_server_does_not_answer() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (asked, is_asked) = std::sync::mpsc::channel();
    let url = format!("http://{}", silent.local_addr().unwrap());
    std::thread::spawn(move || {
        let connection = silent.accept();
        asked.send(()).unwrap();
        // Held open, and never answered.
        std::thread::park();
        drop(connection);
    });
    let begun = std::time::Instant::now();
    top(&url, |drawn| drawn.contains("services") && is_asked.recv().is_ok());
    assert!(begun.elapsed() < std::time::Duration::from_secs(9), "it waited for an answer");
}
