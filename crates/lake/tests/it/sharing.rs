//! Two tables over one directory and one log, as two processes have them.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tempfile::TempDir;
use thalweg_event::schema::topic;
use thalweg_lake::{LakeConfig, LakeTable, TableSpec};
use thalweg_log::{
    Appended, Entry, Log, Offset, OffsetRange, Owned, Ownership, Result, TopicPartition,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::events::{DAY_START_MICROS, append, count, log, number, quiet, session};
use crate::memory_log::MemoryLog;

/// Longest that one process may take to see what the other has done.
const PATIENCE: Duration = Duration::from_secs(20);

/// A log that is shared, as one process sees it.
struct SharedLog {
    log: Arc<MemoryLog>,
    owned: watch::Sender<Owned>,
}

impl SharedLog {
    fn new(log: &Arc<MemoryLog>, owned: Vec<TopicPartition>) -> Arc<Self> {
        let owned = Arc::new(owned.into_iter().collect());
        Arc::new(Self { log: Arc::clone(log), owned: watch::Sender::new(owned) })
    }

    fn own(&self, owned: Vec<TopicPartition>) {
        self.owned.send_replace(Arc::new(owned.into_iter().collect()));
    }
}

impl Log for SharedLog {
    fn partitions(&self, topic: &str) -> Result<u32> {
        self.log.partitions(topic)
    }

    fn append(&self, at: TopicPartition, batch: RecordBatch) -> BoxFuture<'_, Result<Appended>> {
        self.log.append(at, batch)
    }

    fn read(
        &self,
        at: TopicPartition,
        from: Offset,
        n: usize,
    ) -> BoxFuture<'_, Result<Vec<Entry>>> {
        self.log.read(at, from, n)
    }

    fn tail(&self, at: TopicPartition, from: Offset) -> BoxStream<'static, Result<Entry>> {
        self.log.tail(at, from)
    }

    fn offsets(&self, at: TopicPartition) -> Result<OffsetRange> {
        self.log.offsets(at)
    }

    fn offset_at(&self, at: TopicPartition, unix_millis: i64) -> BoxFuture<'_, Result<Offset>> {
        self.log.offset_at(at, unix_millis)
    }

    fn commit(&self, group: &str, at: TopicPartition, offset: Offset) -> BoxFuture<'_, Result<()>> {
        self.log.commit(group, at, offset)
    }

    fn committed(&self, group: &str, at: TopicPartition) -> Result<Option<Offset>> {
        self.log.committed(group, at)
    }

    fn ownership(&self) -> Ownership {
        Ownership::told(self.owned.subscribe())
    }
}

fn all() -> Vec<TopicPartition> {
    [(topic::LOGS_CRITICAL, 0), (topic::LOGS_ROUTINE, 0), (topic::LOGS_ROUTINE, 1)]
        .map(|(topic, partition)| TopicPartition::new(topic, partition))
        .into()
}

async fn open(directory: &TempDir, log: &Arc<SharedLog>) -> Arc<LakeTable> {
    let config = LakeConfig {
        flush_interval_ms: 5,
        maintenance_interval_secs: 1,
        compaction_min_files: 2,
        ..quiet()
    };
    let log = Arc::clone(log) as Arc<dyn Log>;
    LakeTable::open(directory.path(), TableSpec::logs(), config, log).await.unwrap()
}

/// Waits until the table's files have `rows` rows, each once, as another program sees them.
async fn until_committed(table: &LakeTable, rows: i64) {
    let began = Instant::now();
    loop {
        let url = deltalake::ensure_table_uri(table.path().to_str().unwrap()).unwrap();
        let files = deltalake::open_table(url).await.unwrap();
        let session = datafusion::prelude::SessionContext::new();
        session.register_table("logs", files.table_provider().await.unwrap()).unwrap();
        let all = number(&session, "SELECT count(*) FROM logs").await;
        let distinct = number(&session, "SELECT count(DISTINCT event_id) FROM logs").await;
        assert_eq!(all, distinct, "rows are repeated");
        if all == rows {
            return;
        }
        assert!(all < rows && began.elapsed() < PATIENCE, "{all} of {rows} rows");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_both_think_that_they_own_a_partition_commit_each_row_once() {
    let (directory, log) = (TempDir::new().unwrap(), log());
    let shared = [SharedLog::new(&log, all()), SharedLog::new(&log, all())];
    let (a, b) = tokio::join!(open(&directory, &shared[0]), open(&directory, &shared[1]));
    for batch in 0..150 {
        append(&log, batch * 20, 20, DAY_START_MICROS).await;
        sleep(Duration::from_millis(5)).await;
        let session = session(if batch % 2 == 0 { &a } else { &b });
        assert_eq!(count(&session).await, (batch as i64 + 1) * 20, "seen at any moment");
    }
    until_committed(&a, 3000).await;
    for table in [&a, &b] {
        assert_eq!(count(&session(table)).await, 3000);
        table.shutdown().await;
    }
    until_committed(&a, 3000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_move_while_rows_come_are_drained_by_whoever_has_them() {
    let (directory, log) = (TempDir::new().unwrap(), log());
    let (left, right) = (SharedLog::new(&log, all()), SharedLog::new(&log, vec![]));
    let (a, b) = (open(&directory, &left).await, open(&directory, &right).await);
    for batch in 0..200 {
        append(&log, batch * 10, 10, DAY_START_MICROS).await;
        if batch % 20 == 19 {
            let mut kept = all();
            let taken = kept.split_off(batch as usize / 20 % 4);
            left.own(kept);
            right.own(taken);
        }
        sleep(Duration::from_millis(5)).await;
    }
    until_committed(&a, 2000).await;
    for table in [&a, &b] {
        assert_eq!(count(&session(table)).await, 2000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_owns_nothing_sees_what_others_commit() {
    let (directory, log) = (TempDir::new().unwrap(), log());
    let (left, right) = (SharedLog::new(&log, all()), SharedLog::new(&log, vec![]));
    let (a, b) = (open(&directory, &left).await, open(&directory, &right).await);
    append(&log, 0, 100, DAY_START_MICROS).await;
    a.flush().await.unwrap();
    let began = Instant::now();
    while b.version() < a.version() {
        assert!(began.elapsed() < PATIENCE, "the commit is not seen");
        sleep(Duration::from_millis(50)).await;
    }
    log.drop_committed();
    assert_eq!(count(&session(&b)).await, 100);
}
