//! One broker, which is a controller too.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    ops::Range,
    path::PathBuf,
    process::Child,
};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::{cluster::Options, java::Java};

/// Heap of a broker.
const HEAP_MIB: usize = 320;
/// Heap of a tool.
const TOOL_HEAP_MIB: usize = 128;
/// Ports below those that Linux gives to clients (`ip_local_port_range`).
const PORTS: Range<u16> = 15_000..32_000;
/// How many of them are tried.
const PORT_ATTEMPTS: usize = 100;
/// Name of the cluster: 16 bytes, as Kafka writes UUIDs.
const CLUSTER_ID: &str = "dGhhbHdlZy10ZXN0LTAwMQ";

/// A broker that runs or does not.
pub(crate) struct Node {
    id: usize,
    java: Java,
    directory: PathBuf,
    pub(crate) port: u16,
    pub(crate) controller_port: u16,
    process: Option<Child>,
}

impl Node {
    /// A node that is yet to be formatted and started.
    pub(crate) fn new(id: usize, java: Java, directory: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir_all(&directory)?;
        let (port, controller_port) = (free_port()?, free_port()?);
        Ok(Self { id, java, directory, port, controller_port, process: None })
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Writes the node's settings, and prepares its directory.
    pub(crate) fn format(
        &self,
        voters: &str,
        nodes: usize,
        options: &Options,
    ) -> anyhow::Result<()> {
        let replicas = nodes.min(3);
        let in_sync = if nodes >= 3 { 2 } else { 1 };
        let (id, port, controller_port) = (self.id, self.port, self.controller_port);
        let data = self.directory.join("data");
        let protocol = options.security_protocol;
        let settings = format!(
            "process.roles=broker,controller\n\
             node.id={id}\n\
             controller.quorum.voters={voters}\n\
             listeners=CLIENT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}\n\
             advertised.listeners=CLIENT://127.0.0.1:{port}\n\
             listener.security.protocol.map=CLIENT:{protocol},CONTROLLER:PLAINTEXT\n\
             controller.listener.names=CONTROLLER\n\
             inter.broker.listener.name=CLIENT\n\
             log.dirs={}\n\
             offsets.topic.replication.factor={replicas}\n\
             offsets.topic.num.partitions=4\n\
             transaction.state.log.replication.factor={replicas}\n\
             transaction.state.log.min.isr={in_sync}\n\
             min.insync.replicas={in_sync}\n\
             group.initial.rebalance.delay.ms=0\n\
             auto.create.topics.enable=false\n\
             broker.heartbeat.interval.ms=500\n\
             broker.session.timeout.ms=3000\n\
             replica.lag.time.max.ms=5000\n\
             num.network.threads=2\n\
             num.io.threads=4\n\
             log.cleaner.dedupe.buffer.size=4194304\n\
             {}\n",
            data.display(),
            options.settings.join("\n"),
        );
        let file = self.directory.join("server.properties");
        fs::write(&file, settings)?;
        let mut format = self.java.command(TOOL_HEAP_MIB, "kafka.tools.StorageTool");
        format.args(["format", "--cluster-id", CLUSTER_ID, "--config"]).arg(&file);
        for user in &options.scram_users {
            format.args(["--add-scram", user]);
        }
        let output = format.output().context("java")?;
        ensure!(
            output.status.success(),
            "formatting {}: {}{}",
            data.display(),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    pub(crate) fn start(&mut self) -> anyhow::Result<()> {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.join("broker.log"))?;
        let mut server = self.java.command(HEAP_MIB, "kafka.Kafka");
        server.arg(self.directory.join("server.properties"));
        server.stdout(log.try_clone()?).stderr(log);
        self.process = Some(server.spawn().context("java")?);
        Ok(())
    }

    /// Whether clients can connect; an error with the end of the log when the process has ended.
    pub(crate) fn is_up(&mut self) -> anyhow::Result<bool> {
        let ended = self.process.as_mut().map(Child::try_wait).transpose()?.flatten();
        if let Some(status) = ended {
            let log = fs::read_to_string(self.directory.join("broker.log")).unwrap_or_default();
            let end: Vec<&str> = log.lines().rev().take(30).collect();
            let end: Vec<&str> = end.into_iter().rev().collect();
            anyhow::bail!("broker {} has ended ({status}):\n{}", self.id, end.join("\n"));
        }
        Ok(TcpStream::connect(("127.0.0.1", self.port)).is_ok())
    }

    /// Ends the broker as a power cut would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Stops or goes on, without the broker noticing.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let process = self.process.as_ref().context("the broker does not run")?;
        let pid = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.context("a process has an id")?, signal)?;
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that nobody listens on, and that no client is given for its end of a connection: it must
/// still be free when the broker is started again.
fn free_port() -> anyhow::Result<u16> {
    let candidates = std::iter::repeat_with(|| fastrand::u16(PORTS)).take(PORT_ATTEMPTS);
    let mut free = candidates.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.next().with_context(|| format!("no free port in {PORTS:?}"))
}
