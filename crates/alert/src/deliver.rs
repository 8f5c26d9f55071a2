//! Telling receivers, in their own time.

mod backoff;
mod channel;
mod command;
mod email;
mod post;
mod slack;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use fastrand::Rng;
use tokio::{
    sync::{Semaphore, mpsc},
    task::{Id, JoinError, JoinSet},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    config::AlertingConfig, error::Result, journal::Journal, meters, notification::Notification,
    receiver::RetryConfig,
};
use channel::Channel;

/// Messages that one receiver gets at once.
const MAX_AT_ONCE: usize = 4;

/// Why a receiver was not told.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Failure {
    /// It is worth another try.
    Retry {
        reason: String,
        /// After this time, if the receiver says so.
        after: Option<Duration>,
    },
    /// It would fail again.
    Final(String),
}

impl Failure {
    fn retry(reason: String) -> Self {
        Self::Retry { reason, after: None }
    }
}

/// A notification that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GivenUp {
    /// Why.
    pub(crate) reason: String,
    /// How often it was tried.
    pub(crate) tries: u32,
}

/// A notification that is done with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Finished {
    /// Its id.
    pub(crate) id: u64,
    /// Whether its receiver was told; otherwise it was given up.
    pub(crate) is_delivered: bool,
}

/// What comes after delivery.
#[derive(Clone)]
pub(crate) struct Outcomes {
    pub(crate) journal: Journal,
    /// Notifications that are done with.
    pub(crate) finished: mpsc::Sender<Finished>,
    pub(crate) external_url: Arc<str>,
}

impl Outcomes {
    async fn finish(&self, notification: &Notification, outcome: Result<(), GivenUp>) {
        let receiver = &*notification.receiver;
        let is_delivered = outcome.is_ok();
        meters::told(receiver, is_delivered);
        if let Err(given_up) = outcome {
            tracing::error!(
                receiver,
                group = notification.group_key,
                tries = given_up.tries,
                reason = given_up.reason,
                "a notification could not be delivered"
            );
            self.journal.undelivered(notification, &given_up, &self.external_url).await;
        }
        // Whoever waits for it may have stopped.
        let _ = self.finished.send(Finished { id: notification.id, is_delivered }).await;
    }
}

/// The receivers' queues: each is worked off by a task of its own.
pub(crate) struct Delivery {
    queues: BTreeMap<String, mpsc::Sender<Arc<Notification>>>,
    outcomes: Outcomes,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl Delivery {
    /// Starts a task for each receiver.
    pub(crate) fn start(
        config: &AlertingConfig,
        outcomes: Outcomes,
        stopping: &CancellationToken,
        tasks: &TaskTracker,
        rng: &mut Rng,
    ) -> Result<Self> {
        let client = channel::client()?;
        let mut queues = BTreeMap::new();
        for receiver in &config.receivers {
            let (sender, queue) = mpsc::channel(config.max_queued_per_receiver);
            let worker = Worker {
                retry: receiver.retry,
                channel: Channel::new(receiver, client.clone(), outcomes.external_url.clone()),
                outcomes: outcomes.clone(),
                rng: rng.fork(),
            };
            let stopping = stopping.clone();
            tasks.spawn(async move { stopping.run_until_cancelled(worker.work(queue)).await });
            queues.insert(receiver.name.clone(), sender);
        }
        Ok(Self { queues, outcomes, stopping: stopping.clone(), tasks: tasks.clone() })
    }

    /// Takes a notification; whether its receiver's queue had room.
    pub(crate) fn take(&self, notification: Arc<Notification>) -> bool {
        if let Some(queue) = self.queues.get(&notification.receiver) {
            return queue.try_send(notification).is_ok();
        }
        let (outcomes, stopping) = (self.outcomes.clone(), self.stopping.clone());
        self.tasks.spawn(async move {
            let reason = "the receiver is not configured any more".to_owned();
            let finish = outcomes.finish(&notification, Err(GivenUp { reason, tries: 0 }));
            stopping.run_until_cancelled(finish).await
        });
        true
    }
}

/// Works off the queue of one receiver.
struct Worker {
    retry: RetryConfig,
    channel: Channel,
    outcomes: Outcomes,
    rng: Rng,
}

impl Worker {
    /// Tells of all groups at once, and of each group in order: one whose messages are refused, and
    /// tried again for long, holds up no other.
    async fn work(mut self, mut queue: mpsc::Receiver<Arc<Notification>>) {
        let mut waiting: VecDeque<Arc<Notification>> = VecDeque::new();
        let mut under_way: HashMap<Id, Arc<Notification>> = HashMap::new();
        let mut sending = JoinSet::new();
        let places = Arc::new(Semaphore::new(MAX_AT_ONCE));
        loop {
            // Their number is bounded by what may wait for the receiver in all.
            while let Some(position) = waiting
                .iter()
                .position(|next| under_way.values().all(|other| other.group_key != next.group_key))
                && let Some(next) = waiting.remove(position)
            {
                let outcomes = self.outcomes.clone();
                let tries = Tries {
                    channel: self.channel.clone(),
                    places: places.clone(),
                    retry: self.retry,
                    rng: self.rng.fork(),
                };
                let notification = next.clone();
                let task = sending.spawn(async move {
                    let outcome = tries.tell(&notification).await;
                    outcomes.finish(&notification, outcome).await;
                });
                under_way.insert(task.id(), next);
            }
            tokio::select! {
                next = queue.recv(), if waiting.len() < queue.max_capacity() => match next {
                    Some(notification) => waiting.push_back(notification),
                    None => return,
                },
                Some(done) = sending.join_next_with_id() => {
                    let id = done.as_ref().map_or_else(JoinError::id, |(id, ())| *id);
                    let notification = under_way.remove(&id);
                    if let (Err(error), Some(notification)) = (done, notification) {
                        let reason = format!("the delivery ended with {error}; please report it");
                        let given_up = GivenUp { reason, tries: 0 };
                        self.outcomes.finish(&notification, Err(given_up)).await;
                    }
                }
            }
        }
    }
}

/// The tries to deliver one notification.
struct Tries {
    channel: Channel,
    /// For messages to the receiver.
    places: Arc<Semaphore>,
    retry: RetryConfig,
    rng: Rng,
}

impl Tries {
    async fn tell(mut self, notification: &Notification) -> Result<(), GivenUp> {
        let deadline = Instant::now() + self.time_left(notification.created_at, Utc::now());
        let mut tries = 0;
        loop {
            tries += 1;
            let outcome = {
                let _place = self.places.acquire().await.expect("places are never closed");
                self.channel.tell(notification).await
            };
            let (reason, after) = match outcome {
                Ok(()) => return Ok(()),
                Err(Failure::Final(reason)) => return Err(GivenUp { reason, tries }),
                Err(Failure::Retry { reason, after }) => (reason, after),
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(GivenUp { reason, tries });
            }
            // A receiver that asks for more time than there is is tried once more at the end.
            let pause = backoff::pause(&self.retry, tries, after, &mut self.rng).min(left);
            meters::retried(&notification.receiver);
            tracing::warn!(
                receiver = notification.receiver,
                reason,
                ?pause,
                "a try to tell failed"
            );
            tokio::time::sleep(pause).await;
        }
    }

    /// Time until a notification is given up, which counts from when it was decided, if the clock
    /// can be believed.
    fn time_left(&self, created_at: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
        let age = (now - created_at).to_std().unwrap_or_default();
        self.retry.give_up_after.get().saturating_sub(age)
    }
}
