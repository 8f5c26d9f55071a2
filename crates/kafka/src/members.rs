//! Which partitions this process works on, where several share them: a consumer group that nothing
//! is consumed with.
//!
//! Kafka notices who is gone, and spreads the partitions of all open topics evenly over those who
//! are there, moving as few as it can (cooperative-sticky). What is made of the rows is safe from two
//! who both think that they own a partition by other means: a table's transactions, the locks of
//! views' states. So a partition is taken up as soon as it is given, whatever the former owner does.

use std::{
    collections::BTreeSet,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use rdkafka::{
    ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance},
    error::KafkaError,
};
use thalweg_log::{LogError, Owned, Result, TopicPartition};
use tokio::sync::watch;

use crate::{
    client::{Reports, client_config, wrong_settings},
    config::KafkaConfig,
};

/// Consumer group of the processes that share the partitions.
const GROUP: &str = "thalweg.members";
/// After this time without a sign of life a process is taken for gone: the least that brokers allow
/// unless they are told otherwise (`group.min.session.timeout.ms`).
const SESSION_TIMEOUT_MS: &str = "6000";
const HEARTBEAT_MS: &str = "1500";
/// Longest that orders wait.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);

/// This process' membership, on a thread of its own.
pub(crate) struct Members {
    orders: mpsc::Sender<Order>,
    thread: JoinHandle<()>,
}

enum Order {
    Subscribe(String),
    Unsubscribe(String),
    Leave,
}

/// Tells what the group gives to this process.
struct Giving {
    owned: watch::Sender<Owned>,
}

impl Members {
    /// Joins, for the partitions of `topics`.
    ///
    /// # Errors
    /// [`LogError::Config`], [`LogError::Io`] when no thread can be started.
    pub(crate) fn join(
        config: &KafkaConfig,
        topics: BTreeSet<String>,
        owned: watch::Sender<Owned>,
    ) -> Result<Self> {
        let more = [
            ("group.id", GROUP),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("session.timeout.ms", SESSION_TIMEOUT_MS),
            ("heartbeat.interval.ms", HEARTBEAT_MS),
            ("enable.auto.commit", "false"),
            ("auto.offset.reset", "latest"),
            ("queued.max.messages.kbytes", "1"),
        ];
        let client = client_config(config, &more).map_err(|error| wrong_settings(&error))?;
        let consumer: BaseConsumer<Giving> =
            client.create_with_context(Giving { owned }).map_err(|error| wrong_settings(&error))?;
        let (orders, received) = mpsc::channel();
        let run = move || run(&consumer, topics, &received);
        let thread = thread::Builder::new().name("kafka-members".into()).spawn(run);
        let thread = thread.map_err(|error| LogError::Io {
            place: "starting a thread".into(),
            reason: error.to_string(),
        })?;
        Ok(Self { orders, thread })
    }

    /// Has the group spread the partitions of another topic too.
    pub(crate) fn subscribe(&self, topic: &str) {
        self.order(Order::Subscribe(topic.to_owned()));
    }

    /// Has the group leave the partitions of `topic` alone.
    pub(crate) fn unsubscribe(&self, topic: &str) {
        self.order(Order::Unsubscribe(topic.to_owned()));
    }

    /// Gives all partitions to the others. Blocks for the broker, for a short while.
    pub(crate) fn leave(self) {
        self.order(Order::Leave);
        if self.thread.join().is_err() {
            tracing::error!("the thread that shares the partitions panicked");
        }
    }

    fn order(&self, order: Order) {
        if self.orders.send(order).is_err() {
            tracing::error!("the thread that shares the partitions has ended");
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
    consumer.context().change(|owned| owned.clear());
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
        self.owned.send_if_modified(|owned| {
            let mut changed = BTreeSet::clone(owned);
            change(&mut changed);
            let is_changed = changed != **owned;
            *owned = Arc::new(changed);
            is_changed
        });
        let owned = self.owned.borrow().len();
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
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Revoke(list) => {
                let lost = places(list);
                if !lost.is_empty() {
                    tracing::info!(partitions = %named(&lost), "others work on partitions from now on");
                }
                self.change(|owned| owned.retain(|at| !lost.contains(at)));
            }
            Rebalance::Assign(_) => {}
            Rebalance::Error(error) => {
                let owned = self.owned.borrow().len();
                tracing::warn!(%error, owned, "partitions cannot be shared; all are given up");
                self.change(|owned| owned.clear());
            }
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Assign(list) = rebalance else { return };
        let given = places(list);
        if given.is_empty() {
            return;
        }
        // Rows are read by the follower, not here.
        if let Err(error) = consumer.pause(list) {
            tracing::debug!(%error, "partitions are fetched that nobody reads here");
        }
        tracing::info!(partitions = %named(&given), "this process works on partitions from now on");
        self.change(|owned| owned.extend(given));
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
