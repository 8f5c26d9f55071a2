//! Which version of a view answers, and which is to, across restarts.

use std::{collections::BTreeMap, path::Path};

use serde::{Deserialize, Serialize};
use thalweg_stream::Replay;

use super::kept::Kept;

/// The replays of views, by view.
pub(crate) struct Versions(Kept<BTreeMap<String, Version>>);

/// The replays of a view.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Version {
    /// Query of the view: what is said here is of no other.
    query: String,
    /// The one that answers.
    pub(crate) current: Option<Replay>,
    /// The one that has to catch up before it answers.
    pub(crate) pending: Option<Replay>,
    /// Number of the last one; none has the number of another.
    last: u32,
}

impl Versions {
    pub(crate) fn open(directory: &Path) -> anyhow::Result<Self> {
        Ok(Self(Kept::open(directory, "replays.json")?))
    }

    /// The replays of a view with this query.
    pub(crate) fn of(&self, view: &str, query: &str) -> Version {
        let version = self.0.get().remove(view).filter(|version| version.query == query);
        version.unwrap_or_default()
    }

    /// Notes that a replay begins; answers it.
    pub(crate) fn begin(
        &self,
        view: &str,
        query: &str,
        since_micros: i64,
    ) -> anyhow::Result<Replay> {
        let version = self.of(view, query);
        // Also of other queries: the view may have had this one before.
        let last = self.0.get().get(view).map_or(0, |version| version.last);
        let replay = Replay { number: last + 1, since_micros };
        let begun = Version {
            query: query.to_owned(),
            pending: Some(replay),
            last: replay.number,
            ..version
        };
        self.0.change(|versions| versions.insert(view.to_owned(), begun))?;
        Ok(replay)
    }

    /// Notes that the pending replay answers from now on.
    pub(crate) fn switch(&self, view: &str) -> anyhow::Result<()> {
        // A first attempt may have been noted, and failed all the same.
        self.of_view(view, |version| version.current = version.pending.take().or(version.current))
    }

    /// Notes that the pending replay is not to answer.
    pub(crate) fn abandon(&self, view: &str) -> anyhow::Result<()> {
        self.of_view(view, |version| version.pending = None)
    }

    /// Notes that the view is gone.
    pub(crate) fn forget(&self, view: &str) -> anyhow::Result<()> {
        match self.0.get().contains_key(view) {
            true => self.0.change(|versions| drop(versions.remove(view))),
            false => Ok(()),
        }
    }

    fn of_view(&self, view: &str, change: impl FnOnce(&mut Version)) -> anyhow::Result<()> {
        self.0.change(|versions| versions.get_mut(view).map_or((), change))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replays_outlive_restarts_and_are_of_one_query() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Versions::open(directory.path()).unwrap();
        let first = open().begin("v", "SELECT 1", 5).unwrap();
        assert_eq!(first, Replay { number: 1, since_micros: 5 });
        assert_eq!(open().of("v", "SELECT 1").pending, Some(first));
        assert_eq!(open().of("v", "SELECT 2"), Version::default());
        open().switch("v").unwrap();
        let second = open().begin("v", "SELECT 1", 7).unwrap();
        open().abandon("v").unwrap();
        let third = open().begin("v", "SELECT 1", 9).unwrap();
        assert_eq!((second.number, third.number), (2, 3));
        let found = open().of("v", "SELECT 1");
        assert_eq!((found.current, found.pending), (Some(first), Some(third)));
        let numbers =
            ["SELECT 2", "SELECT 1"].map(|query| open().begin("v", query, 9).unwrap().number);
        assert_eq!(numbers, [4, 5], "none has the number of another, of whatever query");
        open().forget("v").unwrap();
        assert_eq!(open().of("v", "SELECT 1"), Version::default());
    }
}
