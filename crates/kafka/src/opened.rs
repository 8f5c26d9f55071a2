//! The partitions that are open, and reads of them.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use parking_lot::RwLock;
use thalweg_log::{Entry, LogError, Offset, Owned, Ownership, Result, TopicPartition};
use tokio::{sync::watch, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

use crate::{
    client::unavailable,
    groups::Groups,
    lane_handle::LaneHandle,
    meters,
    overflow::Packed,
    partition::{Found, Partition},
    readers::Readers,
};

/// What a tailing reader takes at once.
const TAIL_BYTES: usize = 4 << 20;
/// How long rows that were acknowledged may take to be read by the follower before a reader reads
/// them itself.
const FOLLOW_PATIENCE: Duration = Duration::from_millis(500);
/// Pause of a tailing reader after Kafka did not answer.
const TAIL_RETRY: Duration = Duration::from_secs(1);

/// What readers work with.
pub(crate) struct Shared {
    pub(crate) topics: RwLock<BTreeMap<String, Vec<Opened>>>,
    pub(crate) readers: Arc<Readers>,
    pub(crate) groups: Groups,
    pub(crate) closed: CancellationToken,
    /// Partitions that this process works on, if it shares them with others.
    pub(crate) owned: Option<watch::Sender<Owned>>,
}

/// A partition that is open.
pub(crate) struct Opened {
    pub(crate) partition: Arc<Partition>,
    pub(crate) lane: LaneHandle,
}

impl Shared {
    pub(crate) fn partition(&self, at: &TopicPartition) -> Result<Arc<Partition>> {
        self.with(at, |opened| Arc::clone(&opened.partition))
    }

    pub(crate) fn with<T>(
        &self,
        at: &TopicPartition,
        take: impl FnOnce(&Opened) -> T,
    ) -> Result<T> {
        let topics = self.topics.read();
        let unknown = || LogError::UnknownTopic(at.topic.to_string());
        let partitions = topics.get(&*at.topic).ok_or_else(unknown)?;
        let opened = partitions.get(at.partition as usize);
        opened.map(take).ok_or_else(|| LogError::UnknownPartition(at.clone()))
    }

    pub(crate) fn ownership(&self) -> Ownership {
        self.owned.as_ref().map_or_else(Ownership::all, |owned| Ownership::told(owned.subscribe()))
    }

    pub(crate) async fn read(
        &self,
        partition: &Arc<Partition>,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Vec<Entry>> {
        let mut followed = partition.subscribe();
        let deadline = tokio::time::Instant::now() + FOLLOW_PATIENCE;
        loop {
            // What another process has read or put into a table may not have been heard of here.
            if self.owned.is_some() && from > partition.offsets().end {
                return Ok(vec![]);
            }
            match partition.find(from, max_bytes)? {
                Found::Entries(entries) => {
                    meters::read("memory");
                    return Ok(entries);
                }
                Found::OnDisk(packed) => match read_packed(packed).await {
                    Ok(entries) => {
                        meters::read("disk");
                        return Ok(entries);
                    }
                    Err(error) => {
                        tracing::warn!(at = %partition.at, %error, "reading it from Kafka again");
                        partition.forget_disk();
                        break;
                    }
                },
                Found::AtEnd => return Ok(vec![]),
                // The follower is about to bring it.
                Found::Elsewhere if *followed.borrow_and_update() <= from => {
                    let changed = tokio::time::timeout_at(deadline, followed.changed());
                    if changed.await.is_err() {
                        break;
                    }
                }
                Found::Elsewhere => break,
            }
        }
        meters::read("kafka");
        let _turn = self.readers.turn().await;
        let (readers, partition) = (Arc::clone(&self.readers), Arc::clone(partition));
        let at = partition.at.clone();
        let read = spawn_blocking(move || readers.read(&partition, from, max_bytes)).await;
        read.unwrap_or_else(|error| Err(unavailable(&at, &error)))
    }

    /// Asks what retention has removed.
    pub(crate) fn note_starts(&self) {
        let partitions: Vec<Arc<Partition>> = {
            let topics = self.topics.read();
            topics.values().flatten().map(|opened| Arc::clone(&opened.partition)).collect()
        };
        for partition in partitions {
            match self.readers.watermarks(&partition.at) {
                Ok((start, _)) => partition.note_start(start),
                Err(error) => return tracing::debug!(%error, "what retention removed is not known"),
            }
        }
    }
}

async fn read_packed(packed: Vec<Packed>) -> io::Result<Vec<Entry>> {
    let read = move || packed.iter().map(Packed::read).collect();
    spawn_blocking(read).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Entries from `from` on, for ever; ends when the log is closed and after an error that does not
/// pass.
pub(crate) fn tail(
    shared: Arc<Shared>,
    partition: Arc<Partition>,
    from: Offset,
) -> impl stream::Stream<Item = Result<Entry>> {
    let followed = partition.subscribe();
    stream::unfold(Some((shared, partition, followed, from)), async |state| {
        let (shared, partition, mut followed, from) = state?;
        loop {
            followed.borrow_and_update();
            let read = shared.read(&partition, from, TAIL_BYTES);
            match shared.closed.run_until_cancelled(read).await? {
                Ok(entries) if !entries.is_empty() => {
                    let next = entries.last().map_or(from, |last| last.next_offset);
                    let entries = stream::iter(entries.into_iter().map(Ok));
                    let state = Some((Arc::clone(&shared), partition, followed, next));
                    return Some((entries.left_stream(), state));
                }
                Ok(_) => {
                    shared.closed.run_until_cancelled(followed.changed()).await?.ok()?;
                }
                // Brokers that are away come back.
                Err(LogError::Unavailable { at, reason }) => {
                    tracing::info!(%at, reason, "reading on when Kafka answers");
                    shared.closed.run_until_cancelled(tokio::time::sleep(TAIL_RETRY)).await?;
                }
                Err(error) => return Some((stream::iter([Err(error)]).right_stream(), None)),
            }
        }
    })
    .flatten()
}
