//! A message on its way to Kafka, and one that came from there.

use std::ops::Range;

use rdkafka::message::{BorrowedMessage, Header, Headers, Message as _, OwnedHeaders};
use thalweg_log::Offset;

use crate::{config::Encoding, stamp::Stamp};

/// Names of headers.
const ENCODING: &str = "thalweg.encoding";
const SCHEMA: &str = "thalweg.schema";
const STAMP: &str = "thalweg.stamp";
/// W3C Trace Context, "traceparent Header".
const TRACEPARENT: &str = "traceparent";

/// Key of marks: a topic that is compacted takes no message without one.
const MARK_KEY: &str = "thalweg.mark";

/// Version of the columns that messages of either encoding carry.
const SCHEMA_VERSION: &str = "1";

/// A message that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    /// None of a mark.
    pub(crate) payload: Option<Vec<u8>>,
    /// What the partition was chosen by, if it is the same for all rows.
    pub(crate) key: Option<String>,
    /// Trace context, if all rows share it.
    pub(crate) traceparent: Option<String>,
    /// Rows of the batch that it carries.
    pub(crate) rows: Range<usize>,
}

/// A message that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Incoming {
    pub(crate) offset: Offset,
    pub(crate) unix_millis: i64,
    /// Of a message that thalweg wrote; `None` when others did.
    pub(crate) encoding: Option<Encoding>,
    pub(crate) stamp: Option<Stamp>,
    pub(crate) key: Option<Vec<u8>>,
    /// Whether it says, by having no payload, that its key was deleted.
    pub(crate) is_tombstone: bool,
    pub(crate) payload: Vec<u8>,
}

impl Outgoing {
    /// A message without rows, which only shows how far the partition has come.
    pub(crate) fn mark() -> Self {
        Self { payload: None, key: Some(MARK_KEY.to_owned()), traceparent: None, rows: 0..0 }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.payload.as_ref().map_or(0, Vec::len)
    }
}

impl Incoming {
    /// Whether it is [`Outgoing::mark`].
    pub(crate) fn is_mark(&self) -> bool {
        self.stamp.is_some_and(|stamp| stamp.rows == 0)
    }
}

impl Encoding {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::OtlpProto => "otlp_proto",
            Self::Json => "json",
        }
    }
}

/// Headers of a message that thalweg writes.
pub(crate) fn headers(encoding: Encoding, stamp: Stamp, traceparent: Option<&str>) -> OwnedHeaders {
    let stamp = stamp.to_string();
    let mut headers = OwnedHeaders::new_with_capacity(4)
        .insert(Header { key: SCHEMA, value: Some(SCHEMA_VERSION) })
        .insert(Header { key: ENCODING, value: Some(encoding.name()) })
        .insert(Header { key: STAMP, value: Some(&stamp) });
    if let Some(traceparent) = traceparent {
        headers = headers.insert(Header { key: TRACEPARENT, value: Some(traceparent) });
    }
    headers
}

/// Stamp of a message, if thalweg wrote it.
pub(crate) fn stamp(message: &BorrowedMessage<'_>) -> Option<Stamp> {
    Stamp::parse(header(message, STAMP)?)
}

impl From<&BorrowedMessage<'_>> for Incoming {
    fn from(message: &BorrowedMessage<'_>) -> Self {
        let known = header(message, SCHEMA) == Some(SCHEMA_VERSION);
        let encoding = header(message, ENCODING).filter(|_| known);
        let encodings = [Encoding::OtlpProto, Encoding::Json];
        Self {
            offset: Offset::try_from(message.offset()).unwrap_or(0),
            unix_millis: message.timestamp().to_millis().unwrap_or(0),
            encoding: encodings.into_iter().find(|known| Some(known.name()) == encoding),
            stamp: stamp(message),
            key: message.key().map(<[u8]>::to_vec),
            is_tombstone: message.payload().is_none(),
            payload: message.payload().unwrap_or_default().to_vec(),
        }
    }
}

fn header<'m>(message: &'m BorrowedMessage<'_>, name: &str) -> Option<&'m str> {
    let headers = message.headers()?;
    let value = headers.iter().find(|header| header.key == name)?.value?;
    std::str::from_utf8(value).ok()
}
