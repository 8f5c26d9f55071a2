//! Spans of the shop as an OpenTelemetry exporter sends them.

use serde_json::{Value, json};

use super::shop::Span;

/// The spans as an OTLP/JSON `ExportTraceServiceRequest`.
pub(crate) fn export_request(spans: &[Span]) -> Value {
    let resource_spans = spans.iter().map(|span| {
        json!({
            "resource": {"attributes": [
                attribute("service.name", json!({"stringValue": span.service})),
                attribute("deployment.environment.name", json!({"stringValue": "demo"})),
            ]},
            "scopeSpans": [{"spans": [otlp_span(span)]}],
        })
    });
    json!({"resourceSpans": resource_spans.collect::<Vec<_>>()})
}

fn otlp_span(span: &Span) -> Value {
    const SERVER: u8 = 2;
    const ERROR: u8 = 2;
    let status = if span.status >= 500 { json!({"code": ERROR}) } else { json!({}) };
    let resource = span.path.split('/').nth(1).unwrap_or_default();
    json!({
        "traceId": format!("{:032x}", span.trace),
        "spanId": format!("{:016x}", span.span),
        "parentSpanId": span.parent.map(|parent| format!("{parent:016x}")).unwrap_or_default(),
        "name": format!("{} /{resource}", span.method),
        "kind": SERVER,
        "startTimeUnixNano": span.start_nanos.to_string(),
        "endTimeUnixNano": span.end_nanos.to_string(),
        "attributes": [
            attribute("http.request.method", json!({"stringValue": span.method})),
            attribute("url.path", json!({"stringValue": span.path})),
            attribute("http.response.status_code", json!({"intValue": span.status.to_string()})),
        ],
        "status": status,
    })
}

fn attribute(key: &str, value: Value) -> Value {
    json!({"key": key, "value": value})
}
