//! Decoding speed of each format on one core, beside general JSON parsers on the same bytes.
//!
//! `cargo bench -p thalweg-ingest --bench decode`; a filter such as `ndjson` as first argument
//! runs the formats whose name contains it.

use std::{fmt::Write as _, hint::black_box, time::Instant};

use opentelemetry_proto::tonic::{
    collector::{logs::v1::ExportLogsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{AnyValue, KeyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message as _;
use thalweg_event::{BatchContext, PriorityRules};
use thalweg_ingest::decode::{BodyFormat, Formats, FormatsConfig, Sink, decode};

/// Events of a body: what an agent sends in a second or so.
const EVENTS: usize = 10_000;
/// Least time each measurement takes.
const SECONDS: f64 = 1.0;

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

fn samples() -> impl Iterator<Item = Sample> {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
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

fn ndjson(version: u8) -> String {
    samples().fold(String::new(), |mut body, Sample { service, level, message, random, nanos, .. }| {
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

fn lines(line: impl Fn(Sample) -> String) -> Vec<u8> {
    samples().map(line).collect::<Vec<_>>().join("\n").into_bytes()
}

fn combined(Sample { path, nanos, random, .. }: Sample) -> String {
    let time = time(nanos, "%d/%b/%Y:%H:%M:%S +0000");
    let (bytes, ms) = (random % 50_000, random % 3000);
    format!(
        r#"10.0.{}.7 - - [{time}] "GET {path} HTTP/1.1" 200 {bytes} "https://shop.example/" "{AGENT}" 0.{ms:04}"#,
        random % 256
    )
}

fn otlp() -> ExportLogsServiceRequest {
    let attribute = |key: &str, value| KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(value) }),
        ..Default::default()
    };
    let text = |key: &str, value: &str| attribute(key, Value::StringValue(value.into()));
    let records = samples().map(|Sample { level, message, path, random, nanos, .. }| LogRecord {
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
fn loki() -> Vec<u8> {
    let streams = SERVICES.map(|service| {
        let values = samples().filter(|sample| sample.service == service);
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
fn otlp_traces() -> ExportTraceServiceRequest {
    let mut logs = otlp().resource_logs.remove(0);
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

/// Best and median seconds of `work`, repeated for at least [`SECONDS`].
fn measure(mut work: impl FnMut()) -> (f64, f64) {
    work();
    let start = Instant::now();
    let mut times = Vec::new();
    while start.elapsed().as_secs_f64() < SECONDS {
        let start = Instant::now();
        work();
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    (times[0], times[times.len() / 2])
}

fn report(name: &str, bytes: usize, (best, median): (f64, f64)) {
    let megabytes = bytes as f64 / 1e6;
    let million_events = EVENTS as f64 / 1e6;
    println!(
        "{name:<36} {:>5} {:>8.0} {:>8.0} {:>10.2} {:>10.2}",
        bytes / EVENTS,
        megabytes / median,
        megabytes / best,
        million_events / median,
        million_events / best
    );
}

fn main() {
    let filter = std::env::args().nth(1).filter(|argument| !argument.starts_with('-'));
    let wanted = |name: &str| filter.as_deref().is_none_or(|filter| name.contains(filter));
    let yaml = r"weblog: {type: csv, columns: [client_ip, timestamp, request, http_status], time_format: '[%d/%b/%Y:%H:%M:%S'}";
    let config: FormatsConfig = serde_saphyr::from_str(yaml).expect("well-formed");
    let formats = Formats::new(&config).expect("valid");
    let named = |name| formats.get(name).expect("exists");

    let ndjson_v1 = ndjson(1).into_bytes();
    let array = format!("[{}]", ndjson(1).trim_end().replace('\n', ",")).into_bytes();
    let otlp = otlp();
    let weblog = |Sample { path, nanos, .. }: Sample| {
        format!("10.1.2.3,[{},GET {path} HTTP/1.1,200,,,", time(nanos, "%d/%b/%Y:%H:%M:%S"))
    };
    let clf = |sample| combined(sample).split(" \"https").next().unwrap_or_default().to_owned();
    let bodies = [
        ("ndjson, envelope 1", BodyFormat::Ndjson, ndjson_v1.clone()),
        ("ndjson, envelope 2", BodyFormat::Ndjson, ndjson(2).into_bytes()),
        ("json array, envelope 1", BodyFormat::Json, array),
        ("otlp protobuf", BodyFormat::OtlpProtobuf, otlp.encode_to_vec()),
        ("otlp json", BodyFormat::OtlpJson, serde_json::to_vec(&otlp).expect("serialises")),
        ("elasticsearch bulk", BodyFormat::ElasticsearchBulk, lines(elasticsearch)),
        ("loki json", BodyFormat::LokiJson, loki()),
        ("splunk events", BodyFormat::SplunkEvents, lines(splunk)),
        ("otlp traces, protobuf", BodyFormat::OtlpTracesProtobuf, otlp_traces().encode_to_vec()),
        (
            "otlp traces, json",
            BodyFormat::OtlpTracesJson,
            serde_json::to_vec(&otlp_traces()).expect("serialises"),
        ),
        ("syslog, RFC 5424", named("syslog"), lines(rfc5424)),
        ("syslog, RFC 3164", named("syslog"), lines(rfc3164)),
        ("clf", named("clf"), lines(clf)),
        ("combined-time", named("combined-time"), lines(combined)),
        ("csv, web log", named("weblog"), lines(weblog)),
        (
            "text",
            BodyFormat::Text,
            lines(|sample| format!("{} {}", sample.level.0, sample.message)),
        ),
    ];

    println!(
        "{:<36} {:>5} {:>8} {:>8} {:>10} {:>10}",
        "one core", "bytes", "MB/s", "best", "M events/s", "best"
    );
    let rules = PriorityRules::default();
    for (name, format, body) in &bodies {
        if !wanted(name) {
            continue;
        }
        report(
            name,
            body.len(),
            measure(|| {
                let context = BatchContext::new(1_700_000_000_000_000_000, &rules, [7; 10]);
                let mut sink = Sink::new(context, "bench");
                decode(*format, body, &mut sink).expect("the body is readable");
                let batch = match sink.spans {
                    Some(spans) => spans.finish(),
                    None => sink.events.finish(),
                };
                assert_eq!(batch.num_rows(), EVENTS, "{:?}", sink.faults.first());
                black_box(batch);
            }),
        );
    }

    println!("\nthe same ndjson, parsed only: no validation of fields, no columns");
    let each_line = |parse: &mut dyn FnMut(&[u8])| {
        measure(|| {
            ndjson_v1
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
                .for_each(&mut *parse)
        })
    };
    report(
        "serde_json::Value",
        ndjson_v1.len(),
        each_line(&mut |line| {
            black_box(serde_json::from_slice::<serde_json::Value>(line).expect("JSON"));
        }),
    );
    report(
        "serde_json::IgnoredAny",
        ndjson_v1.len(),
        each_line(&mut |line| {
            black_box(serde_json::from_slice::<serde::de::IgnoredAny>(line).expect("JSON"));
        }),
    );
    let mut buffers = simd_json::Buffers::default();
    let mut copy = Vec::new();
    report(
        "simd_json tape (with a copy)",
        ndjson_v1.len(),
        each_line(&mut |line| {
            copy.clear();
            copy.extend_from_slice(line);
            black_box(simd_json::to_tape_with_buffers(&mut copy, &mut buffers).expect("JSON"));
        }),
    );
}
