//! Health, metrics and the document that describes the HTTP interface.

use crate::server::{Server, get, post};

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
