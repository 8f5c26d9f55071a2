//! Health, metrics and the document that describes the HTTP interface.

use serde_json::{Value, json};

use crate::server::{Server, get, post, thalweg};

#[test]
fn health_metrics_and_openapi_answer() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let text = |path: &str| get(&format!("{}{path}", server.http));
    assert!(text("/healthz").contains("ok"));
    assert!(text("/readyz").contains("\"ready\":true"));
    assert!(text("/openapi.json").contains("/api/v1/sql"));

    let event = r#"{"service":"s","level":"INFO","message":"m"}"#;
    let answer = post(&format!("{}/api/v1/logs?format=json", server.http), event);
    assert_eq!(answer, (200, r#"{"accepted":1,"rejected":0,"errors":[]}"#.to_owned()));
    let metrics = text("/metrics");
    for name in
        ["thalweg_ingest_", "thalweg_log_", "thalweg_lake_", "process_resident_memory_bytes"]
    {
        assert!(metrics.contains(name), "{name} is not in {metrics}");
    }
}

#[test]
fn an_event_is_visible_within_a_second_of_its_acknowledgement() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &["lake.flush_interval_ms=60000"]);
    for n in 0..20 {
        let event = format!(r#"{{"service":"s","level":"INFO","message":"m{n}"}}"#);
        let (status, _) = post(&format!("{}/api/v1/logs?format=json", server.http), &event);
        assert_eq!(status, 200);
        let query = format!(r#"{{"query":"SELECT count(*) FROM logs WHERE message = 'm{n}'"}}"#);
        let (_, answer) = post(&format!("{}/api/v1/sql", server.http), &query);
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["rows"][0][0], 1, "{answer}");
    }
}

/// Status, content type and text of the answer to a `GET` with this `Accept`.
fn get_as(url: &str, accept: &str, token: Option<&str>) -> (u16, String, String) {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let mut request = reqwest::Client::new().get(url).header("accept", accept);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        let content_type = answer.headers().get("content-type");
        let content_type = content_type.map_or("", |value| value.to_str().unwrap()).to_owned();
        (answer.status().as_u16(), content_type, answer.text().await.unwrap())
    })
}

#[test]
fn browsers_get_the_console_where_agents_get_elasticsearch() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let root = format!("{}/", server.http);
    let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    let (status, content_type, page) = get_as(&root, browser, None);
    assert_eq!((status, content_type.as_str()), (200, "text/html; charset=utf-8"));
    assert!(page.contains("thalweg"), "{page}");
    for accept in ["application/json", "*/*"] {
        let (status, _, answer) = get_as(&root, accept, None);
        assert_eq!(status, 200);
        assert!(answer.contains("You Know, for Search"), "{answer}");
    }
    for path in ["api/v1/nothing", "v1/nothing", "logs/nothing"] {
        assert_eq!(get_as(&format!("{root}{path}"), browser, None).0, 404, "{path}");
    }
}

#[test]
fn the_console_needs_no_token_and_what_it_asks_does() {
    let directory = tempfile::tempdir().unwrap();
    let create = |name: &str, scope: &str| {
        let mut command = thalweg();
        command.args(["token", "create", name, "--scope", scope, "--data-dir"]);
        let output = command.arg(directory.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_whitespace().find(|word| word.starts_with("tw_")).unwrap().to_owned()
    };
    let (reader, admin) = (create("reader", "query"), create("boss", "admin"));
    let server = Server::start(
        directory.path(),
        &["alerting.receivers=[{name: chat, slack: {url: 'https://hooks.example/key'}}]"],
    );
    let status = |path: &str, token| get_as(&format!("{}{path}", server.http), "text/html", token);
    assert_eq!(status("/logs", None).0, 200);
    assert_eq!(status("/api/v1/me", None).0, 401);
    let (_, _, me) = status("/api/v1/me", Some(&reader));
    let me: Value = serde_json::from_str(&me).unwrap();
    assert_eq!(me, json!({"name": "reader", "scopes": ["query"], "services": null}));
    assert_eq!(status("/api/v1/config", Some(&reader)).0, 403);
    let (code, _, config) = status("/api/v1/config", Some(&admin));
    assert_eq!(code, 200);
    assert!(config.contains("\"chat\"") && !config.contains("hooks.example"), "{config}");
}
