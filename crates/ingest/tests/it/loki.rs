//! The ingest as agents of Loki meet it.

use reqwest::Method;
use serde_json::json;
use thalweg_ingest::IngestConfig;
use thalweg_log::{LogError, TopicPartition};

use crate::{
    memory_log::MemoryLog,
    server::{Server, headers_and_json},
};

const PUSH: &str = "/loki/api/v1/push";

fn push(line: &str) -> String {
    json!({"streams": [{"stream": {"app": "shop"}, "values": [["1700000000000000001", line]]}]})
        .to_string()
}

/// A push in protobuf of one line, written by hand: labels, then an entry of time and line.
fn protobuf(line: &str) -> Vec<u8> {
    let field = |number: u8, bytes: &[u8]| {
        let length = u8::try_from(bytes.len()).unwrap();
        assert!(length < 128, "a length of one byte");
        [&[number << 3 | 2, length], bytes].concat()
    };
    // 1_700_000_000 s and 1 ns.
    let time = b"\x08\x80\xe2\xcf\xaa\x06\x10\x01";
    let entry = [field(1, time), field(2, line.as_bytes())].concat();
    field(1, &[field(1, b"{app=\"shop\"}"), field(2, &entry)].concat())
}

fn snappy(bytes: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(bytes).unwrap()
}

#[tokio::test]
async fn json_and_protobuf_are_stored_and_answered_with_nothing() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    let json = server.request(PUSH, "application/json").header("x-scope-orgid", "team");
    let answer = json.body(push("json")).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), &*answer.bytes().await.unwrap()), (204, &b""[..]));
    for (content_type, encoding) in
        [("application/x-protobuf", None), ("application/x-protobuf", Some("snappy")), ("", None)]
    {
        let mut request = server.get(Method::POST, PUSH);
        if !content_type.is_empty() {
            request = request.header("content-type", content_type);
        }
        if let Some(encoding) = encoding {
            request = request.header("content-encoding", encoding);
        }
        let answer = request.body(snappy(&protobuf("protobuf"))).send().await.unwrap();
        assert_eq!(answer.status(), 204, "{content_type} {encoding:?}");
    }
    assert_eq!(log.messages(), ["json", "protobuf", "protobuf", "protobuf"]);
    assert_eq!(log.texts("logs.routine", "service"), ["shop"; 4]);
    assert_eq!(
        log.texts("logs.routine", "attributes")[0],
        r#"{"app":"shop","loki.tenant":"team"}"#
    );
}

#[tokio::test]
async fn a_large_block_is_decompressed_within_the_limits() {
    let log = MemoryLog::new();
    let config = IngestConfig {
        body_limit_bytes: 200_000,
        decompressed_limit_bytes: 200_000,
        ..IngestConfig::default()
    };
    let server = Server::with_config(log.clone(), config).await;
    let one = protobuf("x");
    let (many, too_many) = (150_000 / one.len(), 250_000 / one.len());
    let answer =
        server.request(PUSH, "application/x-protobuf").body(snappy(&one.repeat(many))).send();
    assert_eq!(answer.await.unwrap().status(), 204);
    assert_eq!(log.messages().len(), many);

    let block = snappy(&one);
    let claims = |length: &[u8]| [length, &block[1..]].concat();
    for (what, body, status) in [
        ("too long", snappy(&one.repeat(too_many)), 413),
        ("claims 4 GiB", claims(b"\xff\xff\xff\xff\x0f"), 413),
        ("claims 199 999 bytes", claims(b"\xbf\x9a\x0c"), 400),
        ("not snappy", b"\xff\xff\xff\xff\xff\xff".to_vec(), 400),
        ("cut off", block[..block.len() - 1].to_vec(), 400),
        ("nothing", Vec::new(), 400),
        ("not protobuf", snappy(b"\x0a\x7f"), 400),
    ] {
        let answer =
            server.request(PUSH, "application/x-protobuf").body(body).send().await.unwrap();
        assert_eq!(answer.status(), status, "{what}");
        let text = answer.text().await.unwrap();
        assert!(text.ends_with('\n') && text.len() > 10, "{what}: {text}");
    }
    assert_eq!(log.messages().len(), many);
}

#[tokio::test]
async fn bad_entries_are_named_and_the_rest_is_stored() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    let body = push("good").replace("[[", "[[\"soon\",\"bad\"],[");
    let answer = server.request(PUSH, "application/json").body(body).send().await.unwrap();
    assert_eq!(answer.status(), 400);
    assert_eq!(
        answer.text().await.unwrap(),
        "1 entries were rejected and 1 stored: record 0: timestamp: expected nanoseconds from \
         1970 on, until 2262, found \"soon\"\n"
    );
    assert_eq!(log.messages(), ["good"]);
    assert_eq!(log.texts("rejected", "format"), ["loki-json"]);
}

#[tokio::test]
async fn what_is_refused_says_why_in_a_line_of_text() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    let send = |content_type: &str, encoding: &str| {
        let request = server.request(PUSH, content_type).header("content-encoding", encoding);
        request.body(push("x")).send()
    };
    assert_eq!(send("text/plain", "identity").await.unwrap().status(), 415);
    assert_eq!(send("application/x-protobuf", "gzip").await.unwrap().status(), 415);
    assert_eq!(send("application/json", "br").await.unwrap().status(), 415);

    let at = TopicPartition::new("logs.routine", 0);
    log.fail("logs.routine", LogError::StorageFull(at));
    let answer = send("application/json", "identity").await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["retry-after"]),
        (503, &"30".parse().unwrap())
    );
}

#[tokio::test]
async fn agents_find_it_ready() {
    let server = Server::start(MemoryLog::new()).await;
    let ready = server.get(Method::GET, "/ready").send().await.unwrap();
    assert_eq!(ready.text().await.unwrap(), "ready\n");
    let (_, info) =
        headers_and_json(server.get(Method::GET, "/loki/api/v1/status/buildinfo")).await;
    assert!(info["version"].is_string());
}
