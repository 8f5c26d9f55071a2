//! Rows written, taken back and committed.

use arrow::{array::AsArray as _, compute::cast, datatypes::DataType};

use super::*;
use crate::severity::Level;

const RECEIVED: i64 = 1_700_000_000_000_000_001;

fn column(batch: &RecordBatch, name: &str) -> Vec<Option<String>> {
    let text = cast(batch.column_by_name(name).unwrap(), &DataType::Utf8).unwrap();
    text.as_string::<i32>().iter().map(|value| value.map(str::to_owned)).collect()
}

/// The values of `names` in the event that `write` makes.
fn event<const N: usize>(
    names: [&str; N],
    write: impl FnOnce(&mut Row<'_, '_>),
) -> [Option<String>; N] {
    let rules = PriorityRules::default();
    let mut builder = EventBatchBuilder::new(BatchContext::new(RECEIVED, &rules, [7; 10]));
    let mut row = builder.row();
    write(&mut row);
    row.commit().unwrap();
    let batch = builder.finish();
    names.map(|name| column(&batch, name).remove(0))
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// Sets every column of a row.
fn fill(row: &mut Row<'_, '_>) {
    row.time_unix_nano(5);
    row.event_id("dropped");
    row.service("dropped");
    row.severity(Level::Fatal.severity());
    row.message("dropped");
    row.trace_id("AA");
    row.span_id("BB");
    row.host("dropped");
    row.environment("dropped");
    row.http_method("dropped");
    row.http_target("/dropped?x");
    row.http_status(500);
    row.duration_ms(1.0);
    row.client_ip("dropped");
    row.user_agent("dropped");
    row.bytes(1);
    row.attribute("dropped", AttributeValue::Bool(true));
    let mut resource = Resource::default();
    resource.attribute("dropped", AttributeValue::Int(1));
    row.resource(&resource);
    row.schema_version("dropped");
}

#[test]
fn a_row_that_is_not_committed_leaves_no_trace() {
    let rules = PriorityRules::default();
    let mut builder = EventBatchBuilder::new(BatchContext::new(RECEIVED, &rules, [7; 10]));
    fill(&mut builder.row());
    builder.row().commit().unwrap();
    fill(&mut builder.row());
    let mut row = builder.row();
    row.message("kept");
    row.commit().unwrap();
    fill(&mut builder.row());

    assert_eq!((builder.len(), builder.critical_rows(), builder.sender_ids()), (2, 0, &[][..]));
    let batch = builder.finish();
    assert_eq!(column(&batch, "message"), [None, some("kept")]);
    assert_eq!(column(&batch, "priority"), [some("routine"), some("routine")]);
    let filled =
        ["timestamp", "time_unix_nano", "observed_timestamp", "event_id", "message", "priority"];
    for field in
        batch.schema().fields().iter().filter(|field| !filled.contains(&field.name().as_str()))
    {
        assert_eq!(column(&batch, field.name()), [None, None], "{}", field.name());
    }
}

#[test]
fn a_time_before_1970_is_refused_and_leaves_no_trace() {
    let rules = PriorityRules::default();
    let mut builder = EventBatchBuilder::new(BatchContext::new(RECEIVED, &rules, [7; 10]));
    let mut row = builder.row();
    fill(&mut row);
    row.time_unix_nano(-1);
    assert_eq!(
        row.commit().unwrap_err().0,
        "timestamp: expected a time from 1970 on, found -1 ns before it"
    );
    assert!(builder.is_empty());
    assert_eq!(builder.finish().num_rows(), 0);
}

#[test]
fn what_a_sender_left_out_is_filled_in() {
    let rules = PriorityRules::default();
    let mut context = BatchContext::new(RECEIVED, &rules, [7; 10]);
    (context.client_ip, context.default_service) = (Some("10.0.0.1"), Some("fallback"));
    let mut builder = EventBatchBuilder::new(context);
    builder.row().commit().unwrap();
    let mut row = builder.row();
    row.client_ip("10.0.0.2");
    row.service("own");
    row.http_status(503);
    row.commit().unwrap();
    let batch = builder.finish();
    assert_eq!(
        column(&batch, "time_unix_nano"),
        [some("1700000000000000001"), some("1700000000000000001")]
    );
    assert_eq!(column(&batch, "client_ip"), [some("10.0.0.1"), some("10.0.0.2")]);
    assert_eq!(column(&batch, "service"), [some("fallback"), some("own")]);
    assert_eq!(column(&batch, "level"), [None, some("ERROR")]);
    let ids = column(&batch, "event_id");
    assert!(ids[0] < ids[1] && ids.iter().flatten().all(|id| id.len() == 36), "{ids:?}");
}

#[test]
fn times_are_exact_and_rounded_down_to_microseconds() {
    let rules = PriorityRules::default();
    let mut builder = EventBatchBuilder::new(BatchContext::new(RECEIVED, &rules, [7; 10]));
    let mut row = builder.row();
    row.time_unix_nano(1_999);
    row.commit().unwrap();
    let batch = builder.finish();
    let micros = |name: &str| {
        let column = batch.column_by_name(name).unwrap();
        column.as_primitive::<arrow::datatypes::TimestampMicrosecondType>().value(0)
    };
    assert_eq!((micros("timestamp"), micros("observed_timestamp")), (1, RECEIVED / 1_000));
}

#[test]
fn attributes_keep_their_types_and_order() {
    let [attributes] = event(["attributes"], |row| {
        row.attribute("t\"", AttributeValue::Text("ü\n"));
        row.attribute("i", AttributeValue::Int(i64::MIN));
        row.attribute("d", AttributeValue::Double(1.0));
        row.attribute("n", AttributeValue::Double(f64::NEG_INFINITY));
        row.attribute("b", AttributeValue::Bool(false));
        row.attribute("j", AttributeValue::Json("[1]"));
    });
    let expected =
        r#"{"t\"":"ü\n","i":-9223372036854775808,"d":1.0,"n":"-Infinity","b":false,"j":[1]}"#;
    assert_eq!(attributes.as_deref(), Some(expected));
}

#[test]
fn semantic_conventions_become_columns_by_current_and_former_names() {
    const COLUMNS: [&str; 10] = [
        "service",
        "host",
        "environment",
        "http_method",
        "http_path",
        "http_status",
        "client_ip",
        "user_agent",
        "bytes",
        "attributes",
    ];
    let expected = ["s", "h", "prod", "GET", "/a", "404", "10.0.0.9", "agent", "12"].map(some);
    let write = |names: [&'static str; 9], target: &'static str| {
        move |row: &mut Row<'_, '_>| {
            let texts = ["s", "h", "prod", "GET", target, "404", "10.0.0.9", "agent"];
            for (name, text) in names.into_iter().zip(texts) {
                row.attribute(name, AttributeValue::Text(text));
            }
            row.attribute(names[8], AttributeValue::Int(12));
        }
    };
    let current = [
        "service.name",
        "host.name",
        "deployment.environment.name",
        "http.request.method",
        "url.path",
        "http.response.status_code",
        "client.address",
        "user_agent.original",
        "http.response.body.size",
    ];
    let found = event(COLUMNS, write(current, "/a"));
    assert_eq!((&found[..9], &found[9]), (&expected[..], &None));
    let former = [
        "service.name",
        "host.name",
        "deployment.environment",
        "http.method",
        "http.target",
        "http.status_code",
        "http.client_ip",
        "http.user_agent",
        "http.response_content_length",
    ];
    let found = event(COLUMNS, write(former, "https://a.example/a?q=1"));
    assert_eq!((&found[..9], &found[9]), (&expected[..], &some(r#"{"url.query":"q=1"}"#)));
}

#[test]
fn a_convention_whose_value_does_not_fit_stays_an_attribute() {
    let [status, path, attributes] = event(["http_status", "http_path", "attributes"], |row| {
        row.attribute("http.response.status_code", AttributeValue::Int(70_000));
        row.attribute("url.path", AttributeValue::Bool(true));
        let value = json::Cursor::new("[1]").value().unwrap();
        row.json_attribute("host.name", value);
    });
    assert_eq!((status, path), (None, None));
    let expected = r#"{"http.response.status_code":70000,"url.path":true,"host.name":[1]}"#;
    assert_eq!(attributes.as_deref(), Some(expected));
}

#[test]
fn json_attributes_are_promoted_like_others_and_else_kept_as_written() {
    let [service, status, attributes] = event(["service", "http_status", "attributes"], |row| {
        for (key, json) in
            [("service.name", r#""\u00fc""#), ("http.status_code", "200"), ("k", r#""\u00fc""#)]
        {
            row.json_attribute(key, json::Cursor::new(json).value().unwrap());
        }
    });
    assert_eq!((service.as_deref(), status.as_deref()), (Some("ü"), Some("200")));
    assert_eq!(attributes.as_deref(), Some(r#"{"k":"\u00fc"}"#));
}

#[test]
fn a_target_is_split_into_path_and_query() {
    for (target, path, attributes) in [
        ("/a/b?c=d?e", "/a/b", Some(r#"{"url.query":"c=d?e"}"#)),
        ("http://host:80/x", "/x", None),
        ("https://host", "/", None),
        ("*", "*", None),
        ("?", "", Some(r#"{"url.query":""}"#)),
    ] {
        let found = event(["http_path", "attributes"], |row| row.http_target(target));
        assert_eq!(found, [some(path), attributes.map(str::to_owned)], "{target}");
    }
}

#[test]
fn ids_are_lower_case_hexadecimal_and_other_text_stays() {
    let ids = |write: fn(&mut Row<'_, '_>)| event(["trace_id", "span_id"], write);
    let bytes = ids(|row| {
        row.trace_id_bytes(&[0xab, 0x01]);
        row.span_id_bytes(&[0xff]);
    });
    assert_eq!(bytes, [some("ab01"), some("ff")]);
    let text = ids(|row| {
        row.trace_id("ABcd");
        row.span_id("Span-7");
    });
    assert_eq!(text, [some("abcd"), some("Span-7")]);
}

#[test]
fn rows_with_an_id_of_the_sender_and_critical_ones_are_known() {
    let rules = PriorityRules::default();
    let mut builder = EventBatchBuilder::new(BatchContext::new(RECEIVED, &rules, [7; 10]));
    for (id, level) in
        [("", Level::Error), ("a", Level::Info), ("", Level::Warn), ("b", Level::Fatal)]
    {
        let mut row = builder.row();
        row.event_id(id);
        row.severity(level.severity());
        row.commit().unwrap();
    }
    assert_eq!((builder.sender_ids(), builder.critical_rows()), (&[1, 3][..], 2));
    let batch = builder.finish();
    let ids = column(&batch, "event_id");
    assert_eq!((ids[1].as_deref(), ids[3].as_deref()), (Some("a"), Some("b")));
    let priorities = ["critical", "routine", "routine", "critical"].map(some);
    assert_eq!(column(&batch, "priority"), priorities);
}

#[test]
fn a_resource_fills_its_columns_and_keeps_the_rest() {
    let mut resource = Resource::default();
    resource.attribute("service.name", AttributeValue::Text("s"));
    resource.attribute("host.name", AttributeValue::Int(7));
    resource.attribute("k", AttributeValue::Text("v"));
    resource.schema_url("u");
    resource.dropped_attributes(2);
    let found = event(["service", "host", "resource"], |row| row.resource(&resource));
    let json = r#"{"host.name":7,"k":"v","schema_url":"u","dropped_attributes_count":2}"#;
    assert_eq!(found, [some("s"), None, some(json)]);
}
