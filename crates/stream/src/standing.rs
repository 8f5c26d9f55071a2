//! How far a version of a view has come, for those who wait for it.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use thalweg_log::{Offset, TopicPartition};

/// How far a version of a view has come; shared by its task and by who replaces it.
#[derive(Debug, Default)]
pub(crate) struct Standing(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    history_rows: u64,
    reached: Option<Position>,
    fault: Option<String>,
    predecessor: Option<Position>,
}

/// What the last checkpoint of a version of a view covers.
#[derive(Debug, Clone)]
pub(crate) struct Position {
    pub(crate) cursors: BTreeMap<TopicPartition, Offset>,
    pub(crate) watermark: i64,
    /// Windows that end at or before this are closed.
    pub(crate) closed_until: i64,
}

impl Standing {
    /// Notes how many rows of history have been read.
    pub(crate) fn note_history(&self, rows: u64) {
        self.0.lock().history_rows = rows;
    }

    pub(crate) fn history_rows(&self) -> u64 {
        self.0.lock().history_rows
    }

    /// Notes what a checkpoint covers.
    pub(crate) fn note_reached(&self, position: Position) {
        let mut state = self.0.lock();
        state.reached = Some(position);
        state.fault = None;
    }

    /// What the last checkpoint covers, once there is one.
    pub(crate) fn reached(&self) -> Option<Position> {
        self.0.lock().reached.clone()
    }

    pub(crate) fn note_fault(&self, fault: String) {
        self.0.lock().fault = Some(fault);
    }

    /// What keeps the version from going on, if something does.
    pub(crate) fn fault(&self) -> Option<String> {
        self.0.lock().fault.clone()
    }

    /// Says where the version that this one replaces has stopped.
    pub(crate) fn set_predecessor(&self, position: Position) {
        self.0.lock().predecessor = Some(position);
    }

    /// Notes that this version has come as far as the one that it replaces.
    pub(crate) fn note_succeeded(&self) {
        self.0.lock().predecessor = None;
    }

    /// Where the version that this one replaces has stopped, until this one has come as far.
    pub(crate) fn predecessor(&self) -> Option<Position> {
        self.0.lock().predecessor.clone()
    }
}
