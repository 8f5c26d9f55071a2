//! Kafka as the log, beside the embedded log and beside Kafka's own producer.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use thalweg_kafka_broker::{Cluster, Options};
use tokio::runtime::Runtime;

use crate::{
    load::{self, Workload},
    report,
    server::BenchServer,
};

/// Events that wait in the spool.
const SPOOLED_EVENTS: u64 = 1_000_000;
/// Longest that they may take to reach Kafka.
const DRAIN_PATIENCE: Duration = Duration::from_secs(300);
/// Heap of Kafka's producer.
const HEAP_MIB: usize = 512;
/// Different events that it sends.
const SAMPLE_EVENTS: usize = 100_000;
/// Its topic.
const TOPIC: &str = "alone";

/// Measures ingest through a broker on this machine, in either encoding.
pub(crate) fn measure(
    workload: &Workload,
    directory: &Path,
    runtime: &Runtime,
) -> anyhow::Result<()> {
    println!("\nKafka as the log, one broker on this machine:");
    let mut cluster = Cluster::start(Options::default())?;
    producer_alone(workload, &cluster, directory)?;
    let embedded = through(workload, directory, runtime, "the embedded log", &[])?;
    for encoding in ["otlp_proto", "json"] {
        let log = log_in(&cluster, encoding);
        let measured =
            through(workload, directory, runtime, &format!("Kafka, {encoding}"), &[&log])?;
        report::ratio("  acknowledged, of the embedded log", embedded.0, measured.0);
        report::ratio("  in the table, of the embedded log", embedded.1, measured.1);
        // Each run begins with an empty broker.
        drop(std::mem::replace(&mut cluster, Cluster::start(Options::default())?));
    }
    drain(&mut cluster, directory, runtime)
}

fn log_in(cluster: &Cluster, encoding: &str) -> String {
    let brokers = cluster.addresses().join("\", \"");
    format!("log.kafka={{brokers: [\"{brokers}\"], encoding: {encoding}}}")
}

/// Kafka's own producer, with the same events, each a message.
fn producer_alone(workload: &Workload, cluster: &Cluster, directory: &Path) -> anyhow::Result<()> {
    let broker = cluster.addresses().remove(0);
    let tool = |class: &str, arguments: &[&str]| -> anyhow::Result<String> {
        let output = cluster.java().command(HEAP_MIB, class).args(arguments).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{class}: {text}{errors}");
        Ok(text)
    };
    let create = ["--bootstrap-server", &broker, "--create", "--topic", TOPIC];
    tool("org.apache.kafka.tools.TopicCommand", &create)?;
    // It keeps them in memory, and takes any of them each time.
    let mut sample = tempfile::NamedTempFile::new_in(directory)?;
    for line in BufReader::new(File::open(workload.file())?).lines().take(SAMPLE_EVENTS) {
        writeln!(sample, "{}", line?)?;
    }
    let (file, events) = (sample.path().display().to_string(), workload.events().to_string());
    let servers = format!("bootstrap.servers={broker}");
    let said = tool(
        "org.apache.kafka.tools.ProducerPerformance",
        &[
            "--topic",
            TOPIC,
            "--payload-file",
            &file,
            "--num-records",
            &events,
            "--throughput",
            "-1",
            "--producer-props",
            &servers,
            "acks=all",
            "compression.type=zstd",
            "linger.ms=5",
            "batch.size=1000000",
        ],
    )?;
    // "… records sent, 345678.9 records/sec (161.44 MB/sec), …" of the whole run comes last.
    let whole = said.lines().last().context("ProducerPerformance says nothing")?;
    let rate = whole.split(" records/sec").next().and_then(|text| text.rsplit(' ').next());
    let rate: f64 = rate.context("a rate")?.parse().with_context(|| whole.to_owned())?;
    let elapsed = Duration::from_secs_f64(workload.events() as f64 / rate);
    report::rate("Kafka's ProducerPerformance alone", workload, elapsed);
    Ok(())
}

/// Times until all events are acknowledged, and until all are in the Delta table.
fn through(
    workload: &Workload,
    directory: &Path,
    runtime: &Runtime,
    name: &str,
    settings: &[&str],
) -> anyhow::Result<(Duration, Duration)> {
    let data = tempfile::Builder::new().prefix("kafka-").tempdir_in(directory)?;
    let server = BenchServer::start(data.path(), settings)?;
    let start = Instant::now();
    let acknowledged = runtime.block_on(load::send(workload, &server))?;
    server.wait_until_committed(workload.events())?;
    let committed = start.elapsed();
    report::rate(&format!("acknowledged by {name}"), workload, acknowledged);
    report::rate("  and in the Delta table", workload, committed);
    report::memory(server.peak_memory_bytes()?);
    server.stop()?;
    Ok((acknowledged, committed))
}

/// How long it takes until what was spooled is in Kafka, once brokers are back.
fn drain(cluster: &mut Cluster, directory: &Path, runtime: &Runtime) -> anyhow::Result<()> {
    let workload = Workload::prepare(directory, SPOOLED_EVENTS)?;
    let data = tempfile::Builder::new().prefix("spool-").tempdir_in(directory)?;
    let server = BenchServer::start(data.path(), &[&log_in(cluster, "otlp_proto")])?;
    cluster.kill_all();
    let spooled = runtime.block_on(load::send(&workload, &server))?;
    report::rate("acknowledged by the spool, no broker", &workload, spooled);
    cluster.start_all()?;
    let start = Instant::now();
    while runtime.block_on(server.metric("thalweg_kafka_spool_rows"))? > 0.0 {
        ensure!(start.elapsed() < DRAIN_PATIENCE, "the spool is still not empty");
        std::thread::sleep(Duration::from_millis(100));
    }
    report::rate("from the spool into Kafka", &workload, start.elapsed());
    server.stop()
}
