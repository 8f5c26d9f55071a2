//! Programs that are started.

use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, Command},
};

use super::Failure;
use crate::{labels::one_line, receiver::CommandConfig};

/// Longest part of what a program says on standard error that is shown, bytes.
const SHOWN_BYTES: usize = 500;

/// Starts the program, gives it `input`, and waits for it to end well. When the future is dropped
/// the program is killed with all that it started.
pub(super) async fn run(config: &CommandConfig, input: String) -> Result<(), Failure> {
    let mut command = Command::new(&config.program);
    command
        .args(&config.arguments)
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .envs(&config.environment)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .process_group(0)
        // Reaps it too, in the background.
        .kill_on_drop(true);
    let child = command.spawn().map_err(|error| {
        Failure::Final(format!("{} cannot be started: {error}", config.program.display()))
    })?;
    let mut running = Running(child);
    let (stdin, stderr) = (running.0.stdin.take(), running.0.stderr.take());
    let give = async {
        if let Some(mut stdin) = stdin {
            // A program need not read it.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
    };
    let hear = async {
        let mut said = Vec::new();
        if let Some(mut stderr) = stderr {
            let mut chunk = [0; 1_024];
            // Read to the end, so that the program is not held up; kept is the beginning.
            while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
                let wanted = read.min(SHOWN_BYTES.saturating_sub(said.len()));
                said.extend_from_slice(&chunk[..wanted]);
            }
        }
        said
    };
    let ended = async {
        let status = running.0.wait().await;
        // What it left behind would hold its standard error open.
        running.kill_group();
        status
    };
    let ((), said, status) = tokio::join!(give, hear, ended);
    judge(status.map_err(|error| Failure::retry(error.to_string()))?, &said)
}

fn judge(status: ExitStatus, said: &[u8]) -> Result<(), Failure> {
    if status.success() {
        return Ok(());
    }
    let said = one_line(String::from_utf8_lossy(said).trim(), SHOWN_BYTES);
    Err(Failure::retry(format!(
        "ended with {status}{}{said}",
        if said.is_empty() { "" } else { ": " }
    )))
}

/// A program that is not left running.
struct Running(Child);

impl Running {
    fn kill_group(&self) {
        // `id` is none once it was waited for: its number may be another's by then.
        let id = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(group) = id {
            // It may have ended by itself.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill_group();
    }
}
