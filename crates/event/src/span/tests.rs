//! Spans written, taken back and committed.

use arrow::{
    array::{Array as _, AsArray as _},
    compute::cast,
    datatypes::DataType,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::PriorityRules;

const RECEIVED: i64 = 1_700_000_000_000_000_001;

fn column(batch: &RecordBatch, name: &str) -> Vec<Option<String>> {
    let text = cast(batch.column_by_name(name).unwrap(), &DataType::Utf8).unwrap();
    text.as_string::<i32>().iter().map(|value| value.map(str::to_owned)).collect()
}

fn committed(write: impl FnOnce(&mut SpanRow<'_, '_>)) -> Result<RecordBatch, Fault> {
    let rules = PriorityRules::default();
    let mut builder = SpanBatchBuilder::new(BatchContext::new(RECEIVED, &rules, [7; 10]));
    let mut row = builder.row();
    row.trace_id([0xab; 16]);
    row.span_id([0xcd; 8]);
    write(&mut row);
    row.commit()?;
    Ok(builder.finish())
}

fn only(batch: &RecordBatch, name: &str) -> Option<String> {
    assert_eq!(batch.num_rows(), 1);
    column(batch, name).remove(0)
}

fn json_of(batch: &RecordBatch, name: &str) -> Value {
    serde_json::from_str(&only(batch, name).unwrap()).unwrap()
}

/// Sets every column of a row.
fn fill(row: &mut SpanRow<'_, '_>) {
    row.start_time_unix_nano(5);
    row.end_time_unix_nano(6);
    row.trace_id([1; 16]);
    row.span_id([1; 8]);
    row.parent_span_id([1; 8]);
    row.name("dropped");
    row.kind(SpanKind::Client);
    row.status(SpanStatus::Error);
    row.status_message("dropped");
    row.trace_state("dropped");
    row.scope("{}");
    row.service("dropped");
    let mut resource = Resource::default();
    for key in ["host.name", "deployment.environment", "dropped"] {
        resource.attribute(key, AttributeValue::Text("dropped"));
    }
    row.resource(&resource);
    for key in ["http.method", "http.target", "client.address", "user_agent.original", "dropped"] {
        row.attribute(key, AttributeValue::Text("dropped"));
    }
    row.attribute("http.status_code", AttributeValue::Int(500));
    row.attribute("http.response.body.size", AttributeValue::Int(500));
    row.event(&SpanEvent::default());
    row.link(&SpanLink::default());
}

#[test]
fn a_span_that_is_not_committed_leaves_no_trace() {
    let rules = PriorityRules::default();
    let mut builder = SpanBatchBuilder::new(BatchContext::new(RECEIVED, &rules, [7; 10]));
    fill(&mut builder.row());
    let mut row = builder.row();
    row.trace_id([0xab; 16]);
    row.span_id([0xcd; 8]);
    row.commit().unwrap();
    fill(&mut builder.row());
    let batch = builder.finish();
    let filled = [
        "timestamp",
        "start_time_unix_nano",
        "observed_timestamp",
        "event_id",
        "trace_id",
        "span_id",
        "status_code",
    ];
    for field in batch.schema().fields() {
        let is_filled = filled.contains(&field.name().as_str());
        assert_eq!(batch[field.name()].is_valid(0), is_filled, "{}", field.name());
    }
    assert_eq!(only(&batch, "start_time_unix_nano"), Some(RECEIVED.to_string()));
    assert_eq!(only(&batch, "status_code").as_deref(), Some("UNSET"));
}

#[test]
fn a_filled_span_has_a_value_in_every_column() {
    let batch = committed(fill).unwrap();
    for field in batch.schema().fields() {
        assert!(batch[field.name()].is_valid(0), "{}", field.name());
    }
}

#[test]
fn a_span_without_ids_or_of_a_time_before_1970_is_refused() {
    for (write, reason) in [
        (
            &(|row: &mut SpanRow<'_, '_>| row.trace_id([0; 16])) as &dyn Fn(&mut SpanRow<'_, '_>),
            "trace_id: required, but missing",
        ),
        (&|row: &mut SpanRow<'_, '_>| row.span_id([0; 8]), "span_id: required, but missing"),
        (
            &|row: &mut SpanRow<'_, '_>| row.start_time_unix_nano(-1),
            "start and end: expected times from 1970 on, found -1 ns before it",
        ),
        (
            &|row: &mut SpanRow<'_, '_>| row.end_time_unix_nano(-2),
            "start and end: expected times from 1970 on, found -2 ns before it",
        ),
    ] {
        assert_eq!(committed(write).unwrap_err().0, reason);
    }
}

#[test]
fn the_id_follows_from_trace_span_and_kind() {
    let id = |kind: Option<SpanKind>| {
        let write = |row: &mut SpanRow<'_, '_>| {
            if let Some(kind) = kind {
                row.kind(kind);
            }
        };
        only(&committed(write).unwrap(), "event_id").unwrap()
    };
    let bare = format!("{}-{}", "ab".repeat(16), "cd".repeat(8));
    assert_eq!(id(None), bare);
    assert_eq!(id(Some(SpanKind::Server)), format!("{bare}-SERVER"));
}

#[test]
fn the_duration_is_from_start_to_end_unless_the_end_comes_first() {
    let of = |start, end: Option<i64>| {
        let batch = committed(|row| {
            row.start_time_unix_nano(start);
            if let Some(end) = end {
                row.end_time_unix_nano(end);
            }
        });
        let batch = batch.unwrap();
        (only(&batch, "duration_ms"), only(&batch, "end_time_unix_nano"))
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(of(1_000, Some(1_501_000)), (some("1.5"), some("1501000")));
    assert_eq!(of(1_000, Some(1_000)), (some("0.0"), some("1000")));
    assert_eq!(of(1_000, Some(999)), (None, some("999")));
    assert_eq!(of(1_000, None), (None, None));
    assert_eq!(of(0, Some(i64::MAX)).1, some(&i64::MAX.to_string()));
}

proptest! {
    #[test]
    fn events_and_links_read_back(
        names in proptest::collection::vec("\\PC{0,8}|[\\x00-\\x7f]{0,4}", 0..4),
        nanos: u64,
        dropped in 0..3_u32,
        state in "[a-z=,]{0,6}",
    ) {
        let attributes = json!({"k": names}).to_string();
        let batch = committed(|row| {
            for name in &names {
                row.event(&SpanEvent {
                    time_unix_nano: nanos,
                    name,
                    attributes: Some(&attributes),
                    dropped_attributes_count: dropped,
                });
                row.link(&SpanLink {
                    trace_id: &[0xef; 16],
                    span_id: &[9; 8],
                    trace_state: &state,
                    attributes: None,
                    dropped_attributes_count: dropped,
                    flags: dropped,
                });
            }
        }).unwrap();
        if names.is_empty() {
            prop_assert_eq!((only(&batch, "events"), only(&batch, "links")), (None, None));
            return Ok(());
        }
        let with = |mut object: Value, key: &str, value: Value, is_there: bool| {
            if is_there {
                object[key] = value;
            }
            object
        };
        let events: Vec<Value> = names.iter().map(|name| {
            let event = json!({"attributes": {"k": names}});
            let event = with(event, "time_unix_nano", json!(nanos.to_string()), nanos > 0);
            let event = with(event, "name", json!(name), !name.is_empty());
            with(event, "dropped_attributes_count", json!(dropped), dropped > 0)
        }).collect();
        prop_assert_eq!(json_of(&batch, "events"), json!(events));
        let link = json!({"trace_id": "ef".repeat(16), "span_id": "09".repeat(8)});
        let link = with(link, "trace_state", json!(state), !state.is_empty());
        let link = with(link, "trace_flags", json!(dropped), dropped > 0);
        let link = with(link, "dropped_attributes_count", json!(dropped), dropped > 0);
        prop_assert_eq!(json_of(&batch, "links"), json!(vec![link; names.len()]));
    }
}
