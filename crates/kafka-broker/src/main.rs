//! Runs Kafka on this machine until it is interrupted: `make kafka`.

use std::path::PathBuf;

use clap::Parser;
use thalweg_kafka_broker::{Cluster, Options};
use tokio::signal::unix::{SignalKind, signal};

/// Apache Kafka on this machine, on loopback, until it is interrupted.
#[derive(Parser)]
struct Args {
    /// Number of brokers.
    #[arg(long, default_value_t = 1)]
    nodes: usize,
    /// Where their data is kept; a directory that is removed at the end when not given.
    #[arg(long)]
    directory: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let Args { nodes, directory } = Args::parse();
    let cluster = Cluster::start(Options { nodes, directory, ..Options::default() })?;
    let addresses = cluster.addresses().join(", ");
    println!("Kafka listens on {addresses}; data in {}", cluster.directory().display());
    println!(
        "thalweg serve --set 'log={{kafka: {{brokers: [\"{}\"]}}}}'",
        addresses.replace(", ", "\", \"")
    );
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminated.recv() => {}
    }
    Ok(())
}
