//! Opening a partition: finding out what of it is whole.
//!
//! Segments whose index covers them are taken as they are: their bytes were durable before the
//! index was written, and every read checks its entry again. What no index covers (all of the
//! last segment after a crash) is read entry by entry.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    error::{Result, io_error},
    index::Extent,
    scan::{Damage, Found, Scanner},
    segment::{SEGMENT_HEADER_BYTES, Segment, base_of, read_salt, segment_path, sync_directory},
    types::{Offset, OffsetRange, TopicPartition},
};

/// What opening a log found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Torn tails that were cut off. They held nothing that had been acknowledged.
    pub cuts: Vec<Cut>,
    /// Acknowledged rows that cannot be read any more. What follows them is still readable.
    pub losses: Vec<Loss>,
    /// Bytes that were read entry by entry because no index covered them.
    pub scanned_bytes: u64,
    /// How long it took.
    pub elapsed: Duration,
}

/// The unfinished end of a partition, removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Where.
    pub at: TopicPartition,
    /// The file.
    pub file: PathBuf,
    /// Its new length.
    pub position: u64,
    /// How many bytes were removed.
    pub bytes: u64,
    /// The partition goes on at this offset.
    pub offset: Offset,
}

/// Rows that were durable once and cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Where.
    pub at: TopicPartition,
    /// The file.
    pub file: PathBuf,
    /// Position of the unreadable bytes.
    pub position: u64,
    /// Offsets of the rows.
    pub offsets: OffsetRange,
    /// What is wrong.
    pub reason: String,
}

/// A partition ready for use: its segments, of which the last is open for appending.
pub(crate) struct Recovered {
    pub(crate) segments: VecDeque<Arc<Segment>>,
    pub(crate) active: File,
}

/// Opens the partition in `directory`, creating it if need be. No offset below `committed` is
/// given out again, because a consumer group would take the new rows for read.
pub(crate) fn recover(
    directory: &Path,
    at: &TopicPartition,
    committed: Offset,
    report: &mut RecoveryReport,
) -> Result<Recovered> {
    let started = Instant::now();
    fs::create_dir_all(directory).map_err(io_error(directory.display()))?;
    let mut recovery = Recovery { directory, at, report, floor: committed };
    let bases = recovery.bases()?;
    let mut segments = VecDeque::with_capacity(bases.len() + 1);
    for (i, &base) in bases.iter().enumerate() {
        segments.extend(recovery.segment(base, bases.get(i + 1).copied())?);
    }
    let active = recovery.active(&mut segments)?;
    report.elapsed += started.elapsed();
    Ok(Recovered { segments, active })
}

struct Recovery<'a> {
    directory: &'a Path,
    at: &'a TopicPartition,
    report: &'a mut RecoveryReport,
    /// Lowest offset for new rows.
    floor: Offset,
}

impl Recovery<'_> {
    fn bases(&self) -> Result<Vec<Offset>> {
        let failed = || self.directory.display();
        let mut bases = vec![];
        for entry in fs::read_dir(self.directory).map_err(io_error(failed()))? {
            bases.extend(base_of(&entry.map_err(io_error(failed()))?.path()));
        }
        bases.sort_unstable();
        Ok(bases)
    }

    /// Opens the segment at `base`, which `next` follows; none when nothing of it is usable.
    fn segment(&mut self, base: Offset, next: Option<Offset>) -> Result<Option<Arc<Segment>>> {
        let path = segment_path(self.directory, base);
        let file = File::open(&path).map_err(io_error(path.display()))?;
        let length = file.metadata().map_err(io_error(path.display()))?.len();
        let index_path = path.with_extension("index");
        let index = Extent::read(&index_path, base);
        let indexed_end = index.as_ref().map(|(_, extent)| extent.end);
        self.floor = self.floor.max(indexed_end.unwrap_or(base));
        let salt = read_salt(&file, base).or(index.as_ref().map(|(salt, _)| *salt));
        let Some(salt) = salt.filter(|_| length >= SEGMENT_HEADER_BYTES as u64) else {
            return self.unreadable(path, length, base, next.or(indexed_end)).map(|()| None);
        };
        let covered = index
            .filter(|(of, extent)| *of == salt && extent.bytes <= length)
            .map(|(_, extent)| extent);
        if covered.is_none() && index_path.exists() {
            // It speaks of bytes that are gone; it must not be believed when new ones are there.
            fs::remove_file(&index_path).map_err(io_error(index_path.display()))?;
            sync_directory(self.directory).map_err(io_error(self.directory.display()))?;
        }
        let mut scanned = covered.is_none();
        let mut extent =
            covered.unwrap_or_else(|| Extent::empty(base, SEGMENT_HEADER_BYTES as u64));
        scanned |= length > extent.bytes;
        if scanned {
            self.scan(&path, file, salt, length, &mut extent, next.is_none())?;
        }
        let segment = Arc::new(Segment::new(base, path, salt, extent));
        let end = segment.extent.read().end;
        if let Some(next) = next
            && scanned
        {
            if end < next {
                let damage =
                    Damage { position: segment.extent.read().bytes, bytes: 0, expected: end };
                self.lose(&segment.path, damage, next, "the end of the segment is missing");
            }
            segment.write_index();
        }
        Ok(Some(segment))
    }

    /// Takes the entries behind `extent` into it; cuts the torn tail if this is the last segment.
    fn scan(
        &mut self,
        path: &Path,
        file: File,
        salt: u64,
        length: u64,
        extent: &mut Extent,
        is_last: bool,
    ) -> Result<()> {
        self.report.scanned_bytes += length - extent.bytes;
        let mut scanner = Scanner::new(file, salt, extent.bytes..length, extent.end);
        let mut found = vec![];
        while let Some(next) = scanner.next_checked().map_err(io_error(path.display()))? {
            found.push(next);
        }
        if is_last {
            // Entries of one write group reach the disk in any order, so that a torn tail may have
            // whole entries behind its gap. Each says up to where everything was durable before
            // its group: only damage below that is a loss, the first above it begins the tail.
            let durable = found.iter().filter_map(group_offset).fold(extent.end, Offset::max);
            let tail = found.iter().position(
                |found| matches!(found, Found::Damage(damage) if damage.expected >= durable),
            );
            if let Some(tail) = tail
                && let Some(Found::Damage(damage)) = found.get(tail).copied()
            {
                self.cut(path, damage.position, length - damage.position, damage.expected)?;
                found.truncate(tail);
            }
        }
        let mut found = found.into_iter().peekable();
        while let Some(next) = found.next() {
            match next {
                Found::Entry { position, header } => extent.push(position, &header),
                Found::Damage(damage) => {
                    let next_offset = match found.peek() {
                        Some(Found::Entry { header, .. }) => header.offset,
                        Some(Found::Damage(next)) => next.expected,
                        // The caller knows where the next segment begins.
                        None => damage.expected,
                    };
                    extent.bytes = damage.position + damage.bytes;
                    self.lose(path, damage, next_offset, "checksum mismatch");
                }
            }
        }
        Ok(())
    }

    fn cut(&mut self, path: &Path, position: u64, bytes: u64, offset: Offset) -> Result<()> {
        OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|file| file.set_len(position).and_then(|()| file.sync_all()))
            .map_err(io_error(path.display()))?;
        tracing::warn!(
            at = %self.at, file = %path.display(), position, bytes, offset,
            "cut the torn tail of an unfinished write; nothing in it had been acknowledged"
        );
        metrics::counter!("thalweg_log_recovery_cut_bytes_total", "topic" => self.at.topic.to_string())
            .increment(bytes);
        let (at, file) = (self.at.clone(), path.to_owned());
        self.report.cuts.push(Cut { at, file, position, bytes, offset });
        Ok(())
    }

    fn lose(&mut self, path: &Path, damage: Damage, end: Offset, reason: &str) {
        let Damage { position, bytes, expected } = damage;
        tracing::error!(
            at = %self.at, file = %path.display(), position, bytes, from = expected, to = end, reason,
            "acknowledged rows are unreadable and will be skipped; check this disk"
        );
        metrics::counter!("thalweg_log_damaged_bytes_total", "topic" => self.at.topic.to_string())
            .increment(bytes);
        self.report.losses.push(Loss {
            at: self.at.clone(),
            file: path.to_owned(),
            position,
            offsets: OffsetRange { start: expected, end },
            reason: reason.to_owned(),
        });
    }

    /// Neither the segment's header, nor its first entry, nor its index can be read, or it has
    /// no room for a header. `known_end` is the offset after its rows, if something says it.
    fn unreadable(
        &mut self,
        path: PathBuf,
        length: u64,
        base: Offset,
        known_end: Option<Offset>,
    ) -> Result<()> {
        // A header is durable before the first entry is written: a shorter file was begun in
        // vain. An entry takes a header at least, and counts its rows in 32 bits.
        let entries_at_most = length.saturating_sub(1) / SEGMENT_HEADER_BYTES as u64;
        let end = known_end.unwrap_or(base.saturating_add(entries_at_most << 32));
        self.floor = self.floor.max(end);
        if end == base {
            fs::remove_file(&path).map_err(io_error(path.display()))?;
            tracing::warn!(at = %self.at, file = %path.display(), "removed a segment begun in vain");
        } else {
            let aside = path.with_extension("unreadable");
            fs::rename(&path, &aside).map_err(io_error(path.display()))?;
            let damage = Damage { position: 0, bytes: length, expected: base };
            self.lose(&aside, damage, end, "neither header nor index can be read; set aside");
        }
        sync_directory(self.directory).map_err(io_error(self.directory.display()))
    }

    /// The last segment opened for appending, or a new one when there is none to go on with.
    fn active(&mut self, segments: &mut VecDeque<Arc<Segment>>) -> Result<File> {
        if let Some(last) = segments.back() {
            let end = last.extent.read().end;
            if end >= self.floor {
                let open = OpenOptions::new().append(true).open(&last.path);
                return open.map_err(io_error(last.path.display()));
            }
            let damage = Damage { position: last.extent.read().bytes, bytes: 0, expected: end };
            last.write_index();
            self.lose(&last.path, damage, self.floor, "rows that were durable once are gone");
        }
        let (segment, active) = Segment::create(self.directory, self.floor)
            .map_err(io_error(self.directory.display()))?;
        segments.push_back(Arc::new(segment));
        Ok(active)
    }
}

fn group_offset(found: &Found) -> Option<Offset> {
    match found {
        Found::Entry { header, .. } => Some(header.group_offset),
        Found::Damage(_) => None,
    }
}

impl RecoveryReport {
    /// Whether nothing had to be cut and nothing is lost.
    pub fn is_clean(&self) -> bool {
        self.cuts.is_empty() && self.losses.is_empty()
    }
}
