//! Alerts at work: tasks around the core.

use std::{path::Path, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use fastrand::Rng;
use thalweg_log::Log;
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    book::Transition,
    config::AlertsConfig,
    core::{Core, Evaluation, Kept, Learned},
    deliver::{Delivery, GivenUp},
    error::{AlertError, Result},
    evaluate::{Asking, evaluate_anomaly, evaluate_rule},
    instance::State,
    journal::Journal,
    meters,
    notification::Notification,
    record::Change,
    rows::Rows,
    silence::{NewSilence, Silence},
    snapshot::{Health, Snapshot},
    store::StateFile,
};

/// Files of the state directory.
const STATE_FILE: &str = "alerts.json";
const LEARNED_FILE: &str = "detectors.json";
/// How often groups are looked at and what is shown is renewed.
const TICK: Duration = Duration::from_millis(500);
/// How often what detectors learned, and for how long conditions hold, is written.
const SAVE_INTERVAL: Duration = Duration::from_secs(15);
/// Longest wait for the log before the state is written.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(1);
/// Messages to the core that wait.
const QUEUE: usize = 256;

/// Alerts at work.
///
/// A task for each rule and anomaly asks its query; one task owns all alerts, and decides; a task
/// for each receiver tells it. What waits for a receiver waits in its own queue, so that one that
/// hangs holds up neither evaluations nor the others.
pub struct Alerts {
    snapshot: Arc<ArcSwap<Snapshot>>,
    requests: mpsc::Sender<Request>,
    stopping: CancellationToken,
    tasks: TaskTracker,
    journal_stopping: CancellationToken,
    journal_tasks: TaskTracker,
}

enum Request {
    Silence { new: NewSilence, by: String, answer: oneshot::Sender<Result<Silence>> },
    EndSilence { id: Uuid, answer: oneshot::Sender<Option<Silence>> },
}

impl Alerts {
    /// Starts to evaluate and to tell. The state is kept in `directory`; changes go to the topics
    /// [`crate::ALERTS`] and [`crate::UNDELIVERED`] of `log`, which must have them.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    ///
    /// # Errors
    /// [`AlertError::Config`] when the configuration cannot work, and [`AlertError::Io`] or
    /// [`AlertError::Unreadable`] when the state cannot be read.
    pub fn start(
        config: AlertsConfig,
        rows: Arc<dyn Rows>,
        log: Arc<dyn Log>,
        directory: &Path,
    ) -> Result<Arc<Self>> {
        config.validate()?;
        let alerting = config.alerting.clone();
        meters::describe(alerting.max_alerts_per_rule, alerting.max_queued_per_receiver);
        let state = StateFile::open(directory, STATE_FILE)?;
        let learned = StateFile::open(directory, LEARNED_FILE)?;
        let now = Utc::now();
        let (core, ended) = Core::new(
            config.clone(),
            state.read::<Kept>()?,
            learned.read::<Learned>()?.unwrap_or_default(),
            now,
        );
        let mut rng = Rng::new();
        let (stopping, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (journal_stopping, journal_tasks) = (CancellationToken::new(), TaskTracker::new());
        let journal = Journal::start(log, journal_stopping.clone(), &journal_tasks);
        let (done, finished) = mpsc::channel(QUEUE);
        let delivery = Delivery::start(&alerting, &journal, &done, &stopping, &tasks, &mut rng)?;
        let (evaluations, evaluated) = mpsc::channel(QUEUE);
        let (requests, asked) = mpsc::channel(QUEUE);
        let asking = Asking {
            rows,
            places: Arc::new(Semaphore::new(alerting.max_queries)),
            query_timeout: alerting.query_timeout.get(),
            max_alerts: alerting.max_alerts_per_rule,
            evaluations,
        };
        for rule in config.alerts {
            let (asking, rng, stopping) = (asking.clone(), rng.fork(), stopping.clone());
            let evaluating = evaluate_rule(rule, asking, rng);
            tasks.spawn(async move { stopping.run_until_cancelled(evaluating).await });
        }
        for anomaly in config.anomalies {
            let cursor = core.cursor(&anomaly, now);
            let (asking, rng, stopping) = (asking.clone(), rng.fork(), stopping.clone());
            let evaluating = evaluate_anomaly(anomaly, cursor, asking, rng);
            tasks.spawn(async move { stopping.run_until_cancelled(evaluating).await });
        }
        let snapshot = Arc::new(ArcSwap::from_pointee(Snapshot::default()));
        let mut keeper = Keeper {
            unsent: core.outbox().cloned().map(Arc::new).collect(),
            core,
            journal,
            delivery,
            external_url: alerting.external_url.clone(),
            state,
            learned,
            snapshot: snapshot.clone(),
            last_saved: Instant::now(),
            is_changed: false,
        };
        keeper.record(ended);
        keeper.publish();
        tasks.spawn(keeper.keep(evaluated, asked, finished, stopping.clone()));
        tasks.close();
        journal_tasks.close();
        Ok(Arc::new(Self { snapshot, requests, stopping, tasks, journal_stopping, journal_tasks }))
    }

    /// Alerts, rules and silences as they were at most half a second ago.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Silences alerts; it is kept when this returns.
    ///
    /// # Errors
    /// [`AlertError::Parameter`], [`AlertError::TooMany`] and [`AlertError::Stopping`].
    pub async fn silence(&self, new: NewSilence, by: &str) -> Result<Silence> {
        let (answer, answered) = oneshot::channel();
        let request = Request::Silence { new, by: by.to_owned(), answer };
        self.requests.send(request).await.map_err(|_| AlertError::Stopping)?;
        answered.await.map_err(|_| AlertError::Stopping)?
    }

    /// Ends a silence, and returns it.
    ///
    /// # Errors
    /// [`AlertError::NotFound`] and [`AlertError::Stopping`].
    pub async fn end_silence(&self, id: Uuid) -> Result<Silence> {
        let (answer, answered) = oneshot::channel();
        let request = Request::EndSilence { id, answer };
        self.requests.send(request).await.map_err(|_| AlertError::Stopping)?;
        let ended = answered.await.map_err(|_| AlertError::Stopping)?;
        ended.ok_or_else(|| AlertError::NotFound(format!("there is no silence {id}")))
    }

    /// Stops evaluating and telling, and keeps the state. What receivers are being told may be
    /// told again at the next start.
    pub async fn stop(&self) {
        self.stopping.cancel();
        self.tasks.wait().await;
        self.journal_stopping.cancel();
        self.journal_tasks.wait().await;
    }
}

/// Owns all alerts.
struct Keeper {
    core: Core,
    journal: Journal,
    delivery: Delivery,
    external_url: String,
    state: StateFile,
    learned: StateFile,
    snapshot: Arc<ArcSwap<Snapshot>>,
    /// Notifications that are not in their receivers' queues yet.
    unsent: Vec<Arc<Notification>>,
    last_saved: Instant,
    /// Whether something happened that must not be forgotten.
    is_changed: bool,
}

impl Keeper {
    async fn keep(
        mut self,
        mut evaluated: mpsc::Receiver<Evaluation>,
        mut asked: mpsc::Receiver<Request>,
        mut finished: mpsc::Receiver<u64>,
        stopping: CancellationToken,
    ) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_tick = Instant::now();
        loop {
            tokio::select! {
                () = stopping.cancelled() => break,
                Some(evaluation) = evaluated.recv() => self.evaluated(evaluation),
                Some(request) = asked.recv() => self.answer(request).await,
                Some(id) = finished.recv() => {
                    self.core.finished(id);
                    self.is_changed = true;
                }
                _ = ticks.tick() => {
                    let elapsed = last_tick.elapsed();
                    last_tick = Instant::now();
                    self.tick(elapsed).await;
                }
            }
        }
        while let Ok(id) = finished.try_recv() {
            self.core.finished(id);
        }
        self.save(true).await;
    }

    fn evaluated(&mut self, evaluation: Evaluation) {
        meters::evaluated(&evaluation.name, evaluation.took, evaluation.found.is_err());
        if let Err(error) = &evaluation.found {
            // That it began to fail is an alert, and logged as one.
            tracing::debug!(rule = evaluation.name, error, "a rule cannot be evaluated");
        }
        let transitions = self.core.evaluated(evaluation, Utc::now());
        self.record(transitions);
    }

    /// Makes changes of state known.
    fn record(&mut self, transitions: Vec<Transition>) {
        let now = Utc::now();
        for transition in transitions {
            self.is_changed = true;
            meters::transition(transition.state());
            tracing::info!(
                labels = %transition.labels, state = transition.state(),
                value = transition.instance.value,
                summary = transition.instance.annotations.get("summary"), "alert"
            );
            self.journal.change(Change { at: now, transition });
        }
    }

    async fn answer(&mut self, request: Request) {
        let now = Utc::now();
        // Whoever asked may be gone.
        match request {
            Request::Silence { new, by, answer } => {
                let silence = self.core.silences().add(new, &by, now);
                self.silences_changed(now).await;
                let _ = answer.send(silence);
            }
            Request::EndSilence { id, answer } => {
                let silence = self.core.silences().end(id, now);
                self.silences_changed(now).await;
                let _ = answer.send(silence);
            }
        }
    }

    async fn silences_changed(&mut self, now: DateTime<Utc>) {
        self.save(false).await;
        self.core.refresh(now);
        self.publish();
    }

    async fn tick(&mut self, elapsed: Duration) {
        let now = Utc::now();
        let (transitions, notifications) = self.core.tick(now, elapsed);
        self.record(transitions);
        self.is_changed |= !notifications.is_empty();
        self.unsent.extend(notifications.into_iter().map(Arc::new));
        let is_due = self.last_saved.elapsed() >= SAVE_INTERVAL && self.core.take_changed();
        if self.is_changed || is_due {
            self.save(is_due).await;
        }
        self.dispatch();
        self.publish();
    }

    /// Puts notifications that are kept by now into their receivers' queues.
    fn dispatch(&mut self) {
        for notification in std::mem::take(&mut self.unsent) {
            if !self.delivery.knows(&notification.receiver) {
                let (journal, external_url) = (self.journal.clone(), self.external_url.clone());
                self.core.finished(notification.id);
                self.is_changed = true;
                tokio::spawn(async move {
                    let reason = "the receiver is not configured any more".to_owned();
                    let given_up = GivenUp { reason, tries: 0 };
                    journal.undelivered(&notification, &given_up, &external_url).await;
                });
            } else if !self.delivery.send(notification.clone()) {
                self.unsent.push(notification);
            }
        }
    }

    /// Writes the state, and what detectors learned if `with_learned`.
    async fn save(&mut self, with_learned: bool) {
        // First the log, so that no change that is kept is missing there.
        self.journal.settled(SETTLE_TIMEOUT).await;
        let mut files = vec![(self.state.clone(), self.state.encode(self.core.keep(Utc::now())))];
        if with_learned {
            files.push((self.learned.clone(), self.learned.encode(&self.core.learned())));
            self.last_saved = Instant::now();
        }
        let written = tokio::task::spawn_blocking(move || {
            files.into_iter().try_for_each(|(file, bytes)| file.replace(&bytes?))
        });
        match written.await {
            Ok(Ok(())) => self.is_changed = false,
            Ok(Err(error)) => {
                meters::state_not_written();
                tracing::error!(%error, "the alerts' state cannot be written");
            }
            Err(error) => tracing::error!(%error, "the alerts' state was not written"),
        }
    }

    /// Shows how things are.
    fn publish(&mut self) {
        let snapshot = self.core.snapshot();
        for state in [State::Pending, State::Firing, State::Resolved] {
            let count = snapshot.alerts.iter().filter(|shown| shown.alert.state == state).count();
            meters::instances(state, count);
        }
        let failing = snapshot.rules.iter().filter(|rule| rule.health == Health::Failing);
        meters::failing(failing.count());
        for rule in &snapshot.rules {
            meters::overflow(&rule.name, rule.left_out);
        }
        for (receiver, queued) in self.core.queued() {
            meters::queued(receiver, queued);
        }
        self.snapshot.store(Arc::new(snapshot));
    }
}
