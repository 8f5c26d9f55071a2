//! Wire formats read into Arrow batches.
//!
//! A decoder walks the bytes of one body once and writes each record it finds into a [`Sink`];
//! a record that cannot be read goes to the rejected ones and the rest proceeds.

mod access_log;
mod csv;
mod document;
pub(crate) mod elasticsearch;
mod format;
mod json;
mod lines;
mod loki;
mod otlp;
mod place;
#[cfg(test)]
mod properties;
mod request;
pub(crate) mod splunk;
pub(crate) mod syslog;
#[cfg(test)]
mod testing;
mod text;
mod time_format;
mod wire;

pub use access_log::AccessLog;
pub use csv::{Csv, CsvConfig, FormatType};
pub use format::{BodyFormat, FormatError, Formats, FormatsConfig, LineFormat, decode};

use std::collections::BTreeSet;

use thalweg_access::Services;
use thalweg_event::{
    BatchContext, EventBatchBuilder, Fault, RejectedBatchBuilder, Row,
    span::{SpanBatchBuilder, SpanRow},
};

/// Faults that an answer spells out; the others are only counted (all are in table `rejected`).
pub const MAX_REPORTED_FAULTS: usize = 100;

/// Longest record, bytes. One that is longer, such as a line without an end, is rejected: a single
/// value would fill what is meant for many events, in memory and in every answer to a query.
pub const MAX_RECORD_BYTES: usize = 1 << 20;
/// What table `rejected` keeps of a record that is longer.
const KEPT_OF_LONG_RECORD_BYTES: usize = 64 << 10;
/// Most bytes that all records of a body together may take from what they share, such as the labels
/// of a stream: it stands in the body once, but is written to each of them.
pub const MAX_SHARED_BYTES: usize = 256 << 20;

/// What a sender says of all records of a body, but not in it: name and value.
pub type Params = Vec<(&'static str, String)>;

/// A body that is not of its format as a whole, so that no record can be told apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

/// Takes the records of one body, good and bad.
pub struct Sink<'c> {
    /// The good records that are events.
    pub events: EventBatchBuilder<'c>,
    /// The good records that are spans; none unless the body is of a format that has them.
    pub spans: Option<SpanBatchBuilder<'c>>,
    /// The bad ones, with their bytes.
    pub rejected: RejectedBatchBuilder,
    /// The first [`MAX_REPORTED_FAULTS`] bad ones, by index in the body.
    pub faults: Vec<(usize, Fault)>,
    context: BatchContext<'c>,
    format: &'c str,
    records: usize,
    id_prefix: Option<&'c str>,
    id_start: u64,
    id: String,
    services: Option<Services>,
    params: &'c [(&'static str, String)],
    shared_bytes: usize,
    /// What the sender of a bulk request is to be told.
    pub(crate) items: elasticsearch::items::Items,
}

impl<'c> Sink<'c> {
    /// A sink for one body of format `format`.
    pub fn new(context: BatchContext<'c>, format: &'c str) -> Self {
        Self {
            events: EventBatchBuilder::new(context),
            spans: None,
            rejected: RejectedBatchBuilder::default(),
            faults: Vec::new(),
            context,
            format,
            records: 0,
            id_prefix: None,
            id_start: 0,
            id: String::new(),
            services: None,
            params: &[],
            shared_bytes: 0,
            items: elasticsearch::items::Items::default(),
        }
    }

    /// Tells the decoder what the sender said beside the body; which names a format knows is
    /// documented with it.
    #[must_use]
    pub fn with_params(mut self, params: &'c [(&'static str, String)]) -> Self {
        self.params = params;
        self
    }

    fn param(&self, name: &str) -> Option<&'c str> {
        let param = self.params.iter().find(|(known, _)| *known == name);
        param.map(|(_, value)| &**value).filter(|value| !value.is_empty())
    }

    /// Counts `bytes` that the next record is to get from what it shares with others.
    fn share(&mut self, bytes: usize) -> Result<(), Unreadable> {
        self.shared_bytes += bytes;
        if self.shared_bytes > MAX_SHARED_BYTES {
            return Err(Unreadable(format!(
                "body: expected labels and metadata that take at most {MAX_SHARED_BYTES} bytes \
                 in all events together, found more; send it in parts"
            )));
        }
        Ok(())
    }

    /// Gives record `i` of the body the id `{prefix}:{start + i}` unless it brings its own, so
    /// that a sender can repeat a body whose answer it missed.
    #[must_use]
    pub fn with_ids(mut self, prefix: &'c str, start: u64) -> Self {
        (self.id_prefix, self.id_start) = (Some(prefix), start);
        self
    }

    /// Takes only events and spans of `services`, if there is a list.
    #[must_use]
    pub fn with_services(mut self, services: Option<Services>) -> Self {
        self.services = services;
        self
    }

    /// Takes the next record, an event read by `read` from the bytes `original`; says whether it is
    /// a good one.
    pub fn record(
        &mut self,
        original: &[u8],
        read: impl FnOnce(&mut Row<'_, 'c>) -> Result<(), Fault>,
    ) -> bool {
        use std::fmt::Write as _;

        let mut row = self.events.row();
        if let Some(prefix) = self.id_prefix {
            self.id.clear();
            let position = self.id_start.wrapping_add(self.records as u64);
            write!(self.id, "{prefix}:{position}").expect("writing to a String cannot fail");
            row.event_id(&self.id);
        }
        let services = self.services.as_deref();
        let outcome = fits(original)
            .and_then(|()| read(&mut row))
            .and_then(|()| allowed(row.service_name(), services))
            .and_then(|()| row.commit());
        self.count(original, outcome)
    }

    /// Takes the next record, a span read by `read` from the bytes `original`.
    pub fn span(
        &mut self,
        original: &[u8],
        read: impl FnOnce(&mut SpanRow<'_, 'c>) -> Result<(), Fault>,
    ) {
        let services = self.services.as_deref();
        let spans = self.spans.get_or_insert_with(|| SpanBatchBuilder::new(self.context));
        let mut row = spans.row();
        let outcome = fits(original)
            .and_then(|()| read(&mut row))
            .and_then(|()| allowed(row.service_name(), services))
            .and_then(|()| row.commit());
        self.count(original, outcome);
    }

    fn count(&mut self, original: &[u8], outcome: Result<(), Fault>) -> bool {
        let index = self.records;
        self.records += 1;
        let Err(fault) = outcome else { return true };
        let original = match original.len() {
            0..=MAX_RECORD_BYTES => original,
            _ => &original[..KEPT_OF_LONG_RECORD_BYTES],
        };
        self.rejected.push(self.format, index, &fault, original);
        if self.faults.len() < MAX_REPORTED_FAULTS {
            self.faults.push((index, fault));
        }
        false
    }

    /// When the body was received, nanoseconds since the Unix epoch.
    fn received_unix_nanos(&self) -> i64 {
        self.context.observed_unix_nanos
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

/// Whether the sender may send records of `service`; with no list of services, it may.
fn allowed(service: Option<&str>, services: Option<&BTreeSet<String>>) -> Result<(), Fault> {
    let found = service.unwrap_or_default();
    match services {
        Some(services) if !services.contains(found) => {
            Err(Fault::expected("service", "one of those that the token is limited to", found))
        }
        _ => Ok(()),
    }
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
