//! `{"streams":[{"stream":{"job":"api"},"values":[["1700000000000000000","line",{"k":"v"}]]}]}`

use thalweg_event::{
    Fault, Row,
    json::{Cursor, Malformed, Value},
};

use super::{Entry, Label, Stream, write_time};
use crate::decode::{Sink, Unreadable, lines::utf8};

pub(in crate::decode) fn decode(body: &[u8], sink: &mut Sink<'_>) -> Result<(), Unreadable> {
    let unreadable = |error: String| Unreadable(format!("body: expected a Loki push, but {error}"));
    let text = utf8(body).map_err(|fault| unreadable(fault.0))?;
    let mut cursor = Cursor::new(text);
    let mut member = cursor.open_object().map_err(|error| unreadable(error.to_string()))?;
    while let Some(name) = member {
        let malformed = |error: Malformed| unreadable(error.to_string());
        if name == "streams" {
            let mut goes_on = cursor.open_array().map_err(malformed)?;
            while goes_on {
                read_stream(&mut cursor, sink)?;
                goes_on = cursor.next_element().map_err(malformed)?;
            }
        } else {
            cursor.pass_over().map_err(malformed)?;
        }
        member = cursor.next_member().map_err(malformed)?;
    }
    cursor.end().map_err(|error| unreadable(error.to_string()))
}

fn read_stream(cursor: &mut Cursor<'_>, sink: &mut Sink<'_>) -> Result<(), Unreadable> {
    let malformed =
        |error: Malformed| Unreadable(format!("body: expected a Loki push, but {error}"));
    // The labels may stand after the entries that they are of.
    let (mut labels, mut values) = (None, None);
    let mut member = cursor.open_object().map_err(malformed)?;
    while let Some(name) = member {
        let place = cursor.clone();
        let value = cursor.value().map_err(malformed)?;
        match &*name {
            "stream" => labels = Some(value),
            "values" => values = Some(place),
            _ => {}
        }
        member = cursor.next_member().map_err(malformed)?;
    }
    let Some(mut values) = values else { return Ok(()) };
    let tenant = sink.param("tenant");
    let stream = read_labels(labels).map(|labels| Stream { labels, tenant });
    let shared_bytes = stream.as_ref().map_or(0, Stream::bytes);
    let mut goes_on = values.open_array().map_err(malformed)?;
    while goes_on {
        let entry = values.value().map_err(malformed)?;
        sink.share(shared_bytes)?;
        sink.record(entry.raw().as_bytes(), |row| {
            read_entry(entry, stream.as_ref().map_err(Clone::clone)?, row)
        });
        goes_on = values.next_element().map_err(malformed)?;
    }
    Ok(())
}

fn read_labels<'t>(labels: Option<Value<'t>>) -> Result<Vec<Label<'t>>, Fault> {
    let mut read = Vec::new();
    let Some(labels) = labels else { return Ok(read) };
    let mut cursor = Cursor::new(labels.raw());
    let mut member = cursor.open_object().map_err(|error| Fault(format!("stream: {error}")))?;
    while let Some(name) = member {
        let value = cursor.value()?;
        let text = value.text();
        let text = text.ok_or_else(|| Fault::expected(&name, "a string", value.raw()))?;
        read.push((name, text));
        member = cursor.next_member()?;
    }
    Ok(read)
}

fn read_entry(entry: Value<'_>, stream: &Stream<'_>, row: &mut Row<'_, '_>) -> Result<(), Fault> {
    const PARTS: &str = "entry: expected [time, line] or [time, line, metadata], found";
    let cut_off = || Fault(format!("{PARTS} fewer"));
    let mut cursor = Cursor::new(entry.raw());
    if !cursor.open_array()? {
        return Err(cut_off());
    }
    let time = cursor.value()?;
    let text = time.text();
    let text = text.as_deref().unwrap_or(time.raw());
    write_time(text.parse().ok(), || text.to_owned(), row)?;
    if !cursor.next_element()? {
        return Err(cut_off());
    }
    let line = cursor.value()?;
    let line = line.text().ok_or_else(|| Fault::expected("line", "a string", line.raw()))?;
    let mut writing = Entry::begin(&line, row);
    if cursor.next_element()? {
        read_metadata(cursor.value()?, &mut writing, row)?;
        if cursor.next_element()? {
            return Err(Fault(format!("{PARTS} more")));
        }
    }
    writing.finish(&line, stream, row);
    Ok(())
}

fn read_metadata(
    metadata: Value<'_>,
    entry: &mut Entry,
    row: &mut Row<'_, '_>,
) -> Result<(), Fault> {
    let mut cursor = Cursor::new(metadata.raw());
    let mut member = cursor.open_object().map_err(|error| Fault(format!("metadata: {error}")))?;
    while let Some(name) = member {
        let value = cursor.value()?;
        let text = value.text();
        let text = text.ok_or_else(|| Fault::expected(&name, "a string", value.raw()))?;
        entry.label(&name, &text, row);
        member = cursor.next_member()?;
    }
    Ok(())
}
