//! New versions of views that are there: begun anew from a time on, beside the one that answers.
//!
//! ```text
//! old version ───────────────────────── answers ───┤ stops
//! new version    history ─▶ log ─▶ caught up ──────┴─▶ as far as the old one ─▶ switch ─▶ answers
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use datafusion::catalog::TableProvider;
use serde::{Deserialize, Serialize};
use thalweg_log::{Offset, Progress, TopicPartition};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::{Planned, Running, Views, remove_state};
use crate::error::{Result, StreamError};
use crate::standing::{Position, Standing};
use crate::table::ViewTable;
use crate::task::{Task, ends};

/// Pause between looks at how far a version has come.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A version has caught up when its checkpoint has what stood in the log so many intervals of
/// checkpoints ago.
const CAUGHT_UP_INTERVALS: u32 = 3;

/// A version of a view that was begun anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// Tells it from others of the same view, of which later ones have greater numbers; from 1.
    pub number: u32,
    /// Event time, in microseconds since the Unix epoch, before which rows are none of the view's.
    pub since_micros: i64,
}

impl Views {
    /// The query of a view.
    ///
    /// # Errors
    /// [`StreamError::Unknown`].
    pub fn query(&self, name: &str) -> Result<String> {
        let known = self.known.lock();
        let query = known.running.get(name).map(|running| running.config.query.clone());
        query.ok_or_else(|| StreamError::Unknown(name.into()))
    }

    /// Understands a view that is there anew, for a version beside the one that answers.
    ///
    /// # Errors
    /// [`StreamError::Unknown`], [`StreamError::Replaying`], [`StreamError::InUse`]: who reads the
    /// view would have to begin anew as well.
    pub async fn plan_beside(&self, name: &str, replay: Replay) -> Result<Planned> {
        let config = {
            let known = self.known.lock();
            let running = known.running.get(name);
            let running = running.ok_or_else(|| StreamError::Unknown(name.into()))?;
            if known.beside.contains_key(name) {
                return Err(StreamError::Replaying(name.into()));
            }
            known.refuse_if_read(name)?;
            running.config.clone()
        };
        self.understand(config, Some(replay)).await
    }

    /// Maintains a version beside the one that answers from now on. Its topic is there.
    ///
    /// Answers the version as a table.
    ///
    /// # Errors
    /// [`StreamError::Replaying`]; [`StreamError::Log`] when the log lacks a topic.
    pub fn start_beside(
        &self,
        planned: Planned,
        closed: Arc<dyn TableProvider>,
    ) -> Result<Arc<ViewTable>> {
        let name = planned.config.name.to_string();
        let mut known = self.known.lock();
        if known.beside.contains_key(&name) {
            return Err(StreamError::Replaying(name));
        }
        let (running, table) = self.spawn(planned, closed, true)?;
        known.beside.insert(name, running);
        Ok(table)
    }

    /// How far the version beside the one that answers has come, if there is one.
    pub fn progress(&self, name: &str) -> Option<Progress> {
        let (standing, topics) = self.beside(name).ok()?;
        let ends = ends(self.log.as_ref(), &topics).unwrap_or_default();
        let lag = |reached: Position| {
            let read = |at| reached.cursors.get(at).copied().unwrap_or(0);
            ends.iter().map(|(at, end)| end.saturating_sub(read(at))).sum()
        };
        Some(Progress {
            rows: standing.history_rows(),
            lag: standing.reached().map(lag),
            fault: standing.fault(),
        })
    }

    /// Resolves once the version beside the one that answers reads what comes as it comes.
    ///
    /// # Errors
    /// [`StreamError::Unknown`], [`StreamError::Log`].
    pub async fn caught_up(&self, name: &str) -> Result<()> {
        let (standing, topics) = self.beside(name)?;
        let interval = Duration::from_millis(self.config.checkpoint_interval_ms.get());
        loop {
            let wanted = ends(self.log.as_ref(), &topics)?;
            let until = Instant::now() + interval * CAUGHT_UP_INTERVALS;
            while Instant::now() < until {
                let has_read = |reached: Position| covers(&reached.cursors, &wanted);
                if standing.fault().is_none() && standing.reached().is_some_and(has_read) {
                    return Ok(());
                }
                sleep(LOOK_EVERY).await;
            }
        }
    }

    /// Stops the version that answers, which goes on to answer as of now, and resolves once the one
    /// beside it has read as much and closed as many windows.
    ///
    /// # Errors
    /// [`StreamError::Unknown`], [`StreamError::InUse`]; [`StreamError::Behind`] when `patience` was
    /// not enough. The version that answers goes on then.
    pub async fn hand_over(&self, name: &str, patience: Duration) -> Result<()> {
        let (next, _) = self.beside(name)?;
        let (stop, former, last) = {
            let mut known = self.known.lock();
            known.refuse_if_read(name)?;
            let running = known.running.get_mut(name);
            let running = running.ok_or_else(|| StreamError::Unknown(name.into()))?;
            let Task { stop, standing, .. } = &running.task;
            (stop.clone(), running.running.take(), Arc::clone(standing))
        };
        stop.cancel();
        let deadline = Instant::now() + patience;
        if let Some(mut former) = former
            && timeout_at(deadline, &mut former).await.is_err()
        {
            self.go_on(name, Some(former));
            return Err(StreamError::Behind(name.into()));
        }
        let Some(last) = last.reached() else { return Ok(()) };
        next.set_predecessor(last.clone());
        let is_there = |reached: Position| {
            covers(&reached.cursors, &last.cursors) && reached.closed_until >= last.closed_until
        };
        while next.predecessor().is_some() || !next.reached().is_some_and(is_there) {
            if Instant::now() >= deadline {
                self.go_on(name, None);
                return Err(StreamError::Behind(name.into()));
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Lets the version that answers go on if [`Views::hand_over`] has stopped it.
    pub fn take_back(&self, name: &str) {
        self.go_on(name, None);
    }

    /// Starts the version that answers again, once `former`, its last task, has ended.
    fn go_on(&self, name: &str, former: Option<JoinHandle<()>>) {
        let mut known = self.known.lock();
        let Some(running) = known.running.get_mut(name) else { return };
        if running.running.is_some() {
            return;
        }
        running.task.stop = CancellationToken::new();
        let task = running.task.clone();
        running.running = Some(self.runtime().spawn(async move {
            if let Some(former) = former {
                let _ = former.await;
            }
            // What it has published holds its state open.
            task.published.store(None);
            task.run().await;
        }));
    }

    /// Replaces the version that answers with the one beside it, and forgets its state.
    ///
    /// # Errors
    /// [`StreamError::Unknown`].
    pub async fn switch(&self, name: &str) -> Result<()> {
        let former = {
            let mut known = self.known.lock();
            let beside = known.beside.remove(name);
            let beside = beside.ok_or_else(|| StreamError::Unknown(name.into()))?;
            beside.task.made.is_beside.store(false, Ordering::Release);
            self.add_stream(&mut known, beside.stream());
            known.running.insert(name.to_owned(), beside)
        };
        self.forget(former).await;
        Ok(())
    }

    /// Ends the version beside the one that answers, if there is one, and forgets its state.
    pub async fn abandon(&self, name: &str) {
        let beside = self.known.lock().beside.remove(name);
        self.forget(beside).await;
    }

    async fn forget(&self, version: Option<Running>) {
        if let Some(version) = version {
            let directory = version.task.directory.clone();
            version.end_at_once().await;
            remove_state(&directory);
        }
    }

    fn beside(&self, name: &str) -> Result<(Arc<Standing>, Vec<String>)> {
        let known = self.known.lock();
        let beside = known.beside.get(name);
        let beside = beside.ok_or_else(|| StreamError::Unknown(name.into()))?;
        Ok((Arc::clone(&beside.task.standing), beside.task.made.plan.topics()))
    }
}

/// Whether `cursors` are behind all of `wanted`.
fn covers(
    cursors: &BTreeMap<TopicPartition, Offset>,
    wanted: &BTreeMap<TopicPartition, Offset>,
) -> bool {
    wanted.iter().all(|(at, offset)| cursors.get(at).is_some_and(|cursor| cursor >= offset))
}
