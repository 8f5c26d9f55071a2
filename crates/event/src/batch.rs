//! Events laid out as an Arrow record batch, written row by row.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, TimestampMicrosecondArray},
    datatypes::{Float64Type, Int8Type, Int64Type},
};

use crate::{
    column::{FewColumn, NumberColumn, TextColumn},
    event_id::EventIds,
    facets::Facets,
    fault::Fault,
    json,
    priority::PriorityRules,
    schema::log_schema,
    semconv::{Promoted, promoted},
    severity::Severity,
    time::NANOS_PER_MICRO,
};

/// What is known of every event of a batch before the first is read.
#[derive(Debug, Clone, Copy)]
pub struct BatchContext<'c> {
    /// When the bytes were received, nanoseconds since the Unix epoch.
    pub observed_unix_nanos: i64,
    /// Which events are critical.
    pub rules: &'c PriorityRules,
    /// Randomness for the ids of events that come without one; new for each batch.
    pub id_seed: [u8; 10],
    /// Address of the sender, for events that name no client of their own.
    pub client_ip: Option<&'c str>,
    /// Service of events that name none.
    pub default_service: Option<&'c str>,
}

impl<'c> BatchContext<'c> {
    /// A context without a sender's address and without a default service.
    pub fn new(observed_unix_nanos: i64, rules: &'c PriorityRules, id_seed: [u8; 10]) -> Self {
        Self { observed_unix_nanos, rules, id_seed, client_ip: None, default_service: None }
    }
}

/// Value of an attribute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum AttributeValue<'a> {
    /// A string.
    Text(&'a str),
    /// A 64-bit integer.
    Int(i64),
    /// A double; NaN and infinities are kept as strings.
    Double(f64),
    /// A boolean.
    Bool(bool),
    /// Any JSON value as text. The caller vouches that it is well-formed.
    Json(&'a str),
}

impl AttributeValue<'_> {
    /// Appends the value as JSON.
    pub fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::Text(text) => json::write_string(out, text),
            Self::Int(number) => json::write_i64(out, number),
            Self::Double(number) => json::write_f64(out, number),
            Self::Bool(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
            Self::Json(text) => out.extend_from_slice(text.as_bytes()),
        }
    }

    pub(crate) fn as_i64(self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(number),
            Self::Text(text) | Self::Json(text) => text.parse().ok(),
            Self::Double(_) | Self::Bool(_) => None,
        }
    }
}

/// What a group of events says of the entity that sent them (OpenTelemetry `Resource`).
#[derive(Debug, Clone, Default)]
pub struct Resource {
    pub(crate) service: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) environment: Option<String>,
    json: Vec<u8>,
}

impl Resource {
    /// Adds an attribute; those with a column of their own go there.
    pub fn attribute(&mut self, key: &str, value: AttributeValue<'_>) {
        if let AttributeValue::Text(text) = value {
            let slot = match promoted(key) {
                Some(Promoted::Service) => Some(&mut self.service),
                Some(Promoted::Host) => Some(&mut self.host),
                Some(Promoted::Environment) => Some(&mut self.environment),
                _ => None,
            };
            if let Some(slot) = slot {
                *slot = Some(text.to_owned());
                return;
            }
        }
        if self.json.pop().is_none() {
            self.json.push(b'{');
        }
        json::write_key(&mut self.json, key);
        value.write(&mut self.json);
        self.json.push(b'}');
    }

    /// Adds the schema that the attributes follow, unless `url` is empty.
    pub fn schema_url(&mut self, url: &str) {
        if !url.is_empty() {
            self.attribute("schema_url", AttributeValue::Text(url));
        }
    }

    /// Adds the number of attributes that the sender left out, unless it is none.
    pub fn dropped_attributes(&mut self, count: u32) {
        if count > 0 {
            self.attribute("dropped_attributes_count", AttributeValue::Int(count.into()));
        }
    }

    /// The attributes without a column of their own, as a JSON object.
    pub(crate) fn json(&self) -> Option<&str> {
        std::str::from_utf8(&self.json).ok().filter(|json| !json.is_empty())
    }
}

/// Most bytes of input that may be decoded into one batch: even if every byte needs six when
/// escaped, no column reaches the 2 GiB that Arrow's 32-bit offsets can address.
pub const MAX_INPUT_BYTES: usize = 256 << 20;

/// Lays events out as record batches of [`log_schema`].
///
/// Decoders write one event at a time through a [`Row`]; nothing is allocated per event. One
/// batch takes at most [`MAX_INPUT_BYTES`] of input.
pub struct EventBatchBuilder<'c> {
    context: BatchContext<'c>,
    ids: EventIds,
    time_unix_nano: NumberColumn<Int64Type>,
    event_id: TextColumn,
    facets: Facets,
    level: FewColumn,
    severity_number: NumberColumn<Int8Type>,
    message: TextColumn,
    trace_id: TextColumn,
    span_id: TextColumn,
    duration_ms: NumberColumn<Float64Type>,
    schema_version: FewColumn,
    priority: FewColumn,
    /// Rows whose id came from the sender, in order.
    sender_ids: Vec<u32>,
    has_sender_id: bool,
    critical_rows: usize,
}

/// Calls a method on each column that rows are written to.
macro_rules! each_column {
    ($builder:expr, $method:ident) => {{
        let b = $builder;
        b.time_unix_nano.$method();
        b.event_id.$method();
        b.facets.$method();
        b.level.$method();
        b.severity_number.$method();
        b.message.$method();
        b.trace_id.$method();
        b.span_id.$method();
        b.duration_ms.$method();
        b.schema_version.$method();
        b.priority.$method();
    }};
}

/// First capacity of the columns, in rows.
const INITIAL_ROWS: usize = 1024;

impl<'c> EventBatchBuilder<'c> {
    /// An empty builder.
    pub fn new(context: BatchContext<'c>) -> Self {
        let unix_millis = u64::try_from(context.observed_unix_nanos / 1_000_000).unwrap_or(0);
        let (text, few) = (TextColumn::with_capacity, FewColumn::with_capacity);
        Self {
            ids: EventIds::new(unix_millis, context.id_seed),
            context,
            time_unix_nano: NumberColumn::with_capacity(INITIAL_ROWS),
            event_id: text(INITIAL_ROWS),
            facets: Facets::with_capacity(INITIAL_ROWS),
            level: few(INITIAL_ROWS),
            severity_number: NumberColumn::with_capacity(INITIAL_ROWS),
            message: text(INITIAL_ROWS),
            trace_id: text(INITIAL_ROWS),
            span_id: text(INITIAL_ROWS),
            duration_ms: NumberColumn::with_capacity(INITIAL_ROWS),
            schema_version: few(INITIAL_ROWS),
            priority: few(INITIAL_ROWS),
            sender_ids: Vec::new(),
            has_sender_id: false,
            critical_rows: 0,
        }
    }

    /// Begins an event.
    pub fn row(&mut self) -> Row<'_, 'c> {
        Row { builder: self }
    }

    /// Number of committed events.
    pub fn len(&self) -> usize {
        self.time_unix_nano.len()
    }

    /// Whether no event has been committed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of committed events whose priority is critical.
    pub fn critical_rows(&self) -> usize {
        self.critical_rows
    }

    /// Rows whose event id the sender gave, in ascending order: the only ones that can be
    /// duplicates.
    pub fn sender_ids(&self) -> &[u32] {
        &self.sender_ids
    }

    /// The batch of all committed events.
    pub fn finish(self) -> RecordBatch {
        let rows = self.len();
        let facets = self.facets;
        let micros = |nanos: i64| nanos.div_euclid(NANOS_PER_MICRO);
        let time_unix_nano = self.time_unix_nano.finish();
        let timestamp: TimestampMicrosecondArray = time_unix_nano.unary(micros);
        let observed = micros(self.context.observed_unix_nanos);
        let observed = TimestampMicrosecondArray::from_value(observed, rows);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(timestamp.with_timezone("UTC")),
            Arc::new(time_unix_nano),
            Arc::new(observed.with_timezone("UTC")),
            self.event_id.finish(),
            facets.service.finish(),
            self.level.finish(),
            Arc::new(self.severity_number.finish()),
            self.message.finish(),
            self.trace_id.finish(),
            self.span_id.finish(),
            facets.host.finish(),
            facets.environment.finish(),
            facets.http_method.finish(),
            facets.http_path.finish(),
            Arc::new(facets.http_status.finish()),
            Arc::new(self.duration_ms.finish()),
            facets.client_ip.finish(),
            facets.user_agent.finish(),
            Arc::new(facets.bytes.finish()),
            facets.attributes.finish(),
            facets.resource.finish(),
            self.schema_version.finish(),
            self.priority.finish(),
        ];
        RecordBatch::try_new(log_schema(), columns).expect("columns are built in schema order")
    }
}

/// One event being written. Dropped without [`Row::commit`], it leaves no trace.
///
/// A field set twice keeps the later value.
pub struct Row<'b, 'c> {
    builder: &'b mut EventBatchBuilder<'c>,
}

/// Setters that copy their argument into the column after the arrow.
macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty => $($column:ident).+;)*) => {
        $($(#[$doc])*
        pub fn $name(&mut self, value: $type) {
            self.builder.$($column).+.set(value);
        })*
    };
}

impl Row<'_, '_> {
    setters! {
        /// Event time, nanoseconds since the Unix epoch.
        time_unix_nano: i64 => time_unix_nano;
        /// Name of the emitting service.
        service: &str => facets.service;
        /// Body as text.
        message: &str => message;
        /// Name of the host.
        host: &str => facets.host;
        /// Deployment environment.
        environment: &str => facets.environment;
        /// HTTP request method.
        http_method: &str => facets.http_method;
        /// HTTP request path, without the query.
        http_path: &str => facets.http_path;
        /// HTTP response status.
        http_status: i16 => facets.http_status;
        /// How long the operation took, milliseconds.
        duration_ms: f64 => duration_ms;
        /// Address of the client whose request the event tells of.
        client_ip: &str => facets.client_ip;
        /// User agent of that client.
        user_agent: &str => facets.user_agent;
        /// Size of the response body, bytes.
        bytes: i64 => facets.bytes;
        /// Envelope version the sender used.
        schema_version: &str => schema_version;
    }

    /// The sender's id of the event; an empty id counts as none.
    pub fn event_id(&mut self, id: &str) {
        if !id.is_empty() {
            self.builder.event_id.set(id);
            self.builder.has_sender_id = true;
        }
    }

    /// Severity; the level follows from it.
    pub fn severity(&mut self, severity: Severity) {
        self.builder.severity_number.set(severity.number());
        self.builder.level.set(severity.level().name());
    }

    /// Trace id as text; hexadecimal digits are stored in lower case.
    pub fn trace_id(&mut self, id: &str) {
        write_lower(self.builder.trace_id.open(), id);
    }

    /// Span id as text; hexadecimal digits are stored in lower case.
    pub fn span_id(&mut self, id: &str) {
        write_lower(self.builder.span_id.open(), id);
    }

    /// Trace id as bytes.
    pub fn trace_id_bytes(&mut self, id: &[u8]) {
        write_hex(self.builder.trace_id.open(), id);
    }

    /// Span id as bytes.
    pub fn span_id_bytes(&mut self, id: &[u8]) {
        write_hex(self.builder.span_id.open(), id);
    }

    /// Request target such as `/cart?id=7` or a whole URL: its path is kept as `http_path`, its
    /// query as attribute `url.query`.
    pub fn http_target(&mut self, target: &str) {
        self.builder.facets.http_target(target);
    }

    /// Fields of the entity that sent the event.
    pub fn resource(&mut self, resource: &Resource) {
        self.builder.facets.resource(resource);
    }

    /// Adds an attribute. Those of the HTTP semantic conventions, and `service.name` and its
    /// like, become columns where the value fits; everything else is kept under its key.
    pub fn attribute(&mut self, key: &str, value: AttributeValue<'_>) {
        self.builder.facets.attribute(key, value);
    }

    /// Adds an attribute as [`Row::attribute`] does, whose value is JSON already.
    pub fn json_attribute(&mut self, key: &str, value: json::Value<'_>) {
        self.builder.facets.json_attribute(key, value);
    }

    /// Adds an attribute under its key, even if there is a column for it: for values that did not
    /// fit the column, or came after another one that did.
    pub fn plain_attribute(&mut self, key: &str, value: AttributeValue<'_>) {
        self.builder.facets.plain_attribute(key, value);
    }

    /// Adds what the sender left out — time, id, service, level, priority — and keeps the event.
    ///
    /// # Errors
    /// A [`Fault`] when the event time is before 1970; the row is dropped then.
    pub fn commit(self) -> Result<(), Fault> {
        let b = &mut *self.builder;
        match b.time_unix_nano.get() {
            None => b.time_unix_nano.set(b.context.observed_unix_nanos),
            Some(nanos @ ..0) => {
                return Err(Fault(format!(
                    "timestamp: expected a time from 1970 on, found {nanos} ns before it"
                )));
            }
            Some(_) => {}
        }
        if let (None, Some(service)) = (b.facets.service.get(), b.context.default_service) {
            b.facets.service.set(service);
        }
        if let (false, Some(address)) = (b.facets.client_ip.is_set(), b.context.client_ip) {
            b.facets.client_ip.set(address);
        }
        if let (None, Some(status)) = (b.severity_number.get(), b.facets.http_status.get()) {
            let severity = Severity::from_http_status(status);
            b.severity_number.set(severity.number());
            b.level.set(severity.level().name());
        }
        if b.has_sender_id {
            b.sender_ids.push(b.time_unix_nano.len() as u32);
        } else {
            b.event_id.set(b.ids.next(&mut [0; 36]));
        }
        let severity = b.severity_number.get().and_then(|n| Severity::from_number(n.into()));
        let critical = b.context.rules.is_critical(
            severity,
            b.facets.service.get(),
            b.facets.environment.get(),
        );
        b.priority.set(if critical { "critical" } else { "routine" });
        b.critical_rows += usize::from(critical);
        each_column!(&mut *b, keep_row);
        b.has_sender_id = false;
        Ok(())
    }

    /// Whether a service was named, by the event or by the context.
    pub fn has_service(&self) -> bool {
        self.service_name().is_some()
    }

    /// The service the event is of, as named so far by it or else by the context.
    pub fn service_name(&self) -> Option<&str> {
        self.builder.facets.service.get().or(self.builder.context.default_service)
    }
}

impl Drop for Row<'_, '_> {
    fn drop(&mut self) {
        // After a commit there is nothing left to take back.
        each_column!(&mut *self.builder, drop_row);
        self.builder.has_sender_id = false;
    }
}

fn write_lower(out: &mut Vec<u8>, text: &str) {
    let start = out.len();
    out.extend_from_slice(text.as_bytes());
    if text.bytes().any(|byte| byte.is_ascii_uppercase())
        && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        out[start..].make_ascii_lowercase();
    }
}

pub(crate) fn write_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend(
        bytes
            .iter()
            .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]),
    );
}

#[cfg(test)]
mod tests;
