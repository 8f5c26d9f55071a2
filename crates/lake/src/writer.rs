//! Drains the log into the table, each row exactly once.
//!
//! The Delta commit that adds files also says which offsets they cover. The writer starts from
//! what the table says and nothing else, so that a crash before the commit leaves only files
//! nobody knows of, and a crash after it leaves nothing to repeat. The same holds where several
//! processes share the log: each drains the partitions that it owns, and when two think that they own
//! one, the table refuses the commit of the slower, which starts again from what the table says.

use std::sync::{Arc, atomic::Ordering::Relaxed};
use std::time::Duration;

use arrow::array::RecordBatch;
use futures::StreamExt;
use futures::stream::select_all;
use thalweg_log::{Entry, LogError, TopicPartition};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::background;
use crate::conform::{batch_bytes, conform};
use crate::delta::Change;
use crate::encode::write_files;
use crate::error::{LakeError, Result};
use crate::snapshot::{Offsets, Snapshot};
use crate::table::{Table, stopped};

/// Wait after the first failure; doubles up to [`MAX_RETRY_DELAY`].
pub(crate) const MIN_RETRY_DELAY: Duration = Duration::from_millis(200);
pub(crate) const MAX_RETRY_DELAY: Duration = Duration::from_secs(30);
/// How long rows may have waited in the log while encoding gives way to taking in more; beyond that,
/// it takes its share.
const MAX_WAIT_MILLIS: i64 = 20_000;
/// How long offsets without rows wait for some to be committed with.
const NO_ROWS_PATIENCE: Duration = Duration::from_secs(60);

/// Rows on their way into the table.
struct Buffer {
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
    /// What the table covers before the buffer is committed.
    from: Offsets,
    /// What it covers afterwards.
    offsets: Offsets,
    /// Whether `offsets` says more than the table does.
    moved: bool,
    /// When it is to be committed, at the latest.
    due: Option<Instant>,
}

/// Why draining ended without an error.
enum Ended {
    Stopped,
    /// Partitions have to be read from another offset, or others have to be read.
    Moved,
}

/// Drains until `stop` says so. Never gives up: what the table refuses stays in the log.
pub(crate) async fn run(table: Arc<Table>, mut stop: watch::Receiver<bool>) {
    let name = &table.spec.name;
    let mut delay = MIN_RETRY_DELAY;
    loop {
        let version = table.snapshots.current().version;
        let is_shared = table.log.ownership().is_shared();
        match drain(&table, &mut stop).await {
            Ok(Ended::Stopped) => return,
            Ok(Ended::Moved) => continue,
            Err(LakeError::Overtaken(_)) if is_shared => {
                tracing::debug!(table = name, "another process has put the same rows into it");
                continue;
            }
            Err(error) => {
                metrics::counter!("thalweg_lake_commit_failures_total", "table" => name.clone())
                    .increment(1);
                tracing::error!(table = name, %error, retry_after = ?delay, "rows stay in the log");
            }
        }
        if table.snapshots.current().version > version {
            delay = MIN_RETRY_DELAY;
        }
        tokio::select! {
            () = sleep(delay) => delay = (delay * 2).min(MAX_RETRY_DELAY),
            () = stopped(&mut stop) => return,
        }
    }
}

async fn drain(table: &Table, stop: &mut watch::Receiver<bool>) -> Result<Ended> {
    // What an attempt before has read is read again.
    table.oldest_unix_millis.store(0, Relaxed);
    let mut ownership = table.log.ownership();
    if ownership.is_shared() {
        table.refresh().await?;
    }
    let mut offsets = table.snapshots.current().offsets.clone();
    offsets.retain(|at, _| ownership.owns(at));
    let is_idle = offsets.is_empty();
    let entries = offsets.iter().map(|(at, &from)| {
        let place = at.clone();
        table.log.tail(at.clone(), from).map(move |entry| (place.clone(), entry)).boxed()
    });
    let mut entries = select_all(entries);
    let mut buffer = Buffer::new(offsets);
    loop {
        let due = buffer.due;
        tokio::select! {
            biased;
            () = stopped(stop) => {
                flush(table, &mut buffer).await?;
                return Ok(Ended::Stopped);
            }
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                flush(table, &mut buffer).await?;
            }
            () = ownership.changed() => {
                let is_drained = |at: &TopicPartition| buffer.offsets.contains_key(at);
                let current = table.snapshots.current();
                if current.offsets.keys().any(|at| ownership.owns(at) != is_drained(at)) {
                    flush(table, &mut buffer).await?;
                    return Ok(Ended::Moved);
                }
            }
            entry = entries.next(), if !is_idle => match entry {
                Some((at, Ok(entry))) => buffer.push(table, at, entry),
                Some((at, Err(LogError::OffsetOutOfRange { start, offset, .. })))
                    if offset < start =>
                {
                    skip_lost(table, &at, offset, start);
                    buffer.advance(at, start);
                    flush(table, &mut buffer).await?;
                    return Ok(Ended::Moved);
                }
                Some((_, Err(error))) => return Err(error.into()),
                None => return Err(LakeError::Stopped("log".into())),
            },
            () = table.flush_now.notified() => flush(table, &mut buffer).await?,
        }
        if buffer.rows >= table.config.flush_rows || buffer.bytes >= table.config.flush_bytes {
            flush(table, &mut buffer).await?;
        }
    }
}

/// Commits the buffer. The batches are gone when it fails; the log has them.
async fn flush(table: &Table, buffer: &mut Buffer) -> Result<()> {
    if !buffer.moved {
        return Ok(());
    }
    let started = Instant::now();
    let Buffer { batches, rows, from, mut offsets, .. } =
        std::mem::replace(buffer, Buffer::new(buffer.offsets.clone()));
    // Of partitions that others drain by now, nothing is said.
    offsets.retain(|at, offset| from.get(at) != Some(offset));
    let (root, spec) = (table.root.clone(), Arc::clone(&table.spec));
    let config = table.config.clone();
    let write = move || write_files(&root, &spec, &config, &batches);
    // Senders wait for what encoding would take from them; rows in the log are safe, and seen.
    let gives_way = table.waited_millis() < MAX_WAIT_MILLIS;
    let files = background::run(gives_way, write).await;
    let files = files.ok_or_else(|| LakeError::Stopped("encoder".into()))??;
    let bytes: u64 = files.iter().map(|file| file.size_bytes).sum();
    let add = files.into_iter().map(Arc::new).collect();
    // Rows that are in the table by now, from an attempt that seemed to fail, must not come twice.
    let change = |current: &Snapshot| {
        let covers = offsets.keys().all(|at| current.offsets.get(at) == from.get(at));
        covers.then_some(Change { add, remove: vec![], offsets, data_change: true })
    };
    if !table.commit(change).await? {
        return Err(LakeError::Overtaken(table.spec.name.clone()));
    }
    let label = || [("table", table.spec.name.clone())];
    metrics::counter!("thalweg_lake_rows_committed_total", &label()).increment(rows as u64);
    metrics::counter!("thalweg_lake_bytes_committed_total", &label()).increment(bytes);
    metrics::histogram!("thalweg_lake_commit_seconds", &label()).record(started.elapsed());
    table.oldest_unix_millis.store(0, Relaxed);
    Ok(())
}

/// The log has dropped rows that the table has not got: possible only when its files are lost.
fn skip_lost(table: &Table, at: &TopicPartition, offset: u64, start: u64) {
    let table = table.spec.name.clone();
    tracing::error!(table, %at, offset, start, "the log lost rows before they reached the table");
    metrics::counter!("thalweg_lake_lost_offsets_total", "table" => table)
        .increment(start.saturating_sub(offset));
}

impl Buffer {
    fn new(offsets: Offsets) -> Self {
        Self {
            batches: vec![],
            rows: 0,
            bytes: 0,
            from: offsets.clone(),
            offsets,
            moved: false,
            due: None,
        }
    }

    /// Takes the rows of `entry` that are not in the table. Rows that cannot be given the
    /// table's columns are passed over, loudly: they would stop all rows behind them.
    fn push(&mut self, table: &Table, at: TopicPartition, entry: Entry) {
        let from = self.offsets.get(&at).copied().unwrap_or(entry.offset);
        let batch = entry.after(from);
        let rows = batch.num_rows();
        let mut patience = Duration::from_millis(table.config.flush_interval_ms);
        if rows == 0 {
            patience = patience.max(NO_ROWS_PATIENCE);
        }
        match conform(batch, &table.spec.schema) {
            Ok(batch) if rows > 0 => {
                self.rows += rows;
                self.bytes += batch_bytes(&batch);
                self.batches.push(batch);
            }
            Ok(_) => {}
            Err(error) => {
                let table = table.spec.name.clone();
                let offset = entry.offset;
                tracing::error!(table, %at, offset, rows, %error, "rows do not fit the table");
                metrics::counter!("thalweg_lake_unfit_rows_total", "table" => table)
                    .increment(rows as u64);
            }
        }
        let appended = entry.append_unix_millis;
        let older = |oldest| (oldest == 0 || appended < oldest).then_some(appended);
        if rows > 0 {
            let _ = table.oldest_unix_millis.fetch_update(Relaxed, Relaxed, older);
        }
        let due = Instant::now() + patience;
        self.due = Some(self.due.map_or(due, |known| known.min(due)));
        self.advance(at, entry.next_offset);
    }

    fn advance(&mut self, at: TopicPartition, next: u64) {
        self.offsets.insert(at, next);
        self.moved = true;
    }
}
