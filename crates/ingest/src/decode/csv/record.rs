//! Records of a CSV body and their fields.

use csv_core::{ReadRecordResult, Reader, ReaderBuilder, Terminator};
use thalweg_event::Fault;

use crate::decode::lines::utf8;

/// Most bytes a quote may stay open: an unclosed one costs its own line, not all that follow.
const MAX_QUOTED_BYTES: usize = 1 << 20;
/// Most fields of a record.
pub(super) const MAX_FIELDS: usize = 1024;

/// The records of a body that are not blank, without their line ends.
pub(super) struct Records<'b> {
    rest: &'b [u8],
}

impl<'b> Records<'b> {
    pub(super) fn new(body: &'b [u8]) -> Self {
        Self { rest: body }
    }
}

impl<'b> Iterator for Records<'b> {
    type Item = &'b [u8];

    fn next(&mut self) -> Option<&'b [u8]> {
        while !self.rest.is_empty() {
            let end = record_end(self.rest)
                .unwrap_or_else(|| memchr::memchr(b'\n', self.rest).unwrap_or(self.rest.len()));
            let record = &self.rest[..end];
            self.rest = self.rest.get(end + 1..).unwrap_or_default();
            if !record.trim_ascii().is_empty() {
                return Some(record.strip_suffix(b"\r").unwrap_or(record));
            }
        }
        None
    }
}

/// Where the first record of `bytes` ends; `None` when it has a quote that is not closed soon.
fn record_end(bytes: &[u8]) -> Option<usize> {
    let mut opened = None;
    for at in memchr::memchr2_iter(b'"', b'\n', bytes) {
        match (bytes[at], opened) {
            (b'"', None) => opened = Some(at),
            (b'"', Some(_)) => opened = None,
            (_, None) => return Some(at),
            (_, Some(opened)) if at - opened > MAX_QUOTED_BYTES => return None,
            (_, Some(_)) => {}
        }
    }
    opened.is_none().then_some(bytes.len())
}

/// Splits records into fields. Made anew for each body: a clone of csv-core's reader has lost its
/// transition table.
pub(super) struct Splitter {
    reader: Reader,
    /// The fields of the last record, unquoted, one after the other.
    text: Vec<u8>,
    /// Where each of them ends in `text`.
    ends: Vec<usize>,
}

impl Splitter {
    pub(super) fn new(delimiter: u8) -> Self {
        let terminator = Terminator::Any(b'\n');
        let reader = ReaderBuilder::new().delimiter(delimiter).terminator(terminator).build();
        Self { reader, text: Vec::new(), ends: Vec::new() }
    }

    /// The fields of `record`.
    ///
    /// # Errors
    /// A [`Fault`] when the quotes do not add up, the record has too many fields or is not UTF-8.
    pub(super) fn split(&mut self, record: &[u8]) -> Result<Fields<'_>, Fault> {
        if memchr::memchr_iter(b'"', record).count() % 2 == 1 {
            return Err(Fault("record: a double quote is opened and never closed".into()));
        }
        self.reader.reset();
        self.text.resize(record.len().max(self.text.len()), 0);
        self.ends.resize(MAX_FIELDS, 0);
        // The reader ends a record when it is given nothing more.
        let (mut at, mut text_length, mut fields) = (0, 0, 0);
        loop {
            let (result, read, written, ended) = self.reader.read_record(
                &record[at..],
                &mut self.text[text_length..],
                &mut self.ends[fields..],
            );
            (at, text_length, fields) = (at + read, text_length + written, fields + ended);
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::Record if at == record.len() => break,
                ReadRecordResult::End => break,
                ReadRecordResult::Record => {
                    let reason = "record: expected double quotes around whole fields only";
                    return Err(Fault(reason.into()));
                }
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                    return Err(Fault(format!("record: expected at most {MAX_FIELDS} fields")));
                }
            }
        }
        Ok(Fields { text: utf8(&self.text[..text_length])?, ends: &self.ends[..fields] })
    }
}

/// The fields of one record.
#[derive(Clone, Copy)]
pub(super) struct Fields<'s> {
    text: &'s str,
    ends: &'s [usize],
}

impl<'s> Fields<'s> {
    pub(super) fn len(self) -> usize {
        self.ends.len()
    }

    /// The field at `position`; empty when the record has fewer, or when the bytes at a field's
    /// border are no character's border.
    pub(super) fn get(self, position: usize) -> &'s str {
        let start = match position.checked_sub(1) {
            Some(before) => self.ends.get(before).copied(),
            None => Some(0),
        };
        let range = start.zip(self.ends.get(position).copied());
        range.and_then(|(start, end)| self.text.get(start..end)).unwrap_or_default()
    }
}
