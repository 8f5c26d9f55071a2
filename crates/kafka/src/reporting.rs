//! Who reports damaged messages, where several processes follow the same partitions: whoever works
//! on the partition, at least once.
//!
//! How far messages were reported is committed as an offset of a consumer group. A process that takes
//! a partition over reports what it reads from then on, and looks through what lies between that
//! offset and what it had read before; until that is done, it commits nothing of the partition.

use std::{collections::BTreeSet, mem, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rdkafka::Message as _;
use thalweg_log::{Offset, Ownership, Result, TopicPartition};
use tokio::{runtime::Handle, sync::Semaphore, task::spawn_blocking};

use crate::{
    client::{OWN_GROUP, unavailable},
    config::KafkaConfig,
    groups::Groups,
    message::Incoming,
    meters,
    partition::Partition,
    readers::Readers,
    rejects::Rejects,
};

/// Pause after brokers have not answered.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Messages that are looked at together, at most.
const MAX_MESSAGES: usize = 1024;
const MAX_BYTES: usize = 4 << 20;

/// What is reported of here.
pub(crate) struct Reporting {
    ownership: Ownership,
    /// Who looks through what processes before this one have left; nobody where there are none.
    reporter: Option<(Reporter, Handle)>,
    /// Partitions that this process reports of.
    reported: BTreeSet<TopicPartition>,
    /// Partitions of which something before has still to be looked through, as often as it has.
    looking: Arc<Mutex<Vec<TopicPartition>>>,
}

/// Reports damaged messages.
#[derive(Clone)]
pub(crate) struct Reporter {
    pub(crate) config: KafkaConfig,
    pub(crate) readers: Arc<Readers>,
    pub(crate) rejects: Rejects,
    /// One look at a time.
    pub(crate) looks: Arc<Semaphore>,
}

impl Reporting {
    /// Of a process that works on the partitions that `ownership` says.
    pub(crate) fn new(ownership: Ownership, reporter: Reporter, runtime: Handle) -> Self {
        let reporter = ownership.is_shared().then_some((reporter, runtime));
        Self { ownership, reporter, ..Self::alone() }
    }

    /// Of a process that works on all partitions.
    pub(crate) fn alone() -> Self {
        let (ownership, reported, looking) = Default::default();
        Self { ownership, reporter: None, reported, looking }
    }

    /// Takes up the partitions that have come, of all that are followed, and lets go of those that
    /// are gone.
    pub(crate) fn update<'p>(&mut self, followed: impl Iterator<Item = &'p Arc<Partition>>) {
        for partition in followed {
            let at = &partition.at;
            if !self.ownership.owns(at) {
                self.reported.remove(at);
            } else if self.reported.insert(at.clone())
                && let Some((reporter, runtime)) = &self.reporter
            {
                self.looking.lock().push(at.clone());
                let (reporter, looking) = (reporter.clone(), Arc::clone(&self.looking));
                let (partition, until) = (Arc::clone(partition), partition.followed());
                let ownership = self.ownership.clone();
                runtime.spawn(async move {
                    let at = &partition.at;
                    tokio::select! {
                        () = reporter.look(&partition, until) => {}
                        () = ownership.until(at, false) => {}
                    }
                    let mut looking = looking.lock();
                    if let Some(index) = looking.iter().position(|looked| looked == at) {
                        looking.swap_remove(index);
                    }
                });
            }
        }
    }

    /// Whether damaged messages of `at` are reported here.
    pub(crate) fn is_here(&self, at: &TopicPartition) -> bool {
        self.reported.contains(at)
    }

    /// Whether everything of `at` that was followed has been reported.
    pub(crate) fn is_complete(&self, at: &TopicPartition) -> bool {
        self.is_here(at) && !self.looking.lock().contains(at)
    }
}

impl Reporter {
    /// Looks through what nobody has said to have reported, up to `until`.
    async fn look(&self, partition: &Arc<Partition>, until: Offset) {
        loop {
            let turn = self.looks.acquire().await;
            let (reporter, partition) = (self.clone(), Arc::clone(partition));
            let at = partition.at.clone();
            let look = spawn_blocking(move || reporter.look_once(&partition, until)).await;
            drop(turn);
            match look.unwrap_or_else(|error| Err(unavailable(&at, &error))) {
                Ok(()) => return,
                Err(error) => {
                    tracing::info!(%at, %error, "damaged messages are looked for when Kafka answers");
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
        }
    }

    fn look_once(&self, partition: &Partition, until: Offset) -> Result<()> {
        let at = &partition.at;
        let start = partition.offsets().start;
        let committed = Groups::fetch(&self.config, OWN_GROUP, std::slice::from_ref(at))?;
        let from = committed.get(at).map_or(start, |committed| start.max(*committed));
        let (mut messages, mut bytes, mut is_reported) = (vec![], 0, true);
        self.readers.scan(at, from, until, |message| {
            bytes += message.payload().map_or(0, <[u8]>::len);
            messages.push(Incoming::from(message));
            if messages.len() >= MAX_MESSAGES || bytes >= MAX_BYTES {
                bytes = 0;
                is_reported &= self.report(partition, &mem::take(&mut messages));
            }
        })?;
        is_reported &= self.report(partition, &messages);
        is_reported.then_some(()).ok_or_else(|| unavailable(at, &"the log is closed"))
    }

    /// Reports the messages among these that no rows can be made of. Blocks for the topic of
    /// rejected records; answers whether they are there.
    fn report(&self, partition: &Partition, messages: &[Incoming]) -> bool {
        let Some(first) = messages.first() else { return true };
        let decoded = partition.codec.decode(&partition.at, first.offset, messages);
        decoded.rejected.into_iter().all(|rejected| {
            meters::damaged(&partition.at, rejected.num_rows());
            Handle::current().block_on(self.rejects.store(&partition.at, rejected))
        })
    }
}
