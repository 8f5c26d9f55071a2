//! `thalweg check`: is this configuration right?

use std::{path::Path, process::ExitCode};

use crate::{
    cli::ConfigArgs,
    config::{self, Config},
};

pub(crate) fn run(file: &Path) -> anyhow::Result<ExitCode> {
    let mistakes = config::mistakes(&config::read(file)?);
    if mistakes.is_empty() {
        Config::load(&ConfigArgs { config: Some(file.to_owned()), ..Default::default() })?;
        println!("{}: ok", file.display());
        return Ok(ExitCode::SUCCESS);
    }
    for mistake in &mistakes {
        eprintln!("{}: {mistake}\n", file.display());
    }
    let s = if mistakes.len() == 1 { "" } else { "s" };
    eprintln!("{} mistake{s} found", mistakes.len());
    Ok(ExitCode::FAILURE)
}
