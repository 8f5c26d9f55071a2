//! The task that mines: entries in, signals out, a saved state every ten seconds.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimestampMicrosecondType};
use futures::StreamExt;
use thalweg_event::schema::{column, dictionary_type};
use thalweg_log::{HandOver, Log, LogError, Offset, TopicPartition, lock_file};
use thalweg_template::Signal;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{Mined, TEMPLATE_SIGNALS, Templates, saved, template_signals_schema};
use crate::error::Result;
use crate::stream::Stream;
use crate::task::{entries, now};

const SAVE_EVERY: Duration = Duration::from_secs(10);
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// How often a process that does not mine looks for what was learnt.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Held by the process that mines.
const LOCK_FILE: &str = "templates.lock";
/// Consumer group of the task.
const GROUP: &str = "templates";

pub(super) struct Keeper {
    pub(super) templates: Arc<Templates>,
    pub(super) directory: PathBuf,
    pub(super) logs: Stream,
    pub(super) log: Arc<dyn Log>,
    pub(super) cursors: BTreeMap<TopicPartition, Offset>,
    pub(super) stop: CancellationToken,
}

impl Keeper {
    pub(super) async fn run(mut self) {
        if !self.log.ownership().is_shared() {
            return self.keep_mining().await;
        }
        let stop = self.stop.clone();
        while !stop.is_cancelled() {
            let Some(_lock) = stop.run_until_cancelled(self.turn()).await else { return };
            self.keep_mining().await;
        }
    }

    /// Resolves when it is this process' turn to mine, for as long as the file is held. Until then it
    /// has what others have kept.
    async fn turn(&mut self) -> File {
        let ownership = self.log.ownership();
        let mut kept_at = saved::kept_at(&self.directory);
        let mut hand_over = HandOver::default();
        loop {
            let is_owned =
                tokio::time::timeout(LOOK_EVERY, ownership.until(&place(), true)).await.is_ok();
            let lock = match is_owned {
                true => lock_file(&self.directory.join(LOCK_FILE)).map_err(fjall::Error::Io),
                false => Ok(None),
            };
            let latest = saved::kept_at(&self.directory);
            let is_news = std::mem::replace(&mut kept_at, latest) != latest;
            let taken = match lock {
                Ok(lock @ Some(_)) => self.load().await.map(|()| lock),
                Ok(None) if is_news => self.load().await.map(|()| None),
                lock => lock.map_err(Into::into),
            };
            match taken {
                Ok(Some(lock)) => return lock,
                Ok(None) if !is_owned => continue,
                Ok(None) => hand_over.waits("templates"),
                Err(error) => tracing::error!(%error, "what was learnt of templates"),
            }
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }

    async fn load(&mut self) -> Result<()> {
        let (directory, logs) = (self.directory.clone(), self.logs.clone());
        let log = Arc::clone(&self.log);
        let (mined, cursors) =
            blocking(move || saved::load(&directory, &logs, log.as_ref())).await?;
        *self.templates.mined.lock() = mined;
        self.cursors = cursors;
        Ok(())
    }

    /// Mines until it is stopped or another process' turn.
    async fn keep_mining(&mut self) {
        while let Err(error) = self.mine().await {
            tracing::error!(%error, "templates are not mined; retrying in {RETRY_DELAY:?}");
            if self.stop.run_until_cancelled(tokio::time::sleep(RETRY_DELAY)).await.is_none() {
                return;
            }
            for (at, cursor) in &mut self.cursors {
                let start = self.log.offsets(at.clone()).map_or(0, |offsets| offsets.start);
                *cursor = start.max(*cursor);
            }
        }
    }

    async fn mine(&mut self) -> Result<()> {
        let mut entries = entries(self.log.as_ref(), &self.cursors);
        let mut ticks = interval(SAVE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_changed = false;
        let (stop, ownership, place) = (self.stop.clone(), self.log.ownership(), place());
        let mut is_left = pin!(async {
            tokio::select! {
                () = stop.cancelled() => {}
                () = ownership.until(&place, false) => {}
            }
        });
        loop {
            let mut signals = vec![];
            tokio::select! {
                biased;
                () = &mut is_left => return self.save(is_changed).await,
                _ = ticks.tick() => {
                    signals = self.templates.mined.lock().watch.advance(now().unix_micros);
                    self.save(is_changed).await?;
                    is_changed = false;
                }
                Some((at, entry)) = entries.next() => {
                    let entry = entry?;
                    let cursor = self.cursors.get(&at).copied().unwrap_or(0);
                    if entry.next_offset > cursor {
                        let (templates, rows) =
                            (Arc::clone(&self.templates), entry.after(cursor));
                        let count = move || count(&mut templates.mined.lock(), &rows);
                        signals = blocking(count).await?;
                        self.cursors.insert(at, entry.next_offset);
                        is_changed = true;
                    }
                }
            }
            self.tell(&signals).await?;
        }
    }

    async fn save(&self, is_changed: bool) -> Result<()> {
        if !is_changed {
            return Ok(());
        }
        let (templates, directory) = (Arc::clone(&self.templates), self.directory.clone());
        let cursors = self.cursors.clone();
        let save = move || saved::save(&directory, &templates.mined.lock(), &cursors);
        blocking(save).await.map_err(fjall::Error::Io)?;
        for (at, cursor) in &self.cursors {
            self.log.commit(GROUP, at.clone(), *cursor).await?;
        }
        Ok(())
    }

    /// Signals are told at least once: those of the last seconds before a crash again.
    async fn tell(&self, signals: &[Signal]) -> Result<(), LogError> {
        if signals.is_empty() {
            return Ok(());
        }
        let rows = rows(&self.templates.mined.lock(), signals);
        self.log.append(place(), rows).await.map(drop)
    }
}

/// Where signals go to; who owns it mines.
fn place() -> TopicPartition {
    TopicPartition::new(TEMPLATE_SIGNALS, 0)
}

/// Runs `work` where it holds up nobody who takes in events.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going down, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Counts the messages of a batch of logs.
fn count(mined: &mut Mined, rows: &RecordBatch) -> Result<Vec<Signal>> {
    let (Some(messages), Some(times)) =
        (rows.column_by_name(column::MESSAGE), rows.column_by_name(column::TIMESTAMP))
    else {
        return Ok(vec![]);
    };
    let messages = cast(messages, &DataType::Utf8)?;
    let messages = messages.as_string::<i32>();
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let mut signals = vec![];
    for (n, message) in messages.iter().enumerate() {
        if let Some(message) = message {
            let template = mined.observe(message);
            signals.extend(mined.watch.record(template, times.value(n)));
        }
    }
    Ok(signals)
}

fn rows(mined: &Mined, signals: &[Signal]) -> RecordBatch {
    let parts = signals.iter().map(|signal| match signal {
        Signal::New { template, at } => ("new", *template, *at, None, None),
        Signal::RateChanged { template, at, before, now, .. } => {
            ("rate_changed", *template, *at, Some(*before), Some(i64::from(*now)))
        }
    });
    let parts: Vec<_> = parts.collect();
    let texts = parts.iter().map(|(_, id, ..)| {
        mined.miner.template(*id).map_or_else(String::new, |template| template.to_string())
    });
    let kinds: ArrayRef = Arc::new(StringArray::from_iter_values(parts.iter().map(|p| p.0)));
    let times = TimestampMicrosecondArray::from_iter_values(parts.iter().map(|p| p.2));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(times.with_timezone("UTC")),
        cast(&kinds, &dictionary_type()).expect("text goes into a dictionary"),
        Arc::new(StringArray::from_iter_values(parts.iter().map(|p| p.1.to_string()))),
        Arc::new(StringArray::from_iter_values(texts)),
        Arc::new(parts.iter().map(|p| p.3).collect::<Float64Array>()),
        Arc::new(parts.iter().map(|p| p.4).collect::<Int64Array>()),
    ];
    RecordBatch::try_new(template_signals_schema(), columns)
        .expect("columns are in the order of the schema")
}
