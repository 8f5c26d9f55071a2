//! A log in memory that can be held up and told to fail.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use arrow::array::{AsArray, RecordBatch};
use futures::{future::BoxFuture, stream::BoxStream};
use thalweg_log::{Appended, Entry, Log, LogError, Offset, OffsetRange, Result, TopicPartition};
use tokio::sync::watch;

pub(crate) const TOPICS: [&str; 6] =
    ["logs.critical", "logs.routine", "logs.payment", "logs.eu", "spans", "rejected"];

pub(crate) struct MemoryLog {
    partitions: u32,
    entries: Mutex<HashMap<TopicPartition, Vec<Entry>>>,
    /// Topics in the order in which appends came, durable or not.
    asked: Mutex<Vec<String>>,
    failing: Mutex<HashMap<String, LogError>>,
    held: watch::Sender<Option<&'static str>>,
}

impl MemoryLog {
    pub(crate) fn new() -> Arc<Self> {
        Self::with_partitions(1)
    }

    pub(crate) fn with_partitions(partitions: u32) -> Arc<Self> {
        Arc::new(Self {
            partitions,
            entries: Mutex::default(),
            asked: Mutex::default(),
            failing: Mutex::default(),
            held: watch::channel(None).0,
        })
    }

    /// Appends to `topic` fail from now on.
    pub(crate) fn fail(&self, topic: &str, error: LogError) {
        self.failing.lock().unwrap().insert(topic.to_owned(), error);
    }

    pub(crate) fn storage_full(&self, topic: &str) {
        self.fail(topic, LogError::StorageFull(TopicPartition::new(topic, 0)));
    }

    pub(crate) fn heal(&self) {
        self.failing.lock().unwrap().clear();
    }

    /// Appends to `topic` are not durable until [`MemoryLog::let_go`].
    pub(crate) fn hold(&self, topic: &'static str) {
        self.held.send_replace(Some(topic));
    }

    pub(crate) fn let_go(&self) {
        self.held.send_replace(None);
    }

    /// Topics that were appended to, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// Waits until `appends` appends have come.
    pub(crate) async fn has_been_asked(&self, appends: usize) {
        while self.asked.lock().unwrap().len() < appends {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }

    pub(crate) fn batches(&self, topic: &str, partition: u32) -> Vec<RecordBatch> {
        let entries = self.entries.lock().unwrap();
        let entries = entries.get(&TopicPartition::new(topic, partition));
        entries.into_iter().flatten().map(|entry| entry.batch.clone()).collect()
    }

    /// Values of a text column of partition 0, in order.
    pub(crate) fn texts(&self, topic: &str, column: &str) -> Vec<String> {
        self.batches(topic, 0).iter().flat_map(|batch| texts(batch, column)).collect()
    }

    /// Messages stored in either topic of logs, sorted.
    pub(crate) fn messages(&self) -> Vec<String> {
        let mut messages = self.texts("logs.critical", "message");
        messages.extend(self.texts("logs.routine", "message"));
        messages.sort();
        messages
    }
}

/// Values of a text column, dictionary-encoded or not; null is empty.
pub(crate) fn texts(batch: &RecordBatch, column: &str) -> Vec<String> {
    let plain = arrow::compute::cast(&batch[column], &arrow::datatypes::DataType::Utf8).unwrap();
    plain.as_string::<i32>().iter().map(|text| text.unwrap_or_default().to_owned()).collect()
}

impl Log for MemoryLog {
    fn partitions(&self, topic: &str) -> Result<u32> {
        match topic {
            "rejected" => Ok(1),
            topic if TOPICS.contains(&topic) => Ok(self.partitions),
            _ => Err(LogError::UnknownTopic(topic.to_owned())),
        }
    }

    fn append(&self, at: TopicPartition, batch: RecordBatch) -> BoxFuture<'_, Result<Appended>> {
        Box::pin(async move {
            self.asked.lock().unwrap().push(at.topic.to_string());
            let mut held = self.held.subscribe();
            held.wait_for(|held| held.is_none_or(|topic| topic != &*at.topic)).await.unwrap();
            if let Some(error) = self.failing.lock().unwrap().get(&*at.topic) {
                return Err(error.clone());
            }
            let mut entries = self.entries.lock().unwrap();
            let entries = entries.entry(at).or_default();
            let offset = entries.last().map_or(0, |last| last.next_offset);
            let next_offset = offset + batch.num_rows() as u64;
            let append_unix_millis = now_millis();
            entries.push(Entry { offset, next_offset, append_unix_millis, batch });
            Ok(Appended { offset, next_offset })
        })
    }

    fn read(
        &self,
        at: TopicPartition,
        from: Offset,
        _: usize,
    ) -> BoxFuture<'_, Result<Vec<Entry>>> {
        let entries = self.entries.lock().unwrap();
        let next = entries.get(&at).into_iter().flatten().find(|entry| entry.next_offset > from);
        let next = next.cloned().into_iter().collect();
        Box::pin(async move { Ok(next) })
    }

    fn tail(&self, _: TopicPartition, _: Offset) -> BoxStream<'static, Result<Entry>> {
        unreachable!("the ingest does not tail")
    }

    fn offsets(&self, at: TopicPartition) -> Result<OffsetRange> {
        let entries = self.entries.lock().unwrap();
        let last = entries.get(&at).and_then(|entries| entries.last());
        Ok(OffsetRange { start: 0, end: last.map_or(0, |last| last.next_offset) })
    }

    fn offset_at(&self, at: TopicPartition, unix_millis: i64) -> BoxFuture<'_, Result<Offset>> {
        let end = self.offsets(at.clone()).map(|range| range.end);
        let entries = self.entries.lock().unwrap();
        let mut entries = entries.get(&at).into_iter().flatten();
        let first = entries.find(|entry| entry.append_unix_millis >= unix_millis);
        let offset = first.map_or(end, |entry| Ok(entry.offset));
        Box::pin(async move { offset })
    }

    fn commit(&self, _: &str, _: TopicPartition, _: Offset) -> BoxFuture<'_, Result<()>> {
        unreachable!("the ingest reads for no group")
    }

    fn committed(&self, _: &str, _: TopicPartition) -> Result<Option<Offset>> {
        unreachable!("the ingest reads for no group")
    }
}

pub(crate) fn now_millis() -> i64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_epoch.unwrap().as_millis() as i64
}
