//! Tokens and TLS, from the command line to the answer.

use std::{net::SocketAddr, path::Path, process::Output, time::Duration};

use serde_json::{Value, json};

use crate::{
    certificates::certify,
    server::{Server, thalweg},
};

/// A server with TLS, and what it takes to talk to it.
struct World {
    folder: tempfile::TempDir,
    _server: Server,
    http: SocketAddr,
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// Runs `thalweg token …` on the data directory of `folder`.
fn token(folder: &Path, args: &[&str]) -> Output {
    let mut command = thalweg();
    command.arg("token").args(args).arg("--data-dir").arg(folder.join("data"));
    command.output().unwrap()
}

fn create(folder: &Path, args: &[&str]) -> String {
    let output = token(folder, &[&["create"], args].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        certify(folder.path());
        let path = |name: &str| folder.path().join(name).display().to_string();
        let tls = format!("tls={{cert: {}, key: {}}}", path("cert.pem"), path("key.pem"));
        let server = Server::start(&folder.path().join("data"), &[&tls]);
        let http: SocketAddr = server.http.trim_start_matches("http://").parse().unwrap();
        let ca = std::fs::read(folder.path().join("ca.pem")).unwrap();
        let client = reqwest::Client::builder()
            .tls_certs_merge([reqwest::Certificate::from_pem(&ca).unwrap()])
            .resolve("localhost", http)
            .build()
            .unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        Self { folder, _server: server, http, client, runtime }
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.http.port())
    }

    /// Status and text of an answer, with what `show` adds to the request.
    fn ask(
        &self,
        request: reqwest::RequestBuilder,
        show: impl Fn(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> (u16, String) {
        self.runtime.block_on(async {
            let answer = show(request).send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        })
    }

    fn post(&self, path: &str, body: &str, bearer: &str) -> (u16, String) {
        let request = self.client.post(self.url(path)).header("content-type", "application/json");
        self.ask(request.body(body.to_owned()), |request| request.bearer_auth(bearer))
    }

    fn sql(&self, sql: &str, bearer: &str) -> (u16, Value) {
        let (status, answer) =
            self.post("/api/v1/sql", &json!({ "query": sql }).to_string(), bearer);
        (status, serde_json::from_str(&answer).unwrap())
    }

    /// Runs a client command against the server.
    fn run(&self, bearer: &str, args: &[&str]) -> Output {
        let mut command = thalweg();
        command.env("THALWEG_URL", self.url("")).env("THALWEG_TOKEN", bearer).args(args);
        command.env("THALWEG_CA_CERT", self.folder.path().join("ca.pem"));
        command.output().unwrap()
    }

    /// Waits until `is_so`; the server looks at the token file twice a second.
    fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        for _ in 0..100 {
            if is_so() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("{what}: not within ten seconds");
    }
}

#[test]
fn an_address_that_others_can_reach_needs_tls_and_a_token() {
    let folder = tempfile::tempdir().unwrap();
    certify(folder.path());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let serve = |settings: &[&str]| {
        let mut command = thalweg();
        command.args(["serve", "--data-dir"]).arg(folder.path().join("data"));
        for setting in settings {
            command.args(["--set", setting]);
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        text(&output.stderr)
    };
    let (listen, tls) = (
        "listen.http=0.0.0.0:0",
        format!("tls={{cert: {}, key: {}}}", path("cert.pem"), path("key.pem")),
    );
    let error = serve(&[listen]);
    assert!(error.contains("listen.http") && error.contains("unencrypted"), "{error}");
    let error = serve(&[listen, &tls]);
    assert!(error.contains("thalweg token create"), "{error}");
    let error = serve(&["tls={cert: /nowhere.pem, key: /nowhere.key}"]);
    assert!(error.contains("/nowhere.pem: expected certificates"), "{error}");
}

#[test]
fn tokens_open_what_their_scope_says_until_they_are_revoked() {
    let world = World::new();
    let folder = world.folder.path();
    let event = |service: &str| format!(r#"{{"service":"{service}","message":"of {service}"}}"#);
    // Without any token this machine's users do everything.
    assert_eq!(world.post("/api/v1/logs", &event("bank"), "").0, 200);

    let sender = create(folder, &["sender", "--scope", "ingest", "--service", "shop"]);
    let reader = create(folder, &["reader", "--scope", "query", "--service", "shop"]);
    let root = create(folder, &["root", "--scope", "admin"]);
    // The server may have read the file between one and the next.
    world.until("all tokens are known", || {
        world.sql("SELECT 1", "").0 == 401 && world.sql("SELECT 1", &root).0 == 200
    });

    let (status, answer) = world.post("/api/v1/logs", &event("shop"), &sender);
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = world.post("/api/v1/logs", &event("bank"), &sender);
    assert!(status == 422 && answer.contains("limited to"), "{status} {answer}");
    assert_eq!(world.sql("SELECT 1", &sender).0, 403);
    assert_eq!(world.post("/api/v1/logs", &event("shop"), &reader).0, 403);
    let replay = r#"{"from":"2026-01-01T00:00:00Z"}"#;
    for limited in [&sender, &reader] {
        assert_eq!(world.post("/api/v1/replays/logs", replay, limited).0, 403);
    }
    assert_eq!(world.post("/api/v1/replays/logs", replay, &root).0, 202);

    let services = "SELECT service, count(*) FROM logs GROUP BY 1 ORDER BY 1";
    assert_eq!(world.sql(services, &reader).1["rows"], json!([["shop", 1]]));
    assert_eq!(world.sql(services, &root).1["rows"], json!([["bank", 1], ["shop", 1]]));
    assert_eq!(world.sql("SELECT * FROM rejected", &reader).0, 400);

    let output = world.run(&reader, &["query", "--output", "csv", services]);
    assert_eq!(text(&output.stdout).lines().last(), Some("shop,1"), "{}", text(&output.stderr));
    let output = world.run("", &["query", services]);
    assert!(text(&output.stderr).contains("asks for a token"), "{}", text(&output.stderr));
    let file = folder.join("more.ndjson");
    std::fs::write(&file, event("shop")).unwrap();
    let output = world.run(&root, &["ingest", file.to_str().unwrap()]);
    assert!(text(&output.stdout).contains("1 accepted"), "{}", text(&output.stderr));

    assert!(token(folder, &["revoke", "reader"]).status.success());
    world.until("the token is revoked", || world.sql("SELECT 1", &reader).0 == 401);
    let listed = text(&token(folder, &["list"]).stdout);
    assert!(listed.contains("sender") && listed.contains("shop"), "{listed}");
    assert!(!listed.contains("reader") && !listed.contains(&root), "{listed}");

    let asked =
        "SELECT principal, outcome, rows FROM audit WHERE protocol = 'http' AND statement = ";
    let asked = format!("{asked}'{services}' ORDER BY timestamp");
    world.until("the audit log is written", || {
        let rows = json!([["reader", "ok", 1], ["root", "ok", 2], ["reader", "ok", 1]]);
        world.sql(&asked, &root).1["rows"] == rows
    });
}

#[test]
fn health_is_open_and_every_other_route_asks() {
    let world = World::new();
    create(world.folder.path(), &["root", "--scope", "admin"]);
    let request = |method: &str, path: &str| {
        let method = reqwest::Method::from_bytes(method.to_ascii_uppercase().as_bytes()).unwrap();
        world.ask(world.client.request(method, world.url(path)), |request| request).0
    };
    world.until("tokens are asked for", || request("GET", "/api/v1/formats") == 401);
    for open in ["/healthz", "/readyz", "/metrics", "/openapi.json"] {
        assert_eq!(request("GET", open), 200, "{open}");
    }
    let (_, document) = world.ask(world.client.get(world.url("/openapi.json")), |request| request);
    let document: Value = serde_json::from_str(&document).unwrap();
    let open = ["/healthz", "/readyz", "/metrics"];
    let mut asked = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        if open.contains(&path.as_str()) || path.starts_with("/services/collector/health") {
            continue;
        }
        for method in methods.as_object().unwrap().keys() {
            let path = path.replace("{trace_id}", "0").replace("{index}", "i");
            assert_eq!(request(method, &path), 401, "{method} {path}");
            asked += 1;
        }
    }
    assert!(asked >= 5, "only {asked} routes were asked");
    let metrics = world.ask(world.client.get(world.url("/metrics")), |request| request).1;
    for name in [
        "thalweg_edge_connections_limit",
        "thalweg_edge_client_connections_max",
        "thalweg_ingest_in_flight_limit_bytes",
        "thalweg_ingest_client_in_flight_limit_bytes",
        "thalweg_ingest_requests",
        "thalweg_query_memory_limit_bytes",
        "thalweg_query_memory_bytes",
        "thalweg_access_checks_limit",
        "thalweg_audit_queue_limit",
    ] {
        assert!(metrics.contains(name), "{name} is not in {metrics}");
    }
}
