//! The sparse index of a segment: from offset and time to a position near it.
//!
//! The index is never trusted over the data: its file names how many bytes of the segment it
//! covers and under which salt, is checksummed, and is rebuilt by a scan when it does not fit.

use std::{fs, io, path::Path};

use bytes::{Buf, BufMut};

use crate::{bytes_at::BytesAt, entry::EntryHeader, types::Offset};

/// Bytes of a segment between two points of its index; a reader steps over that much at most.
const INTERVAL_BYTES: u64 = 256 << 10;
const MAGIC: [u8; 8] = *b"TWINDEX1";
const CHECKED_FROM: usize = 12;

/// An entry that the index can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexPoint {
    pub(crate) offset: Offset,
    pub(crate) position: u64,
    /// Latest append time of all entries before this one. Clocks step back; a running maximum
    /// does not, so that it can be searched.
    pub(crate) latest_before: i64,
}

/// What is known of the first `bytes` of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) bytes: u64,
    /// Offset after the last row.
    pub(crate) end: Offset,
    /// Append time of the last entry; `i64::MIN` when there is none.
    pub(crate) last_append: i64,
    /// Latest append time of any entry.
    pub(crate) latest_append: i64,
    pub(crate) points: Vec<IndexPoint>,
}

impl Extent {
    /// Of a segment that holds nothing after its first `bytes` yet.
    pub(crate) fn empty(base: Offset, bytes: u64) -> Self {
        Self { bytes, end: base, last_append: i64::MIN, latest_append: i64::MIN, points: vec![] }
    }

    /// Takes in the entry at `position`.
    pub(crate) fn push(&mut self, position: u64, header: &EntryHeader) {
        if self.points.last().is_none_or(|last| position >= last.position + INTERVAL_BYTES) {
            self.points.push(IndexPoint {
                offset: header.offset,
                position,
                latest_before: self.latest_append,
            });
        }
        self.bytes = position + header.entry_bytes();
        self.end = header.next_offset();
        self.last_append = header.append_unix_millis;
        self.latest_append = self.latest_append.max(header.append_unix_millis);
    }

    /// The last indexed entry that begins at or before `offset`. O(log n).
    pub(crate) fn before_offset(&self, offset: Offset) -> Option<IndexPoint> {
        self.last_where(|point| point.offset <= offset)
    }

    /// The last indexed entry before which nothing was appended at or after `unix_millis`.
    pub(crate) fn before_time(&self, unix_millis: i64) -> Option<IndexPoint> {
        self.last_where(|point| point.latest_before < unix_millis)
    }

    fn last_where(&self, holds: impl Fn(&IndexPoint) -> bool) -> Option<IndexPoint> {
        let after = self.points.partition_point(holds);
        after.checked_sub(1).and_then(|last| self.points.get(last)).copied()
    }

    /// Writes the index file. Not synced: a torn one is noticed and rebuilt.
    pub(crate) fn write(&self, path: &Path, salt: u64, base: Offset) -> io::Result<()> {
        let mut file = Vec::with_capacity(64 + self.points.len() * 24);
        file.put_slice(&MAGIC);
        file.put_u32_le(0);
        file.put_u64_le(salt);
        file.put_u64_le(base);
        file.put_u64_le(self.bytes);
        file.put_u64_le(self.end);
        file.put_i64_le(self.last_append);
        file.put_i64_le(self.latest_append);
        for point in &self.points {
            file.put_u64_le(point.offset);
            file.put_u64_le(point.position);
            file.put_i64_le(point.latest_before);
        }
        let crc = crc32fast::hash(&file[CHECKED_FROM..]);
        file[MAGIC.len()..CHECKED_FROM].copy_from_slice(&crc.to_le_bytes());
        fs::write(path, file)
    }

    /// Reads an index file and its segment's salt; nothing unless it is whole and for the
    /// segment beginning at `base`.
    pub(crate) fn read(path: &Path, base: Offset) -> Option<(u64, Self)> {
        let file = fs::read(path).ok()?;
        let (head, mut body) = file.split_at_checked(CHECKED_FROM)?;
        if head[..MAGIC.len()] != MAGIC || head.u32_at(MAGIC.len()) != crc32fast::hash(body) {
            return None;
        }
        let salt = body.try_get_u64_le().ok()?;
        if body.try_get_u64_le().ok()? != base {
            return None;
        }
        let mut extent = Self {
            bytes: body.try_get_u64_le().ok()?,
            end: body.try_get_u64_le().ok()?,
            last_append: body.try_get_i64_le().ok()?,
            latest_append: body.try_get_i64_le().ok()?,
            points: Vec::with_capacity(body.len() / 24),
        };
        while body.has_remaining() {
            extent.points.push(IndexPoint {
                offset: body.try_get_u64_le().ok()?,
                position: body.try_get_u64_le().ok()?,
                latest_before: body.try_get_i64_le().ok()?,
            });
        }
        let sorted = extent.points.is_sorted_by_key(|point| point.position)
            && extent.points.is_sorted_by_key(|point| point.offset);
        let within = extent.points.last().is_none_or(|last| last.position < extent.bytes);
        (sorted && within && extent.end >= base).then_some((salt, extent))
    }
}
