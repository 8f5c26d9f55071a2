//! `thalweg top`: services and alerts on a terminal, live.

mod draw;
mod snapshot;

use std::{
    io::{IsTerminal as _, stdin, stdout},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use ratatui::{
    Terminal,
    backend::TermionBackend,
    termion::{
        event::Key, input::TermRead as _, raw::IntoRawMode as _, screen::IntoAlternateScreen as _,
    },
};
use tokio::{
    sync::mpsc,
    time::{Interval, MissedTickBehavior, timeout},
};

use self::{
    draw::{Shown, Sort},
    snapshot::Snapshot,
};
use crate::{cli::TopArgs, client::Client};

/// Longest wait for the server's answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) fn run(args: &TopArgs) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        stdin().is_terminal() && stdout().is_terminal(),
        "expected a terminal; in scripts, use `thalweg alerts` and `thalweg query`"
    );
    super::block_on(show(args))??;
    Ok(ExitCode::SUCCESS)
}

async fn show(args: &TopArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.server)?;
    let screen = stdout().into_raw_mode().context("the terminal")?.into_alternate_screen()?;
    let mut terminal = Terminal::new(TermionBackend::new(screen))?;
    terminal.hide_cursor()?;
    let outcome = follow(args, &client, &mut terminal).await;
    terminal.show_cursor()?;
    outcome
}

async fn follow<W: std::io::Write>(
    args: &TopArgs,
    client: &Client,
    terminal: &mut Terminal<TermionBackend<W>>,
) -> anyhow::Result<()> {
    let mut keys = keys();
    let mut ticks = tokio::time::interval(args.every.max(Duration::from_millis(100)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut shown = Shown { url: args.server.url.clone(), ..Shown::default() };
    loop {
        terminal.draw(|frame| shown.draw(frame))?;
        tokio::select! {
            snapshot = next(&mut ticks, client), if !shown.is_paused => match snapshot {
                Ok(snapshot) => (shown.snapshot, shown.error) = (snapshot, None),
                // The server may come back: what was known stays on the screen.
                Err(error) => shown.error = Some(format!("{error:#}")),
            },
            key = keys.recv() => match key {
                None | Some(Key::Char('q') | Key::Esc | Key::Ctrl('c')) => return Ok(()),
                Some(Key::Char('p')) => shown.is_paused = !shown.is_paused,
                Some(Key::Char('e')) => shown.sort = Sort::Events,
                Some(Key::Char('r')) => shown.sort = Sort::ErrorRate,
                Some(Key::Char('l')) => shown.sort = Sort::Latency,
                Some(_) => {}
            },
        }
    }
}

/// What the server says at the next tick. Keys are answered meanwhile, which drop this.
async fn next(ticks: &mut Interval, client: &Client) -> anyhow::Result<Snapshot> {
    ticks.tick().await;
    let snapshot = timeout(ANSWER_TIMEOUT, Snapshot::take(client)).await;
    snapshot.with_context(|| format!("the server gave no answer within {ANSWER_TIMEOUT:?}"))?
}

/// What is typed, read by a thread that ends with the process.
fn keys() -> mpsc::Receiver<Key> {
    let (send, keys) = mpsc::channel(16);
    std::thread::spawn(move || {
        for key in stdin().keys().map_while(Result::ok) {
            if send.blocking_send(key).is_err() {
                return;
            }
        }
    });
    keys
}
