//! Durable ingest by a server of its own, beside decoding the same bodies on all cores.

use std::{
    error::Error,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use thalweg_event::{BatchContext, PriorityRules};
use thalweg_ingest::decode::{Sink, decode};

use crate::bodies::{Case, EVENTS, FORMATS};

/// Bodies of each format.
const BODIES: u64 = 60;
/// Requests under way at once.
const CONNECTIONS: usize = 8;
/// Longest wait for what came over syslog to be stored.
const PATIENCE: Duration = Duration::from_secs(120);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Prints a line for each case.
pub(crate) fn measure(cases: &[Case], binary: &Path) -> Result<()> {
    let events = BODIES as usize * EVENTS;
    println!(
        "{:<24} {:>5} {:>14} {:>14} {:>8} {:>12}",
        "all cores", "bytes", "decode alone", "durable", "MB/s", "of decoding"
    );
    for case in cases {
        let bodies: Vec<Vec<u8>> = (0..BODIES).map(case.body).collect();
        let bytes: usize = bodies.iter().map(Vec::len).sum();
        let alone = decode_alone(case, &bodies)?;
        let server = Server::start(binary)?;
        let durable = match case.http {
            Some((path, media_type)) => server.post(path, media_type, bodies)?,
            None => server.syslog(&bodies)?,
        };
        server.expect(events, case.name)?;
        let rate = |elapsed: Duration| events as f64 / elapsed.as_secs_f64();
        println!(
            "{:<24} {:>5} {:>12.2} M {:>12.2} M {:>8.0} {:>10.0} %",
            case.name,
            bytes / events,
            rate(alone) / 1e6,
            rate(durable) / 1e6,
            bytes as f64 / 1e6 / durable.as_secs_f64(),
            100.0 * rate(durable) / rate(alone)
        );
    }
    Ok(())
}

fn decode_alone(case: &Case, bodies: &[Vec<u8>]) -> Result<Duration> {
    let (next, start) = (AtomicUsize::new(0), Instant::now());
    let rules = PriorityRules::default();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism()?.get() {
            scope.spawn(|| {
                while let Some(body) = bodies.get(next.fetch_add(1, Relaxed)) {
                    let mut sink = Sink::new(BatchContext::new(1, &rules, [0; 10]), "bench");
                    decode(case.format, body, &mut sink).expect("the body is readable");
                    match sink.spans {
                        Some(spans) => drop(std::hint::black_box(spans.finish())),
                        None => drop(std::hint::black_box(sink.events.finish())),
                    }
                }
            });
        }
        Ok::<_, Box<dyn Error>>(())
    })?;
    Ok(start.elapsed())
}

/// The server under measurement, with a data directory of its own.
struct Server {
    process: Child,
    http: String,
    syslog: String,
    _data: tempfile::TempDir,
}

impl Server {
    fn start(binary: &Path) -> Result<Self> {
        let data = tempfile::tempdir()?;
        let config = data.path().join("thalweg.yaml");
        std::fs::write(&config, format!("formats:\n  {FORMATS}\n"))?;
        let mut command = Command::new(binary);
        command.args(["serve", "--config"]).arg(&config).arg("--data-dir").arg(data.path());
        for setting in [
            "listen.http=127.0.0.1:0",
            "listen.otlp_grpc=127.0.0.1:0",
            "listen.syslog=127.0.0.1:0",
            "listen.postgres=127.0.0.1:0",
            "logging.json=true",
            "stream.builtin_views=false",
        ] {
            command.args(["--set", setting]);
        }
        let mut process = command.stderr(Stdio::piped()).spawn()?;
        let mut log = BufReader::new(process.stderr.take().ok_or("stderr is piped")?).lines();
        let mut said = String::new();
        let ready = loop {
            let line =
                log.next().ok_or(format!("the server ended before it was ready: {said}"))??;
            said.push_str(&line);
            let record: Value = serde_json::from_str(&line).unwrap_or_default();
            if record["fields"]["message"] == "ready" {
                break record;
            }
        };
        std::thread::spawn(move || log.map_while(std::result::Result::ok).for_each(drop));
        let address = |name: &str| ready["fields"][name].as_str().ok_or("an address");
        let (http, syslog) = (address("http")?.to_owned(), address("syslog")?.to_owned());
        Ok(Self { process, http, syslog, _data: data })
    }

    /// Posts bodies over several connections; the time until the last one is acknowledged.
    fn post(&self, path: &str, media_type: &str, bodies: Vec<Vec<u8>>) -> Result<Duration> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let bodies: Vec<bytes::Bytes> = bodies.into_iter().map(Into::into).collect();
        let next = AtomicUsize::new(0);
        let connection = || async {
            while let Some(body) = bodies.get(next.fetch_add(1, Relaxed)) {
                loop {
                    let request = client.post(format!("http://{}{path}", self.http));
                    let request = request.header("content-type", media_type);
                    let answer = request.body(body.clone()).send().await?;
                    match answer.status().as_u16() {
                        200..300 => break,
                        429 | 503 => tokio::time::sleep(Duration::from_millis(20)).await,
                        status => {
                            return Err(
                                format!("{path}: {status}: {}", answer.text().await?).into()
                            );
                        }
                    }
                }
            }
            Ok::<_, Box<dyn Error>>(())
        };
        let runtime = tokio::runtime::Runtime::new()?;
        let start = Instant::now();
        runtime.block_on(futures::future::try_join_all((0..CONNECTIONS).map(|_| connection())))?;
        Ok(start.elapsed())
    }

    /// Sends lines over TCP, which has no acknowledgements; the time until all are stored.
    fn syslog(&self, bodies: &[Vec<u8>]) -> Result<Duration> {
        let start = Instant::now();
        let mut stream = TcpStream::connect(&self.syslog)?;
        for body in bodies {
            stream.write_all(body)?;
            stream.write_all(b"\n")?;
        }
        drop(stream);
        let events = bodies.len() * EVENTS;
        while self.rows("logs")? < events {
            if start.elapsed() > PATIENCE {
                return Err(format!("only {} of {events} are stored", self.rows("logs")?).into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(start.elapsed())
    }

    fn rows(&self, table: &str) -> Result<usize> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let answer: Value = runtime.block_on(async {
            let client = reqwest::Client::builder().no_proxy().build()?;
            let request = client.post(format!("http://{}/api/v1/sql", self.http));
            let query = json!({"query": format!("SELECT count(*) FROM {table}")});
            request.json(&query).send().await?.error_for_status()?.json().await
        })?;
        answer["rows"][0][0].as_u64().map(|rows| rows as usize).ok_or("a count".into())
    }

    /// Stops the server, which must have stored all events.
    fn expect(self, events: usize, name: &str) -> Result<()> {
        let stored = self.rows("logs")? + self.rows("spans")?;
        if stored != events {
            return Err(format!("{name}: {stored} of {events} events are stored").into());
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // What it has written goes with it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
