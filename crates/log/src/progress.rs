//! How far somebody has come who reads anew, for those who wait for it.

/// How far a new version of a view or of a table has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Rows read so far; of a view, those of history only.
    pub rows: u64,
    /// Offsets of the log that are still to be read; `None` while something else is read before them.
    pub lag: Option<u64>,
    /// What keeps it from going on, if something does; it tries again.
    pub fault: Option<String>,
}
