//! What a view keeps on disk: checkpoints.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable as _, Snapshot};
use serde::{Deserialize, Serialize};
use thalweg_log::{Offset, TopicPartition, lock_file, pack, unpack};

use crate::bound::Side;
use crate::error::{Result, StreamError};
use crate::watermark::Reached;

const CHECKPOINT: &[u8] = b"checkpoint";
const PARTIAL: u8 = b'p';
const BUFFERED: u8 = b'j';
const OUTPUT: u8 = b'o';
const LATE: u8 = b'l';
/// Memory for blocks read from disk; what is read often is held decoded by the view.
const CACHE_BYTES: u64 = 1 << 20;
/// Memory for what was written and is not yet sorted on disk.
const MEMTABLE_BYTES: u64 = 8 << 20;
/// Disk space for the journal, the least that fjall allows.
const JOURNAL_BYTES: u64 = 64 << 20;
/// Files of `fjall`, in the order in which it makes a database: keyspaces are put into it afterwards.
const LOCK: &str = "lock";
const KEYSPACES: &str = "keyspaces";
const FIRST_JOURNAL: &str = "0.jnl";
const MADE: &str = "version";
/// Format of what is stored; another number is another program's.
const FORMAT: u32 = 1;

/// The state of one view on disk.
///
/// Each checkpoint is one atomic, synced write: partial states of open windows, rows that wait for
/// others to be joined with, how far the input has been read, and the rows that are to be delivered.
pub(crate) struct Store {
    view: String,
    database: Database,
    keyspace: Keyspace,
}

/// The partial states of one moment.
pub(crate) struct Pinned {
    view: String,
    snapshot: Snapshot,
    keyspace: Keyspace,
}

/// How far a view has come, beside its partial states.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    format: u32,
    /// Offsets after the last row that the state holds.
    cursors: Vec<(String, u32, Offset)>,
    pub(crate) reached: Reached,
    /// Number of the next partial state.
    pub(crate) next_sequence: u64,
    /// Rows that are to be delivered, if any are.
    pub(crate) outbox: Option<Outbox>,
}

/// Where the topics ended when a checkpoint with rows to deliver was made: what of them is behind
/// these offsets was delivered before a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outbox {
    pub(crate) output_end: Offset,
    pub(crate) late_end: Offset,
}

/// Name of a partial state: its window, and a number that is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PartialKey {
    pub(crate) window: i64,
    pub(crate) sequence: u64,
}

/// Name of rows that one checkpoint added to a side of a join: the bucket of time that they are in,
/// and a number that tells them from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BufferedKey {
    pub(crate) side: Side,
    pub(crate) bucket: i64,
    pub(crate) sequence: u64,
}

/// What a checkpoint changes.
#[derive(Default)]
pub(crate) struct Changes {
    put: BTreeMap<PartialKey, Vec<u8>>,
    removed: Vec<PartialKey>,
    buffered: BTreeMap<BufferedKey, Vec<u8>>,
    unbuffered: Vec<BufferedKey>,
}

impl Checkpoint {
    pub(crate) fn new(
        cursors: &BTreeMap<TopicPartition, Offset>,
        reached: Reached,
        next_sequence: u64,
        outbox: Option<Outbox>,
    ) -> Self {
        let cursors = cursors.iter().map(|(at, o)| (at.topic.to_string(), at.partition, *o));
        Self { format: FORMAT, cursors: cursors.collect(), reached, next_sequence, outbox }
    }

    pub(crate) fn cursors(&self) -> BTreeMap<TopicPartition, Offset> {
        let cursors = self.cursors.iter();
        cursors.map(|(topic, n, at)| (TopicPartition::new(topic.as_str(), *n), *at)).collect()
    }
}

impl Changes {
    /// Stores a partial state; answers its size in bytes.
    pub(crate) fn put(&mut self, key: PartialKey, partial: &RecordBatch) -> Result<usize> {
        let bytes = packed(partial)?;
        let size = bytes.len();
        self.put.insert(key, bytes);
        Ok(size)
    }

    /// Forgets a partial state; answers its bytes if it was not written yet.
    pub(crate) fn remove(&mut self, key: PartialKey) -> Option<Vec<u8>> {
        let unwritten = self.put.remove(&key);
        if unwritten.is_none() {
            self.removed.push(key);
        }
        unwritten
    }

    /// Stores rows of a join's side; answers their size in bytes.
    pub(crate) fn buffer(&mut self, key: BufferedKey, rows: &RecordBatch) -> Result<usize> {
        let bytes = packed(rows)?;
        let size = bytes.len();
        self.buffered.insert(key, bytes);
        Ok(size)
    }

    /// Rows of a join's side, if they were not written yet.
    pub(crate) fn buffered(&self, key: BufferedKey) -> Option<&[u8]> {
        self.buffered.get(&key).map(Vec::as_slice)
    }

    /// Forgets rows of a join's side.
    pub(crate) fn unbuffer(&mut self, key: BufferedKey) {
        if self.buffered.remove(&key).is_none() {
            self.unbuffered.push(key);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.put.is_empty()
            && self.removed.is_empty()
            && self.buffered.is_empty()
            && self.unbuffered.is_empty()
    }
}

impl PartialKey {
    fn bytes(self) -> [u8; 17] {
        let mut bytes = [PARTIAL; 17];
        bytes[1..9].copy_from_slice(&((self.window as u64) ^ (1 << 63)).to_be_bytes());
        bytes[9..].copy_from_slice(&self.sequence.to_be_bytes());
        bytes
    }

    fn of(bytes: &[u8]) -> Option<Self> {
        let (window, sequence) = bytes.strip_prefix(&[PARTIAL])?.split_first_chunk::<8>()?;
        let window = (u64::from_be_bytes(*window) ^ (1 << 63)) as i64;
        Some(Self { window, sequence: u64::from_be_bytes(sequence.try_into().ok()?) })
    }
}

impl BufferedKey {
    fn bytes(self) -> [u8; 18] {
        let mut bytes = [BUFFERED; 18];
        bytes[1] = self.side as u8;
        bytes[2..10].copy_from_slice(&((self.bucket as u64) ^ (1 << 63)).to_be_bytes());
        bytes[10..].copy_from_slice(&self.sequence.to_be_bytes());
        bytes
    }

    fn of(bytes: &[u8]) -> Option<Self> {
        let (side, bytes) = bytes.strip_prefix(&[BUFFERED])?.split_first()?;
        let side = Side::BOTH.into_iter().find(|known| *known as u8 == *side)?;
        let (bucket, sequence) = bytes.split_first_chunk::<8>()?;
        let bucket = (u64::from_be_bytes(*bucket) ^ (1 << 63)) as i64;
        Some(Self { side, bucket, sequence: u64::from_be_bytes(sequence.try_into().ok()?) })
    }
}

/// Removes what a crash has left of a database that was being made, which `fjall` neither opens nor
/// makes anew.
fn remove_unfinished(directory: &Path) -> io::Result<()> {
    let is_made = || {
        let keyspaces = fs::read_dir(directory.join(KEYSPACES));
        keyspaces.is_ok_and(|mut all| all.next().is_some())
            || fs::metadata(directory.join(MADE)).is_ok_and(|made| made.len() > 0)
    };
    if is_made() {
        return Ok(());
    }
    // Another process may be making it.
    let Some(_lock) = lock_file(&directory.join(LOCK))? else { return Ok(()) };
    if is_made() {
        return Ok(());
    }
    for file in [FIRST_JOURNAL, MADE] {
        match fs::remove_file(directory.join(file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

impl Store {
    /// Opens the state in `directory`, and makes it if there is none.
    pub(crate) fn open(directory: &Path, view: &str) -> Result<Self> {
        fs::create_dir_all(directory).map_err(fjall::Error::Io)?;
        remove_unfinished(directory).map_err(fjall::Error::Io)?;
        let database = Database::builder(directory)
            .worker_threads(1)
            .cache_size(CACHE_BYTES)
            .max_journaling_size(JOURNAL_BYTES)
            .open()?;
        let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
        let keyspace = database.keyspace("state", options)?;
        Ok(Self { view: view.to_owned(), database, keyspace })
    }

    /// The last checkpoint, if there is one.
    pub(crate) fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        let Some(bytes) = self.keyspace.get(CHECKPOINT)? else {
            return Ok(None);
        };
        let checkpoint: Checkpoint =
            serde_json::from_slice(&bytes).map_err(|error| self.corrupt(error.to_string()))?;
        if checkpoint.format != FORMAT {
            let found = checkpoint.format;
            return Err(self.corrupt(format!("expected format {FORMAT}, found {found}")));
        }
        Ok(Some(checkpoint))
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) -> Result<()> {
        self.keyspace.clear()?;
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }

    /// Names of all partial states, and their sizes in bytes, by window.
    pub(crate) fn partials(&self) -> Result<Vec<(PartialKey, usize)>> {
        let mut keys = vec![];
        for item in self.keyspace.prefix([PARTIAL]) {
            let (key, value) = item.into_inner()?;
            let key = PartialKey::of(&key).ok_or_else(|| {
                self.corrupt(format!("expected a partial state's key, found {key:?}"))
            })?;
            keys.push((key, value.len()));
        }
        Ok(keys)
    }

    /// A partial state.
    pub(crate) fn partial(&self, key: PartialKey) -> Result<RecordBatch> {
        let bytes = self.keyspace.get(key.bytes())?;
        let bytes = bytes.ok_or_else(|| self.corrupt(format!("{key:?} is missing")))?;
        self.decode(&bytes)
    }

    /// Names of all rows that wait to be joined, and their sizes in bytes, by bucket.
    pub(crate) fn all_buffered(&self) -> Result<Vec<(BufferedKey, usize)>> {
        let mut keys = vec![];
        for item in self.keyspace.prefix([BUFFERED]) {
            let (key, value) = item.into_inner()?;
            let key = BufferedKey::of(&key).ok_or_else(|| {
                self.corrupt(format!("expected a key of rows to be joined, found {key:?}"))
            })?;
            keys.push((key, value.len()));
        }
        Ok(keys)
    }

    /// Rows of a join's side.
    pub(crate) fn buffered(&self, key: BufferedKey) -> Result<RecordBatch> {
        let bytes = self.keyspace.get(key.bytes())?;
        let bytes = bytes.ok_or_else(|| self.corrupt(format!("{key:?} is missing")))?;
        self.decode(&bytes)
    }

    /// The partial states as they are now, whatever later checkpoints remove.
    pub(crate) fn pin(&self) -> Pinned {
        let snapshot = self.database.snapshot();
        Pinned { view: self.view.clone(), snapshot, keyspace: self.keyspace.clone() }
    }

    /// Makes a checkpoint durable, and with it the rows that are to be delivered.
    pub(crate) fn write(
        &self,
        checkpoint: Option<&Checkpoint>,
        changes: Changes,
        output: &[RecordBatch],
        late: &[RecordBatch],
    ) -> Result<()> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncAll));
        if let Some(checkpoint) = checkpoint {
            let json = serde_json::to_vec(checkpoint).expect("a checkpoint is plain data");
            batch.insert(&self.keyspace, CHECKPOINT, json);
        }
        for (key, bytes) in changes.put {
            batch.insert(&self.keyspace, key.bytes().to_vec(), bytes);
        }
        for key in changes.removed {
            batch.remove(&self.keyspace, key.bytes().to_vec());
        }
        for (key, bytes) in changes.buffered {
            batch.insert(&self.keyspace, key.bytes().to_vec(), bytes);
        }
        for key in changes.unbuffered {
            batch.remove(&self.keyspace, key.bytes().to_vec());
        }
        for (kind, rows) in [(OUTPUT, output), (LATE, late)] {
            for (n, rows) in rows.iter().enumerate() {
                batch.insert(&self.keyspace, outbox_key(kind, n).to_vec(), packed(rows)?);
            }
        }
        Ok(batch.commit()?)
    }

    /// Rows for the view's topic that are to be delivered.
    pub(crate) fn output(&self) -> Result<Vec<RecordBatch>> {
        self.outbox(OUTPUT)
    }

    /// Late events that are to be delivered.
    pub(crate) fn late(&self) -> Result<Vec<RecordBatch>> {
        self.outbox(LATE)
    }

    fn outbox(&self, kind: u8) -> Result<Vec<RecordBatch>> {
        let values = self.keyspace.prefix([kind]).map(|item| item.value());
        values.map(|bytes| self.decode(&bytes?)).collect()
    }

    /// Notes that everything was delivered. Need not be durable: what was delivered is found in
    /// the topics.
    pub(crate) fn set_delivered(&self, checkpoint: &Checkpoint) -> Result<()> {
        let mut batch = self.database.batch();
        let delivered = Checkpoint { outbox: None, ..checkpoint.clone() };
        let json = serde_json::to_vec(&delivered).expect("a checkpoint is plain data");
        batch.insert(&self.keyspace, CHECKPOINT, json);
        for kind in [OUTPUT, LATE] {
            for item in self.keyspace.prefix([kind]) {
                batch.remove(&self.keyspace, item.key()?);
            }
        }
        Ok(batch.commit()?)
    }

    /// A partial state of these bytes.
    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<RecordBatch> {
        unpack(bytes).map_err(|error| self.corrupt(error))
    }

    fn corrupt(&self, reason: impl Into<String>) -> StreamError {
        corrupt(&self.view, reason)
    }
}

fn packed(rows: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    pack(rows).map_err(ArrowError::IpcError)
}

impl Pinned {
    /// A partial state.
    pub(crate) fn partial(&self, key: PartialKey) -> Result<RecordBatch> {
        let bytes = self.snapshot.get(&self.keyspace, key.bytes())?;
        let bytes = bytes.ok_or_else(|| corrupt(&self.view, format!("{key:?} is missing")))?;
        unpack(&bytes).map_err(|error| corrupt(&self.view, error))
    }
}

fn corrupt(view: &str, reason: impl Into<String>) -> StreamError {
    StreamError::Corrupt { view: view.to_owned(), reason: reason.into() }
}

fn outbox_key(kind: u8, n: usize) -> [u8; 9] {
    let mut key = [kind; 9];
    key[1..].copy_from_slice(&(n as u64).to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_that_a_crash_left_half_made_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Store::open(directory.path(), "v").unwrap();
        for half_made in [vec![FIRST_JOURNAL], vec![FIRST_JOURNAL, MADE]] {
            fs::create_dir(directory.path().join(KEYSPACES)).unwrap();
            for file in half_made {
                fs::write(directory.path().join(file), "").unwrap();
            }
            let reached = Reached { watermark: 5, newest: vec![], history: 0 };
            let checkpoint = Checkpoint::new(&BTreeMap::new(), reached, 0, None);
            open().write(Some(&checkpoint), Changes::default(), &[], &[]).unwrap();
            assert_eq!(open().checkpoint().unwrap(), Some(checkpoint));
            fs::remove_dir_all(directory.path()).unwrap();
            fs::create_dir(directory.path()).unwrap();
        }
    }

    #[test]
    fn keys_sort_as_windows_do() {
        let keys = [(i64::MIN, 5), (-1, 2), (0, 1), (0, 7), (i64::MAX, 0)]
            .map(|(window, sequence)| PartialKey { window, sequence });
        assert!(keys.windows(2).all(|pair| pair[0].bytes() < pair[1].bytes()));
        assert!(keys.iter().all(|key| PartialKey::of(&key.bytes()) == Some(*key)));
    }

    #[test]
    fn keys_of_rows_to_be_joined_sort_by_side_and_bucket() {
        let (left, right) = (Side::Left, Side::Right);
        let keys = [(left, -1, 9), (left, 0, 0), (left, 0, 1), (right, i64::MIN, 0), (right, 3, 0)]
            .map(|(side, bucket, sequence)| BufferedKey { side, bucket, sequence });
        assert!(keys.windows(2).all(|pair| pair[0].bytes() < pair[1].bytes()));
        assert!(keys.iter().all(|key| BufferedKey::of(&key.bytes()) == Some(*key)));
    }
}
