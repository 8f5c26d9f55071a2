//! The one consumer that reads the ends of all partitions, for everything in this process.
//!
//! Views, tables, live tails: all look at the latest rows, so they are fetched and decoded once.
//! Following is also what finds messages that no row can be made of. How far it has looked is kept
//! as an offset of a consumer group, committed behind the rejected records it has led to, so that
//! such a message may be reported twice after a crash, but not missed.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use futures::future::join_all;
use rdkafka::{
    Message as _, Offset as Position, TopicPartitionList,
    consumer::{CommitMode, Consumer as _},
    error::{KafkaError, KafkaResult},
};
use thalweg_log::{LogError, Offset, Result, TopicPartition};
use tokio::runtime::Handle;

use crate::{
    client::{Consumer, consumer, is_answered, join_soon, partition_number, watermarks},
    config::KafkaConfig,
    message::Incoming,
    meters,
    partition::Partition,
    readers::{is_out_of_range, is_passing},
    rejects::Rejects,
    reporting::Reporting,
};

/// What is fetched ahead.
const PREFETCH_KBYTES: usize = 16 << 10;
/// Longest that orders to the follower wait.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);
/// Messages that are decoded together, at most.
const MAX_MESSAGES: usize = 4096;
const MAX_BYTES: usize = 4 << 20;
/// Pause before partitions are followed anew.
const FIND_AGAIN: Duration = Duration::from_millis(500);
/// How long a partition may end before what was read of it.
pub(crate) const LOST_AFTER: Duration = Duration::from_secs(30);
/// How often Kafka is told how far the partitions were followed.
const COMMIT_EVERY: Duration = Duration::from_secs(5);

/// Follows partitions on a thread of its own.
pub(crate) struct Follower {
    orders: mpsc::Sender<Order>,
    thread: JoinHandle<()>,
}

enum Order {
    Follow(Vec<Arc<Partition>>),
    Leave(String),
    Stop,
}

struct Following {
    consumer: Consumer,
    partitions: HashMap<(String, i32), Arc<Partition>>,
    rejects: Rejects,
    reporting: Reporting,
    runtime: Handle,
    committed: BTreeMap<TopicPartition, Offset>,
    commit_at: Instant,
    /// Partitions that end before what was read of them, and since when that is so.
    lost: BTreeMap<TopicPartition, Instant>,
}

impl Follower {
    /// Begins to follow, as `group`.
    ///
    /// # Errors
    /// [`LogError::Config`], [`LogError::Io`] when no thread can be started.
    pub(crate) fn start(
        config: &KafkaConfig,
        group: &str,
        rejects: Rejects,
        reporting: Reporting,
        runtime: Handle,
    ) -> Result<Self> {
        let (orders, received) = mpsc::channel();
        let following = Following {
            consumer: consumer(config, group, PREFETCH_KBYTES)?,
            partitions: HashMap::new(),
            rejects,
            reporting,
            runtime,
            committed: BTreeMap::new(),
            commit_at: Instant::now() + COMMIT_EVERY,
            lost: BTreeMap::new(),
        };
        let follow = move || following.run(&received);
        let thread = thread::Builder::new().name("kafka-follow".into()).spawn(follow);
        let thread = thread.map_err(|error| LogError::Io {
            place: "starting a thread".into(),
            reason: error.to_string(),
        })?;
        Ok(Self { orders, thread })
    }

    /// Follows further partitions, from where they are followed already.
    pub(crate) fn follow(&self, partitions: Vec<Arc<Partition>>) {
        self.order(Order::Follow(partitions));
    }

    /// Follows the partitions of `topic` no longer.
    pub(crate) fn leave(&self, topic: &str) {
        self.order(Order::Leave(topic.to_owned()));
    }

    /// Ends following. Blocks for the broker, for a short while.
    pub(crate) fn stop(self) {
        self.order(Order::Stop);
        join_soon(self.thread);
    }

    fn order(&self, order: Order) {
        if self.orders.send(order).is_err() {
            tracing::error!("the thread that follows Kafka has ended");
        }
    }
}

impl Following {
    fn run(mut self, orders: &mpsc::Receiver<Order>) {
        loop {
            match orders.try_recv() {
                Ok(Order::Follow(partitions)) => self.follow(partitions),
                Ok(Order::Leave(topic)) => self.leave(&topic),
                Ok(Order::Stop) | Err(mpsc::TryRecvError::Disconnected) => break,
                Err(mpsc::TryRecvError::Empty) => self.step(),
            }
        }
        self.commit(CommitMode::Sync);
    }

    fn follow(&mut self, partitions: Vec<Arc<Partition>>) {
        let list = partition_list(partitions.iter().map(|p| (&p.at, p.followed())));
        if let Err(error) = list.and_then(|list| self.consumer.incremental_assign(&list)) {
            tracing::error!(%error, "partitions cannot be followed");
        }
        for partition in partitions {
            let place = (partition.at.topic.to_string(), partition_number(&partition.at));
            self.partitions.insert(place, partition);
        }
    }

    fn leave(&mut self, topic: &str) {
        let (left, kept) = std::mem::take(&mut self.partitions)
            .into_iter()
            .partition(|((name, _), _)| name == topic);
        self.partitions = kept;
        let left: HashMap<_, Arc<Partition>> = left;
        let list = partition_list(left.values().map(|p| (&p.at, p.followed())));
        if let Err(error) = list.and_then(|list| self.consumer.incremental_unassign(&list)) {
            tracing::warn!(topic, %error, "a topic is still fetched");
        }
        self.committed.retain(|at, _| &*at.topic != topic);
    }

    /// Takes what there is, decodes it, and shows it.
    fn step(&mut self) {
        self.reporting.update(self.partitions.values());
        let mut messages: HashMap<(String, i32), Vec<Incoming>> = HashMap::new();
        let (mut count, mut bytes) = (0, 0);
        let (mut patience, mut is_lost) = (POLL_TIMEOUT, false);
        while count < MAX_MESSAGES
            && bytes < MAX_BYTES
            && let Some(polled) = self.consumer.poll(patience)
        {
            patience = Duration::ZERO;
            match polled {
                Ok(message) => {
                    count += 1;
                    bytes += message.payload_len();
                    let place = (message.topic().to_owned(), message.partition());
                    messages.entry(place).or_default().push(Incoming::from(&message));
                }
                Err(KafkaError::PartitionEOF(_)) => {}
                Err(error) if is_passing(&error) => {}
                // Of which partition, librdkafka does not say; it fetches that one no more.
                Err(error) if is_out_of_range(&error) => is_lost = true,
                Err(error) => tracing::warn!(%error, "following Kafka"),
            }
        }
        for (place, messages) in messages {
            // The log was closed: what is behind records that are not stored is not followed.
            if let Some(partition) = self.partitions.get(&place)
                && !self.show(partition, messages)
            {
                self.partitions.remove(&place);
            }
        }
        if is_lost {
            self.find_again();
        }
        if self.commit_at <= Instant::now() {
            self.commit(CommitMode::Async);
            self.commit_at = Instant::now() + COMMIT_EVERY;
        }
    }

    /// Follows all partitions anew, behind what retention has removed.
    fn find_again(&mut self) {
        thread::sleep(FIND_AGAIN);
        let mut partitions: Vec<Arc<Partition>> =
            std::mem::take(&mut self.partitions).into_values().collect();
        let mut lost = std::mem::take(&mut self.lost);
        partitions.retain(|partition| {
            let (at, followed) = (&partition.at, partition.followed());
            match watermarks(&self.consumer, at) {
                // A new leader may not know yet how far its log is valid.
                Ok((_, end)) if end < followed => {
                    let since = lost.remove(at).unwrap_or_else(Instant::now);
                    if since.elapsed() >= LOST_AFTER {
                        tracing::error!(
                            %at, followed, end,
                            "Kafka has lost messages of a partition, or its topic was made anew; it \
                             is not followed any more: restart thalweg when it is as it should be"
                        );
                        return false;
                    }
                    self.lost.insert(at.clone(), since);
                }
                Ok((start, _)) => {
                    partition.note_start(start);
                    if followed < start {
                        tracing::warn!(%at, followed, start, "retention was faster");
                        partition.push(vec![partition.codec.gap(followed, start, 0)]);
                    }
                }
                Err(error) => tracing::info!(%at, %error, "finding a partition"),
            }
            true
        });
        if let Err(error) = self.consumer.unassign() {
            tracing::warn!(%error, "partitions are followed anew");
        }
        self.follow(partitions);
    }

    /// Shows what `messages` hold, unless the log is closed before what cannot be read is stored.
    fn show(&self, partition: &Arc<Partition>, mut messages: Vec<Incoming>) -> bool {
        let followed = partition.followed();
        messages.retain(|message| message.offset >= followed);
        let decoded = partition.codec.decode(&partition.at, followed, &messages);
        if self.reporting.is_here(&partition.at) {
            // First, so that whoever covers the offset of a rejected record may rely on its being
            // stored.
            let stored = decoded.rejected.into_iter().map(|rejected| {
                meters::damaged(&partition.at, rejected.num_rows());
                self.rejects.store(&partition.at, rejected)
            });
            if self.runtime.block_on(join_all(stored)).contains(&false) {
                return false;
            }
        }
        partition.push(decoded.entries);
        true
    }

    fn commit(&mut self, mode: CommitMode) {
        let moved: Vec<(TopicPartition, Offset)> = self
            .partitions
            .values()
            .filter(|partition| self.reporting.is_complete(&partition.at))
            .map(|partition| (partition.at.clone(), partition.followed()))
            .filter(|(at, followed)| self.committed.get(at) != Some(followed))
            .collect();
        if !moved.first().is_some_and(|(at, _)| is_answered(&self.consumer, &at.topic)) {
            return tracing::debug!(
                "how far Kafka was followed is committed when brokers are back"
            );
        }
        let list = partition_list(moved.iter().map(|(at, offset)| (at, *offset)));
        match list.and_then(|list| self.consumer.commit(&list, mode)) {
            Ok(()) => self.committed.extend(moved),
            Err(error) => tracing::info!(%error, "how far Kafka was followed is not committed"),
        }
    }
}

/// librdkafka's list of partitions with an offset each.
pub(crate) fn partition_list<'p>(
    partitions: impl Iterator<Item = (&'p TopicPartition, Offset)>,
) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (at, offset) in partitions {
        let position = Position::Offset(i64::try_from(offset).unwrap_or(i64::MAX));
        list.add_partition_offset(&at.topic, partition_number(at), position)?;
    }
    Ok(list)
}
