//! Which partitions this process works on, where several share them: consumer groups that nothing is
//! consumed with.
//!
//! Kafka notices who is gone, and spreads partitions evenly over those who are there, moving as few
//! as it can (cooperative-sticky). It counts all partitions of a group alike, so each topic of several
//! partitions has a group of its own: else one process might get all rows, and the other all topics
//! that nothing comes to.
//!
//! What is made of the rows is safe from two who both think that they own a partition by other means:
//! a table's transactions, the locks of views' states. So a partition is taken up as soon as it is
//! given, whatever the former owner does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use parking_lot::Mutex;
use rdkafka::{
    ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance},
    error::KafkaError,
};
use thalweg_log::{LogError, Owned, Result, TopicPartition};
use tokio::sync::watch;

use crate::{
    client::{Reports, client_config, join_soon, wrong_settings},
    config::KafkaConfig,
};

/// Consumer group of the processes that share topics of one partition; with a topic's name behind it,
/// that of a topic of several.
const GROUP: &str = "thalweg.members";
/// After this time without a sign of life a process is taken for gone: the least that brokers allow
/// unless they are told otherwise (`group.min.session.timeout.ms`).
const SESSION_TIMEOUT_MS: &str = "6000";
/// Partitions that move to another process are with nobody for about as long.
const HEARTBEAT_MS: &str = "500";
/// Longest that orders wait.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);

/// This process' part in sharing the partitions of all open topics.
pub(crate) struct Members {
    config: KafkaConfig,
    told: Told,
    /// Shares the topics of one partition.
    single: Member,
    /// By topic, who shares those of several.
    several: BTreeMap<String, Member>,
}

/// Membership in a group, on a thread of its own.
struct Member {
    orders: mpsc::Sender<Order>,
    thread: JoinHandle<()>,
}

enum Order {
    Subscribe(String),
    Unsubscribe(String),
    Leave,
}

/// Where it is told what all groups give to this process.
#[derive(Clone)]
struct Told {
    owned: watch::Sender<Owned>,
    /// Topics whose partitions are kept while brokers are away.
    staying: Arc<BTreeSet<String>>,
}

/// Tells what a group gives to this process.
struct Giving {
    given: Mutex<BTreeSet<TopicPartition>>,
    /// Whether the group may have given partitions to others since, unheard.
    is_cut_off: AtomicBool,
    told: Told,
}

impl Members {
    /// Joins, for `topics` and their numbers of partitions; those of `staying` are kept while brokers
    /// are away.
    ///
    /// # Errors
    /// [`LogError::Config`], [`LogError::Io`] when no thread can be started.
    pub(crate) fn join(
        config: &KafkaConfig,
        topics: impl Iterator<Item = (String, usize)>,
        staying: BTreeSet<String>,
        owned: watch::Sender<Owned>,
    ) -> Result<Self> {
        let told = Told { owned, staying: Arc::new(staying) };
        let (single, several): (Vec<_>, Vec<_>) =
            topics.partition(|(_, partitions)| *partitions == 1);
        let single = single.into_iter().map(|(topic, _)| topic).collect();
        let mut members = Self {
            config: config.clone(),
            single: Member::join(config, GROUP, single, told.clone())?,
            several: BTreeMap::new(),
            told,
        };
        for (topic, partitions) in several {
            members.subscribe(&topic, partitions)?;
        }
        Ok(members)
    }

    /// Shares the partitions of another topic too.
    ///
    /// # Errors
    /// Those of [`Members::join`].
    pub(crate) fn subscribe(&mut self, topic: &str, partitions: usize) -> Result<()> {
        if partitions == 1 {
            self.single.order(Order::Subscribe(topic.to_owned()));
            return Ok(());
        }
        let (group, topics) = (format!("{GROUP}.{topic}"), BTreeSet::from([topic.to_owned()]));
        let member = Member::join(&self.config, &group, topics, self.told.clone())?;
        self.several.insert(topic.to_owned(), member);
        Ok(())
    }

    /// Leaves the partitions of `topic` alone.
    pub(crate) fn unsubscribe(&mut self, topic: &str) {
        match self.several.remove(topic) {
            Some(member) => member.order(Order::Leave),
            None => self.single.order(Order::Unsubscribe(topic.to_owned())),
        }
    }

    /// Gives all partitions to the others. Blocks for the broker, for a short while.
    pub(crate) fn leave(self) {
        let members: Vec<Member> = self.several.into_values().chain([self.single]).collect();
        members.iter().for_each(|member| member.order(Order::Leave));
        for member in members {
            join_soon(member.thread);
        }
    }
}

impl Member {
    fn join(
        config: &KafkaConfig,
        group: &str,
        topics: BTreeSet<String>,
        told: Told,
    ) -> Result<Self> {
        let more = [
            ("group.id", group),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("session.timeout.ms", SESSION_TIMEOUT_MS),
            ("heartbeat.interval.ms", HEARTBEAT_MS),
            ("enable.auto.commit", "false"),
            ("auto.offset.reset", "latest"),
            ("queued.max.messages.kbytes", "1"),
        ];
        let client = client_config(config, &more).map_err(|error| wrong_settings(&error))?;
        let (given, is_cut_off) = Default::default();
        let giving = Giving { given, is_cut_off, told };
        let consumer: BaseConsumer<Giving> =
            client.create_with_context(giving).map_err(|error| wrong_settings(&error))?;
        let (orders, received) = mpsc::channel();
        let run = move || run(&consumer, topics, &received);
        let thread = thread::Builder::new().name("kafka-members".into()).spawn(run);
        let thread = thread.map_err(|error| LogError::Io {
            place: "starting a thread".into(),
            reason: error.to_string(),
        })?;
        Ok(Self { orders, thread })
    }

    fn order(&self, order: Order) {
        if self.orders.send(order).is_err() {
            tracing::error!("a thread that shares partitions has ended");
        }
    }
}

fn run(
    consumer: &BaseConsumer<Giving>,
    mut topics: BTreeSet<String>,
    orders: &mpsc::Receiver<Order>,
) {
    subscribe(consumer, &topics);
    loop {
        let is_changed = match orders.try_recv() {
            Ok(Order::Subscribe(topic)) => topics.insert(topic),
            Ok(Order::Unsubscribe(topic)) => topics.remove(&topic),
            Ok(Order::Leave) | Err(mpsc::TryRecvError::Disconnected) => break,
            Err(mpsc::TryRecvError::Empty) => {
                // Partitions come and go within this call.
                if let Some(Err(error)) = consumer.poll(POLL_TIMEOUT) {
                    tracing::debug!(%error, "sharing partitions");
                }
                false
            }
        };
        if is_changed {
            subscribe(consumer, &topics);
        }
    }
    consumer.context().change(BTreeSet::clear);
    // Dropping the consumer leaves the group.
    consumer.unsubscribe();
}

fn subscribe(consumer: &BaseConsumer<Giving>, topics: &BTreeSet<String>) {
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    if let Err(error) = consumer.subscribe(&topics) {
        tracing::error!(%error, "partitions are not shared as they should be");
    }
}

impl Giving {
    fn change(&self, change: impl FnOnce(&mut BTreeSet<TopicPartition>)) {
        let mut given = self.given.lock();
        let former = given.clone();
        change(&mut given);
        if *given == former {
            return;
        }
        let all = &self.told.owned;
        all.send_modify(|owned| {
            let kept = owned.iter().filter(|at| !former.contains(at));
            *owned = Arc::new(kept.chain(given.iter()).cloned().collect());
        });
        let owned = all.borrow().len();
        metrics::gauge!("thalweg_kafka_owned_partitions").set(owned as f64);
    }
}

impl ClientContext for Giving {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        Reports.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        Reports.error(error, reason);
    }
}

impl ConsumerContext for Giving {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Revoke(_) if consumer.assignment_lost() => {
                tracing::info!(
                    "no sign of life has reached brokers: others may work on partitions"
                );
                self.is_cut_off.store(true, Ordering::Relaxed);
                self.change(|given| given.retain(|at| self.told.staying.contains(&*at.topic)));
            }
            Rebalance::Revoke(list) => {
                let lost = places(list);
                if !lost.is_empty() {
                    tracing::info!(partitions = %named(&lost), "others work on partitions from now on");
                }
                self.change(|given| given.retain(|at| !lost.contains(at)));
            }
            Rebalance::Assign(_) => {}
            Rebalance::Error(error) => {
                tracing::warn!(%error, "partitions cannot be shared and are given up");
                self.change(BTreeSet::clear);
            }
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Assign(list) = rebalance else { return };
        let more = places(list);
        if self.is_cut_off.swap(false, Ordering::Relaxed) {
            self.change(|given| *given = more.clone());
        }
        if more.is_empty() {
            return;
        }
        // Rows are read by the follower, not here.
        if let Err(error) = consumer.pause(list) {
            tracing::debug!(%error, "partitions are fetched that nobody reads here");
        }
        tracing::info!(partitions = %named(&more), "this process works on partitions from now on");
        self.change(|given| given.extend(more));
    }
}

fn places(list: &TopicPartitionList) -> BTreeSet<TopicPartition> {
    let elements = list.elements();
    let place = |topic: &str, number| Some(TopicPartition::new(topic, u32::try_from(number).ok()?));
    elements.iter().filter_map(|element| place(element.topic(), element.partition())).collect()
}

fn named(places: &BTreeSet<TopicPartition>) -> String {
    places.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
