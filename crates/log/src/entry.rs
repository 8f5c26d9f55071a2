//! One entry on disk: a fixed header and a self-contained Arrow IPC stream, as one LZ4 block.

use arrow::{array::RecordBatch, buffer::Buffer};

use crate::{
    bytes_at::BytesAt,
    packed::{decompress, of_stream, to_stream},
    types::{Entry, Offset},
};

/// Length of an entry's header; a multiple of 64 keeps Arrow's buffers aligned in the file.
pub(crate) const HEADER_BYTES: usize = 64;

/// Largest Arrow stream: what a reader is willing to allocate for one entry.
const MAX_STREAM_BYTES: usize = 256 << 20;

/// Memory a batch may hold beyond twice its content before it is copied.
const SLACK_BYTES: usize = 64 << 10;

const MAGIC: [u8; 4] = *b"TWE1";
/// Where the salt stands in a header; recovery searches for it.
pub(crate) const SALT_AT: usize = 8;

/// What precedes the payload of an entry. `FORMAT.md` has the byte positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryHeader {
    /// Secret of the segment, so that bytes inside a payload cannot pass for an entry.
    pub(crate) salt: u64,
    pub(crate) offset: Offset,
    /// First offset of the group of entries written with the same `fdatasync`: everything
    /// before it was durable when this entry was written.
    pub(crate) group_offset: Offset,
    pub(crate) append_unix_millis: i64,
    pub(crate) rows: u32,
    /// Length on disk.
    pub(crate) payload_bytes: u32,
    /// Of the bytes on disk.
    pub(crate) payload_crc: u32,
    /// Length of the Arrow stream; more than `payload_bytes` if it is compressed.
    pub(crate) stream_bytes: u32,
}

impl EntryHeader {
    /// Offset after the last row.
    pub(crate) fn next_offset(&self) -> Offset {
        self.offset + Offset::from(self.rows)
    }

    /// The entry of which `batch` is the payload.
    pub(crate) fn entry(&self, batch: RecordBatch) -> Entry {
        Entry {
            offset: self.offset,
            next_offset: self.next_offset(),
            append_unix_millis: self.append_unix_millis,
            batch,
        }
    }

    /// Header and payload together.
    pub(crate) fn entry_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.payload_bytes)
    }

    pub(crate) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.salt.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.offset.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.group_offset.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.append_unix_millis.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.rows.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.payload_crc.to_le_bytes());
        bytes[52..56].copy_from_slice(&self.stream_bytes.to_le_bytes());
        let crc = crc32fast::hash(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header, if `bytes` are one: the right magic and checksum, and values that make sense.
    pub(crate) fn parse(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        if bytes[..4] != MAGIC || bytes.u32_at(4) != crc32fast::hash(&bytes[8..]) {
            return None;
        }
        let header = Self {
            salt: bytes.u64_at(SALT_AT),
            offset: bytes.u64_at(16),
            group_offset: bytes.u64_at(24),
            append_unix_millis: bytes.u64_at(32).cast_signed(),
            rows: bytes.u32_at(40),
            payload_bytes: bytes.u32_at(44),
            payload_crc: bytes.u32_at(48),
            stream_bytes: bytes.u32_at(52),
        };
        let sound = header.rows > 0
            && header.payload_bytes <= header.stream_bytes
            && header.stream_bytes as usize <= MAX_STREAM_BYTES
            && header.group_offset <= header.offset
            && header.offset.checked_add(header.rows.into()).is_some();
        sound.then_some(header)
    }
}

/// A batch and its encoding.
pub(crate) struct EncodedBatch {
    pub(crate) batch: RecordBatch,
    /// Memory that `batch` keeps alive.
    pub(crate) memory_bytes: usize,
    /// What is written after the header.
    pub(crate) payload: Vec<u8>,
    pub(crate) payload_crc: u32,
    pub(crate) stream_bytes: usize,
}

impl EncodedBatch {
    /// Encodes `batch` as an Arrow IPC stream (schema, dictionaries, one record batch) and
    /// compresses it where that makes it smaller.
    ///
    /// # Errors
    /// Says why the batch cannot be stored: an unsupported type, or too large.
    pub(crate) fn new(batch: RecordBatch) -> Result<Self, String> {
        let stream = to_stream(&batch)?;
        let stream_bytes = stream.len();
        if stream_bytes > MAX_STREAM_BYTES {
            return Err(format!("{stream_bytes} bytes, the limit is {MAX_STREAM_BYTES}"));
        }
        let compressed = lz4_flex::block::compress(&stream);
        let payload =
            if compressed.len() < stream_bytes { compressed } else { stream.as_slice().to_vec() };
        let payload_crc = crc32fast::hash(&payload);
        let mut batch = batch;
        let mut memory_bytes = batch.get_array_memory_size();
        if memory_bytes > 2 * stream_bytes + SLACK_BYTES {
            // A slice of something larger: keep only what is needed of it.
            batch = of_stream(stream.into())?;
            memory_bytes = stream_bytes;
        }
        Ok(Self { batch, memory_bytes, payload, payload_crc, stream_bytes })
    }
}

/// Decodes the payload that follows `header`. Never panics, whatever the bytes.
///
/// # Errors
/// Says what is wrong with the bytes.
pub(crate) fn decode(header: &EntryHeader, payload: Buffer) -> Result<RecordBatch, String> {
    let stream = if header.stream_bytes == header.payload_bytes {
        payload
    } else {
        decompress(&payload, header.stream_bytes as usize)?
    };
    let batch = of_stream(stream)?;
    if batch.num_rows() == header.rows as usize {
        Ok(batch)
    } else {
        Err(format!("{} rows, expected {}", batch.num_rows(), header.rows))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, DictionaryArray, Int64Array, StringArray};
    use arrow::datatypes::Int32Type;
    use proptest::prelude::*;

    use super::*;

    fn batch(rows: usize) -> RecordBatch {
        let texts = StringArray::from_iter_values((0..rows).map(|i| format!("message {i}")));
        let few = (0..rows).map(|i| (i % 3 > 0).then_some("service"));
        RecordBatch::try_from_iter([
            ("number", Arc::new(Int64Array::from_iter_values(0..rows as i64)) as ArrayRef),
            ("text", Arc::new(texts)),
            ("few", Arc::new(few.collect::<DictionaryArray<Int32Type>>())),
        ])
        .unwrap()
    }

    fn header(encoded: &EncodedBatch, rows: usize) -> EntryHeader {
        EntryHeader {
            salt: 1,
            offset: 7,
            group_offset: 7,
            append_unix_millis: -1,
            rows: rows as u32,
            payload_bytes: encoded.payload.len() as u32,
            payload_crc: encoded.payload_crc,
            stream_bytes: encoded.stream_bytes as u32,
        }
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        for rows in [1, 7, 5_000] {
            let encoded = EncodedBatch::new(batch(rows)).unwrap();
            let header = header(&encoded, rows);
            assert_eq!(EntryHeader::parse(&header.to_bytes()), Some(header));
            assert_eq!(decode(&header, encoded.payload.into()).unwrap(), batch(rows));
        }
    }

    #[test]
    fn a_slice_does_not_keep_what_it_was_cut_from() {
        let encoded = EncodedBatch::new(batch(100_000).slice(50_000, 10)).unwrap();
        assert_eq!(encoded.batch, batch(100_000).slice(50_000, 10));
        assert!(encoded.memory_bytes < 10_000, "{}", encoded.memory_bytes);
    }

    proptest! {
        /// Past the checksum, as only a hostile file can be.
        #[test]
        fn no_payload_makes_the_decoder_panic(
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
            compressed in any::<bool>(),
        ) {
            let encoded = EncodedBatch::new(batch(20)).unwrap();
            let mut header = header(&encoded, 20);
            let mut bytes = encoded.payload;
            if !compressed {
                bytes = lz4_flex::block::decompress(&bytes, encoded.stream_bytes).unwrap();
                header.payload_bytes = header.stream_bytes;
            }
            for (at, with) in flips {
                let at = at.index(bytes.len());
                bytes[at] = with;
            }
            if let Ok(batch) = decode(&header, bytes.into()) {
                prop_assert_eq!(batch.num_rows(), 20);
            }
        }
    }
}
