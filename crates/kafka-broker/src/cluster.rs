//! Brokers that know each other.

use std::{
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::ensure;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::{java::Java, node::Node};

/// Longest that a broker may take to start, on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// Pause between looks at one that starts.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of brokers.
    pub nodes: usize,
    /// Where their data is kept; a directory that is removed with the cluster when `None`.
    pub directory: Option<PathBuf>,
    /// How clients, and brokers among each other, speak: `PLAINTEXT`, `SASL_PLAINTEXT`, `SSL` or
    /// `SASL_SSL`.
    pub security_protocol: &'static str,
    /// Further lines of `server.properties`.
    pub settings: Vec<String>,
    /// Users of SCRAM, as `StorageTool format --add-scram` takes them.
    pub scram_users: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: 1,
            directory: None,
            security_protocol: "PLAINTEXT",
            settings: vec![],
            scram_users: vec![],
        }
    }
}

/// Brokers that run on this machine; killed when dropped.
pub struct Cluster {
    nodes: Vec<Node>,
    java: Java,
    directory: PathBuf,
    _scratch: Option<TempDir>,
}

impl Cluster {
    /// Starts brokers, and waits until clients can connect to all of them.
    ///
    /// # Errors
    /// What is missing on this machine, or why a broker has ended.
    pub fn start(options: Options) -> anyhow::Result<Self> {
        ensure!(options.nodes > 0, "expected one broker or more, found 0");
        let java = Java::find()?;
        let scratch = options.directory.is_none().then(TempDir::new).transpose()?;
        let directory = match (&options.directory, &scratch) {
            (Some(directory), _) => directory.clone(),
            (None, Some(scratch)) => scratch.path().to_owned(),
            (None, None) => unreachable!("without a directory there is a scratch directory"),
        };
        let nodes: Vec<Node> = (1..=options.nodes)
            .map(|id| Node::new(id, java.clone(), directory.join(format!("broker-{id}"))))
            .collect::<Result<_, _>>()?;
        let voters: Vec<String> = nodes
            .iter()
            .zip(1..)
            .map(|(node, id)| format!("{id}@127.0.0.1:{}", node.controller_port))
            .collect();
        let mut cluster = Self { nodes, java, directory, _scratch: scratch };
        for node in &mut cluster.nodes {
            node.format(&voters.join(","), options.nodes, &options)?;
            node.start()?;
        }
        cluster.await_up()?;
        Ok(cluster)
    }

    /// Addresses of the brokers, `host:port`.
    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(Node::address).collect()
    }

    /// Where the brokers keep their data.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Kafka's own programs.
    pub fn java(&self) -> &Java {
        &self.java
    }

    /// Ends a broker as a power cut would.
    pub fn kill(&mut self, index: usize) {
        self.nodes[index].kill();
    }

    /// Ends all brokers as a power cut would.
    pub fn kill_all(&mut self) {
        self.nodes.iter_mut().for_each(Node::kill);
    }

    /// Starts a broker that was killed, without waiting for it.
    ///
    /// # Errors
    /// Java cannot be started.
    pub fn start_node(&mut self, index: usize) -> anyhow::Result<()> {
        self.nodes[index].start()
    }

    /// Starts all brokers after [`Cluster::kill_all`], and waits for them.
    ///
    /// # Errors
    /// Why a broker has ended.
    pub fn start_all(&mut self) -> anyhow::Result<()> {
        self.nodes.iter_mut().try_for_each(Node::start)?;
        self.await_up()
    }

    /// Waits until clients can connect to all brokers.
    ///
    /// # Errors
    /// Why a broker has ended.
    pub fn await_up(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        for node in &mut self.nodes {
            while !node.is_up()? {
                ensure!(began.elapsed() < START_TIMEOUT, "{} does not listen", node.address());
                thread::sleep(LOOK_AGAIN);
            }
        }
        Ok(())
    }

    /// Stops a broker where it is (SIGSTOP).
    ///
    /// # Errors
    /// It does not run.
    pub fn pause(&self, index: usize) -> anyhow::Result<()> {
        self.nodes[index].signal(Signal::STOP)
    }

    /// Lets a paused broker go on (SIGCONT).
    ///
    /// # Errors
    /// It does not run.
    pub fn resume(&self, index: usize) -> anyhow::Result<()> {
        self.nodes[index].signal(Signal::CONT)
    }
}
