//! Both encodings, which must agree.

use proptest::{collection::vec, prelude::*};
use prost::Message;
use serde_json::json;

use crate::decode::{
    BodyFormat, MAX_SHARED_BYTES,
    testing::{Decoded, decoded, try_decoded, try_decoded_with},
};

/// `logproto.PushRequest` and what it is made of.
#[derive(Clone, PartialEq, Message)]
struct Push {
    #[prost(message, repeated, tag = "1")]
    streams: Vec<Stream>,
}

#[derive(Clone, PartialEq, Message)]
struct Stream {
    #[prost(string, tag = "1")]
    labels: String,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<Entry>,
    #[prost(uint64, tag = "3")]
    hash: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(message, optional, tag = "1")]
    timestamp: Option<Timestamp>,
    #[prost(string, tag = "2")]
    line: String,
    #[prost(message, repeated, tag = "3")]
    metadata: Vec<Label>,
}

#[derive(Clone, PartialEq, Message)]
struct Timestamp {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

type Pairs = Vec<(String, String)>;

fn pairs(pairs: &[(&str, &str)]) -> Pairs {
    pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

/// One stream of lines with their times and metadata.
fn in_json(labels: &Pairs, entries: &[(i64, String, Pairs)]) -> Vec<u8> {
    let object =
        |pairs: &Pairs| pairs.iter().cloned().collect::<std::collections::BTreeMap<_, _>>();
    let entry = |(nanos, line, metadata): &(i64, String, Pairs)| match metadata.is_empty() {
        true => json!([nanos.to_string(), line]),
        false => json!([nanos.to_string(), line, object(metadata)]),
    };
    let values: Vec<_> = entries.iter().map(entry).collect();
    json!({"streams": [{"stream": object(labels), "values": values}]}).to_string().into_bytes()
}

fn in_protobuf(labels: &Pairs, entries: &[(i64, String, Pairs)]) -> Vec<u8> {
    let quoted = |value: &str| {
        let character = |c: char| match c {
            '"' | '\\' => format!("\\{c}"),
            c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
            c => c.to_string(),
        };
        value.chars().map(character).collect::<String>()
    };
    let mut sorted = labels.clone();
    sorted.sort();
    let labels: Vec<_> =
        sorted.iter().map(|(name, value)| format!("{name}=\"{}\"", quoted(value))).collect();
    let entry = |(nanos, line, metadata): &(i64, String, Pairs)| {
        let mut metadata = metadata.clone();
        metadata.sort();
        Entry {
            timestamp: Some(Timestamp {
                seconds: nanos / 1_000_000_000,
                nanos: (nanos % 1_000_000_000) as i32,
            }),
            line: line.clone(),
            metadata: metadata.into_iter().map(|(name, value)| Label { name, value }).collect(),
        }
    };
    let labels = format!("{{{}}}", labels.join(", "));
    let entries = entries.iter().map(entry).collect();
    Push { streams: vec![Stream { labels, entries, hash: 7 }] }.encode_to_vec()
}

fn both(labels: &Pairs, entries: &[(i64, String, Pairs)]) -> Decoded {
    let json = decoded(BodyFormat::LokiJson, in_json(labels, entries));
    let protobuf = decoded(BodyFormat::LokiProtobuf, in_protobuf(labels, entries));
    assert_eq!(json.events, protobuf.events);
    json
}

fn one(labels: &[(&str, &str)], line: &str, metadata: &[(&str, &str)]) -> Decoded {
    both(&pairs(labels), &[(1_700_000_000_123_456_789, line.to_owned(), pairs(metadata))])
}

#[test]
fn labels_and_metadata_become_columns_or_attributes() {
    let event = one(
        &[
            ("service_name", "shop"),
            ("job", "j"),
            ("namespace", "n"),
            ("level", "warn"),
            ("host", "h"),
        ],
        "card refused",
        &[("trace_id", "0AF7"), ("span_id", "00"), ("user", "7")],
    );
    for (column, value) in [
        ("time_unix_nano", "1700000000123456789"),
        ("message", "card refused"),
        ("service", "shop"),
        ("level", "WARN"),
        ("host", "h"),
        ("trace_id", "0af7"),
        ("span_id", "00"),
    ] {
        assert_eq!(event.only(column).as_deref(), Some(value), "{column}");
    }
    assert_eq!(event.attributes(), [json!({"job": "j", "namespace": "n", "user": "7"})]);
}

#[test]
fn the_service_is_the_label_that_loki_would_take() {
    for (labels, service) in [
        (&[("service", "s"), ("app", "a"), ("job", "j")][..], "s"),
        (&[("job", "j"), ("container", "c"), ("app", "a")], "a"),
        (&[("job", "j"), ("container", "c"), ("app", "")], "c"),
        (&[("job", "j")], "j"),
        (&[("zone", "z")], "unknown_service"),
    ] {
        assert_eq!(one(labels, "x", &[]).only("service").as_deref(), Some(service), "{labels:?}");
    }
    let kept = one(&[("job", "j")], "x", &[]).attributes();
    assert_eq!(kept, [json!({"job": "j"})], "what only stands in for a service stays");
}

#[test]
fn a_line_tells_its_level_where_no_label_does() {
    assert_eq!(one(&[], "ERROR disk", &[]).only("level").as_deref(), Some("ERROR"));
    let labelled = one(&[("level", "info")], "ERROR disk", &[]);
    assert_eq!(labelled.only("level").as_deref(), Some("INFO"));
    let detected = one(&[("level", "info")], "x", &[("detected_level", "fatal")]);
    assert_eq!(detected.only("level").as_deref(), Some("FATAL"));
    assert_eq!(detected.attributes(), [json!({"level": "info"})]);
}

#[test]
fn a_label_is_never_the_id_the_time_or_the_text_of_its_entries() {
    let labels = [("event_id", "e"), ("message", "m"), ("@timestamp", "2001-01-01T00:00:00Z")];
    let entries = [(5, "x".to_owned(), pairs(&[])), (6, "y".to_owned(), pairs(&[]))];
    let decoded = decoded(BodyFormat::LokiJson, in_json(&pairs(&labels), &entries));
    assert_eq!(decoded.column("message"), [Some("x".into()), Some("y".into())]);
    assert_eq!(decoded.column("time_unix_nano"), [Some("5".into()), Some("6".into())]);
    assert_eq!(
        decoded.attributes()[1],
        json!(labels.into_iter().collect::<std::collections::BTreeMap<_, _>>())
    );
}

#[test]
fn the_tenant_is_kept() {
    let params = [("tenant", "team-a".to_owned())];
    let body = in_json(&pairs(&[]), &[(5, "x".to_owned(), pairs(&[]))]);
    let decoded = try_decoded_with(BodyFormat::LokiJson, &params, &body).unwrap();
    assert_eq!(decoded.attributes(), [json!({"loki.tenant": "team-a"})]);
}

#[test]
fn a_bad_entry_is_rejected_and_the_rest_kept() {
    let body = r#"{"streams":[{"values":[["5","a"],["soon","b"],["-1","c"],["6"],[],["7",8],
        ["8","d",{"k":1}],["9","e",{},1],["10","f"]],"stream":{"job":"j"}}],"more":[1]}"#;
    let decoded = decoded(BodyFormat::LokiJson, body);
    assert_eq!(decoded.column("message"), [Some("a".into()), Some("f".into())]);
    let reasons: Vec<_> = decoded.faults.iter().map(|(_, reason)| &**reason).collect();
    assert_eq!(
        reasons,
        [
            "timestamp: expected nanoseconds from 1970 on, until 2262, found \"soon\"",
            "timestamp: expected nanoseconds from 1970 on, until 2262, found \"-1\"",
            "entry: expected [time, line] or [time, line, metadata], found fewer",
            "entry: expected [time, line] or [time, line, metadata], found fewer",
            "line: expected a string, found \"8\"",
            "k: expected a string, found \"1\"",
            "entry: expected [time, line] or [time, line, metadata], found more",
        ]
    );
    assert_eq!(decoded.originals()[0], br#"["soon","b"]"#);

    let entry = |seconds, nanos| Entry {
        timestamp: Some(Timestamp { seconds, nanos }),
        line: "x".to_owned(),
        metadata: Vec::new(),
    };
    let entries = vec![entry(1, 0), entry(1, -1), entry(i64::MAX, 0)];
    let push = Push { streams: vec![Stream { labels: "{}".to_owned(), entries, hash: 0 }] };
    let decoded = try_decoded(BodyFormat::LokiProtobuf, &push.encode_to_vec()).unwrap();
    assert_eq!(decoded.column("time_unix_nano"), [Some("1000000000".into())]);
    let reason =
        "timestamp: expected nanoseconds from 1970 on, until 2262, found \"1 s and -1 ns\"";
    assert_eq!(decoded.faults[0], (1, reason.to_owned()));
}

#[test]
fn labels_that_cannot_be_read_are_a_fault_of_each_entry() {
    let entry = Entry { timestamp: None, line: "x".to_owned(), metadata: Vec::new() };
    let push = |labels: &str| Stream {
        labels: labels.to_owned(),
        entries: vec![entry.clone(), entry.clone()],
        hash: 0,
    };
    let push = Push { streams: vec![push("{a=b}"), push("{a=\"b\"}")] };
    let decoded = try_decoded(BodyFormat::LokiProtobuf, &push.encode_to_vec()).unwrap();
    assert_eq!((decoded.faults.len(), decoded.events.num_rows()), (2, 2));
    assert!(decoded.faults[0].1.starts_with("labels: byte 3: "), "{:?}", decoded.faults);

    let body = r#"{"streams":[{"stream":{"a":1},"values":[["5","x"]]}]}"#;
    let decoded = decoded_json(body);
    assert_eq!(decoded.faults[0].1, "a: expected a string, found \"1\"");
}

fn decoded_json(body: &str) -> Decoded {
    decoded(BodyFormat::LokiJson, body)
}

#[test]
fn a_body_that_is_no_push_is_unreadable() {
    for (body, reason) in [
        ("", "body: expected a Loki push, but expected a JSON object at byte 0, found the end"),
        (
            r#"{"streams":{}}"#,
            "body: expected a Loki push, but expected a JSON array at byte 11, found '{'",
        ),
        (
            r#"{"streams":[{"values":[["1","a"]"#,
            "body: expected a Loki push, but expected `,` or `]` at byte 32, found the end",
        ),
    ] {
        assert_eq!(try_decoded(BodyFormat::LokiJson, body.as_bytes()).unwrap_err().0, reason);
    }
    let cut = in_protobuf(&pairs(&[("a", "b")]), &[(5, "x".to_owned(), pairs(&[]))]);
    let error = try_decoded(BodyFormat::LokiProtobuf, &cut[..cut.len() - 1]).unwrap_err();
    assert!(error.0.starts_with("body: expected a Loki push in protobuf, but "), "{error}");
}

#[test]
fn what_entries_share_is_bounded() {
    let labels = pairs(&[("a", &"x".repeat(MAX_SHARED_BYTES / 100))]);
    let entries = vec![(5, String::new(), pairs(&[])); 101];
    for (format, body) in [
        (BodyFormat::LokiJson, in_json(&labels, &entries)),
        (BodyFormat::LokiProtobuf, in_protobuf(&labels, &entries)),
    ] {
        let error = try_decoded(format, &body).unwrap_err().0;
        assert!(error.contains("in parts"), "{error}");
    }
}

proptest! {
    #[test]
    fn what_a_sender_wrote_reads_back(
        lines in vec(("\\PC*|[\\x00-\\x7f]*", 0..i64::MAX), 1..4),
        labels in prop::collection::btree_map("[a-z]{1,4}x", "\\PC*|[\\x00-\\x7f]*", 0..4),
        metadata in prop::collection::btree_map("[a-z]{1,4}y", "\\PC*|[\\x00-\\x7f]*", 0..3),
    ) {
        let own = |pairs: &std::collections::BTreeMap<String, String>| -> Pairs {
            pairs.clone().into_iter().collect()
        };
        let entries: Vec<_> =
            lines.iter().map(|(line, nanos)| (*nanos, line.clone(), own(&metadata))).collect();
        let decoded = both(&own(&labels), &entries);
        let all: serde_json::Map<_, _> =
            labels.iter().chain(&metadata).map(|(k, v)| (k.clone(), v.clone().into())).collect();
        for (row, (line, nanos)) in lines.iter().enumerate() {
            prop_assert_eq!(decoded.column("message")[row].clone(), Some(line.clone()));
            prop_assert_eq!(decoded.column("time_unix_nano")[row].clone(), Some(nanos.to_string()));
            prop_assert_eq!(&decoded.attributes()[row], &serde_json::Value::Object(all.clone()));
        }
    }
}
