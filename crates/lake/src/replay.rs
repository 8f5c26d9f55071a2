//! The part of a table from a time on, made anew from the log.
//!
//! ```text
//!                        the time
//! files before ─────────┐   │                 ┌ files that the writer commits meanwhile
//! files across it: rows before ┐              │
//!                              ├─▶ new version ┘
//! log: rows at and after it ───┘
//! ```
//!
//! One commit takes out the files that have rows of that part and puts in those with the rows read
//! from the log, up to the offsets that the table covered at the beginning; what the writer adds
//! meanwhile comes from behind them and stays. Until the commit no version has the new files, so
//! vacuum, which would delete them, stands still, as does all else that moves files.
//!
//! The log is read from its start and not from the offset of the time: an event may be ahead of the
//! clock by as much as its sender likes, so that no earlier offset is known not to have one of the
//! part.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::TimestampMicrosecondType;
use datafusion::common::ScalarValue;
use datafusion::common::stats::Precision;
use datafusion::execution::context::SessionContext;
use datafusion::physical_plan::execute_stream;
use futures::TryStreamExt;
use thalweg_log::{Entry, Log, LogError, Offset, Progress, TopicPartition};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::background;
use crate::conform::{batch_bytes, conform};
use crate::delta::Change;
use crate::encode::write_files;
use crate::error::{LakeError, Result, time_text};
use crate::scan;
use crate::snapshot::{DataFile, Offsets, Snapshot};
use crate::table::{Table, stopped};
use crate::writer::{MAX_RETRY_DELAY, MIN_RETRY_DELAY};

/// What is read of the log at once.
const READ_BYTES: usize = 4 << 20;
const MILLI_MICROS: i64 = 1_000;

/// A replay of a table: how far it has come, and how it has ended.
#[derive(Clone, Debug)]
pub struct TableReplay {
    part: Part,
    state: watch::Receiver<State>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    /// Time of its first rows, microseconds since the Unix epoch.
    pub from_micros: i64,
    /// Whether it may have fewer rows than before.
    pub allow_fewer: bool,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    progress: Progress,
    outcome: Option<Result<(), Arc<LakeError>>>,
}

impl TableReplay {
    pub(crate) fn new(part: Part, state: watch::Receiver<State>) -> Self {
        Self { part, state }
    }

    /// Time of the first rows that are read from the log, microseconds since the Unix epoch.
    pub fn from_micros(&self) -> i64 {
        self.part.from_micros
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        self.state.borrow().progress.clone()
    }

    /// How it has ended, if it has: the new version is there, or the table is as it was.
    pub fn outcome(&self) -> Option<Result<(), Arc<LakeError>>> {
        // In this order: the last it does is to say how it ended.
        let is_gone = self.state.has_changed().is_err();
        let outcome = self.state.borrow().outcome.clone();
        let cut_off = || is_gone.then(|| Err(Arc::new(LakeError::CutOff)));
        outcome.or_else(cut_off)
    }

    /// Resolves when it has ended.
    ///
    /// # Errors
    /// The new version could not be made: the table is as it was.
    pub async fn ended(&self) -> Result<(), Arc<LakeError>> {
        let mut state = self.state.clone();
        // Whoever ran it is gone either way.
        let _ = state.wait_for(|state| state.outcome.is_some()).await;
        self.outcome().unwrap_or_else(|| Err(Arc::new(LakeError::CutOff)))
    }
}

/// Makes `part` of the table anew, or leaves the table as it is.
pub(crate) async fn run(
    table: Arc<Table>,
    part: Part,
    mut stop: watch::Receiver<bool>,
    state: watch::Sender<State>,
) {
    let outcome = remake(&table, part, &mut stop, &state).await;
    let (name, from) = (&table.spec.name, time_text(part.from_micros));
    match &outcome {
        Ok(()) => tracing::info!(table = name, from, "replayed from the log"),
        Err(error) => tracing::warn!(table = name, from, %error, "not replayed"),
    }
    state.send_modify(|state| state.outcome = Some(outcome.map_err(Arc::new)));
}

async fn remake(
    table: &Table,
    part: Part,
    stop: &mut watch::Receiver<bool>,
    state: &watch::Sender<State>,
) -> Result<()> {
    let name = &table.spec.name;
    let _at_rest = unless_stopped(stop, table.upkeep.write()).await?;
    let current = table.snapshots.current();
    if current.foreign.is_some() {
        return Err(LakeError::Foreign(name.clone()));
    }
    // A copy, which does not hold back what the log may drop: files stay as long as upkeep rests.
    let old = Arc::new(Snapshot {
        version: current.version,
        files: current.files.clone(),
        offsets: current.offsets.clone(),
        foreign: None,
    });
    drop(current);

    let time = table.spec.schema.index_of(&table.spec.time_column)?;
    let (after, across) = files_to_replace(&old.files, time, part.from_micros);
    let mut rows_before: u64 = after.iter().map(|file| file.rows() as u64).sum();
    let mut rewrite = Rewrite::new(table, part.from_micros, time, state);
    for file in &across {
        rows_before += rewrite.keep_older(&old, file, stop).await?;
    }
    let rows_found = rewrite.read_log(&old.offsets, stop).await?;
    rewrite.flush().await?;
    if rows_found < rows_before && !part.allow_fewer {
        let table = name.clone();
        return Err(LakeError::FewerRows { table, before: rows_before, found: rows_found });
    }
    tracing::info!(table = name, rows_before, rows_found, "the new version is complete");
    swap(table, rewrite.files, [after, across].concat()).await
}

/// The files that are wholly at or after a time, and those that may have rows on both sides of it.
fn files_to_replace(
    files: &[Arc<DataFile>],
    time: usize,
    from_micros: i64,
) -> (Vec<Arc<DataFile>>, Vec<Arc<DataFile>>) {
    let (mut after, mut across) = (vec![], vec![]);
    for file in files {
        match bounds(file, time) {
            Some((_, latest)) if latest < from_micros => {}
            Some((earliest, _)) if earliest >= from_micros => after.push(Arc::clone(file)),
            _ => across.push(Arc::clone(file)),
        }
    }
    (after, across)
}

/// Times between which all rows of the file are; `None` also when it is not known how many these are.
fn bounds(file: &DataFile, time: usize) -> Option<(i64, i64)> {
    file.statistics.num_rows.get_value()?;
    let column = file.statistics.column_statistics.get(time)?;
    let micros = |bound: &Precision<ScalarValue>| match bound.get_value()? {
        ScalarValue::TimestampMicrosecond(micros, _) => *micros,
        _ => None,
    };
    Some((micros(&column.min_value)?, micros(&column.max_value)?))
}

/// The rows of the new version, gathered into files that no version has.
struct Rewrite<'a> {
    table: &'a Table,
    from_micros: i64,
    /// Index of the time column.
    time: usize,
    state: &'a watch::Sender<State>,
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
    files: NewFiles,
}

impl<'a> Rewrite<'a> {
    fn new(
        table: &'a Table,
        from_micros: i64,
        time: usize,
        state: &'a watch::Sender<State>,
    ) -> Self {
        let files = NewFiles { root: table.root.clone(), files: vec![] };
        Self { table, from_micros, time, state, batches: vec![], rows: 0, bytes: 0, files }
    }

    /// Takes the rows of `file` from before the time. Answers how many others it has.
    async fn keep_older(
        &mut self,
        old: &Arc<Snapshot>,
        file: &Arc<DataFile>,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<u64> {
        let (table, time) = (self.table, self.time);
        let unreadable = |source| LakeError::Unreadable {
            path: table.root.join(&file.path),
            begins_micros: bounds(file, time).map(|(earliest, _)| earliest),
            source,
        };
        let schema = &table.spec.schema;
        let session = SessionContext::new();
        let all = Some((0..schema.fields().len()).collect());
        let group = vec![vec![Arc::clone(file)]];
        let plan = scan::plan(&session.state(), table, old, group, all, None, None)?;
        let mut batches = execute_stream(plan, session.task_ctx())?;
        let mut newer = 0;
        while let Some(batch) =
            unless_stopped(stop, batches.try_next()).await?.map_err(unreadable)?
        {
            let batch = conform(batch, schema)?;
            let kept = self.select(&batch, |time, from| time < from)?;
            newer += (batch.num_rows() - kept.num_rows()) as u64;
            self.push(&batch, kept).await?;
        }
        Ok(newer)
    }

    /// Takes the rows that the log has at or after the time, before `ends`. Answers how many.
    async fn read_log(&mut self, ends: &Offsets, stop: &mut watch::Receiver<bool>) -> Result<u64> {
        let log = Arc::clone(&self.table.log);
        let mut left = Offsets::new();
        for (at, &end) in ends {
            left.insert(at.clone(), end.saturating_sub(log.offsets(at.clone())?.start));
        }
        let mut found = 0;
        for (at, &end) in ends {
            let mut next = log.offsets(at.clone())?.start;
            while next < end {
                left.insert(at.clone(), end - next);
                let lag = left.values().sum();
                self.state.send_modify(|state| state.progress.lag = Some(lag));
                let entries = self.read(at, &mut next, stop).await?;
                if entries.is_empty() {
                    break; // what is left before the end is damaged: the count will tell
                }
                for entry in entries.into_iter().take_while(|entry| entry.offset < end) {
                    let entry = entry.before(end);
                    let rows = entry.after(next);
                    next = entry.next_offset;
                    found += self.take_newer(at, entry.offset, rows).await?;
                }
            }
            left.remove(at);
        }
        self.state.send_modify(|state| state.progress.lag = Some(0));
        Ok(found)
    }

    /// Entries from `next` on, which moves when retention has overtaken it without harm. Waits for a
    /// log that does not answer.
    async fn read(
        &self,
        at: &TopicPartition,
        next: &mut Offset,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<Vec<Entry>> {
        let (name, log) = (&self.table.spec.name, &self.table.log);
        let mut delay = MIN_RETRY_DELAY;
        loop {
            let read = log.read(at.clone(), *next, READ_BYTES);
            let error = match unless_stopped(stop, read).await? {
                Ok(entries) => {
                    self.state.send_modify(|state| state.progress.fault = None);
                    return Ok(entries);
                }
                Err(LogError::OffsetOutOfRange { start, .. }) if start > *next => {
                    match expect_begun(log.as_ref(), [at], self.from_micros).await {
                        Ok(()) => {
                            *next = start;
                            continue;
                        }
                        Err(LakeError::Log(error)) => error,
                        Err(error) => return Err(error),
                    }
                }
                Err(error) => error,
            };
            tracing::warn!(table = name, %at, %error, retry_after = ?delay, "the replay waits");
            self.state.send_modify(|state| state.progress.fault = Some(error.to_string()));
            unless_stopped(stop, sleep(delay)).await?;
            delay = (delay * 2).min(MAX_RETRY_DELAY);
        }
    }

    /// Takes the rows at or after the time. Those that do not fit the table are passed over, as the
    /// writer has done.
    async fn take_newer(
        &mut self,
        at: &TopicPartition,
        offset: Offset,
        rows: RecordBatch,
    ) -> Result<u64> {
        let count = rows.num_rows();
        let batch = match conform(rows, &self.table.spec.schema) {
            Ok(batch) => batch,
            Err(error) => {
                let table = &self.table.spec.name;
                tracing::error!(table, %at, offset, rows = count, %error, "rows do not fit the table");
                return Ok(0);
            }
        };
        let kept = self.select(&batch, |time, from| time >= from)?;
        let found = kept.num_rows() as u64;
        self.push(&batch, kept).await?;
        Ok(found)
    }

    fn select(
        &self,
        batch: &RecordBatch,
        is_wanted: impl Fn(i64, i64) -> bool,
    ) -> Result<RecordBatch> {
        let times = batch.column(self.time).as_primitive::<TimestampMicrosecondType>();
        let wanted = BooleanArray::from_unary(times, |time| is_wanted(time, self.from_micros));
        Ok(filter_record_batch(batch, &wanted)?)
    }

    /// Takes `kept`, what there is to keep of the rows `read`.
    async fn push(&mut self, read: &RecordBatch, kept: RecordBatch) -> Result<()> {
        self.state.send_modify(|state| state.progress.rows += read.num_rows() as u64);
        if kept.num_rows() == 0 {
            return Ok(());
        }
        self.rows += kept.num_rows();
        self.bytes += batch_bytes(&kept);
        self.batches.push(kept);
        let config = &self.table.config;
        if self.rows >= config.flush_rows || self.bytes >= config.flush_bytes {
            self.flush().await?;
        }
        Ok(())
    }

    /// Writes the gathered rows to files.
    async fn flush(&mut self) -> Result<()> {
        let batches = std::mem::take(&mut self.batches);
        (self.rows, self.bytes) = (0, 0);
        let Table { root, spec, config, .. } = self.table;
        let (root, spec, config) = (root.clone(), Arc::clone(spec), config.clone());
        let write = move || {
            let files = write_files(&root, &spec, &config, &batches)?;
            Ok(NewFiles { root, files }) // gone with who waits for them
        };
        let written = background::run(true, write).await;
        let written: Result<NewFiles> =
            written.ok_or_else(|| LakeError::Stopped("encoder".into()))?;
        self.files.files.extend(written?.publish());
        Ok(())
    }
}

/// Files that no version of the table has: deleted when this is dropped.
struct NewFiles {
    root: PathBuf,
    files: Vec<DataFile>,
}

impl NewFiles {
    /// Leaves the files to whoever asks.
    fn publish(mut self) -> Vec<DataFile> {
        std::mem::take(&mut self.files)
    }
}

impl Drop for NewFiles {
    fn drop(&mut self) {
        for file in &self.files {
            // What cannot be removed now is left to vacuum.
            let _ = fs::remove_file(self.root.join(&file.path));
        }
    }
}

/// Commits that `new` is in place of the files `former`.
async fn swap(table: &Table, new: NewFiles, former: Vec<Arc<DataFile>>) -> Result<()> {
    if new.files.is_empty() && former.is_empty() {
        return Ok(());
    }
    // From here on a version may have them.
    let files = new.publish();
    let add: Vec<_> = files.iter().cloned().map(Arc::new).collect();
    let paths = |snapshot: &Snapshot| -> HashSet<String> {
        snapshot.files.iter().map(|file| file.path.clone()).collect()
    };
    let change = |current: &Snapshot| {
        let there = paths(current);
        let change = Change { add, remove: former.clone(), data_change: true, ..Change::default() };
        former.iter().all(|file| there.contains(&file.path)).then_some(change)
    };
    let committed = match table.commit(change).await {
        Ok(true) => return Ok(()),
        Ok(false) => Err(LakeError::FilesGone(table.spec.name.clone())),
        Err(error) => Err(error),
    };
    if let Err(error) = table.refresh().await {
        tracing::warn!(table = table.spec.name, %error, "it is not known what was committed");
        return committed; // should no version have the files, vacuum deletes them
    }
    let there = paths(&table.snapshots.current());
    let is_made = files.iter().all(|file| there.contains(&file.path))
        && !former.iter().any(|file| there.contains(&file.path));
    if is_made {
        return Ok(());
    }
    drop(NewFiles { root: table.root.clone(), files });
    committed
}

/// Expects that the log still has what was appended to `places` from a time on.
///
/// # Errors
/// [`LakeError::LogBegins`] with the earliest time of which that is so, and the log's errors.
pub(crate) async fn expect_begun(
    log: &dyn Log,
    places: impl IntoIterator<Item = &TopicPartition>,
    from_micros: i64,
) -> Result<()> {
    let mut latest: Option<(i64, &TopicPartition)> = None;
    for at in places {
        if let Some(begins) = first_append_micros(log, at).await?
            && begins > latest.map_or(from_micros, |(latest, _)| latest)
        {
            latest = Some((begins, at));
        }
    }
    match latest {
        None => Ok(()),
        Some((begins_micros, at)) => Err(LakeError::LogBegins { at: at.clone(), begins_micros }),
    }
}

/// When the first entry was appended that a partition has left of more; `None` while it has all, and
/// when it has none.
async fn first_append_micros(log: &dyn Log, at: &TopicPartition) -> Result<Option<i64>> {
    let mut next = log.offsets(at.clone())?.start;
    if next == 0 {
        return Ok(None);
    }
    loop {
        match log.read(at.clone(), next, 1).await {
            Ok(entries) => match entries.first() {
                None => return Ok(None),
                Some(entry) if entry.batch.num_rows() > 0 => {
                    return Ok(Some(entry.append_unix_millis.saturating_mul(MILLI_MICROS)));
                }
                Some(gap) => next = gap.next_offset,
            },
            Err(LogError::OffsetOutOfRange { start, .. }) if start > next => next = start,
            Err(error) => return Err(error.into()),
        }
    }
}

/// What `work` answers, unless the table is closed before.
async fn unless_stopped<T>(
    stop: &mut watch::Receiver<bool>,
    work: impl Future<Output = T>,
) -> Result<T> {
    tokio::select! {
        biased;
        () = stopped(stop) => Err(LakeError::CutOff),
        done = work => Ok(done),
    }
}
