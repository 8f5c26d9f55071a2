//! Bodies of Elasticsearch's bulk API: an action on one line, its document on the next.
//!
//! `create` and `index` store an event. Its id is `{index}/{_id}`, for an `_id` is unique in its
//! index only; without an `_id` it is the document's `event.id`. The index is attribute
//! `elasticsearch.index` and, without its date, the service of documents that name none.
//! `update` and `delete` are refused, one by one: events do not change.

mod action;
pub(crate) mod items;

use std::ops::Range;

use thalweg_event::{AttributeValue, Fault, Row};

use self::action::{Action, Kind};
use super::{Sink, Unreadable, document::Document, lines::utf8, name_service, place::Place};

pub(super) fn decode(body: &[u8], sink: &mut Sink<'_>) -> Result<(), Unreadable> {
    let mut lines = Lines { body, text: std::str::from_utf8(body).ok(), start: 0, number: 0 };
    let (mut document, mut id) = (Document::default(), String::new());
    let (by_default, pipeline_by_default) = (sink.param("index"), sink.param("pipeline"));
    sink.items.default_index = by_default.unwrap_or_default().to_owned();
    let shared_bytes = [by_default, by_default, pipeline_by_default];
    let shared_bytes = shared_bytes.into_iter().flatten().map(str::len).sum();
    while let Some(action_at) = lines.next() {
        if body[action_at.clone()].trim_ascii().is_empty() {
            continue;
        }
        let number = lines.number;
        let unreadable = |fault: Fault| Unreadable(format!("line {number}: {fault}"));
        let action = lines.text(&action_at).and_then(Action::read).map_err(unreadable)?;
        let source_at = match action.kind {
            Kind::Delete => action_at.end..action_at.end,
            _ => lines.next().ok_or_else(|| {
                Unreadable(format!(
                    "line {number}: expected a document on the line after the action, found the end"
                ))
            })?,
        };
        let index = action.index.as_deref().or(by_default);
        let pipeline = action.pipeline.as_deref().or(pipeline_by_default);
        sink.share(shared_bytes)?;
        let is_good = sink.record(&body[action_at.start..source_at.end], |row| {
            let index = action.check(index)?;
            document.begin();
            row.plain_attribute("elasticsearch.index", AttributeValue::Text(index));
            if let Some(pipeline) = pipeline {
                row.plain_attribute("elasticsearch.pipeline", AttributeValue::Text(pipeline));
            }
            if let Some(own) = &action.id {
                id.clear();
                id.extend([index, "/", own]);
                row.event_id(&id);
                document.taken.take(Place::EventId);
            }
            read_source(lines.text(&source_at)?, index, &mut document, row)
        });
        sink.items.push(action.kind, action.index.as_deref(), action.id.as_deref(), is_good);
    }
    Ok(())
}

fn read_source<'t>(
    source: &'t str,
    index: &str,
    document: &mut Document<'t>,
    row: &mut Row<'_, '_>,
) -> Result<(), Fault> {
    document.read(source, row).map_err(|fault| Fault(format!("document: {fault}")))?;
    name_service(row, Some(without_date(index)));
    Ok(())
}

/// The lines of a body. They end with LF or CRLF.
struct Lines<'b> {
    body: &'b [u8],
    /// The body as text, if all of it is.
    text: Option<&'b str>,
    start: usize,
    /// Of the line before `start`, from 1.
    number: usize,
}

impl<'b> Lines<'b> {
    fn next(&mut self) -> Option<Range<usize>> {
        let rest = self.body.get(self.start..).filter(|rest| !rest.is_empty())?;
        let length = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
        let line = &rest[..length];
        let end = self.start + line.strip_suffix(b"\r").unwrap_or(line).len();
        let line = self.start..end;
        self.start += length + 1;
        self.number += 1;
        Some(line)
    }

    fn text(&self, line: &Range<usize>) -> Result<&'b str, Fault> {
        match self.text {
            Some(text) => Ok(&text[line.clone()]),
            None => utf8(&self.body[line.clone()]),
        }
    }
}

/// The part of an index's name that does not change from day to day: `logs` of `logs-2026.11.25`.
fn without_date(index: &str) -> &str {
    const SHAPES: [&[u8]; 5] =
        [b"-0000.00.00", b"-0000-00-00", b"-0000.00", b"-0000-00", b"-00000000"];
    let fits = |(byte, shape): (u8, &u8)| match shape {
        b'0' => byte.is_ascii_digit(),
        b'-' => matches!(byte, b'-' | b'_' | b'.'),
        _ => byte == *shape,
    };
    let names = SHAPES.into_iter().filter_map(|shape| {
        let (name, date) = index.split_at_checked(index.len().checked_sub(shape.len())?)?;
        let is_date = date.bytes().zip(shape).all(fits);
        (is_date && !name.is_empty()).then_some(name)
    });
    names.min_by_key(|name| name.len()).unwrap_or(index)
}

#[cfg(test)]
mod tests;
