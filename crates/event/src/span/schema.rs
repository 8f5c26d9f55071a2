//! The Arrow schema of spans.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::schema::{dictionary_type, timestamp_type};

/// Names of the columns of [`span_schema`] that logs do not have; the others are named in
/// [`schema::column`](crate::schema::column).
#[allow(missing_docs)]
pub mod column {
    pub const START_TIME_UNIX_NANO: &str = "start_time_unix_nano";
    pub const END_TIME_UNIX_NANO: &str = "end_time_unix_nano";
    pub const PARENT_SPAN_ID: &str = "parent_span_id";
    pub const NAME: &str = "name";
    pub const KIND: &str = "kind";
    pub const STATUS_CODE: &str = "status_code";
    pub const STATUS_MESSAGE: &str = "status_message";
    pub const EVENTS: &str = "events";
    pub const LINKS: &str = "links";
    pub const TRACE_STATE: &str = "trace_state";
    pub const SCOPE: &str = "scope";
}

/// Schema of the topic `spans` and, with the same names, of table `spans`.
///
/// `timestamp` is the start; `end_time_unix_nano` and `duration_ms` are null of a span that has
/// not ended, and `duration_ms` of one that ended before it began. `events` and `links` are JSON
/// arrays of objects, `scope` is a JSON object.
pub fn span_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        use crate::schema::column::*;
        use column::*;
        let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
        let few = |name: &str, nullable| Field::new(name, dictionary_type(), nullable);
        let time = |name: &str| Field::new(name, timestamp_type(), false);
        Arc::new(Schema::new(vec![
            time(TIMESTAMP),
            Field::new(START_TIME_UNIX_NANO, DataType::Int64, false),
            Field::new(END_TIME_UNIX_NANO, DataType::Int64, true),
            Field::new(DURATION_MS, DataType::Float64, true),
            time(OBSERVED_TIMESTAMP),
            text(EVENT_ID, false),
            text(TRACE_ID, false),
            text(SPAN_ID, false),
            text(PARENT_SPAN_ID, true),
            few(SERVICE, true),
            few(NAME, true),
            few(KIND, true),
            few(STATUS_CODE, false),
            text(STATUS_MESSAGE, true),
            few(HOST, true),
            few(ENVIRONMENT, true),
            few(HTTP_METHOD, true),
            text(HTTP_PATH, true),
            Field::new(HTTP_STATUS, DataType::Int16, true),
            text(CLIENT_IP, true),
            text(USER_AGENT, true),
            Field::new(BYTES, DataType::Int64, true),
            text(ATTRIBUTES, true),
            few(RESOURCE, true),
            text(EVENTS, true),
            text(LINKS, true),
            text(TRACE_STATE, true),
            few(SCOPE, true),
        ]))
    });
    Arc::clone(&SCHEMA)
}
