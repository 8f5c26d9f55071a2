//! Bodies as agents and libraries write them.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::decode::{
    BodyFormat,
    testing::{Decoded, decoded, try_decoded, try_decoded_with},
};

const EVENTS: BodyFormat<'static> = BodyFormat::SplunkEvents;

fn event(event: &Value) -> Decoded {
    decoded(EVENTS, event.to_string())
}

fn messages(body: &str) -> Vec<Option<String>> {
    decoded(EVENTS, body).column("message")
}

#[test]
fn an_event_of_text_keeps_its_metadata_and_fields() {
    let event = event(&json!({
        "time": 1_426_279_439.123_f64, "host": "h", "source": "/var/log/x", "sourcetype": "nginx",
        "index": "main", "event": "ERROR disk\nfull é", "entity": 7,
        "fields": {"region": "eu", "roles": ["a", "b"], "trace_id": "AB", "service.name": "web"},
    }));
    for (column, value) in [
        ("time_unix_nano", "1426279439123000000"),
        ("message", "ERROR disk\nfull é"),
        ("level", "ERROR"),
        ("host", "h"),
        ("service", "web"),
        ("trace_id", "ab"),
    ] {
        assert_eq!(event.only(column).as_deref(), Some(value), "{column}");
    }
    assert_eq!(
        event.attributes(),
        [json!({
            "entity": 7, "region": "eu", "roles": ["a", "b"], "com.splunk.source": "/var/log/x",
            "com.splunk.sourcetype": "nginx", "com.splunk.index": "main",
        })]
    );
}

#[test]
fn an_event_that_is_an_object_is_a_document() {
    let event = event(&json!({
        "time": "1426279439", "sourcetype": "_json", "host": "h",
        "event": {"message": "m", "severity": "warn", "timestamp": "2001-01-01T00:00:00Z",
                  "host": "other", "user": {"id": 1}},
    }));
    assert_eq!(event.only("message").as_deref(), Some("m"));
    assert_eq!(event.only("level").as_deref(), Some("WARN"));
    assert_eq!(event.only("host").as_deref(), Some("h"));
    assert_eq!(event.only("service").as_deref(), Some("_json"));
    assert_eq!(event.only("time_unix_nano").as_deref(), Some("1426279439000000000"));
    assert_eq!(
        event.attributes(),
        [json!({"host": "other", "user": {"id": 1}, "timestamp": "2001-01-01T00:00:00Z",
                "com.splunk.sourcetype": "_json"})]
    );
}

#[test]
fn a_field_does_not_take_the_place_of_what_the_event_says() {
    for (body, level) in [
        (json!("INFO text"), None),
        (json!({"message": "INFO text", "level": "warn"}), Some("WARN")),
    ] {
        let fields = json!({"message": "m", "severity": "error"});
        let event = event(&json!({"event": body, "fields": fields}));
        assert_eq!(event.only("message").as_deref(), Some("INFO text"));
        assert_eq!(event.only("level").as_deref(), level.or(Some("ERROR")));
        assert_eq!(event.attributes()[0]["message"], "m");
    }
}

#[test]
fn an_event_that_is_neither_is_kept_as_json() {
    for (value, message) in
        [(json!(7.5), "7.5"), (json!([1, "a"]), "[1,\"a\"]"), (json!(true), "true")]
    {
        assert_eq!(event(&json!({"event": value})).only("message").as_deref(), Some(message));
    }
}

#[test]
fn times_are_exact_to_the_nanosecond() {
    for (time, nanos) in [
        (r#""1700000000.123456789""#, "1700000000123456789"),
        ("1700000000.123456789", "1700000000123456789"),
        ("1700000000", "1700000000000000000"),
        ("1700000000123", "1700000000123000000"),
        (r#"" 1700000000.5 ""#, "1700000000500000000"),
        ("1.7e9", "1700000000000000000"),
    ] {
        let decoded = decoded(EVENTS, format!(r#"{{"event":"x","time":{time}}}"#));
        assert_eq!(decoded.only("time_unix_nano").as_deref(), Some(nanos), "{time}");
    }
    let now = crate::decode::testing::RECEIVED_NANOS.to_string();
    assert_eq!(event(&json!({"event": "x", "time": null})).only("time_unix_nano"), Some(now));
}

#[test]
fn events_follow_each_other_with_or_without_space_or_in_arrays() {
    let all = [Some("a".into()), Some("b".into()), Some("c".into())];
    for body in [
        r#"{"event":"a"}{"event":"b"}{"event":"c"}"#,
        "{\"event\":\"a\"}\n\n{\"event\":\"b\"} \r\n{\"event\":\"c\"}\n",
        r#"[{"event":"a"},{"event":"b"},{"event":"c"}]"#,
        r#" [{"event":"a"}] [] {"event":"b"}[{"event":"c"}] "#,
    ] {
        assert_eq!(messages(body), all, "{body}");
    }
    assert_eq!(messages(" \n"), []);
}

#[test]
fn a_bad_event_is_rejected_and_the_rest_kept() {
    let body = r#"{"event":"a"}{"no":1}{"event":""}{"event":"x","time":"soon"}{"event":null}7
        {"event":"x","fields":[]}{"event":"x","host":5}{"event":"b"}"#;
    let decoded = decoded(EVENTS, body);
    assert_eq!(decoded.column("message"), [Some("a".into()), Some("b".into())]);
    let faults: Vec<_> = decoded.faults.iter().map(|(index, reason)| (*index, &**reason)).collect();
    assert_eq!(
        faults,
        [
            (1, EVENT_REQUIRED),
            (2, EVENT_BLANK),
            (3, "time: expected seconds since 1970, as number or text, found \"\\\"soon\\\"\""),
            (4, EVENT_REQUIRED),
            (5, "expected a JSON object at byte 0, found '7'"),
            (6, FIELDS_UNREADABLE),
            (7, "host: expected a string, found \"5\""),
        ]
    );
    assert_eq!(decoded.originals()[0], br#"{"no":1}"#);
}

#[test]
fn where_the_body_breaks_off_its_rest_is_one_bad_record() {
    for (body, rest, reason) in [
        (
            &b"{\"event\":\"a\"} {\"event\":"[..],
            &b" {\"event\":"[..],
            "body: expected a JSON value at byte 23, found the end",
        ),
        (b"{\"event\":\"a\"}\0", b"\0", "body: expected a JSON value at byte 13, found '\\0'"),
        (
            b"[{\"event\":\"a\"} {\"event\":\"b\"}]",
            b" {\"event\":\"b\"}]",
            "body: expected `,` or `]` at byte 15, found '{'",
        ),
        (
            b"{\"event\":\"a\"}{\"event\":\"\xff\"}{",
            b"{\"event\":\"\xff\"}{",
            "record: expected UTF-8, found another byte at 23",
        ),
        (b"{\"event\":\"a\"}\xff", b"\xff", "record: expected UTF-8, found another byte at 13"),
    ] {
        let decoded = try_decoded(EVENTS, body).unwrap();
        assert_eq!(decoded.column("message"), [Some("a".into())]);
        assert_eq!(decoded.faults, [(1, reason.to_owned())]);
        assert_eq!(decoded.originals(), [rest]);
    }
}

#[test]
fn raw_lines_have_the_metadata_of_the_request() {
    let params = [
        ("host", "h".to_owned()),
        ("source", String::new()),
        ("sourcetype", "syslog".to_owned()),
        ("index", "main".to_owned()),
    ];
    let body = b"WARN one\r\n\n two \n";
    let decoded = try_decoded_with(BodyFormat::SplunkRaw, &params, body).unwrap();
    assert_eq!(decoded.column("message"), [Some("WARN one".into()), Some(" two ".into())]);
    assert_eq!(decoded.column("level"), [Some("WARN".into()), None]);
    assert_eq!(decoded.column("host")[1].as_deref(), Some("h"));
    assert_eq!(decoded.column("service")[1].as_deref(), Some("syslog"));
    let metadata = json!({"com.splunk.sourcetype": "syslog", "com.splunk.index": "main"});
    assert_eq!(decoded.attributes(), [metadata.clone(), metadata]);

    let body = br#"{"event":"x","sourcetype":"own","source":"s"}"#;
    let decoded = try_decoded_with(EVENTS, &params, body).unwrap();
    assert_eq!(
        decoded.attributes(),
        [
            json!({"com.splunk.source": "s", "com.splunk.sourcetype": "own", "com.splunk.index": "main"})
        ]
    );
}

#[test]
fn what_events_share_is_bounded() {
    let params = [("source", "s".repeat(crate::decode::MAX_SHARED_BYTES / 3))];
    for (format, body) in
        [(EVENTS, r#"{"event":"x"}"#.repeat(4)), (BodyFormat::SplunkRaw, "x\n".repeat(4))]
    {
        let error = try_decoded_with(format, &params, body.as_bytes()).unwrap_err().0;
        assert!(error.contains("in parts"), "{error}");
    }
}

proptest! {
    #[test]
    fn what_a_sender_wrote_reads_back(
        messages in prop::collection::vec("\\PC+|[\\x00-\\x7f]+", 1..4),
        nanos in 0..i64::MAX,
        fields in prop::collection::btree_map("[a-z]{1,4}x", "\\PC*|[\\x00-\\x7f]*", 0..4),
    ) {
        let time = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
        let body: String = messages
            .iter()
            .map(|message| json!({"event": message, "time": time, "fields": fields}).to_string())
            .collect();
        let decoded = decoded(EVENTS, body);
        let found: Vec<_> = decoded.column("message").into_iter().flatten().collect();
        prop_assert_eq!(found, messages);
        prop_assert_eq!(decoded.column("time_unix_nano")[0].clone(), Some(nanos.to_string()));
        prop_assert_eq!(&decoded.attributes()[0], &json!(fields));
    }
}
