//! Every sender's wire format, decoded into Arrow batches and appended durably to the log.
//!
//! ```text
//! HTTP    /api/v1/logs ─────────┐
//! HTTP    /v1/logs /v1/traces   │
//! HTTP    /_bulk                │
//! HTTP    /loki/api/v1/push     ├─▶ admit, receive ─▶ Ingest ─▶ logs.critical │ logs.routine │
//! HTTP    /services/collector   │                               spans │ rejected
//! gRPC    :4317                 │
//! syslog  :5514 UDP, TCP ───────┘
//! ```
//!
//! [`Ingest`] takes a body from its bytes to durable events and does not know of sockets; [`http`]
//! and [`grpc`] are routers around it, which the binary serves, and [`syslog`] listens itself.

pub mod decode;

mod admission;
mod answer;
mod body;
mod config;
mod dedup;
mod edge;
pub mod elasticsearch;
mod error;
pub mod grpc;
pub mod http;
mod id_seed;
mod log_route;
mod loki;
mod meters;
mod pipeline;
mod recall;
mod route;
mod sender;
mod signal;
mod splunk;
pub mod syslog;

pub use admission::AdmissionConfig;
pub use config::{ConfigError, IngestConfig};
pub use dedup::DuplicatesConfig;
pub use error::IngestError;
pub use log_route::{LOGS_PREFIX, LogRoute, LogRoutes, LogTopic};
pub use pipeline::{
    Accepted, ELASTICSEARCH_BULK, Ingest, LOKI_JSON, LOKI_PROTOBUF, OTLP_JSON, OTLP_PROTOBUF,
    OTLP_TRACES_JSON, OTLP_TRACES_PROTOBUF, OpenError, Request, SPLUNK_EVENTS, SPLUNK_RAW,
};
pub use sender::Sender;
