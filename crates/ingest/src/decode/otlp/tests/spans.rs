//! Spans of both encodings against the message types of `opentelemetry-proto`.

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{InstrumentationScope, KeyValueList},
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span},
};

use super::*;

/// A request of one span.
fn request(span: Span) -> ExportTraceServiceRequest {
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..Default::default() }];
    let resource_spans = ResourceSpans { scope_spans, ..Default::default() };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans] }
}

/// A span of which nothing is known but its ids.
fn bare() -> Span {
    Span { trace_id: vec![0xab; 16], span_id: vec![0xcd; 8], ..Default::default() }
}

/// Decodes a request in both encodings, which must agree.
fn both(request: &ExportTraceServiceRequest) -> Decoded {
    let protobuf = decoded(BodyFormat::OtlpTracesProtobuf, request.encode_to_vec());
    let json = decoded(BodyFormat::OtlpTracesJson, serde_json::to_vec(request).unwrap());
    assert_eq!(protobuf.events, json.events);
    assert_eq!(protobuf.faults, json.faults);
    protobuf
}

fn json_of(text: Option<String>) -> serde_json::Value {
    text.map_or(json!(null), |text| serde_json::from_str(&text).unwrap())
}

#[test]
fn every_part_of_a_span_is_kept() {
    let list = KeyValueList { values: vec![text("id", "7")] };
    let span = Span {
        trace_id: (0..16).collect(),
        span_id: (240..248).collect(),
        trace_state: "a=b".into(),
        parent_span_id: (1..9).collect(),
        flags: 0x101,
        name: "POST /pay".into(),
        kind: span::SpanKind::Server as i32,
        start_time_unix_nano: 1_600_000_000_123_456_789,
        end_time_unix_nano: 1_600_000_000_125_956_789,
        attributes: vec![
            text("http.request.method", "POST"),
            attribute("http.response.status_code", Value::IntValue(502)),
            text("http.target", "/pay?x=1"),
            attribute("user", Value::KvlistValue(list)),
        ],
        dropped_attributes_count: 1,
        events: vec![
            span::Event {
                time_unix_nano: 1_600_000_000_123_456_790,
                name: "exc\"eption".into(),
                attributes: vec![text("exception.type", "ü\n")],
                dropped_attributes_count: 2,
            },
            span::Event::default(),
        ],
        dropped_events_count: 3,
        links: vec![span::Link {
            trace_id: vec![0xee; 16],
            span_id: vec![0xff; 8],
            trace_state: "c=d".into(),
            attributes: vec![attribute("n", Value::IntValue(9))],
            dropped_attributes_count: 4,
            flags: 1,
        }],
        dropped_links_count: 5,
        status: Some(Status {
            message: "card refused".into(),
            code: opentelemetry_proto::tonic::trace::v1::status::StatusCode::Error as i32,
        }),
    };
    let mut request = request(span);
    let resource_spans = &mut request.resource_spans[0];
    resource_spans.schema_url = "https://a.example/1".into();
    resource_spans.resource = Some(Resource {
        attributes: vec![
            text("service.name", "checkout"),
            text("host.name", "h1"),
            text("deployment.environment.name", "prod"),
            text("cloud.region", "eu"),
        ],
        ..Default::default()
    });
    let scope_spans = &mut resource_spans.scope_spans[0];
    scope_spans.schema_url = "https://a.example/2".into();
    scope_spans.scope = Some(InstrumentationScope {
        name: "lib".into(),
        version: "1.2".into(),
        attributes: vec![attribute("n", Value::IntValue(9))],
        dropped_attributes_count: 2,
    });

    let span = both(&request);
    for (column, value) in [
        ("start_time_unix_nano", "1600000000123456789"),
        ("end_time_unix_nano", "1600000000125956789"),
        ("duration_ms", "2.5"),
        ("event_id", "000102030405060708090a0b0c0d0e0f-f0f1f2f3f4f5f6f7-SERVER"),
        ("trace_id", "000102030405060708090a0b0c0d0e0f"),
        ("span_id", "f0f1f2f3f4f5f6f7"),
        ("parent_span_id", "0102030405060708"),
        ("trace_state", "a=b"),
        ("service", "checkout"),
        ("name", "POST /pay"),
        ("kind", "SERVER"),
        ("status_code", "ERROR"),
        ("status_message", "card refused"),
        ("host", "h1"),
        ("environment", "prod"),
        ("http_method", "POST"),
        ("http_path", "/pay"),
        ("http_status", "502"),
    ] {
        assert_eq!(span.only(column).as_deref(), Some(value), "{column}");
    }
    assert_eq!(
        span.attributes(),
        [json!({
            "url.query": "x=1", "user": {"id": "7"}, "trace_flags": 257,
            "otel.dropped_attributes_count": 1, "otel.dropped_events_count": 3,
            "otel.dropped_links_count": 5,
        })]
    );
    assert_eq!(
        json_of(span.only("resource")),
        json!({"cloud.region": "eu", "schema_url": "https://a.example/1"})
    );
    assert_eq!(
        json_of(span.only("scope")),
        json!({
            "name": "lib", "version": "1.2", "n": 9, "dropped_attributes_count": 2,
            "schema_url": "https://a.example/2",
        })
    );
    assert_eq!(
        json_of(span.only("events")),
        json!([
            {
                "time_unix_nano": "1600000000123456790", "name": "exc\"eption",
                "attributes": {"exception.type": "ü\n"}, "dropped_attributes_count": 2,
            },
            {},
        ])
    );
    assert_eq!(
        json_of(span.only("links")),
        json!([{
            "trace_id": "ee".repeat(16), "span_id": "ff".repeat(8), "trace_state": "c=d",
            "trace_flags": 1, "attributes": {"n": 9}, "dropped_attributes_count": 4,
        }])
    );
}

#[test]
fn a_span_of_which_nothing_is_known_but_its_ids_began_when_it_came() {
    let span = both(&request(bare()));
    assert_eq!(span.only("start_time_unix_nano"), Some(RECEIVED_NANOS.to_string()));
    for column in ["end_time_unix_nano", "duration_ms", "parent_span_id", "kind", "events", "scope"]
    {
        assert_eq!(span.only(column), None, "{column}");
    }
    assert_eq!(span.only("status_code").as_deref(), Some("UNSET"));
    assert_eq!(span.only("service").as_deref(), Some("unknown_service"));
}

#[test]
fn a_parent_of_zeros_is_none_and_of_another_length_is_kept_aside() {
    let parent = |parent_span_id| {
        let span = both(&request(Span { parent_span_id, ..bare() }));
        (span.only("parent_span_id"), span.attributes().remove(0))
    };
    assert_eq!(parent(vec![0; 8]), (None, json!({})));
    assert_eq!(parent(vec![1, 0xfe]), (None, json!({"parent_span_id": "01fe"})));
}

#[test]
fn faults_are_of_their_span_only() {
    let zeros = "\"00000000000000000000000000000000\"";
    for (bad, reason) in [
        (
            Span { trace_id: vec![0; 16], ..bare() },
            format!("traceId: expected 16 bytes that are not all zero, found {zeros}"),
        ),
        (
            Span { span_id: vec![1; 7], ..bare() },
            "spanId: expected 8 bytes that are not all zero, found \"01010101010101\"".into(),
        ),
        (Span { kind: 6, ..bare() }, "kind: expected 0 to 5, found \"6\"".into()),
        (
            Span { status: Some(Status { code: 3, ..Default::default() }), ..bare() },
            "status.code: expected 0 to 2, found \"3\"".into(),
        ),
        (
            Span { end_time_unix_nano: u64::MAX, ..bare() },
            "endTimeUnixNano: expected a time before 2262, found \"18446744073709551615\"".into(),
        ),
    ] {
        let mut request = request(bare());
        request.resource_spans[0].scope_spans[0].spans.push(bad);
        request.resource_spans[0].scope_spans[0].spans.push(bare());
        let decoded = both(&request);
        assert_eq!(decoded.events.num_rows(), 2);
        assert_eq!(decoded.faults, [(1, reason)]);
    }
    let missing = both(&request(Span { span_id: vec![], ..bare() }));
    assert_eq!(missing.faults, [(0, "span_id: required, but missing".to_owned())]);
}

#[test]
fn json_ids_may_be_in_capitals_and_must_be_hexadecimal() {
    let body = |span_id: &str| {
        let span = format!(r#"{{"traceId":"{}","spanId":"{span_id}"}}"#, "AB".repeat(16));
        format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{span}]}}]}}]}}"#)
    };
    let span = decoded(BodyFormat::OtlpTracesJson, body("CDCDCDCDCDCDCDCD"));
    assert_eq!(span.only("trace_id"), Some("ab".repeat(16)));
    assert_eq!(span.only("span_id"), Some("cd".repeat(8)));
    for id in ["cdcdcdcdcdcdcdc", "é", "zzcdcdcdcdcdcdcd", "+dcdcdcdcdcdcdcd"] {
        let faults = decoded(BodyFormat::OtlpTracesJson, body(id)).faults;
        let reason = format!("spanId: expected pairs of hexadecimal digits, found {id:?}");
        assert_eq!(faults, [(0, reason)]);
    }
}

#[test]
fn a_value_in_an_event_may_be_nested_as_deep_as_elsewhere() {
    let nested = |depth| {
        let leaf = any_value(Value::IntValue(1));
        let list = |inner| {
            let values =
                vec![KeyValue { key: "k".into(), value: Some(inner), ..Default::default() }];
            any_value(Value::KvlistValue(KeyValueList { values }))
        };
        let value = Some((0..depth).fold(leaf, |inner, _| list(inner)));
        let attributes = vec![KeyValue { key: "k".into(), value, ..Default::default() }];
        let events = vec![span::Event { attributes, ..Default::default() }];
        both(&request(Span { events, ..bare() }))
    };
    assert!(nested(12).only("events").unwrap().contains(&"}".repeat(12)));
    assert_eq!(
        nested(13).faults,
        [(0, "value: expected at most 12 levels of nesting, found more".to_owned())]
    );
}

fn spans() -> impl Strategy<Value = Span> {
    let id = |length: usize| vec(any::<u8>(), length);
    let event = (any::<u64>(), "\\PC{0,6}|[\\x00-\\x7f]{0,4}", attributes(), 0..2_u32).prop_map(
        |(time_unix_nano, name, attributes, dropped_attributes_count)| span::Event {
            time_unix_nano,
            name,
            attributes,
            dropped_attributes_count,
        },
    );
    let link = (id(16), id(8), "[a-z=]{0,4}", attributes(), any::<u32>()).prop_map(
        |(trace_id, span_id, trace_state, attributes, flags)| span::Link {
            trace_id,
            span_id,
            trace_state,
            attributes,
            dropped_attributes_count: 0,
            flags,
        },
    );
    let status = ("\\PC{0,6}", 0..3).prop_map(|(message, code)| Status { message, code });
    (
        (id(16), id(8), prop_oneof![id(8), id(0), id(5)], "\\PC{0,8}|[\\x00-\\x7f]{0,4}", 0..6),
        (0..=i64::MAX as u64, 0..=i64::MAX as u64, attributes(), any::<u32>()),
        (vec(event, 0..3), vec(link, 0..3), proptest::option::of(status), "[a-z=]{0,4}"),
    )
        .prop_map(|(first, second, third)| Span {
            trace_id: first.0,
            span_id: first.1,
            parent_span_id: first.2,
            name: first.3,
            kind: first.4,
            start_time_unix_nano: second.0,
            end_time_unix_nano: second.1,
            attributes: second.2,
            flags: second.3,
            events: third.0,
            links: third.1,
            status: third.2,
            trace_state: third.3,
            ..Default::default()
        })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_spans_read_the_same_from_both_encodings_and_as_their_messages_say(
        sent in vec(spans(), 1..4),
    ) {
        let mut request = request(bare());
        request.resource_spans[0].scope_spans[0].spans = sent.clone();
        let decoded = both(&request);
        let known = |span: &&Span| [&span.trace_id, &span.span_id].iter().all(|id| id.iter().any(|byte| *byte != 0));
        let sent: Vec<&Span> = sent.iter().filter(known).collect();
        prop_assert_eq!(decoded.events.num_rows(), sent.len());
        let (attributes, times) = (decoded.attributes(), decoded.column("end_time_unix_nano"));
        let (names, parents) = (decoded.column("name"), decoded.column("parent_span_id"));
        let (traces, events) = (decoded.column("trace_id"), decoded.column("events"));
        let messages = decoded.column("status_message");
        for (row, span) in sent.into_iter().enumerate() {
            prop_assert_eq!(&traces[row], &Some(hex(&span.trace_id)));
            prop_assert_eq!(names[row].as_deref().unwrap_or_default(), &span.name);
            let end = Some(span.end_time_unix_nano).filter(|end| *end != 0);
            prop_assert_eq!(&times[row], &end.map(|end| end.to_string()));
            let has_parent = span.parent_span_id.len() == 8 && span.parent_span_id != [0; 8];
            prop_assert_eq!(&parents[row], &has_parent.then(|| hex(&span.parent_span_id)));
            let message = span.status.as_ref().map(|status| status.message.clone());
            prop_assert_eq!(&messages[row], &message.filter(|message| !message.is_empty()));
            let serde_json::Value::Object(sent) = expected_members(&span.attributes) else { unreachable!() };
            for (key, value) in sent {
                prop_assert_eq!(&attributes[row][&key], &value);
            }
            let found = json_of(events[row].clone());
            for (index, event) in span.events.iter().enumerate() {
                let name = Some(&event.name).filter(|name| !name.is_empty());
                prop_assert_eq!(&found[index]["name"], &json!(name));
                prop_assert_eq!(&found[index]["time_unix_nano"], &json!(event.time_unix_nano.to_string()));
                let attributes = Some(expected_members(&event.attributes)).filter(|_| !event.attributes.is_empty());
                prop_assert_eq!(&found[index]["attributes"], &attributes.unwrap_or(json!(null)));
            }
        }
    }
}
