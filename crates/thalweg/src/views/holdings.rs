//! What versions of views have on disk: topics in the log, tables in the lake, and states.

use std::{
    collections::BTreeSet,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use thalweg_log::{LogError, Topics};

/// Where versions of views have what they have; each is known by its topic.
#[derive(Clone)]
pub(crate) struct Holdings {
    pub(crate) log: Arc<dyn Topics>,
    pub(crate) lake: PathBuf,
    pub(crate) states: PathBuf,
}

/// All methods block, for a disk or for a broker.
impl Holdings {
    /// Directory of a version's table.
    pub(crate) fn table(&self, topic: &str) -> PathBuf {
        self.lake.join(topic)
    }

    /// The versions that have a topic or a table. Of the topics in Kafka, those that are not open are
    /// known by their tables only.
    fn versions(&self) -> BTreeSet<String> {
        let tables = fs::read_dir(&self.lake).into_iter().flatten().flatten();
        let tables = tables.filter_map(|table| table.file_name().into_string().ok());
        let all = self.log.topics().unwrap_or_default().into_iter().chain(tables);
        all.filter(|topic| parts(topic).is_some()).collect()
    }

    /// Removes all that the versions of a view have.
    pub(crate) fn remove_view(&self, view: &str) -> anyhow::Result<()> {
        for topic in self.versions().iter().filter(|topic| view_of(topic) == Some(view)) {
            self.remove(topic)?;
        }
        remove_directory(&self.states.join(view))
    }

    /// Removes all that a version has, which is not maintained any more.
    pub(crate) fn remove(&self, topic: &str) -> anyhow::Result<()> {
        // Such as of brokers that are away: that must not keep the view's name from being free.
        if let Err(error) = self.remove_topic(topic) {
            tracing::warn!(topic, %error, "the topic of a former view is left in the log");
        }
        self.remove_state(topic)?;
        remove_directory(&self.table(topic))
    }

    /// Lets the log forget about versions that are neither among `known` nor of the views `failed`,
    /// which would hold it back, and removes what they have. The tables of former views and of former
    /// queries are set aside.
    pub(crate) fn release_others(&self, known: &[String], failed: &[String]) {
        let is_needed = |topic: &String| {
            let of_failed = |view| failed.iter().any(|failed| failed == view);
            known.contains(topic) || view_of(topic).is_some_and(of_failed)
        };
        for group in self.log.groups() {
            let of_view = group.strip_prefix("stream/").map(str::to_owned);
            if of_view.is_some_and(|topic| !is_needed(&topic))
                && let Err(error) = self.log.forget_group(&group)
            {
                tracing::warn!(%group, %error, "the log keeps what a former view has not read");
            }
        }
        if self.log.ownership().is_shared() {
            return; // another process may be maintaining them still
        }
        for topic in self.versions().iter().filter(|topic| !is_needed(topic)) {
            let is_replaced = known.iter().any(|known| query_of(known) == query_of(topic));
            let released = match is_replaced {
                true => self.remove(topic),
                false => self.set_aside(topic),
            };
            if let Err(error) = released {
                tracing::warn!(topic, "what a former view has is left: {error:#}");
            }
        }
    }

    /// Removes the topic and the state of a version, and moves its table to where no version looks
    /// for it: its rows are of offsets that a topic of that name, made anew, gives to others.
    pub(crate) fn set_aside(&self, topic: &str) -> anyhow::Result<()> {
        self.remove_topic(topic)?;
        self.remove_state(topic)?;
        let table = self.table(topic);
        if !table.exists() {
            return Ok(());
        }
        let place = |number: u32| self.lake.join(format!("former.{topic}.{number}"));
        let aside = (1..).map(place).find(|place| !place.exists()).context("no name is free")?;
        fs::rename(&table, &aside).with_context(|| table.display().to_string())?;
        tracing::warn!(table = %aside.display(), "the table of a former view is set aside");
        Ok(())
    }

    fn remove_topic(&self, topic: &str) -> anyhow::Result<()> {
        self.log.forget_group(&thalweg_stream::consumer_group(topic))?;
        match self.log.remove_topic(topic) {
            Err(LogError::UnknownTopic(_)) => Ok(()),
            removed => Ok(removed?),
        }
    }

    fn remove_state(&self, topic: &str) -> anyhow::Result<()> {
        let Some((view, version)) = parts(topic) else { return Ok(()) };
        remove_directory(&self.states.join(view).join(version))
    }
}

/// The view that a topic's version is of.
fn view_of(topic: &str) -> Option<&str> {
    parts(topic).map(|(view, _)| view)
}

/// The view and its version that a topic is of.
fn parts(topic: &str) -> Option<(&str, &str)> {
    topic.strip_prefix("view.")?.split_once('.')
}

/// The part of a topic's name that all versions with the same query share.
fn query_of(topic: &str) -> &str {
    topic.split('-').next().unwrap_or(topic)
}

fn remove_directory(path: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.with_context(|| format!("removing {}", path.display())),
    }
}
