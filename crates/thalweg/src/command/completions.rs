//! `thalweg completions`: completion scripts for shells.

use std::process::ExitCode;

use clap::CommandFactory as _;

use crate::cli::Cli;

pub(crate) fn run(shell: clap_complete::Shell) -> anyhow::Result<ExitCode> {
    clap_complete::generate(shell, &mut Cli::command(), "thalweg", &mut std::io::stdout());
    Ok(ExitCode::SUCCESS)
}
