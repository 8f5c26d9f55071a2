//! How far consumer groups have read, told to Kafka.
//!
//! Where a group goes on is kept with its results: in the table's commit, in the view's checkpoint.
//! Kafka is told for those who look there, a few times a minute.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rdkafka::{
    consumer::{CommitMode, Consumer as _},
    error::{KafkaResult, RDKafkaErrorCode},
};
use thalweg_log::{LogError, Offset, Result, TopicPartition};

use crate::{
    client::{ASK_TIMEOUT, Consumer, consumer, is_answered, unavailable},
    config::KafkaConfig,
    follower::partition_list,
};

/// How often Kafka is told.
pub(crate) const TELL_EVERY: Duration = Duration::from_secs(10);
/// Pause between questions to brokers that are still finding out who answers them.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// What consumers that only commit fetch ahead.
const PREFETCH_KBYTES: usize = 1;

/// What the groups of this process have read.
pub(crate) struct Groups {
    config: KafkaConfig,
    known: Mutex<BTreeMap<String, BTreeMap<TopicPartition, Offset>>>,
    /// Where that has changed since Kafka was told. What another process has gone on with since is
    /// left alone.
    untold: Mutex<BTreeMap<String, BTreeSet<TopicPartition>>>,
    /// One for each group: a consumer commits for the group it was made with.
    consumers: Mutex<BTreeMap<String, Consumer>>,
}

impl Groups {
    pub(crate) fn new(config: KafkaConfig) -> Self {
        let (known, untold, consumers) = Default::default();
        Self { config, known, untold, consumers }
    }

    pub(crate) fn commit(&self, group: &str, at: TopicPartition, offset: Offset) {
        self.untold.lock().entry(group.to_owned()).or_default().insert(at.clone());
        self.known.lock().entry(group.to_owned()).or_default().insert(at, offset);
    }

    pub(crate) fn committed(&self, group: &str, at: &TopicPartition) -> Option<Offset> {
        self.known.lock().get(group)?.get(at).copied()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.known.lock().keys().cloned().collect()
    }

    pub(crate) fn forget(&self, group: &str) {
        self.known.lock().remove(group);
        self.untold.lock().remove(group);
        self.consumers.lock().remove(group);
    }

    pub(crate) fn forget_topic(&self, topic: &str) {
        for offsets in self.known.lock().values_mut() {
            offsets.retain(|at, _| &*at.topic != topic);
        }
    }

    /// Tells Kafka what it has not been told. Blocks for it.
    pub(crate) fn tell(&self) {
        let mut untold = std::mem::take(&mut *self.untold.lock()).into_iter();
        while let Some((group, places)) = untold.next() {
            let mut offsets = self.known.lock().get(&group).cloned().unwrap_or_default();
            offsets.retain(|at, _| places.contains(at));
            if let Err(error) = self.tell_of(&group, &offsets) {
                tracing::info!(group, %error, "Kafka is not told how far groups have read");
                let mut kept = self.untold.lock();
                for (group, places) in untold.by_ref().chain([(group, places)]) {
                    kept.entry(group).or_default().extend(places);
                }
            }
        }
    }

    /// Tells Kafka a last time. Blocks for it, also for brokers that never come back.
    pub(crate) fn close(&self) {
        self.tell();
        self.consumers.lock().clear();
    }

    fn tell_of(&self, group: &str, offsets: &BTreeMap<TopicPartition, Offset>) -> Result<()> {
        let Some((first, _)) = offsets.first_key_value() else { return Ok(()) };
        let failed = |error| unavailable(first, &error);
        let mut consumers = self.consumers.lock();
        if !consumers.contains_key(group) {
            consumers.insert(group.to_owned(), consumer(&self.config, group, PREFETCH_KBYTES)?);
        }
        let Some(consumer) = consumers.get(group) else { return Ok(()) };
        let list = partition_list(offsets.iter().map(|(at, offset)| (at, *offset)));
        let list = list.map_err(failed)?;
        if !is_answered(consumer, &first.topic) {
            return Err(unavailable(first, &"no broker answers"));
        }
        with_coordinator(|| consumer.commit(&list, CommitMode::Sync)).map_err(failed)
    }

    /// What Kafka has of `group` for `places`. Blocks for it.
    ///
    /// # Errors
    /// [`LogError::Unavailable`].
    pub(crate) fn fetch(
        config: &KafkaConfig,
        group: &str,
        places: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Offset>> {
        let Some(first) = places.first() else { return Ok(BTreeMap::new()) };
        let failed = |error| -> LogError { unavailable(first, &error) };
        let list = partition_list(places.iter().map(|at| (at, 0))).map_err(failed)?;
        let consumer = consumer(config, group, PREFETCH_KBYTES)?;
        let ask = || consumer.committed_offsets(list.clone(), ASK_TIMEOUT);
        let found = with_coordinator(ask).map_err(failed)?;
        let offsets = found.elements().into_iter().filter_map(|element| {
            let offset = Offset::try_from(element.offset().to_raw()?).ok()?;
            let partition = u32::try_from(element.partition()).ok()?;
            Some((TopicPartition::new(element.topic(), partition), offset))
        });
        Ok(offsets.collect())
    }
}

/// Asks again while brokers are still finding out who coordinates a group.
fn with_coordinator<T>(ask: impl Fn() -> KafkaResult<T>) -> KafkaResult<T> {
    use RDKafkaErrorCode as Code;
    let began = Instant::now();
    loop {
        let answer = ask();
        let code = answer.as_ref().err().and_then(|error| error.rdkafka_error_code());
        let is_passing = matches!(
            code,
            Some(
                Code::NotCoordinator
                    | Code::CoordinatorNotAvailable
                    | Code::CoordinatorLoadInProgress
                    | Code::WaitingForCoordinator
            )
        );
        if !is_passing || began.elapsed() >= ASK_TIMEOUT {
            return answer;
        }
        thread::sleep(ASK_AGAIN);
    }
}
