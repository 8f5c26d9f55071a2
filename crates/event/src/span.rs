//! Spans laid out as an Arrow record batch, written row by row.

mod schema;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, TimestampMicrosecondArray},
    datatypes::{Float64Type, Int64Type},
};

use crate::{
    batch::{AttributeValue, BatchContext, Resource, write_hex},
    column::{FewColumn, NumberColumn, TextColumn},
    facets::Facets,
    fault::Fault,
    json,
    time::NANOS_PER_MICRO,
};
pub use schema::{column, span_schema};

/// Nanoseconds in a millisecond.
const NANOS_PER_MILLI: f64 = 1e6;

/// What part a span plays between services (OpenTelemetry Trace API, `SpanKind`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SpanKind {
    Internal,
    Server,
    Client,
    Producer,
    Consumer,
}

impl SpanKind {
    /// Upper-case name as stored in the `kind` column.
    pub fn name(self) -> &'static str {
        match self {
            Self::Internal => "INTERNAL",
            Self::Server => "SERVER",
            Self::Client => "CLIENT",
            Self::Producer => "PRODUCER",
            Self::Consumer => "CONSUMER",
        }
    }
}

/// How the operation of a span ended (OpenTelemetry Trace API, "Set Status").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SpanStatus {
    Unset,
    Ok,
    Error,
}

impl SpanStatus {
    /// Upper-case name as stored in the `status_code` column.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unset => "UNSET",
            Self::Ok => "OK",
            Self::Error => "ERROR",
        }
    }
}

/// Something that happened during a span. Fields that are empty or zero are left out.
#[derive(Debug, Clone, Default)]
pub struct SpanEvent<'a> {
    /// When, nanoseconds since the Unix epoch.
    pub time_unix_nano: u64,
    /// What.
    pub name: &'a str,
    /// A JSON object, which the caller vouches for.
    pub attributes: Option<&'a str>,
    /// Number of attributes that the sender left out.
    pub dropped_attributes_count: u32,
}

/// Another span that a span refers to. Fields that are empty or zero are left out.
#[derive(Debug, Clone, Default)]
pub struct SpanLink<'a> {
    /// Trace of the other span.
    pub trace_id: &'a [u8],
    /// Id of the other span.
    pub span_id: &'a [u8],
    /// `tracestate` of the other span (W3C Trace Context §3.3).
    pub trace_state: &'a str,
    /// A JSON object, which the caller vouches for.
    pub attributes: Option<&'a str>,
    /// Number of attributes that the sender left out.
    pub dropped_attributes_count: u32,
    /// Trace flags of the other span.
    pub flags: u32,
}

/// Lays spans out as record batches of [`span_schema`].
///
/// Decoders write one span at a time through a [`SpanRow`]. One batch takes at most
/// [`MAX_INPUT_BYTES`](crate::MAX_INPUT_BYTES) of input.
pub struct SpanBatchBuilder<'c> {
    context: BatchContext<'c>,
    facets: Facets,
    start_time_unix_nano: NumberColumn<Int64Type>,
    end_time_unix_nano: NumberColumn<Int64Type>,
    duration_ms: NumberColumn<Float64Type>,
    event_id: TextColumn,
    trace_id: TextColumn,
    span_id: TextColumn,
    parent_span_id: TextColumn,
    name: FewColumn,
    kind: FewColumn,
    status_code: FewColumn,
    status_message: TextColumn,
    events: TextColumn,
    links: TextColumn,
    trace_state: TextColumn,
    scope: FewColumn,
}

/// Calls a method on each column that rows are written to.
macro_rules! each_column {
    ($builder:expr, $method:ident) => {{
        let b = $builder;
        b.facets.$method();
        b.start_time_unix_nano.$method();
        b.end_time_unix_nano.$method();
        b.duration_ms.$method();
        b.event_id.$method();
        b.trace_id.$method();
        b.span_id.$method();
        b.parent_span_id.$method();
        b.name.$method();
        b.kind.$method();
        b.status_code.$method();
        b.status_message.$method();
        b.events.$method();
        b.links.$method();
        b.trace_state.$method();
        b.scope.$method();
    }};
}

/// First capacity of the columns, in rows.
const INITIAL_ROWS: usize = 256;

impl<'c> SpanBatchBuilder<'c> {
    /// An empty builder.
    pub fn new(context: BatchContext<'c>) -> Self {
        let (text, few) = (TextColumn::with_capacity, FewColumn::with_capacity);
        Self {
            context,
            facets: Facets::with_capacity(INITIAL_ROWS),
            start_time_unix_nano: NumberColumn::with_capacity(INITIAL_ROWS),
            end_time_unix_nano: NumberColumn::with_capacity(INITIAL_ROWS),
            duration_ms: NumberColumn::with_capacity(INITIAL_ROWS),
            event_id: text(INITIAL_ROWS),
            trace_id: text(INITIAL_ROWS),
            span_id: text(INITIAL_ROWS),
            parent_span_id: text(INITIAL_ROWS),
            name: few(INITIAL_ROWS),
            kind: few(INITIAL_ROWS),
            status_code: few(INITIAL_ROWS),
            status_message: text(INITIAL_ROWS),
            events: text(INITIAL_ROWS),
            links: text(INITIAL_ROWS),
            trace_state: text(INITIAL_ROWS),
            scope: few(INITIAL_ROWS),
        }
    }

    /// Begins a span.
    pub fn row(&mut self) -> SpanRow<'_, 'c> {
        SpanRow { builder: self, trace_id: [0; 16], span_id: [0; 8], kind: None }
    }

    /// Number of committed spans.
    pub fn len(&self) -> usize {
        self.start_time_unix_nano.len()
    }

    /// Whether no span has been committed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The batch of all committed spans.
    pub fn finish(self) -> RecordBatch {
        let rows = self.len();
        let facets = self.facets;
        let micros = |nanos: i64| nanos.div_euclid(NANOS_PER_MICRO);
        let start_time_unix_nano = self.start_time_unix_nano.finish();
        let timestamp: TimestampMicrosecondArray = start_time_unix_nano.unary(micros);
        let observed = micros(self.context.observed_unix_nanos);
        let observed = TimestampMicrosecondArray::from_value(observed, rows);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(timestamp.with_timezone("UTC")),
            Arc::new(start_time_unix_nano),
            Arc::new(self.end_time_unix_nano.finish()),
            Arc::new(self.duration_ms.finish()),
            Arc::new(observed.with_timezone("UTC")),
            self.event_id.finish(),
            self.trace_id.finish(),
            self.span_id.finish(),
            self.parent_span_id.finish(),
            facets.service.finish(),
            self.name.finish(),
            self.kind.finish(),
            self.status_code.finish(),
            self.status_message.finish(),
            facets.host.finish(),
            facets.environment.finish(),
            facets.http_method.finish(),
            facets.http_path.finish(),
            Arc::new(facets.http_status.finish()),
            facets.client_ip.finish(),
            facets.user_agent.finish(),
            Arc::new(facets.bytes.finish()),
            facets.attributes.finish(),
            facets.resource.finish(),
            self.events.finish(),
            self.links.finish(),
            self.trace_state.finish(),
            self.scope.finish(),
        ];
        RecordBatch::try_new(span_schema(), columns).expect("columns are built in schema order")
    }
}

/// One span being written. Dropped without [`SpanRow::commit`], it leaves no trace.
///
/// A field set twice keeps the later value.
pub struct SpanRow<'b, 'c> {
    builder: &'b mut SpanBatchBuilder<'c>,
    trace_id: [u8; 16],
    span_id: [u8; 8],
    kind: Option<SpanKind>,
}

impl SpanRow<'_, '_> {
    /// Start, nanoseconds since the Unix epoch.
    pub fn start_time_unix_nano(&mut self, nanos: i64) {
        self.builder.start_time_unix_nano.set(nanos);
    }

    /// End, nanoseconds since the Unix epoch.
    pub fn end_time_unix_nano(&mut self, nanos: i64) {
        self.builder.end_time_unix_nano.set(nanos);
    }

    /// Id of the trace; required, and zeros are none.
    pub fn trace_id(&mut self, id: [u8; 16]) {
        self.trace_id = id;
    }

    /// Id of the span; required, and zeros are none.
    pub fn span_id(&mut self, id: [u8; 8]) {
        self.span_id = id;
    }

    /// Id of the span that caused this one.
    pub fn parent_span_id(&mut self, id: [u8; 8]) {
        write_hex(self.builder.parent_span_id.open(), &id);
    }

    /// What the operation is called.
    pub fn name(&mut self, name: &str) {
        self.builder.name.set(name);
    }

    /// What part the span plays.
    pub fn kind(&mut self, kind: SpanKind) {
        self.kind = Some(kind);
    }

    /// How the operation ended.
    pub fn status(&mut self, status: SpanStatus) {
        self.builder.status_code.set(status.name());
    }

    /// What the status says besides its code.
    pub fn status_message(&mut self, message: &str) {
        self.builder.status_message.set(message);
    }

    /// `tracestate` of the span (W3C Trace Context §3.3).
    pub fn trace_state(&mut self, state: &str) {
        self.builder.trace_state.set(state);
    }

    /// The instrumentation scope as a JSON object, which the caller vouches for.
    pub fn scope(&mut self, json: &str) {
        self.builder.scope.set(json);
    }

    /// Name of the emitting service.
    pub fn service(&mut self, service: &str) {
        self.builder.facets.service.set(service);
    }

    /// Fields of the entity that made the span.
    pub fn resource(&mut self, resource: &Resource) {
        self.builder.facets.resource(resource);
    }

    /// Adds an attribute, as [`Row::attribute`](crate::Row::attribute) does.
    pub fn attribute(&mut self, key: &str, value: AttributeValue<'_>) {
        self.builder.facets.attribute(key, value);
    }

    /// Adds something that happened during the span.
    pub fn event(&mut self, event: &SpanEvent<'_>) {
        let out = begin_element(&mut self.builder.events);
        if event.time_unix_nano != 0 {
            let nanos = event.time_unix_nano.to_string();
            write_member(out, "time_unix_nano", AttributeValue::Text(&nanos));
        }
        if !event.name.is_empty() {
            write_member(out, "name", AttributeValue::Text(event.name));
        }
        write_rest(out, event.attributes, event.dropped_attributes_count);
    }

    /// Adds a reference to another span.
    pub fn link(&mut self, link: &SpanLink<'_>) {
        let out = begin_element(&mut self.builder.links);
        for (key, id) in [("trace_id", link.trace_id), ("span_id", link.span_id)] {
            if !id.is_empty() {
                json::write_key(out, key);
                out.push(b'"');
                write_hex(out, id);
                out.push(b'"');
            }
        }
        if !link.trace_state.is_empty() {
            write_member(out, "trace_state", AttributeValue::Text(link.trace_state));
        }
        if link.flags != 0 {
            write_member(out, "trace_flags", AttributeValue::Int(link.flags.into()));
        }
        write_rest(out, link.attributes, link.dropped_attributes_count);
    }

    /// Whether a service was named, by the span or by the context.
    pub fn has_service(&self) -> bool {
        self.service_name().is_some()
    }

    /// The service the span is of, as named so far by it or else by the context.
    pub fn service_name(&self) -> Option<&str> {
        self.builder.facets.service.get().or(self.builder.context.default_service)
    }

    /// Adds what follows from the rest — id, duration — and keeps the span.
    ///
    /// The event id is made of the trace's and the span's ids and of the kind, since the two ends
    /// of a call may share a span id (Zipkin's B3 propagation).
    ///
    /// # Errors
    /// A [`Fault`] when the span lacks an id, starts or ends before 1970, or when the events or
    /// links of all spans have become too long; it is dropped then.
    pub fn commit(self) -> Result<(), Fault> {
        let b = &mut *self.builder;
        for (field, is_missing) in
            [("trace_id", self.trace_id == [0; 16]), ("span_id", self.span_id == [0; 8])]
        {
            if is_missing {
                return Err(Fault(format!("{field}: required, but missing")));
            }
        }
        let end = b.end_time_unix_nano.get();
        let start = b.start_time_unix_nano.get().or(end).unwrap_or(b.context.observed_unix_nanos);
        if let Some(nanos @ ..0) = [Some(start), end].into_iter().flatten().min() {
            return Err(Fault(format!(
                "start and end: expected times from 1970 on, found {nanos} ns before it"
            )));
        }
        b.start_time_unix_nano.set(start);
        // An end before the start tells of a clock that was set, and of no duration.
        if let Some(nanos) = end.map(|end| end - start).filter(|nanos| *nanos >= 0) {
            b.duration_ms.set(nanos as f64 / NANOS_PER_MILLI);
        }
        if let (None, Some(service)) = (b.facets.service.get(), b.context.default_service) {
            b.facets.service.set(service);
        }
        if b.status_code.get().is_none() {
            b.status_code.set(SpanStatus::Unset.name());
        }
        write_hex(b.trace_id.open(), &self.trace_id);
        write_hex(b.span_id.open(), &self.span_id);
        let id = b.event_id.open();
        write_hex(id, &self.trace_id);
        id.push(b'-');
        write_hex(id, &self.span_id);
        if let Some(kind) = self.kind {
            b.kind.set(kind.name());
            id.push(b'-');
            id.extend_from_slice(kind.name().as_bytes());
        }
        for (field, list) in [("events", &mut b.events), ("links", &mut b.links)] {
            if list.is_set() {
                list.reopen().push(b']');
            }
            // Even an empty one is longer as JSON than it may be in a request.
            if list.is_overfull() {
                return Err(Fault(format!(
                    "{field}: expected at most 2 GiB of them in a request; send it in parts"
                )));
            }
        }
        each_column!(&mut *b, keep_row);
        Ok(())
    }
}

impl Drop for SpanRow<'_, '_> {
    fn drop(&mut self) {
        // After a commit there is nothing left to take back.
        each_column!(&mut *self.builder, drop_row);
    }
}

/// Begins an object in a column that holds an array of them.
fn begin_element(column: &mut TextColumn) -> &mut Vec<u8> {
    let separator = if column.is_set() { b',' } else { b'[' };
    let out = column.reopen();
    out.extend_from_slice(&[separator, b'{']);
    out
}

fn write_member(out: &mut Vec<u8>, key: &str, value: AttributeValue<'_>) {
    json::write_key(out, key);
    value.write(out);
}

/// Ends an event or a link.
fn write_rest(out: &mut Vec<u8>, attributes: Option<&str>, dropped_attributes_count: u32) {
    if let Some(attributes) = attributes {
        write_member(out, "attributes", AttributeValue::Json(attributes));
    }
    if dropped_attributes_count > 0 {
        let count = AttributeValue::Int(dropped_attributes_count.into());
        write_member(out, "dropped_attributes_count", count);
    }
    out.push(b'}');
}
