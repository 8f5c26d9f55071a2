//! The events, and the ways to spend them.

use std::{
    fs::File,
    io::{BufWriter, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use thalweg::shop::{Lines, Shop};
use thalweg_event::{BatchContext, PriorityRules};
use thalweg_ingest::decode::{BodyFormat, Sink, decode};

use crate::server::BenchServer;

/// Bytes of a request's body, about.
const BODY_BYTES: usize = 1 << 20;
/// Requests under way at once.
const CONNECTIONS: usize = 8;
/// Bytes between two syncs of the write-alone measurement.
const SYNC_BYTES: usize = 4 << 20;
/// How often visibility is probed.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);

/// Generated events in a file, cut into bodies.
pub(crate) struct Workload {
    file: PathBuf,
    /// Start and length of each body in the file.
    bodies: Vec<(u64, usize)>,
    events: u64,
    bytes: u64,
}

/// What came of ingesting a workload.
pub(crate) struct Ingested {
    pub(crate) elapsed: Duration,
    /// Times from a probe's acknowledgement to its row in an answer.
    pub(crate) visible_after: Vec<Duration>,
}

impl Workload {
    /// Plays the shop until it has logged `events` events.
    pub(crate) fn prepare(directory: &Path, events: u64) -> anyhow::Result<Self> {
        let file = directory.join("events.ndjson");
        println!("generating {events} events …");
        let mut out = BufWriter::with_capacity(8 << 20, File::create(&file)?);
        let mut shop = Shop::new(1, None);
        let (mut lines, mut bodies, mut bytes) = (Lines::default(), Vec::new(), 0);
        let start = chrono::Utc::now().timestamp_nanos_opt().context("the clock")?;
        let mut request: i64 = 0;
        while shop.events() < events {
            // 4,000 requests a second of event time: 10 million events are about 15 minutes.
            let time = start + request * 250_000;
            shop.request(time, (request / 200_000) % 4 == 1, &mut lines);
            request += 1;
            if lines.text.len() >= BODY_BYTES || shop.events() >= events {
                out.write_all(lines.text.as_bytes())?;
                bodies.push((bytes, lines.text.len()));
                bytes += lines.text.len() as u64;
                lines.clear();
            }
        }
        out.flush()?;
        Ok(Self { file, bodies, events: shop.events(), bytes })
    }

    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// All events, a line each.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    fn body(&self, index: usize) -> anyhow::Result<Option<Bytes>> {
        use std::os::unix::fs::FileExt as _;
        let Some((start, length)) = self.bodies.get(index) else { return Ok(None) };
        let mut body = vec![0; *length];
        File::open(&self.file)?.read_exact_at(&mut body, *start)?;
        Ok(Some(body.into()))
    }

    /// Decodes every body on all cores.
    pub(crate) fn parse_alone(&self) -> anyhow::Result<Duration> {
        let (next, start) = (AtomicUsize::new(0), Instant::now());
        let rules = PriorityRules::default();
        let parse = || -> anyhow::Result<usize> {
            let mut rows = 0;
            while let Some(body) = self.body(next.fetch_add(1, Ordering::Relaxed))? {
                let mut sink = Sink::new(BatchContext::new(1, &rules, [0; 10]), "ndjson");
                decode(BodyFormat::Ndjson, &body, &mut sink)?;
                rows += std::hint::black_box(sink.events.finish()).num_rows();
            }
            Ok(rows)
        };
        let cores = std::thread::available_parallelism()?.get();
        let rows = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..cores).map(|_| scope.spawn(parse)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("parsing does not panic"))
                .sum::<anyhow::Result<usize>>()
        })?;
        ensure!(rows as u64 == self.events, "parsed {rows} of {} events", self.events);
        Ok(start.elapsed())
    }

    /// Writes every body to one file, syncing as a log would.
    pub(crate) fn write_alone(&self, directory: &Path) -> anyhow::Result<Duration> {
        let start = Instant::now();
        let mut input = File::open(&self.file)?;
        let mut output = tempfile::tempfile_in(directory)?;
        let mut buffer = vec![0; SYNC_BYTES];
        loop {
            let read = input.read(&mut buffer)?;
            if read == 0 {
                return Ok(start.elapsed());
            }
            output.write_all(&buffer[..read])?;
            output.sync_data()?;
        }
    }
}

/// Sends the whole workload over several connections; the time until the last acknowledgement.
pub(crate) async fn send(workload: &Workload, server: &BenchServer) -> anyhow::Result<Duration> {
    send_counting(workload, server, &AtomicUsize::new(0)).await
}

/// `next` is the number of the body that is sent next.
async fn send_counting(
    workload: &Workload,
    server: &BenchServer,
    next: &AtomicUsize,
) -> anyhow::Result<Duration> {
    let http = reqwest::Client::builder().no_proxy().build()?;
    let start = Instant::now();
    let connection = || async {
        while let Some(body) = workload.body(next.fetch_add(1, Ordering::Relaxed))? {
            loop {
                let request = http.post(format!("{}/api/v1/logs?format=ndjson", server.http));
                let answer = request.body(body.clone()).send().await?;
                match answer.status().as_u16() {
                    200 => break,
                    429 => tokio::time::sleep(Duration::from_millis(20)).await,
                    _ => anyhow::bail!("{}: {}", answer.status(), answer.text().await?),
                }
            }
        }
        anyhow::Ok(start.elapsed())
    };
    let elapsed = futures::future::try_join_all((0..CONNECTIONS).map(|_| connection())).await?;
    elapsed.into_iter().max().context("there are connections")
}

/// Sends the whole workload while probing when events become visible.
pub(crate) async fn ingest(workload: &Workload, server: &BenchServer) -> anyhow::Result<Ingested> {
    let http = reqwest::Client::builder().no_proxy().build()?;
    let next = AtomicUsize::new(0);
    let probes = async {
        let mut visible_after = Vec::new();
        loop {
            tokio::time::sleep(PROBE_INTERVAL).await;
            visible_after.push(probe(&http, server, visible_after.len()).await?);
            if next.load(Ordering::Relaxed) >= workload.bodies.len() {
                return anyhow::Ok(visible_after);
            }
        }
    };
    let (elapsed, visible_after) =
        tokio::try_join!(send_counting(workload, server, &next), probes)?;
    Ok(Ingested { elapsed, visible_after })
}

/// Sends one event and asks for it until it is there; the time from its acknowledgement.
async fn probe(
    http: &reqwest::Client,
    server: &BenchServer,
    number: usize,
) -> anyhow::Result<Duration> {
    let event = format!(r#"{{"service":"probe","level":"INFO","message":"probe {number}"}}"#);
    let request = http.post(format!("{}/api/v1/logs?format=json", server.http));
    let answer = request.body(event).send().await?;
    ensure!(answer.status() == 200, "probe: {}", answer.status());
    let acknowledged = Instant::now();
    let query =
        format!("SELECT count(*) FROM logs WHERE service = 'probe' AND message = 'probe {number}'");
    while server.sql(http, &query).await?["rows"][0][0] != 1 {
        ensure!(
            acknowledged.elapsed() < Duration::from_secs(60),
            "probe {number} never became visible"
        );
    }
    Ok(acknowledged.elapsed())
}
