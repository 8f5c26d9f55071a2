//! `thalweg alerts`: what is wrong.

use std::{io::IsTerminal as _, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use arrow::{
    array::{ArrayRef, RecordBatch, StringArray},
    util::pretty::pretty_format_batches,
};
use serde::Deserialize;

use crate::{
    cli::{AlertsArgs, Output},
    client::Client,
};

/// How often the alerts are shown anew.
const SHOW_EVERY: Duration = Duration::from_secs(2);

/// What the server answers, as far as it is shown.
#[derive(Deserialize)]
struct Answer {
    alerts: Vec<Alert>,
    total: usize,
}

#[derive(Deserialize)]
struct Alert {
    state: String,
    severity: String,
    name: String,
    service: Option<String>,
    summary: String,
    value: Option<f64>,
    starts_at: String,
    ends_at: Option<String>,
}

pub(crate) fn run(args: &AlertsArgs) -> anyhow::Result<ExitCode> {
    super::block_on(show(args))??;
    Ok(ExitCode::SUCCESS)
}

async fn show(args: &AlertsArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.server)?;
    let mut drawn_lines = 0;
    loop {
        let text = alerts(&client, args).await?;
        if drawn_lines > 0 && std::io::stdout().is_terminal() {
            print!("\x1b[{drawn_lines}A\x1b[J");
        }
        println!("{text}");
        drawn_lines = text.lines().count();
        if !args.follow {
            return Ok(());
        }
        tokio::time::sleep(SHOW_EVERY).await;
    }
}

/// The alerts as they are now, in the format asked for.
async fn alerts(client: &Client, args: &AlertsArgs) -> anyhow::Result<String> {
    let state = args.state.iter().map(|state| ("state", state.clone())).collect::<Vec<_>>();
    let text = client.get("/api/v1/alerts", &state).await?.text().await?;
    if args.output == Output::Json {
        return Ok(text);
    }
    let answer: Answer =
        serde_json::from_str(&text).with_context(|| format!("unexpected answer: {text}"))?;
    let shown = answer.alerts.len();
    let rows = rows(&answer.alerts)?;
    if args.output == Output::Csv {
        return Ok(super::csv(&rows)?.trim_end().to_owned());
    }
    let s = if answer.total == 1 { "" } else { "s" };
    let more = if shown < answer.total { format!(", {shown} shown") } else { String::new() };
    Ok(format!("{}\n{} alert{s}{more}", pretty_format_batches(&[rows])?, answer.total))
}

fn rows(alerts: &[Alert]) -> anyhow::Result<RecordBatch> {
    let column = |text: fn(&Alert) -> String| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(alerts.iter().map(text)))
    };
    Ok(RecordBatch::try_from_iter([
        ("state", column(|alert| alert.state.clone())),
        ("severity", column(|alert| alert.severity.clone())),
        ("alert", column(|alert| alert.name.clone())),
        ("service", column(|alert| alert.service.clone().unwrap_or_default())),
        ("value", column(|alert| alert.value.map_or_else(String::new, |v| format!("{v:.4}")))),
        ("since", column(|alert| alert.starts_at.clone())),
        ("until", column(|alert| alert.ends_at.clone().unwrap_or_default())),
        ("summary", column(|alert| alert.summary.clone())),
    ])?)
}
