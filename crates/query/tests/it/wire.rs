//! The Postgres wire, with psql and psycopg.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use thalweg_query::QueryConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::serving::{Serving, shop};

async fn serving() -> Serving {
    Serving::start(QueryConfig::default(), &shop()).await
}

/// Runs a client to its end without holding up the server.
async fn run(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

fn psql(serving: &Serving, arguments: &[&str]) -> Option<Command> {
    if Command::new("psql").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("SKIPPED: psql is not installed");
        return None;
    }
    let mut command = Command::new("psql");
    let port = serving.postgres.port().to_string();
    command.args(["-X", "-h", "127.0.0.1", "-U", "anyone", "-d", "thalweg", "-p", &port]);
    command.args(arguments);
    Some(command)
}

/// What psql prints for commands, without alignment; panics when psql reports an error.
async fn print(serving: &Serving, commands: &[&str]) -> Option<String> {
    let mut arguments = vec!["-A", "-v", "ON_ERROR_STOP=1"];
    arguments.extend(commands.iter().flat_map(|command| ["-c", command]));
    let output = run(psql(serving, &arguments)?).await;
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{commands:?}: {errors}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_answers_queries() {
    let serving = serving().await;
    let sql = "SELECT event_id, timestamp, level, severity_number, duration_ms, attributes->>'user.id' AS \"user\" \
               FROM logs WHERE service = 'checkout' AND level <> 'INFO' ORDER BY event_id";
    let Some(text) = print(&serving, &[sql]).await else { return };
    let expected = "event_id|timestamp|level|severity_number|duration_ms|user\n\
                    e1|2023-11-14 22:13:21+00|WARN|13||\n\
                    e2|2023-11-14 22:13:22+00|ERROR|17||u7\n(2 rows)\n";
    let normal = text.replace(".000000", "").replace("+00:00", "+00");
    assert_eq!(normal, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn psqls_commands_describe_tables() {
    let serving = serving().await;
    let Some(tables) = print(&serving, &["\\d"]).await else { return };
    assert!(tables.contains("public|logs|table"), "{tables}");
    for (command, expected) in [
        ("\\dt", "public|rejected|table"),
        ("\\d logs", "service|text"),
        ("\\d+ logs", "severity_number|smallint"),
        ("\\d rejected", "original|bytea"),
        ("\\d+", "public|rejected|table"),
        ("\\dt+", "public|rejected|table"),
        ("\\l+", "thalweg|"),
        ("\\dn+", "public|"),
        ("\\l", "thalweg|"),
        ("\\dn", "public|"),
        ("\\dv", ""),
        ("\\di", ""),
        ("\\du", ""),
        ("\\conninfo", "thalweg"),
    ] {
        let text = print(&serving, &[command]).await.unwrap();
        assert!(text.contains(expected), "{command}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_about_the_session_are_answered_without_an_effect() {
    let serving = serving().await;
    let statements = [
        "SET client_min_messages TO warning",
        "SET search_path TO public",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "BEGIN",
        "SELECT 1",
        "COMMIT",
        "DISCARD ALL",
        "SELECT 1; SELECT 2",
    ];
    let Some(text) = print(&serving, &statements).await else { return };
    assert!(text.contains("BEGIN\n?column?\n1\n") || text.contains("BEGIN\n"), "{text}");
    assert!(text.ends_with("2\n(1 row)\n"), "{text}");
    for statement in ["SET datafusion.execution.batch_size = 1", "SET LOCAL TIME ZONE 'Asia/Tokyo'"]
    {
        let command = psql(&serving, &["-c", statement]).unwrap();
        run(command).await;
    }
    let sql = "SHOW datafusion.execution.batch_size";
    assert_eq!(serving.rows(sql).await[0][1], "8192");
    assert_ne!(serving.rows("SHOW datafusion.execution.time_zone").await[0][1], "Asia/Tokyo");
}

#[tokio::test(flavor = "multi_thread")]
async fn writing_statements_are_refused_on_the_wire() {
    let serving = serving().await;
    for statement in [
        "CREATE TABLE t AS SELECT 1",
        "CREATE VIEW v AS SELECT 1",
        "DROP TABLE logs",
        "INSERT INTO logs SELECT * FROM logs",
        "DELETE FROM logs",
        "UPDATE logs SET message = 'x'",
        "COPY logs TO '/tmp/thalweg-query-must-not-exist.csv'",
        "COPY logs TO STDOUT",
        "COPY logs FROM STDIN",
        "SELECT * INTO copied FROM logs",
        "EXPLAIN ANALYZE DELETE FROM logs",
        "WITH x AS (DELETE FROM logs RETURNING *) SELECT * FROM x",
        "PREPARE p AS SELECT 1",
        "DECLARE c CURSOR FOR SELECT 1",
        "SELECT * FROM '/etc/passwd'",
        "SET datafusion.execution.batch_size = 1",
        "LISTEN x",
    ] {
        let Some(command) = psql(&serving, &["-c", statement]) else { return };
        let output = run(command).await;
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(errors.contains("ERROR:"), "{statement}: {errors}");
    }
    assert!(!Path::new("/tmp/thalweg-query-must-not-exist.csv").exists());
    assert_eq!(serving.rows("SELECT count(*) FROM logs").await[0][0], 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_points_at_a_syntax_error() {
    let serving = serving().await;
    let Some(command) = psql(&serving, &["-c", "SELECT *\nFORM logs"]) else { return };
    let errors = String::from_utf8(run(command).await.stderr).unwrap();
    assert!(errors.contains("LINE 2: FORM logs\n             ^"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn psycopg_runs_queries_with_parameters_in_text_and_binary() {
    let candidates = [std::env::var("CLIENTS_PYTHON").ok(), Some("python3".into())];
    let has_psycopg = |python: &String| {
        let mut command = Command::new(python);
        command.args(["-c", "import psycopg"]).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let Some(python) = candidates.into_iter().flatten().find(has_psycopg) else {
        eprintln!("SKIPPED: no Python with psycopg (`make test` has one), so it was NOT tested");
        return;
    };
    let serving = serving().await;
    let script = Path::new("tests/it/psycopg_client.py");
    let mut command = Command::new(python);
    command.arg(script).arg(serving.postgres.port().to_string());
    let output = run(command).await;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.ends_with("all good\n"), "{text}");
    serving.until_idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_timeout_is_kept() {
    let serving = serving().await;
    let sql = "SELECT sum(value) FROM generate_series(1, 9000000000000)";
    let arguments = ["-c", "SET statement_timeout = 500", "-c", sql];
    let Some(command) = psql(&serving, &arguments) else { return };
    let started = Instant::now();
    let errors = String::from_utf8(run(command).await.stderr).unwrap();
    assert!(errors.contains("time limit of 0.5 s"), "{errors}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

/// A client of the bare protocol that has sent one query and not read its answer.
async fn asking(serving: &Serving, sql: &str) -> TcpStream {
    let mut socket = TcpStream::connect(serving.postgres).await.unwrap();
    let startup = b"\0\x03\0\0user\0x\0database\0thalweg\0\0";
    socket.write_all(&(startup.len() as u32 + 4).to_be_bytes()).await.unwrap();
    socket.write_all(startup).await.unwrap();
    let mut greeting = Vec::new();
    while !greeting.ends_with(b"Z\0\0\0\x05I") {
        greeting.push(socket.read_u8().await.unwrap());
    }
    socket.write_all(b"Q").await.unwrap();
    socket.write_all(&(sql.len() as u32 + 5).to_be_bytes()).await.unwrap();
    socket.write_all(sql.as_bytes()).await.unwrap();
    socket.write_all(b"\0").await.unwrap();
    socket
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_client_that_leaves_stops_its_query() {
    let serving = serving().await;
    for sql in [
        "SELECT sum(value) FROM generate_series(1, 9000000000000)",
        "SELECT value FROM generate_series(1, 9000000000000)",
    ] {
        let socket = asking(&serving, sql).await;
        let running = async {
            while serving.engine.running_queries() == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), running).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(serving.engine.running_queries(), 1, "{sql}");
        drop(socket);
        serving.until_idle().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_portal_gives_its_rows_in_the_portions_asked_for() {
    let serving = serving().await;
    let mut socket = asking(&serving, "SELECT 1").await;
    assert_eq!(kinds(&mut socket).await, "TDCZ");
    let message = |kind: u8, body: &[u8]| {
        let length = (body.len() as u32 + 4).to_be_bytes();
        [&[kind], &length[..], body].concat()
    };
    let execute = |rows: u32| message(b'E', &[b"\0", &rows.to_be_bytes()[..]].concat());
    let requests = [
        message(b'P', b"\0VALUES (1), (2), (3), (4), (5)\0\0\0"),
        message(b'B', b"\0\0\0\0\0\0\0\0"),
        execute(2),
        execute(2),
        execute(0),
        execute(0),
        message(b'S', b""),
    ];
    socket.write_all(&requests.concat()).await.unwrap();
    assert_eq!(kinds(&mut socket).await, "12DDsDDsDCCZ");
    // A portion larger than memory costs nothing.
    let requests = [
        message(b'P', b"\0SELECT 7\0\0\0"),
        message(b'B', b"\0\0\0\0\0\0\0\0"),
        execute(i32::MAX as u32),
        message(b'S', b""),
    ];
    socket.write_all(&requests.concat()).await.unwrap();
    assert_eq!(kinds(&mut socket).await, "12DCZ");
}

/// Kinds of the messages up to the one that says that the server is ready.
async fn kinds(socket: &mut TcpStream) -> String {
    let mut kinds = String::new();
    while !kinds.ends_with('Z') {
        kinds.push(socket.read_u8().await.unwrap().into());
        let length = socket.read_u32().await.unwrap() as usize - 4;
        socket.read_exact(&mut vec![0; length]).await.unwrap();
    }
    kinds
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_is_told_so() {
    let config = QueryConfig { max_postgres_connections: 1, ..Default::default() };
    let serving = Serving::start(config, &shop()).await;
    let _first = asking(&serving, "SELECT 1").await;
    let Some(command) = psql(&serving, &["-c", "SELECT 1"]) else { return };
    let errors = String::from_utf8(run(command).await.stderr).unwrap();
    assert!(errors.contains("FATAL:  too many connections"), "{errors}");
}
