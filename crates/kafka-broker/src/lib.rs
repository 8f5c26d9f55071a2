//! Apache Kafka on this machine: brokers that a test starts, kills, pauses and starts again.
//!
//! Needs Java 17 and Kafka's jars (`make kafka-jars`), in the directory that the environment
//! variable `KAFKA_JARS` names. Brokers listen on loopback, on ports that are free, keep their data
//! in a scratch directory, and end with the [`Cluster`].
//!
//! ```no_run
//! use thalweg_kafka_broker::{Cluster, Options};
//!
//! let mut cluster = Cluster::start(Options { nodes: 3, ..Options::default() })?;
//! println!("{}", cluster.addresses().join(","));
//! cluster.kill(0);
//! cluster.start_node(0)?;
//! # Ok::<(), anyhow::Error>(())
//! ```

mod cluster;
mod java;
mod node;

pub use cluster::{Cluster, Options};
pub use java::Java;

/// How often tests work each fault: `KAFKA_ROUNDS`, or twice; ten times is the full measure.
pub fn rounds() -> usize {
    std::env::var("KAFKA_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(2)
}
