//! The server under measurement: the release binary in a process of its own.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

/// Unit of CPU times in `/proc`: `USER_HZ` is 100 on every Linux that thalweg is built for.
const TICK_MILLIS: u64 = 10;
const COMMIT_TIMEOUT: Duration = Duration::from_secs(600);
/// Time without a change of the live files after which compaction is taken to be done.
const QUIET_TIME: Duration = Duration::from_secs(20);

pub(crate) struct BenchServer {
    process: Child,
    data: PathBuf,
    pub(crate) http: String,
}

impl BenchServer {
    pub(crate) fn start(data: &Path, settings: &[&str]) -> anyhow::Result<Self> {
        Self::start_with(data, &[], settings)
    }

    /// Starts it with further command line arguments and `--set`tings.
    pub(crate) fn start_with(
        data: &Path,
        arguments: &[&str],
        settings: &[&str],
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_thalweg"));
        command.args(["serve", "--data-dir"]).arg(data).args(arguments);
        let own = [
            "listen.http=127.0.0.1:0",
            "listen.otlp_grpc=127.0.0.1:0",
            "listen.syslog=127.0.0.1:0",
            "listen.postgres=127.0.0.1:0",
            "logging.json=true",
            "lake.maintenance_interval_secs=10",
        ];
        for setting in own.iter().chain(settings) {
            command.args(["--set", setting]);
        }
        let mut process = command.stderr(Stdio::piped()).spawn()?;
        let mut log = BufReader::new(process.stderr.take().context("stderr is piped")?).lines();
        let http = loop {
            let line = log.next().context("the server ended before it was ready")??;
            let record: Value = serde_json::from_str(&line).unwrap_or_default();
            if record["fields"]["message"] == "ready" {
                break format!(
                    "http://{}",
                    record["fields"]["http"].as_str().context("an address")?
                );
            }
        };
        std::thread::spawn(move || {
            log.map_while(Result::ok).for_each(|line| eprintln!("server: {line}"))
        });
        Ok(Self { process, data: data.to_owned(), http })
    }

    /// The answer to `sql`.
    pub(crate) async fn sql(&self, http: &reqwest::Client, sql: &str) -> anyhow::Result<Value> {
        let request = http.post(format!("{}/api/v1/sql", self.http));
        let answer = request.json(&json!({ "query": sql, "timeout_secs": 300 })).send().await?;
        let status = answer.status();
        let body = answer.text().await?;
        ensure!(status == 200, "{sql}: {status}: {body}");
        Ok(serde_json::from_str(&body)?)
    }

    /// Sum of the metric `name` over all its labels.
    pub(crate) async fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let text = reqwest::get(format!("{}/metrics", self.http)).await?.text().await?;
        let lines = text.lines().filter(|line| line.starts_with(name));
        let values = lines.map(|line| line.rsplit(' ').next().unwrap_or_default().parse::<f64>());
        Ok(values.sum::<Result<f64, _>>()?)
    }

    /// Most memory the process ever held.
    pub(crate) fn peak_memory_bytes(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
        let kib: u64 = peak.trim().trim_end_matches(" kB").parse()?;
        Ok(kib << 10)
    }

    /// CPU time that threads of this name have taken so far.
    pub(crate) fn cpu_of(&self, threads: &str) -> anyhow::Result<Duration> {
        let mut ticks = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.process.id()))? {
            let task = task?.path();
            // A thread may have ended since.
            let Ok(stat) = std::fs::read_to_string(task.join("stat")) else { continue };
            let (name, fields) = stat.rsplit_once(')').context("the name of a thread")?;
            if name.split_once('(').is_some_and(|(_, name)| name == threads) {
                // utime and stime, the 14th and 15th field of proc(5).
                let times = fields.split_whitespace().skip(11).take(2);
                ticks += times.map(str::parse::<u64>).sum::<Result<u64, _>>()?;
            }
        }
        Ok(Duration::from_millis(ticks * TICK_MILLIS))
    }

    /// Waits until the Delta table's files hold `rows` rows.
    pub(crate) fn wait_until_committed(&self, rows: u64) -> anyhow::Result<()> {
        let start = Instant::now();
        while crate::questions::committed_rows(&self.table())? < rows {
            ensure!(start.elapsed() < COMMIT_TIMEOUT, "the rows are still not committed");
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// Waits until the set of live files rests.
    pub(crate) fn wait_until_compacted(&self) -> anyhow::Result<()> {
        let (mut files, mut since) = (Vec::new(), Instant::now());
        while since.elapsed() < QUIET_TIME {
            let now = crate::questions::live_files(&self.table())?;
            if now != files {
                (files, since) = (now, Instant::now());
            }
            std::thread::sleep(Duration::from_secs(1));
        }
        println!("{:<44} {:>8}", "files in the Delta table", files.len());
        Ok(())
    }

    fn table(&self) -> PathBuf {
        self.data.join("lake/logs")
    }

    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        Command::new("kill").arg(self.process.id().to_string()).status()?;
        ensure!(self.process.wait()?.success(), "the server did not stop gracefully");
        Ok(())
    }
}

impl Drop for BenchServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
