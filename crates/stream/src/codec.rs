//! Record batches as bytes: an Arrow IPC stream, compressed with LZ4 as a whole.

use std::io::Cursor;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;

pub(crate) fn encode(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), batch.schema_ref())?;
    writer.write(batch)?;
    Ok(lz4_flex::compress_prepend_size(&writer.into_inner()?))
}

/// # Errors
/// What is wrong with the bytes.
pub(crate) fn decode(bytes: &[u8]) -> Result<RecordBatch, ArrowError> {
    let plain = lz4_flex::decompress_size_prepended(bytes);
    let plain = plain.map_err(|error| ArrowError::ParseError(error.to_string()))?;
    let reader = StreamReader::try_new(Cursor::new(plain), None)?;
    let schema = reader.schema();
    let batches = reader.collect::<Result<Vec<_>, _>>()?;
    concat_batches(&schema, &batches)
}
