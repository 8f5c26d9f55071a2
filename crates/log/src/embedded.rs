//! The log that needs nothing installed.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::Path,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use arrow::array::{ArrayRef, RecordBatch};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream, stream::BoxStream};
use parking_lot::{Mutex, RwLock};
use tokio::{sync::oneshot, task::spawn_blocking};

use crate::{
    Log,
    config::{LogConfig, RetentionConfig, TopicConfig},
    entry::EncodedBatch,
    error::{LogError, Result, io_error},
    groups::Groups,
    ownership::lock_file,
    partition::Partition,
    queue::{Append, Closed, Rows},
    recovery::{RecoveryReport, recover},
    segment::sync_directory,
    tail_cache::CacheBudget,
    types::{Appended, Entry, Offset, OffsetRange, TopicPartition},
    writer::{Writer, unix_millis},
};

/// Appends of fewer rows are merged with their neighbours by the writer.
const FEW_ROWS: usize = 256;
/// Appends of fewer bytes are.
const FEW_BYTES: usize = 1 << 20;
/// Larger batches become several entries, so that readers can bound their memory.
const ENTRY_BYTES: usize = 8 << 20;
/// What a tailing reader takes at once.
const TAIL_BYTES: usize = 4 << 20;

const LOCK_FILE: &str = "lock";

/// A [`Log`] in a directory of this machine.
///
/// Needs a Tokio runtime around its futures. Dropping it closes it.
pub struct EmbeddedLog {
    config: LogConfig,
    cache_budget: Arc<CacheBudget>,
    shared: Arc<Shared>,
    running: Mutex<Option<Running>>,
}

struct Shared {
    topics: RwLock<BTreeMap<String, Arc<Topic>>>,
    groups: Arc<Groups>,
}

struct Topic {
    retention: RetentionConfig,
    partitions: Vec<Arc<Partition>>,
}

/// What ends when the log is closed.
struct Running {
    /// By topic.
    writers: BTreeMap<String, Vec<JoinHandle<()>>>,
    retention: JoinHandle<()>,
    /// Dropped to end the retention thread.
    stop_retention: mpsc::Sender<()>,
    /// Locked as long as the directory is in use.
    lock: File,
}

impl EmbeddedLog {
    /// Opens the log in `config.directory`, creating it if need be, and says what a crash or a
    /// damaged disk has left of it. Blocks for the disk: reads the last segment of each partition
    /// after a crash, and next to nothing after [`EmbeddedLog::close`].
    ///
    /// # Errors
    /// [`LogError::Config`], [`LogError::InUse`], [`LogError::Corrupt`] for the file of consumer
    /// offsets, [`LogError::Io`].
    pub fn open(config: LogConfig) -> Result<(Self, RecoveryReport)> {
        config.validate()?;
        let directory = &config.directory;
        fs::create_dir_all(directory).map_err(io_error(directory.display()))?;
        let lock = lock(directory)?;
        let groups = Arc::new(Groups::open(directory.clone())?);
        let mut report = RecoveryReport::default();
        let cache_budget = CacheBudget::new(config.tail_cache_bytes);
        let mut topics = BTreeMap::new();
        let mut writers = BTreeMap::new();
        for topic in &config.topics {
            let (opened, of_topic) =
                open_topic(&config, topic, &groups, &cache_budget, &mut report)?;
            topics.insert(topic.name.clone(), Arc::new(opened));
            writers.insert(topic.name.clone(), of_topic);
        }
        sync_directory(directory).map_err(io_error(directory.display()))?;
        let shared = Arc::new(Shared { topics: RwLock::new(topics), groups });
        let interval = Duration::from_secs(config.retention_interval_secs);
        let running = Running::start(writers, Arc::clone(&shared), interval, lock)?;
        Ok((Self { config, cache_budget, shared, running: Mutex::new(Some(running)) }, report))
    }

    /// Opens a further topic, creating it if need be; one that is open already is left as it is.
    /// Blocks for the disk, as [`EmbeddedLog::open`] does.
    ///
    /// # Errors
    /// [`LogError::Config`], [`LogError::Io`], [`LogError::Unavailable`] once the log is closed.
    pub fn create_topic(&self, topic: &TopicConfig) -> Result<RecoveryReport> {
        let mut running = self.running.lock();
        let mut report = RecoveryReport::default();
        let Some(running) = running.as_mut() else {
            let at = TopicPartition::new(topic.name.as_str(), 0);
            return Err(LogError::Unavailable { at, reason: "the log is closed".into() });
        };
        if self.shared.topics.read().contains_key(&topic.name) {
            return Ok(report);
        }
        let alone = LogConfig { topics: vec![topic.clone()], ..self.config.clone() };
        alone.validate()?;
        let (groups, budget) = (&self.shared.groups, &self.cache_budget);
        let (opened, writers) = open_topic(&self.config, topic, groups, budget, &mut report)?;
        let directory = &self.config.directory;
        sync_directory(directory).map_err(io_error(directory.display()))?;
        running.writers.insert(topic.name.clone(), start_writers(writers)?);
        self.shared.topics.write().insert(topic.name.clone(), Arc::new(opened));
        Ok(report)
    }

    /// Removes a topic with everything in it, also one that is on disk only. Blocks for the disk.
    ///
    /// # Errors
    /// [`LogError::UnknownTopic`], [`LogError::Io`].
    pub fn remove_topic(&self, name: &str) -> Result<()> {
        let mut running = self.running.lock();
        let directory = self.config.directory.join(name);
        if !self.topics_on_disk()?.iter().any(|topic| topic == name) {
            return Err(LogError::UnknownTopic(name.to_owned()));
        }
        if let Some(topic) = self.shared.topics.write().remove(name) {
            topic.partitions.iter().for_each(|partition| partition.queue.close());
        }
        let writers = running.as_mut().and_then(|running| running.writers.remove(name));
        for thread in writers.into_iter().flatten() {
            if thread.join().is_err() {
                tracing::error!(topic = name, "a thread of the log panicked");
            }
        }
        self.shared.groups.forget_topic(name)?;
        fs::remove_dir_all(&directory).map_err(io_error(directory.display()))
    }

    /// Names of all topics on disk, those that are not open among them.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn topics_on_disk(&self) -> Result<Vec<String>> {
        let directory = &self.config.directory;
        let entries = fs::read_dir(directory).map_err(io_error(directory.display()))?;
        let mut topics = vec![];
        for entry in entries {
            let entry = entry.map_err(io_error(directory.display()))?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir())
                && let Ok(name) = entry.file_name().into_string()
            {
                topics.push(name);
            }
        }
        Ok(topics)
    }

    /// Names of all consumer groups.
    pub fn groups(&self) -> Vec<String> {
        self.shared.groups.names()
    }

    /// Writes what is queued and closes the log: appends are refused from now on, tailing
    /// streams end. Blocks until the disk has it. The next [`EmbeddedLog::open`] is quick.
    pub fn close(&self) {
        let Some(running) = self.running.lock().take() else { return };
        for topic in self.shared.topics.read().values() {
            topic.partitions.iter().for_each(|partition| partition.queue.close());
        }
        drop(running.stop_retention);
        for thread in running.writers.into_values().flatten().chain([running.retention]) {
            if thread.join().is_err() {
                tracing::error!("a thread of the log panicked");
            }
        }
        // Closing the file would not do: a child process that is just being started has it too.
        if let Err(error) = running.lock.unlock() {
            tracing::warn!(%error, "the log's directory stays locked until this process ends");
        }
    }

    /// Removes what the configured retention no longer keeps at `now_unix_millis`. The log does
    /// this by itself at every `retention_interval_secs`. Blocks for the disk.
    pub fn apply_retention(&self, now_unix_millis: i64) {
        self.shared.apply_retention(now_unix_millis);
    }

    /// Forgets the offsets of `group`, so that retention no longer waits for it. Blocks for the
    /// disk.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn forget_group(&self, group: &str) -> Result<()> {
        self.shared.groups.forget(group)
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        self.close();
    }
}

impl Running {
    fn start(
        writers: BTreeMap<String, Vec<Writer>>,
        shared: Arc<Shared>,
        interval: Duration,
        lock: File,
    ) -> Result<Self> {
        let (stop_retention, stopped) = mpsc::channel();
        let writers = writers.into_iter().map(|(topic, of)| Ok((topic, start_writers(of)?)));
        let writers = writers.collect::<Result<_>>()?;
        let retain = move || {
            while stopped.recv_timeout(interval) == Err(mpsc::RecvTimeoutError::Timeout) {
                shared.apply_retention(unix_millis());
            }
        };
        let retention = spawn("log-retention", retain)?;
        Ok(Self { writers, retention, stop_retention, lock })
    }
}

fn start_writers(writers: Vec<Writer>) -> Result<Vec<JoinHandle<()>>> {
    writers.into_iter().map(|writer| spawn("log-writer", move || writer.run())).collect()
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    let thread = thread::Builder::new().name(name.into()).spawn(work);
    thread.map_err(io_error("starting a thread"))
}

/// Opens a topic's partitions; their writers are yet to be started.
fn open_topic(
    config: &LogConfig,
    topic: &TopicConfig,
    groups: &Groups,
    cache_budget: &Arc<CacheBudget>,
    report: &mut RecoveryReport,
) -> Result<(Topic, Vec<Writer>)> {
    let directory = config.directory.join(&topic.name);
    fs::create_dir_all(&directory).map_err(io_error(directory.display()))?;
    check_partitions(&directory, topic.partitions)?;
    let name: Arc<str> = topic.name.as_str().into();
    let (mut partitions, mut writers) = (vec![], vec![]);
    for number in 0..topic.partitions {
        let at = TopicPartition::new(Arc::clone(&name), number);
        let committed = groups.of_partition(&at).iter().map(|(_, offset)| *offset).max();
        let place = directory.join(number.to_string());
        let recovered = recover(&place, &at, committed.unwrap_or(0), report)?;
        let partition = Partition::new(at, recovered.segments, Arc::clone(cache_budget));
        let partition = Arc::new(partition);
        writers.push(Writer::new(Arc::clone(&partition), recovered.active, config.segment_bytes));
        partitions.push(partition);
    }
    sync_directory(&directory).map_err(io_error(directory.display()))?;
    let retention = topic.retention.as_ref().unwrap_or(&config.retention).clone();
    Ok((Topic { retention, partitions }, writers))
}

impl Shared {
    fn topic(&self, name: &str) -> Result<Arc<Topic>> {
        let topic = self.topics.read().get(name).map(Arc::clone);
        topic.ok_or_else(|| LogError::UnknownTopic(name.to_owned()))
    }

    fn partition(&self, at: &TopicPartition) -> Result<Arc<Partition>> {
        let topic = self.topic(&at.topic)?;
        let partition = topic.partitions.get(at.partition as usize).map(Arc::clone);
        partition.ok_or_else(|| LogError::UnknownPartition(at.clone()))
    }

    fn apply_retention(&self, now_unix_millis: i64) {
        let topics: Vec<_> = self.topics.read().values().map(Arc::clone).collect();
        for topic in topics {
            for partition in &topic.partitions {
                let groups = self.groups.of_partition(&partition.at);
                partition.apply_retention(now_unix_millis, &topic.retention, &groups);
            }
        }
    }
}

impl Log for EmbeddedLog {
    fn partitions(&self, topic: &str) -> Result<u32> {
        let partitions = self.shared.topic(topic)?.partitions.len();
        Ok(u32::try_from(partitions).expect("configured as u32"))
    }

    fn append(&self, at: TopicPartition, batch: RecordBatch) -> BoxFuture<'_, Result<Appended>> {
        async move {
            let partition = self.shared.partition(&at)?;
            let unavailable =
                |reason: &str| LogError::Unavailable { at: at.clone(), reason: reason.to_owned() };
            let closed = |_: Closed| unavailable("the log is closed");
            let bytes = batch.get_array_memory_size();
            let permit = partition.queue.reserve(bytes).await.map_err(closed)?;
            let rows = if batch.num_rows() == 0 {
                Rows::Encoded(vec![])
            } else if batch.num_rows() < FEW_ROWS && bytes < FEW_BYTES {
                Rows::Few(batch)
            } else {
                let encoded = blocking(move || encode(&batch)).await;
                let rejected = |reason| LogError::Rejected { at: at.clone(), reason };
                Rows::Encoded(encoded.map_err(rejected)?)
            };
            let (reply, answer) = oneshot::channel();
            partition.queue.push(Append { rows, reply, permit }).map_err(closed)?;
            answer.await.unwrap_or_else(|_| Err(unavailable("its writer has stopped")))
        }
        .boxed()
    }

    fn read(
        &self,
        at: TopicPartition,
        from: Offset,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<Vec<Entry>>> {
        async move { read(&self.shared.partition(&at)?, from, max_bytes).await }.boxed()
    }

    fn tail(&self, at: TopicPartition, from: Offset) -> BoxStream<'static, Result<Entry>> {
        match self.shared.partition(&at) {
            Ok(partition) => tail(partition, from).boxed(),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    fn offsets(&self, at: TopicPartition) -> Result<OffsetRange> {
        Ok(self.shared.partition(&at)?.offsets())
    }

    fn offset_at(&self, at: TopicPartition, unix_millis: i64) -> BoxFuture<'_, Result<Offset>> {
        async move {
            let partition = self.shared.partition(&at)?;
            blocking(move || partition.offset_at(unix_millis)).await
        }
        .boxed()
    }

    fn commit(&self, group: &str, at: TopicPartition, offset: Offset) -> BoxFuture<'_, Result<()>> {
        let group = group.to_owned();
        async move {
            let partition = self.shared.partition(&at)?;
            if offset > partition.offsets().end {
                return Err(partition.out_of_range(offset));
            }
            let groups = Arc::clone(&self.shared.groups);
            blocking(move || {
                groups.commit(&group, &at, offset)?;
                if let Some(read) = groups.of_partition(&at).iter().map(|(_, read)| *read).min() {
                    partition.cache.lock().release(read);
                }
                Ok(())
            })
            .await
        }
        .boxed()
    }

    fn committed(&self, group: &str, at: TopicPartition) -> Result<Option<Offset>> {
        self.shared.partition(&at)?;
        Ok(self.shared.groups.committed(group, &at))
    }
}

async fn read(partition: &Arc<Partition>, from: Offset, max_bytes: usize) -> Result<Vec<Entry>> {
    let end = partition.offsets().end;
    let mut entries = match partition.read_cached(from, max_bytes)? {
        Some(entries) => entries,
        None => {
            let partition = Arc::clone(partition);
            blocking(move || partition.read_from_disk(from, max_bytes)).await?
        }
    };
    // The writer may be showing more just now. Whoever has read that must not ask for what comes
    // after it while the end is not yet behind it.
    entries.truncate(entries.partition_point(|entry| entry.next_offset <= end));
    Ok(entries)
}

/// Entries from `from` on, for ever; ends when the log is closed and after an error.
fn tail(partition: Arc<Partition>, from: Offset) -> impl stream::Stream<Item = Result<Entry>> {
    let durable = partition.durable.subscribe();
    stream::unfold(Some((partition, durable, from)), async |state| {
        let (partition, mut durable, from) = state?;
        loop {
            // What is written from here on is noticed below.
            let closed = durable.borrow_and_update().closed;
            match read(&partition, from, TAIL_BYTES).await {
                Ok(entries) if !entries.is_empty() => {
                    let next = entries.last().map_or(from, |last| last.next_offset);
                    let entries = stream::iter(entries.into_iter().map(Ok));
                    return Some((entries.left_stream(), Some((partition, durable, next))));
                }
                Ok(_) if closed => return None,
                Ok(_) => durable.changed().await.ok()?,
                Err(error) => return Some((stream::iter([Err(error)]).right_stream(), None)),
            }
        }
    })
    .flatten()
}

/// Runs `work` where it may wait for the disk or compute for some milliseconds.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only when the runtime itself is going down, and this future with it.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Encodes `batch`, in pieces of about [`ENTRY_BYTES`].
fn encode(batch: &RecordBatch) -> Result<Vec<EncodedBatch>, String> {
    let content = |column: &ArrayRef| column.to_data().get_slice_memory_size().unwrap_or(0);
    let bytes: usize = batch.columns().iter().map(content).sum();
    let rows = batch.num_rows().div_ceil(bytes.div_ceil(ENTRY_BYTES).max(1));
    (0..batch.num_rows())
        .step_by(rows)
        .map(|start| EncodedBatch::new(batch.slice(start, rows.min(batch.num_rows() - start))))
        .collect()
}

fn lock(directory: &Path) -> Result<File> {
    let path = directory.join(LOCK_FILE);
    let lock = lock_file(&path).map_err(io_error(path.display()))?;
    lock.ok_or_else(|| LogError::InUse(directory.display().to_string()))
}

/// Refuses to hide partitions that are on disk.
fn check_partitions(directory: &Path, declared: u32) -> Result<()> {
    for entry in fs::read_dir(directory).map_err(io_error(directory.display()))? {
        let name = entry.map_err(io_error(directory.display()))?.file_name();
        let number = name.to_str().and_then(|name| name.parse::<u32>().ok());
        if let Some(number) = number.filter(|number| *number >= declared) {
            return Err(LogError::Config(format!(
                "{} has a partition {number}, but {declared} are declared; a topic's partitions \
                 can be raised, not lowered",
                directory.display()
            )));
        }
    }
    Ok(())
}
