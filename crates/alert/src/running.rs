//! Alerts at work: tasks around the core.

use std::{panic::AssertUnwindSafe, path::Path, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use fastrand::Rng;
use futures::FutureExt as _;
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
    deliver::{Delivery, Finished, Outcomes},
    error::{AlertError, Result},
    evaluate::{Asking, evaluate_anomaly, evaluate_rule},
    instance::State,
    journal::{Journal, Settling},
    meters,
    notification::Notification,
    pulse::{Listener, Pulse},
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
/// Pause after the state could not be written.
const SAVE_RETRY: Duration = Duration::from_secs(5);
/// How many times as long as it took to write the state it is not written again.
const SAVE_REST: u32 = 9;
/// Messages to the core that wait.
const QUEUE: usize = 256;

/// Alerts at work.
///
/// A task for each rule and anomaly asks its query; one task owns all alerts, and decides; a task
/// for each receiver tells it. What waits for a receiver waits in its own queue, so that one that
/// hangs holds up neither evaluations nor the others.
pub(crate) struct Running {
    snapshot: Arc<ArcSwap<Snapshot>>,
    pulse: Listener,
    requests: mpsc::Sender<Request>,
    stopping: CancellationToken,
    tasks: TaskTracker,
    journal_stopping: CancellationToken,
    journal_tasks: TaskTracker,
}

enum Request {
    Silence { new: NewSilence, by: String, answer: oneshot::Sender<Result<Silence>> },
    EndSilence { id: Uuid, answer: oneshot::Sender<Result<Silence>> },
}

impl Running {
    /// Starts to evaluate and to tell, with a configuration that has been validated. Must be called
    /// within a runtime.
    ///
    /// # Errors
    /// [`AlertError::Config`] when the configuration cannot work, and [`AlertError::Io`] or
    /// [`AlertError::Unreadable`] when the state cannot be read.
    pub(crate) fn start(
        config: AlertsConfig,
        rows: Arc<dyn Rows>,
        log: Arc<dyn Log>,
        directory: &Path,
    ) -> Result<Self> {
        let alerting = config.alerting.clone();
        meters::describe(alerting.max_alerts_per_rule, alerting.max_queued_per_receiver);
        let state = StateFile::open(directory, STATE_FILE)?;
        let learned = StateFile::open(directory, LEARNED_FILE)?;
        let now = Utc::now();
        let (core, ended) = Core::new(
            config.clone(),
            state.read::<Kept>()?,
            learned.read_or_put_aside::<Learned>()?.unwrap_or_default(),
            now,
        );
        let mut rng = Rng::new();
        let (stopping, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (journal_stopping, journal_tasks) = (CancellationToken::new(), TaskTracker::new());
        let journal = Journal::start(log, journal_stopping.clone(), &journal_tasks);
        let (done, finished) = mpsc::channel(QUEUE);
        let external_url = alerting.external_url.trim_end_matches('/').into();
        let outcomes = Outcomes { journal: journal.clone(), finished: done, external_url };
        let delivery = Delivery::start(&alerting, outcomes, &stopping, &tasks, &mut rng)?;
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
        let (pulse, heard) = Pulse::start(Instant::now());
        let mut keeper = Keeper {
            pulse,
            unsent: core.outbox().cloned().map(Arc::new).collect(),
            core,
            journal,
            settling: Settling::default(),
            delivery,
            state,
            learned,
            snapshot: snapshot.clone(),
            last_saved: Instant::now(),
            save_after: Instant::now(),
            rest_until: Instant::now(),
            is_changed: false,
        };
        keeper.record(ended);
        keeper.publish();
        let keeping = keeper.keep(evaluated, asked, finished, stopping.clone());
        tasks.spawn(async move {
            if AssertUnwindSafe(keeping).catch_unwind().await.is_err() {
                tracing::error!(
                    "the task that owns all alerts ended with a panic: nobody is told of anything \
                     any more; restart the server, and please report it"
                );
            }
        });
        tasks.close();
        journal_tasks.close();
        Ok(Self {
            snapshot,
            pulse: heard,
            requests,
            stopping,
            tasks,
            journal_stopping,
            journal_tasks,
        })
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.pulse.check(Instant::now())
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    pub(crate) async fn silence(&self, new: NewSilence, by: &str) -> Result<Silence> {
        let (answer, answered) = oneshot::channel();
        let request = Request::Silence { new, by: by.to_owned(), answer };
        self.requests.send(request).await.map_err(|_| AlertError::Stopping)?;
        answered.await.map_err(|_| AlertError::Stopping)?
    }

    pub(crate) async fn end_silence(&self, id: Uuid) -> Result<Silence> {
        let (answer, answered) = oneshot::channel();
        let request = Request::EndSilence { id, answer };
        self.requests.send(request).await.map_err(|_| AlertError::Stopping)?;
        answered.await.map_err(|_| AlertError::Stopping)?
    }

    pub(crate) async fn stop(&self) {
        self.stopping.cancel();
        self.tasks.wait().await;
        self.journal_stopping.cancel();
        self.journal_tasks.wait().await;
    }
}

/// Owns all alerts.
struct Keeper {
    pulse: Pulse,
    core: Core,
    journal: Journal,
    settling: Settling,
    delivery: Delivery,
    state: StateFile,
    learned: StateFile,
    snapshot: Arc<ArcSwap<Snapshot>>,
    /// Notifications that are not in their receivers' queues yet.
    unsent: Vec<Arc<Notification>>,
    last_saved: Instant,
    /// Not before this is it tried to write the state after it could not be written.
    save_after: Instant,
    /// Not before this is the state written again unless somebody is to be told.
    rest_until: Instant,
    /// Whether something happened that must not be forgotten.
    is_changed: bool,
}

impl Keeper {
    async fn keep(
        mut self,
        mut evaluated: mpsc::Receiver<Evaluation>,
        mut asked: mpsc::Receiver<Request>,
        mut finished: mpsc::Receiver<Finished>,
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
                Some(done) = finished.recv() => {
                    self.core.finished(done, Utc::now());
                    self.is_changed = true;
                }
                _ = ticks.tick() => {
                    let elapsed = last_tick.elapsed();
                    last_tick = Instant::now();
                    self.tick(elapsed).await;
                }
            }
        }
        while let Ok(done) = finished.try_recv() {
            self.core.finished(done, Utc::now());
        }
        // There is nobody left to tell but the program's own log, which was told.
        let _ = self.save(true).await;
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
                let _ = answer.send(self.silence(new, &by, now).await);
            }
            Request::EndSilence { id, answer } => {
                let _ = answer.send(self.end_silence(id, now).await);
            }
        }
        self.core.refresh(now);
        self.publish();
    }

    async fn silence(&mut self, new: NewSilence, by: &str, now: DateTime<Utc>) -> Result<Silence> {
        let silence = self.core.silences().add(new, by, now)?;
        if let Err(error) = self.save(false).await {
            self.core.silences().end(silence.id, now);
            return Err(error);
        }
        Ok(silence)
    }

    async fn end_silence(&mut self, id: Uuid, now: DateTime<Utc>) -> Result<Silence> {
        let ended = self.core.silences().end(id, now);
        let ended =
            ended.ok_or_else(|| AlertError::NotFound(format!("there is no silence {id}")))?;
        self.save(false).await?;
        Ok(ended)
    }

    async fn tick(&mut self, elapsed: Duration) {
        let now = Utc::now();
        let (transitions, notifications) = self.core.tick(now, elapsed);
        self.record(transitions);
        let is_news = !notifications.is_empty();
        self.is_changed |= is_news;
        self.unsent.extend(notifications.into_iter().map(Arc::new));
        // Who was told what is known after a crash too, so that ends are told of.
        let may_save = is_news || Instant::now() >= self.rest_until;
        if may_save && Instant::now() >= self.save_after {
            let is_due = self.last_saved.elapsed() >= SAVE_INTERVAL && self.core.take_changed();
            if self.is_changed || is_due {
                // It is tried again later; people are told all the same.
                let _ = self.save(is_due).await;
            }
        }
        self.dispatch();
        self.publish();
        self.pulse.beat(Instant::now());
    }

    /// Puts notifications that are kept by now into their receivers' queues.
    fn dispatch(&mut self) {
        self.unsent.retain(|notification| !self.delivery.take(notification.clone()));
    }

    /// Writes the state, and what detectors learned if `with_learned`.
    async fn save(&mut self, with_learned: bool) -> Result<()> {
        self.settling.settle(&self.journal).await;
        let begun = Instant::now();
        let (state, kept) = (self.state.clone(), self.core.keep(Utc::now()));
        let learned = with_learned.then(|| (self.learned.clone(), self.core.learned()));
        if with_learned {
            self.last_saved = begun;
        }
        // Encoding may take as long as writing: thousands of alerts are megabytes.
        let written = tokio::task::spawn_blocking(move || {
            state.replace(&state.encode(&*kept)?)?;
            learned.map_or(Ok(()), |(file, learned)| file.replace(&file.encode(&learned)?))
        });
        let written = written.await.unwrap_or(Err(AlertError::Stopping));
        match &written {
            Ok(()) => {
                self.is_changed = false;
                self.rest_until = Instant::now() + rest_after(begun.elapsed());
            }
            Err(error) => {
                self.save_after = Instant::now() + SAVE_RETRY;
                self.is_changed = true;
                meters::state_not_written();
                tracing::error!(%error, "the alerts' state cannot be written");
            }
        }
        written
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

/// Pause after the state was written, which took `took`: a large one takes a tenth of the time to
/// write at most, however often alerts change. Changes that nobody was told of are found again
/// after a crash.
fn rest_after(took: Duration) -> Duration {
    (took * SAVE_REST).min(SAVE_INTERVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_state_is_written_less_often_and_still_in_time() {
        assert!(rest_after(Duration::from_millis(10)) < TICK);
        assert_eq!(rest_after(Duration::from_millis(500)), Duration::from_millis(4_500));
        assert_eq!(rest_after(Duration::from_secs(60)), SAVE_INTERVAL);
    }
}
