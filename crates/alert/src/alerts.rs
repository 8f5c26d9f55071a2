//! Alerts of a node: at work, or left to another process.

use std::{
    fs::{self, File},
    mem,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwapOption;
use thalweg_log::{HandOver, Log, TopicPartition, lock_file};
use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    config::AlertsConfig,
    error::{AlertError, Result},
    meters,
    record::ALERTS,
    rows::Rows,
    running::Running,
    silence::{NewSilence, Silence},
    snapshot::Snapshot,
};

/// Held by the process that evaluates and tells, among those that share a log.
const LOCK_FILE: &str = "alerts.lock";
/// Pause before it is tried again to begin.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Alerts of a node.
///
/// Where several processes share the log, rules are evaluated and people told by one of them: the one
/// that owns the first partition of the topic [`ALERTS`]. The others stand by, and go on with the state
/// that it has kept when they become the owner.
pub struct Alerts {
    running: Arc<ArcSwapOption<Running>>,
    is_shared: bool,
    reloads: mpsc::Sender<Reload>,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

/// Another configuration, and who asked for it.
struct Reload {
    config: AlertsConfig,
    answer: oneshot::Sender<Result<()>>,
}

impl Alerts {
    /// Starts to evaluate and to tell, where that is this process' work. The state is kept in
    /// `directory`; changes go to the topics [`ALERTS`] and [`crate::UNDELIVERED`] of `log`, which must
    /// have them.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    ///
    /// # Errors
    /// [`AlertError::Config`] when the configuration cannot work, and [`AlertError::Io`] or
    /// [`AlertError::Unreadable`] when the state cannot be read; if the log is shared, what is wrong
    /// with the state is logged when it is this process' turn.
    pub fn start(
        config: AlertsConfig,
        rows: Arc<dyn Rows>,
        log: Arc<dyn Log>,
        directory: &Path,
    ) -> Result<Arc<Self>> {
        config.validate()?;
        let is_shared = log.ownership().is_shared();
        let running = Arc::new(ArcSwapOption::empty());
        let (reloads, reloading) = mpsc::channel(1);
        let (stopping, tasks) = (CancellationToken::new(), TaskTracker::new());
        let mut attendant = Attendant {
            config,
            rows,
            log,
            directory: directory.to_owned(),
            running: Arc::clone(&running),
            lock: None,
            hand_over: HandOver::default(),
        };
        if !is_shared {
            attendant.begin()?;
        }
        tasks.spawn(attendant.attend(reloading, stopping.clone()));
        tasks.close();
        Ok(Arc::new(Self { running, is_shared, reloads, stopping, tasks }))
    }

    /// Goes on with another configuration and the state as it is. If it cannot work, with the former
    /// one.
    ///
    /// # Errors
    /// Those of [`Alerts::start`], and [`AlertError::Stopping`].
    pub async fn reload(&self, config: AlertsConfig) -> Result<()> {
        config.validate()?;
        let (answer, answered) = oneshot::channel();
        let reload = Reload { config, answer };
        self.reloads.send(reload).await.map_err(|_| AlertError::Stopping)?;
        answered.await.map_err(|_| AlertError::Stopping)?
    }

    /// Whether rules are evaluated and people told, by this process.
    ///
    /// # Errors
    /// [`AlertError::Unattended`]; [`AlertError::Standby`] when it is another process' work.
    pub fn check(&self) -> Result<()> {
        self.running()?.check()
    }

    /// Alerts, rules and silences as they were at most half a second ago, if [`Alerts::check`] has
    /// no objection.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.running().map_or_else(|_| Arc::default(), |running| running.snapshot())
    }

    /// Silences alerts; it is kept when this returns.
    ///
    /// # Errors
    /// [`AlertError::Parameter`], [`AlertError::TooMany`], [`AlertError::Io`], [`AlertError::Stopping`]
    /// and [`AlertError::Standby`].
    pub async fn silence(&self, new: NewSilence, by: &str) -> Result<Silence> {
        self.running()?.silence(new, by).await
    }

    /// Ends a silence, and returns it.
    ///
    /// # Errors
    /// [`AlertError::NotFound`], [`AlertError::Io`], [`AlertError::Stopping`] and
    /// [`AlertError::Standby`].
    pub async fn end_silence(&self, id: Uuid) -> Result<Silence> {
        self.running()?.end_silence(id).await
    }

    /// Stops evaluating and telling, and keeps the state. What receivers are being told may be
    /// told again at the next start.
    pub async fn stop(&self) {
        self.stopping.cancel();
        self.tasks.wait().await;
    }

    fn running(&self) -> Result<Arc<Running>> {
        self.running.load_full().ok_or(match self.is_shared && !self.stopping.is_cancelled() {
            true => AlertError::Standby,
            false => AlertError::Stopping,
        })
    }
}

/// Sees to it that alerts are at work when it is this process' turn.
struct Attendant {
    config: AlertsConfig,
    rows: Arc<dyn Rows>,
    log: Arc<dyn Log>,
    directory: PathBuf,
    running: Arc<ArcSwapOption<Running>>,
    /// Held while alerts are at work, if others might be.
    lock: Option<File>,
    hand_over: HandOver,
}

impl Attendant {
    async fn attend(mut self, mut reloads: mpsc::Receiver<Reload>, stopping: CancellationToken) {
        let (ownership, place) = (self.log.ownership(), TopicPartition::new(ALERTS, 0));
        while !stopping.is_cancelled() {
            let is_running = self.running.load().is_some();
            tokio::select! {
                () = stopping.cancelled() => {}
                Some(reload) = reloads.recv() => self.reload(reload).await,
                () = ownership.until(&place, false), if is_running => {
                    self.end().await;
                    tracing::info!("another process looks after the alerts");
                }
                () = ownership.until(&place, true), if !is_running => {
                    if let Err(error) = self.begin() {
                        tracing::error!(%error, "nobody looks after the alerts");
                    }
                    if self.running.load().is_none() {
                        stopping.run_until_cancelled(tokio::time::sleep(RETRY_DELAY)).await;
                    }
                }
            }
        }
        self.end().await;
    }

    /// Puts alerts to work, unless another process has still the state.
    fn begin(&mut self) -> Result<()> {
        if self.log.ownership().is_shared() {
            let io = |reason| AlertError::Io { path: self.directory.clone(), reason };
            fs::create_dir_all(&self.directory).map_err(io)?;
            self.lock = lock_file(&self.directory.join(LOCK_FILE)).map_err(io)?;
            if self.lock.is_none() {
                self.hand_over.waits("alerts");
                return Ok(());
            }
        }
        let (rows, log) = (Arc::clone(&self.rows), Arc::clone(&self.log));
        let begun = Running::start(self.config.clone(), rows, log, &self.directory);
        let begun = begun.inspect_err(|_| self.lock = None)?;
        self.running.store(Some(Arc::new(begun)));
        meters::attended(true);
        Ok(())
    }

    async fn end(&mut self) {
        if let Some(running) = self.running.swap(None) {
            running.stop().await;
        }
        self.lock = None;
        meters::attended(false);
    }

    async fn reload(&mut self, Reload { config, answer }: Reload) {
        let former = mem::replace(&mut self.config, config);
        let mut begun = Ok(());
        if self.running.load().is_some() {
            self.end().await;
            begun = self.begin();
        }
        if begun.is_err() {
            self.config = former;
            if let Err(error) = self.begin() {
                tracing::error!(%error, "nobody looks after the alerts");
            }
        }
        // Whoever asked may be gone.
        let _ = answer.send(begun);
    }
}
