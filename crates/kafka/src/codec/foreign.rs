//! Messages of other producers, and messages of which no row can be made.
//!
//! On the topics of events others may write what OpenTelemetry's exporters write (OTLP in protobuf
//! or JSON), and events in the native envelope. Which it is, is told from the bytes: headers say
//! nothing reliable.

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use thalweg_event::{
    BatchContext, Fault, PriorityRules, RejectedBatchBuilder, schema::log_schema, span::span_schema,
};
use thalweg_ingest::decode::{self, BodyFormat, Sink};
use thalweg_log::TopicPartition;
use xxhash_rust::xxh3::xxh3_128;

use super::json;
use crate::message::Incoming;

/// Name of such messages among the formats in table `rejected`.
const FORMAT: &str = "kafka";
/// Nanoseconds of a millisecond.
const NANOS_PER_MILLI: i64 = 1_000_000;

/// Rows of a message that others wrote, and its records that no row can be made of.
///
/// # Errors
/// Why no record can be told apart in it, in words.
pub(super) fn read(
    at: &TopicPartition,
    message: &Incoming,
    schema: &SchemaRef,
) -> Result<(RecordBatch, Option<RecordBatch>), String> {
    let is_logs = Arc::ptr_eq(schema, &log_schema());
    if !is_logs && !Arc::ptr_eq(schema, &span_schema()) {
        let rows = json::read([message.payload.as_slice()].into_iter(), schema);
        return Ok((rows.map_err(|error| error.to_string())?, None));
    }
    let rules = PriorityRules::default();
    let observed = message.unix_millis.saturating_mul(NANOS_PER_MILLI);
    // Whoever reads the message again gives its events the same ids.
    let place = format!("{at} {}", message.offset);
    let mut seed = [0; 10];
    seed.copy_from_slice(&xxh3_128(place.as_bytes()).to_be_bytes()[..10]);
    let mut sink = Sink::new(BatchContext::new(observed, &rules, seed), FORMAT);
    let format = format(&message.payload, is_logs);
    decode::decode(format, &message.payload, &mut sink).map_err(|error| error.to_string())?;
    let Sink { events, spans, rejected, .. } = sink;
    let is_empty = events.is_empty() && rejected.is_empty();
    if is_empty && spans.as_ref().is_none_or(|spans| spans.is_empty()) && !is_export(message) {
        return Err("there is no record in it".into());
    }
    let rejected = (!rejected.is_empty()).then(|| rejected.finish(observed, None));
    let rows = match (is_logs, spans) {
        (true, None) => events.finish(),
        (false, Some(spans)) => spans.finish(),
        (false, None) if events.is_empty() => RecordBatch::new_empty(Arc::clone(schema)),
        _ => return Err(format!("expected records of topic {}, found others", at.topic)),
    };
    Ok((rows, rejected))
}

/// A row for the topic of rejected records that holds the whole of `message`.
pub(crate) fn reject(at: &TopicPartition, message: &Incoming, reason: String) -> RecordBatch {
    let mut rejected = RejectedBatchBuilder::default();
    let fault = Fault(format!("message {} of {at}: {reason}", message.offset));
    rejected.push(FORMAT, 0, &fault, &message.payload);
    rejected.finish(message.unix_millis.saturating_mul(NANOS_PER_MILLI), None)
}

/// Whether it is an export request for sure, which may have no records.
fn is_export(message: &Incoming) -> bool {
    message.payload.is_empty() || names(&message.payload, b"\"resource")
}

/// What the bytes seem to be. Protobuf of an export request begins with the tag of its field 1.
fn format(payload: &[u8], is_logs: bool) -> BodyFormat<'static> {
    let first = payload.iter().find(|byte| !byte.is_ascii_whitespace());
    let is_json = matches!(first, Some(b'{' | b'['));
    // `"resourceLogs"` and `"resourceSpans"` lead to the records of an export request.
    match (is_json, is_logs) {
        (true, true) if names(payload, b"\"resourceLogs\"") => BodyFormat::OtlpJson,
        (true, true) => BodyFormat::Json,
        (true, false) => BodyFormat::OtlpTracesJson,
        (false, true) => BodyFormat::OtlpProtobuf,
        (false, false) => BodyFormat::OtlpTracesProtobuf,
    }
}

/// Whether `name` stands near the beginning.
fn names(payload: &[u8], name: &[u8]) -> bool {
    let head = &payload[..payload.len().min(HEAD_BYTES)];
    head.windows(name.len()).any(|window| window == name)
}

/// How far into a message the name of its first member is looked for.
const HEAD_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use arrow::array::AsArray as _;

    use super::*;

    fn message(payload: &[u8]) -> Incoming {
        let payload = payload.to_vec();
        Incoming {
            offset: 7,
            unix_millis: 1_700_000_000_000,
            encoding: None,
            stamp: None,
            key: None,
            is_tombstone: false,
            payload,
        }
    }

    fn at() -> TopicPartition {
        TopicPartition::new("logs.routine", 0)
    }

    #[test]
    fn an_event_of_others_has_the_same_id_whenever_it_is_read() {
        let message = message(br#"{"service":"a","level":"INFO","message":"m"}"#);
        let (first, rejected) = read(&at(), &message, &log_schema()).unwrap();
        let (second, _) = read(&at(), &message, &log_schema()).unwrap();
        assert_eq!(first, second);
        assert!(rejected.is_none());
        let elsewhere = Incoming { offset: 8, ..message };
        let (third, _) = read(&at(), &elsewhere, &log_schema()).unwrap();
        let id = |batch: &RecordBatch| batch["event_id"].as_string::<i32>().value(0).to_owned();
        assert_ne!(id(&first), id(&third));
    }

    #[test]
    fn a_bad_record_does_not_cost_the_good_ones_beside_it() {
        let message = message(br#"[{"service":"a","message":"m"},{"service":7,"message":"m"}]"#);
        let (rows, rejected) = read(&at(), &message, &log_schema()).unwrap();
        assert_eq!(rows.num_rows(), 1);
        let rejected = rejected.unwrap();
        let reason = rejected["reason"].as_string::<i32>().value(0);
        assert!(reason.contains("service: expected a name"), "{reason}");
    }

    #[test]
    fn a_message_without_a_record_is_rejected_unless_it_is_an_empty_request() {
        for (payload, schema) in [
            (&b"hi"[..], log_schema()),
            (br#"{"service":"a","name":"GET /"}"#, span_schema()),
            (b"[]", log_schema()),
        ] {
            let error = read(&at(), &message(payload), &schema).unwrap_err();
            assert_eq!(error, "there is no record in it");
        }
        for (payload, schema) in [
            (&b""[..], log_schema()),
            (br#"{"resourceLogs":[]}"#, log_schema()),
            (br#"{"resourceSpans":[]}"#, span_schema()),
        ] {
            let (rows, rejected) = read(&at(), &message(payload), &schema).unwrap();
            assert_eq!((rows.num_rows(), rejected), (0, None));
        }
    }

    #[test]
    fn what_exporters_write_is_recognised() {
        for (payload, is_logs, name) in [
            (&br#"{"resourceLogs":[]}"#[..], true, "OtlpJson"),
            (br#" {"service":"a"}"#, true, "Json"),
            (br#"{"resourceSpans":[]}"#, false, "OtlpTracesJson"),
            (b"\x0a\x02\x0a\x00", true, "OtlpProtobuf"),
            (b"", false, "OtlpTracesProtobuf"),
        ] {
            assert_eq!(format!("{:?}", format(payload, is_logs)), name);
        }
    }

    #[test]
    fn a_rejected_message_says_where_it_was() {
        let row = reject(&at(), &message(b"\xff"), "no".into());
        let reason = row["reason"].as_string::<i32>().value(0);
        assert_eq!(reason, "message 7 of logs.routine/0: no");
        assert_eq!(row["original"].as_binary::<i32>().value(0), b"\xff");
    }
}
