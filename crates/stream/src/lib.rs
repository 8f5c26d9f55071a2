//! Continuous SQL views over event time, exactly once.
//!
//! A view is a query that groups a stream by windows of event time. It is kept up to date as
//! events arrive: a [`Stream`]'s batches are filtered and aggregated with DataFusion's own
//! vectorised accumulators, and the result is there when the window closes.
//!
//! ```text
//! topics ─▶ filter ─▶ late? ─▶ partial aggregates ──── checkpoint ────▶ rows ─▶ topic `view.…`
//!                       │                              │  every second
//!                       └─▶ topic `late_events`        └─▶ state, offsets and rows to deliver,
//!                                                          in one atomic write
//! ```
//!
//! Partial states, as between the two phases of a distributed aggregation, are what is kept of
//! open windows: a checkpoint writes those of the second before and never those of a whole window
//! again. What is delivered is decided by the checkpoint, and after a crash the topic tells how
//! much of it was: each event counts exactly once.
//!
//! A view may join two streams within a time bound, or one with itself: rows of each side are kept,
//! and checkpointed, until the watermark is past all that may match them.
//!
//! ```sql
//! SELECT p.service AS caller, c.service AS callee, count(*) AS calls
//! FROM spans c JOIN spans p ON c.trace_id = p.trace_id AND c.parent_span_id = p.span_id
//!   AND p.timestamp BETWEEN c.timestamp - INTERVAL '1 minute' AND c.timestamp + INTERVAL '1 second'
//! GROUP BY tumble(INTERVAL '1 minute', c.timestamp), p.service, c.service
//! ```
//!
//! [`Templates`] mines what messages are instances of, as they stream by.
//!
//! [`Views`] maintains any number of them; each is a [`ViewTable`] to query, and a topic to read.

mod aggregation;
mod bound;
mod buffer;
mod builtin;
mod config;
#[cfg(test)]
mod differential;
mod error;
mod functions;
mod history;
mod join;
mod late;
mod meters;
mod open;
mod plan;
mod rows;
mod standing;
mod store;
mod stream;
mod table;
mod task;
mod templates;
mod view;
mod views;
mod watermark;
mod window;

pub use builtin::builtin_views;
pub use config::{Emit, Late, StreamConfig, ViewConfig, ViewName, ViewOptions};
pub use error::{Result, StreamError};
pub use functions::register as register_functions;
pub use history::{Histories, History};
pub use late::{LATE_EVENTS, late_schema};
pub use stream::Stream;
pub use table::ViewTable;
pub use templates::{
    TEMPLATE_SIGNALS, Templates, register_template_functions, template_signals_schema,
    templates_schema,
};
pub use view::consumer_group;
pub use views::{Planned, Replay, Views};
