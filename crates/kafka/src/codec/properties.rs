//! What is written is read again, whatever it is.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, RecordBatch, StringArray};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::DataType;
use proptest::prelude::*;
use thalweg_event::{
    AttributeValue, BatchContext, EventBatchBuilder, PriorityRules, envelope,
    schema::{column, log_schema},
};
use thalweg_log::TopicPartition;
use uuid::Uuid;

use super::*;
use crate::stamp::Stamp;

/// Largest message.
const LIMIT: usize = 1_000_000;

/// Events as a sender of the native envelope might write them.
fn event() -> impl Strategy<Value = String> {
    let text = || prop_oneof!["[a-z]{0,8}", "\\PC{0,12}", any::<String>()];
    let value = prop_oneof![
        text().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        any::<u64>().prop_map(serde_json::Value::from),
        any::<f64>().prop_map(serde_json::Value::from),
        any::<bool>().prop_map(serde_json::Value::from),
        Just(serde_json::Value::Null),
    ];
    let value = value.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            prop::collection::btree_map("[a-z.]{0,6}", inner, 0..4)
                .prop_map(serde_json::Value::from_iter),
        ]
    });
    let names = prop::sample::select(vec![
        "timestamp",
        "level",
        "event_id",
        "trace_id",
        "span_id",
        "host",
        "environment",
        "http_method",
        "http_path",
        "http_status",
        "duration_ms",
        "client_ip",
        "user_agent",
        "bytes",
        "anything",
    ]);
    let known = prop_oneof![
        Just(serde_json::json!("2026-11-25T10:00:00.123456789Z")),
        Just(serde_json::json!("ERROR")),
        Just(serde_json::json!("0af7651916cd43dd8448eb211c80319c")),
        Just(serde_json::json!("b7ad6b7169203331")),
        Just(serde_json::json!(404)),
        Just(serde_json::json!(1.25)),
    ];
    let members = prop::collection::vec((names, prop_oneof![known, value.clone()]), 0..8);
    (text(), members, prop::collection::btree_map("[a-z]{1,6}", value, 0..4)).prop_map(
        |(message, members, metadata)| {
            let mut event = serde_json::json!({"service": "a", "message": message});
            let object = event.as_object_mut().unwrap();
            object.extend(members.into_iter().map(|(name, value)| (name.to_owned(), value)));
            object.insert("metadata".into(), serde_json::Value::from_iter(metadata));
            event.to_string()
        },
    )
}

/// What the ingest would make of events; those it would reject are left out.
fn batch(events: &[String], services: &[String]) -> RecordBatch {
    let rules = PriorityRules::default();
    let context = BatchContext {
        client_ip: Some("10.0.0.1"),
        ..BatchContext::new(1_700_000_000_123_456_789, &rules, [7; 10])
    };
    let mut builder = EventBatchBuilder::new(context);
    for (event, service) in events.iter().zip(services.iter().cycle()) {
        let mut row = builder.row();
        if envelope::decode(event, &mut row).is_ok() {
            row.service(service);
            row.attribute("exact", AttributeValue::Double(0.1));
            let _ = row.commit();
        }
    }
    builder.finish()
}

fn as_read(messages: Vec<Outgoing>, encoding: Encoding) -> Vec<Incoming> {
    let read = |(number, message): (usize, Outgoing)| Incoming {
        offset: 100 + number as u64,
        unix_millis: 7,
        encoding: Some(encoding),
        stamp: Some(Stamp { origin: Uuid::nil(), sequence: number as u64, rows: 1 }),
        key: None,
        is_tombstone: false,
        payload: message.payload.unwrap(),
    };
    messages.into_iter().enumerate().map(read).collect()
}

/// The batch with dictionaries replaced by their values: how values are numbered is nobody's.
fn plain(batch: &RecordBatch) -> Vec<ArrayRef> {
    let plain = |column: &ArrayRef| match column.data_type() {
        DataType::Dictionary(_, values) => cast(column, values).unwrap(),
        _ => Arc::clone(column),
    };
    batch.columns().iter().map(plain).collect()
}

fn round_trip(batch: &RecordBatch, encoding: Encoding) -> RecordBatch {
    let codec = Codec::new(log_schema(), encoding, LIMIT);
    let messages = as_read(codec.encode(batch).unwrap(), codec.encoding());
    let decoded = codec.decode(&TopicPartition::new("logs.routine", 0), 100, &messages);
    assert!(decoded.rejected.is_empty(), "{:?}", decoded.rejected);
    let batches: Vec<RecordBatch> = decoded.entries.into_iter().map(|entry| entry.batch).collect();
    concat_batches(&log_schema(), &batches).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_column_of_an_event_comes_back_equal(
        events in prop::collection::vec(event(), 1..12),
        services in prop::collection::vec("[a-c]{0,2}", 1..4),
    ) {
        let batch = batch(&events, &services);
        for encoding in [Encoding::Json, Encoding::OtlpProto] {
            let read = round_trip(&batch, encoding);
            prop_assert_eq!(plain(&read), plain(&batch));
        }
    }

    #[test]
    fn any_bytes_are_rows_or_rejected_and_never_lost(payload: Vec<u8>, ours: bool) {
        for encoding in [Encoding::Json, Encoding::OtlpProto] {
            let message = Incoming {
                offset: 5,
                unix_millis: 7,
                encoding: ours.then_some(encoding),
                stamp: None,
                key: None,
                is_tombstone: false,
                payload: payload.clone(),
            };
            let codec = Codec::new(log_schema(), encoding, LIMIT);
            let at = TopicPartition::new("logs.routine", 0);
            let decoded = codec.decode(&at, 3, &[message]);
            prop_assert_eq!(decoded.entries.first().unwrap().offset, 3);
            prop_assert_eq!(decoded.entries.last().unwrap().next_offset, 6);
        }
    }
}

#[test]
fn messages_stay_below_the_limit_and_bring_all_rows_in_order() {
    const SMALL: usize = 20_000;
    let event = |number: usize| {
        let text = "x".repeat(fastrand::usize(0..3000));
        format!(r#"{{"service":"a","message":"{text}","event_id":"{number}"}}"#)
    };
    let events: Vec<String> = (0..300).map(event).collect();
    let batch = batch(&events, &["a".into()]);
    let codec = Codec::new(log_schema(), Encoding::OtlpProto, SMALL);
    let messages = codec.encode(&batch).unwrap();
    assert!(messages.len() > 1 && messages.len() < 300, "{} messages", messages.len());
    assert!(messages.iter().all(|message| message.bytes() < SMALL));
    let mut next = 0;
    for message in &messages {
        assert_eq!(message.rows.start, next);
        next = message.rows.end;
    }
    let decoded = codec.decode(
        &TopicPartition::new("logs.routine", 0),
        100,
        &as_read(messages, Encoding::OtlpProto),
    );
    let batches: Vec<RecordBatch> = decoded.entries.into_iter().map(|entry| entry.batch).collect();
    assert_eq!(plain(&concat_batches(&log_schema(), &batches).unwrap()), plain(&batch));
}

#[test]
fn a_damaged_message_is_rejected_and_its_neighbours_are_not() {
    let batch = batch(&[r#"{"service":"a","message":"m"}"#.into()], &["a".into()]);
    let codec = Codec::new(log_schema(), Encoding::Json, LIMIT);
    let good = codec.encode(&batch).unwrap().remove(0);
    let mut messages = as_read(vec![good.clone(), good.clone(), good], Encoding::Json);
    messages[1].payload.truncate(10);
    messages[2].offset = 110;
    let decoded = codec.decode(&TopicPartition::new("logs.routine", 0), 100, &messages);
    let spans: Vec<_> = decoded
        .entries
        .iter()
        .map(|entry| (entry.offset, entry.next_offset, entry.batch.num_rows()))
        .collect();
    assert_eq!(spans, [(100, 101, 1), (101, 102, 0), (102, 110, 0), (110, 111, 1)]);
    assert_eq!(decoded.rejected.len(), 1);
    let originals = decoded.rejected[0]["original"].as_binary::<i32>();
    assert_eq!(originals.value(0), messages[1].payload);
}

#[test]
fn a_message_says_its_service_and_its_trace() {
    let event = r#"{"service":"a","message":"m","trace_id":"0af7651916cd43dd8448eb211c80319c","span_id":"b7ad6b7169203331"}"#;
    let batch = batch(&[event.into(), r#"{"service":"a","message":"m"}"#.into()], &["a".into()]);
    let messages = Codec::new(log_schema(), Encoding::Json, LIMIT).encode(&batch).unwrap();
    assert_eq!(messages[0].key.as_deref(), Some("a"));
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    assert_eq!(messages[0].traceparent.as_deref(), Some(trace));
    assert_eq!(messages[1].traceparent, None);
    let paths: &StringArray = batch[column::HTTP_PATH].as_string();
    assert_eq!(paths.null_count(), 2);
}
