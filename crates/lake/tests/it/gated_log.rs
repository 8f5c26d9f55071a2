//! An embedded log whose reads wait or fail when told to; following it goes on.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use arrow::array::RecordBatch;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use thalweg_event::schema::topic;
use thalweg_log::{
    Appended, EmbeddedLog, Entry, Log, LogConfig, LogError, Offset, OffsetRange, Result,
    TopicConfig, TopicPartition,
};
use tokio::sync::Semaphore;

pub(crate) struct GatedLog {
    inner: EmbeddedLog,
    is_gated: AtomicBool,
    turns: Semaphore,
    failures: AtomicU32,
}

impl GatedLog {
    /// The log of table `logs`, three partitions, in `directory`.
    pub(crate) fn open(directory: &Path, config: LogConfig) -> Arc<Self> {
        let topics = vec![
            TopicConfig::new(topic::LOGS_CRITICAL, 1),
            TopicConfig::new(topic::LOGS_ROUTINE, 2),
        ];
        let config = LogConfig { directory: directory.to_owned(), topics, ..config };
        let (inner, _) = EmbeddedLog::open(config).unwrap();
        let (is_gated, failures) = Default::default();
        Arc::new(Self { inner, is_gated, turns: Semaphore::new(0), failures })
    }

    /// From now on only so many reads are answered; the next one waits.
    pub(crate) fn allow_reads(&self, reads: usize) {
        self.is_gated.store(true, Ordering::SeqCst);
        self.turns.add_permits(reads);
    }

    /// Answers all reads, also those that wait.
    pub(crate) fn allow_all_reads(&self) {
        self.is_gated.store(false, Ordering::SeqCst);
        self.turns.add_permits(1_000);
    }

    /// The next reads fail, so many.
    pub(crate) fn fail_reads(&self, reads: u32) {
        self.failures.store(reads, Ordering::SeqCst);
    }
}

impl Log for GatedLog {
    fn partitions(&self, topic: &str) -> Result<u32> {
        self.inner.partitions(topic)
    }

    fn append(&self, at: TopicPartition, batch: RecordBatch) -> BoxFuture<'_, Result<Appended>> {
        self.inner.append(at, batch)
    }

    fn read(
        &self,
        at: TopicPartition,
        from: Offset,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<Vec<Entry>>> {
        async move {
            if self.is_gated.load(Ordering::SeqCst) {
                self.turns.acquire().await.unwrap().forget();
            }
            let fail = |left: u32| left.checked_sub(1);
            if self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fail).is_ok() {
                return Err(LogError::Unavailable { at, reason: "injected".into() });
            }
            self.inner.read(at, from, max_bytes).await
        }
        .boxed()
    }

    fn tail(&self, at: TopicPartition, from: Offset) -> BoxStream<'static, Result<Entry>> {
        self.inner.tail(at, from)
    }

    fn offsets(&self, at: TopicPartition) -> Result<OffsetRange> {
        self.inner.offsets(at)
    }

    fn offset_at(&self, at: TopicPartition, unix_millis: i64) -> BoxFuture<'_, Result<Offset>> {
        self.inner.offset_at(at, unix_millis)
    }

    fn commit(&self, group: &str, at: TopicPartition, offset: Offset) -> BoxFuture<'_, Result<()>> {
        self.inner.commit(group, at, offset)
    }

    fn committed(&self, group: &str, at: TopicPartition) -> Result<Option<Offset>> {
        self.inner.committed(group, at)
    }
}
