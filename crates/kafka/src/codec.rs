//! What the messages of a topic hold: rows of one Arrow schema.

mod foreign;
mod json;
mod otlp;
#[cfg(test)]
mod properties;

use std::{
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{Int32Type, SchemaRef},
};
use thalweg_event::schema::{column, log_schema};
use thalweg_log::{Entry, Offset, TopicPartition};

use crate::{
    config::Encoding,
    message::{Incoming, Outgoing},
    partition::batch_bytes,
    source::rows::JsonTable,
};

pub(crate) use foreign::reject;

/// Most rows of one entry that many messages make up.
const ENTRY_ROWS: usize = 8192;

/// What a message of many rows should take: less than brokers allow by default, so that it may
/// turn out larger.
const MESSAGE_BYTES: usize = 256 << 10;

/// Why a message is rejected whose decoding has met a mistake of ours.
const OUR_MISTAKE: &str = "thalweg cannot read it: please report this";

/// What headers and framing of a message take, at most.
const HEADER_BYTES: usize = 1 << 10;

/// Writes and reads the messages of a topic.
#[derive(Clone, Debug)]
pub(crate) struct Codec {
    schema: SchemaRef,
    encoding: Encoding,
    /// Largest message that is sent.
    limit_bytes: usize,
    /// How messages of others are read that are objects of theirs.
    objects: Option<Arc<JsonTable>>,
}

/// What messages turned out to hold.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    /// Rows, in order; together they span all offsets of the messages, those of messages that
    /// held none among them.
    pub(crate) entries: Vec<Entry>,
    /// Rows for the topic of rejected records: messages, or records in them, that no row can be
    /// made of.
    pub(crate) rejected: Vec<RecordBatch>,
}

impl Codec {
    /// For rows of `schema` in messages of at most `limit_bytes`. Events are written in `preferred`,
    /// all other rows as JSON.
    pub(crate) fn new(schema: SchemaRef, preferred: Encoding, limit_bytes: usize) -> Self {
        let mut codec = Self { schema, encoding: Encoding::Json, limit_bytes, objects: None };
        if codec.is_logs() {
            codec.encoding = preferred;
        }
        codec
    }

    /// For the rows of `table`, which others write and nobody here does.
    pub(crate) fn of_objects(table: JsonTable) -> Self {
        let codec = Self::new(Arc::clone(table.schema()), Encoding::Json, 0);
        Self { objects: Some(Arc::new(table)), ..codec }
    }

    pub(crate) fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Messages that hold the rows of `batch`, in order.
    ///
    /// # Errors
    /// Why they cannot be written, in words.
    pub(crate) fn encode(&self, batch: &RecordBatch) -> Result<Vec<Outgoing>, String> {
        if batch.num_rows() == 0 {
            return Ok(vec![]);
        }
        if self.encoding == Encoding::OtlpProto {
            return self.encode_otlp(batch);
        }
        let payloads = to_json(batch)?;
        let (keys, traces) = (Keys::of(batch), Traces::of(batch));
        let messages = payloads.into_iter().enumerate().map(|(row, payload)| Outgoing {
            payload: Some(payload),
            key: keys.of_row(row).map(str::to_owned),
            traceparent: traces.of_row(row),
            rows: row..row + 1,
        });
        Ok(messages.collect())
    }

    fn encode_otlp(&self, batch: &RecordBatch) -> Result<Vec<Outgoing>, String> {
        let bytes = batch_bytes(batch).max(1);
        let pieces = bytes.div_ceil(MESSAGE_BYTES.min(self.limit_bytes / 2));
        let rows = batch.num_rows().div_ceil(pieces);
        let (keys, traces) = (Keys::of(batch), Traces::of(batch));
        let mut messages = vec![];
        let starts = (0..batch.num_rows()).step_by(rows);
        let mut ranges: Vec<Range<usize>> =
            starts.map(|start| start..(start + rows).min(batch.num_rows())).rev().collect();
        while let Some(range) = ranges.pop() {
            let payload = otlp::write(batch, range.clone())?;
            if payload.len() + HEADER_BYTES > self.limit_bytes && range.len() > 1 {
                let middle = range.start + range.len() / 2;
                ranges.extend([middle..range.end, range.start..middle]);
                continue;
            }
            let first = range.start;
            let key = keys.of_row(first);
            let is_shared = range.clone().all(|row| keys.of_row(row) == key);
            let trace = traces.of_row(first);
            let is_traced = range.clone().all(|row| traces.of_row(row) == trace);
            messages.push(Outgoing {
                payload: Some(payload),
                key: key.filter(|_| is_shared).map(str::to_owned),
                traceparent: trace.filter(|_| is_traced),
                rows: range,
            });
        }
        Ok(messages)
    }

    /// What `messages` of `at` hold, which are in order. Offsets between `from` and the last
    /// message that no message has are those of messages that are not there any more.
    pub(crate) fn decode(
        &self,
        at: &TopicPartition,
        mut from: Offset,
        messages: &[Incoming],
    ) -> Decoded {
        if let Some(table) = &self.objects {
            return self.decode_objects(table, at, from, messages);
        }
        let mut decoded = Decoded::default();
        let is_row =
            |message: &Incoming| message.encoding == Some(Encoding::Json) && !message.is_mark();
        let mut rest = messages;
        while let Some(first) = rest.first() {
            if first.offset > from {
                decoded.entries.push(self.gap(from, first.offset, first.unix_millis));
            }
            let dense = rest.iter().zip(first.offset..).take(ENTRY_ROWS);
            let rows = dense.take_while(|(m, offset)| is_row(m) && m.offset == *offset).count();
            let (run, behind) = rest.split_at(rows.max(1));
            self.decode_run(at, run, &mut decoded);
            from = run.last().map_or(from, |last| last.offset + 1);
            rest = behind;
        }
        decoded
    }

    fn decode_objects(
        &self,
        table: &JsonTable,
        at: &TopicPartition,
        from: Offset,
        messages: &[Incoming],
    ) -> Decoded {
        let decode = AssertUnwindSafe(|| table.decode(at, from, messages));
        match (catch_unwind(decode), messages) {
            (Ok(decoded), _) => decoded,
            (Err(_), []) => Decoded::default(),
            (Err(_), [only]) => Decoded {
                entries: vec![self.gap(from, only.offset + 1, only.unix_millis)],
                rejected: vec![foreign::reject(at, only, OUR_MISTAKE.into())],
            },
            (Err(_), _) => {
                let (first, rest) = messages.split_at(messages.len() / 2);
                let mut decoded = self.decode_objects(table, at, from, first);
                let from = first.last().map_or(from, |last| last.offset + 1);
                let more = self.decode_objects(table, at, from, rest);
                decoded.entries.extend(more.entries);
                decoded.rejected.extend(more.rejected);
                decoded
            }
        }
    }

    /// Decodes messages of one row each, or a single one of any kind.
    fn decode_run(&self, at: &TopicPartition, run: &[Incoming], decoded: &mut Decoded) {
        let [first, ..] = run else { return };
        let decode = || match first.encoding {
            _ if first.is_mark() => Ok(RecordBatch::new_empty(Arc::clone(&self.schema))),
            Some(Encoding::Json) => {
                let objects = run.iter().map(|message| message.payload.as_slice());
                json::read(objects, &self.schema).map_err(|error| error.to_string())
            }
            Some(Encoding::OtlpProto) if self.is_logs() => otlp::read(&first.payload),
            _ => foreign::read(at, first, &self.schema).map(|(rows, rejected)| {
                decoded.rejected.extend(rejected);
                rows
            }),
        };
        // A message that meets a mistake of ours must not end whoever reads all others.
        let rows = catch_unwind(AssertUnwindSafe(decode));
        match rows.unwrap_or_else(|_| Err(OUR_MISTAKE.into())) {
            Ok(batch) => decoded.entries.push(Entry {
                offset: first.offset,
                next_offset: first.offset + run.len() as Offset,
                append_unix_millis: first.unix_millis,
                batch,
            }),
            Err(reason) if run.len() == 1 => {
                decoded.rejected.push(foreign::reject(at, first, reason));
                let end = first.offset + 1;
                decoded.entries.push(self.gap(first.offset, end, first.unix_millis));
            }
            // One of them is damaged: the others are not to suffer.
            Err(_) => run.iter().for_each(|message| {
                self.decode_run(at, std::slice::from_ref(message), decoded);
            }),
        }
    }

    fn is_logs(&self) -> bool {
        Arc::ptr_eq(&self.schema, &log_schema())
    }

    /// An entry without rows.
    pub(crate) fn gap(&self, offset: Offset, next_offset: Offset, unix_millis: i64) -> Entry {
        let batch = RecordBatch::new_empty(self.schema.clone());
        Entry { offset, next_offset, append_unix_millis: unix_millis, batch }
    }
}

/// The rows of `batch` as JSON objects.
///
/// # Errors
/// A value that JSON has no place for, in words.
pub(crate) fn to_json(batch: &RecordBatch) -> Result<Vec<Vec<u8>>, String> {
    json::write(batch).map_err(|error| error.to_string())
}

/// What the partition of each row was chosen by: its service, where rows have one.
struct Keys<'b>(Option<&'b arrow::array::DictionaryArray<Int32Type>>);

impl<'b> Keys<'b> {
    fn of(batch: &'b RecordBatch) -> Self {
        let services = batch.column_by_name(column::SERVICE);
        Self(services.and_then(|services| services.as_dictionary_opt::<Int32Type>()))
    }

    fn of_row(&self, row: usize) -> Option<&'b str> {
        let services = self.0?;
        let key = services.key(row)?;
        let names = services.values().as_string_opt::<i32>()?;
        (!names.is_null(key)).then(|| names.value(key))
    }
}

/// The trace context of each row, where rows have one.
struct Traces<'b>(Option<[&'b arrow::array::StringArray; 2]>);

impl<'b> Traces<'b> {
    fn of(batch: &'b RecordBatch) -> Self {
        let ids = |name: &str| batch.column_by_name(name)?.as_string_opt::<i32>();
        Self(ids(column::TRACE_ID).zip(ids(column::SPAN_ID)).map(|(trace, span)| [trace, span]))
    }

    fn of_row(&self, row: usize) -> Option<String> {
        let [trace, span] = self.0?;
        if trace.is_null(row) || span.is_null(row) {
            return None;
        }
        let (trace, span) = (trace.value(row), span.value(row));
        (trace.len() == 32 && span.len() == 16).then(|| format!("00-{trace}-{span}-01"))
    }
}
