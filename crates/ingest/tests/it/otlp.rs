//! OpenTelemetry senders, over HTTP and gRPC.

use opentelemetry_proto::tonic::{
    collector::logs::v1::{
        ExportLogsServiceRequest, ExportLogsServiceResponse, logs_service_client::LogsServiceClient,
    },
    common::v1::{AnyValue, KeyValue, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs},
    resource::v1::Resource,
};
use prost::Message;
use thalweg_ingest::IngestConfig;
use thalweg_log::{LogError, TopicPartition};
use tonic::{Code, codec::CompressionEncoding, transport::Channel};

use crate::{
    memory_log::MemoryLog,
    server::{Answer, Server},
};

fn text(value: &str) -> Option<AnyValue> {
    Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) })
}

fn record(message: &str, severity_number: i32) -> LogRecord {
    LogRecord {
        time_unix_nano: 1_700_000_000_000_000_000,
        severity_number,
        body: text(message),
        ..LogRecord::default()
    }
}

/// A time that no signed count of nanoseconds can hold.
fn bad_record() -> LogRecord {
    LogRecord { time_unix_nano: u64::MAX, ..record("bad", 9) }
}

fn request(log_records: Vec<LogRecord>) -> ExportLogsServiceRequest {
    let service =
        KeyValue { key: "service.name".into(), value: text("cart"), ..KeyValue::default() };
    ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(Resource { attributes: vec![service], ..Resource::default() }),
            scope_logs: vec![ScopeLogs { log_records, ..ScopeLogs::default() }],
            ..ResourceLogs::default()
        }],
    }
}

async fn client(server: &Server) -> LogsServiceClient<Channel> {
    LogsServiceClient::connect(format!("http://{}", server.grpc)).await.unwrap()
}

/// What a `google.rpc.Status` says of the next try, in seconds.
fn retry_delay_secs(status: &tonic::Status) -> Option<i64> {
    #[derive(Clone, PartialEq, Message)]
    struct RpcStatus {
        #[prost(int32, tag = "1")]
        code: i32,
        #[prost(string, tag = "2")]
        message: String,
        #[prost(message, repeated, tag = "3")]
        details: Vec<RpcAny>,
    }
    #[derive(Clone, PartialEq, Message)]
    struct RpcAny {
        #[prost(string, tag = "1")]
        type_url: String,
        #[prost(bytes = "vec", tag = "2")]
        value: Vec<u8>,
    }
    if status.details().is_empty() {
        return None;
    }
    let rpc = RpcStatus::decode(status.details()).unwrap();
    assert_eq!((rpc.code, rpc.message.as_str()), (status.code() as i32, status.message()));
    let [info] = &rpc.details[..] else { panic!("{rpc:?}") };
    assert_eq!(info.type_url, "type.googleapis.com/google.rpc.RetryInfo");
    // RetryInfo { retry_delay = 1: Duration { seconds = 1 } }
    let [0x0a, 2, 0x08, seconds] = info.value[..] else { panic!("{info:?}") };
    Some(seconds.into())
}

#[tokio::test]
async fn protobuf_over_http_is_stored_and_answered_in_protobuf() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    let body = request(vec![record("hello", 9), record("broken", 17)]).encode_to_vec();
    let response =
        server.request("/v1/logs", "application/x-protobuf").body(body).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/x-protobuf");
    let answer = ExportLogsServiceResponse::decode(response.bytes().await.unwrap()).unwrap();
    assert_eq!(answer.partial_success, None);
    assert_eq!(log.texts("logs.routine", "message"), ["hello"]);
    assert_eq!(log.texts("logs.critical", "message"), ["broken"]);
    assert_eq!(log.texts("logs.critical", "service"), ["cart"]);
}

#[tokio::test]
async fn json_over_http_is_stored_and_answered_in_json() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    let body = serde_json::to_vec(&request(vec![record("hello", 9)])).unwrap();
    let answer = server.post("/v1/logs", "application/json", body).await;
    assert_eq!((answer.status, answer.body), (200, serde_json::json!({})));
    assert_eq!(log.messages(), ["hello"]);
}

#[tokio::test]
async fn bad_records_are_a_partial_success() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    let mixed = request(vec![record("good", 9), bad_record()]);
    let sent = server.request("/v1/logs", "application/x-protobuf").body(mixed.encode_to_vec());
    let answer = sent.send().await.unwrap().bytes().await.unwrap();
    let partial = ExportLogsServiceResponse::decode(answer).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_log_records, 1);
    assert!(partial.error_message.starts_with("record 1: "), "{partial:?}");

    let json = serde_json::to_vec(&mixed).unwrap();
    let answer = server.post("/v1/logs", "application/json", json).await;
    assert_eq!(answer.body["partialSuccess"]["rejectedLogRecords"], "1", "{answer:?}");

    let answer = client(&server).await.export(mixed).await.unwrap().into_inner();
    assert_eq!(answer.partial_success, Some(partial));
    assert_eq!(log.messages(), ["good", "good", "good"]);
    assert_eq!(log.batches("rejected", 0).len(), 3);
}

#[tokio::test]
async fn a_request_of_bad_records_only_is_an_error() {
    let server = Server::start(MemoryLog::new()).await;
    let bad = request(vec![bad_record()]);
    let json = serde_json::to_vec(&bad).unwrap();
    let answer = server.post("/v1/logs", "application/json", json).await;
    assert_eq!((answer.status, &answer.body["code"]), (400, &3.into()), "{answer:?}");
    let status = client(&server).await.export(bad).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("record 0: "), "{status:?}");
}

#[tokio::test]
async fn errors_over_http_are_rpc_statuses_with_the_codes_that_senders_retry_on() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    let answer = server.post("/v1/logs", "application/json", "[").await;
    assert_eq!((answer.status, &answer.body["code"]), (400, &3.into()), "{answer:?}");
    assert_eq!(server.post("/v1/logs", "text/plain", "x").await.status, 415);

    log.storage_full("logs.routine");
    let body = serde_json::to_vec(&request(vec![record("hello", 9)])).unwrap();
    let request = server.request("/v1/logs", "application/json").body(body);
    let answer = Answer::of(request.send().await.unwrap()).await;
    assert_eq!((answer.status, answer.retry_after.as_deref()), (503, Some("30")));
    assert_eq!(answer.body["code"], 14, "{answer:?}");
}

#[tokio::test]
async fn grpc_clients_are_served_with_every_compression() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    let mut messages = Vec::new();
    for encoding in [None, Some(CompressionEncoding::Gzip), Some(CompressionEncoding::Zstd)] {
        for size in [1, 300_000] {
            let message = format!("{encoding:?} {}", "x".repeat(size));
            let mut client = client(&server).await;
            if let Some(encoding) = encoding {
                client = client.send_compressed(encoding).accept_compressed(encoding);
            }
            let answer = client.export(request(vec![record(&message, 9)])).await.unwrap();
            assert_eq!(answer.into_inner().partial_success, None);
            messages.push(message);
        }
    }
    messages.sort();
    assert_eq!(log.messages(), messages);
    assert!(log.texts("logs.routine", "client_ip").iter().all(|ip| ip == "127.0.0.1"));
}

#[tokio::test]
async fn grpc_errors_have_the_codes_that_senders_retry_on() {
    let log = MemoryLog::new();
    let config = IngestConfig {
        body_limit_bytes: 1000,
        decompressed_limit_bytes: 100_000,
        ..IngestConfig::default()
    };
    let server = Server::with_config(log.clone(), config).await;
    let mut client = client(&server).await;
    let at = || TopicPartition::new("logs.routine", 0);
    let unavailable = LogError::Unavailable { at: at(), reason: "leader is away".into() };
    for (error, delay) in [(LogError::StorageFull(at()), 30), (unavailable, 1)] {
        log.fail("logs.routine", error);
        let status = client.export(request(vec![record("m", 9)])).await.unwrap_err();
        assert_eq!((status.code(), retry_delay_secs(&status)), (Code::Unavailable, Some(delay)));
    }
    log.heal();
    let long = request(vec![record(&"x".repeat(1000), 9)]);
    let status = client.export(long.clone()).await.unwrap_err();
    assert_eq!((status.code(), retry_delay_secs(&status)), (Code::ResourceExhausted, None));
    // Once compressed it is short enough.
    client.send_compressed(CompressionEncoding::Gzip).export(long).await.unwrap();
}

#[tokio::test]
async fn grpc_overload_tells_when_to_retry() {
    let log = MemoryLog::new();
    let mut config = IngestConfig::default();
    config.admission.max_requests = 1;
    let server = Server::with_config(log.clone(), config).await;
    log.hold("logs.routine");
    let mut first = client(&server).await;
    let held = tokio::spawn(async move { first.export(request(vec![record("m", 9)])).await });
    log.has_been_asked(1).await;
    let status = client(&server).await.export(request(vec![record("m", 9)])).await.unwrap_err();
    assert_eq!((status.code(), retry_delay_secs(&status)), (Code::ResourceExhausted, Some(1)));
    log.let_go();
    held.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_no_grpc_message_or_method_is_told_so() {
    let server = Server::start(MemoryLog::new()).await;
    let http2 = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let path = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
    for (path, body, code) in [
        (path, &b""[..], "3"),
        (path, b"\0\0\0\0\x09short", "3"),
        (path, b"\x02\0\0\0\0", "3"),
        (path, b"\0\0\0\0\x02\xff\xff", "3"),
        ("/opentelemetry.proto.collector.logs.v1.LogsService/Import", b"\0\0\0\0\0", "12"),
    ] {
        let request = http2.post(format!("http://{}{path}", server.grpc)).body(body);
        let response = request.header("content-type", "application/grpc").send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], code, "{body:?}");
        assert!(!response.headers()["grpc-message"].is_empty());
    }
}
