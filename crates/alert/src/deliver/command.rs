//! Programs that are started.

use std::{
    io,
    pin::pin,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStderr, ChildStdin, Command},
    time::timeout,
};

use super::Failure;
use crate::{labels::one_line, receiver::CommandConfig};

/// Longest part of what a program says on standard error that is shown, bytes.
const SHOWN_BYTES: usize = 500;
/// Wait for what a program said before it ended.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Starts the program, gives it `input`, and waits for it to end well. When the future is dropped
/// before, the program is killed with all that it started.
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
        let reason = format!("{} cannot be started: {error}", config.program.display());
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Failure::Final(reason),
            // The system may lack files, processes or memory for a moment, or the program may just
            // be being replaced.
            _ => Failure::retry(reason),
        }
    })?;
    let mut running = Running(child);
    let (stdin, stderr) = (running.0.stdin.take(), running.0.stderr.take());
    let mut said = Vec::new();
    let status = {
        let mut talk = pin!(async { tokio::join!(give(stdin, &input), hear(stderr, &mut said)) });
        tokio::select! {
            status = running.0.wait() => {
                // Whatever it left behind may hold both open for ever.
                let _ = timeout(LAST_WORDS, talk).await;
                status
            }
            _ = &mut talk => running.0.wait().await,
        }
    };
    judge(status.map_err(|error| Failure::retry(error.to_string()))?, &said)
}

/// Gives a program its input, which it need not read.
async fn give(stdin: Option<ChildStdin>, input: &str) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(input.as_bytes()).await;
    }
}

/// Reads what a program says to the end, so that it is not held up; kept is the beginning.
async fn hear(stderr: Option<ChildStderr>, said: &mut Vec<u8>) {
    let Some(mut stderr) = stderr else { return };
    let mut chunk = [0; 1_024];
    while let Ok(read @ 1..) = stderr.read(&mut chunk).await {
        let wanted = read.min(SHOWN_BYTES.saturating_sub(said.len()));
        said.extend_from_slice(&chunk[..wanted]);
    }
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

impl Drop for Running {
    fn drop(&mut self) {
        // None once it was waited for: its number may be another's by then.
        let id = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(group) = id {
            // It may have ended by itself.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
