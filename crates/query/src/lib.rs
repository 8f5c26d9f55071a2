//! SQL over the lake, the tail and files.
//!
//! ```text
//! POST /api/v1/sql ────┐         ┌─ sight: the tables and rows that the asker sees
//! GET  /api/v1/logs ───┤         │
//! GET  /api/v1/traces ─┼─▶ View ─┼─ read_only: the one gate
//! Postgres wire ───────┤    │    └─ run: threads, limits, cancellation, audit
//! GET  /api/v1/logs/tail ◀─ live rows      QueryEngine: what all views share
//! ```
//!
//! Every statement passes one gate that lets only reading through, but for those about continuous
//! views, which others carry out ([`ViewStatements`]); every query runs on the
//! engine's own threads within one budget of memory, disk, time and queries at once. Answers are
//! written while rows are computed; a client that leaves, or reads slowly, stops or pauses its
//! query.
//!
//! Not for: knowing where rows come from. Tables are DataFusion `TableProvider`s handed in by the
//! binary.

mod answer;
mod answer_schema;
mod collect;
mod config;
mod engine;
mod error;
mod error_body;
mod facet;
mod filter;
mod histogram;
pub mod http;
mod json;
mod live_filter;
mod made;
mod page;
mod percentile;
mod pg_functions;
mod places;
mod read_only;
mod restricted;
mod run;
pub mod search;
mod search_sql;
mod selection;
mod session;
mod sight;
mod tail;
mod traces;
mod view;
mod view_statement;
mod when;
pub mod wire;

pub use config::{FileFormat, FileTableConfig, QueryConfig};
pub use engine::{LiveLogs, NamedTable, QueryEngine};
pub use error::{Position, QueryError};
pub use made::MadeTable;
pub use places::Places;
pub use run::{Limits, RunningQuery};
pub use session::{Functions, planning_session};
pub use view::View;
pub use view_statement::{ViewDefinition, ViewStatements};
