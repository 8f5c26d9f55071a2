//! What OTLP senders are answered (OpenTelemetry Protocol Specification 1.7).

use bytes::Bytes;
use prost::Message;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{error::IngestError, pipeline::Accepted, signal::Signal};

/// `ExportLogsServiceResponse` and `ExportTraceServiceResponse` of
/// `opentelemetry.proto.collector`, which are the same in protobuf.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExportServiceResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

/// `ExportLogsPartialSuccess` and `ExportTracePartialSuccess`.
#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message, Serialize)]
pub(crate) struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    #[serde(skip)]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<RetryDelay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct RetryDelay {
    #[prost(int64, tag = "1")]
    seconds: i64,
}

/// The first faults, for a sender that reads one message.
pub(crate) fn faults_as_text(accepted: &Accepted) -> String {
    /// More would only fill the sender's log.
    const FAULTS: usize = 5;
    let faults = accepted.faults.iter().take(FAULTS);
    let faults: Vec<_> = faults.map(|(index, fault)| format!("record {index}: {fault}")).collect();
    faults.join("; ")
}

impl From<&Accepted> for ExportServiceResponse {
    fn from(accepted: &Accepted) -> Self {
        let partial_success = (accepted.rejected > 0).then(|| PartialSuccess {
            rejected: i64::try_from(accepted.rejected).unwrap_or(i64::MAX),
            error_message: faults_as_text(accepted),
        });
        Self { partial_success }
    }
}

impl ExportServiceResponse {
    /// The answer in JSON, where the signals differ in the name of a member. The protobuf mapping
    /// to JSON writes 64-bit integers as strings.
    pub(crate) fn to_json(&self, signal: Signal) -> Value {
        match &self.partial_success {
            None => json!({}),
            Some(PartialSuccess { rejected, error_message }) => json!({"partialSuccess": {
                signal.rejected_member(): rejected.to_string(),
                "errorMessage": error_message,
            }}),
        }
    }
}

impl Status {
    /// Every record was rejected.
    pub(crate) fn all_rejected(accepted: &Accepted) -> Self {
        let code = tonic::Code::InvalidArgument as i32;
        Self { code, message: faults_as_text(accepted), details: Vec::new() }
    }
}

impl From<&IngestError> for Status {
    fn from(error: &IngestError) -> Self {
        let retry_after = error.retry_after().map(|delay| {
            let seconds = i64::try_from(delay.as_secs()).unwrap_or(i64::MAX);
            let info = RetryInfo { retry_delay: Some(RetryDelay { seconds }) };
            Any {
                type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
                value: info.encode_to_vec().into(),
            }
        });
        Self {
            code: error.grpc_code() as i32,
            message: error.to_string(),
            details: retry_after.into_iter().collect(),
        }
    }
}

impl From<Status> for tonic::Status {
    fn from(status: Status) -> Self {
        let details =
            if status.details.is_empty() { Bytes::new() } else { status.encode_to_vec().into() };
        Self::with_details(tonic::Code::from_i32(status.code), status.message, details)
    }
}
