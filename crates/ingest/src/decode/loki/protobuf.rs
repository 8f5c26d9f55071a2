//! `logproto.PushRequest`, walked on the wire.
//!
//! Field numbers are those of Loki's `pkg/push/push.proto`.

use thalweg_event::{Fault, Row};

use super::{Entry, Stream, labels, write_time};
use crate::decode::{Sink, Unreadable, wire::fields};

pub(in crate::decode) fn decode(body: &[u8], sink: &mut Sink<'_>) -> Result<(), Unreadable> {
    for field in fields(body) {
        let (1, stream) = field.map_err(unreadable)? else { continue };
        read_stream(stream.bytes().map_err(unreadable)?, sink)?;
    }
    Ok(())
}

fn unreadable(fault: Fault) -> Unreadable {
    Unreadable(format!("body: expected a Loki push in protobuf, but {fault}"))
}

fn read_stream(bytes: &[u8], sink: &mut Sink<'_>) -> Result<(), Unreadable> {
    // The labels may stand after the entries that they are of.
    let mut labels = Ok(Vec::new());
    for field in fields(bytes) {
        let (1, text) = field.map_err(unreadable)? else { continue };
        labels = text.text().and_then(labels::parse);
    }
    let tenant = sink.param("tenant");
    let stream = labels.map(|labels| Stream { labels, tenant });
    let shared_bytes = stream.as_ref().map_or(0, Stream::bytes);
    for field in fields(bytes) {
        let (2, entry) = field.map_err(unreadable)? else { continue };
        let entry = entry.bytes().map_err(unreadable)?;
        sink.share(shared_bytes)?;
        sink.record(entry, |row| read_entry(entry, stream.as_ref().map_err(Clone::clone)?, row));
    }
    Ok(())
}

fn read_entry(bytes: &[u8], stream: &Stream<'_>, row: &mut Row<'_, '_>) -> Result<(), Fault> {
    let (mut time, mut line) = (&[][..], "");
    for field in fields(bytes) {
        match field? {
            (1, timestamp) => time = timestamp.bytes()?,
            (2, text) => line = text.text()?,
            _ => {}
        }
    }
    read_time(time, row)?;
    let mut entry = Entry::begin(line, row);
    // Structured metadata, and what was parsed from the line.
    for field in fields(bytes) {
        let (3 | 4, pair) = field? else { continue };
        let (mut name, mut value) = ("", "");
        for field in fields(pair.bytes()?) {
            match field? {
                (1, text) => name = text.text()?,
                (2, text) => value = text.text()?,
                _ => {}
            }
        }
        entry.label(name, value, row);
    }
    entry.finish(line, stream, row);
    Ok(())
}

/// A `google.protobuf.Timestamp`.
fn read_time(bytes: &[u8], row: &mut Row<'_, '_>) -> Result<(), Fault> {
    let (mut seconds, mut below) = (0, 0);
    for field in fields(bytes) {
        match field? {
            (1, number) => seconds = number.varint()? as i64,
            (2, number) => below = number.varint()? as i64,
            _ => {}
        }
    }
    let is_below = (0..NANOS_PER_SECOND).contains(&below);
    let total = seconds.checked_mul(NANOS_PER_SECOND).and_then(|nanos| nanos.checked_add(below));
    write_time(total.filter(|_| is_below), || format!("{seconds} s and {below} ns"), row)
}

const NANOS_PER_SECOND: i64 = 1_000_000_000;
