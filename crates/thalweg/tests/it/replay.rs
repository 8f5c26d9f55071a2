//! Views begun anew from a time on, while they answer.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    server::{Server, answer, post},
    views::{eventually, send},
};

/// Checkpoints and commits come often, so that a replay has both history and log.
const SETTINGS: &[&str] = &[
    "stream.checkpoint_interval_ms=100",
    "lake.flush_interval_ms=100",
    "lake.retention_days=3650",
];
/// Longest that a replay may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn say(server: &Server, sql: &str) -> (u16, String) {
    post(&format!("{}/api/v1/sql", server.http), &json!({ "query": sql }).to_string())
}

fn create(server: &Server, name: &str, query: &str) {
    let (status, text) =
        say(server, &format!("CREATE VIEW {name} WITH (lateness_secs = 60) AS {query}"));
    assert_eq!(status, 200, "{text}");
}

fn replay(server: &Server, name: &str, from: &str) -> (u16, String) {
    let url = format!("{}/api/v1/replays/{name}", server.http);
    post(&url, &json!({ "from": from }).to_string())
}

/// State of the latest replay; `None` if none is known.
fn state(server: &Server, view: &str) -> Option<String> {
    let url = format!("{}/api/v1/replays/{view}", server.http);
    let (status, text) = answer(reqwest::Client::new().get(url));
    let told: Value = serde_json::from_str(&text).unwrap();
    assert!(status == 200 || status == 404, "{text}");
    told["state"].as_str().map(str::to_owned)
}

fn has_ended(server: &Server, view: &str) {
    let start = Instant::now();
    while state(server, view).as_deref() != Some("done") {
        assert!(start.elapsed() < PATIENCE, "{:?}", state(server, view));
        std::thread::sleep(Duration::from_millis(50));
    }
}

const PER_TEN: &str = "SELECT service, count(*) AS events FROM logs \
    GROUP BY tumble(INTERVAL '10 seconds'), service";

/// The view, and what batch SQL says of the events from `from` on, are the same.
fn equals_batch(server: &Server, from: &str) {
    let batch = format!(
        "SELECT tumble(INTERVAL '10 seconds', timestamp), service, count(*) FROM logs \
         WHERE timestamp >= '{from}' GROUP BY 1, 2 ORDER BY 1, 2"
    );
    let batch = server.sql(&batch);
    let batch: Vec<&str> = batch.iter().map(String::as_str).collect();
    assert!(!batch.is_empty());
    let view = "SELECT window_start, service, events FROM per_ten ORDER BY 1, 2";
    eventually(server, view, &batch);
}

#[test]
fn a_replayed_view_equals_batch_sql_and_what_cannot_be_replayed_is_refused() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), SETTINGS);
    let events: Vec<String> = (0..50).map(|n| format!("2026-01-05T10:00:{n:02}Z")).collect();
    let sent = |server: &Server, times: &[String]| {
        send(server, &times.iter().map(|time| (time.as_str(), "a")).collect::<Vec<_>>());
    };
    sent(&server, &events[..30]);
    std::thread::sleep(Duration::from_millis(500));
    create(&server, "per_ten", PER_TEN);
    create(
        &server,
        "minutes",
        "SELECT sum(events) AS events FROM per_ten GROUP BY tumble(INTERVAL '1 minute')",
    );
    sent(&server, &events[30..]);
    let counts = "SELECT events FROM per_ten ORDER BY window_start";
    eventually(&server, counts, &["10", "10"]);

    for (view, from, status, expected) in [
        ("nothing", "2026-01-05T10:00:00Z", 404, "no view or table `nothing`"),
        ("templates", "2026-01-05T10:00:00Z", 404, "there are: account_sweeps, minutes, per_ten, "),
        ("per_ten", "2999-01-01T00:00:00Z", 400, "found one to come"),
        ("per_ten", "yesterday", 400, "found `yesterday`"),
        ("per_ten", "2026-01-05T10:00:00Z", 409, "is read by view `minutes`"),
    ] {
        let (found, text) = replay(&server, view, from);
        assert_eq!((found, text.contains(expected)), (status, true), "{view} {from}: {text}");
    }
    assert_eq!(state(&server, "per_ten"), None);
    // A view of a view reads that one's rows of closed windows.
    assert_eq!(replay(&server, "minutes", "2026-01-05T10:00:00Z").0, 202);
    has_ended(&server, "minutes");
    assert_eq!(say(&server, "DROP VIEW minutes").0, 200);

    let from = "2026-01-05T10:00:13Z";
    let output = server.run(["replay", "per_ten", "--from", from]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains(&format!("per_ten was replayed from {from}")), "{told}");
    assert_eq!(server.sql(counts), ["7", "10", "10", "10"]);
    server.kill();

    let server = Server::start(data.path(), SETTINGS);
    equals_batch(&server, from);
    // An event from before is none of the view's, and one later than all closes its windows.
    send(&server, &[("2026-01-05T10:00:01Z", "a"), ("2026-01-05T10:30:00Z", "b")]);
    send(&server, &[("2026-01-05T10:40:00Z", "b")]);
    let closed =
        "SELECT events FROM per_ten WHERE is_final AND service = 'a' ORDER BY window_start";
    eventually(&server, closed, &["7", "10", "10", "10"]);
    equals_batch(&server, from);
    assert_eq!(server.sql("SELECT count(*) FROM late_events WHERE view = 'per_ten'"), ["0"]);

    // Further back than what the version before has.
    assert_eq!(replay(&server, "per_ten", "2026-01-05T00:00:00Z").0, 202);
    has_ended(&server, "per_ten");
    equals_batch(&server, "2026-01-05T00:00:00Z");
    eventually(&server, closed, &["11", "10", "10", "10", "10"]);
    server.stop();
    let server = Server::start(data.path(), SETTINGS);
    equals_batch(&server, "2026-01-05T00:00:00Z");
    // Of former versions nothing is left.
    let left = versions(data.path());
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(left.iter().all(|path| path.ends_with("-2")), "{left:?}");
    assert_eq!(say(&server, "DROP VIEW per_ten").0, 200);
    assert_eq!(versions(data.path()), Vec::<String>::new());
}

#[test]
fn a_view_that_is_replaced_soon_after_replays_has_nothing_of_before() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), SETTINGS);
    create(&server, "per_ten", PER_TEN);
    let (from, until) = ("2026-01-05T10:00:00Z", "2026-01-05T10:30:00Z");
    send(&server, &[(from, "a"), (until, "b"), ("2026-01-05T10:40:00Z", "b")]);
    let closed = "SELECT events FROM per_ten WHERE is_final ORDER BY window_start";
    eventually(&server, closed, &["1", "1"]);
    for _ in 0..2 {
        assert_eq!(replay(&server, "per_ten", from).0, 202);
        has_ended(&server, "per_ten");
    }
    let replace = format!(
        "CREATE OR REPLACE VIEW per_ten WITH (lateness_secs = 60, backfill = true) AS {PER_TEN}"
    );
    let (status, text) = say(&server, &replace);
    assert_eq!(status, 200, "{text}");
    eventually(&server, closed, &["1", "1"]);
    equals_batch(&server, from);
    let left = versions(data.path());
    let is_replay = |path: &String| path.rsplit('/').next().is_some_and(|name| name.contains('-'));
    assert!(left.len() == 3 && !left.iter().any(is_replay), "{left:?}");
    assert_eq!(say(&server, "DROP VIEW per_ten").0, 200);
    assert_eq!(versions(data.path()), Vec::<String>::new());
}

/// What a command has said, which is expected to have gone as `is_success` says.
fn told(server: &Server, command: &[&str], is_success: bool) -> String {
    let output = server.run(command.iter().copied());
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    assert_eq!(output.status.success(), is_success, "{command:?}: {text}");
    text
}

#[test]
fn a_damaged_part_of_a_table_is_read_from_the_log_anew() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), SETTINGS);
    for (day, service) in [("2026-01-05", "a"), ("2026-01-06", "b"), ("2026-01-07", "c")] {
        let times: Vec<String> = (0..60).map(|n| format!("{day}T10:00:{n:02}Z")).collect();
        send(&server, &times.iter().map(|time| (time.as_str(), service)).collect::<Vec<_>>());
    }
    let folder = data.path().join("lake/logs/date=2026-01-06");
    let start = Instant::now();
    while !folder.exists() || std::fs::read_dir(&folder).unwrap().next().is_none() {
        assert!(start.elapsed() < PATIENCE, "nothing is committed");
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_secs(1));
    server.stop();
    for file in std::fs::read_dir(&folder).unwrap() {
        std::fs::write(file.unwrap().path(), b"damaged").unwrap();
    }

    let server = Server::start(data.path(), SETTINGS);
    let counts = "SELECT service, count(*), count(message) FROM logs \
        WHERE timestamp < '2026-02-01' GROUP BY service ORDER BY service";
    assert!(!server.run(["query", counts]).status.success());
    let from = "2026-01-06T10:00:30Z";
    let said = told(&server, &["replay", "logs", "--from", from], false);
    assert!(said.contains("replay from 2026-01-06T10:00:00Z or earlier"), "{said}");
    assert!(!server.run(["query", counts]).status.success(), "it is as it was");

    let from = "2026-01-06T00:00:00Z";
    let said = told(&server, &["replay", "logs", "--from", from, "--allow-fewer"], true);
    assert!(said.contains(&format!("logs was replayed from {from}")), "{said}");
    let whole = ["a,60,60", "b,60,60", "c,60,60"];
    assert_eq!(server.sql(counts), whole);
    let url = format!("{}/api/v1/replays/logs", server.http);
    let (status, text) = answer(reqwest::Client::new().get(url));
    let status_told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(status, 200);
    assert_eq!((&status_told["name"], &status_told["state"]), (&json!("logs"), &json!("done")));

    let said = told(&server, &["replay", "nothing", "--from", from], false);
    assert!(said.contains("404") && said.contains(", logs, spans, rejected, audit,"), "{said}");
    let said = told(&server, &["replay", "service_health", "--from", from, "--allow-fewer"], false);
    assert!(said.contains("400") && said.contains("`service_health` is a view"), "{said}");
    let said = told(&server, &["replay", "spans", "--from", from, "--no-wait"], true);
    assert!(said.contains("goes on on the server"), "{said}");
    has_ended(&server, "spans");
    server.stop();
    let server = Server::start(data.path(), SETTINGS);
    assert_eq!(server.sql(counts), whole);
    assert_eq!(state(&server, "logs"), None);
}

/// Where versions of the view are: in the log, in the lake and among the states of views.
fn versions(data: &Path) -> Vec<String> {
    let list = |directory: &str| {
        let entries = std::fs::read_dir(data.join(directory)).into_iter().flatten();
        let paths = entries.map(|entry| entry.unwrap().path().display().to_string());
        paths.collect::<Vec<_>>()
    };
    let mut found = list("stream/per_ten");
    for directory in ["log", "lake"] {
        found.extend(list(directory).into_iter().filter(|path| path.contains("view.per_ten.")));
    }
    found
}

/// Whether the last stop cut off a replay of the view before it was noted to answer.
fn is_pending(data: &Path) -> bool {
    let kept = std::fs::read(data.join("stream/replays.json")).unwrap();
    let kept: Value = serde_json::from_slice(&kept).unwrap();
    kept["per_ten"]["pending"].is_object()
}

#[test]
fn a_replay_that_a_kill_cuts_off_goes_on_and_counts_each_event_once() {
    let data = tempfile::tempdir().unwrap();
    // The version before is replaced at a checkpoint: a replay is seen to catch up until then.
    let settings = [SETTINGS, &["stream.checkpoint_interval_ms=1000"]].concat();
    let mut server = Server::start(data.path(), &settings);
    create(&server, "per_ten", PER_TEN);
    let events: Vec<(String, &str)> = (0..20_000)
        .map(|n| (format!("2026-01-05T{:02}:{:02}:{:02}Z", n / 3600, n / 60 % 60, n % 60), "a"))
        .collect();
    for part in events.chunks(2_000) {
        send(&server, &part.iter().map(|(time, s)| (time.as_str(), *s)).collect::<Vec<_>>());
    }
    let stages = ["reading_history", "catching_up"];
    let mut killed = vec![];
    for (round, stage) in stages.into_iter().cycle().take(8).enumerate() {
        let from = format!("2026-01-05T00:{round:02}:00Z");
        let (status, text) = replay(&server, "per_ten", &from);
        assert_eq!(status, 202, "{text}");
        let told: Value = serde_json::from_str(&text).unwrap();
        let mut found = told["state"].as_str().map(str::to_owned);
        while found.as_deref().is_some_and(|found| found != stage && found != "done") {
            found = state(&server, "per_ten");
        }
        server.kill();
        println!("round {round}: killed while {found:?}");
        if is_pending(data.path()) {
            killed.extend(found);
        }
        server = Server::start(data.path(), &settings);
        // Events that come meanwhile are counted too.
        send(&server, &[(format!("2026-01-05T06:{round:02}:00Z").as_str(), "b")]);
        has_ended(&server, "per_ten");
        equals_batch(&server, &from);
    }
    server.stop();
    for stage in stages {
        assert!(killed.iter().any(|found| found == stage), "none was killed {stage}: {killed:?}");
    }
}
