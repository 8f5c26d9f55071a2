//! OpenTelemetry senders of spans, over HTTP and gRPC.

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_client::TraceServiceClient,
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message;
use thalweg_ingest::IngestConfig;
use tonic::{Code, codec::CompressionEncoding, transport::Channel};

use crate::{
    memory_log::MemoryLog,
    server::{Answer, Server},
};

fn span(name: &str, number: u8) -> Span {
    Span {
        trace_id: vec![0xab; 16],
        span_id: vec![number; 8],
        name: name.to_owned(),
        start_time_unix_nano: 1_700_000_000_000_000_000,
        ..Span::default()
    }
}

fn request(service: &str, spans: Vec<Span>) -> ExportTraceServiceRequest {
    let value = Some(AnyValue { value: Some(Value::StringValue(service.to_owned())) });
    let service = KeyValue { key: "service.name".into(), value, ..KeyValue::default() };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes: vec![service], ..Resource::default() }),
            scope_spans: vec![ScopeSpans { spans, ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        }],
    }
}

/// Without a trace id, which no span can do without.
fn bad_span() -> Span {
    Span { trace_id: vec![], ..span("bad", 9) }
}

async fn client(server: &Server) -> TraceServiceClient<Channel> {
    TraceServiceClient::connect(format!("http://{}", server.grpc)).await.unwrap()
}

#[tokio::test]
async fn spans_over_http_are_stored_and_answered_in_their_encoding() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    let body = request("cart", vec![span("GET /", 1)]).encode_to_vec();
    let response =
        server.request("/v1/traces", "application/x-protobuf").body(body).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/x-protobuf");
    let answer = ExportTraceServiceResponse::decode(response.bytes().await.unwrap()).unwrap();
    assert_eq!(answer.partial_success, None);

    let body = serde_json::to_vec(&request("cart", vec![span("GET /a", 2)])).unwrap();
    let answer = server.post("/v1/traces", "application/json", body).await;
    assert_eq!((answer.status, answer.body), (200, serde_json::json!({})));
    assert_eq!(log.texts("spans", "name"), ["GET /", "GET /a"]);
    assert_eq!(log.texts("spans", "service"), ["cart", "cart"]);
    assert_eq!(log.messages(), <[&str; 0]>::default());
}

#[tokio::test]
async fn a_span_that_is_sent_again_is_stored_once() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    let mut client = client(&server).await;
    for spans in [vec![span("a", 1)], vec![span("a", 1), span("b", 2), span("b", 2)]] {
        let answer = client.export(request("cart", spans)).await.unwrap().into_inner();
        assert_eq!(answer.partial_success, None);
    }
    assert_eq!(log.texts("spans", "name"), ["a", "b"]);
    // Also by a process that has just started.
    let server = Server::start(log.clone()).await;
    let body = request("cart", vec![span("a", 1), span("c", 3)]).encode_to_vec();
    let sent = server.request("/v1/traces", "application/x-protobuf").body(body).send();
    assert_eq!(sent.await.unwrap().status(), 200);
    assert_eq!(log.texts("spans", "name"), ["a", "b", "c"]);
}

#[tokio::test]
async fn bad_spans_are_a_partial_success_and_kept_in_rejected() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    let mixed = request("cart", vec![span("good", 1), bad_span()]);
    let sent = server.request("/v1/traces", "application/x-protobuf").body(mixed.encode_to_vec());
    let answer = sent.send().await.unwrap().bytes().await.unwrap();
    let partial = ExportTraceServiceResponse::decode(answer).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 1);
    assert_eq!(partial.error_message, "record 1: trace_id: required, but missing");

    let json = serde_json::to_vec(&mixed).unwrap();
    let answer = server.post("/v1/traces", "application/json", json).await;
    assert_eq!(answer.body["partialSuccess"]["rejectedSpans"], "1", "{answer:?}");

    let answer = client(&server).await.export(mixed).await.unwrap().into_inner();
    assert_eq!(answer.partial_success, Some(partial));
    assert_eq!(log.texts("spans", "name"), ["good"]);
    let formats = ["otlp-traces-protobuf", "otlp-traces-json", "otlp-traces-protobuf"];
    assert_eq!(log.texts("rejected", "format"), formats);
}

#[tokio::test]
async fn a_request_of_bad_spans_only_is_an_error() {
    let server = Server::start(MemoryLog::new()).await;
    let bad = request("cart", vec![bad_span()]);
    let json = serde_json::to_vec(&bad).unwrap();
    let answer = server.post("/v1/traces", "application/json", json).await;
    assert_eq!((answer.status, &answer.body["code"]), (400, &3.into()), "{answer:?}");
    let status = client(&server).await.export(bad).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let answer = server.post("/v1/traces", "application/json", "[").await;
    assert_eq!((answer.status, &answer.body["code"]), (400, &3.into()), "{answer:?}");
    assert_eq!(server.post("/v1/traces", "text/plain", "x").await.status, 415);
}

#[tokio::test]
async fn spans_are_compressed_limited_and_refused_as_logs_are() {
    let log = MemoryLog::new();
    let config = IngestConfig {
        body_limit_bytes: 1000,
        decompressed_limit_bytes: 100_000,
        ..IngestConfig::default()
    };
    let server = Server::with_config(log.clone(), config).await;
    let long = request("cart", vec![span(&"x".repeat(2000), 1)]);
    let mut plain = client(&server).await;
    assert_eq!(plain.export(long.clone()).await.unwrap_err().code(), Code::ResourceExhausted);
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let mut client = client(&server).await.send_compressed(encoding);
        client.export(long.clone()).await.unwrap();
    }
    assert_eq!(log.texts("spans", "name").len(), 1);

    log.storage_full("spans");
    let body = serde_json::to_vec(&request("cart", vec![span("full", 2)])).unwrap();
    let sent = server.request("/v1/traces", "application/json").body(body.clone()).send();
    let answer = Answer::of(sent.await.unwrap()).await;
    assert_eq!((answer.status, answer.retry_after.as_deref()), (503, Some("30")));
    log.heal();
    assert_eq!(server.post("/v1/traces", "application/json", body).await.status, 200);
    assert_eq!(log.texts("spans", "name").len(), 2);
}

#[tokio::test]
async fn all_spans_of_a_service_are_in_one_partition_and_no_row_is_lost() {
    let log = MemoryLog::with_partitions(4);
    let server = Server::start(log.clone()).await;
    let services: Vec<String> = (0..20).map(|n| format!("service-{n}")).collect();
    for (number, service) in services.iter().chain(&services).enumerate() {
        let body = request(service, vec![span("s", 1 + number as u8)]).encode_to_vec();
        let sent = server.request("/v1/traces", "application/x-protobuf").body(body).send();
        assert_eq!(sent.await.unwrap().status(), 200);
    }
    let in_partition = |partition| -> Vec<String> {
        let batches = log.batches("spans", partition);
        batches.iter().flat_map(|batch| crate::memory_log::texts(batch, "service")).collect()
    };
    let partitions: Vec<Vec<String>> = (0..4).map(in_partition).collect();
    assert_eq!(partitions.iter().map(Vec::len).sum::<usize>(), 40);
    for service in &services {
        assert_eq!(partitions.iter().filter(|found| found.contains(service)).count(), 1);
    }
    assert!(partitions.iter().all(|found| !found.is_empty()), "{partitions:?}");
}
