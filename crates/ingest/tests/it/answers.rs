//! What senders are answered, and what is stored then.

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use serde_json::json;
use thalweg_ingest::{Ingest, IngestConfig, Request};
use thalweg_log::{LogError, TopicPartition};

use crate::{
    memory_log::{MemoryLog, now_millis, texts},
    server::{Answer, Server, nameless},
};

#[tokio::test]
async fn good_records_are_kept_and_bad_ones_are_named() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    let body = format!("{}nonsense\n{}{{\"level\":\"INFO\"}}\n", nameless("one"), nameless("two"));
    let answer = server.ndjson(body).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body["accepted"], 2);
    assert_eq!(answer.body["rejected"], 2);
    let indices: Vec<_> =
        answer.body["errors"].as_array().unwrap().iter().map(|error| &error["index"]).collect();
    assert_eq!(indices, [1, 3]);
    assert_eq!(answer.body["errors"][1]["reason"], "message: required, but missing");

    assert_eq!(log.messages(), ["one", "two"]);
    let [rejected] = &log.batches("rejected", 0)[..] else { panic!("one batch of rejected") };
    assert_eq!(rejected["record_index"].as_primitive::<Int64Type>().values(), &[1, 3]);
    assert_eq!(rejected["original"].as_binary::<i32>().value(0), b"nonsense");
    assert_eq!(rejected["original"].as_binary::<i32>().value(1), br#"{"level":"INFO"}"#);
    assert_eq!(texts(rejected, "reason")[1], "message: required, but missing");
    assert_eq!(texts(rejected, "client_ip"), ["127.0.0.1", "127.0.0.1"]);
    assert_eq!(texts(rejected, "format"), ["ndjson", "ndjson"]);
}

#[tokio::test]
async fn a_body_of_bad_records_only_is_unprocessable_and_still_kept() {
    let log = MemoryLog::new();
    let answer = Server::start(log.clone()).await.ndjson("a\nb\n").await;
    assert_eq!((answer.status, &answer.body["rejected"]), (422, &json!(2)));
    assert_eq!(log.asked(), ["rejected"]);
}

#[tokio::test]
async fn an_event_gets_what_its_sender_left_out() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    let before = now_millis();
    let body = r#"[{"message":"hello","http_status":404}]"#;
    let answer = server.post("/api/v1/logs?service=shop", "application/json", body).await;
    answer.assert_accepted(1);
    let [batch] = &log.batches("logs.routine", 0)[..] else { panic!("one batch of logs") };
    assert_eq!(texts(batch, "service"), ["shop"]);
    assert_eq!(texts(batch, "client_ip"), ["127.0.0.1"]);
    assert_eq!(texts(batch, "level"), ["WARN"]);
    assert_eq!(texts(batch, "priority"), ["routine"]);
    assert_eq!(texts(batch, "event_id")[0].len(), 36);
    let received = batch["observed_timestamp"].as_primitive::<TimestampMicrosecondType>().value(0);
    assert!((before..=now_millis()).contains(&(received / 1000)));
}

#[tokio::test]
async fn the_content_type_or_the_query_names_the_format() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    let object = r#"{"service":"a","message":"object"}"#;
    server.post("/api/v1/logs", "application/json; charset=utf-8", object).await.assert_accepted(1);
    let array = r#"[{"service":"a","message":"in"},{"service":"a","message":"array"}]"#;
    server.post("/api/v1/logs", "application/json", array).await.assert_accepted(2);
    server
        .post("/api/v1/logs?service=a", "text/plain", "line 1\nline 2\n")
        .await
        .assert_accepted(2);
    let clf = r#"10.0.0.1 - - [14/Nov/2023:22:13:20 +0000] "GET /cart HTTP/1.1" 503 17"#;
    server.post("/api/v1/logs?format=clf&service=a", "text/plain", clf).await.assert_accepted(1);
    assert_eq!(log.texts("logs.routine", "message"), ["object", "in", "array", "line 1", "line 2"]);
    assert_eq!(log.texts("logs.critical", "http_path"), ["/cart"]);
}

#[tokio::test]
async fn an_unknown_format_or_type_is_answered_with_those_that_are_known() {
    let server = Server::start(MemoryLog::new()).await;
    for (path, content_type) in
        [("/api/v1/logs?format=xml", "application/json"), ("/api/v1/logs", "application/xml")]
    {
        let answer = server.post(path, content_type, "{}").await;
        assert_eq!(answer.status, 415);
        for part in ["found `", "xml`", "ndjson", "combined"] {
            assert!(answer.error().contains(part), "{answer:?}");
        }
    }
    let request =
        server.request("/api/v1/logs", "application/json").header("content-encoding", "br");
    let answer = Answer::of(request.body("{}").send().await.unwrap()).await;
    assert_eq!(answer.status, 415);
    assert!(answer.error().contains("zstd"), "{answer:?}");
}

#[tokio::test]
async fn an_unreadable_body_or_query_is_a_bad_request() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    for (path, body) in [("/api/v1/logs", "[{"), ("/api/v1/logs?id_start=x", "{}")] {
        let answer = server.post(path, "application/json", body).await;
        assert_eq!(answer.status, 400, "{path} {body}");
        assert!(!answer.error().is_empty());
    }
    assert!(log.asked().is_empty());
}

#[tokio::test]
async fn failures_of_the_log_have_a_status_each_and_say_when_to_retry() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    let at = || TopicPartition::new("logs.routine", 0);
    let unavailable = LogError::Unavailable { at: at(), reason: "leader is away".into() };
    let overloaded = LogError::Overloaded { at: at(), reason: "the spool is full".into() };
    let rejected = LogError::Rejected { at: at(), reason: "the broker refuses it".into() };
    let corrupt = LogError::Corrupt { place: "segment".into(), reason: "checksum".into() };
    for (error, status, retry_after) in [
        (LogError::StorageFull(at()), 503, Some("30")),
        (unavailable, 503, Some("1")),
        (overloaded, 429, Some("1")),
        (rejected, 422, None),
        (corrupt, 500, None),
    ] {
        log.fail("logs.routine", error.clone());
        let answer = server.ndjson(nameless("m")).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.retry_after.as_deref(), retry_after);
        assert_eq!(answer.error(), error.to_string());
    }
    log.heal();
    server.ndjson(nameless("m")).await.assert_accepted(1);
}

#[tokio::test]
async fn a_failure_to_keep_rejected_records_is_not_hidden() {
    let log = MemoryLog::new();
    log.storage_full("rejected");
    let answer = Server::start(log.clone()).await.ndjson("bad\n").await;
    assert_eq!(answer.status, 503);
}

#[tokio::test]
async fn a_body_can_be_handed_over_without_a_socket() {
    let log = MemoryLog::new();
    let config = IngestConfig {
        body_limit_bytes: 1000,
        decompressed_limit_bytes: 1000,
        ..IngestConfig::default()
    };
    let ingest = Ingest::open(log.clone(), config).await.unwrap();
    let request = Request { format: "ndjson".to_owned(), ..Request::default() };
    let body = nameless("one") + "bad\n";
    let accepted = ingest.accept(request.clone(), body.clone().into()).await.unwrap();
    assert_eq!((accepted.accepted, accepted.rejected, accepted.faults.len()), (1, 1, 1));
    assert_eq!(log.messages(), ["one"]);
    let error = ingest.accept(request, body.repeat(100).into()).await.unwrap_err();
    assert_eq!(error.http_status(), 413);
    let request = Request { format: "xml".to_owned(), ..Request::default() };
    assert_eq!(ingest.accept(request, body.into()).await.unwrap_err().http_status(), 415);
}

#[test]
fn the_description_names_every_endpoint_and_status() {
    use utoipa::OpenApi;
    let api = serde_json::to_value(thalweg_ingest::http::Api::openapi()).unwrap();
    let statuses = |path: &str| -> Vec<String> {
        let responses = api["paths"][path]["post"]["responses"].as_object().unwrap();
        responses.keys().cloned().collect()
    };
    let native = ["200", "400", "408", "413", "415", "422", "429", "503"];
    assert_eq!(statuses("/api/v1/logs"), native);
    for path in ["/v1/logs", "/_bulk", "/loki/api/v1/push"] {
        assert!(statuses(path).contains(&"429".to_owned()), "{path}");
    }
    for path in ["/services/collector", "/services/collector/raw"] {
        assert!(statuses(path).contains(&"503".to_owned()), "{path}");
    }
}
