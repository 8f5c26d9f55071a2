//! Peers that are measured through Python, each in a process of its own.

use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::Value;

/// What `clients/{script}` prints, run by the interpreter that the environment variable names.
pub(crate) fn run(interpreter: &str, script: &str, argument: &str) -> anyhow::Result<Value> {
    let python = std::env::var(interpreter)
        .with_context(|| format!("{interpreter} is not set; use `make bench`"))?;
    let script = format!("../../clients/{script}");
    let output = Command::new(python).args([&script, argument]).output()?;
    ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}
