//! What tokens see, over every way of asking.

use std::process::Command;
use std::sync::Arc;

use futures::StreamExt;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use serde_json::{Value, json};
use thalweg_access::{NewToken, Scope, Token, TokenFile};
use thalweg_edge::{Tls, TlsFiles};
use thalweg_query::QueryConfig;

use crate::serving::{Serving, batch, event};
use crate::traces::{Span, TRACE, spans};

/// Numbers in the messages of the one service, words in those of the other: what converts all
/// messages to numbers fails on rows of the other.
fn events() -> Vec<Value> {
    let shop = (0..20).map(|n| event(n, &format!("s{n}"), "shop", "INFO", &n.to_string()));
    let bank = (0..30).map(|n| event(n + 7, &format!("b{n}"), "bank", "ERROR", "a secret"));
    shop.chain(bank).collect()
}

struct World {
    serving: Serving,
    limited: Token,
    unlimited: Token,
    admin: Token,
    ingest: Token,
}

impl World {
    async fn new(tls: Option<Arc<Tls>>) -> Self {
        let data = tempfile::tempdir().unwrap();
        let file = TokenFile::in_directory(data.path());
        let token = |name: &str, scope, services: Option<&str>| {
            let services = services.map(|name| [name.to_owned()].into());
            let scopes = [scope].into_iter().collect();
            file.create(NewToken { name: name.to_owned(), scopes, services }).unwrap()
        };
        let limited = token("limited", Scope::Query, Some("shop"));
        let unlimited = token("unlimited", Scope::Query, None);
        let (admin, ingest) = (token("root", Scope::Admin, None), token("in", Scope::Ingest, None));
        let serving = Serving::start_with(QueryConfig::default(), &events(), data, tls).await;
        Self { serving, limited, unlimited, admin, ingest }
    }

    async fn post(&self, token: &Token, sql: &str) -> (u16, Value) {
        let request = self.serving.client.post(self.serving.url("/api/v1/sql"));
        let request = request.bearer_auth(token).json(&json!({ "query": sql }));
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    async fn rows(&self, token: &Token, sql: &str) -> Value {
        let (status, answer) = self.post(token, sql).await;
        assert_eq!(status, 200, "{sql}: {answer}");
        assert!(answer.get("error").is_none(), "{sql}: {answer}");
        answer["rows"].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_token_reads_its_services_rows_and_learns_nothing_of_others() {
    let world = World::new(None).await;
    for (sql, expected) in [
        ("SELECT count(*) FROM logs", json!([[20]])),
        (
            "SELECT count(*), min(message), max(time_unix_nano - 1700000000000000000) FROM logs",
            json!([[20, "0", 19_000_000_000_i64]]),
        ),
        ("SELECT DISTINCT service FROM logs", json!([["shop"]])),
        ("SELECT DISTINCT service FROM logs WHERE service <> 'shop' OR true", json!([["shop"]])),
        ("SELECT count(*) FROM logs WHERE service = 'bank'", json!([[0]])),
        ("SELECT count(message) FROM logs LIMIT 1", json!([[20]])),
        ("SELECT count(*) FROM (SELECT level FROM logs LIMIT 40)", json!([[20]])),
        ("SELECT count(*) FROM logs a JOIN logs b ON a.level <> b.level", json!([[0]])),
        (
            "WITH x AS (SELECT * FROM logs UNION ALL SELECT * FROM logs) SELECT count(*) FROM x",
            json!([[40]]),
        ),
        (
            "SELECT (SELECT count(*) FROM logs l WHERE l.service = o.s) FROM (VALUES ('bank'), ('shop')) o(s) ORDER BY 1",
            json!([[0], [20]]),
        ),
        // Fails if it is evaluated on a row that is not seen.
        ("SELECT count(*) FROM logs WHERE CAST(message AS BIGINT) >= 0", json!([[20]])),
        ("SELECT count(*) FROM logs WHERE 1 / (severity_number - 17) < 1", json!([[20]])),
        (
            "SELECT count(*) FROM logs WHERE service = 'bank' AND CAST(message AS BIGINT) > 0",
            json!([[0]]),
        ),
        ("SELECT max(CAST(message AS BIGINT)) FROM logs", json!([[19]])),
        (
            "SELECT CAST(message AS BIGINT) FROM logs ORDER BY CAST(message AS BIGINT) DESC LIMIT 1",
            json!([[19]]),
        ),
        (
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1",
            json!([["logs"], ["spans"]]),
        ),
        (
            "SELECT relname FROM pg_catalog.pg_class WHERE relname IN ('logs', 'rejected', 'audit')",
            json!([["logs"]]),
        ),
    ] {
        assert_eq!(world.rows(&world.limited, sql).await, expected, "{sql}");
    }
    for (sql, code) in [
        ("SELECT * FROM rejected", "invalid_query"),
        ("SELECT * FROM audit", "invalid_query"),
        ("EXPLAIN SELECT * FROM logs", "forbidden"),
        ("EXPLAIN ANALYZE SELECT * FROM logs", "forbidden"),
        ("EXPLAIN VERBOSE SELECT 1", "forbidden"),
    ] {
        let (_, answer) = world.post(&world.limited, sql).await;
        assert_eq!(answer["error"]["code"], code, "{sql}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn others_see_what_their_scope_says() {
    let world = World::new(None).await;
    let all = "SELECT count(*) FROM logs";
    assert_eq!(world.rows(&world.unlimited, all).await, json!([[50]]));
    assert_eq!(world.rows(&world.unlimited, "SELECT count(*) FROM rejected").await, json!([[1]]));
    assert_eq!(world.post(&world.unlimited, "SELECT * FROM audit").await.0, 400);
    assert_eq!(world.post(&world.unlimited, "EXPLAIN SELECT * FROM logs").await.0, 200);
    assert_eq!(world.rows(&world.admin, "SELECT count(*) FROM audit").await, json!([[1]]));
    let (status, answer) = world.post(&world.ingest, all).await;
    assert_eq!((status, &answer["error"]["code"]), (403, &json!("permission_denied")));
    let nobody = world.serving.client.post(world.serving.url("/api/v1/sql")).send().await.unwrap();
    assert_eq!(nobody.status(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_shows_a_limited_token_its_services_part() {
    let world = World::new(None).await;
    let shop = Span { service: "shop", id: 1, parent: None, from: 0, to: 9 };
    let bank = Span { service: "bank", id: 2, parent: Some(1), from: 1, to: 2 };
    let within_bank = Span { service: "shop", id: 3, parent: Some(2), from: 1, to: 2 };
    world.serving.add_spans(spans(&[shop, bank, within_bank])).await;
    let trace = async |token: &Token| -> (u16, Value) {
        let path = format!("/api/v1/traces/{TRACE}");
        let request = world.serving.client.get(world.serving.url(&path)).bearer_auth(token);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    };
    let (_, seen) = trace(&world.limited).await;
    assert_eq!((&seen["services"], &seen["spans"]), (&json!(["shop"]), &json!(2)), "{seen}");
    assert!(!seen.to_string().contains("bank"), "{seen}");
    assert_eq!(trace(&world.unlimited).await.1["services"], json!(["bank", "shop"]));
    assert_eq!(trace(&world.ingest).await.0, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn search_and_tail_are_limited_as_well() {
    let world = World::new(None).await;
    let get = async |query: &[(&str, &str)]| -> Value {
        let request = world.serving.client.get(world.serving.url("/api/v1/logs"));
        let request = request.query(query).bearer_auth(&world.limited);
        request.send().await.unwrap().json().await.unwrap()
    };
    let page = get(&[("limit", "1000")]).await;
    let rows = page["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 20);
    assert!(rows.iter().all(|row| row["service"] == "shop"), "{page}");
    for query in [("service", "bank"), ("q", "secret"), ("level", "error")] {
        assert_eq!(get(&[query]).await["rows"], json!([]), "{query:?}");
    }

    let tail = world.serving.client.get(world.serving.url("/api/v1/logs/tail"));
    let mut tail = tail.bearer_auth(&world.limited).send().await.unwrap().bytes_stream();
    let bank = event(1, "t1", "bank", "ERROR", "a secret");
    world.serving.live.send(batch(&[bank, event(2, "t2", "shop", "INFO", "mine")])).unwrap();
    let chunk = tail.next().await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&chunk);
    assert!(text.contains("t2") && !text.contains("secret"), "{text}");
}

#[test]
fn a_limited_token_gets_what_an_unlimited_one_gets_of_its_service() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(World::new(None));
    let literal = prop_oneof![
        Just("level = 'INFO'".to_owned()),
        Just("level IS NOT NULL".to_owned()),
        (0..40_i64).prop_map(|n| format!("timestamp >= to_timestamp({})", 1_700_000_000 + n)),
        (0..40_i64)
            .prop_map(|n| format!("time_unix_nano < {}", (1_700_000_000 + n) * 1_000_000_000)),
        Just("message LIKE '%1%'".to_owned()),
        Just("service IN ('bank', 'shop', 'x')".to_owned()),
        Just("length(message) > 1".to_owned()),
    ];
    let condition = literal.prop_recursive(3, 8, 2, |inner| {
        (inner.clone(), inner, any::<bool>(), any::<bool>()).prop_map(|(a, b, and, not)| {
            let op = if and { "AND" } else { "OR" };
            format!("{}(({a}) {op} ({b}))", if not { "NOT " } else { "" })
        })
    });
    let mut runner = TestRunner::new(Config { cases: 40, ..Config::default() });
    runner
        .run(&condition, |condition| {
            let of = |restriction: &str| {
                format!("SELECT event_id FROM logs WHERE ({condition}) {restriction} ORDER BY 1")
            };
            let seen = runtime.block_on(world.rows(&world.limited, &of("")));
            let all = runtime.block_on(world.rows(&world.unlimited, &of("AND service = 'shop'")));
            prop_assert_eq!(seen, all);
            Ok(())
        })
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_is_audited() {
    let mut world = World::new(None).await;
    world.rows(&world.limited, "SELECT message FROM logs").await;
    world.post(&world.unlimited, "SELECT nonsense").await;
    world.serving.until_idle().await;
    let mut entries = Vec::new();
    for _ in 0..2 {
        let entry = world.serving.audited.recv().await.unwrap();
        let asker = entry.asker;
        assert!(asker.address.is_some_and(|address| address.ip().is_loopback()));
        entries.push((
            asker.principal.name().to_owned(),
            entry.statement,
            entry.outcome,
            entry.rows,
        ));
    }
    entries.sort();
    let expected = [
        ("limited".to_owned(), "SELECT message FROM logs".to_owned(), "ok", 20),
        ("unlimited".to_owned(), "SELECT nonsense".to_owned(), "invalid", 0),
    ];
    assert_eq!(entries, expected);
}

/// A certificate for `localhost`, of an authority whose certificate is beside it.
fn tls(folder: &std::path::Path) -> Arc<Tls> {
    let mut params = CertificateParams::default();
    // OpenSSL takes a certificate for self-signed whose issuer has the name of its subject.
    params.distinguished_name.push(DnType::CommonName, "test authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    let file = |name: &str| folder.join(name);
    std::fs::write(file("ca.pem"), issuer.pem()).unwrap();
    std::fs::write(file("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(file("key.pem"), key.serialize_pem()).unwrap();
    let files = TlsFiles { cert: file("cert.pem"), key: file("key.pem"), client_ca: None };
    Tls::open(files).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_logs_in_with_a_token_over_tls_and_sees_what_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(Some(tls(folder.path()))).await;
    let psql = async |password: String, sslmode: &str, sql: &str| {
        let mut command = Command::new("psql");
        let ca = folder.path().join("ca.pem");
        let connection = format!(
            "host=localhost hostaddr=127.0.0.1 port={} user=grafana dbname=thalweg \
             sslmode={sslmode} sslrootcert={}",
            world.serving.postgres.port(),
            ca.display()
        );
        command.env("PGPASSWORD", password).args(["-X", "-At", "-c", sql, &connection]);
        let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap();
        output.ok().map(|output| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
            (output.status.success(), text(&output.stdout), text(&output.stderr))
        })
    };
    let count = "SELECT count(*) FROM logs";
    let Some(limited) = psql(world.limited.to_string(), "verify-full", count).await else {
        eprintln!("SKIPPED: psql is not installed");
        return;
    };
    assert_eq!(limited, (true, "20".to_owned(), String::new()));
    let unlimited = psql(world.unlimited.to_string(), "verify-full", count).await.unwrap();
    assert_eq!(unlimited.1, "50", "{unlimited:?}");
    let describe = psql(world.limited.to_string(), "require", "\\d").await.unwrap();
    assert!(describe.1.contains("logs") && !describe.1.contains("rejected"), "{describe:?}");
    let explain = "EXPLAIN SELECT 1";
    let (_, _, error) = psql(world.limited.to_string(), "require", explain).await.unwrap();
    assert!(error.contains("EXPLAIN tells"), "{error}");
    for (password, expected) in [
        (String::new(), "no password supplied"),
        ("secret".to_owned(), "not valid"),
        (format!("tw_{}_{}", world.limited.id, "a".repeat(32)), "not valid"),
        (world.ingest.to_string(), "scope query"),
    ] {
        let (is_in, _, error) = psql(password, "require", count).await.unwrap();
        assert!(!is_in && error.contains(expected), "{expected}: {error}");
    }
    let mut world = world;
    world.serving.until_idle().await;
    let entry = world.serving.audited.recv().await.unwrap();
    assert_eq!((entry.asker.protocol, &*entry.statement), ("postgres", count));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_message_without_an_end_is_cut_off() {
    let world = World::new(None).await;
    let Ok(version) = Command::new("psql").arg("--version").output() else { return };
    assert!(version.status.success());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("long.sql");
    std::fs::write(&file, format!("SELECT '{}'", "x".repeat(2 << 20))).unwrap();
    let mut command = Command::new("psql");
    let port = world.serving.postgres.port().to_string();
    command.env("PGPASSWORD", world.unlimited.to_string());
    command
        .args(["-X", "-h", "127.0.0.1", "-U", "x", "-d", "thalweg", "-p", &port, "-f"])
        .arg(file);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("longer than 1048576 bytes") || error.contains("closed"), "{error}");
}
