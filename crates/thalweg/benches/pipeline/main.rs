//! `make bench`: what the whole pipeline does with generated events on this machine, beside the
//! physical limits, DuckDB, Kafka and Spark, in one run.
//!
//! `BENCH_EVENTS` sets the number of events (10 million), `BENCH_PARTS` what is measured
//! (`pipeline,views,alerts,kafka`; the last needs `make kafka-jars`).

mod alerts;
mod kafka;
mod load;
mod python;
mod questions;
mod report;
mod server;
mod views;

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use load::Workload;
use server::BenchServer;
use tokio::runtime::Runtime;

/// What is measured, unless told otherwise.
const ALL: &str = "pipeline,views,alerts,kafka";

fn main() -> anyhow::Result<()> {
    // `cargo bench` passes `--bench`; `cargo test --benches` does not, and measures nothing.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let events = std::env::var("BENCH_EVENTS").map_or(Ok(10_000_000), |n| n.parse())?;
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let directory = target.join("bench");
    std::fs::create_dir_all(&directory)?;

    let parts = std::env::var("BENCH_PARTS").unwrap_or_else(|_| ALL.into());

    let workload = Workload::prepare(&directory, events)?;
    report::machine(&workload);
    let runtime = tokio::runtime::Runtime::new()?;
    for part in parts.split(',') {
        match part {
            "pipeline" => pipeline(&workload, &directory, &runtime)?,
            "views" => runtime.block_on(views::measure(&workload, &directory))?,
            "alerts" => runtime.block_on(alerts::measure(&directory))?,
            "kafka" => kafka::measure(&workload, &directory, &runtime)?,
            _ => anyhow::bail!("BENCH_PARTS: expected some of {ALL}, found `{part}`"),
        }
    }
    Ok(())
}

/// From the wire to answers.
fn pipeline(workload: &Workload, directory: &Path, runtime: &Runtime) -> anyhow::Result<()> {
    let parse = workload.parse_alone()?;
    report::rate("parse alone (our decoder, all cores)", workload, parse);
    let write = workload.write_alone(directory)?;
    report::rate("write and fdatasync alone (one file)", workload, write);

    let data = tempfile::Builder::new().prefix("data-").tempdir_in(directory)?;
    let server = BenchServer::start(data.path(), &[])?;
    let ingest = runtime.block_on(load::ingest(workload, &server))?;
    report::rate("durable NDJSON ingest over HTTP", workload, ingest.elapsed);
    report::ratio("  of parse alone", parse, ingest.elapsed);
    report::ratio("  of write alone", write, ingest.elapsed);
    report::latencies(
        "acknowledgement to visible in SQL",
        &ingest.visible_after,
        "probes while ingesting",
    );

    let drained = Instant::now();
    server.wait_until_committed(workload.events() + ingest.visible_after.len() as u64)?;
    println!(
        "{:<44} {:>8.1} s after the last acknowledgement",
        "all rows in the Delta table",
        drained.elapsed().as_secs_f64()
    );
    server.wait_until_compacted()?;
    report::stored(workload, data.path())?;
    report::memory(server.peak_memory_bytes()?);
    questions::ask(&server, data.path())?;
    report::memory(server.peak_memory_bytes()?);
    server.stop()
}
