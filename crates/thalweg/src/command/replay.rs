//! `thalweg replay`: a view or a table begun anew from a time on.

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    cli::ReplayArgs,
    client::Client,
    replay_api::{ReplayRequest, ReplayState, ReplayStatus},
};

/// Pause between questions to the server.
const ASK_EVERY: Duration = Duration::from_millis(300);

/// Begins a replay and, unless told not to, waits until the new version answers.
pub(crate) fn run(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    super::block_on(replay(args))?
}

async fn replay(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.server)?;
    let path = format!("/api/v1/replays/{}", args.name);
    let request = ReplayRequest { from: args.from.clone(), allow_fewer: args.allow_fewer };
    let mut status = read(client.post_json(&path, &request).await?).await?;
    let later =
        "it goes on on the server; `SELECT` answers from the former version until it is done";
    if args.no_wait {
        println!("{} is replayed from {}: {later}", status.name, status.from);
        return Ok(ExitCode::SUCCESS);
    }
    let style = ProgressStyle::with_template("{spinner} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    let bar = ProgressBar::new_spinner().with_style(style);
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        bar.set_message(told(&status));
        bar.tick();
        match status.state {
            ReplayState::Done => {
                bar.finish_and_clear();
                println!(
                    "{} was replayed from {}; the new version answers",
                    status.name, status.from
                );
                return Ok(ExitCode::SUCCESS);
            }
            ReplayState::Failed => {
                bar.finish_and_clear();
                let why = status.fault.unwrap_or_default();
                anyhow::bail!("{} was not replayed and answers as before: {why}", status.name);
            }
            ReplayState::ReadingHistory | ReplayState::CatchingUp => {}
        }
        tokio::select! {
            () = tokio::time::sleep(ASK_EVERY) => {}
            _ = &mut interrupted => {
                bar.finish_and_clear();
                println!("no longer waiting: {later}");
                return Ok(ExitCode::SUCCESS);
            }
        }
        let asked = client.get(&path, &[]).await;
        status = read(asked.context("the replay goes on when the server does")?).await?;
    }
}

async fn read(answer: reqwest::Response) -> anyhow::Result<ReplayStatus> {
    let text = answer.text().await?;
    serde_json::from_str(&text).with_context(|| format!("unexpected answer: {text}"))
}

fn told(status: &ReplayStatus) -> String {
    let rows = status.rows.unwrap_or(0);
    let lag = status.lag.map(|lag| format!(", {lag} offsets of the log to read"));
    let stage = format!("{rows} rows read{}", lag.unwrap_or_default());
    let fault = status.fault.as_ref().map(|fault| format!("; trying again after: {fault}"));
    format!("{} from {}: {stage}{}", status.name, status.from, fault.unwrap_or_default())
}
