//! The OTLP signals that are taken.

use crate::pipeline::{OTLP_JSON, OTLP_PROTOBUF, OTLP_TRACES_JSON, OTLP_TRACES_PROTOBUF};

/// What an OTLP request brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    Logs,
    Traces,
}

impl Signal {
    /// Name of the format of a request in protobuf.
    pub(crate) fn protobuf(self) -> &'static str {
        match self {
            Self::Logs => OTLP_PROTOBUF,
            Self::Traces => OTLP_TRACES_PROTOBUF,
        }
    }

    /// Name of the format of a request in JSON.
    pub(crate) fn json(self) -> &'static str {
        match self {
            Self::Logs => OTLP_JSON,
            Self::Traces => OTLP_TRACES_JSON,
        }
    }

    /// Member of an answer in JSON that counts rejected records.
    pub(crate) fn rejected_member(self) -> &'static str {
        match self {
            Self::Logs => "rejectedLogRecords",
            Self::Traces => "rejectedSpans",
        }
    }
}
