//! Clients that mean harm, all at once, and one that does not.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::server::{Server, get};

/// Most memory that the server may use meanwhile.
const MEMORY_LIMIT_BYTES: u64 = 512 << 20;
/// Connections that say nothing.
const IDLE_CONNECTIONS: usize = 2000;
/// Requests of the well-behaved client, before and during the attack.
const REQUESTS: usize = 300;

/// Connects from an address of its own: to the server another client.
fn connect(server: SocketAddr, from: [u8; 4]) -> std::io::Result<TcpStream> {
    // The standard library cannot bind before it connects.
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    }
    let stream = RUNTIME.with(|runtime| {
        runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4()?;
            socket.bind(SocketAddr::from((Ipv4Addr::from(from), 0)))?;
            socket.connect(server).await?.into_std()
        })
    })?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    Ok(stream)
}

/// Sends one request and returns the status of its answer.
fn post(server: SocketAddr, from: [u8; 4], headers: &str, body: &[u8]) -> std::io::Result<String> {
    let mut stream = connect(server, from)?;
    let head = format!(
        "POST /api/v1/logs?format=ndjson HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-length: {}\r\n{headers}\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

/// Times of the acknowledgements of a client that does all right, sorted.
fn well_behaved(server: SocketAddr) -> Vec<Duration> {
    let event = br#"{"service":"good","level":"INFO","message":"all is well"}"#;
    let mut times: Vec<Duration> = (0..REQUESTS)
        .map(|_| {
            let begun = Instant::now();
            let status = post(server, [127, 0, 0, 9], "", event).unwrap();
            assert_eq!(status, "HTTP/1.1 200 OK");
            std::thread::sleep(Duration::from_millis(5));
            begun.elapsed() - Duration::from_millis(5)
        })
        .collect();
    times.sort();
    times
}

/// Does harm again and again until told to stop; says how often.
fn again_and_again(stop: &Arc<AtomicBool>, harm: impl Fn() + Send + 'static) -> JoinHandle<usize> {
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        let mut times = 0;
        while !stop.load(Relaxed) {
            harm();
            times += 1;
        }
        times
    })
}

#[test]
fn hostile_clients_cost_bounded_memory_and_others_are_served() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let address: SocketAddr = server.http.trim_start_matches("http://").parse().unwrap();
    let quiet = well_behaved(address);

    // More than one client may hold: from several addresses.
    let idle: Vec<TcpStream> = (0..IDLE_CONNECTIONS)
        .map(|n| connect(address, [127, 0, 1, (n / 1000) as u8 + 1]).unwrap())
        .collect();
    let stop = Arc::new(AtomicBool::new(false));
    let bomb = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let line = [b'a'; 1 << 16];
        (0..1000).for_each(|_| encoder.write_all(&line).unwrap());
        encoder.finish().unwrap()
    };
    assert!((65_536_000 / bomb.len()) >= 1000, "the bomb is too weak: {} bytes", bomb.len());
    let nested = format!("{{\"service\":\"x\",\"a\":{}{}}}", "[".repeat(100), "]".repeat(100));
    let endless = vec![b'x'; 15 << 20];
    let mut attacks = vec![
        again_and_again(&stop, move || {
            // Refused or rejected: what counts is that the server goes on.
            let _ = post(address, [127, 0, 2, 1], "content-encoding: gzip\r\n", &bomb);
        }),
        again_and_again(&stop, move || {
            let status = post(address, [127, 0, 2, 2], "", nested.as_bytes());
            assert_ne!(status.unwrap_or_default(), "HTTP/1.1 200 OK", "it was accepted");
        }),
        again_and_again(&stop, move || {
            let _ = post(address, [127, 0, 2, 3], "", &endless);
        }),
    ];
    for n in 0..8 {
        // Announces much and sends a byte now and then.
        attacks.push(again_and_again(&stop, move || {
            let Ok(mut stream) = connect(address, [127, 0, 3, n]) else { return };
            let head = "POST /api/v1/logs?format=ndjson HTTP/1.1\r\nhost: x\r\ncontent-length: \
                        16000000\r\n\r\n";
            for byte in head.bytes().chain(std::iter::repeat_n(b'x', 20)) {
                if stream.write_all(&[byte]).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }));
    }
    let metrics = get(&format!("{}/metrics", server.http));
    let busy = well_behaved(address);
    stop.store(true, Relaxed);
    let times: Vec<usize> = attacks.into_iter().map(|attack| attack.join().unwrap()).collect();
    drop(idle);

    let p99 = |times: &[Duration]| times[times.len() * 99 / 100];
    let (quiet, busy) = (p99(&quiet), p99(&busy));
    let peak = server.peak_memory_bytes();
    println!(
        "attacks {times:?}; peak memory {} MiB; p99 acknowledgement quiet {quiet:?}, under attack \
         {busy:?}: {:.1} times",
        peak >> 20,
        busy.as_secs_f64() / quiet.as_secs_f64()
    );
    assert!(times.iter().all(|times| *times > 0), "{times:?}");
    assert!(peak < MEMORY_LIMIT_BYTES, "{} MiB", peak >> 20);
    let connections = metrics.lines().find(|line| line.starts_with("thalweg_edge_connections "));
    let connections: f64 = connections.unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    assert!(connections >= IDLE_CONNECTIONS as f64, "{connections} connections were open");
}
