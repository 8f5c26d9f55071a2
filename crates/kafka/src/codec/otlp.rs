//! Events as OTLP's export request in protobuf, a batch a message: what the OpenTelemetry
//! Collector's Kafka exporter writes, and its receiver reads.
//!
//! What OTLP has a field or a semantic convention for is there, so that others understand it. To
//! be read again exactly as it was, a record begins with the attribute `thalweg.columns`: so many
//! attributes behind it are columns, and the others are those of the event. A column whose value
//! OTLP's field would not bring back (a trace id that is none, a number written as `1e3`) stands
//! there once more as it is.

mod value;

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, Float64Array, Int8Array, Int16Array, Int64Array, PrimitiveArray,
        RecordBatch, StringArray, TimestampMicrosecondArray,
    },
    compute::cast,
    datatypes::{
        ArrowPrimitiveType, DataType, Float64Type, Int8Type, Int16Type, Int64Type,
        TimestampMicrosecondType,
    },
};
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value as Any},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
};
use prost::Message as _;
use thalweg_event::schema::{column, log_schema};

use self::value::{attribute, attributes, to_json};

/// Attribute that says how many of those behind it are columns.
const COLUMNS: &str = "thalweg.columns";
/// Nanoseconds of a microsecond.
const NANOS_PER_MICRO: i64 = 1_000;
/// Severities that OTLP has.
const SEVERITIES: Range<i8> = 1..25;
/// Bytes of ids.
/// What the rows of a message may take: a resource stands in it once, but in each of its rows.
const MAX_TEXT_BYTES: usize = 64 << 20;
const TRACE_ID_BYTES: usize = 16;
const SPAN_ID_BYTES: usize = 8;

/// Columns of text that are attributes of a record, and those attributes.
const TEXTS: [(&str, &str); 7] = [
    (column::EVENT_ID, "thalweg.event_id"),
    (column::HTTP_METHOD, "http.request.method"),
    (column::HTTP_PATH, "url.path"),
    (column::CLIENT_IP, "client.address"),
    (column::USER_AGENT, "user_agent.original"),
    (column::SCHEMA_VERSION, "thalweg.schema_version"),
    (column::PRIORITY, "thalweg.priority"),
];
/// Columns of text that are attributes of the resource.
const RESOURCE_TEXTS: [(&str, &str); 3] = [
    (column::SERVICE, "service.name"),
    (column::HOST, "host.name"),
    (column::ENVIRONMENT, "deployment.environment.name"),
];
const HTTP_STATUS: &str = "http.response.status_code";
const BYTES: &str = "http.response.body.size";
const DURATION_MS: &str = "thalweg.duration_ms";
/// Columns that stand once more among the attributes when OTLP's field is not exact.
const TIMESTAMP: &str = "thalweg.timestamp";
const OBSERVED_TIMESTAMP: &str = "thalweg.observed_timestamp";
const SEVERITY_NUMBER: &str = "thalweg.severity_number";
const LEVEL: &str = "thalweg.level";
const TRACE_ID: &str = "thalweg.trace_id";
const SPAN_ID: &str = "thalweg.span_id";
const ATTRIBUTES: &str = "thalweg.attributes";
const RESOURCE: &str = "thalweg.resource";

/// The rows `range` of a batch of [`log_schema`], as the bytes of an export request.
///
/// # Errors
/// The batch has other columns, in words.
pub(super) fn write(batch: &RecordBatch, range: Range<usize>) -> Result<Vec<u8>, String> {
    let rows = Rows::of(batch)?;
    let mut resource_logs: Vec<ResourceLogs> = vec![];
    let mut current: Option<usize> = None;
    for row in range {
        let goes_on = current.is_some_and(|first| rows.have_one_resource(first, row));
        if !goes_on {
            current = Some(row);
            resource_logs.push(ResourceLogs {
                resource: Some(Resource { attributes: rows.resource(row), ..Default::default() }),
                scope_logs: vec![ScopeLogs::default()],
                ..Default::default()
            });
        }
        if let Some(scope) = resource_logs.last_mut().and_then(|logs| logs.scope_logs.last_mut()) {
            scope.log_records.push(rows.record(row));
        }
    }
    Ok(ExportLogsServiceRequest { resource_logs }.encode_to_vec())
}

/// The columns that a batch is written from.
struct Rows {
    texts: [StringArray; TEXTS.len()],
    resource_texts: [StringArray; RESOURCE_TEXTS.len()],
    time_unix_nano: Int64Array,
    timestamp: TimestampMicrosecondArray,
    observed: TimestampMicrosecondArray,
    level: StringArray,
    severity: Int8Array,
    message: StringArray,
    trace_id: StringArray,
    span_id: StringArray,
    http_status: Int16Array,
    bytes: Int64Array,
    duration_ms: Float64Array,
    attributes: StringArray,
    resource: StringArray,
}

impl Rows {
    fn of(batch: &RecordBatch) -> Result<Self, String> {
        let of = |name: &str| {
            batch.column_by_name(name).ok_or_else(|| format!("expected a column `{name}`"))
        };
        let text = |name: &str| {
            let column = cast(of(name)?, &DataType::Utf8).map_err(|error| error.to_string())?;
            Ok::<_, String>(column.as_string::<i32>().clone())
        };
        fn number<T: ArrowPrimitiveType>(column: &ArrayRef) -> Result<PrimitiveArray<T>, String> {
            let found = column.as_primitive_opt::<T>().cloned();
            found.ok_or_else(|| format!("expected {}, found {}", T::DATA_TYPE, column.data_type()))
        }
        let texts = TEXTS.iter().map(|(name, _)| text(name)).collect::<Result<Vec<_>, _>>()?;
        let resource_texts = RESOURCE_TEXTS.iter().map(|(name, _)| text(name));
        let resource_texts = resource_texts.collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            texts: texts.try_into().map_err(|_| "one column for each name".to_owned())?,
            resource_texts: resource_texts
                .try_into()
                .map_err(|_| "one column for each name".to_owned())?,
            time_unix_nano: number::<Int64Type>(of(column::TIME_UNIX_NANO)?)?,
            timestamp: number::<TimestampMicrosecondType>(of(column::TIMESTAMP)?)?,
            observed: number::<TimestampMicrosecondType>(of(column::OBSERVED_TIMESTAMP)?)?,
            level: text(column::LEVEL)?,
            severity: number::<Int8Type>(of(column::SEVERITY_NUMBER)?)?,
            message: text(column::MESSAGE)?,
            trace_id: text(column::TRACE_ID)?,
            span_id: text(column::SPAN_ID)?,
            http_status: number::<Int16Type>(of(column::HTTP_STATUS)?)?,
            bytes: number::<Int64Type>(of(column::BYTES)?)?,
            duration_ms: number::<Float64Type>(of(column::DURATION_MS)?)?,
            attributes: text(column::ATTRIBUTES)?,
            resource: text(column::RESOURCE)?,
        })
    }

    fn have_one_resource(&self, one: usize, other: usize) -> bool {
        let mut texts = self.resource_texts.iter().chain([&self.resource]);
        texts.all(|texts| text_of(texts, one) == text_of(texts, other))
    }

    fn resource(&self, row: usize) -> Vec<KeyValue> {
        let texts = self.resource_texts.iter().zip(RESOURCE_TEXTS);
        let columns = texts.filter_map(|(texts, (_, key))| text_attribute(key, texts, row));
        with_rest(columns.collect(), RESOURCE, text_of(&self.resource, row))
    }

    fn record(&self, row: usize) -> LogRecord {
        let texts = self.texts.iter().zip(TEXTS);
        let mut columns: Vec<KeyValue> =
            texts.filter_map(|(texts, (_, key))| text_attribute(key, texts, row)).collect();
        let mut column = |key: &str, value: Option<Any>| {
            columns.extend(value.map(|value| attribute(key, value)));
        };
        let int = |number: i64| Any::IntValue(number);
        let status = value_of(&self.http_status, row);
        column(HTTP_STATUS, status.map(|status| int(status.into())));
        column(BYTES, value_of(&self.bytes, row).map(int));
        column(DURATION_MS, value_of(&self.duration_ms, row).map(Any::DoubleValue));

        let nanos = self.time_unix_nano.value(row);
        let micros = self.timestamp.value(row);
        let is_exact = nanos.div_euclid(NANOS_PER_MICRO) == micros;
        column(TIMESTAMP, (!is_exact).then(|| int(micros)));
        let observed = self.observed.value(row);
        let observed_nanos = observed.checked_mul(NANOS_PER_MICRO);
        column(OBSERVED_TIMESTAMP, observed_nanos.is_none().then(|| int(observed)));
        let severity = value_of(&self.severity, row);
        let known = severity.filter(|severity| SEVERITIES.contains(severity));
        let unknown = severity.filter(|_| known.is_none());
        column(SEVERITY_NUMBER, unknown.map(|severity| int(severity.into())));
        let level = text_of(&self.level, row);
        column(LEVEL, level.filter(|level| level.is_empty()).map(|_| Any::StringValue("".into())));
        let trace_id = text_of(&self.trace_id, row);
        let trace_bytes = trace_id.and_then(|id| id_bytes(id, TRACE_ID_BYTES));
        let other = |id: Option<&str>, bytes: &Option<Vec<u8>>| {
            id.filter(|_| bytes.is_none()).map(|id| Any::StringValue(id.to_owned()))
        };
        column(TRACE_ID, other(trace_id, &trace_bytes));
        let span_id = text_of(&self.span_id, row);
        let span_bytes = span_id.and_then(|id| id_bytes(id, SPAN_ID_BYTES));
        column(SPAN_ID, other(span_id, &span_bytes));

        let message = text_of(&self.message, row);
        LogRecord {
            // A time before 1970 is none that others know; the same bits come back.
            time_unix_nano: nanos.cast_unsigned(),
            observed_time_unix_nano: observed_nanos.unwrap_or(0).cast_unsigned(),
            severity_number: known.unwrap_or(0).into(),
            severity_text: level.unwrap_or_default().to_owned(),
            body: message.map(|text| AnyValue { value: Some(Any::StringValue(text.into())) }),
            attributes: with_rest(columns, ATTRIBUTES, text_of(&self.attributes, row)),
            trace_id: trace_bytes.unwrap_or_default(),
            span_id: span_bytes.unwrap_or_default(),
            ..Default::default()
        }
    }
}

/// How many columns there are, the columns, and the members of `rest`, which stands among the
/// columns as `key` if they do not tell it exactly.
fn with_rest(mut columns: Vec<KeyValue>, key: &str, rest: Option<&str>) -> Vec<KeyValue> {
    let (members, is_exact) = rest.map(attributes).unwrap_or_default();
    // No members at all are an object that is not there.
    if let Some(text) = rest.filter(|_| !is_exact || members.is_empty()) {
        columns.push(attribute(key, Any::StringValue(text.to_owned())));
    }
    let count = i64::try_from(columns.len()).unwrap_or(i64::MAX);
    let mut all = vec![attribute(COLUMNS, Any::IntValue(count))];
    all.append(&mut columns);
    all.extend(members);
    all
}

fn text_attribute(key: &str, texts: &StringArray, row: usize) -> Option<KeyValue> {
    text_of(texts, row).map(|text| attribute(key, Any::StringValue(text.to_owned())))
}

fn text_of(texts: &StringArray, row: usize) -> Option<&str> {
    texts.is_valid(row).then(|| texts.value(row))
}

fn value_of<T: ArrowPrimitiveType>(values: &PrimitiveArray<T>, row: usize) -> Option<T::Native> {
    values.is_valid(row).then(|| values.value(row))
}

/// Bytes of an id in lower-case hexadecimal; `None` of any other text.
fn id_bytes(id: &str, length: usize) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if id.len() != 2 * length {
        return None;
    }
    id.as_bytes().chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

/// The rows of an export request that [`write()`] made, as a batch of [`log_schema`].
///
/// # Errors
/// The bytes are not those of one, in words.
pub(super) fn read(payload: &[u8]) -> Result<RecordBatch, String> {
    let request = ExportLogsServiceRequest::decode(payload).map_err(|error| error.to_string())?;
    let mut columns = Columns::default();
    for logs in request.resource_logs {
        let attributes = logs.resource.unwrap_or_default().attributes;
        let resource = Split::of(&attributes)?;
        let resource_bytes = resource.bytes();
        for record in logs.scope_logs.into_iter().flat_map(|scope| scope.log_records) {
            columns.push(&record, &resource, resource_bytes)?;
        }
    }
    columns.finish()
}

/// Attributes that are columns, and the object that the others are.
struct Split<'a> {
    columns: &'a [KeyValue],
    rest: &'a [KeyValue],
}

impl<'a> Split<'a> {
    fn of(attributes: &'a [KeyValue]) -> Result<Self, String> {
        let split = attributes.split_first().and_then(|(first, others)| {
            let count = match value(first)? {
                Any::IntValue(count) if first.key == COLUMNS => usize::try_from(*count).ok()?,
                _ => return None,
            };
            others.split_at_checked(count)
        });
        let (columns, rest) =
            split.ok_or_else(|| format!("expected `{COLUMNS}` first among attributes"))?;
        Ok(Self { columns, rest })
    }

    /// What its texts take, about.
    fn bytes(&self) -> usize {
        self.columns.iter().chain(self.rest).map(prost::Message::encoded_len).sum()
    }

    fn column(&self, key: &str) -> Option<&'a Any> {
        value(self.columns.iter().find(|column| column.key == key)?)
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        match self.column(key)? {
            Any::StringValue(text) => Some(text),
            _ => None,
        }
    }

    fn int(&self, key: &str) -> Option<i64> {
        match self.column(key)? {
            Any::IntValue(number) => Some(*number),
            _ => None,
        }
    }

    fn double(&self, key: &str) -> Option<f64> {
        match self.column(key)? {
            Any::DoubleValue(number) => Some(*number),
            _ => None,
        }
    }

    /// The others, as [`with_rest`] was given them.
    fn object(&self, key: &str) -> Option<String> {
        match self.text(key) {
            Some(text) => Some(text.to_owned()),
            None => (!self.rest.is_empty()).then(|| to_json(self.rest)),
        }
    }
}

fn value(attribute: &KeyValue) -> Option<&Any> {
    attribute.value.as_ref()?.value.as_ref()
}

/// Columns under construction.
#[derive(Default)]
struct Columns {
    /// What the texts of records, and of what they share, take.
    text_bytes: usize,
    texts: [Vec<Option<String>>; TEXTS.len()],
    resource_texts: [Vec<Option<String>>; RESOURCE_TEXTS.len()],
    time_unix_nano: Vec<i64>,
    timestamp: Vec<i64>,
    observed: Vec<i64>,
    level: Vec<Option<String>>,
    severity: Vec<Option<i8>>,
    message: Vec<Option<String>>,
    trace_id: Vec<Option<String>>,
    span_id: Vec<Option<String>>,
    http_status: Vec<Option<i16>>,
    bytes: Vec<Option<i64>>,
    duration_ms: Vec<Option<f64>>,
    attributes: Vec<Option<String>>,
    resource: Vec<Option<String>>,
}

impl Columns {
    /// `resource_bytes` are those of `resource`, which each of its records gets.
    fn push(
        &mut self,
        record: &LogRecord,
        resource: &Split<'_>,
        resource_bytes: usize,
    ) -> Result<(), String> {
        let split = Split::of(&record.attributes)?;
        self.text_bytes += split.bytes() + resource_bytes;
        if self.text_bytes > MAX_TEXT_BYTES {
            return Err(format!("expected rows of at most {MAX_TEXT_BYTES} bytes, found more"));
        }
        for (texts, (_, key)) in self.texts.iter_mut().zip(TEXTS) {
            texts.push(split.text(key).map(str::to_owned));
        }
        for (texts, (_, key)) in self.resource_texts.iter_mut().zip(RESOURCE_TEXTS) {
            texts.push(resource.text(key).map(str::to_owned));
        }
        let nanos = record.time_unix_nano.cast_signed();
        self.time_unix_nano.push(nanos);
        let micros = split.int(TIMESTAMP).unwrap_or_else(|| nanos.div_euclid(NANOS_PER_MICRO));
        self.timestamp.push(micros);
        let observed = record.observed_time_unix_nano.cast_signed().div_euclid(NANOS_PER_MICRO);
        self.observed.push(split.int(OBSERVED_TIMESTAMP).unwrap_or(observed));
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let level = split.text(LEVEL).map(str::to_owned);
        self.level.push(level.or_else(|| some(&record.severity_text)));
        let known = i8::try_from(record.severity_number).ok().filter(|n| SEVERITIES.contains(n));
        let unknown = split.int(SEVERITY_NUMBER).and_then(|number| i8::try_from(number).ok());
        self.severity.push(unknown.or(known));
        self.message.push(match record.body.as_ref().and_then(|body| body.value.as_ref()) {
            Some(Any::StringValue(text)) => Some(text.clone()),
            _ => None,
        });
        let id = |bytes: &[u8], key: &str| match split.text(key) {
            Some(id) => Some(id.to_owned()),
            None => (!bytes.is_empty()).then(|| hex(bytes)),
        };
        self.trace_id.push(id(&record.trace_id, TRACE_ID));
        self.span_id.push(id(&record.span_id, SPAN_ID));
        let status = split.int(HTTP_STATUS).and_then(|status| i16::try_from(status).ok());
        self.http_status.push(status);
        self.bytes.push(split.int(BYTES));
        self.duration_ms.push(split.double(DURATION_MS));
        self.attributes.push(split.object(ATTRIBUTES));
        self.resource.push(resource.object(RESOURCE));
        Ok(())
    }

    fn finish(self) -> Result<RecordBatch, String> {
        let text = |texts: Vec<Option<String>>| Arc::new(StringArray::from(texts)) as ArrayRef;
        let time = |micros: Vec<i64>| {
            Arc::new(TimestampMicrosecondArray::from(micros).with_timezone("UTC")) as ArrayRef
        };
        let named = |names: &[(&'static str, &str)], columns: Vec<Vec<Option<String>>>| {
            let names: Vec<&'static str> = names.iter().map(|(name, _)| *name).collect();
            names.into_iter().zip(columns.into_iter().map(text)).collect::<Vec<_>>()
        };
        let mut columns: Vec<(&str, ArrayRef)> = vec![
            (column::TIME_UNIX_NANO, Arc::new(Int64Array::from(self.time_unix_nano))),
            (column::TIMESTAMP, time(self.timestamp)),
            (column::OBSERVED_TIMESTAMP, time(self.observed)),
            (column::LEVEL, text(self.level)),
            (column::SEVERITY_NUMBER, Arc::new(Int8Array::from(self.severity))),
            (column::MESSAGE, text(self.message)),
            (column::TRACE_ID, text(self.trace_id)),
            (column::SPAN_ID, text(self.span_id)),
            (column::HTTP_STATUS, Arc::new(Int16Array::from(self.http_status))),
            (column::BYTES, Arc::new(Int64Array::from(self.bytes))),
            (column::DURATION_MS, Arc::new(Float64Array::from(self.duration_ms))),
            (column::ATTRIBUTES, text(self.attributes)),
            (column::RESOURCE, text(self.resource)),
        ];
        columns.extend(named(&TEXTS, self.texts.into()));
        columns.extend(named(&RESOURCE_TEXTS, self.resource_texts.into()));
        let schema = log_schema();
        let ordered = schema.fields().iter().map(|field| {
            let found = columns.iter().find(|(name, _)| name == field.name());
            let (_, column) = found.ok_or_else(|| format!("no column `{}`", field.name()))?;
            cast(column, field.data_type()).map_err(|error| error.to_string())
        });
        let ordered = ordered.collect::<Result<Vec<_>, _>>()?;
        RecordBatch::try_new(schema, ordered).map_err(|error| error.to_string())
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_has_its_place() {
        let read = Columns::default().finish().unwrap();
        assert_eq!(read.schema(), log_schema());
        assert_eq!(write(&read, 0..0).unwrap(), b"");
    }

    #[test]
    fn a_small_message_does_not_become_huge() {
        let marked = |attribute: Option<KeyValue>| {
            let count = attribute.iter().len();
            let mark = super::attribute(COLUMNS, Any::IntValue(count as i64));
            [mark].into_iter().chain(attribute).collect::<Vec<_>>()
        };
        let huge = super::attribute(RESOURCE, Any::StringValue("x".repeat(900_000)));
        let record = LogRecord { attributes: marked(None), ..Default::default() };
        let scope_logs = vec![ScopeLogs { log_records: vec![record; 100], ..Default::default() }];
        let resource = Some(Resource { attributes: marked(Some(huge)), ..Default::default() });
        let logs = ResourceLogs { resource, scope_logs, ..Default::default() };
        let bytes = ExportLogsServiceRequest { resource_logs: vec![logs] }.encode_to_vec();
        assert!(bytes.len() < 1_000_000);
        let error = read(&bytes).unwrap_err();
        assert!(error.contains("at most 67108864 bytes"), "{error}");
    }

    #[test]
    fn a_request_of_others_is_not_taken_for_one_of_ours() {
        let record = LogRecord::default();
        let scope_logs = vec![ScopeLogs { log_records: vec![record], ..Default::default() }];
        let logs = ResourceLogs { scope_logs, ..Default::default() };
        let bytes = ExportLogsServiceRequest { resource_logs: vec![logs] }.encode_to_vec();
        assert!(read(&bytes).unwrap_err().contains("thalweg.columns"));
    }
}
