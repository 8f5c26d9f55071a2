//! Encodings and limits of bodies.

use std::{io::Write, time::Duration};

use flate2::{Compression, write};
use thalweg_ingest::IngestConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    memory_log::MemoryLog,
    server::{Answer, Server, event, nameless},
};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = write::GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = write::ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn raw_deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = write::DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

async fn post_encoded(server: &Server, encoding: &str, body: Vec<u8>) -> Answer {
    let request = server.request("/api/v1/logs", "application/x-ndjson");
    let request = request.header("content-encoding", encoding).body(body);
    Answer::of(request.send().await.unwrap()).await
}

/// Many lines that do not compress away.
fn lines(count: usize) -> String {
    (0..count)
        .map(|i| nameless(&format!("{i} {:x}", i.wrapping_mul(0x9E37_79B9_7F4A_7C15))))
        .collect()
}

#[tokio::test]
async fn every_encoding_is_read_small_and_large() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    let mut expected = 0;
    for records in [1, 20_000] {
        let body = lines(records);
        let (first, second) = body.as_bytes().split_at(body.len() / 2);
        let two_members = [gzip(first), gzip(second)].concat();
        let two_frames = [zstd(first), zstd(second)].concat();
        for (encoding, bytes) in [
            ("identity", body.clone().into_bytes()),
            ("gzip", gzip(body.as_bytes())),
            ("gzip", two_members),
            ("zstd", zstd(body.as_bytes())),
            ("zstd", two_frames),
            ("deflate", zlib(body.as_bytes())),
            ("deflate", raw_deflate(body.as_bytes())),
        ] {
            let answer = post_encoded(&server, encoding, bytes).await;
            assert_eq!(answer.body["accepted"], records, "{encoding}: {answer:?}");
            expected += records;
        }
    }
    assert_eq!(log.messages().len(), expected);
}

#[tokio::test]
async fn a_broken_stream_is_a_bad_request_and_stores_nothing() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    let body = lines(20_000);
    let encodings: [(&str, Vec<u8>); 4] = [
        ("gzip", gzip(body.as_bytes())),
        ("zstd", zstd(body.as_bytes())),
        ("deflate", zlib(body.as_bytes())),
        ("deflate", raw_deflate(body.as_bytes())),
    ];
    for (encoding, whole) in encodings {
        let cut = whole[..whole.len() - 3].to_vec();
        let half = whole[..whole.len() / 2].to_vec();
        for bytes in [cut, half, b"not compressed at all".to_vec(), Vec::new()] {
            let answer = post_encoded(&server, encoding, bytes.clone()).await;
            assert_eq!(answer.status, 400, "{encoding} {} bytes: {answer:?}", bytes.len());
            assert!(answer.error().contains("decompress"), "{answer:?}");
        }
    }
    assert!(log.asked().is_empty());
}

fn small_limits() -> IngestConfig {
    IngestConfig {
        body_limit_bytes: 100_000,
        decompressed_limit_bytes: 200_000,
        body_timeout_secs: 1,
        ..IngestConfig::default()
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_too_large_declared_or_not() {
    let log = MemoryLog::new();
    let server = Server::with_config(log.clone(), small_limits()).await;
    let body = lines(2000);
    assert!(body.len() > 100_000);
    let answer = server.ndjson(body.clone()).await;
    assert_eq!(answer.status, 413);
    assert!(answer.error().contains("at most 100000 bytes"), "{answer:?}");

    let chunks: Vec<Result<_, std::io::Error>> =
        body.as_bytes().chunks(1000).map(|chunk| Ok(chunk.to_vec())).collect();
    let undeclared = reqwest::Body::wrap_stream(futures::stream::iter(chunks));
    assert_eq!(server.ndjson(undeclared).await.status, 413);
    assert!(log.asked().is_empty());
    server.ndjson(lines(1000)).await.assert_accepted(1000);
}

#[tokio::test]
async fn a_chunked_body_is_put_together() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    let body = lines(5000);
    let chunks: Vec<Result<_, std::io::Error>> =
        body.as_bytes().chunks(777).map(|chunk| Ok(chunk.to_vec())).collect();
    let undeclared = reqwest::Body::wrap_stream(futures::stream::iter(chunks));
    server.ndjson(undeclared).await.assert_accepted(5000);
}

#[tokio::test]
async fn a_decompression_bomb_is_too_large() {
    let log = MemoryLog::new();
    let server = Server::with_config(log.clone(), small_limits()).await;
    let bomb = vec![b' '; 50 << 20];
    for (encoding, bytes) in [
        ("gzip", gzip(&bomb)),
        ("zstd", zstd(&bomb)),
        ("deflate", zlib(&bomb)),
        ("deflate", raw_deflate(&bomb)),
    ] {
        let bytes = bytes[..bytes.len().min(99_999)].to_vec();
        let answer = post_encoded(&server, encoding, bytes).await;
        assert_eq!(answer.status, 413, "{encoding}: {answer:?}");
        assert!(answer.error().contains("when decompressed"), "{answer:?}");
    }
    assert!(log.asked().is_empty());
}

#[tokio::test]
async fn a_body_that_grows_beyond_reason_is_refused_early() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    let line = nameless(&"x".repeat(10_000)) + "\n";
    // 1 MiB is no burden, whatever it was.
    let small = line.repeat(100);
    let (packed, small) = (zstd(small.as_bytes()), small.len());
    assert!(packed.len() * 1000 < small && small < 1 << 20);
    post_encoded(&server, "zstd", packed).await.assert_accepted(100);

    let large = line.repeat(2000);
    for (encoding, bytes) in [("gzip", gzip(large.as_bytes())), ("zstd", zstd(large.as_bytes()))] {
        let answer = post_encoded(&server, encoding, bytes).await;
        assert_eq!(answer.status, 413, "{encoding}: {answer:?}");
        assert!(answer.error().contains("at most 100 times its size"), "{answer:?}");
    }
    assert_eq!(log.asked().len(), 1);
}

#[tokio::test]
async fn a_zstd_stream_may_not_ask_for_a_huge_window() {
    let server = Server::start(MemoryLog::new()).await;
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(nameless("m").as_bytes()).unwrap();
    let answer = post_encoded(&server, "zstd", encoder.finish().unwrap()).await;
    assert_eq!(answer.status, 400, "{answer:?}");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_timed_out() {
    let server = Server::with_config(MemoryLog::new(), small_limits()).await;
    let mut connection = tokio::net::TcpStream::connect(server.http).await.unwrap();
    let head = "POST /api/v1/logs HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
                content-length: 100\r\n\r\n{\"service\":";
    connection.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 1024];
    let read = tokio::time::timeout(Duration::from_secs(5), connection.read(&mut answer));
    let read = read.await.unwrap().unwrap();
    let answer = String::from_utf8_lossy(&answer[..read]);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn a_body_cut_off_stores_nothing() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    let mut connection = tokio::net::TcpStream::connect(server.http).await.unwrap();
    let line = event("a", "INFO");
    let head = format!(
        "POST /api/v1/logs HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-ndjson\r\n\
         content-length: {}\r\n\r\n{line}",
        line.len() + 1
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    drop(connection);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(log.asked().is_empty());
    server.ndjson(line).await.assert_accepted(1);
    assert_eq!(log.messages(), ["m-a"]);
}

#[tokio::test]
async fn a_dry_run_tells_what_would_become_of_records_and_stores_none() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    let (path, ndjson) = ("/api/v1/logs?dry_run=true", "application/x-ndjson");
    let body = event("a", "INFO") + "{\"bad\":\n" + &event("b", "ERROR");
    let answer = server.post(path, ndjson, body).await;
    assert_eq!(
        (answer.body["accepted"].as_u64(), answer.body["rejected"].as_u64()),
        (Some(2), Some(1))
    );
    assert_eq!(answer.body["errors"][0]["index"], 1);
    assert!(log.asked().is_empty(), "neither events nor rejected records are appended");
    server.ndjson(event("a", "INFO")).await.assert_accepted(1);
    assert_eq!(log.messages(), ["m-a"], "ids of a dry run are not taken for stored");
}
