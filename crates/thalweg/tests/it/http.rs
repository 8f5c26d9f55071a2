//! Health, metrics and the document that describes the HTTP interface.

use reqwest::blocking::{Client, get};

use crate::server::Server;

#[test]
fn health_metrics_and_openapi_answer() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let text = |path: &str| {
        get(format!("{}{path}", server.http)).unwrap().error_for_status().unwrap().text().unwrap()
    };
    assert!(text("/healthz").contains("ok"));
    assert!(text("/readyz").contains("\"ready\":true"));
    assert!(text("/openapi.json").contains("/api/v1/sql"));

    let event = r#"{"service":"s","level":"INFO","message":"m"}"#;
    let post = Client::new().post(format!("{}/api/v1/logs", server.http));
    let answer = post.header("content-type", "application/json").body(event).send().unwrap();
    assert_eq!(answer.text().unwrap(), r#"{"accepted":1,"rejected":0,"errors":[]}"#);
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
    let client = Client::new();
    for n in 0..20 {
        let event = format!(r#"{{"service":"s","level":"INFO","message":"m{n}"}}"#);
        let sent = client
            .post(format!("{}/api/v1/logs?format=json", server.http))
            .body(event)
            .send()
            .unwrap();
        assert_eq!(sent.status(), 200);
        let query = serde_json::json!({"query": format!("SELECT count(*) FROM logs WHERE message = 'm{n}'")});
        let answer: serde_json::Value = client
            .post(format!("{}/api/v1/sql", server.http))
            .json(&query)
            .send()
            .unwrap()
            .json()
            .unwrap();
        assert_eq!(answer["rows"][0][0], 1, "{answer}");
    }
}
