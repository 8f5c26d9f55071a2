//! The ingest as senders to Splunk's HTTP Event Collector meet it.

use reqwest::Method;
use serde_json::{Value, json};
use thalweg_ingest::{AdmissionConfig, IngestConfig};
use thalweg_log::{LogError, TopicPartition};

use crate::{
    memory_log::MemoryLog,
    server::{Answer, Server},
};

const COLLECTOR: &str = "/services/collector";
const JSON: &str = "application/json";

fn success() -> Value {
    json!({"text": "Success", "code": 0})
}

#[tokio::test]
async fn events_and_raw_lines_are_stored_on_every_path() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    for path in ["", "/1.0", "/event", "/event/1.0"] {
        let body = r#"{"event":"one"}{"event":"two"}"#;
        let answer = server.post(&format!("{COLLECTOR}{path}"), JSON, body).await;
        assert_eq!((answer.status, answer.body), (200, success()), "{path}");
    }
    for path in ["/raw", "/raw/1.0"] {
        let path = format!("{COLLECTOR}{path}?sourcetype=shop&host=h%201");
        let answer = server.post(&path, "", "three\nfour\n").await;
        assert_eq!((answer.status, answer.body), (200, success()), "{path}");
    }
    assert_eq!(log.messages().len(), 12);
    assert_eq!(log.texts("logs.routine", "service")[8..], ["shop"; 4]);
    assert_eq!(log.texts("logs.routine", "host")[8..], ["h 1"; 4]);
}

#[tokio::test]
async fn what_is_wrong_has_splunks_code() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    for (path, body, code, number) in [
        ("/event", "", 5, None),
        ("/raw", "\n", 5, None),
        ("/event", r#"{"event":"a"}{"x":1}"#, 12, Some(1)),
        ("/event", r#"{"event":"a"}{"event":""}"#, 13, Some(1)),
        ("/event", r#"{"event":"a","fields":1}"#, 15, Some(0)),
        ("/event", r#"{"event":"a"}nonsense"#, 6, Some(1)),
    ] {
        let answer = server.post(&format!("{COLLECTOR}{path}"), JSON, body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(answer.body["code"], code, "{body}");
        assert_eq!(answer.body["invalid-event-number"], json!(number), "{body}");
        assert!(answer.body["text"].is_string());
    }
    assert_eq!(log.messages(), ["a"; 3], "what is good is kept");
    assert_eq!(log.texts("rejected", "original")[3], "nonsense");
}

#[tokio::test]
async fn an_issued_acknowledgement_is_true_at_once() {
    let server = Server::start(MemoryLog::new()).await;
    let send = |channel: &'static str| {
        let request = server.request(COLLECTOR, JSON).header("x-splunk-request-channel", channel);
        request.body(r#"{"event":"x"}"#).send()
    };
    for id in 0..2 {
        let answer: Value = send("c-1").await.unwrap().json().await.unwrap();
        assert_eq!(answer, json!({"text": "Success", "code": 0, "ackId": id}));
    }
    let answer = server.post(&format!("{COLLECTOR}/raw?channel=c-2"), "", "x\n").await;
    assert_eq!(answer.body["ackId"], 0);

    let ask = |path: &str| format!("{COLLECTOR}/ack{path}");
    let answer = server.post(&ask("?channel=c-1"), JSON, r#"{"acks":[0,1,2]}"#).await;
    assert_eq!(answer.body, json!({"acks": {"0": true, "1": true, "2": false}}));
    let answer = server.post(&ask("/1.0?channel=c-3"), JSON, r#"{"acks":[0]}"#).await;
    assert_eq!(answer.body, json!({"acks": {"0": false}}));
    let answer = server.post(&ask(""), JSON, r#"{"acks":[0]}"#).await;
    assert_eq!((answer.status, &answer.body["code"]), (400, &json!(10)));
    let answer = server.post(&ask("?channel=c-1"), JSON, "[]").await;
    assert_eq!((answer.status, &answer.body["code"]), (400, &json!(6)));
    let long = "1,".repeat(1 << 19);
    let answer = server.post(&ask("?channel=c-1"), JSON, format!("{{\"acks\":[{long}1]}}")).await;
    assert_eq!((answer.status, &answer.body["code"]), (413, &json!(6)));
    let long = format!("{COLLECTOR}?channel={}", "c".repeat(129));
    assert_eq!(server.post(&long, JSON, r#"{"event":"x"}"#).await.status, 400);
}

#[tokio::test]
async fn an_unstored_event_is_not_acknowledged() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    log.storage_full("logs.routine");
    let path = format!("{COLLECTOR}?channel=c");
    let answer = server.post(&path, JSON, r#"{"event":"x"}"#).await;
    assert_eq!((answer.status, &answer.body["code"]), (503, &json!(9)));
    assert_eq!(answer.retry_after.as_deref(), Some("30"));
    let corrupt = LogError::Corrupt { place: "segment".into(), reason: "checksum".into() };
    log.fail("logs.routine", corrupt);
    let answer = server.post(&path, JSON, r#"{"event":"x"}"#).await;
    assert_eq!((answer.status, &answer.body["code"]), (500, &json!(8)));
    log.fail(
        "logs.routine",
        LogError::Unavailable { at: TopicPartition::new("logs.routine", 0), reason: "away".into() },
    );
    let answer = server.post(&path, JSON, r#"{"event":"x"}"#).await;
    assert_eq!((answer.status, answer.retry_after.as_deref()), (503, Some("1")));
    let ask = format!("{COLLECTOR}/ack?channel=c");
    let answer = server.post(&ask, JSON, r#"{"acks":[0]}"#).await;
    assert_eq!(answer.body, json!({"acks": {"0": false}}));
}

#[tokio::test]
async fn overload_is_a_busy_server_and_shows_in_its_health() {
    let log = MemoryLog::new();
    let admission = AdmissionConfig { max_requests: 1, ..AdmissionConfig::default() };
    let config = IngestConfig { admission, ..IngestConfig::default() };
    let server = Server::with_config(log.clone(), config).await;
    let health = || async {
        let request = server.get(Method::GET, "/services/collector/health/1.0");
        Answer::of(request.send().await.unwrap()).await
    };
    let healthy = health().await;
    assert_eq!(
        (healthy.status, healthy.body),
        (200, json!({"text": "HEC is healthy", "code": 17}))
    );
    log.hold("logs.routine");
    let held = tokio::spawn(server.request(COLLECTOR, JSON).body(r#"{"event":"held"}"#).send());
    log.has_been_asked(1).await;
    let refused = server.post(COLLECTOR, JSON, r#"{"event":"refused"}"#).await;
    assert_eq!((refused.status, refused.retry_after.as_deref()), (503, Some("1")));
    assert_eq!(
        (&refused.body["code"], &refused.body["text"]),
        (&json!(9), &json!("Server is busy"))
    );
    assert_eq!((health().await.status, health().await.body["code"].clone()), (503, json!(18)));
    log.let_go();
    assert_eq!(held.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn dockers_driver_finds_the_collector() {
    let server = Server::start(MemoryLog::new()).await;
    let answer = server.get(Method::OPTIONS, "/services/collector/event/1.0").send().await.unwrap();
    assert_eq!(answer.status(), 200);
}
