//! Bodies of each format, as agents send them.

use std::fmt::Write as _;

use opentelemetry_proto::tonic::{
    collector::{logs::v1::ExportLogsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{AnyValue, KeyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message as _;
use thalweg_ingest::decode::{BodyFormat, Formats, FormatsConfig};

/// Events of a body: what an agent sends in a second or so.
pub(crate) const EVENTS: usize = 10_000;

const SERVICES: [&str; 6] = ["checkout", "payment", "cart", "search", "shipping", "auth"];
const LEVELS: [(&str, i32); 5] =
    [("INFO", 9), ("INFO", 9), ("DEBUG", 5), ("WARN", 13), ("ERROR", 17)];
const PATHS: [&str; 4] =
    ["/api/cart/items", "/api/checkout", "/login?next=%2Fhome", "/static/app.js"];
const AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/126.0 Safari/537.36";

/// The varying parts of event `i`.
struct Sample {
    service: &'static str,
    level: (&'static str, i32),
    message: String,
    path: &'static str,
    nanos: i64,
    random: u64,
}

fn samples(seed: u64) -> impl Iterator<Item = Sample> {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(2 * seed + 1);
    (0..EVENTS as i64).map(move |i| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let pick = |n: usize| (random >> 33) as usize % n;
        Sample {
            service: SERVICES[pick(SERVICES.len())],
            level: LEVELS[pick(LEVELS.len())],
            message: format!("order {} accepted for customer {}", random % 1_000_000, random % 977),
            path: PATHS[pick(PATHS.len())],
            nanos: 1_700_000_000_123_000_000 + i * 1_000_000,
            random,
        }
    })
}

fn time(nanos: i64, format: &str) -> String {
    chrono::DateTime::from_timestamp_nanos(nanos).format(format).to_string()
}

fn ndjson(version: u8, seed: u64) -> String {
    samples(seed).fold(String::new(), |mut body, Sample { service, level, message, random, nanos, .. }| {
        let time = time(nanos, "%Y-%m-%dT%H:%M:%S%.3fZ");
        let (level, user, ms) = (level.0, random % 99_991, random % 500);
        let trace = format!("{random:016x}{random:016x}");
        if version == 1 {
            writeln!(body, r#"{{"timestamp":"{time}","service":"{service}","level":"{level}","message":"{message}","trace_id":"{trace}","metadata":{{"user_id":{user},"region":"eu-west-1","cache":true,"took_ms":{ms}.25}}}}"#)
        } else {
            writeln!(body, r#"{{"schemaVersion":"2.0","requiredFields":{{"timestamp":"{time}","service":"{service}","level":"{level}"}},"optionalFields":{{"traceId":"{trace}","customDimensions":{{"user_id":{user},"region":"eu-west-1","cache":true}}}},"message":"{message}"}}"#)
        }.expect("writing to a String cannot fail");
        body
    })
}

fn lines(seed: u64, line: fn(Sample) -> String) -> Vec<u8> {
    samples(seed).map(line).collect::<Vec<_>>().join("\n").into_bytes()
}

fn combined(Sample { path, nanos, random, .. }: Sample) -> String {
    let time = time(nanos, "%d/%b/%Y:%H:%M:%S +0000");
    let (bytes, ms) = (random % 50_000, random % 3000);
    format!(
        r#"10.0.{}.7 - - [{time}] "GET {path} HTTP/1.1" 200 {bytes} "https://shop.example/" "{AGENT}" 0.{ms:04}"#,
        random % 256
    )
}

fn otlp(seed: u64) -> ExportLogsServiceRequest {
    let attribute = |key: &str, value| KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(value) }),
        ..Default::default()
    };
    let text = |key: &str, value: &str| attribute(key, Value::StringValue(value.into()));
    let records =
        samples(seed).map(|Sample { level, message, path, random, nanos, .. }| LogRecord {
            time_unix_nano: nanos.unsigned_abs(),
            observed_time_unix_nano: nanos.unsigned_abs() + 1,
            severity_number: level.1,
            severity_text: level.0.into(),
            body: Some(AnyValue { value: Some(Value::StringValue(message)) }),
            attributes: vec![
                text("http.request.method", "GET"),
                text("url.path", path),
                attribute("http.response.status_code", Value::IntValue(200)),
                text("region", "eu-west-1"),
                attribute("took_ms", Value::DoubleValue((random % 500) as f64 + 0.25)),
            ],
            trace_id: [random.to_be_bytes(), random.to_le_bytes()].concat(),
            span_id: random.to_be_bytes().to_vec(),
            ..Default::default()
        });
    let resource = Resource {
        attributes: vec![
            text("service.name", "checkout"),
            text("host.name", "node-7"),
            text("cloud.region", "eu"),
        ],
        ..Default::default()
    };
    let scope_logs = vec![ScopeLogs { log_records: records.collect(), ..Default::default() }];
    let resource_logs = ResourceLogs { resource: Some(resource), scope_logs, ..Default::default() };
    ExportLogsServiceRequest { resource_logs: vec![resource_logs] }
}

/// As Filebeat writes documents: an action and the event in Elastic's common schema.
fn elasticsearch(Sample { service, level, message, nanos, random, .. }: Sample) -> String {
    let time = time(nanos, "%Y-%m-%dT%H:%M:%S%.3fZ");
    let (level, user, host) = (level.0, random % 99_991, random % 20);
    let trace = format!("{random:016x}{random:016x}");
    format!(
        r#"{{"create":{{"_index":"filebeat-8.19.0"}}}}
{{"@timestamp":"{time}","message":"{message}","log":{{"level":"{level}","offset":{user},"file":{{"path":"/var/log/{service}.log"}}}},"service":{{"name":"{service}"}},"host":{{"name":"web-{host}"}},"trace":{{"id":"{trace}"}},"user":{{"id":{user}}},"agent":{{"type":"filebeat","version":"8.19.0"}}}}"#
    )
}

fn splunk(Sample { service, level, message, nanos, random, .. }: Sample) -> String {
    let (seconds, millis) = (nanos / 1_000_000_000, nanos / 1_000_000 % 1000);
    let (level, user, host) = (level.0, random % 99_991, random % 20);
    format!(
        r#"{{"time":{seconds}.{millis:03},"host":"web-{host}","source":"/var/log/{service}.log","sourcetype":"{service}","event":{{"message":"{message}","level":"{level}","user_id":{user}}},"fields":{{"region":"eu-west-1"}}}}"#
    )
}

/// One stream a service, as Promtail sends them.
fn loki(seed: u64) -> Vec<u8> {
    let streams = SERVICES.map(|service| {
        let values = samples(seed).filter(|sample| sample.service == service);
        let values = values.map(|sample| {
            let (level, message) = (sample.level.0, sample.message);
            format!(r#"["{}","{level} {message}",{{"trace_id":"{:032x}"}}]"#, sample.nanos, sample.random)
        });
        let values = values.collect::<Vec<_>>().join(",");
        format!(r#"{{"stream":{{"service_name":"{service}","namespace":"shop","pod":"{service}-1"}},"values":[{values}]}}"#)
    });
    format!(r#"{{"streams":[{}]}}"#, streams.join(",")).into_bytes()
}

/// The requests that the access logs tell of, as spans.
fn otlp_traces(seed: u64) -> ExportTraceServiceRequest {
    let mut logs = otlp(seed).resource_logs.remove(0);
    let records = logs.scope_logs.remove(0).log_records.into_iter();
    let spans = records.map(|record| Span {
        trace_id: record.trace_id,
        parent_span_id: record.span_id.iter().map(|byte| !byte).collect(),
        span_id: record.span_id,
        name: "GET /api/cart/items".into(),
        kind: 2,
        start_time_unix_nano: record.time_unix_nano,
        end_time_unix_nano: record.time_unix_nano + 12_345_678,
        attributes: record.attributes,
        flags: 0x101,
        ..Default::default()
    });
    let scope_spans = vec![ScopeSpans { spans: spans.collect(), ..Default::default() }];
    let resource_spans =
        ResourceSpans { resource: logs.resource, scope_spans, ..Default::default() };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans] }
}

fn rfc5424(Sample { service, level, message, random, nanos, .. }: Sample) -> String {
    let time = time(nanos, "%Y-%m-%dT%H:%M:%S%.6fZ");
    let (severity, process) = (if level.1 >= 17 { 3 } else { 6 }, random % 32_768);
    format!(
        r#"<{}>1 {time} web-{} {service} {process} - [meta@1 region="eu-west-1" user="{}"] {message}"#,
        128 + severity,
        random % 20,
        random % 99_991
    )
}

fn rfc3164(Sample { service, message, random, nanos, .. }: Sample) -> String {
    let time = time(nanos, "%b %e %H:%M:%S");
    format!("<134>{time} web-{} {service}[{}]: {message}", random % 20, random % 32_768)
}

fn weblog(Sample { path, nanos, .. }: Sample) -> String {
    format!("10.1.2.3,[{},GET {path} HTTP/1.1,200,,,", time(nanos, "%d/%b/%Y:%H:%M:%S"))
}

fn clf(sample: Sample) -> String {
    combined(sample).split(" \"https").next().unwrap_or_default().to_owned()
}

/// A format, and where its bodies are sent.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) format: BodyFormat<'static>,
    /// Path and media type of its requests; none if it does not come over HTTP.
    pub(crate) http: Option<(&'static str, &'static str)>,
    /// The body of a seed: [`EVENTS`] events.
    pub(crate) body: fn(u64) -> Vec<u8>,
}

/// Mapping of the CSV format.
pub(crate) const FORMATS: &str = "weblog: {type: csv, columns: [client_ip, timestamp, request, \
    http_status], time_format: '[%d/%b/%Y:%H:%M:%S'}";

/// Every format.
pub(crate) fn cases() -> Vec<Case> {
    let config: FormatsConfig = serde_saphyr::from_str(FORMATS).expect("well-formed");
    // For as long as the process: there is one.
    let formats: &'static Formats = Box::leak(Box::new(Formats::new(&config).expect("valid")));
    let named = |name| formats.get(name).expect("exists");
    const JSON: &str = "application/json";
    const PROTOBUF: &str = "application/x-protobuf";
    const TEXT: &str = "text/plain";
    let case = |name, format, path, media_type, body| Case {
        name,
        format,
        http: Some((path, media_type)),
        body,
    };
    let ndjson_path = "/api/v1/logs?format=ndjson";
    vec![
        case("ndjson, envelope 1", BodyFormat::Ndjson, ndjson_path, JSON, |seed| {
            ndjson(1, seed).into_bytes()
        }),
        case("ndjson, envelope 2", BodyFormat::Ndjson, ndjson_path, JSON, |seed| {
            ndjson(2, seed).into_bytes()
        }),
        case(
            "json array, envelope 1",
            BodyFormat::Json,
            "/api/v1/logs?format=json",
            JSON,
            |seed| format!("[{}]", ndjson(1, seed).trim_end().replace('\n', ",")).into_bytes(),
        ),
        case("otlp protobuf", BodyFormat::OtlpProtobuf, "/v1/logs", PROTOBUF, |seed| {
            otlp(seed).encode_to_vec()
        }),
        case("otlp json", BodyFormat::OtlpJson, "/v1/logs", JSON, |seed| {
            serde_json::to_vec(&otlp(seed)).expect("serialises")
        }),
        case(
            "elasticsearch bulk",
            BodyFormat::ElasticsearchBulk,
            "/_bulk",
            "application/x-ndjson",
            |seed| [lines(seed, elasticsearch), b"\n".to_vec()].concat(),
        ),
        case("loki json", BodyFormat::LokiJson, "/loki/api/v1/push", JSON, loki),
        case("splunk events", BodyFormat::SplunkEvents, "/services/collector", JSON, |seed| {
            lines(seed, splunk)
        }),
        case(
            "otlp traces, protobuf",
            BodyFormat::OtlpTracesProtobuf,
            "/v1/traces",
            PROTOBUF,
            |seed| otlp_traces(seed).encode_to_vec(),
        ),
        case("otlp traces, json", BodyFormat::OtlpTracesJson, "/v1/traces", JSON, |seed| {
            serde_json::to_vec(&otlp_traces(seed)).expect("serialises")
        }),
        Case {
            name: "syslog, RFC 5424",
            format: named("syslog"),
            http: None,
            body: |seed| lines(seed, rfc5424),
        },
        Case {
            name: "syslog, RFC 3164",
            format: named("syslog"),
            http: None,
            body: |seed| lines(seed, rfc3164),
        },
        case("clf", named("clf"), "/api/v1/logs?format=clf", TEXT, |seed| lines(seed, clf)),
        case(
            "combined-time",
            named("combined-time"),
            "/api/v1/logs?format=combined-time",
            TEXT,
            |seed| lines(seed, combined),
        ),
        case("csv, web log", named("weblog"), "/api/v1/logs?format=weblog", "text/csv", |seed| {
            lines(seed, weblog)
        }),
        case("text", BodyFormat::Text, "/api/v1/logs?format=text", TEXT, |seed| {
            lines(seed, |sample| format!("{} {}", sample.level.0, sample.message))
        }),
    ]
}
