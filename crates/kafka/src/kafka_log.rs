//! The log that is in Kafka.

use std::{
    collections::BTreeMap,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use futures::{FutureExt, StreamExt, future::BoxFuture, stream, stream::BoxStream};
use parking_lot::{Mutex, RwLock};
use rdkafka::{Offset as Position, consumer::Consumer as _};
use thalweg_event::schema::topic;
use thalweg_log::{
    Appended, Entry, Log, LogConfig, LogError, Offset, OffsetRange, Owned, Ownership, Result,
    TopicConfig, TopicPartition, Topics,
};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, watch},
    task::{JoinHandle, spawn_blocking},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    admin::Admin,
    client::{
        ASK_TIMEOUT, OWN_GROUP, consumer, join_soon, partition_number, patiently, unavailable,
        wrong_settings,
    },
    codec::Codec,
    config::KafkaConfig,
    follower::Follower,
    groups::{Groups, TELL_EVERY},
    lane::{Lane, Tools},
    lane_handle::LaneHandle,
    members::Members,
    opened::{Opened, Shared, tail},
    overflow::OverflowBudget,
    partition::{Partition, RecentBudget},
    producer::Producer,
    readers::Readers,
    rejects::{Rejects, RejectsPlace},
    reporting::{Reporter, Reporting},
    spool::Spool,
};

/// Longest that a start waits for rows of the spool to reach Kafka.
const DRAIN_PATIENCE: Duration = Duration::from_secs(30);
/// Pause between looks at what waits.
const DRAIN_LOOK: Duration = Duration::from_millis(100);
/// How often it is asked what retention has removed.
const START_EVERY: Duration = Duration::from_secs(30);
/// What a consumer that only asks fetches ahead.
const ASK_KBYTES: usize = 1;

/// A topic to open.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its name, partitions and retention.
    pub config: TopicConfig,
    /// Columns of its rows.
    pub schema: SchemaRef,
    /// Whether its rows may be acknowledged from the spool. Not if those who append them keep them
    /// and, after a crash, look in the topic for what was acknowledged.
    pub may_spool: bool,
    /// Whether a process that shares partitions and is cut off from brokers goes on with what it does
    /// for the topic's, until it hears that others do: it needs no brokers for it, and something else
    /// keeps two from doing it at once.
    pub stays_when_cut_off: bool,
}

/// A [`Log`] in Kafka, with a spool on this machine's disk.
///
/// Needs a Tokio runtime around its futures. Dropping it closes it.
pub struct KafkaLog {
    config: KafkaConfig,
    log_config: LogConfig,
    origin: Uuid,
    budget: Arc<RecentBudget>,
    shared: Arc<Shared>,
    producer: Arc<Producer>,
    admin: Admin,
    running: Mutex<Option<Running>>,
    runtime: Handle,
}

/// What ends when the log is closed.
struct Running {
    spool: Arc<Spool>,
    follower: Follower,
    /// `None` of a process that shares partitions with nobody.
    members: Option<Members>,
    /// By topic.
    lanes: BTreeMap<String, Lanes>,
    telling: JoinHandle<()>,
    rejects: Rejects,
}

/// The lanes of a topic.
struct Lanes {
    closing: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl KafkaLog {
    /// Opens the log: waits for brokers, makes the topics that are missing, and forwards what waits
    /// in the spool. Of `log_config` the retention and the memory for latest rows count.
    ///
    /// # Errors
    /// [`LogError::Config`], those of [`thalweg_log::EmbeddedLog::open`] for the spool.
    pub async fn open(
        config: KafkaConfig,
        log_config: LogConfig,
        topics: Vec<Topic>,
    ) -> Result<Arc<Self>> {
        config.validate().map_err(|error| wrong_settings(&format_args!("log.kafka: {error}")))?;
        for topic in &topics {
            let retention = topic.config.retention.as_ref().unwrap_or(&log_config.retention);
            if retention.age_secs == 0 || retention.partition_hard_limit_bytes == 0 {
                return Err(wrong_settings(&format!(
                    "retention of topic {}: expected age_secs and partition_hard_limit_bytes of 1 \
                     or more, found 0; Kafka removes what is beyond them whether it was read or not",
                    topic.config.name
                )));
            }
        }
        if config.sasl.is_some() && config.tls.is_none() {
            tracing::warn!(
                "log.kafka.sasl without log.kafka.tls: passwords and events cross the network as they are"
            );
        }
        let runtime = Handle::current();
        let open = move || Self::open_blocking(config, log_config, topics, runtime);
        let opened = spawn_blocking(open).await;
        let log = opened.unwrap_or_else(|error| Err(LogError::Config(error.to_string())))?;
        log.await_forwarded().await;
        Ok(log)
    }

    fn open_blocking(
        config: KafkaConfig,
        log_config: LogConfig,
        topics: Vec<Topic>,
        runtime: Handle,
    ) -> Result<Arc<Self>> {
        let admin = Admin::new(&config, runtime.clone())?;
        let brokers: Vec<String> = config.brokers.iter().cloned().map(String::from).collect();
        let patience = Duration::from_secs(config.connect_within_secs);
        let deadline = Instant::now() + patience;
        admin.await_brokers(&brokers.join(","), patience)?;

        let mut found = vec![];
        for topic in topics {
            let retention = topic.config.retention.as_ref().unwrap_or(&log_config.retention);
            let partitions = patiently(deadline, || admin.ensure(&topic.config, retention))?;
            found.push(Topic { config: TopicConfig { partitions, ..topic.config }, ..topic });
        }
        let names: Vec<String> = found.iter().map(|topic| topic.config.name.clone()).collect();
        let batch_bytes = admin.batch_limit(&names).unwrap_or(config.message_bytes);
        let spooled = found.iter().filter(|topic| topic.may_spool);
        let spooled = spooled.map(|topic| topic.config.clone()).collect();
        let spool = runtime.block_on(Spool::open(&config.spool, spooled))?;

        let overflow = OverflowBudget::new(config.spool.directory.clone(), config.overflow_bytes);
        let log = Arc::new(Self {
            origin: Uuid::now_v7(),
            budget: RecentBudget::new(log_config.tail_cache_bytes, overflow),
            shared: Arc::new(Shared {
                topics: RwLock::default(),
                readers: Arc::new(Readers::new(config.clone())),
                groups: Groups::new(config.clone()),
                closed: CancellationToken::new(),
                owned: config.shared.then(|| watch::Sender::new(Owned::default())),
            }),
            producer: Arc::new(Producer::new(&config, batch_bytes)?),
            admin,
            running: Mutex::new(None),
            runtime: runtime.clone(),
            log_config,
            config: config.clone(),
        });

        // The lane of rejected records first: the others use it.
        found.sort_by_key(|topic| topic.config.name != topic::REJECTED);
        let closed = log.shared.closed.clone();
        let mut rejects = Rejects { place: RejectsPlace::Nowhere, closed };
        let staying = found.iter().filter(|topic| topic.stays_when_cut_off);
        let staying = staying.map(|topic| topic.config.name.clone()).collect();
        let (mut lanes, mut followed) = (BTreeMap::new(), vec![]);
        for topic in found {
            let name = topic.config.name.clone();
            let spool = topic.may_spool.then_some(&spool);
            let (opened, of_topic) = log.open_topic(&topic, spool, &rejects, deadline)?;
            followed.extend(opened.iter().map(|opened| Arc::clone(&opened.partition)));
            if name == topic::REJECTED
                && let Some(first) = opened.first()
            {
                rejects.place = RejectsPlace::Lane(first.lane.clone());
            }
            log.shared.topics.write().insert(name.clone(), opened);
            lanes.insert(name, of_topic);
        }
        let reporter = Reporter {
            config: config.clone(),
            readers: Arc::clone(&log.shared.readers),
            rejects: rejects.clone(),
            looks: Arc::new(Semaphore::new(1)),
        };
        let reporting = Reporting::new(log.shared.ownership(), reporter, runtime.clone());
        let follower =
            Follower::start(&config, OWN_GROUP, rejects.clone(), reporting, runtime.clone())?;
        follower.follow(followed);
        let topics = lanes.iter().map(|(name, lanes)| (name.clone(), lanes.tasks.len()));
        let join = |owned| Members::join(&config, topics, staying, owned);
        let members = log.shared.owned.clone().map(join).transpose()?;
        let telling = runtime.spawn(keep_told(Arc::clone(&log.shared), Arc::clone(&spool)));
        *log.running.lock() = Some(Running { spool, follower, members, lanes, telling, rejects });
        Ok(log)
    }

    /// Opens the partitions of a topic that is in Kafka, and starts their lanes.
    fn open_topic(
        &self,
        topic: &Topic,
        spool: Option<&Arc<Spool>>,
        rejects: &Rejects,
        deadline: Instant,
    ) -> Result<(Vec<Opened>, Lanes)> {
        let codec =
            Codec::new(topic.schema.clone(), self.config.encoding, self.config.message_bytes);
        let name: Arc<str> = topic.config.name.as_str().into();
        let numbers = 0..topic.config.partitions;
        let places: Vec<_> =
            numbers.map(|number| TopicPartition::new(Arc::clone(&name), number)).collect();
        let fetch = || Groups::fetch(&self.config, OWN_GROUP, &places);
        let followed = patiently(deadline, fetch)?;
        let closing = CancellationToken::new();
        let (mut opened, mut tasks) = (vec![], vec![]);
        for at in places.iter().cloned() {
            let (start, end) = patiently(deadline, || self.shared.readers.watermarks(&at))?;
            let from = followed.get(&at).map_or(start, |from| (*from).clamp(start, end));
            let range = OffsetRange { start, end };
            let budget = Arc::clone(&self.budget);
            let partition = Partition::new(at, codec.clone(), range, from, budget);
            let (lane, requests) = LaneHandle::new(Arc::clone(&partition));
            let tools = Tools {
                partition: Arc::clone(&partition),
                producer: Arc::clone(&self.producer),
                spool: spool.cloned(),
                readers: Arc::clone(&self.shared.readers),
                rejects: rejects.clone(),
                origin: self.origin,
                patience: Duration::from_millis(self.config.acknowledge_within_ms),
                is_shared: self.config.shared,
                closing: closing.clone(),
            };
            let (work, delivered) = Lane::new(tools)?;
            tasks.push(self.runtime.spawn(work.run(requests, delivered)));
            opened.push(Opened { partition, lane });
        }
        Ok((opened, Lanes { closing, tasks }))
    }

    /// Where appends to `at` go.
    fn lane(&self, at: &TopicPartition) -> Result<LaneHandle> {
        if self.shared.closed.is_cancelled() {
            return Err(unavailable(at, &"the log is closed"));
        }
        self.shared.with(at, |opened| opened.lane.clone())
    }

    /// Waits until what waited in the spool is in Kafka, where all that read the log look for it.
    async fn await_forwarded(&self) {
        let spool = self.running.lock().as_ref().map(|running| Arc::clone(&running.spool));
        let Some(spool) = spool else { return };
        let places: Vec<TopicPartition> = {
            let topics = self.shared.topics.read();
            topics.values().flatten().map(|opened| opened.partition.at.clone()).collect()
        };
        let began = Instant::now();
        let waits = |at: &TopicPartition| spool.range(at).is_ok_and(|(done, end)| done < end);
        while places.iter().any(waits) {
            if began.elapsed() >= DRAIN_PATIENCE {
                tracing::warn!("rows still wait in the spool; queries do not see them yet");
                return;
            }
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    }
}

impl Log for KafkaLog {
    fn partitions(&self, topic: &str) -> Result<u32> {
        let topics = self.shared.topics.read();
        let partitions = topics.get(topic).map(Vec::len);
        let partitions = partitions.ok_or_else(|| LogError::UnknownTopic(topic.to_owned()))?;
        Ok(u32::try_from(partitions).expect("Kafka counts them in an i32"))
    }

    fn append(&self, at: TopicPartition, batch: RecordBatch) -> BoxFuture<'_, Result<Appended>> {
        async move { self.lane(&at)?.append(batch).await }.boxed()
    }

    fn takes_appends(&self, at: TopicPartition) -> BoxFuture<'_, Result<()>> {
        async move { self.lane(&at)?.takes_appends().await }.boxed()
    }

    fn read(
        &self,
        at: TopicPartition,
        from: Offset,
        max_bytes: usize,
    ) -> BoxFuture<'_, Result<Vec<Entry>>> {
        async move {
            let partition = self.shared.partition(&at)?;
            self.shared.read(&partition, from, max_bytes).await
        }
        .boxed()
    }

    fn tail(&self, at: TopicPartition, from: Offset) -> BoxStream<'static, Result<Entry>> {
        match self.shared.partition(&at) {
            Ok(partition) => tail(Arc::clone(&self.shared), partition, from).boxed(),
            Err(error) => stream::iter([Err(error)]).boxed(),
        }
    }

    fn offsets(&self, at: TopicPartition) -> Result<OffsetRange> {
        Ok(self.shared.partition(&at)?.offsets())
    }

    fn awaits_more(&self, at: TopicPartition) -> Result<bool> {
        Ok(self.shared.partition(&at)?.awaits_more())
    }

    fn latest_end(&self, at: TopicPartition) -> BoxFuture<'_, Result<Offset>> {
        async move {
            let partition = self.shared.partition(&at)?;
            let readers = Arc::clone(&self.shared.readers);
            let ask = move || {
                let (_, end) = readers.watermarks(&partition.at)?;
                partition.note_end(end);
                Ok(partition.offsets().end)
            };
            let answer = spawn_blocking(ask).await;
            answer.unwrap_or_else(|error| Err(unavailable(&at, &error)))
        }
        .boxed()
    }

    fn ownership(&self) -> Ownership {
        self.shared.ownership()
    }

    fn offset_at(&self, at: TopicPartition, unix_millis: i64) -> BoxFuture<'_, Result<Offset>> {
        async move {
            let partition = self.shared.partition(&at)?;
            let config = self.config.clone();
            let place = at.clone();
            let ask = move || offset_at(&config, &partition, unix_millis);
            let answer = spawn_blocking(ask).await;
            answer.unwrap_or_else(|error| Err(unavailable(&place, &error)))
        }
        .boxed()
    }

    fn commit(&self, group: &str, at: TopicPartition, offset: Offset) -> BoxFuture<'_, Result<()>> {
        let group = group.to_owned();
        async move {
            let partition = self.shared.partition(&at)?;
            let is_known = offset <= partition.offsets().end || self.config.shared;
            if !is_known {
                return Err(partition.out_of_range(offset));
            }
            self.shared.groups.commit(&group, at, offset);
            Ok(())
        }
        .boxed()
    }

    fn committed(&self, group: &str, at: TopicPartition) -> Result<Option<Offset>> {
        self.shared.partition(&at)?;
        Ok(self.shared.groups.committed(group, &at))
    }
}

impl Topics for KafkaLog {
    fn create_topic(&self, topic: &TopicConfig, schema: SchemaRef) -> Result<()> {
        let mut running = self.running.lock();
        let Some(running) = running.as_mut() else {
            let at = TopicPartition::new(topic.name.as_str(), 0);
            return Err(unavailable(&at, &"the log is closed"));
        };
        if self.shared.topics.read().contains_key(&topic.name) {
            return Ok(());
        }
        let alone = LogConfig { topics: vec![topic.clone()], ..self.log_config.clone() };
        alone.validate()?;
        let retention = topic.retention.as_ref().unwrap_or(&self.log_config.retention);
        let partitions = self.admin.ensure(topic, retention)?;
        let config = TopicConfig { partitions, ..topic.clone() };
        let topic = Topic { config, schema, may_spool: false, stays_when_cut_off: false };
        let deadline = Instant::now() + ASK_TIMEOUT;
        let (opened, lanes) = self.open_topic(&topic, None, &running.rejects, deadline)?;
        running.follower.follow(opened.iter().map(|o| Arc::clone(&o.partition)).collect());
        self.shared.topics.write().insert(topic.config.name.clone(), opened);
        if let Some(members) = &mut running.members {
            members.subscribe(&topic.config.name, lanes.tasks.len())?;
        }
        running.lanes.insert(topic.config.name, lanes);
        Ok(())
    }

    fn remove_topic(&self, name: &str) -> Result<()> {
        if self.shared.closed.is_cancelled() {
            return Err(unavailable(&TopicPartition::new(name, 0), &"the log is closed"));
        }
        self.leave_topic(name);
        self.admin.remove(name)
    }

    fn leave_topic(&self, name: &str) {
        let mut running = self.running.lock();
        let Some(running) = running.as_mut() else { return };
        self.shared.topics.write().remove(name);
        running.follower.leave(name);
        if let Some(members) = &mut running.members {
            members.unsubscribe(name);
        }
        if let Some(lanes) = running.lanes.remove(name) {
            lanes.tasks.iter().for_each(JoinHandle::abort);
        }
        self.shared.groups.forget_topic(name);
    }

    /// Others may have topics in Kafka too: only those that are open are this node's own.
    fn topics(&self) -> Result<Vec<String>> {
        Ok(self.shared.topics.read().keys().cloned().collect())
    }

    fn groups(&self) -> Vec<String> {
        self.shared.groups.names()
    }

    fn forget_group(&self, group: &str) -> Result<()> {
        self.shared.groups.forget(group);
        self.admin.forget_group(group)
    }

    fn close(&self) {
        let Some(running) = self.running.lock().take() else { return };
        self.shared.closed.cancel();
        running.telling.abort();
        // The others need not wait for what is under way here.
        if let Some(members) = running.members {
            members.leave();
        }
        running.follower.stop();
        // That of rejected records after the others, which may have something for it.
        let (rejects, others): (Vec<_>, Vec<_>) =
            running.lanes.into_iter().partition(|(name, _)| name == topic::REJECTED);
        for lanes in [others, rejects] {
            lanes.iter().for_each(|(_, lanes)| lanes.closing.cancel());
            for task in lanes.into_iter().flat_map(|(_, lanes)| lanes.tasks) {
                if let Err(error) = self.runtime.block_on(task) {
                    tracing::error!(%error, "rows under way were not seen to their end");
                }
            }
        }
        let shared = Arc::clone(&self.shared);
        join_soon(thread::spawn(move || shared.groups.close()));
        running.spool.close();
    }
}

impl Drop for KafkaLog {
    fn drop(&mut self) {
        // A proper close blocks, which asynchronous callers must not; without it, what is under way
        // is not acknowledged, and what waits in the spool stays there.
        if let Some(running) = self.running.get_mut().take() {
            running.telling.abort();
            let tasks = running.lanes.into_values().flat_map(|lanes| lanes.tasks);
            tasks.for_each(|task| task.abort());
        }
    }
}

/// Offset of the first message at or after a time, as the partition's leader says.
pub(crate) fn offset_at(
    config: &KafkaConfig,
    partition: &Partition,
    unix_millis: i64,
) -> Result<Offset> {
    let at = &partition.at;
    let failed = |error| unavailable(at, &error);
    let consumer = consumer(config, OWN_GROUP, ASK_KBYTES)?;
    let mut times = rdkafka::TopicPartitionList::new();
    let (number, time) = (partition_number(at), Position::Offset(unix_millis.max(0)));
    times.add_partition_offset(&at.topic, number, time).map_err(failed)?;
    let found = consumer.offsets_for_times(times, ASK_TIMEOUT).map_err(failed)?;
    let found = found.find_partition(&at.topic, number).map(|found| found.offset());
    let range = partition.offsets();
    Ok(match found {
        Some(Position::Offset(offset)) => {
            Offset::try_from(offset).unwrap_or(0).clamp(range.start, range.end)
        }
        _ => range.end,
    })
}

/// Tells Kafka and metrics, now and then, what they have not been told.
async fn keep_told(shared: Arc<Shared>, spool: Arc<Spool>) {
    let mut asked_starts = Instant::now();
    loop {
        tokio::time::sleep(TELL_EVERY.min(START_EVERY)).await;
        metrics::gauge!("thalweg_kafka_spool_bytes").set(spool.waiting_bytes() as f64);
        let asks_starts = asked_starts.elapsed() >= START_EVERY;
        if asks_starts {
            asked_starts = Instant::now();
        }
        let shared = Arc::clone(&shared);
        let tell = move || {
            shared.groups.tell();
            if asks_starts {
                shared.note_starts();
            }
        };
        if let Err(error) = spawn_blocking(tell).await {
            tracing::error!(%error, "telling Kafka how far groups have read");
        }
    }
}
