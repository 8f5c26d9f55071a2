//! Wire formats read into Arrow batches.
//!
//! A decoder walks the bytes of one body once and writes each record it finds into a [`Sink`];
//! a record that cannot be read goes to the rejected ones and the rest proceeds.

mod access_log;
mod csv;
mod format;
mod json;
mod lines;
mod otlp;
#[cfg(test)]
mod properties;
mod request;
#[cfg(test)]
mod testing;
mod text;
mod time_format;

pub use access_log::AccessLog;
pub use csv::{Csv, CsvConfig, FormatType};
pub use format::{BodyFormat, FormatError, Formats, FormatsConfig, LineFormat, decode};

use std::collections::BTreeSet;

use thalweg_access::Services;
use thalweg_event::{BatchContext, EventBatchBuilder, Fault, RejectedBatchBuilder, Row};

/// Faults that an answer spells out; the others are only counted (all are in table `rejected`).
pub const MAX_REPORTED_FAULTS: usize = 100;

/// Longest record, bytes. One that is longer, such as a line without an end, is rejected: a single
/// value would fill what is meant for many events, in memory and in every answer to a query.
pub const MAX_RECORD_BYTES: usize = 1 << 20;
/// What table `rejected` keeps of a record that is longer.
const KEPT_OF_LONG_RECORD_BYTES: usize = 64 << 10;

/// A body that is not of its format as a whole, so that no record can be told apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

/// Takes the records of one body, good and bad.
pub struct Sink<'c> {
    /// The good records.
    pub events: EventBatchBuilder<'c>,
    /// The bad ones, with their bytes.
    pub rejected: RejectedBatchBuilder,
    /// The first [`MAX_REPORTED_FAULTS`] bad ones, by index in the body.
    pub faults: Vec<(usize, Fault)>,
    format: &'c str,
    records: usize,
    id_prefix: Option<&'c str>,
    id_start: u64,
    id: String,
    services: Option<Services>,
}

impl<'c> Sink<'c> {
    /// A sink for one body of format `format`.
    pub fn new(context: BatchContext<'c>, format: &'c str) -> Self {
        Self {
            events: EventBatchBuilder::new(context),
            rejected: RejectedBatchBuilder::default(),
            faults: Vec::new(),
            format,
            records: 0,
            id_prefix: None,
            id_start: 0,
            id: String::new(),
            services: None,
        }
    }

    /// Gives record `i` of the body the id `{prefix}:{start + i}` unless it brings its own, so
    /// that a sender can repeat a body whose answer it missed.
    #[must_use]
    pub fn with_ids(mut self, prefix: &'c str, start: u64) -> Self {
        (self.id_prefix, self.id_start) = (Some(prefix), start);
        self
    }

    /// Takes only events of `services`, if there is a list.
    #[must_use]
    pub fn with_services(mut self, services: Option<Services>) -> Self {
        self.services = services;
        self
    }

    /// Takes the next record, read by `read` from the bytes `original`.
    pub fn record(
        &mut self,
        original: &[u8],
        read: impl FnOnce(&mut Row<'_, 'c>) -> Result<(), Fault>,
    ) {
        use std::fmt::Write as _;

        let index = self.records;
        self.records += 1;
        let mut row = self.events.row();
        if let Some(prefix) = self.id_prefix {
            self.id.clear();
            let position = self.id_start.wrapping_add(index as u64);
            write!(self.id, "{prefix}:{position}").expect("writing to a String cannot fail");
            row.event_id(&self.id);
        }
        let services = self.services.as_deref();
        let read = fits(original)
            .and_then(|()| read(&mut row))
            .and_then(|()| services.map_or(Ok(()), |services| allowed(&row, services)));
        if let Err(fault) = read.and_then(|()| row.commit()) {
            let original = match original.len() {
                0..=MAX_RECORD_BYTES => original,
                _ => &original[..KEPT_OF_LONG_RECORD_BYTES],
            };
            self.rejected.push(self.format, index, &fault, original);
            if self.faults.len() < MAX_REPORTED_FAULTS {
                self.faults.push((index, fault));
            }
        }
    }

    /// Number of records seen, good and bad.
    pub fn records(&self) -> usize {
        self.records
    }
}

/// Whether a record is no longer than it may be.
fn fits(original: &[u8]) -> Result<(), Fault> {
    let found = original.len();
    if found <= MAX_RECORD_BYTES {
        return Ok(());
    }
    Err(Fault(format!("record: expected at most {MAX_RECORD_BYTES} bytes, found {found}")))
}

/// Whether the sender may send events of the row's service.
fn allowed(row: &Row<'_, '_>, services: &BTreeSet<String>) -> Result<(), Fault> {
    let found = row.service_name().unwrap_or_default();
    if services.contains(found) {
        return Ok(());
    }
    Err(Fault::expected("service", "one of those that the token is limited to", found))
}

/// Service of events of which neither they nor the request nor the format name one
/// (OpenTelemetry Semantic Conventions, "Service").
const UNKNOWN_SERVICE: &str = "unknown_service";

/// Names the service of an event whose format carries none.
fn name_service(row: &mut Row<'_, '_>, service: Option<&str>) {
    if !row.has_service() {
        row.service(service.unwrap_or(UNKNOWN_SERVICE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::testing::decoded;

    #[test]
    fn a_line_without_an_end_is_rejected_and_those_before_it_are_not() {
        let endless = "x".repeat(MAX_RECORD_BYTES + 1);
        let decoded = decoded(BodyFormat::Text, format!("first\n{endless}"));
        assert_eq!(decoded.column("message"), [Some("first".into())]);
        assert_eq!(decoded.faults.len(), 1, "{:?}", decoded.faults);
        assert!(decoded.faults[0].1.contains("at most 1048576 bytes"), "{:?}", decoded.faults);
        assert_eq!(decoded.originals()[0].len(), KEPT_OF_LONG_RECORD_BYTES);
    }
}
