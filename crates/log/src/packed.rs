//! Record batches as bytes: a self-contained Arrow IPC stream, as one LZ4 block.
//!
//! Compressing the stream as a whole instead of buffer by buffer, as Arrow would, also shrinks the
//! schema, which is most of a small batch, and is faster; `cargo bench` prints both.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow::{
    array::RecordBatch,
    buffer::{Buffer, MutableBuffer},
    ipc::{reader::StreamDecoder, writer::StreamEncoder},
};

/// Most that an LZ4 block can grow: a byte of it stands for up to 255.
const LZ4_RATIO_MAX: usize = 255;

/// Length of what stands before the block: the length of the stream, little endian.
const LENGTH_BYTES: usize = 4;

/// The bytes of `batch`, for [`unpack`].
///
/// # Errors
/// Why the batch cannot be packed: an unsupported type, or 4 GiB and more.
pub fn pack(batch: &RecordBatch) -> Result<Vec<u8>, String> {
    let stream = to_stream(batch)?;
    match u32::try_from(stream.len()) {
        Ok(_) => Ok(lz4_flex::compress_prepend_size(&stream)),
        Err(_) => Err(format!("{} bytes are too many", stream.len())),
    }
}

/// The batch that was packed. Never panics, whatever the bytes.
///
/// # Errors
/// What is wrong with the bytes.
pub fn unpack(bytes: &[u8]) -> Result<RecordBatch, String> {
    let (length, block) = bytes.split_first_chunk::<LENGTH_BYTES>().ok_or("cut short")?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > block.len().saturating_mul(LZ4_RATIO_MAX) {
        return Err(format!("{} bytes that claim to be {length}", block.len()));
    }
    of_stream(decompress(block, length)?)
}

/// `batch` as an Arrow IPC stream: schema, dictionaries, one record batch.
///
/// # Errors
/// Which type is not supported.
pub(crate) fn to_stream(batch: &RecordBatch) -> Result<MutableBuffer, String> {
    let buffers = StreamEncoder::try_new(batch.schema_ref())
        .and_then(|mut encoder| encoder.encode(batch))
        .map_err(|error| error.to_string())?;
    let length = buffers.iter().map(Buffer::len).sum();
    let mut stream = MutableBuffer::with_capacity(length);
    buffers.iter().for_each(|buffer| stream.extend_from_slice(buffer));
    Ok(stream)
}

/// The stream of `length` bytes that was compressed to `block`.
///
/// # Errors
/// What is wrong with the block.
pub(crate) fn decompress(block: &[u8], length: usize) -> Result<Buffer, String> {
    // Memory that Arrow allocates is aligned for its arrays, which then need no copy.
    let mut stream = MutableBuffer::from_len_zeroed(length);
    let length =
        lz4_flex::block::decompress_into(block, &mut stream).map_err(|error| error.to_string())?;
    stream.truncate(length);
    Ok(stream.into())
}

/// The batch of `stream`.
///
/// Never panics: the decoder checks its input, and where it should have missed something (it is a
/// large parser), the unwinding ends here.
///
/// # Errors
/// What is wrong with the stream.
pub(crate) fn of_stream(mut stream: Buffer) -> Result<RecordBatch, String> {
    let decode = AssertUnwindSafe(|| {
        let mut decoder = StreamDecoder::new();
        let batch = decoder
            .decode(&mut stream)
            .map_err(|error| error.to_string())?
            .ok_or("holds no record batch")?;
        // A mark of the end may follow.
        match decoder.decode(&mut stream).map_err(|error| error.to_string())? {
            None if stream.is_empty() => Ok(batch),
            _ => Err("bytes follow the record batch".into()),
        }
    });
    catch_unwind(decode).unwrap_or_else(|_| Err("the Arrow decoder could not cope with it".into()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{ArrayRef, DictionaryArray, StringArray},
        datatypes::Int32Type,
        ipc::writer::StreamWriter,
    };
    use proptest::prelude::*;

    use super::*;

    fn batch() -> RecordBatch {
        let few = (0..500).map(|i| (i % 3 > 0).then_some("service"));
        let texts = StringArray::from_iter_values((0..500).map(|i| format!("message {i}")));
        RecordBatch::try_from_iter([
            ("text", Arc::new(texts) as ArrayRef),
            ("few", Arc::new(few.collect::<DictionaryArray<Int32Type>>())),
        ])
        .unwrap()
    }

    #[test]
    fn what_was_packed_is_unpacked() {
        let packed = pack(&batch()).unwrap();
        assert!(packed.len() < batch().get_array_memory_size() / 2, "{}", packed.len());
        assert_eq!(unpack(&packed).unwrap(), batch());
    }

    #[test]
    fn a_stream_may_end_with_the_mark_of_its_end() {
        let mut writer = StreamWriter::try_new(vec![], batch().schema_ref()).unwrap();
        writer.write(&batch()).unwrap();
        let stream = lz4_flex::compress_prepend_size(&writer.into_inner().unwrap());
        assert_eq!(unpack(&stream).unwrap(), batch());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20),
            length in any::<prop::sample::Index>(),
        ) {
            let mut bytes = pack(&batch()).unwrap();
            for (at, with) in flips {
                let at = at.index(bytes.len());
                bytes[at] = with;
            }
            let _ = unpack(&bytes);
            let _ = unpack(&bytes[..length.index(bytes.len())]);
        }
    }
}
