//! A log in memory, which retention can be made to overtake readers of.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use thalweg_log::{Appended, Entry, Log, LogError, Offset, OffsetRange, Result, TopicPartition};
use tokio::sync::watch;

pub(crate) struct MemoryLog {
    partitions: BTreeMap<TopicPartition, Arc<Partition>>,
    committed: Mutex<BTreeMap<(String, TopicPartition), Offset>>,
}

struct Partition {
    at: TopicPartition,
    entries: Mutex<Vec<Entry>>,
    range: watch::Sender<OffsetRange>,
}

impl MemoryLog {
    pub(crate) fn new(topics: &[(&str, u32)]) -> Arc<Self> {
        let places = topics.iter().flat_map(|&(topic, partitions)| {
            (0..partitions).map(move |partition| TopicPartition::new(topic, partition))
        });
        let partition = |at: TopicPartition| {
            let range = watch::Sender::new(OffsetRange { start: 0, end: 0 });
            (at.clone(), Arc::new(Partition { at, entries: Mutex::default(), range }))
        };
        let partitions = places.map(partition).collect();
        Arc::new(Self { partitions, committed: Mutex::default() })
    }

    /// Drops everything that all groups have committed.
    pub(crate) fn drop_committed(&self) {
        for (at, partition) in &self.partitions {
            let committed = self.committed.lock();
            let groups = committed.iter().filter(|((_, place), _)| place == at);
            let Some(keep) = groups.map(|(_, &offset)| offset).min() else { continue };
            partition.entries.lock().retain(|entry| entry.next_offset > keep);
            partition.range.send_modify(|range| range.start = range.start.max(keep));
        }
    }

    pub(crate) fn end(&self) -> u64 {
        self.partitions.values().map(|partition| partition.range.borrow().end).sum()
    }

    fn partition(&self, at: &TopicPartition) -> Result<&Arc<Partition>> {
        self.partitions.get(at).ok_or_else(|| LogError::UnknownPartition(at.clone()))
    }
}

impl Partition {
    fn read(&self, from: Offset, max_bytes: usize) -> Result<Vec<Entry>> {
        let entries = self.entries.lock();
        let OffsetRange { start, end } = *self.range.borrow();
        if from < start || from > end {
            return Err(LogError::OffsetOutOfRange {
                at: self.at.clone(),
                offset: from,
                start,
                end,
            });
        }
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            let fits = bytes < max_bytes;
            bytes += entry.batch.get_array_memory_size();
            fits
        };
        Ok(entries.iter().filter(|e| e.next_offset > from).take_while(fits).cloned().collect())
    }
}

impl Log for MemoryLog {
    fn partitions(&self, topic: &str) -> Result<u32> {
        let partitions = self.partitions.keys().filter(|at| at.topic.as_ref() == topic).count();
        if partitions == 0 {
            return Err(LogError::UnknownTopic(topic.into()));
        }
        Ok(partitions as u32)
    }

    fn append(&self, at: TopicPartition, batch: RecordBatch) -> BoxFuture<'_, Result<Appended>> {
        let append = || {
            let partition = self.partition(&at)?;
            let mut entries = partition.entries.lock();
            let offset = partition.range.borrow().end;
            let next_offset = offset + batch.num_rows() as u64;
            let append_unix_millis = chrono::Utc::now().timestamp_millis();
            entries.push(Entry { offset, next_offset, append_unix_millis, batch });
            partition.range.send_modify(|range| range.end = next_offset);
            Ok(Appended { offset, next_offset })
        };
        std::future::ready(append()).boxed()
    }

    fn read(
        &self,
        at: TopicPartition,
        from: Offset,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<Vec<Entry>>> {
        let read = self.partition(&at).and_then(|partition| partition.read(from, max_bytes));
        async {
            tokio::task::yield_now().await;
            read
        }
        .boxed()
    }

    fn tail(&self, at: TopicPartition, from: Offset) -> BoxStream<'static, Result<Entry>> {
        let partition = match self.partition(&at) {
            Ok(partition) => Arc::clone(partition),
            Err(error) => return stream::once(async { Err(error) }).boxed(),
        };
        let range = partition.range.subscribe();
        let entries =
            stream::unfold((partition, range, from), |(partition, mut range, from)| async move {
                loop {
                    match partition.read(from, 1) {
                        Ok(entries) => match entries.into_iter().next() {
                            Some(entry) => {
                                let next = entry.next_offset;
                                return Some((Ok(entry), (partition, range, next)));
                            }
                            None => range.changed().await.ok()?,
                        },
                        Err(error) => return Some((Err(error), (partition, range, from))),
                    }
                }
            });
        entries.boxed()
    }

    fn offsets(&self, at: TopicPartition) -> Result<OffsetRange> {
        Ok(*self.partition(&at)?.range.borrow())
    }

    fn offset_at(&self, at: TopicPartition, unix_millis: i64) -> BoxFuture<'_, Result<Offset>> {
        let find = || {
            let partition = self.partition(&at)?;
            let entries = partition.entries.lock();
            let found = entries.iter().find(|entry| entry.append_unix_millis >= unix_millis);
            Ok(found.map_or(partition.range.borrow().end, |entry| entry.offset))
        };
        std::future::ready(find()).boxed()
    }

    fn commit(&self, group: &str, at: TopicPartition, offset: Offset) -> BoxFuture<'_, Result<()>> {
        self.committed.lock().insert((group.into(), at), offset);
        std::future::ready(Ok(())).boxed()
    }

    fn committed(&self, group: &str, at: TopicPartition) -> Result<Option<Offset>> {
        Ok(self.committed.lock().get(&(group.to_string(), at)).copied())
    }
}
