//! The ingest behind real sockets, spoken to by real clients.

// Clippy knows tests by their attribute, not the functions that they share.
#![allow(clippy::unwrap_used)]

mod answers;
mod bodies;
mod duplicates;
mod embedded_log;
mod memory_log;
mod otlp;
mod overload;
mod priority;
mod server;
mod syslog;
mod traces;
