//! What clients can hold at once.

use thalweg_edge::EdgeConfig;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
};

use crate::server::{Server, get_path, rest};

#[tokio::test]
async fn a_client_with_all_its_connections_is_refused_another_and_others_are_not() {
    let config = EdgeConfig { max_connections_per_client: 3, ..EdgeConfig::default() };
    let server = Server::start(config, None).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = server.connect().await;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'H');
        held.push(stream);
    }
    assert_eq!(get_path(&mut server.connect().await, "/").await, "");

    let other = TcpSocket::new_v4().unwrap();
    other.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = other.connect(server.address).await.unwrap();
    assert!(get_path(&mut other, "/").await.ends_with("hello"));

    drop(held.pop());
    // The server sees the end of a connection a moment later.
    for attempt in 0.. {
        if get_path(&mut server.connect().await, "/").await.ends_with("hello") {
            break;
        }
        assert!(attempt < 100, "the place was not given back");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_client_with_all_its_requests_is_told_to_come_back() {
    let config = EdgeConfig { max_requests_per_client: 2, ..EdgeConfig::default() };
    let server = Server::start(config, None).await;
    let slow = async || get_path(&mut server.connect().await, "/slow").await;
    let answers = tokio::join!(slow(), slow(), slow());
    let mut answers = [answers.0, answers.1, answers.2];
    answers.sort();
    assert!(answers[0].starts_with("HTTP/1.1 200"), "{answers:?}");
    assert!(answers[1].starts_with("HTTP/1.1 200"), "{answers:?}");
    assert!(answers[2].starts_with("HTTP/1.1 429"), "{answers:?}");
    assert!(answers[2].contains("retry-after: 1"), "{answers:?}");
    assert!(slow().await.ends_with("done"), "the places are given back");
}

#[tokio::test]
async fn an_endless_head_is_cut_off() {
    let server = Server::start(EdgeConfig::default(), None).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
    let mut sent = 0;
    while sent < 1 << 20 && stream.write_all(&[b'x'; 4096]).await.is_ok() {
        sent += 4096;
    }
    let answer = rest(&mut stream).await;
    assert!(sent < 1 << 20 || answer.starts_with("HTTP/1.1 431"), "{sent} {answer}");
}
