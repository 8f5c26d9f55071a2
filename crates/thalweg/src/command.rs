//! The commands, one module each.

mod alerts;
mod check;
mod completions;
mod demo;
mod doctor;
mod ingest;
mod log;
mod query;
mod replay;
mod schema;
mod serve;
mod tail;
mod token;
mod top;

use std::process::ExitCode;

use arrow::array::RecordBatch;

use crate::cli::{Cli, Command};

/// Runs the chosen command.
pub(crate) fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Serve(args) => serve::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Ingest(args) => ingest::run(&args),
        Command::Query(args) => query::run(&args),
        Command::Tail(args) => tail::run(&args),
        Command::Alerts(args) => alerts::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Topics(args) => log::topics(&args),
        Command::Groups(args) => log::groups(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Token(command) => token::run(&command),
        Command::Check { config } => check::run(&config),
        Command::Schema { kind } => schema::run(kind),
        Command::Doctor(args) => doctor::run(&args),
        Command::Completions { shell } => completions::run(shell),
    }
}

/// Rows as CSV, with their names in the first line.
fn csv(rows: &RecordBatch) -> anyhow::Result<String> {
    let mut csv = arrow::csv::Writer::new(Vec::new());
    csv.write(rows)?;
    Ok(String::from_utf8(csv.into_inner())?)
}

/// Runs a client command's future on a small runtime.
fn block_on<F: Future>(future: F) -> anyhow::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(future))
}
