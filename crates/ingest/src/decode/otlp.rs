//! OTLP log records and spans, in protobuf and JSON.
//!
//! The body is the message, as JSON where it is no string; resource attributes without a column
//! become `resource`, everything else attributes: those of the record under their keys, those of
//! the scope with the prefix `otel.scope.`, and fields without a column under the names that
//! OpenTelemetry gives them outside OTLP (`otel.event.name`, `otel.dropped_attributes_count`,
//! `trace_flags`). A fault in a resource or scope is one of each of its records.
//!
//! A span has columns for all its fields, the scope's among them, and keeps as attributes what is
//! left: `trace_flags` and the numbers of what its sender left out.

mod any;
pub(super) mod json;
pub(super) mod protobuf;
mod record;
mod span;

#[cfg(test)]
mod tests;
