//! Topics that others write, as logs that are only read.
//!
//! ```text
//!            ┌─ brokers of others ─┐
//! topic ─────┤                     ├──▶ Follower ─┬─▶ rejected records, stored first
//!            └─────────────────────┘              └─▶ Partition ─▶ read, tail
//! ```
//!
//! A [`SourceLog`] needs no brokers to be opened: it knows its partitions and how far they are read
//! from whoever keeps what [`SourceLog::look`] finds. Its partitions end where they were followed to,
//! not where brokers say, so nothing is waited for that has not come; and a message that cannot be
//! read is in the log of rejected records before any row behind it is seen, so that whoever covers
//! its offset can rely on that.
//!
//! Foreign topics are never created, changed or removed. How far they were followed is committed for
//! the group `thalweg.source.<name>`, which is for those who look there: thalweg never reads it.

pub(crate) mod config;
pub(crate) mod rows;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use arrow::array::RecordBatch;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream, stream::BoxStream};
use parking_lot::{Mutex, RwLock};
use rdkafka::consumer::Consumer as _;
use serde::{Deserialize, Serialize};
use thalweg_log::{Appended, Entry, Log, LogError, Offset, OffsetRange, Result, TopicPartition};
use tokio::{runtime::Handle, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

use self::config::{Begin, Source};
use crate::{
    client::{Consumer, consumer, unavailable, watermarks},
    follower::{Follower, LOST_AFTER},
    groups::Groups,
    kafka_log::offset_at,
    meters,
    opened::{Shared, tail},
    partition::{Partition, RecentBudget},
    readers::Readers,
    rejects::{Rejects, RejectsPlace},
    reporting::Reporting,
};

/// What a consumer that only asks fetches ahead.
const ASK_KBYTES: usize = 1;
/// Longest that a look waits for a broker: a stop waits for the look.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// Memory for the latest rows of a source.
const RECENT_BYTES: usize = 32 << 20;

/// What is known of a topic of others. Kept with the table that is filled from it: offsets mean
/// nothing in another topic or in another cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownTopic {
    /// Its name.
    pub topic: String,
    /// Identity of the cluster that it is in, if that has one.
    pub cluster: Option<String>,
    /// Where each of its partitions begins, as far as the table is concerned.
    pub begins: Vec<Offset>,
    /// What was found of a topic that is not the one that the table was filled from: it is not read
    /// any more, whatever it grows to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<String>,
}

/// A topic that others write, as a [`Log`] that refuses appends.
///
/// Needs a Tokio runtime around its futures. Dropping it closes it.
pub struct SourceLog {
    source: Source,
    known: Option<KnownTopic>,
    /// Partitions that end before what was read of them, and since when that is so.
    short: Mutex<BTreeMap<u32, Instant>>,
    partitions: Vec<Arc<Partition>>,
    shared: Arc<Shared>,
    asking: Consumer,
    follower: Mutex<Option<Following>>,
}

struct Following {
    follower: Follower,
    /// Numbers of the partitions that are followed: those that were found to be the known ones.
    begun: BTreeSet<u32>,
}

/// What brokers say of a partition.
enum Looked {
    /// Where it ends.
    End(Offset),
    /// That it ends before what was read of it, in words.
    Short(String),
}

impl SourceLog {
    /// Opens the partitions of `known`, each from the offset that `covered` has for it. What cannot
    /// be read is appended to the topic `rejected` of `rejected`. Reads nothing before a
    /// [`SourceLog::look`] has found that the topic is the known one.
    ///
    /// # Errors
    /// [`LogError::Config`], [`LogError::Io`] when no thread can be started.
    pub fn open(
        source: &Source,
        known: Option<KnownTopic>,
        covered: &BTreeMap<TopicPartition, Offset>,
        rejected: Arc<dyn Log>,
    ) -> Result<Arc<Self>> {
        let group = format!("thalweg.source.{}", source.name());
        let (client, codec) = (source.client.clone(), source.codec());
        let budget = RecentBudget::of_source(source.name(), RECENT_BYTES);
        let partition = |(number, begin): (u32, &Offset)| {
            let at = TopicPartition::new(source.topic(), number);
            let from = covered.get(&at).map_or(*begin, |covered| *covered);
            let range = OffsetRange { start: from.min(*begin), end: from };
            Partition::new(at, codec.clone(), range, from, Arc::clone(&budget))
        };
        let begins = known.iter().flat_map(|known| &known.begins);
        let partitions = (0..).zip(begins).map(partition).collect();
        let closed = CancellationToken::new();
        let rejects = Rejects { place: RejectsPlace::Log(rejected), closed: closed.clone() };
        Ok(Arc::new(Self {
            asking: consumer(&client, &group, ASK_KBYTES)?,
            follower: Mutex::new(Some(Following {
                follower: Follower::start(
                    &client,
                    &group,
                    rejects,
                    Reporting::alone(),
                    Handle::current(),
                )?,
                begun: BTreeSet::new(),
            })),
            shared: Arc::new(Shared {
                owned: None,
                // Those that are appended to; this log has one, and that is in `partitions`.
                topics: RwLock::default(),
                readers: Arc::new(Readers::new(client.clone())),
                groups: Groups::new(client),
                closed,
            }),
            source: source.clone(),
            known,
            short: Mutex::default(),
            partitions,
        }))
    }

    /// Asks brokers about the topic: begins to follow it when it is the known one, notes what
    /// retention has removed, and shows the lag in metrics. Answers what is known from now on if that
    /// is more than before: the log has to be opened anew with it. Blocks for brokers.
    ///
    /// # Errors
    /// Why the topic cannot be read, in words.
    pub fn look(&self) -> Result<Option<KnownTopic>, String> {
        let found = self.look_once();
        meters::source_up(self.source.name(), found.is_ok());
        found
    }

    fn look_once(&self) -> Result<Option<KnownTopic>, String> {
        let topic = self.source.topic();
        if let Some(found) = self.known.as_ref().and_then(|known| known.replaced.clone()) {
            return Err(found);
        }
        let metadata = self.asking.fetch_metadata(Some(topic), LOOK_TIMEOUT);
        let metadata = metadata.map_err(|error| format!("no broker answers: {error}"))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let found = found.filter(|found| found.error().is_none()).map(|found| found.partitions());
        let Some(found) = found.filter(|partitions| !partitions.is_empty()) else {
            return Err("brokers know no such topic that this user may describe".to_owned());
        };
        let cluster = self.asking.client().fetch_cluster_id(LOOK_TIMEOUT);
        self.expect_known(cluster.as_deref())?;
        let (mut sound, mut fault) = (vec![], None);
        for partition in &self.partitions {
            match self.look_at(partition) {
                Ok(Looked::End(end)) => sound.push((partition, end)),
                Ok(Looked::Short(found)) => return self.note_short(partition, found),
                Err(error) => fault = Some(error),
            }
        }
        self.follow(sound.iter().map(|(partition, _)| *partition));
        for (partition, end) in sound {
            let lag = end.saturating_sub(partition.followed());
            meters::source_lag(self.source.name(), partition.at.partition, lag);
        }
        // The others are read meanwhile.
        if let Some(fault) = fault {
            return Err(fault);
        }
        if found.len() <= self.partitions.len() {
            return Ok(None);
        }
        let mut known = self.known.clone().unwrap_or_else(|| KnownTopic {
            topic: topic.to_owned(),
            cluster,
            begins: vec![],
            replaced: None,
        });
        // Partitions that are added later hold nothing that was written before the table began.
        let is_latest = self.source.kafka.from == Begin::Latest && known.begins.is_empty();
        for number in self.partitions.len()..found.len() {
            let number = u32::try_from(number).map_err(|error| error.to_string())?;
            let (start, end) = self.watermarks(&TopicPartition::new(topic, number))?;
            known.begins.push(if is_latest { end } else { start });
        }
        Ok(Some(known))
    }

    fn expect_known(&self, cluster: Option<&str>) -> Result<(), String> {
        let known = self.known.as_ref().and_then(|known| known.cluster.as_deref());
        match known.zip(cluster) {
            Some((known, found)) if known != found => Err(format!(
                "its table was filled from Kafka cluster {known}, found cluster {found}; give the \
                 source another name to read from there"
            )),
            _ => Ok(()),
        }
    }

    /// Notes where a partition starts.
    fn look_at(&self, partition: &Partition) -> Result<Looked, String> {
        let (start, end) = self.watermarks(&partition.at)?;
        let followed = partition.followed();
        if end < followed {
            return Ok(Looked::Short(format!(
                "{} ends at offset {end}, but was read to {followed}: it was made anew; give the \
                 source another name to read it from its beginning",
                partition.at
            )));
        }
        self.short.lock().remove(&partition.at.partition);
        partition.note_start(start);
        Ok(Looked::End(end))
    }

    /// Notes that a partition ends too early. A new leader may not know yet how far its log is valid;
    /// after a while it is another topic.
    fn note_short(
        &self,
        partition: &Partition,
        found: String,
    ) -> Result<Option<KnownTopic>, String> {
        let number = partition.at.partition;
        let since = *self.short.lock().entry(number).or_insert_with(Instant::now);
        match &self.known {
            Some(known) if since.elapsed() >= LOST_AFTER => {
                Ok(Some(KnownTopic { replaced: Some(found), ..known.clone() }))
            }
            _ => Err(found),
        }
    }

    fn watermarks(&self, at: &TopicPartition) -> Result<(Offset, Offset), String> {
        watermarks(&self.asking, at).map_err(|error| format!("{at}: {error}"))
    }

    fn follow<'p>(&self, sound: impl Iterator<Item = &'p Arc<Partition>>) {
        if let Some(Following { follower, begun }) = self.follower.lock().as_mut() {
            let new = sound.filter(|partition| begun.insert(partition.at.partition));
            let new: Vec<Arc<Partition>> = new.cloned().collect();
            if !new.is_empty() {
                follower.follow(new);
            }
        }
    }

    /// Ends reading; tailing streams end. Does not wait for what is being read: who opens the topic
    /// again begins where the table ends.
    pub fn close(&self) {
        self.shared.closed.cancel();
        self.follower.lock().take();
    }

    fn partition(&self, at: &TopicPartition) -> Result<&Arc<Partition>> {
        if *at.topic != *self.source.topic() {
            return Err(LogError::UnknownTopic(at.topic.to_string()));
        }
        let partition = self.partitions.get(at.partition as usize);
        partition.ok_or_else(|| LogError::UnknownPartition(at.clone()))
    }
}

impl Log for SourceLog {
    /// None as long as no brokers have been reached.
    fn partitions(&self, topic: &str) -> Result<u32> {
        if topic != self.source.topic() {
            return Err(LogError::UnknownTopic(topic.to_owned()));
        }
        Ok(u32::try_from(self.partitions.len()).expect("Kafka counts them in an i32"))
    }

    fn append(&self, at: TopicPartition, _: RecordBatch) -> BoxFuture<'_, Result<Appended>> {
        let reason = "it is a topic of others, which is only read".to_owned();
        std::future::ready(Err(LogError::Rejected { at, reason })).boxed()
    }

    fn read(
        &self,
        at: TopicPartition,
        from: Offset,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<Vec<Entry>>> {
        async move { self.shared.read(self.partition(&at)?, from, max_bytes).await }.boxed()
    }

    fn tail(&self, at: TopicPartition, from: Offset) -> BoxStream<'static, Result<Entry>> {
        match self.partition(&at) {
            Ok(partition) => tail(Arc::clone(&self.shared), Arc::clone(partition), from).boxed(),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    /// The end is that of what was read so far.
    fn offsets(&self, at: TopicPartition) -> Result<OffsetRange> {
        Ok(self.partition(&at)?.offsets())
    }

    fn offset_at(&self, at: TopicPartition, unix_millis: i64) -> BoxFuture<'_, Result<Offset>> {
        async move {
            let partition = Arc::clone(self.partition(&at)?);
            let client = self.source.client.clone();
            let ask = move || offset_at(&client, &partition, unix_millis);
            let answer = spawn_blocking(ask).await;
            answer.unwrap_or_else(|error| Err(unavailable(&at, &error)))
        }
        .boxed()
    }

    /// Remembered only: brokers of others keep what they keep.
    fn commit(&self, group: &str, at: TopicPartition, offset: Offset) -> BoxFuture<'_, Result<()>> {
        let commit = || {
            self.partition(&at)?;
            self.shared.groups.commit(group, at, offset);
            Ok(())
        };
        std::future::ready(commit()).boxed()
    }

    fn committed(&self, group: &str, at: TopicPartition) -> Result<Option<Offset>> {
        self.partition(&at)?;
        Ok(self.shared.groups.committed(group, &at))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use thalweg_log::{EmbeddedLog, LogConfig, TopicConfig};

    fn open(known: Option<KnownTopic>, covered: &[Offset]) -> Arc<SourceLog> {
        let settings = json!({"brokers": ["127.0.0.1:9"], "topic": "payments", "format": "json"});
        let kafka: config::KafkaSource = serde_json::from_value(settings).unwrap();
        let source = Source::new("p", &kafka, None).unwrap();
        let covered = covered.iter().zip(0..);
        let covered = covered.map(|(offset, number)| (at(number), *offset)).collect();
        let directory = tempfile::tempdir().unwrap();
        let topics = vec![TopicConfig::new("rejected", 1)];
        let directory = directory.path().into();
        let config = LogConfig { directory, topics, ..LogConfig::default() };
        let (rejected, _) = EmbeddedLog::open(config).unwrap();
        SourceLog::open(&source, known, &covered, Arc::new(rejected)).unwrap()
    }

    fn at(partition: u32) -> TopicPartition {
        TopicPartition::new("payments", partition)
    }

    fn known(begins: &[Offset]) -> Option<KnownTopic> {
        let (topic, cluster) = ("payments".to_owned(), Some("a".to_owned()));
        Some(KnownTopic { topic, cluster, begins: begins.to_vec(), replaced: None })
    }

    #[tokio::test]
    async fn without_brokers_its_partitions_end_where_the_table_does() {
        let log = open(known(&[5, 7]), &[9]);
        assert_eq!(log.partitions("payments").unwrap(), 2);
        assert_eq!(log.offsets(at(0)).unwrap(), OffsetRange { start: 5, end: 9 });
        assert_eq!(log.offsets(at(1)).unwrap(), OffsetRange { start: 7, end: 7 });
        assert!(log.read(at(0), 9, 1).await.unwrap().is_empty());
        assert_eq!(open(None, &[]).partitions("payments").unwrap(), 0);
    }

    #[tokio::test]
    async fn it_takes_no_appends() {
        let batch = RecordBatch::new_empty(thalweg_event::schema::log_schema());
        let refused = open(known(&[0]), &[]).append(at(0), batch).await.unwrap_err();
        assert!(matches!(refused, LogError::Rejected { .. }), "{refused}");
    }

    #[tokio::test]
    async fn another_cluster_is_told_from_the_known_one() {
        let log = open(known(&[0]), &[]);
        assert_eq!(log.expect_known(Some("a")), Ok(()));
        assert_eq!(log.expect_known(None), Ok(()));
        assert!(log.expect_known(Some("b")).unwrap_err().contains("found cluster b"));
        assert_eq!(open(None, &[]).expect_known(Some("b")), Ok(()));
    }
}
