//! Why a request was not accepted.

use std::time::Duration;

use http::StatusCode;
use thalweg_access::NoGate;
use thalweg_log::LogError;
use tonic::Code;

use crate::decode::Unreadable;

/// Why nothing of a request, or not all of it, could be accepted.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// No records can be told apart in the body.
    #[error("{0}")]
    Unreadable(String),
    /// The body is longer than it may be.
    #[error("expected a body of at most {limit} bytes {stage}, found more; send it in parts")]
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
        /// Whether before or after decompression.
        stage: &'static str,
    },
    /// The body grows to more than its size on the wire allows.
    #[error(
        "expected a body that decompresses to at most {ratio} times its size, found more; send it \
         with less compression, or set ingest.inflate_ratio"
    )]
    Bomb {
        /// The limit, in multiples of the size on the wire.
        ratio: usize,
    },
    /// The body did not arrive in time.
    #[error("expected the whole body within {} s, found it still incomplete", .0.as_secs())]
    TooSlow(Duration),
    /// The body's format or encoding is not known.
    #[error("{0}")]
    Unsupported(String),
    /// A limit of what may be in the works at once is reached; the limit is named.
    #[error("too many {0} are in flight; retry after a second")]
    Overloaded(&'static str),
    /// Another request, in flight at the same time, brought events with the same ids and failed.
    #[error("another request with the same event ids failed; retry")]
    TwinFailed,
    /// The log took nothing, or not all; what it took is known by its ids.
    #[error(transparent)]
    Log(#[from] LogError),
    /// An endpoint is served without access control.
    #[error(transparent)]
    NoGate(#[from] NoGate),
    /// A decoder panicked on the body.
    #[error("internal error while decoding; the body was not stored")]
    Internal,
}

impl From<Unreadable> for IngestError {
    fn from(Unreadable(reason): Unreadable) -> Self {
        Self::Unreadable(reason)
    }
}

impl IngestError {
    /// Status of an HTTP answer.
    pub fn http_status(&self) -> StatusCode {
        self.class().1
    }

    /// Status of a gRPC answer, by the rules of OTLP ("OTLP/gRPC Response").
    pub fn grpc_code(&self) -> Code {
        self.class().2
    }

    /// Name of this kind of refusal in metrics.
    pub fn kind(&self) -> &'static str {
        self.class().0
    }

    /// After which time the same request may succeed; `None` when it never will.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded(_) | Self::TwinFailed => Some(Duration::from_secs(1)),
            Self::Log(LogError::StorageFull(_)) => Some(Duration::from_secs(30)),
            Self::Log(LogError::Unavailable { .. } | LogError::Overloaded { .. }) => {
                Some(Duration::from_secs(1))
            }
            _ => None,
        }
    }

    fn class(&self) -> (&'static str, StatusCode, Code) {
        use StatusCode as Http;
        match self {
            Self::Unreadable(_) => ("unreadable", Http::BAD_REQUEST, Code::InvalidArgument),
            Self::TooLarge { .. } | Self::Bomb { .. } => {
                ("too_large", Http::PAYLOAD_TOO_LARGE, Code::ResourceExhausted)
            }
            Self::TooSlow(_) => ("too_slow", Http::REQUEST_TIMEOUT, Code::DeadlineExceeded),
            Self::Unsupported(_) => {
                ("unsupported", Http::UNSUPPORTED_MEDIA_TYPE, Code::Unimplemented)
            }
            Self::Overloaded(_) => ("overloaded", Http::TOO_MANY_REQUESTS, Code::ResourceExhausted),
            Self::TwinFailed => ("twin_failed", Http::SERVICE_UNAVAILABLE, Code::Unavailable),
            Self::Log(LogError::StorageFull(_)) => {
                ("storage_full", Http::SERVICE_UNAVAILABLE, Code::Unavailable)
            }
            Self::Log(LogError::Unavailable { .. }) => {
                ("log_unavailable", Http::SERVICE_UNAVAILABLE, Code::Unavailable)
            }
            Self::Log(LogError::Overloaded { .. }) => {
                ("log_overloaded", Http::TOO_MANY_REQUESTS, Code::ResourceExhausted)
            }
            // Such as a message that the broker finds too large: sending it again would not help.
            Self::Log(LogError::Rejected { .. }) => {
                ("log_rejected", Http::UNPROCESSABLE_ENTITY, Code::InvalidArgument)
            }
            Self::Log(_) => ("log_failed", Http::INTERNAL_SERVER_ERROR, Code::Internal),
            Self::NoGate(_) | Self::Internal => {
                ("internal", Http::INTERNAL_SERVER_ERROR, Code::Internal)
            }
        }
    }
}
