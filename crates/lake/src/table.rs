//! A table: the files committed so far, and the log's tail behind them.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, atomic::AtomicI64};
use std::time::{Duration, SystemTime};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::StreamExt;
use futures::stream::{BoxStream, select_all};
use parking_lot::Mutex;
use thalweg_log::{Log, Offset, TopicPartition};
use tokio::sync::{Notify, RwLock, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::config::LakeConfig;
use crate::conform::{conform, to_table};
use crate::delta::{Change, DeltaLog};
use crate::error::{LakeError, Result};
use crate::lag;
use crate::maintenance::{self, Maintained};
use crate::replay::{self, TableReplay};
use crate::snapshot::{Offsets, Snapshot, Snapshots};
use crate::spec::TableSpec;
use crate::tail_index::{self, TailIndex};
use crate::writer;

/// How often [`LakeTable::flush`] reminds the writer of rows that were still on their way to it.
const FLUSH_REMINDER: Duration = Duration::from_millis(20);

/// How often it is looked for commits of other processes, where several share the table.
const REFRESH_EVERY: Duration = Duration::from_secs(1);
/// Longest that the log may take to tell of rows that another process has put into the table.
const END_PATIENCE: Duration = Duration::from_secs(10);
/// Pause between looks whether it does.
const END_AGAIN: Duration = Duration::from_millis(100);

/// A Delta table that is fed by topics of the log and serves their rows from the moment they are
/// acknowledged.
///
/// Implements DataFusion's `TableProvider`. Each scan reads one consistent state: a version of
/// the Delta table, and the rows the log has after the offsets that version covers.
///
/// Several processes may open a table if they share its log: each drains the partitions that it owns,
/// and the table's own transactions refuse rows that two would add. Otherwise one process at a time
/// may open it; the log's lock sees to it.
pub struct LakeTable {
    pub(crate) table: Arc<Table>,
    stop: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// The latest replay, and who works on it.
    replaying: Mutex<Option<(TableReplay, JoinHandle<()>)>>,
}

/// What the writer, the maintenance and the queries of a table share.
pub(crate) struct Table {
    pub spec: Arc<TableSpec>,
    pub config: LakeConfig,
    pub root: PathBuf,
    /// Columns queries see.
    pub schema: SchemaRef,
    pub log: Arc<dyn Log>,
    pub snapshots: Snapshots,
    pub tail_index: TailIndex,
    /// Asks the writer to commit what it has.
    pub flush_now: Notify,
    /// When the oldest row was appended that the writer has not committed, Unix ms; 0 if it has all.
    pub oldest_unix_millis: AtomicI64,
    /// Held while files are merged, dropped or deleted, by a replay alone.
    pub upkeep: RwLock<()>,
    delta: tokio::sync::Mutex<DeltaLog>,
}

impl LakeTable {
    /// Opens the table in `directory`, creates it when there is none, and starts to drain the
    /// log into it. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// The log lacks a topic of the table, the table on disk is another one, or the disk refuses.
    pub async fn open(
        directory: &Path,
        spec: TableSpec,
        config: LakeConfig,
        log: Arc<dyn Log>,
    ) -> Result<Arc<Self>> {
        let table = Arc::new(Table::open(directory, spec, config, log).await?);
        let stop = watch::Sender::new(false);
        let mut tasks = vec![
            tokio::spawn(writer::run(Arc::clone(&table), stop.subscribe())),
            tokio::spawn(maintenance::run(Arc::clone(&table), stop.subscribe())),
            tokio::spawn(tail_index::run(Arc::clone(&table), stop.subscribe())),
            tokio::spawn(lag::run(Arc::clone(&table), stop.subscribe())),
        ];
        if table.log.ownership().is_shared() {
            tasks.push(tokio::spawn(keep_current(Arc::clone(&table), stop.subscribe())));
        }
        Ok(Arc::new(Self { table, stop, tasks: Mutex::new(tasks), replaying: Mutex::default() }))
    }

    /// First offset of each partition of `begins` that the table in `directory` does not cover;
    /// where it has nothing of a partition, as `begins` says. Creates the table when there is none.
    ///
    /// # Errors
    /// The table on disk is another one, or the disk refuses.
    pub async fn covered(
        directory: &Path,
        spec: TableSpec,
        begins: BTreeMap<TopicPartition, Offset>,
    ) -> Result<BTreeMap<TopicPartition, Offset>> {
        let root = root(directory)?;
        let delta = DeltaLog::open(root, Arc::new(spec), begins).await?;
        Ok(delta.snapshot().await?.offsets)
    }

    /// Name of the table.
    pub fn name(&self) -> &str {
        &self.table.spec.name
    }

    /// Directory of the Delta table, for readers other than this process.
    pub fn path(&self) -> &Path {
        &self.table.root
    }

    /// Version of the Delta table that queries see now.
    pub fn version(&self) -> u64 {
        self.table.snapshots.current().version
    }

    /// Rows appended from now on, in the order of their partitions, with the table's columns.
    /// Never ends; batches that do not fit the table are left out.
    ///
    /// # Errors
    /// The stream yields the log's errors and goes on where that makes sense.
    pub fn follow(&self) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let mut partitions = vec![];
        for at in self.table.snapshots.current().offsets.keys() {
            let table = Arc::clone(&self.table);
            let entries = table.log.tail(at.clone(), table.log.offsets(at.clone())?.end);
            let all: Vec<usize> = (0..table.schema.fields().len()).collect();
            let rows = entries.filter_map(move |entry| {
                let batch = entry.map_err(LakeError::from).and_then(|entry| {
                    let Ok(batch) = conform(entry.batch, &table.spec.schema) else {
                        return Ok(None);
                    };
                    Ok(Some(to_table(&table.spec, &batch, &all, &table.schema)?))
                });
                std::future::ready(batch.transpose())
            });
            partitions.push(rows.boxed());
        }
        Ok(select_all(partitions).boxed())
    }

    /// Resolves when everything that was durable in the log at the time of the call is committed
    /// to the Delta table.
    ///
    /// # Errors
    /// [`LakeError::Stopped`] after [`LakeTable::shutdown`], and the log's errors.
    pub async fn flush(&self) -> Result<()> {
        let table = &self.table;
        let mut versions = table.snapshots.subscribe();
        let mut wanted = versions.borrow().offsets.clone();
        for (at, offset) in &mut wanted {
            *offset = table.log.offsets(at.clone())?.end;
        }
        let covers =
            |snapshot: &Arc<Snapshot>| wanted.iter().all(|(at, o)| snapshot.offsets[at] >= *o);
        while !covers(&versions.borrow_and_update()) {
            if self.tasks.lock().first().is_none_or(JoinHandle::is_finished) {
                return Err(LakeError::Stopped(self.name().into()));
            }
            table.flush_now.notify_one();
            // A timeout only means that the writer has not seen all rows yet.
            let _ = timeout(FLUSH_REMINDER, versions.changed()).await;
        }
        Ok(())
    }

    /// Begins to read the rows at and after a time, in microseconds since the Unix epoch, from the log
    /// anew; they take the place of those the table has, in a new version, when all have been read.
    /// Unless `allow_fewer`, only if they are as many.
    ///
    /// Of a table in whose log no other process works on partitions.
    ///
    /// # Errors
    /// [`LakeError::Replaying`], [`LakeError::LogBegins`], and the log's errors. What comes later is
    /// told by the [`TableReplay`].
    pub async fn replay(&self, from_micros: i64, allow_fewer: bool) -> Result<TableReplay> {
        let table = &self.table;
        let offsets = table.snapshots.current().offsets.clone();
        replay::expect_begun(table.log.as_ref(), offsets.keys(), from_micros).await?;
        let mut replaying = self.replaying.lock();
        if replaying.as_ref().is_some_and(|(latest, _)| latest.outcome().is_none()) {
            return Err(LakeError::Replaying(self.name().into()));
        }
        let part = replay::Part { from_micros, allow_fewer };
        let (state, told) = watch::channel(replay::State::default());
        let work = replay::run(Arc::clone(table), part, self.stop.subscribe(), state);
        let replay = TableReplay::new(part, told);
        *replaying = Some((replay.clone(), tokio::spawn(work)));
        Ok(replay)
    }

    /// Compacts, drops what is older than the retention, and deletes files nobody reads; only the rest
    /// while the table is replayed. Runs by itself every `maintenance_interval_secs`; `now_unix_millis`
    /// decides what is old.
    ///
    /// # Errors
    /// The disk or the Delta log refuses; nothing is lost, and the next run tries again.
    pub async fn maintain(&self, now_unix_millis: i64) -> Result<Maintained> {
        maintenance::maintain(&self.table, now_unix_millis).await
    }

    /// Commits what the writer has buffered and stops all background work.
    pub async fn shutdown(&self) {
        self.stop.send_replace(true);
        let tasks = std::mem::take(&mut *self.tasks.lock());
        let replaying = self.replaying.lock().take().map(|(_, task)| task);
        for task in tasks.into_iter().chain(replaying) {
            if let Err(error) = task.await {
                tracing::error!(table = self.name(), %error, "background task ended badly");
            }
        }
    }
}

impl Drop for LakeTable {
    fn drop(&mut self) {
        self.tasks.lock().iter().for_each(JoinHandle::abort);
        self.replaying.lock().iter().for_each(|(_, task)| task.abort());
    }
}

impl Table {
    async fn open(
        directory: &Path,
        spec: TableSpec,
        config: LakeConfig,
        log: Arc<dyn Log>,
    ) -> Result<Self> {
        spec.validate()?;
        let spec = Arc::new(spec);
        let root = root(directory)?;
        let mut starts = Offsets::new();
        for topic in &spec.topics {
            for partition in 0..log.partitions(topic)? {
                let at = TopicPartition::new(topic.as_str(), partition);
                starts.insert(at.clone(), log.offsets(at)?.start);
            }
        }
        let delta = DeltaLog::open(root.clone(), Arc::clone(&spec), starts).await?;
        let first = delta.snapshot().await?;
        for (at, &covered) in &first.offsets {
            expect_reached(log.as_ref(), &spec, at, covered).await?;
        }
        let table = Self {
            schema: spec.table_schema(),
            spec,
            config,
            root,
            log,
            snapshots: Snapshots::new(first),
            tail_index: TailIndex::default(),
            flush_now: Notify::new(),
            oldest_unix_millis: AtomicI64::new(0),
            upkeep: RwLock::default(),
            delta: tokio::sync::Mutex::new(delta),
        };
        table.release_log().await?;
        Ok(table)
    }

    /// Commits what `change` makes of the current version, if anything, and shows it to queries.
    ///
    /// # Errors
    /// Whether the change was made is seen in the current version afterwards.
    pub(crate) async fn commit(
        &self,
        change: impl FnOnce(&Snapshot) -> Option<Change>,
    ) -> Result<bool> {
        let mut delta = self.delta.lock().await;
        self.catch_up(&mut delta).await?;
        let current = self.snapshots.current();
        let Some(change) = change(&current) else { return Ok(false) };
        let former = change.remove.iter().map(|file| self.root.join(&file.path));
        let former: Vec<PathBuf> = former.collect();
        let committed = delta.commit(&current, change).await;
        drop(current);
        match committed {
            Ok(next) => self.publish(next),
            Err(error) => {
                delta.refresh().await?;
                self.publish(delta.snapshot().await?);
                return Err(error);
            }
        }
        drop(delta);
        former.iter().for_each(|path| note_left(path));
        self.release_log().await?;
        Ok(true)
    }

    /// Whether compaction, retention and vacuum are this process' work.
    pub(crate) fn is_maintained_here(&self) -> bool {
        let first = self.spec.topics.first().map(|topic| TopicPartition::new(topic.as_str(), 0));
        first.is_none_or(|first| self.log.ownership().owns(&first))
    }

    /// Shows queries what other programs have done to the table.
    pub(crate) async fn refresh(&self) -> Result<()> {
        self.catch_up(&mut *self.delta.lock().await).await
    }

    async fn catch_up(&self, delta: &mut DeltaLog) -> Result<()> {
        if delta.is_behind() {
            delta.refresh().await?;
        }
        // Also a version that could not be read when it was made.
        if delta.version() != self.snapshots.current().version {
            self.publish(delta.snapshot().await?);
        }
        Ok(())
    }

    pub(crate) async fn checkpoint(&self, keep_since_unix_millis: i64) -> Result<()> {
        let interval = self.config.checkpoint_commits;
        self.delta.lock().await.checkpoint(interval, keep_since_unix_millis).await
    }

    /// Tells the log which rows neither the table nor a running query needs any more.
    pub(crate) async fn release_log(&self) -> Result<()> {
        let group = format!("lake/{}", self.spec.name);
        let ownership = self.log.ownership();
        for (at, offset) in self.snapshots.released() {
            if ownership.owns(&at) && self.log.committed(&group, at.clone())? != Some(offset) {
                self.log.commit(&group, at, offset).await?;
            }
        }
        Ok(())
    }

    fn publish(&self, next: Snapshot) {
        let table = self.spec.name.clone();
        metrics::gauge!("thalweg_lake_files", "table" => table).set(next.files.len() as f64);
        self.tail_index.release(&next.offsets);
        self.snapshots.publish(next);
    }
}

/// Lets vacuum count the age of a file from now, when it left the table: readers of older versions
/// have to finish.
fn note_left(path: &Path) {
    // One that is gone needs no time.
    let _ = File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
}

/// The directory of a table, made if it is missing.
fn root(directory: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(directory).map_err(LakeError::io(directory))?;
    directory.canonicalize().map_err(LakeError::io(directory))
}

/// Expects that the log ends at `covered`, up to where the table has `at`, or later.
///
/// # Errors
/// [`LakeError::LogBehindTable`]; where another process may be committing, only when the log's end
/// has not been reached for a while.
async fn expect_reached(
    log: &dyn Log,
    spec: &TableSpec,
    at: &TopicPartition,
    covered: Offset,
) -> Result<()> {
    let began = Instant::now();
    let is_shared = log.ownership().is_shared();
    let mut end = log.offsets(at.clone())?.end;
    while covered > end {
        if !is_shared || began.elapsed() >= END_PATIENCE {
            let (table, at) = (spec.name.clone(), at.clone());
            return Err(LakeError::LogBehindTable { table, at, covered, end });
        }
        sleep(END_AGAIN).await;
        end = log.latest_end(at.clone()).await?;
    }
    Ok(())
}

/// Shows queries what other processes commit, until `stop` says so.
async fn keep_current(table: Arc<Table>, mut stop: watch::Receiver<bool>) {
    let mut ticks = interval(REFRESH_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stopped(&mut stop) => return,
            _ = ticks.tick() => if let Err(error) = table.refresh().await {
                tracing::warn!(table = table.spec.name, %error, "others' commits are seen later");
            }
        }
    }
}

/// Resolves when background work is to stop.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone stops the work as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

impl std::fmt::Debug for LakeTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LakeTable").field("name", &self.name()).field("path", &self.path()).finish()
    }
}
