//! Versions of a table, held in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use datafusion::catalog::TableProvider;
use datafusion::common::Statistics;
use parking_lot::Mutex;
use thalweg_log::{Offset, TopicPartition};
use tokio::sync::watch;

/// First offset that is not in the table, for each partition it is fed by.
pub(crate) type Offsets = BTreeMap<TopicPartition, Offset>;

/// A Parquet file of the table.
#[derive(Clone, Debug)]
pub(crate) struct DataFile {
    /// Path below the table's directory.
    pub path: String,
    /// Partition: days since the Unix epoch.
    pub date: i32,
    pub size_bytes: u64,
    /// When the file was written, milliseconds since the Unix epoch.
    pub written_unix_millis: i64,
    /// Of the columns in the file.
    pub statistics: Arc<Statistics>,
}

/// One version of the table: what is in its files, and where in the log the rest begins.
pub(crate) struct Snapshot {
    pub version: u64,
    pub files: Vec<Arc<DataFile>>,
    pub offsets: Offsets,
    /// How to read a table that another program has given features that `files` does not express.
    pub foreign: Option<Arc<dyn TableProvider>>,
}

/// The current version, and those that queries still read.
pub(crate) struct Snapshots {
    current: watch::Sender<Arc<Snapshot>>,
    live: Mutex<Vec<Weak<Snapshot>>>,
}

impl DataFile {
    pub(crate) fn rows(&self) -> usize {
        self.statistics.num_rows.get_value().copied().unwrap_or(0)
    }
}

impl Snapshots {
    pub(crate) fn new(first: Snapshot) -> Self {
        let first = Arc::new(first);
        let live = Mutex::new(vec![Arc::downgrade(&first)]);
        Self { current: watch::Sender::new(first), live }
    }

    pub(crate) fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.borrow())
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.current.subscribe()
    }

    pub(crate) fn publish(&self, next: Snapshot) {
        let next = Arc::new(next);
        self.live.lock().push(Arc::downgrade(&next));
        self.current.send_replace(next);
    }

    /// The current version and all older ones that queries still read.
    pub(crate) fn in_use(&self) -> Vec<Arc<Snapshot>> {
        let mut live = self.live.lock();
        live.retain(|snapshot| snapshot.strong_count() > 0);
        live.iter().filter_map(Weak::upgrade).collect()
    }

    /// Offsets before which no query needs the log any more.
    pub(crate) fn released(&self) -> Offsets {
        let mut released = self.current().offsets.clone();
        for snapshot in self.in_use() {
            for (at, offset) in &mut released {
                *offset = snapshot.offsets.get(at).map_or(*offset, |&older| older.min(*offset));
            }
        }
        released
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(version: u64, offset: Offset) -> Snapshot {
        let offsets = Offsets::from([(TopicPartition::new("t", 0), offset)]);
        Snapshot { version, files: vec![], offsets, foreign: None }
    }

    #[test]
    fn the_log_is_released_up_to_the_oldest_version_in_use() {
        let snapshots = Snapshots::new(snapshot(0, 10));
        let query = snapshots.current();
        snapshots.publish(snapshot(1, 20));
        snapshots.publish(snapshot(2, 30));
        assert_eq!(snapshots.released().values().copied().collect::<Vec<_>>(), [10]);
        drop(query);
        assert_eq!(snapshots.released().values().copied().collect::<Vec<_>>(), [30]);
        assert_eq!(snapshots.in_use().len(), 1);
    }
}
