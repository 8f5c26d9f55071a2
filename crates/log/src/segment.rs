//! A segment: one file of entries with ascending offsets.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    hash::{BuildHasher, RandomState},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use parking_lot::{Mutex, RwLock};

use crate::{
    bytes_at::BytesAt,
    entry::{EntryHeader, HEADER_BYTES},
    index::Extent,
    scan::{Damage, Scanner},
    types::{Offset, TopicPartition},
};

/// Bytes before the first entry.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 64;
const MAGIC: [u8; 8] = *b"TWSEGM01";
const EXTENSION: &str = "segment";

/// A segment and how much of it is durable.
pub(crate) struct Segment {
    pub(crate) base: Offset,
    pub(crate) path: PathBuf,
    pub(crate) salt: u64,
    /// Written by the partition's writer alone, after its `fdatasync`.
    pub(crate) extent: RwLock<Extent>,
    /// When retention first saw that every group had read all of it.
    pub(crate) consumed_unix_millis: Mutex<Option<i64>>,
    /// Positions of damage already reported, so that a reader that comes back does not repeat it.
    reported: Mutex<BTreeSet<u64>>,
}

impl Segment {
    pub(crate) fn new(base: Offset, path: PathBuf, salt: u64, extent: Extent) -> Self {
        Self {
            base,
            path,
            salt,
            extent: RwLock::new(extent),
            consumed_unix_millis: Mutex::new(None),
            reported: Mutex::new(BTreeSet::new()),
        }
    }

    /// Creates the file durably, and opens it for appending.
    pub(crate) fn create(directory: &Path, base: Offset) -> io::Result<(Self, File)> {
        let path = segment_path(directory, base);
        let mut file = OpenOptions::new().append(true).create_new(true).open(&path)?;
        // Unpredictable because the keys of a `RandomState` come from the system's entropy.
        let salt = RandomState::new().hash_one((base, std::process::id()));
        let written = file
            .write_all(&header_bytes(salt, base))
            .and_then(|()| file.sync_all())
            .and_then(|()| sync_directory(directory));
        if let Err(error) = written {
            // Nothing refers to it yet; if it stays, recovery removes it.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        let extent = Extent::empty(base, SEGMENT_HEADER_BYTES as u64);
        Ok((Self::new(base, path, salt, extent), file))
    }

    /// A scanner over the durable entries from the last indexed one at or before `offset`.
    pub(crate) fn scan_from_offset(&self, offset: Offset) -> io::Result<Scanner> {
        self.scan(|extent| extent.before_offset(offset))
    }

    /// A scanner that will meet the first entry appended at or after `unix_millis`.
    pub(crate) fn scan_from_time(&self, unix_millis: i64) -> io::Result<Scanner> {
        self.scan(|extent| extent.before_time(unix_millis))
    }

    fn scan(
        &self,
        start: impl Fn(&Extent) -> Option<crate::index::IndexPoint>,
    ) -> io::Result<Scanner> {
        let file = File::open(&self.path)?;
        let extent = self.extent.read();
        let (position, expected) = start(&extent)
            .map_or((SEGMENT_HEADER_BYTES as u64, self.base), |point| {
                (point.position, point.offset)
            });
        Ok(Scanner::new(file, self.salt, position..extent.bytes, expected))
    }

    /// Says loudly, once, that some bytes cannot be read.
    pub(crate) fn report(&self, at: &TopicPartition, damage: &Damage, reason: &str) {
        if self.reported.lock().insert(damage.position) {
            metrics::counter!("thalweg_log_damaged_bytes_total", "topic" => at.topic.to_string())
                .increment(damage.bytes);
            tracing::error!(
                %at,
                file = %self.path.display(),
                position = damage.position,
                bytes = damage.bytes,
                from_offset = damage.expected,
                reason,
                "entry on disk is damaged and was skipped; its rows are lost"
            );
        }
    }

    /// Where its index is kept.
    pub(crate) fn index_path(&self) -> PathBuf {
        self.path.with_extension("index")
    }

    /// Writes the index of the durable entries; a failure only costs a scan at the next start.
    pub(crate) fn write_index(&self) {
        if let Err(error) = self.extent.read().write(&self.index_path(), self.salt, self.base) {
            tracing::warn!(file = %self.index_path().display(), %error, "index not written");
        }
    }

    /// Deletes the files.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let _ = fs::remove_file(self.index_path());
        fs::remove_file(&self.path)
    }
}

/// The segment file of `directory` that begins at `base`.
pub(crate) fn segment_path(directory: &Path, base: Offset) -> PathBuf {
    directory.join(format!("{base:020}.{EXTENSION}"))
}

/// The first offset of the segment at `path`, if it is named like one.
pub(crate) fn base_of(path: &Path) -> Option<Offset> {
    let stem = path.file_stem()?.to_str()?;
    (path.extension()? == EXTENSION && stem.len() == 20).then(|| stem.parse().ok())?
}

/// The salt of a segment file, from its header or, if that is damaged, from its first entry.
pub(crate) fn read_salt(file: &File, base: Offset) -> Option<u64> {
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    file.read_exact_at(&mut bytes, 0).ok()?;
    let salt = bytes.u64_at(16);
    if bytes == header_bytes(salt, base) {
        return Some(salt);
    }
    let mut first = [0; HEADER_BYTES];
    file.read_exact_at(&mut first, SEGMENT_HEADER_BYTES as u64).ok()?;
    EntryHeader::parse(&first).filter(|header| header.offset == base).map(|header| header.salt)
}

/// Makes the names in `directory` durable.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn header_bytes(salt: u64, base: Offset) -> [u8; SEGMENT_HEADER_BYTES] {
    let mut bytes = [0; SEGMENT_HEADER_BYTES];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[16..24].copy_from_slice(&salt.to_le_bytes());
    bytes[24..32].copy_from_slice(&base.to_le_bytes());
    let crc = crc32fast::hash(&bytes[16..]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    bytes
}
