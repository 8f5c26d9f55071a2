//! `thalweg replay`: a view begun anew from a time on, beside the one that answers.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use thalweg_lake::LakeTable;
use thalweg_query::NamedTable;
use thalweg_stream::{Replay, StreamError};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::NodeViews;
use crate::replays::{Refused, Stage};

/// Longest that a new version may take to come as far as the one that was stopped for it: for so long,
/// no other view can be created or dropped.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(20);
/// Pause before a hand-over that came to nothing is tried again.
const HAND_OVER_RETRY: Duration = Duration::from_secs(5);

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
        loop {
            self.views.caught_up(name).await?;
            let mut tables = self.tables.lock().await;
            if let Err(error) = self.hand_over(name).await? {
                tracing::error!(view = name, "the replayed view waits to answer: {error:#}");
                drop(tables);
                sleep(HAND_OVER_RETRY).await;
                continue;
            }
            self.query.replace_table(shown);
            self.views.switch(name).await?;
            let table = self.waiting.lock().get_mut(name).and_then(|w| w.beside.take());
            let table = table.context("the new version has a table")?;
            self.histories.add(name, table.clone());
            if let Some(former) = tables.insert(name.to_owned(), table) {
                self.retired.add(name, former, self.holdings.clone());
            }
            tracing::info!(view = name, "the replayed version answers");
            return Ok(());
        }
    }

    /// Stops the version that answers for the new one, and notes that; answers why that was in vain, if
    /// it was and is to be tried again.
    async fn hand_over(&self, name: &str) -> anyhow::Result<anyhow::Result<()>> {
        match self.views.hand_over(name, HAND_OVER_PATIENCE).await {
            Ok(()) => {}
            Err(error @ StreamError::Behind(_)) => return Ok(Err(error.into())),
            Err(error) => return Err(error.into()),
        }
        let noted = self.versions.switch(name);
        if noted.is_err() {
            self.views.take_back(name);
        }
        Ok(noted)
    }

    /// Removes the version beside the one that answers, if there is one.
    pub(super) async fn give_up(&self, name: &str) {
        self.views.abandon(name).await;
        let table = self.waiting.lock().get_mut(name).and_then(|waiting| waiting.beside.take());
        if let Some(table) = table {
            table.shutdown().await;
            if let Err(error) = self.remove_version(&table).await {
                tracing::warn!(view = name, "a version that was given up is left: {error:#}");
            }
        }
        if let Err(error) = self.versions.abandon(name) {
            tracing::error!(view = name, "a restart will replay the view: {error:#}");
        }
    }
}
