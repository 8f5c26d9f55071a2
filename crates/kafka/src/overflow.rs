//! Rows that memory has no room for, on disk until those who are behind have read them.
//!
//! What Kafka sends is decoded once; a table or view that is behind reads it here as it would read
//! the embedded log. The files have no names: whatever becomes of this process, they are gone with it.

use std::{
    collections::VecDeque,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use thalweg_log::{Entry, Offset, pack, unpack};

/// A file that has reached this gets no more rows. Disk is given back file by file.
const FILE_BYTES: u64 = 32 << 20;
/// How long the disk is left alone after it has failed.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Disk that the overflows of all partitions share.
pub(crate) struct OverflowBudget {
    directory: PathBuf,
    limit_bytes: u64,
    used_bytes: AtomicU64,
    failed: Mutex<Option<Instant>>,
}

/// That of one partition: entries without a gap, up to where those in memory begin.
pub(crate) struct Overflow {
    budget: Arc<OverflowBudget>,
    files: Mutex<VecDeque<Filled>>,
}

/// A file, and what it holds.
struct Filled {
    file: Arc<File>,
    bytes: u64,
    entries: Vec<Packed>,
}

/// Where an entry is, without its rows.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    file: Arc<File>,
    at: u64,
    bytes: usize,
    unpacked_bytes: usize,
    offset: Offset,
    next_offset: Offset,
    append_unix_millis: i64,
}

impl OverflowBudget {
    /// Up to `limit_bytes` on the file system of `directory`.
    pub(crate) fn new(directory: PathBuf, limit_bytes: u64) -> Arc<Self> {
        Arc::new(Self {
            directory,
            limit_bytes,
            used_bytes: AtomicU64::new(0),
            failed: Mutex::default(),
        })
    }

    /// No disk at all.
    pub(crate) fn none() -> Arc<Self> {
        Self::new(PathBuf::new(), 0)
    }

    /// Whether there is disk to be used, now.
    fn is_usable(&self) -> bool {
        let rests = |failed: Instant| failed.elapsed() < RETRY_AFTER;
        self.limit_bytes > 0 && !self.failed.lock().is_some_and(rests)
    }

    fn is_full(&self) -> bool {
        self.used_bytes.load(Ordering::Relaxed) >= self.limit_bytes
    }

    fn change(&self, more: u64, less: u64) -> u64 {
        self.used_bytes.fetch_add(more, Ordering::Relaxed);
        let used = self.used_bytes.fetch_sub(less, Ordering::Relaxed) - less;
        metrics::gauge!("thalweg_log_overflow_bytes").set(used as f64);
        used
    }
}

impl Overflow {
    pub(crate) fn new(budget: Arc<OverflowBudget>) -> Self {
        Self { budget, files: Mutex::default() }
    }

    /// Offset from which on it has everything; `None` while it is empty.
    #[cfg(test)]
    pub(crate) fn from(&self) -> Option<Offset> {
        Some(self.files.lock().front()?.entries.first()?.offset)
    }

    /// Takes the next entry, whose rows take `unpacked_bytes`. What there is no room for, and all before
    /// it, has to be read from Kafka.
    pub(crate) fn push(&self, entry: &Entry, unpacked_bytes: usize) {
        // Where others have all of it, what was written would have to go at once.
        let has_no_room = || self.budget.is_full() && self.files.lock().is_empty();
        if !self.budget.is_usable() || has_no_room() {
            return self.clear();
        }
        if let Err(error) = self.write(entry, unpacked_bytes) {
            tracing::warn!(%error, "rows that memory has no room for are read from Kafka again");
            *self.budget.failed.lock() = Some(Instant::now());
            self.clear();
        }
    }

    fn write(&self, entry: &Entry, unpacked_bytes: usize) -> io::Result<()> {
        let packed = pack(&entry.batch).map_err(io::Error::other)?;
        let (file, at) = match self.files.lock().back() {
            Some(last) if last.bytes < FILE_BYTES => (Arc::clone(&last.file), last.bytes),
            _ => (Arc::new(tempfile::tempfile_in(&self.budget.directory)?), 0),
        };
        // Only whoever follows the partition writes; nobody reads there yet.
        file.write_all_at(&packed, at)?;
        let mut files = self.files.lock();
        if at == 0 {
            files.push_back(Filled { file: Arc::clone(&file), bytes: 0, entries: vec![] });
        }
        let last = files.back_mut().ok_or_else(|| io::Error::other("its file is gone"))?;
        last.bytes += packed.len() as u64;
        last.entries.push(Packed {
            file,
            at,
            bytes: packed.len(),
            unpacked_bytes,
            offset: entry.offset,
            next_offset: entry.next_offset,
            append_unix_millis: entry.append_unix_millis,
        });
        let mut used = self.budget.change(packed.len() as u64, 0);
        while used > self.budget.limit_bytes
            && let Some(oldest) = files.pop_front()
        {
            used = self.budget.change(0, oldest.bytes);
        }
        Ok(())
    }

    /// Gives back what nobody needs who reads on from `offset` or behind.
    pub(crate) fn release(&self, offset: Offset) {
        let mut files = self.files.lock();
        let is_read = |file: &Filled| file.entries.last().is_none_or(|e| e.next_offset <= offset);
        while let Some(oldest) = files.pop_front_if(|file| is_read(file)) {
            self.budget.change(0, oldest.bytes);
        }
    }

    pub(crate) fn clear(&self) {
        self.release(Offset::MAX);
    }

    /// Entries from `from` on, at least one and up to about `max_bytes`; none if it has no such.
    pub(crate) fn find(&self, from: Offset, max_bytes: usize) -> Vec<Packed> {
        let files = self.files.lock();
        let (mut room, mut found) = (max_bytes, vec![]);
        let first = files.partition_point(|file| {
            file.entries.last().is_none_or(|last| last.next_offset <= from)
        });
        let entries = files.range(first..).flat_map(|file| &file.entries);
        for packed in entries.skip_while(|packed| packed.next_offset <= from) {
            let begins_behind = found.is_empty() && packed.offset > from;
            if begins_behind || (packed.unpacked_bytes > room && !found.is_empty()) {
                break;
            }
            room = room.saturating_sub(packed.unpacked_bytes);
            found.push(packed.clone());
        }
        found
    }
}

impl Drop for Overflow {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Packed {
    pub(crate) fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// The entry. Blocks.
    ///
    /// # Errors
    /// The disk's, and that of bytes that are not what was written.
    pub(crate) fn read(&self) -> io::Result<Entry> {
        let mut bytes = vec![0; self.bytes];
        self.file.read_exact_at(&mut bytes, self.at)?;
        Ok(Entry {
            offset: self.offset,
            next_offset: self.next_offset,
            append_unix_millis: self.append_unix_millis,
            batch: unpack(&bytes).map_err(io::Error::other)?,
        })
    }
}
