//! Clients that do nothing, or too slowly.

use std::time::{Duration, Instant};

use thalweg_edge::EdgeConfig;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{sleep, timeout},
};

use crate::server::{Server, get_path, rest};

/// Longest that something due after a second may take on a busy machine.
const SOON: Duration = Duration::from_secs(20);

fn impatient() -> EdgeConfig {
    EdgeConfig {
        idle_timeout_secs: 1,
        body_timeout_secs: 1,
        write_timeout_secs: 1,
        ..EdgeConfig::default()
    }
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_asked_is_closed() {
    let server = Server::start(impatient(), None).await;
    let mut silent = server.connect().await;
    let mut half = server.connect().await;
    half.write_all(b"GET / HTTP/1.1\r\nho").await.unwrap();
    let mut asked = server.connect().await;
    asked.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut http2 = server.connect().await;
    // The preface and an empty SETTINGS frame (RFC 9113 §3.4).
    http2.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let closed = async {
        assert_eq!(rest(&mut silent).await, "");
        let half = rest(&mut half).await;
        assert!(half.is_empty() || half.starts_with("HTTP/1.1 408"), "{half}");
        assert!(rest(&mut asked).await.ends_with("hello"));
        rest(&mut http2).await
    };
    timeout(SOON, closed).await.unwrap();
}

#[tokio::test]
async fn a_request_that_takes_longer_than_an_idle_connection_may_is_answered() {
    let server = Server::start(impatient(), None).await;
    let mut stream = server.connect().await;
    for _ in 0..4 {
        stream.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"done") {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "{answer:?}");
        }
    }
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_given_up() {
    let server = Server::start(impatient(), None).await;
    let mut stream = server.connect().await;
    let head = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let drip = async {
        while writer.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(300)).await;
        }
    };
    let answer = tokio::select! {
        answer = timeout(SOON, rest(&mut reader)) => answer.unwrap(),
        () = drip => String::new(),
    };
    assert!(!answer.contains("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_client_that_takes_no_answer_is_cut_off() {
    let server = Server::start(impatient(), None).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    // Long enough for all buffers to fill and the time to pass.
    sleep(Duration::from_secs(4)).await;
    let begun = Instant::now();
    let mut buffer = vec![0; 1 << 20];
    let drained = async { while stream.read(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {} };
    timeout(SOON, drained).await.unwrap();
    assert!(begun.elapsed() < SOON);
}

#[tokio::test]
async fn stopping_finishes_what_is_under_way_and_closes_the_rest() {
    let server = Server::start(EdgeConfig::default(), None).await;
    let mut idle = server.connect().await;
    let mut slow = server.connect().await;
    let answer = tokio::spawn(async move { get_path(&mut slow, "/slow").await });
    sleep(Duration::from_millis(200)).await;
    server.begin_to_stop();
    timeout(SOON, server.stop()).await.unwrap();
    assert!(answer.await.unwrap().ends_with("done"));
    assert_eq!(rest(&mut idle).await, "");
}
