//! Syslog senders, over UDP, TCP and any other stream.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use thalweg_edge::{Application, Edge, EdgeConfig};
use thalweg_ingest::{
    Ingest, IngestConfig,
    syslog::{Syslog, SyslogConfig},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::memory_log::MemoryLog;

/// Longest that something may take to be seen on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

struct Listening {
    udp: SocketAddr,
    tcp: SocketAddr,
    syslog: Syslog,
    stopping: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Listening {
    async fn start(log: Arc<MemoryLog>, config: SyslogConfig) -> Self {
        let ingest =
            Ingest::open(log, IngestConfig { syslog: config.clone(), ..Default::default() });
        let (syslog, storing) = Syslog::start(ingest.await.unwrap(), &config);
        let (udp, tcp) =
            (UdpSocket::bind("127.0.0.1:0").await, TcpListener::bind("127.0.0.1:0").await);
        let (udp, tcp) = (udp.unwrap(), tcp.unwrap());
        let addresses = (udp.local_addr().unwrap(), tcp.local_addr().unwrap());
        let stopping = CancellationToken::new();
        let edge = Edge::new(EdgeConfig::default(), None);
        let tcp = edge.listen("syslog", tcp, Application::Unnamed);
        let tasks = vec![
            tokio::spawn(syslog.clone().serve_udp(udp, stopping.clone())),
            tokio::spawn(syslog.clone().serve_tcp(tcp, stopping.clone())),
            storing,
        ];
        Self { udp: addresses.0, tcp: addresses.1, syslog, stopping, tasks }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.tcp).await.unwrap()
    }

    /// Stops, and waits until all that was received is stored.
    async fn stop(self) {
        self.stopping.cancel();
        drop(self.syslog);
        for task in self.tasks {
            tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
        }
    }
}

async fn until(what: impl Fn() -> bool) {
    let seen = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.unwrap();
}

/// Whether the other side has closed the connection.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let read = tokio::time::timeout(PATIENCE, stream.read(&mut [0])).await;
    matches!(read, Ok(Ok(0) | Err(_)))
}

#[tokio::test]
async fn each_datagram_is_a_message() {
    let log = MemoryLog::new();
    let listening = Listening::start(log.clone(), SyslogConfig::default()).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for datagram in [
        "<11>Oct 11 22:14:15 box app[7]: broken",
        "<14>1 - - app - - - two\nlines\n",
        "",
        "<14>x\0",
    ] {
        socket.send_to(datagram.as_bytes(), listening.udp).await.unwrap();
    }
    until(|| log.messages().len() == 3).await;
    assert_eq!(log.messages(), ["broken", "two\nlines", "x"]);
    assert_eq!(log.texts("logs.critical", "host"), ["box"]);
    assert_eq!(log.texts("logs.critical", "level"), ["ERROR"]);
    assert_eq!(log.texts("logs.routine", "host"), ["127.0.0.1", "127.0.0.1"]);
    assert_eq!(log.texts("logs.routine", "client_ip"), ["127.0.0.1", "127.0.0.1"]);
    listening.stop().await;
}

#[tokio::test]
async fn both_framings_are_understood_on_one_connection_in_order() {
    let log = MemoryLog::new();
    let listening = Listening::start(log.clone(), SyslogConfig::default()).await;
    let mut stream = listening.connect().await;
    for part in ["<14>a: one\r\n16 <14>a: tw", "o\nlines", "<14>a: four\n\n\n<14>a: five"] {
        stream.write_all(part.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
    }
    stream.shutdown().await.unwrap();
    until(|| log.messages().len() == 4).await;
    assert_eq!(log.texts("logs.routine", "message"), ["one", "two\nlines", "four", "five"]);
    listening.stop().await;
}

#[tokio::test]
async fn what_was_received_is_stored_before_the_listeners_have_stopped() {
    let log = MemoryLog::new();
    let listening = Listening::start(log.clone(), SyslogConfig::default()).await;
    log.hold("logs.routine");
    let mut stream = listening.connect().await;
    for n in 0..500 {
        stream.write_all(format!("<14>a: {n}\n").as_bytes()).await.unwrap();
        if n == 0 {
            log.has_been_asked(1).await;
        }
    }
    stream.shutdown().await.unwrap();
    assert!(is_closed(&mut stream).await);
    let stopped = tokio::spawn(listening.stop());
    log.let_go();
    stopped.await.unwrap();
    let expected: Vec<String> = (0..500).map(|n| n.to_string()).collect();
    assert_eq!(log.texts("logs.routine", "message"), expected);
    assert!(log.asked().len() < 10, "what waits is stored together: {:?}", log.asked().len());
}

#[tokio::test]
async fn an_unavailable_log_loses_nothing() {
    let log = MemoryLog::new();
    let listening = Listening::start(log.clone(), SyslogConfig::default()).await;
    let at = thalweg_log::TopicPartition::new("logs.routine", 0);
    let reason = "the test says so".to_owned();
    log.fail("logs.routine", thalweg_log::LogError::Unavailable { at, reason });
    let mut stream = listening.connect().await;
    stream.write_all(b"<14>a: kept\n").await.unwrap();
    log.has_been_asked(1).await;
    log.heal();
    until(|| log.messages() == ["kept"]).await;
    listening.stop().await;
}

#[tokio::test]
async fn a_sender_has_to_wait_while_the_queue_is_full() {
    let log = MemoryLog::new();
    let listening = Listening::start(log.clone(), SyslogConfig::default()).await;
    log.hold("logs.routine");
    let mut stream = listening.connect().await;
    let line = format!("<14>a: {}\n", "x".repeat(60_000));
    let mut sent = 0;
    // Buffers of sockets take some megabytes, too.
    while tokio::time::timeout(Duration::from_secs(2), stream.write_all(line.as_bytes()))
        .await
        .is_ok()
    {
        sent += 1;
        assert!(sent < 2_000, "120 MB were taken while nothing could be stored");
    }
    assert!(sent > 200, "the queue holds 16 MiB, and took {sent} lines");
    log.let_go();
    until(|| log.messages().len() >= sent).await;
    listening.stop().await;
}

#[tokio::test]
async fn datagrams_that_find_the_queue_full_are_dropped_and_the_others_stored() {
    let log = MemoryLog::new();
    let listening = Listening::start(log.clone(), SyslogConfig::default()).await;
    log.hold("logs.routine");
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let datagram = format!("<14>a: {}", "x".repeat(60_000));
    for _ in 0..600 {
        socket.send_to(datagram.as_bytes(), listening.udp).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    log.let_go();
    listening.stop().await;
    let stored = log.messages().len();
    assert!((100..400).contains(&stored), "the queue holds 16 MiB, and took {stored} datagrams");
}

#[tokio::test]
async fn an_endless_line_is_cut_off_and_its_beginning_rejected() {
    let log = MemoryLog::new();
    let listening = Listening::start(log.clone(), SyslogConfig::default()).await;
    let mut stream = listening.connect().await;
    stream.write_all(b"<14>a: before\n").await.unwrap();
    // More than the buffers of both sockets, so that an endless reader would show.
    let endless = async { while stream.write_all(&[b'x'; 65_536]).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, endless).await.unwrap();
    until(|| log.texts("rejected", "reason").len() == 1).await;
    let reason = "message: expected at most 65536 bytes, found more";
    assert_eq!(log.texts("rejected", "reason"), [reason]);
    assert_eq!(log.messages(), ["before"]);
    listening.stop().await;
}

#[tokio::test]
async fn an_idle_connection_is_cut_off() {
    let log = MemoryLog::new();
    let config = SyslogConfig { idle_timeout_secs: 1, ..SyslogConfig::default() };
    let listening = Listening::start(log.clone(), config).await;
    let mut idle = listening.connect().await;
    assert!(is_closed(&mut idle).await);
    listening.stop().await;
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once() {
    let log = MemoryLog::new();
    let config = SyslogConfig { max_connections: 2, ..SyslogConfig::default() };
    let listening = Listening::start(log.clone(), config).await;
    let mut streams = Vec::new();
    for n in 0..2 {
        let mut stream = listening.connect().await;
        stream.write_all(format!("<14>a: {n}\n").as_bytes()).await.unwrap();
        until(|| log.messages().len() == n + 1).await;
        streams.push(stream);
    }
    assert!(is_closed(&mut listening.connect().await).await);
    drop(streams.pop());
    // Another finds the place that is free, once that has been noticed.
    let taken = async {
        loop {
            let mut stream = listening.connect().await;
            let _ = stream.write_all(b"<14>a: 2\n").await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            if log.messages().contains(&"2".to_owned()) {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, taken).await.unwrap();
    listening.stop().await;
}

#[tokio::test]
async fn any_stream_can_carry_messages() {
    let log = MemoryLog::new();
    let listening = Listening::start(log.clone(), SyslogConfig::default()).await;
    let (mut near, far) = tokio::io::duplex(64);
    let sender = "192.0.2.7".parse().unwrap();
    let reading = listening.syslog.serve_connection(far, sender, listening.stopping.clone());
    let writing = async move {
        near.write_all(b"10 <14>a: one10 <14>a: two").await.unwrap();
    };
    tokio::join!(reading, writing);
    until(|| log.messages() == ["one", "two"]).await;
    assert_eq!(log.texts("logs.routine", "host"), ["192.0.2.7", "192.0.2.7"]);
    listening.stop().await;
}

#[tokio::test]
async fn local_times_are_read_by_the_configured_offset() {
    let log = MemoryLog::new();
    let timezone = "+02:00".to_owned().try_into().unwrap();
    let listening =
        Listening::start(log.clone(), SyslogConfig { timezone, ..SyslogConfig::default() }).await;
    let mut stream = listening.connect().await;
    stream.write_all(b"<14>2023-11-15T00:13:20 h a: m\n").await.unwrap();
    until(|| log.messages().len() == 1).await;
    assert_eq!(log.texts("logs.routine", "time_unix_nano"), ["1700000000000000000"]);
    listening.stop().await;
}
