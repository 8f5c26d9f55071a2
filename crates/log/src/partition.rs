//! What readers see of a partition.

use std::{collections::VecDeque, io, sync::Arc};

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::{
    entry,
    error::{LogError, Result, io_error},
    queue::Queue,
    scan::{Found, damaged_entry},
    segment::Segment,
    tail_cache::{CacheBudget, TailCache},
    types::{Entry, Offset, OffsetRange, TopicPartition},
};

/// A partition, shared by its writer thread and its readers.
pub(crate) struct Partition {
    pub(crate) at: TopicPartition,
    pub(crate) queue: Queue,
    /// Ascending, never empty; the last is the one being written.
    pub(crate) segments: RwLock<VecDeque<Arc<Segment>>>,
    pub(crate) cache: Mutex<TailCache>,
    /// Sent by the writer after each `fdatasync`.
    pub(crate) durable: watch::Sender<Durable>,
}

/// How far a partition is durable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Durable {
    pub(crate) end: Offset,
    /// No more will come.
    pub(crate) closed: bool,
}

impl Partition {
    pub(crate) fn new(
        at: TopicPartition,
        segments: VecDeque<Arc<Segment>>,
        cache_budget: Arc<CacheBudget>,
    ) -> Self {
        let end = segments.back().map_or(0, |active| active.extent.read().end);
        Self {
            at,
            queue: Queue::new(),
            segments: RwLock::new(segments),
            cache: Mutex::new(TailCache::new(cache_budget)),
            durable: watch::Sender::new(Durable { end, closed: false }),
        }
    }

    pub(crate) fn offsets(&self) -> OffsetRange {
        let end = self.durable.borrow().end;
        let start = self.segments.read().front().map_or(end, |first| first.base);
        OffsetRange { start, end }
    }

    /// Bytes on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.read().iter().map(|segment| segment.extent.read().bytes).sum()
    }

    /// Entries from the tail cache; `None` when they have to be read from disk.
    pub(crate) fn read_cached(&self, from: Offset, max_bytes: usize) -> Result<Option<Vec<Entry>>> {
        let OffsetRange { start, end } = self.offsets();
        if from < start || from > end {
            return Err(self.out_of_range(from));
        }
        if from == end {
            return Ok(Some(vec![]));
        }
        Ok(self.cache.lock().read(from, max_bytes))
    }

    /// Entries from the segment files, damage left out. Blocks for the disk.
    pub(crate) fn read_from_disk(&self, from: Offset, max_bytes: usize) -> Result<Vec<Entry>> {
        let mut room = max_bytes;
        let mut entries = vec![];
        for segment in self.segments_from(from) {
            let mut scanner = match segment.scan_from_offset(from) {
                Ok(scanner) => scanner,
                // Retention was faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound && entries.is_empty() => {
                    return Err(self.out_of_range(from));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(io_error(segment.path.display())(error)),
            };
            let failed = || io_error(segment.path.display());
            while let Some(found) = scanner.next_header().map_err(failed())? {
                let (position, header) = match found {
                    Found::Entry { position, header } => (position, header),
                    Found::Damage(damage) => {
                        segment.report(&self.at, &damage, "no entry header");
                        continue;
                    }
                };
                if header.next_offset() <= from {
                    continue;
                }
                let batch = match scanner.payload(position, &header).map_err(failed())? {
                    Some(payload) => entry::decode(&header, payload),
                    None => Err("checksum mismatch".into()),
                };
                let batch = match batch {
                    Ok(batch) => batch,
                    Err(reason) => {
                        segment.report(&self.at, &damaged_entry(position, &header), &reason);
                        continue;
                    }
                };
                let bytes = header.stream_bytes as usize;
                if bytes > room && !entries.is_empty() {
                    return Ok(entries);
                }
                room = room.saturating_sub(bytes);
                entries.push(header.entry(batch));
            }
        }
        Ok(entries)
    }

    /// Offset of the first entry appended at or after `unix_millis`. Blocks for the disk; reads
    /// no more than one interval of the index.
    pub(crate) fn offset_at(&self, unix_millis: i64) -> Result<Offset> {
        let segments: Vec<_> = self.segments.read().iter().map(Arc::clone).collect();
        for segment in segments {
            if segment.extent.read().latest_append < unix_millis {
                continue;
            }
            let mut scanner = match segment.scan_from_time(unix_millis) {
                Ok(scanner) => scanner,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(io_error(segment.path.display())(error)),
            };
            while let Some(found) =
                scanner.next_header().map_err(io_error(segment.path.display()))?
            {
                match found {
                    Found::Entry { header, .. } if header.append_unix_millis >= unix_millis => {
                        return Ok(header.offset);
                    }
                    _ => {}
                }
            }
        }
        Ok(self.offsets().end)
    }

    /// The segments that may hold `from` or something after it.
    fn segments_from(&self, from: Offset) -> Vec<Arc<Segment>> {
        let segments = self.segments.read();
        let first = segments.partition_point(|segment| segment.base <= from).saturating_sub(1);
        segments.range(first..).map(Arc::clone).collect()
    }

    pub(crate) fn out_of_range(&self, offset: Offset) -> LogError {
        let OffsetRange { start, end } = self.offsets();
        LogError::OffsetOutOfRange { at: self.at.clone(), offset, start, end }
    }
}
