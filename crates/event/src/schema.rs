//! The Arrow schemas of events and of rejected records.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// Column names of [`log_schema`], so that no crate spells them twice.
#[allow(missing_docs)]
pub mod column {
    pub const TIMESTAMP: &str = "timestamp";
    pub const TIME_UNIX_NANO: &str = "time_unix_nano";
    pub const OBSERVED_TIMESTAMP: &str = "observed_timestamp";
    pub const EVENT_ID: &str = "event_id";
    pub const SERVICE: &str = "service";
    pub const LEVEL: &str = "level";
    pub const SEVERITY_NUMBER: &str = "severity_number";
    pub const MESSAGE: &str = "message";
    pub const TRACE_ID: &str = "trace_id";
    pub const SPAN_ID: &str = "span_id";
    pub const HOST: &str = "host";
    pub const ENVIRONMENT: &str = "environment";
    pub const HTTP_METHOD: &str = "http_method";
    pub const HTTP_PATH: &str = "http_path";
    pub const HTTP_STATUS: &str = "http_status";
    pub const DURATION_MS: &str = "duration_ms";
    pub const CLIENT_IP: &str = "client_ip";
    pub const USER_AGENT: &str = "user_agent";
    pub const BYTES: &str = "bytes";
    pub const ATTRIBUTES: &str = "attributes";
    pub const RESOURCE: &str = "resource";
    pub const SCHEMA_VERSION: &str = "schema_version";
    pub const PRIORITY: &str = "priority";

    pub const REJECTED_FORMAT: &str = "format";
    pub const REJECTED_REASON: &str = "reason";
    pub const REJECTED_INDEX: &str = "record_index";
    pub const REJECTED_ORIGINAL: &str = "original";

    pub const AUDIT_PRINCIPAL: &str = "principal";
    pub const AUDIT_TOKEN_ID: &str = "token_id";
    pub const AUDIT_CLIENT: &str = "client";
    pub const AUDIT_PROTOCOL: &str = "protocol";
    pub const AUDIT_STATEMENT: &str = "statement";
    pub const AUDIT_OUTCOME: &str = "outcome";
    pub const AUDIT_ROWS: &str = "rows";
    pub const AUDIT_ELAPSED_MS: &str = "elapsed_ms";
}

/// Topics events travel on, in the order of their urgency, and the one for rejected records.
pub mod topic {
    /// Events whose priority is `critical`.
    pub const LOGS_CRITICAL: &str = "logs.critical";
    /// All other events.
    pub const LOGS_ROUTINE: &str = "logs.routine";
    /// Spans of traces.
    pub const SPANS: &str = "spans";
    /// Records that could not be read, with the reason.
    pub const REJECTED: &str = "rejected";
    /// Who asked what.
    pub const AUDIT: &str = "audit";
}

/// Microseconds since the Unix epoch, UTC.
pub fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Text of few distinct values.
pub fn dictionary_type() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// Schema of the topics `logs.critical` and `logs.routine` and, with the same names, of table `logs`.
pub fn log_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        use column::*;
        let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
        let few = |name: &str, nullable| Field::new(name, dictionary_type(), nullable);
        let time = |name: &str| Field::new(name, timestamp_type(), false);
        Arc::new(Schema::new(vec![
            time(TIMESTAMP),
            Field::new(TIME_UNIX_NANO, DataType::Int64, false),
            time(OBSERVED_TIMESTAMP),
            text(EVENT_ID, false),
            few(SERVICE, true),
            few(LEVEL, true),
            Field::new(SEVERITY_NUMBER, DataType::Int8, true),
            text(MESSAGE, true),
            text(TRACE_ID, true),
            text(SPAN_ID, true),
            few(HOST, true),
            few(ENVIRONMENT, true),
            few(HTTP_METHOD, true),
            text(HTTP_PATH, true),
            Field::new(HTTP_STATUS, DataType::Int16, true),
            Field::new(DURATION_MS, DataType::Float64, true),
            text(CLIENT_IP, true),
            text(USER_AGENT, true),
            Field::new(BYTES, DataType::Int64, true),
            text(ATTRIBUTES, true),
            few(RESOURCE, true),
            few(SCHEMA_VERSION, true),
            few(PRIORITY, true),
        ]))
    });
    Arc::clone(&SCHEMA)
}

/// Schema of the topic and table `rejected`: when, from whom, why, and the original bytes.
pub fn rejected_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        use column::*;
        Arc::new(Schema::new(vec![
            Field::new(OBSERVED_TIMESTAMP, timestamp_type(), false),
            Field::new(CLIENT_IP, DataType::Utf8, true),
            Field::new(REJECTED_FORMAT, dictionary_type(), false),
            Field::new(REJECTED_INDEX, DataType::Int64, false),
            Field::new(REJECTED_REASON, DataType::Utf8, false),
            Field::new(REJECTED_ORIGINAL, DataType::Binary, false),
        ]))
    });
    Arc::clone(&SCHEMA)
}

/// Schema of the topic and table `audit`: who asked what, from where, and what came of it.
pub fn audit_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        use column::*;
        let few = |name: &str| Field::new(name, dictionary_type(), false);
        Arc::new(Schema::new(vec![
            Field::new(TIMESTAMP, timestamp_type(), false),
            few(AUDIT_PRINCIPAL),
            Field::new(AUDIT_TOKEN_ID, DataType::Utf8, true),
            Field::new(AUDIT_CLIENT, DataType::Utf8, true),
            few(AUDIT_PROTOCOL),
            Field::new(AUDIT_STATEMENT, DataType::Utf8, false),
            few(AUDIT_OUTCOME),
            Field::new(AUDIT_ROWS, DataType::Int64, false),
            Field::new(AUDIT_ELAPSED_MS, DataType::Float64, false),
        ]))
    });
    Arc::clone(&SCHEMA)
}
