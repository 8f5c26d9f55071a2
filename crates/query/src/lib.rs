//! SQL over the lake, the tail and files.
//!
//! ```text
//! POST /api/v1/sql ────┐                  ┌─ read_only: the one gate
//! GET  /api/v1/logs ───┤
//! GET  /api/v1/traces ─┼─▶ QueryEngine ───┼─ run: threads, limits, cancellation
//! Postgres wire ───────┘    (DataFusion)  └─ session: tables, memory, functions
//! GET  /api/v1/logs/tail ─▶ tail ◀─ live rows
//! ```
//!
//! Every statement passes one gate that lets only reading through, and every query runs on the
//! engine's own threads within one budget of memory, disk, time and queries at once. Answers are
//! written while rows are computed; a client that leaves, or reads slowly, stops or pauses its
//! query.
//!
//! Not for: knowing where rows come from. Tables are DataFusion `TableProvider`s handed in by the
//! binary.

mod answer;
mod config;
mod engine;
mod error;
mod error_body;
mod filter;
pub mod http;
mod json;
mod page;
mod percentile;
mod pg_functions;
mod read_only;
mod run;
pub mod search;
mod session;
mod tail;
mod traces;
mod when;
pub mod wire;

pub use config::{FileFormat, FileTableConfig, QueryConfig};
pub use engine::{LiveLogs, NamedTable, QueryEngine};
pub use error::{Position, QueryError};
pub use run::{Limits, RunningQuery};
