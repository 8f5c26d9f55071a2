//! `thalweg replay`: a view begun anew from a time on, beside the one that answers.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use thalweg_lake::LakeTable;
use thalweg_query::NamedTable;
use thalweg_stream::{Replay, StreamError};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::{NodeViews, blocking};
use crate::replays::{Refused, Stage};

/// How long the files of a version stay after it was replaced, for queries that read them.
const GRACE: Duration = Duration::from_secs(60);
/// Pause before it is tried again to note that a version answers.
const NOTE_RETRY: Duration = Duration::from_secs(1);

/// A replay that waits to be over.
pub(crate) struct Waiting {
    /// The new version's table, until it answers.
    beside: Option<Arc<LakeTable>>,
    /// Since when it was to begin, and why it was given up.
    failed: Option<(i64, String)>,
    /// Ends with this.
    _task: AbortOnDropHandle<()>,
}

impl Waiting {
    /// The new version's table, if it does not answer yet.
    pub(super) fn into_table(self) -> Option<Arc<LakeTable>> {
        self.beside
    }
}

impl NodeViews {
    /// Begins a new version of a view with what its streams have from a time on.
    pub(crate) async fn replay(
        self: &Arc<Self>,
        name: &str,
        since_micros: i64,
    ) -> Result<(), Refused> {
        let _tables = self.tables.lock().await;
        let query = self.views.query(name)?;
        if self.versions.of(name, &query).pending.is_some() {
            return Err(StreamError::Replaying(name.into()).into());
        }
        // What refuses it is found before anything is noted.
        self.views.plan_beside(name, Replay { number: 0, since_micros }).await?;
        let replay = self.versions.begin(name, &query, since_micros)?;
        if let Err(error) = self.begin_beside(name, replay).await {
            self.give_up(name).await;
            return Err(error.into());
        }
        Ok(())
    }

    /// How the replay of a view stands, if there is or was one: since when, and how far.
    pub(crate) fn replay_stage(&self, name: &str) -> Option<(i64, Stage)> {
        let version = self.versions.of(name, &self.views.query(name).ok()?);
        let waiting = self.waiting.lock();
        let failed = waiting.get(name).and_then(|waiting| waiting.failed.clone());
        match (version.pending, failed) {
            (Some(pending), _) => {
                Some((pending.since_micros, Stage::Running(self.views.progress(name)?)))
            }
            (None, Some((since_micros, why))) => Some((since_micros, Stage::Failed(why))),
            (None, None) => Some((version.current?.since_micros, Stage::Done)),
        }
    }

    /// Starts the version `replay` of a view that answers already.
    pub(super) async fn begin_beside(
        self: &Arc<Self>,
        name: &str,
        replay: Replay,
    ) -> anyhow::Result<()> {
        let planned = self.views.plan_beside(name, replay).await?;
        let table = self.open_table(&planned).await?;
        let provider = self.views.start_beside(planned, table.clone())?;
        let shown = NamedTable { name: name.to_owned(), provider, is_for_admins: false };
        let (node, of) = (self.clone(), name.to_owned());
        let task = tokio::spawn(async move {
            if let Err(error) = node.finish(&of, shown).await {
                tracing::error!(view = of, "the replay was given up: {error:#}");
                let _tables = node.tables.lock().await;
                node.give_up(&of).await;
                if let Some(waiting) = node.waiting.lock().get_mut(&of) {
                    waiting.failed = Some((replay.since_micros, format!("{error:#}")));
                }
            }
        });
        let task = AbortOnDropHandle::new(task);
        let waiting = Waiting { beside: Some(table), failed: None, _task: task };
        self.waiting.lock().insert(name.to_owned(), waiting);
        Ok(())
    }

    /// Lets the new version answer once it has caught up.
    async fn finish(&self, name: &str, shown: NamedTable) -> anyhow::Result<()> {
        self.views.caught_up(name).await?;
        let former = {
            let mut tables = self.tables.lock().await;
            self.views.hand_over(name).await?;
            while let Err(error) = self.versions.switch(name) {
                // The former version has stopped: there is no way back but a restart.
                tracing::error!(view = name, "the replayed view waits to answer: {error:#}");
                sleep(NOTE_RETRY).await;
            }
            self.query.replace_table(shown);
            self.views.switch(name).await?;
            let table = self.waiting.lock().get_mut(name).and_then(|w| w.beside.take());
            let table = table.context("the new version has a table")?;
            self.histories.add(name, table.clone());
            tables.insert(name.to_owned(), table)
        };
        tracing::info!(view = name, "the replayed version answers");
        if let Some(former) = former
            && let Err(error) = self.retire(&former).await
        {
            let path = former.path().display();
            tracing::warn!(%path, "a former version is left until the next start: {error:#}");
        }
        Ok(())
    }

    /// Removes a version that no new query reads.
    async fn retire(&self, former: &LakeTable) -> anyhow::Result<()> {
        former.shutdown().await;
        // The log need not keep anything for it any more.
        let (log, group) = (self.log.clone(), thalweg_stream::consumer_group(former.name()));
        blocking(move || log.forget_group(&group)).await??;
        sleep(GRACE).await;
        self.remove_table(former).await
    }

    /// Removes the version beside the one that answers, if there is one.
    pub(super) async fn give_up(&self, name: &str) {
        self.views.abandon(name).await;
        let table = self.waiting.lock().get_mut(name).and_then(|waiting| waiting.beside.take());
        if let Some(table) = table {
            table.shutdown().await;
            if let Err(error) = self.remove_table(&table).await {
                tracing::warn!(view = name, "a version that was given up is left: {error:#}");
            }
        }
        if let Err(error) = self.versions.abandon(name) {
            tracing::error!(view = name, "a restart will replay the view: {error:#}");
        }
    }
}
