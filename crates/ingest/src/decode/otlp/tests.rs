//! Both encodings against the message types of `opentelemetry-proto`.

mod spans;

use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{
        AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList, any_value::Value,
    },
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
};
use proptest::{collection::vec, prelude::*};
use prost::Message as _;
use serde_json::json;

use crate::decode::{
    BodyFormat,
    testing::{Decoded, RECEIVED_NANOS, decoded, try_decoded},
};

fn any_value(value: Value) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(any_value(value)), ..Default::default() }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

#[test]
fn a_scope_that_all_records_share_does_not_make_them_huge() {
    let attributes = vec![text("x", &"y".repeat(8 << 20))];
    let scope = Some(InstrumentationScope { attributes, ..Default::default() });
    let log_records = vec![LogRecord::default(); 40];
    let scope_logs = vec![ScopeLogs { scope, log_records, ..Default::default() }];
    let resource_logs = vec![ResourceLogs { scope_logs, ..Default::default() }];
    let body = ExportLogsServiceRequest { resource_logs }.encode_to_vec();
    let error = try_decoded(BodyFormat::OtlpProtobuf, &body).err().unwrap();
    assert!(error.0.contains("take at most 268435456 bytes in all events together"), "{error}");
}

/// A request of one record.
fn request(record: LogRecord) -> ExportLogsServiceRequest {
    let scope_logs = vec![ScopeLogs { log_records: vec![record], ..Default::default() }];
    let resource_logs = ResourceLogs { scope_logs, ..Default::default() };
    ExportLogsServiceRequest { resource_logs: vec![resource_logs] }
}

/// Decodes a request in both encodings, which must agree.
fn both(request: &ExportLogsServiceRequest) -> Decoded {
    let protobuf = decoded(BodyFormat::OtlpProtobuf, request.encode_to_vec());
    let json = decoded(BodyFormat::OtlpJson, serde_json::to_vec(request).unwrap());
    assert_eq!(protobuf.events, json.events);
    assert_eq!(
        protobuf.faults.iter().map(|(index, _)| index).collect::<Vec<_>>(),
        json.faults.iter().map(|(index, _)| index).collect::<Vec<_>>()
    );
    protobuf
}

#[test]
fn every_part_of_a_record_is_kept() {
    let record = LogRecord {
        time_unix_nano: 1_600_000_000_123_456_789,
        observed_time_unix_nano: 5,
        severity_number: 18,
        severity_text: "CRITICAL".into(),
        body: Some(any_value(Value::StringValue("card refused".into()))),
        attributes: vec![
            text("http.request.method", "POST"),
            text("http.target", "/pay?x=1"),
            attribute("http.response.status_code", Value::IntValue(502)),
            attribute("retry", Value::BoolValue(true)),
            attribute("ratio", Value::DoubleValue(0.5)),
            attribute("raw", Value::BytesValue(vec![0, 255])),
            attribute(
                "tags",
                Value::ArrayValue(ArrayValue {
                    values: vec![any_value(Value::IntValue(-1)), AnyValue { value: None }],
                }),
            ),
            attribute(
                "user",
                Value::KvlistValue(KeyValueList {
                    values: vec![text("id", "7"), text("na\"me", "ü")],
                }),
            ),
        ],
        dropped_attributes_count: 3,
        flags: 1,
        trace_id: (0..16).collect(),
        span_id: (240..248).collect(),
        event_name: "payment".into(),
    };
    let mut request = request(record);
    let resource_logs = &mut request.resource_logs[0];
    resource_logs.schema_url = "https://a.example/1".into();
    resource_logs.resource = Some(Resource {
        attributes: vec![
            text("service.name", "checkout"),
            text("host.name", "h1"),
            text("deployment.environment.name", "prod"),
            text("cloud.region", "eu"),
        ],
        dropped_attributes_count: 1,
        ..Default::default()
    });
    let scope_logs = &mut resource_logs.scope_logs[0];
    scope_logs.schema_url = "https://a.example/2".into();
    scope_logs.scope = Some(InstrumentationScope {
        name: "lib".into(),
        version: "1.2".into(),
        attributes: vec![attribute("n", Value::IntValue(9))],
        dropped_attributes_count: 2,
    });

    let event = both(&request);
    for (column, value) in [
        ("time_unix_nano", "1600000000123456789"),
        ("severity_number", "18"),
        ("level", "ERROR"),
        ("message", "card refused"),
        ("trace_id", "000102030405060708090a0b0c0d0e0f"),
        ("span_id", "f0f1f2f3f4f5f6f7"),
        ("service", "checkout"),
        ("host", "h1"),
        ("environment", "prod"),
        ("http_method", "POST"),
        ("http_path", "/pay"),
        ("http_status", "502"),
        ("priority", "critical"),
    ] {
        assert_eq!(event.only(column).as_deref(), Some(value), "{column}");
    }
    assert_eq!(
        event.attributes(),
        [json!({
            "url.query": "x=1", "retry": true, "ratio": 0.5, "raw": "AP8=", "tags": [-1, null],
            "user": {"id": "7", "na\"me": "ü"}, "severity_text": "CRITICAL",
            "otel.event.name": "payment", "otel.dropped_attributes_count": 3, "trace_flags": 1,
            "otel.scope.name": "lib", "otel.scope.version": "1.2", "otel.scope.n": 9,
            "otel.scope.dropped_attributes_count": 2, "otel.scope.schema_url": "https://a.example/2",
        })]
    );
    let resource: serde_json::Value =
        serde_json::from_str(&event.only("resource").unwrap()).unwrap();
    assert_eq!(
        resource,
        json!({"cloud.region": "eu", "dropped_attributes_count": 1, "schema_url": "https://a.example/1"})
    );
}

#[test]
fn a_record_without_a_time_has_the_senders_observed_time_or_ours() {
    let time = |time_unix_nano, observed_time_unix_nano| {
        let record = LogRecord { time_unix_nano, observed_time_unix_nano, ..Default::default() };
        both(&request(record)).only("time_unix_nano").unwrap()
    };
    assert_eq!(time(7, 9), "7");
    assert_eq!(time(0, 9), "9");
    assert_eq!(time(0, 0), RECEIVED_NANOS.to_string());
}

#[test]
fn a_severity_text_counts_where_there_is_no_number_and_is_kept_where_it_says_more() {
    let severity = |severity_number, severity_text: &str| {
        let severity_text = severity_text.into();
        let event =
            both(&request(LogRecord { severity_number, severity_text, ..Default::default() }));
        (event.only("level"), event.attributes()[0].get("severity_text").cloned())
    };
    assert_eq!(severity(0, "warn"), (Some("WARN".into()), None));
    assert_eq!(severity(9, "Info"), (Some("INFO".into()), None));
    assert_eq!(severity(0, "notice"), (Some("INFO".into()), Some("notice".into())));
    assert_eq!(severity(0, "loud"), (None, Some("loud".into())));
    assert_eq!(severity(17, "loud"), (Some("ERROR".into()), Some("loud".into())));
    assert_eq!(severity(0, ""), (None, None));
}

#[test]
fn a_body_that_is_no_string_is_json() {
    let message = |value: Option<Value>| {
        let body = value.map(any_value);
        both(&request(LogRecord { body, ..Default::default() })).only("message")
    };
    assert_eq!(message(None), None);
    assert_eq!(message(Some(Value::StringValue(String::new()))).as_deref(), Some(""));
    assert_eq!(message(Some(Value::IntValue(i64::MIN))).as_deref(), Some("-9223372036854775808"));
    let list = KeyValueList { values: vec![text("a", "b")] };
    assert_eq!(message(Some(Value::KvlistValue(list))).as_deref(), Some(r#"{"a":"b"}"#));
}

#[test]
fn ids_of_zeros_are_none_and_of_another_length_are_kept_aside() {
    let ids = |trace_id, span_id| {
        let event = both(&request(LogRecord { trace_id, span_id, ..Default::default() }));
        (event.only("trace_id"), event.only("span_id"), event.attributes().remove(0))
    };
    assert_eq!(ids(vec![0; 16], vec![0; 8]), (None, None, json!({})));
    let aside = json!({"trace_id": "ab", "span_id": "0102"});
    assert_eq!(ids(vec![0xab], vec![1, 2]), (None, None, aside));
}

#[test]
fn a_record_without_a_service_is_of_an_unknown_one() {
    let event = both(&request(LogRecord::default()));
    assert_eq!(event.only("service").as_deref(), Some("unknown_service"));
}

#[test]
fn faults_are_of_their_record_only() {
    let mut request = request(LogRecord::default());
    let records = &mut request.resource_logs[0].scope_logs[0].log_records;
    records.push(LogRecord { severity_number: 25, ..Default::default() });
    records.push(LogRecord { time_unix_nano: u64::MAX, ..Default::default() });
    records.push(LogRecord::default());
    let decoded = both(&request);
    assert_eq!(decoded.events.num_rows(), 2);
    let reasons = [
        (1, "severityNumber: expected 0 to 24, found \"25\"".to_owned()),
        (2, "timeUnixNano: expected a time before 2262, found \"18446744073709551615\"".to_owned()),
    ];
    assert_eq!(decoded.faults, reasons);
}

/// A length-delimited protobuf field.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(content.len()).unwrap()], content].concat()
}

#[test]
fn a_text_that_is_not_utf8_rejects_its_record_and_one_in_the_resource_all_records() {
    let bad_record = field(2, &field(3, b"\xff"));
    let good_record = field(2, &[]);
    let records = field(2, &[bad_record, good_record].concat());
    let one = decoded(BodyFormat::OtlpProtobuf, field(1, &records));
    assert_eq!(one.events.num_rows(), 1);
    assert_eq!(
        one.faults,
        [(0, "protobuf: field 3: expected UTF-8, found another byte at 0".to_owned())]
    );

    let resource = field(1, &field(1, &field(1, b"\xff")));
    let all = decoded(BodyFormat::OtlpProtobuf, field(1, &[resource, records].concat()));
    assert_eq!(all.faults.len(), 2);
}

#[test]
fn the_resource_may_come_after_its_records() {
    let resource =
        Resource { attributes: vec![text("service.name", "late")], ..Default::default() };
    let records = field(2, &field(2, &[]));
    let late = field(1, &resource.encode_to_vec());
    let protobuf = decoded(BodyFormat::OtlpProtobuf, field(1, &[records, late].concat()));
    assert_eq!(protobuf.only("service").as_deref(), Some("late"));
    let json = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{}],"scope":{"name":"s"}}],"resource":
        {"attributes":[{"value":{"stringValue":"late"},"key":"service.name"}]}}]}"#;
    let json = decoded(BodyFormat::OtlpJson, json);
    assert_eq!(json.only("service").as_deref(), Some("late"));
    assert_eq!(json.attributes(), [json!({"otel.scope.name": "s"})]);
}

#[test]
fn json_numbers_may_be_text_nulls_are_absent_and_unknown_members_ignored() {
    let record = r#"{"timeUnixNano":"1600000000000000001","severityNumber":9,"body":null,"later":[{}],
        "attributes":[{"key":"a","value":{"intValue":7}},{"key":"b","value":{"intValue":"7"}},
        {"key":"c","value":{"doubleValue":"NaN"}},{"key":"d","value":{}},{"key":"e","value":{"stringValue":"\u00e9"}}]}"#;
    let body = format!(
        r#"{{"x":1,"resourceLogs":[{{"resource":null,"scopeLogs":[{{"logRecords":[{record}]}}]}}]}}"#
    );
    let event = decoded(BodyFormat::OtlpJson, body);
    assert_eq!(event.only("time_unix_nano").as_deref(), Some("1600000000000000001"));
    assert_eq!(event.attributes(), [json!({"a": 7, "b": 7, "c": "NaN", "d": null, "e": "é"})]);
}

#[test]
fn nesting_is_limited_the_same_in_both_encodings() {
    let nested = |depth| {
        let leaf = any_value(Value::IntValue(1));
        let list = |inner| {
            let values =
                vec![KeyValue { key: "k".into(), value: Some(inner), ..Default::default() }];
            any_value(Value::KvlistValue(KeyValueList { values }))
        };
        let body = Some((0..depth).fold(leaf, |inner, _| list(inner)));
        both(&request(LogRecord { body, ..Default::default() }))
    };
    assert!(nested(12).only("message").unwrap().ends_with(&"}".repeat(12)));
    assert_eq!(
        nested(13).faults,
        [(0, "value: expected at most 12 levels of nesting, found more".to_owned())]
    );
}

#[test]
fn a_body_that_is_not_otlp_is_unreadable() {
    for (format, body, reason) in [
        (
            BodyFormat::OtlpJson,
            "[]",
            "body: expected OTLP in JSON, but expected a JSON object at byte 0, found '['",
        ),
        (
            BodyFormat::OtlpJson,
            r#"{"resourceLogs":[{"scopeLogs":{}}]}"#,
            "body: expected OTLP in JSON, but expected a JSON array at byte 30, found '{'",
        ),
        (
            BodyFormat::OtlpProtobuf,
            "\x0a\x7f",
            "body: expected OTLP in protobuf, but protobuf: field 1 is cut off by the end of its message",
        ),
        (
            BodyFormat::OtlpProtobuf,
            "\x08\x01",
            "body: expected OTLP in protobuf, but protobuf: field 1: expected bytes, found a varint",
        ),
    ] {
        assert_eq!(try_decoded(format, body.as_bytes()).unwrap_err().0, reason);
    }
}

fn value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        "\\PC{0,12}|[\\x00-\\x7f]{0,4}".prop_map(Value::StringValue),
        any::<bool>().prop_map(Value::BoolValue),
        any::<i64>().prop_map(Value::IntValue),
        any::<i32>().prop_map(|eighths| Value::DoubleValue(f64::from(eighths) / 8.0)),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let values = vec(inner.prop_map(any_value), 0..4);
        let keys = vec("\\PC{0,4}", 4);
        (values, keys, proptest::bool::ANY).prop_map(|(values, keys, is_array)| {
            if is_array {
                return Value::ArrayValue(ArrayValue { values });
            }
            let pair = |(key, value)| KeyValue { key, value: Some(value), ..Default::default() };
            Value::KvlistValue(KeyValueList {
                values: keys.into_iter().zip(values).map(pair).collect(),
            })
        })
    })
    .prop_map(any_value)
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let pair = ("[a-z]{1,3}[.]\\PC{0,4}", value()).prop_map(|(key, value)| KeyValue {
        key,
        value: Some(value),
        ..Default::default()
    });
    vec(pair, 0..4)
}

fn record() -> impl Strategy<Value = LogRecord> {
    let bytes = |length| prop_oneof![vec(any::<u8>(), 0..20), vec(any::<u8>(), length)];
    (
        (
            0..=i64::MAX as u64,
            0..=i64::MAX as u64,
            0..=24_i32,
            "[a-zA-Z]{0,6}",
            proptest::option::of(value()),
        ),
        (attributes(), any::<u32>(), any::<u32>(), bytes(16), bytes(8), "\\PC{0,6}"),
    )
        .prop_map(|(first, second)| LogRecord {
            time_unix_nano: first.0,
            observed_time_unix_nano: first.1,
            severity_number: first.2,
            severity_text: first.3,
            body: first.4,
            attributes: second.0,
            dropped_attributes_count: second.1,
            flags: second.2,
            trace_id: second.3,
            span_id: second.4,
            event_name: second.5,
        })
}

fn requests() -> impl Strategy<Value = ExportLogsServiceRequest> {
    let scope = ("\\PC{0,4}", "[0-9.]{0,3}", attributes(), 0..2_u32).prop_map(
        |(name, version, attributes, dropped_attributes_count)| InstrumentationScope {
            name,
            version,
            attributes,
            dropped_attributes_count,
        },
    );
    let scope_logs = (proptest::option::of(scope), vec(record(), 0..4), "[a-z]{0,2}")
        .prop_map(|(scope, log_records, schema_url)| ScopeLogs { scope, log_records, schema_url });
    let resource =
        (attributes(), 0..2_u32).prop_map(|(mut attributes, dropped_attributes_count)| {
            attributes.push(text("service.name", "shop"));
            Resource { attributes, dropped_attributes_count, ..Default::default() }
        });
    let resource_logs =
        (proptest::option::of(resource), vec(scope_logs, 0..3), "[a-z]{0,2}").prop_map(
            |(resource, scope_logs, schema_url)| ResourceLogs { resource, scope_logs, schema_url },
        );
    vec(resource_logs, 0..3).prop_map(|resource_logs| ExportLogsServiceRequest { resource_logs })
}

/// What a value is as JSON.
fn expected_json(value: &AnyValue) -> serde_json::Value {
    match &value.value {
        Some(Value::StringValue(text)) => json!(text),
        Some(Value::BoolValue(value)) => json!(value),
        Some(Value::IntValue(number)) => json!(number),
        Some(Value::DoubleValue(number)) => json!(number),
        Some(Value::ArrayValue(array)) => array.values.iter().map(expected_json).collect(),
        Some(Value::KvlistValue(list)) => expected_members(&list.values),
        other => panic!("{other:?} is not generated"),
    }
}

fn expected_members(members: &[KeyValue]) -> serde_json::Value {
    let pair = |member: &KeyValue| {
        (member.key.clone(), member.value.as_ref().map_or(json!(null), expected_json))
    };
    serde_json::Value::Object(members.iter().map(pair).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_request_reads_the_same_from_both_encodings_and_as_its_messages_say(request in requests()) {
        let decoded = both(&request);
        prop_assert_eq!(&decoded.faults, &[]);
        let records: Vec<&LogRecord> = request
            .resource_logs
            .iter()
            .flat_map(|resource_logs| &resource_logs.scope_logs)
            .flat_map(|scope_logs| &scope_logs.log_records)
            .collect();
        prop_assert_eq!(decoded.events.num_rows(), records.len());
        let (times, messages) = (decoded.column("time_unix_nano"), decoded.column("message"));
        let (numbers, attributes) = (decoded.column("severity_number"), decoded.attributes());
        for (row, record) in records.into_iter().enumerate() {
            let sent = [record.time_unix_nano, record.observed_time_unix_nano];
            let time = sent.into_iter().find(|time| *time != 0).map(|time| time.to_string());
            prop_assert_eq!(times[row].clone(), time.or(Some(RECEIVED_NANOS.to_string())));
            let found = messages[row].as_deref().map(|message| match record.body.as_ref() {
                Some(AnyValue { value: Some(Value::StringValue(_)) }) => json!(message),
                _ => serde_json::from_str(message).unwrap(),
            });
            prop_assert_eq!(found, record.body.as_ref().map(expected_json));
            if record.severity_number > 0 {
                prop_assert_eq!(numbers[row].clone(), Some(record.severity_number.to_string()));
            }
            let serde_json::Value::Object(sent) = expected_members(&record.attributes) else { unreachable!() };
            for (key, value) in sent {
                prop_assert_eq!(&attributes[row][&key], &value);
            }
            if record.trace_id.len() == 16 && record.trace_id.iter().any(|byte| *byte != 0) {
                let hex: String = record.trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
                prop_assert_eq!(decoded.column("trace_id")[row].clone(), Some(hex));
            }
        }
    }
}
