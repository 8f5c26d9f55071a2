//! One binary for logs, from the wire to a SQL answer.
//!
//! This crate is the only one that knows all others: it reads the configuration, wires the
//! engines together, serves them, and is the command line.
//!
//! ```text
//! cli ─▶ command::serve ─▶ server ─┬▶ ingest ─▶ log ─▶ lake ─▶ query
//!        command::demo  ─▶ server  └▶ health, metrics, openapi
//!        command::{ingest,query,tail} ─▶ client ─▶ a running server
//! ```

mod alerts;
mod audit;
mod cli;
mod client;
mod command;
mod config;
mod config_api;
mod demo;
mod format_api;
mod health;
mod identity_api;
mod log_api;
mod metrics_table;
mod node_log;
mod openapi;
mod replay_api;
mod replays;
mod server;
mod sources;
mod tables;
mod telemetry;
mod views;

use std::{ffi::OsString, process::ExitCode};

pub use demo::shop;

/// Runs the command line `args` (the first is the program's name).
///
/// Exit codes: 0 success, 1 failure, 2 usage.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match <cli::Cli as clap::Parser>::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    match command::run(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
