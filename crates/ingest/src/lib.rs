//! Every sender's wire format, decoded into Arrow batches and appended durably to the log.
//!
//! ```text
//! HTTP  /api/v1/logs ────────┐
//! HTTP  /v1/logs             │
//! HTTP  /_bulk               │
//! HTTP  /loki/api/v1/push    ├─▶ admit, receive ─▶ Ingest ─▶ logs.critical │ logs.routine │ rejected
//! HTTP  /services/collector  │
//! gRPC  :4317 ───────────────┘
//! ```
//!
//! [`Ingest`] takes a body from its bytes to durable events and does not know of sockets; [`http`]
//! and [`grpc`] are routers around it, which the binary serves.

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
mod loki;
mod meters;
mod pipeline;
mod recall;
mod route;
mod splunk;

pub use admission::AdmissionConfig;
pub use config::{ConfigError, IngestConfig};
pub use dedup::DuplicatesConfig;
pub use error::IngestError;
pub use pipeline::{
    Accepted, ELASTICSEARCH_BULK, Ingest, LOKI_JSON, LOKI_PROTOBUF, OTLP_JSON, OTLP_PROTOBUF,
    OpenError, Request, SPLUNK_EVENTS, SPLUNK_RAW,
};
