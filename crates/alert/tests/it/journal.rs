//! A log that is away for a while.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arrow::array::RecordBatch;
use futures::{FutureExt as _, future::BoxFuture, stream::BoxStream};
use thalweg_alert::{ALERTS, State};
use thalweg_log::{
    Appended, EmbeddedLog, Entry, Log, LogError, Offset, OffsetRange, Result, TopicPartition,
};

use crate::{
    node::{Disk, Table, eventually, start, until},
    webhook::{Behaviour, Server, yaml},
};

/// A log that takes nothing while it is away.
struct Flaky {
    log: Arc<EmbeddedLog>,
    is_away: AtomicBool,
    /// Whether it hangs then, in place of an error.
    hangs: bool,
}

impl Log for Flaky {
    fn partitions(&self, topic: &str) -> Result<u32> {
        self.log.partitions(topic)
    }

    fn append(&self, at: TopicPartition, batch: RecordBatch) -> BoxFuture<'_, Result<Appended>> {
        let append = async move {
            if self.hangs {
                while self.is_away.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            if self.is_away.load(Ordering::Relaxed) {
                return Err(LogError::Unavailable { at, reason: "away".into() });
            }
            self.log.append(at, batch).await
        };
        append.boxed()
    }

    fn read(
        &self,
        at: TopicPartition,
        from: Offset,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<Vec<Entry>>> {
        self.log.read(at, from, max_bytes)
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
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_are_told_while_the_log_is_away_and_the_table_is_complete_afterwards() {
    for hangs in [false, true] {
        let (server, address) = Server::start(&[Behaviour::Accept]).await;
        let (disk, table) = (Disk::new(), Table::of(&[("payment", 0.5)]));
        let log = Arc::new(Flaky { log: disk.log.clone(), is_away: true.into(), hangs });
        let yaml = yaml(&[("ops", address)], "");
        let alerts = start(&yaml, Arc::new(table.clone()), log.clone(), &disk.state()).await;
        server.wait_for(1).await;
        table.set(&[]);
        until(&alerts, "payment", Some(State::Resolved)).await;
        assert_eq!(disk.rows(ALERTS, &["state"]).await, Vec::<Vec<String>>::new());
        log.is_away.store(false, Ordering::Relaxed);
        eventually("the rows", async || {
            let rows = disk.rows(ALERTS, &["state"]).await;
            (rows == [["firing"], ["resolved"]]).then_some(())
        })
        .await;
        alerts.stop().await;
    }
}
