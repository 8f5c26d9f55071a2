//! What happened, into the log.

use std::{sync::Arc, time::Duration};

use chrono::Utc;
use thalweg_log::{Log, TopicPartition};
use tokio::sync::{
    mpsc,
    oneshot::{self, error::TryRecvError},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    deliver::GivenUp,
    meters,
    notification::Notification,
    record::{ALERTS, Change, UNDELIVERED, alert_rows, undelivered_row},
};

/// Changes that wait to be written.
const QUEUE: usize = 10_000;
/// Changes that are written at once, at most.
const BATCH: usize = 1_000;
/// Pause after an append that failed.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Longest wait for the log before the state is kept.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest that a notification that was given up is tried to be written.
const GIVE_UP: Duration = Duration::from_secs(60);

/// Writes changes of state and given-up notifications into the log, in order.
#[derive(Clone)]
pub(crate) struct Journal {
    log: Arc<dyn Log>,
    entries: mpsc::Sender<Entry>,
}

enum Entry {
    Change(Box<Change>),
    /// Everything before it is written.
    Mark(oneshot::Sender<()>),
}

impl Journal {
    /// Starts the task that writes.
    pub(crate) fn start(
        log: Arc<dyn Log>,
        stopping: CancellationToken,
        tasks: &TaskTracker,
    ) -> Self {
        let (entries, queue) = mpsc::channel(QUEUE);
        tasks.spawn(write(log.clone(), queue, stopping));
        Self { log, entries }
    }

    /// Takes a change of state to write. It is lost, which is counted, when the log has not taken
    /// anything for long.
    pub(crate) fn change(&self, change: Change) {
        if self.entries.try_send(Entry::Change(Box::new(change))).is_err() {
            meters::change_lost();
            tracing::error!("the log does not take the alerts' changes; one is lost");
        }
    }

    /// Writes a notification that was given up; when the log does not take it, the program's own
    /// log is all that is left of it.
    pub(crate) async fn undelivered(
        &self,
        notification: &Notification,
        given_up: &GivenUp,
        external_url: &str,
    ) {
        let row = undelivered_row(Utc::now(), notification, given_up, external_url);
        let write = async {
            let at = || TopicPartition::new(UNDELIVERED, 0);
            while let Err(error) = self.log.append(at(), row.clone()).await {
                tracing::error!(%error, "the table `{UNDELIVERED}` cannot be written");
                tokio::time::sleep(RETRY_DELAY).await;
            }
        };
        if tokio::time::timeout(GIVE_UP, write).await.is_err() {
            let notification = notification.to_alertmanager_json(external_url);
            tracing::error!(%notification, "an undelivered notification is not in `{UNDELIVERED}`");
        }
    }
}

/// Waits for the log before the state is kept, so that no change that is kept is missing there.
#[derive(Default)]
pub(crate) struct Settling {
    /// What was waited for in vain.
    late: Option<oneshot::Receiver<()>>,
}

impl Settling {
    /// Waits until everything that `journal` took so far is written, for a second at most. While
    /// the log is away it does not wait again: changes may then be written twice after a crash.
    pub(crate) async fn settle(&mut self, journal: &Journal) {
        if let Some(late) = &mut self.late
            && late.try_recv() == Err(TryRecvError::Empty)
        {
            return;
        }
        let (mark, mut reached) = oneshot::channel();
        if journal.entries.try_send(Entry::Mark(mark)).is_err() {
            return;
        }
        let is_late = tokio::time::timeout(SETTLE_TIMEOUT, &mut reached).await.is_err();
        self.late = is_late.then_some(reached);
    }
}

async fn write(log: Arc<dyn Log>, mut queue: mpsc::Receiver<Entry>, stopping: CancellationToken) {
    let mut batch = Vec::new();
    loop {
        let came = queue.recv_many(&mut batch, BATCH);
        // Once stopping, what is there is written, and no more is waited for.
        let came = match stopping.run_until_cancelled(came).await {
            Some(came) => came,
            None => {
                while batch.len() < BATCH
                    && let Ok(entry) = queue.try_recv()
                {
                    batch.push(entry);
                }
                batch.len()
            }
        };
        if came == 0 {
            return;
        }
        let mut marks = Vec::new();
        let mut changes = Vec::new();
        for entry in batch.drain(..) {
            match entry {
                Entry::Change(change) => changes.push(*change),
                Entry::Mark(mark) => marks.push(mark),
            }
        }
        if !changes.is_empty() {
            let rows = alert_rows(&changes);
            while let Err(error) = log.append(TopicPartition::new(ALERTS, 0), rows.clone()).await {
                tracing::error!(%error, changes = changes.len(), "the table `{ALERTS}` cannot be written");
                if stopping.is_cancelled() {
                    return;
                }
                tokio::time::sleep(RETRY_DELAY).await;
            }
        }
        for mark in marks {
            // Whoever waited may have given up.
            let _ = mark.send(());
        }
    }
}
