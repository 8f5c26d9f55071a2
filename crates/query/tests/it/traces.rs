//! `GET /api/v1/traces/{trace_id}`.

use arrow::array::RecordBatch;
use serde_json::{Value, json};
use thalweg_event::span::{SpanBatchBuilder, SpanEvent, SpanKind, SpanStatus};
use thalweg_event::{AttributeValue, BatchContext, PriorityRules};
use thalweg_query::QueryConfig;

use crate::serving::{START_SECS, Serving, event};

pub(crate) const TRACE: &str = "abababababababababababababababab";
const NANOS_PER_SEC: i64 = 1_000_000_000;

pub(crate) struct Span {
    pub(crate) service: &'static str,
    pub(crate) id: u8,
    pub(crate) parent: Option<u8>,
    /// Seconds after the start.
    pub(crate) from: i64,
    pub(crate) to: i64,
}

pub(crate) fn spans(spans: &[Span]) -> RecordBatch {
    let rules = PriorityRules::default();
    let context = BatchContext::new(START_SECS * NANOS_PER_SEC, &rules, [7; 10]);
    let mut builder = SpanBatchBuilder::new(context);
    for span in spans {
        let mut row = builder.row();
        row.trace_id([0xab; 16]);
        row.span_id([span.id; 8]);
        if let Some(parent) = span.parent {
            row.parent_span_id([parent; 8]);
        }
        row.service(span.service);
        row.name(&format!("span {}", span.id));
        row.kind(SpanKind::Server);
        row.status(SpanStatus::Ok);
        row.start_time_unix_nano((START_SECS + span.from) * NANOS_PER_SEC + 1);
        row.end_time_unix_nano((START_SECS + span.to) * NANOS_PER_SEC);
        row.attribute("retry", AttributeValue::Bool(true));
        row.event(&SpanEvent { time_unix_nano: 7, name: "é\n", ..Default::default() });
        row.scope(r#"{"name":"lib"}"#);
        row.commit().unwrap();
    }
    builder.finish()
}

/// A log of the trace, within a span or not.
fn log(second: i64, id: &str, span: Option<u8>) -> Value {
    let mut log = event(second, id, "payment", "INFO", id);
    log["trace_id"] = TRACE.into();
    if let Some(span) = span {
        log["span_id"] = format!("{span:02x}").repeat(8).into();
    }
    log
}

async fn get(serving: &Serving, trace_id: &str) -> (u16, Value) {
    let request = serving.client.get(serving.url(&format!("/api/v1/traces/{trace_id}")));
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

/// Depth, and name or message, of each entry.
fn outline(answer: &Value) -> Vec<(u64, String)> {
    let entries = answer["entries"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let label = |entry: &Value| match entry.get("span") {
        Some(span) => span["name"].as_str().unwrap().to_owned(),
        None => entry["log"]["message"].as_str().unwrap().to_owned(),
    };
    entries.iter().map(|entry| (entry["depth"].as_u64().unwrap(), label(entry))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_is_shown_across_services_in_causal_order() {
    let logs = [
        log(3, "in payment", Some(2)),
        log(1, "in checkout", Some(1)),
        log(5, "nowhere", None),
        event(2, "e", "payment", "INFO", "of no trace"),
    ];
    let serving = Serving::start(QueryConfig::default(), &logs).await;
    // The clock of payment is behind, and spans come as they end.
    serving
        .add_spans(spans(&[Span { service: "payment", id: 2, parent: Some(1), from: -9, to: 4 }]))
        .await;
    let checkout = Span { service: "checkout", id: 1, parent: None, from: 0, to: 9 };
    let search = Span { service: "search", id: 3, parent: Some(1), from: 6, to: 7 };
    let orphan = Span { service: "mail", id: 4, parent: Some(9), from: 20, to: 21 };
    serving.add_spans(spans(&[orphan, search, checkout])).await;

    let (status, answer) = get(&serving, &TRACE.to_uppercase()).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        outline(&answer),
        [
            (0, "span 1"),
            (1, "span 2"),
            (2, "in payment"),
            (1, "in checkout"),
            (1, "nowhere"),
            (1, "span 3"),
            (0, "span 4"),
        ]
        .map(|(depth, label)| (depth, label.to_owned()))
    );
    let without_entries = {
        let mut head = answer.clone();
        head.as_object_mut().unwrap().remove("entries");
        head
    };
    assert_eq!(
        without_entries,
        json!({
            "trace_id": TRACE, "services": ["checkout", "mail", "payment", "search"],
            "spans": 4, "logs": 3, "truncated": false,
        })
    );
    let span = &answer["entries"][0]["span"];
    assert_eq!(span["start_time_unix_nano"], "1700000000000000001");
    assert_eq!(span["attributes"], json!({"retry": true}));
    assert_eq!(span["scope"], json!({"name": "lib"}));
    assert_eq!(span["events"], json!([{"time_unix_nano": "7", "name": "é\n"}]));
    assert_eq!(span.get("links"), None);
    let orphaned: Vec<bool> =
        answer["entries"].as_array().unwrap().iter().map(|e| e["orphaned"] == true).collect();
    assert_eq!(orphaned, [false, false, false, false, false, false, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_alone_and_spans_alone_make_a_trace() {
    let serving = Serving::start(QueryConfig::default(), &[log(1, "alone", Some(1))]).await;
    assert_eq!(outline(&get(&serving, TRACE).await.1), [(0, "alone".to_owned())]);
    let serving = Serving::start(QueryConfig::default(), &[]).await;
    // Sent again after the ingest had forgotten it.
    for _ in 0..2 {
        let span = Span { service: "a", id: 1, parent: None, from: 0, to: 1 };
        serving.add_spans(spans(&[span])).await;
    }
    let (_, answer) = get(&serving, TRACE).await;
    assert_eq!(outline(&answer), [(0, "span 1".to_owned())]);
    assert_eq!((&answer["spans"], &answer["logs"]), (&json!(1), &json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_id_is_told_from_one_that_is_not_there() {
    let serving = Serving::start(QueryConfig::default(), &[log(1, "m", None)]).await;
    for id in ["x", "0123", &"0".repeat(32), &"g".repeat(32), &"a".repeat(33), "%27%20OR%201=1"] {
        let (status, answer) = get(&serving, id).await;
        assert_eq!(status, 400, "{id}");
        assert_eq!(answer["error"]["code"], "invalid_parameter", "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.starts_with("trace_id: expected 32 hexadecimal digits"), "{message}");
    }
    let (status, answer) = get(&serving, &"ac".repeat(16)).await;
    assert_eq!((status, &answer["error"]["code"]), (404, &json!("not_found")), "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("found none") && message.contains("acac"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_of_too_many_rows_is_cut_off_and_says_so() {
    let logs: Vec<Value> = (0..10_001).map(|n| log(n, &format!("{n}"), None)).collect();
    let serving = Serving::start(QueryConfig::default(), &logs).await;
    let (status, answer) = get(&serving, TRACE).await;
    assert_eq!(
        (status, &answer["truncated"], &answer["logs"]),
        (200, &json!(true), &json!(10_000))
    );
    assert_eq!(answer["entries"][9_999]["log"]["message"], "9999");
}
