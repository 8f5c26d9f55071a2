//! The ingest behind real sockets, spoken to by real clients.

// Clippy knows tests by their attribute, not the functions that they share.
#![allow(clippy::unwrap_used)]

mod answers;
mod bodies;
mod duplicates;
mod elasticsearch;
mod embedded_log;
mod limited;
mod loki;
mod memory_log;
mod otlp;
mod overload;
mod priority;
mod server;
mod splunk;
mod syslog;
mod traces;
