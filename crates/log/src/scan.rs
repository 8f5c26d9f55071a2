//! Reading the entries of a segment file one after another, stepping over what is not an entry.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt};

use arrow::buffer::{Buffer, MutableBuffer};

use crate::{
    entry::{EntryHeader, HEADER_BYTES, SALT_AT},
    types::Offset,
};

/// Bytes read at once while searching for the next entry behind damage.
const SEARCH_BYTES: usize = 1 << 20;

/// Walks the entries in a range of positions of one file.
pub(crate) struct Scanner {
    file: File,
    salt: u64,
    position: u64,
    limit: u64,
    expected: Offset,
}

/// What stands at a position.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found {
    /// An entry with a sound header.
    Entry { position: u64, header: EntryHeader },
    /// Bytes that are no entry.
    Damage(Damage),
}

/// Bytes of a segment that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Damage {
    pub(crate) position: u64,
    pub(crate) bytes: u64,
    /// Offset that should have stood there.
    pub(crate) expected: Offset,
}

impl Scanner {
    /// Over the entries in `positions`, of which the first should be at or after `expected`.
    pub(crate) fn new(file: File, salt: u64, positions: Range<u64>, expected: Offset) -> Self {
        Self { file, salt, position: positions.start, limit: positions.end, expected }
    }

    /// The next entry's header, or the damage before it. Payloads are not looked at.
    pub(crate) fn next_header(&mut self) -> io::Result<Option<Found>> {
        if self.position >= self.limit {
            return Ok(None);
        }
        let position = self.position;
        if let Some(header) = self.header_at(position)? {
            // An entry that claims to go beyond the limit was cut off: all the rest is damage.
            if header.entry_bytes() <= self.limit - position {
                self.position += header.entry_bytes();
                self.expected = header.next_offset();
                return Ok(Some(Found::Entry { position, header }));
            }
            self.position = self.limit;
        } else {
            self.position = self.search(position + 1)?;
        }
        let bytes = self.position - position;
        Ok(Some(Found::Damage(Damage { position, bytes, expected: self.expected })))
    }

    /// Like [`Scanner::next_header`], but an entry whose payload fails its checksum is damage.
    pub(crate) fn next_checked(&mut self) -> io::Result<Option<Found>> {
        let found = self.next_header()?;
        if let Some(Found::Entry { position, header }) = found
            && self.payload(position, &header)?.is_none()
        {
            return Ok(Some(Found::Damage(damaged_entry(position, &header))));
        }
        Ok(found)
    }

    /// The payload of the entry at `position`, unless it fails its checksum.
    pub(crate) fn payload(
        &self,
        position: u64,
        header: &EntryHeader,
    ) -> io::Result<Option<Buffer>> {
        // Memory that Arrow allocates is aligned for its arrays: they need no further copy.
        let mut payload = MutableBuffer::from_len_zeroed(header.payload_bytes as usize);
        self.file.read_exact_at(&mut payload, position + HEADER_BYTES as u64)?;
        Ok((crc32fast::hash(&payload) == header.payload_crc).then(|| payload.into()))
    }

    fn header_at(&self, position: u64) -> io::Result<Option<EntryHeader>> {
        if self.limit - position < HEADER_BYTES as u64 {
            return Ok(None);
        }
        let mut bytes = [0; HEADER_BYTES];
        self.file.read_exact_at(&mut bytes, position)?;
        Ok(EntryHeader::parse(&bytes)
            .filter(|header| header.salt == self.salt && header.offset >= self.expected))
    }

    /// Position of the first sound header at or after `from`, or the limit.
    fn search(&self, from: u64) -> io::Result<u64> {
        let needle = self.salt.to_le_bytes();
        let mut window = vec![0; SEARCH_BYTES];
        let mut start = from;
        while start < self.limit {
            let length = (self.limit - start).min(SEARCH_BYTES as u64) as usize;
            self.file.read_exact_at(&mut window[..length], start)?;
            for hit in memchr::memmem::find_iter(&window[..length], &needle) {
                let candidate = (start + hit as u64).saturating_sub(SALT_AT as u64);
                if candidate >= from && self.header_at(candidate)?.is_some() {
                    return Ok(candidate);
                }
            }
            if start + length as u64 == self.limit {
                break;
            }
            // Windows overlap, so that a salt across their border is seen.
            start += (length - (needle.len() - 1)) as u64;
        }
        Ok(self.limit)
    }
}

/// The damage of an entry whose header is sound and whose payload is not.
pub(crate) fn damaged_entry(position: u64, header: &EntryHeader) -> Damage {
    Damage { position, bytes: header.entry_bytes(), expected: header.offset }
}
