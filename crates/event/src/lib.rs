//! The event model shared by every system of thalweg.
//!
//! One event is one OpenTelemetry `LogRecord`, widened with what access logs carry. Decoders of
//! wire formats write events field by field into an [`EventBatchBuilder`], which lays them out
//! as an Arrow record batch of [`schema::log_schema`]; from there on everything is columnar.
//! Spans have a schema of their own, in [`span`].
//!
//! ```text
//! bytes ─▶ decoder ─▶ Row (one event) ─▶ EventBatchBuilder ─▶ RecordBatch
//!            │ Fault
//!            └──────▶ RejectedBatchBuilder ─▶ RecordBatch
//! ```
//!
//! ```
//! use thalweg_event::{BatchContext, EventBatchBuilder, PriorityRules, envelope};
//!
//! let rules = PriorityRules::default();
//! let context = BatchContext::new(1_700_000_000_000_000_000, &rules, [7; 10]);
//! let mut builder = EventBatchBuilder::new(context);
//! let mut row = builder.row();
//! envelope::decode(r#"{"service":"checkout","level":"ERROR","message":"card refused"}"#, &mut row)?;
//! row.commit()?;
//! assert_eq!(builder.finish().num_rows(), 1);
//! # Ok::<(), thalweg_event::Fault>(())
//! ```

mod batch;
mod column;
pub mod envelope;
mod event_id;
mod facets;
mod fault;
pub mod json;
mod priority;
mod rejected;
pub mod schema;
mod semconv;
mod severity;
pub mod span;
pub mod time;

pub use batch::{AttributeValue, BatchContext, EventBatchBuilder, MAX_INPUT_BYTES, Resource, Row};
pub use fault::Fault;
pub use priority::{PriorityRule, PriorityRules};
pub use rejected::RejectedBatchBuilder;
pub use severity::{Level, Severity};
