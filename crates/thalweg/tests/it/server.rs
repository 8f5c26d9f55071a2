//! A real `thalweg serve` process on ports of its own.

use std::{
    ffi::OsString,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

use serde_json::Value;

/// Longest start, recovery included, in a debug build on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(150);

/// A running server; killed when dropped.
pub(crate) struct Server {
    process: Child,
    pub(crate) http: String,
    pub(crate) otlp_grpc: String,
    pub(crate) syslog: String,
    pub(crate) postgres: String,
}

/// An optimised binary to test in place of the one built with the tests.
const OPTIMISED: &str = "THALWEG_OPTIMISED";

/// Whether the binary under test is an optimised one.
pub(crate) fn is_optimised() -> bool {
    std::env::var_os(OPTIMISED).is_some()
}

/// The binary under test.
pub(crate) fn binary() -> OsString {
    std::env::var_os(OPTIMISED).unwrap_or_else(|| env!("CARGO_BIN_EXE_thalweg").into())
}

/// The `thalweg` command, without the caller's configuration.
pub(crate) fn thalweg() -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("THALWEG_")) {
        command.env_remove(name);
    }
    command
}

/// What a demonstration prints that must succeed.
pub(crate) fn demonstrate(arguments: &[&str]) -> String {
    let mut command = thalweg();
    command.arg("demo").args(arguments);
    for listen in ["http", "otlp_grpc", "syslog", "postgres"] {
        command.args(["--set", &format!("listen.{listen}=127.0.0.1:0")]);
    }
    let output = command.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    printed
}

/// Has the demonstration check itself through an incident.
pub(crate) fn demonstrate_incident(arguments: &[&str]) {
    let mut all = vec!["--for", "45s", "--rate", "100"];
    all.extend(arguments);
    let printed = demonstrate(&all);
    for part in [
        "── incident: ",
        "── incident over ──",
        "0 missing, 0 repeated",
        "exactly once",
        "the alert named payment and nobody else",
    ] {
        assert!(printed.contains(part), "`{part}` is not in {printed}");
    }
}

/// Status and text of the answer to a `POST` of JSON.
pub(crate) fn post(url: &str, body: &str) -> (u16, String) {
    let request = reqwest::Client::new().post(url).header("content-type", "application/json");
    answer(request.body(body.to_owned()))
}

/// Text of the successful answer to a `GET`.
pub(crate) fn get(url: &str) -> String {
    let (status, text) = answer(reqwest::Client::new().get(url));
    assert_eq!(status, 200, "{url}: {text}");
    text
}

/// Status and text of the answer to a request.
pub(crate) fn answer(request: reqwest::RequestBuilder) -> (u16, String) {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    })
}

impl Server {
    /// Starts a server over `data_dir` with further `--set`tings.
    pub(crate) fn start(data_dir: &Path, settings: &[&str]) -> Self {
        Self::start_with(data_dir, None, settings)
    }

    /// Starts a server with a configuration file.
    pub(crate) fn start_with(data_dir: &Path, config: Option<&Path>, settings: &[&str]) -> Self {
        let mut command = thalweg();
        command.args(["serve", "--data-dir"]).arg(data_dir);
        if let Some(config) = config {
            command.arg("--config").arg(config);
        }
        for listen in ["http", "otlp_grpc", "syslog", "postgres"] {
            command.args(["--set", &format!("listen.{listen}=127.0.0.1:0")]);
        }
        command.args(["--set", "logging.json=true"]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        let mut process = command.stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
        let log = BufReader::new(process.stderr.take().unwrap());
        let (send, ready) = mpsc::channel();
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                let fields =
                    serde_json::from_str::<Value>(&line).map(|mut json| json["fields"].take());
                match fields {
                    Ok(fields) if fields["message"] == "ready" => drop(send.send(fields)),
                    _ => eprintln!("server: {line}"),
                }
            }
        });
        let fields = ready.recv_timeout(START_TIMEOUT).expect("the server says that it is ready");
        let address = |name: &str| fields[name].as_str().unwrap().to_owned();
        Self {
            process,
            http: format!("http://{}", address("http")),
            otlp_grpc: address("otlp_grpc"),
            syslog: address("syslog"),
            postgres: address("postgres"),
        }
    }

    /// The most memory that the server has used so far, bytes.
    pub(crate) fn peak_memory_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        kib * 1024
    }

    /// Ends the server as a power cut would.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Asks the server to stop (SIGTERM) and waits until it has.
    pub(crate) fn stop(mut self) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(self.process.wait().unwrap().success(), "a graceful stop exits with 0");
    }

    /// The rows that answer `sql`, as CSV lines without the header.
    pub(crate) fn sql(&self, sql: &str) -> Vec<String> {
        let output = self.run(["query", "--output", "csv", sql]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        text.lines().skip(1).map(str::to_owned).collect()
    }

    /// Runs a client command against this server.
    pub(crate) fn run<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Output {
        thalweg().env("THALWEG_URL", &self.http).args(args).output().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
