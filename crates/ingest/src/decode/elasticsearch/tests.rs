//! Bulk bodies, as agents write them.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::decode::{
    BodyFormat,
    testing::{Decoded, decoded, try_decoded, try_decoded_with},
};

const BULK: BodyFormat<'static> = BodyFormat::ElasticsearchBulk;

/// One document, created in index `logs`.
fn document(document: &Value) -> Decoded {
    decoded(BULK, format!("{{\"create\":{{\"_index\":\"logs\"}}}}\n{document}\n"))
}

fn attributes(event: &Decoded) -> Value {
    let mut attributes = event.attributes().remove(0);
    attributes.as_object_mut().unwrap().remove("elasticsearch.index").unwrap();
    attributes
}

#[test]
fn a_document_in_the_elastic_common_schema_fills_the_columns() {
    let event = document(&json!({
        "@timestamp": "2023-11-14T22:13:20.123456789Z",
        "message": "card refused",
        "log": {"level": "warning", "logger": "pay", "file": {"path": "/var/log/pay"}},
        "service": {"name": "checkout", "environment": "prod", "version": "1.2"},
        "host": {"name": "h1", "ip": ["10.0.0.1"]},
        "trace": {"id": "0AF7651916CD43DD8448EB211C80319C"},
        "span": {"id": "00F067AA0BA902B7"},
        "http": {
            "request": {"method": "POST", "body": {"bytes": 7}},
            "response": {"status_code": 402, "body": {"bytes": 12}},
        },
        "url": {"path": "/pay", "query": "x=1"},
        "client": {"ip": "192.0.2.1"},
        "user_agent": {"original": "curl/8"},
        "event": {"id": "e-1", "duration": 1_500_000, "dataset": "pay"},
        "labels": {"team": "sre", "n": 1.5, "none": null},
        "tags": ["a", true],
        "empty": {},
    }));
    for (column, value) in [
        ("time_unix_nano", "1700000000123456789"),
        ("message", "card refused"),
        ("level", "WARN"),
        ("service", "checkout"),
        ("environment", "prod"),
        ("host", "h1"),
        ("trace_id", "0af7651916cd43dd8448eb211c80319c"),
        ("span_id", "00f067aa0ba902b7"),
        ("http_method", "POST"),
        ("http_status", "402"),
        ("bytes", "12"),
        ("http_path", "/pay"),
        ("client_ip", "192.0.2.1"),
        ("user_agent", "curl/8"),
        ("duration_ms", "1.5"),
        ("event_id", "e-1"),
    ] {
        assert_eq!(event.only(column).as_deref(), Some(value), "{column}");
    }
    assert_eq!(
        attributes(&event),
        json!({
            "log": {"logger": "pay", "file": {"path": "/var/log/pay"}},
            "service": {"version": "1.2"},
            "host": {"ip": ["10.0.0.1"]},
            "http": {"request": {"body": {"bytes": 7}}},
            "url": {"query": "x=1"},
            "event": {"dataset": "pay"},
            "labels": {"team": "sre", "n": 1.5, "none": null},
            "tags": ["a", true],
            "empty": {},
        })
    );
}

#[test]
fn dotted_names_mean_the_same_as_nested_ones() {
    let event = document(&json!({
        "log.level": "error", "service.name": "a", "http": {"response.status_code": "503"},
        "trace.id": "ab", "x.y": {"z.w": 1},
    }));
    assert_eq!(event.only("level").as_deref(), Some("ERROR"));
    assert_eq!(event.only("service").as_deref(), Some("a"));
    assert_eq!(event.only("http_status").as_deref(), Some("503"));
    assert_eq!(event.only("trace_id").as_deref(), Some("ab"));
    assert_eq!(attributes(&event), json!({"x.y": {"z.w": 1}}));
}

#[test]
fn documents_of_fluent_bit_and_vector_are_understood() {
    let fluent_bit = document(&json!({
        "@timestamp": "2026-11-25T01:02:03.456Z", "log": "ERROR disk\n", "stream": "stderr",
        "kubernetes": {"pod_name": "p"},
    }));
    assert_eq!(fluent_bit.only("message").as_deref(), Some("ERROR disk\n"));
    let rest = json!({"stream": "stderr", "kubernetes": {"pod_name": "p"}});
    assert_eq!(attributes(&fluent_bit), rest);

    let vector = document(&json!({
        "timestamp": "2023-11-14T22:13:20Z", "host": "h", "message": "m", "source_type": "file",
    }));
    assert_eq!(vector.only("time_unix_nano").as_deref(), Some("1700000000000000000"));
    assert_eq!(vector.only("host").as_deref(), Some("h"));
    assert_eq!(attributes(&vector), json!({"source_type": "file"}));
}

#[test]
fn documents_of_opentelemetrys_exporter_are_understood() {
    let event = document(&json!({
        "@timestamp": "1700000000123.456789", "body": {"text": "m", "flattened": {"x": 1}},
        "severity_text": "WARN", "severity_number": 13, "trace_id": "ab",
        "attributes": {"user": 7},
        "resource": {"attributes": {"service.name": "a", "deployment.environment.name": "prod",
                                    "cloud.region": "eu"}},
    }));
    for (column, value) in [
        ("time_unix_nano", "1700000000123456789"),
        ("message", "m"),
        ("level", "WARN"),
        ("trace_id", "ab"),
        ("service", "a"),
        ("environment", "prod"),
    ] {
        assert_eq!(event.only(column).as_deref(), Some(value), "{column}");
    }
    assert_eq!(
        attributes(&event),
        json!({
            "body": {"flattened": {"x": 1}}, "severity_number": 13, "attributes": {"user": 7},
            "resource": {"attributes": {"cloud.region": "eu"}},
        })
    );
}

#[test]
fn a_name_that_stands_in_counts_only_where_the_usual_one_is_missing() {
    let event = document(&json!({
        "log": "l", "timestamp": "2001-01-01T00:00:00Z", "ts": 1_600_000_000,
        "@timestamp": 1_700_000_000_123_i64, "message": "m", "msg": "n",
    }));
    assert_eq!(event.only("time_unix_nano").as_deref(), Some("1700000000123000000"));
    assert_eq!(event.only("message").as_deref(), Some("m"));
    let rest =
        json!({"log": "l", "timestamp": "2001-01-01T00:00:00Z", "ts": 1_600_000_000, "msg": "n"});
    assert_eq!(attributes(&event), rest);

    let duration = document(&json!({"time": 12.5, "msg": "m"}));
    assert_eq!(duration.only("message").as_deref(), Some("m"));
    assert_eq!(attributes(&duration), json!({"time": 12.5}));
}

#[test]
fn a_value_that_does_not_fit_its_column_or_comes_second_is_an_attribute() {
    let event = document(&json!({
        "level": 30, "severity": "ERROR", "log": {"level": "debug"}, "service": ["a"],
        "host": {"name": 7}, "http.status_code": "many", "trace_id": {"x": 1}, "client.ip": "",
        "event": {"duration": -1},
    }));
    assert_eq!(event.only("level").as_deref(), Some("DEBUG"));
    assert_eq!(event.only("service").as_deref(), Some("logs"));
    assert_eq!(
        attributes(&event),
        json!({
            "level": 30, "severity": "ERROR", "service": ["a"], "host": {"name": 7},
            "http.status_code": "many", "trace_id": {"x": 1}, "client.ip": "",
            "event": {"duration": -1},
        })
    );
}

#[test]
fn an_id_is_one_of_its_index() {
    let body = r#"{"index":{"_index":"a","_id":"1"}}
{"message":"x","event":{"id":"own"}}
{"create":{"_index":"b","_id":1}}
{"message":"y"}
{"create":{"_index":"b","_id":null,"pipeline":"p","routing":"r","dynamic_templates":{}}}
{"message":"z","event.id":"own"}
"#;
    let events = decoded(BULK, body);
    let ids: Vec<_> = events.column("event_id").into_iter().flatten().collect();
    assert_eq!(ids, ["a/1", "b/1", "own"]);
    assert_eq!(
        events.attributes(),
        [
            json!({"elasticsearch.index": "a", "event": {"id": "own"}}),
            json!({"elasticsearch.index": "b"}),
            json!({"elasticsearch.index": "b", "elasticsearch.pipeline": "p"}),
        ]
    );
}

#[test]
fn line_ends_and_blank_lines_between_operations_do_not_matter() {
    let body = "\r\n{\"index\":{\"_index\":\"a\"}}\r\n{\"message\":\"x\"}\r\n\n  \n\
                {\"index\":{\"_index\":\"a\"}}\n{\"message\":\"y\"}";
    assert_eq!(decoded(BULK, body).column("message"), [Some("x".into()), Some("y".into())]);
    assert_eq!(decoded(BULK, "").column("message"), []);
}

#[test]
fn each_refused_operation_is_rejected_with_its_lines() {
    let body = b"{\"update\":{\"_index\":\"a\",\"_id\":\"1\"}}\n{\"doc\":{}}\n\
                 {\"delete\":{\"_index\":\"a\",\"_id\":\"1\"}}\n\
                 {\"index\":{}}\n{\"message\":\"x\"}\n\
                 {\"create\":{\"_index\":\"a\",\"_id\":\"\"}}\n{}\n\
                 {\"create\":{\"_index\":\"a\"}}\n\n\
                 {\"create\":{\"_index\":\"a\"}}\n{\"@timestamp\":\"soon\"}\n\
                 {\"create\":{\"_index\":\"a\"}}\n{\"message\":\"\xff\"}\n\
                 {\"create\":{\"_index\":\"a\"}}\n{\"message\":\"good\"}\n";
    let decoded = try_decoded(BULK, body).unwrap();
    assert_eq!(decoded.column("message"), [Some("good".into())]);
    let faults: Vec<_> = decoded.faults.iter().map(|(index, reason)| (*index, &**reason)).collect();
    assert_eq!(
        faults,
        [
            (0, "action: expected create or index, found update; stored events do not change"),
            (1, "action: expected create or index, found delete; stored events do not change"),
            (2, "_index: expected in the action or the path, found in neither"),
            (3, "_id: expected a text that is not empty, or no _id"),
            (4, "document: expected a JSON object at byte 0, found the end"),
            (
                5,
                "document: @timestamp: expected ISO 8601 text or milliseconds since 1970, found \
                 \"\\\"soon\\\"\""
            ),
            (6, "record: expected UTF-8, found another byte at 12"),
        ]
    );
    let originals = decoded.originals();
    assert_eq!(originals[0], b"{\"update\":{\"_index\":\"a\",\"_id\":\"1\"}}\n{\"doc\":{}}");
    assert_eq!(originals[1], b"{\"delete\":{\"_index\":\"a\",\"_id\":\"1\"}}");
    assert_eq!(originals[6], b"{\"create\":{\"_index\":\"a\"}}\n{\"message\":\"\xff\"}");
}

#[test]
fn a_body_whose_operations_cannot_be_told_apart_is_unreadable() {
    for (body, reason) in [
        (
            "{\"message\":\"x\"}\n",
            "line 1: action: expected one of create, index, update and delete, found \"message\"",
        ),
        (
            "\n{\"index\":{}}\n",
            "line 2: expected a document on the line after the action, found the end",
        ),
        ("{\"index\":{}} x\n{}\n", "line 1: expected the end at byte 13, found 'x'"),
        (
            "{\"index\":{},\"a\":{}}\n{}\n",
            "line 1: action: expected the end of the object, found \"a\"",
        ),
        ("{\"index\":{\"_id\":[]}}\n{}\n", "line 1: _id: expected a string, found \"[]\""),
        ("[]\n", "line 1: expected a JSON object at byte 0, found '['"),
    ] {
        assert_eq!(try_decoded(BULK, body.as_bytes()).unwrap_err().0, reason);
    }
}

#[test]
fn the_path_names_the_index_of_actions_that_name_none() {
    let params = [("index", "web-2026.11".to_owned()), ("pipeline", "geo".to_owned())];
    let body = b"{\"create\":{}}\n{\"message\":\"x\"}\n{\"create\":{\"_index\":\"b\"}}\n{}\n";
    let decoded = try_decoded_with(BULK, &params, body).unwrap();
    assert_eq!(decoded.column("service"), [Some("web".into()), Some("b".into())]);
    assert_eq!(
        decoded.attributes(),
        [
            json!({"elasticsearch.index": "web-2026.11", "elasticsearch.pipeline": "geo"}),
            json!({"elasticsearch.index": "b", "elasticsearch.pipeline": "geo"}),
        ]
    );
}

#[test]
fn what_operations_share_is_bounded() {
    let params = [("index", "i".repeat(crate::decode::MAX_SHARED_BYTES / 10))];
    let body = "{\"create\":{}}\n{}\n".repeat(6);
    let error = try_decoded_with(BULK, &params, body.as_bytes()).unwrap_err().0;
    assert!(error.contains("in parts"), "{error}");
}

#[test]
fn an_index_without_its_date_is_the_service() {
    for (index, service) in [
        ("logs", "logs"),
        ("logstash-2026.11.25", "logstash"),
        ("filebeat-8.19.0-2026.11.25", "filebeat-8.19.0"),
        ("web_2026-11", "web"),
        ("app.20261125", "app"),
        ("logs-nginx-default", "logs-nginx-default"),
        ("x-1234", "x-1234"),
        ("2026.11.25", "2026.11.25"),
        ("-2026.11.25", "-2026.11.25"),
        ("é2026.11.25", "é2026.11.25"),
        ("", ""),
    ] {
        assert_eq!(without_date(index), service);
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<i32>().prop_map(|eighths| (f64::from(eighths) / 8.0).into()),
        "\\PC*|[\\x00-\\x7f]*".prop_map(Value::String),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map("\\PC{0,6}", inner, 0..4)
                .prop_map(|members| members.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn what_a_sender_wrote_reads_back(
        message in "\\PC*|[\\x00-\\x7f]*",
        nanos in 0..i64::MAX,
        fields in prop::collection::btree_map("[a-z]{1,3}[\\PC]{0,8}x", value(), 0..5),
        below in prop::collection::btree_map("[a-z]{1,3}x", value(), 1..3),
    ) {
        let mut event = json!(fields);
        event["@timestamp"] = json!(chrono::DateTime::from_timestamp_nanos(nanos).to_rfc3339());
        event["message"] = json!(message);
        event["host"] = json!(below);
        event["host"]["name"] = json!("h");
        let decoded = document(&event);
        prop_assert_eq!(decoded.only("message").unwrap(), message);
        prop_assert_eq!(decoded.only("time_unix_nano").unwrap(), nanos.to_string());
        prop_assert_eq!(decoded.only("host").unwrap(), "h");
        let mut expected = json!(fields);
        expected["host"] = json!(below);
        prop_assert_eq!(attributes(&decoded), expected);
    }
}
