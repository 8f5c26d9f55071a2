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

use crate::server::{Server, get, is_optimised};

/// Most memory that the server may use meanwhile.
const MEMORY_LIMIT_BYTES: u64 = 512 << 20;
/// Connections that say nothing.
const IDLE_CONNECTIONS: usize = 2000;
/// Times that the well-behaved client is measured in peace and under attack, in turns; the median of
/// each counts, for the machine may be busy with other things.
const ROUNDS: usize = 5;
/// Its requests each time.
const REQUESTS: usize = 300;
/// Added to the niceness of threads: they get what others leave.
const IDLE_NICENESS: i32 = 19;
/// How much slower it may become, with an optimised server (`make test-optimised`): a slow one is
/// busy with an attack for much longer.
const MAX_SLOWDOWN: f64 = 2.0;

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

/// Times of the acknowledgements of a client that does all right.
fn well_behaved(server: SocketAddr) -> impl Iterator<Item = Duration> {
    let event = br#"{"service":"good","level":"INFO","message":"all is well"}"#;
    (0..REQUESTS).map(move |_| {
        std::thread::sleep(Duration::from_millis(5));
        let begun = Instant::now();
        let status = post(server, [127, 0, 0, 9], "", event).unwrap();
        assert_eq!(status, "HTTP/1.1 200 OK");
        begun.elapsed()
    })
}

fn p99(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<Duration> = times.collect();
    times.sort();
    times[times.len() * 99 / 100]
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Who does harm, and when.
struct Attack {
    is_on: Arc<AtomicBool>,
    is_over: Arc<AtomicBool>,
    attackers: Vec<JoinHandle<usize>>,
}

impl Attack {
    fn new() -> Self {
        Self { is_on: Arc::default(), is_over: Arc::default(), attackers: vec![] }
    }

    /// Does harm while the attack is on, so long after the last time.
    fn add(&mut self, pause: Duration, harm: impl Fn() + Send + 'static) {
        let (is_on, is_over) = (Arc::clone(&self.is_on), Arc::clone(&self.is_over));
        self.attackers.push(std::thread::spawn(move || {
            // Others' machines do the attackers' work: on this one it must cost the server nothing.
            rustix::process::nice(IDLE_NICENESS).unwrap();
            let mut times = 0;
            while !is_over.load(Relaxed) {
                if is_on.load(Relaxed) {
                    harm();
                    times += 1;
                }
                std::thread::sleep(pause);
            }
            times
        }));
    }

    /// Ends it; how often each attacker did harm.
    fn end(self) -> Vec<usize> {
        self.is_over.store(true, Relaxed);
        self.attackers.into_iter().map(|attacker| attacker.join().unwrap()).collect()
    }
}

#[test]
fn hostile_clients_cost_bounded_memory_and_others_are_served() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path(), &[]);
    let address: SocketAddr = server.http.trim_start_matches("http://").parse().unwrap();

    let bomb = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let line = [b'a'; 1 << 16];
        (0..1000).for_each(|_| encoder.write_all(&line).unwrap());
        encoder.finish().unwrap()
    };
    assert!((65_536_000 / bomb.len()) >= 1000, "the bomb is too weak: {} bytes", bomb.len());
    let nested = format!("{{\"service\":\"x\",\"a\":{}{}}}", "[".repeat(100), "]".repeat(100));
    let endless = vec![b'x'; 15 << 20];
    let mut attack = Attack::new();
    attack.add(Duration::from_millis(50), move || {
        // Refused or rejected: what counts is that the server goes on.
        let _ = post(address, [127, 0, 2, 1], "content-encoding: gzip\r\n", &bomb);
    });
    attack.add(Duration::from_millis(5), move || {
        let status = post(address, [127, 0, 2, 2], "", nested.as_bytes());
        assert_ne!(status.unwrap_or_default(), "HTTP/1.1 200 OK", "it was accepted");
    });
    attack.add(Duration::from_millis(500), move || {
        let _ = post(address, [127, 0, 2, 3], "", &endless);
    });
    for n in 0..8 {
        // Announces much and sends a byte now and then.
        attack.add(Duration::from_millis(20), move || {
            let Ok(mut stream) = connect(address, [127, 0, 3, n]) else { return };
            let head = "POST /api/v1/logs?format=ndjson HTTP/1.1\r\nhost: x\r\ncontent-length: \
                        16000000\r\n\r\n";
            for byte in head.bytes().chain(std::iter::repeat_n(b'x', 20)) {
                if stream.write_all(&[byte]).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
    }

    let (mut quiet, mut busy) = (vec![], vec![]);
    let mut connections = 0.0;
    for _ in 0..ROUNDS {
        quiet.push(p99(well_behaved(address)));
        // More than one client may hold: from several addresses.
        let idle: Vec<TcpStream> = (0..IDLE_CONNECTIONS)
            .map(|n| connect(address, [127, 0, 1, (n / 1000) as u8 + 1]).unwrap())
            .collect();
        attack.is_on.store(true, Relaxed);
        busy.push(p99(well_behaved(address)));
        connections = gauge(&server, "thalweg_edge_connections ");
        attack.is_on.store(false, Relaxed);
        drop(idle);
        // What it began comes to its end.
        std::thread::sleep(Duration::from_secs(1));
    }
    let times = attack.end();
    println!("p99 acknowledgements by round: quiet {quiet:?}, under attack {busy:?}");
    let (quiet, busy) = (median(quiet), median(busy));
    let slowdown = busy.as_secs_f64() / quiet.as_secs_f64();
    let peak = server.peak_memory_bytes();
    println!(
        "attacks {times:?}; peak memory {} MiB; p99 acknowledgement quiet {quiet:?}, under attack \
         {busy:?}: {slowdown:.1} times",
        peak >> 20,
    );
    assert!(times.iter().all(|times| *times > 0), "{times:?}");
    assert!(connections >= IDLE_CONNECTIONS as f64, "{connections} connections were open");
    assert!(peak < MEMORY_LIMIT_BYTES, "{} MiB", peak >> 20);
    assert!(slowdown < MAX_SLOWDOWN || !is_optimised(), "{slowdown:.1} times");
}

/// The value of the metric whose line begins so.
fn gauge(server: &Server, start: &str) -> f64 {
    let metrics = get(&format!("{}/metrics", server.http));
    let line = metrics.lines().find_map(|line| line.strip_prefix(start));
    line.unwrap_or_else(|| panic!("no {start}in {metrics}")).trim().parse().unwrap()
}
