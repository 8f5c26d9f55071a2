//! Record batches to sorted Parquet files.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Int32Array, RecordBatch, StringArray,
};
use arrow::compute::{cast, interleave_record_batch};
use arrow::datatypes::{
    DataType, FieldRef, Int32Type, Schema, SchemaRef, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use chrono::NaiveDate;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::config::LakeConfig;
use crate::conform::date_of;
use crate::error::{LakeError, Result};
use crate::snapshot::DataFile;
use crate::spec::{DATE_COLUMN, TableSpec};
use crate::statistics;

/// Files of the table that begin with this are sorted as their table's specification says.
const SORTED_PREFIX: &str = "sorted-";
/// Rows gathered at a time while sorting.
const GATHER_ROWS: usize = 16 * 1024;
/// False positives of bloom filters; a lookup of one identifier then opens one row group in vain
/// out of a hundred.
const BLOOM_FALSE_POSITIVES: f64 = 0.01;
/// Bytes of strings kept as bounds: enough to tell services, hosts and paths apart.
const BOUND_BYTES: usize = 64;
const WRITE_BUFFER_BYTES: usize = 1 << 20;

/// A Parquet file being written. Dropped before [`FileEncoder::finish`], it leaves nothing.
pub(crate) struct FileEncoder {
    spec: Arc<TableSpec>,
    date: i32,
    relative: String,
    path: PathBuf,
    writer: Option<ArrowWriter<BufWriter<File>>>,
}

impl FileEncoder {
    /// Starts a file of the partition `date` under `root`; batches will have `schema`.
    pub(crate) fn create(
        root: &Path,
        spec: &Arc<TableSpec>,
        config: &LakeConfig,
        schema: SchemaRef,
        date: i32,
    ) -> Result<Self> {
        let directory = format!("{DATE_COLUMN}={}", date_text(date));
        let relative = format!("{directory}/{SORTED_PREFIX}{}.parquet", uuid::Uuid::now_v7());
        let path = root.join(&relative);
        let folder = root.join(&directory);
        if !folder.exists() {
            fs::create_dir_all(&folder).map_err(LakeError::io(&folder))?;
            sync_directory(root)?;
        }
        let file = File::create_new(&path).map_err(LakeError::io(&path))?;
        let options = ArrowWriterOptions::new()
            .with_properties(properties(spec, config)?)
            .with_skip_arrow_metadata(true);
        let file = BufWriter::with_capacity(WRITE_BUFFER_BYTES, file);
        let writer = ArrowWriter::try_new_with_options(file, schema, options);
        let writer = writer.map_err(LakeError::parquet(&path))?;
        Ok(Self { spec: Arc::clone(spec), date, relative, path, writer: Some(writer) })
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let writer = self.writer.as_mut().expect("only finish takes the writer");
        writer.write(batch).map_err(LakeError::parquet(&self.path))
    }

    /// Completes the file and syncs it to disk.
    pub(crate) fn finish(mut self) -> Result<DataFile> {
        let mut writer = self.writer.take().expect("finish is called once");
        let finished = self.seal(&mut writer);
        if finished.is_err() {
            self.writer = Some(writer); // so that drop removes the file
        }
        finished
    }

    fn seal(&self, writer: &mut ArrowWriter<BufWriter<File>>) -> Result<DataFile> {
        let metadata = writer.finish().map_err(LakeError::parquet(&self.path))?;
        let file = writer.inner().get_ref();
        file.sync_all().map_err(LakeError::io(&self.path))?;
        sync_directory(self.path.parent().unwrap_or(&self.path))?;
        let found = file.metadata().map_err(LakeError::io(&self.path))?;
        let written = found.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let statistics =
            statistics::of_parquet(&metadata, &self.spec.file_schema(), &self.spec.text_columns);
        Ok(DataFile {
            path: self.relative.clone(),
            date: self.date,
            size_bytes: found.len(),
            written_unix_millis: written.map_or(0, |since| since.as_millis() as i64),
            statistics: Arc::new(statistics),
        })
    }
}

impl Drop for FileEncoder {
    fn drop(&mut self) {
        if self.writer.take().is_some() {
            // What cannot be removed now is left to vacuum.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether [`FileEncoder`] wrote the file, so that its rows are in order and its bounds exact.
pub(crate) fn is_sorted(path: &str) -> bool {
    path.rsplit('/').next().is_some_and(|name| name.starts_with(SORTED_PREFIX))
}

/// A date as in directory names and the Delta log.
pub(crate) fn date_text(date: i32) -> String {
    let day = NaiveDate::from_epoch_days(date);
    day.map_or_else(|| date.to_string(), |day| day.format("%Y-%m-%d").to_string())
}

/// The inverse of [`date_text`].
pub(crate) fn date_from_text(text: &str) -> Option<i32> {
    text.parse::<NaiveDate>().map(|day| day.to_epoch_days()).ok().or_else(|| text.parse().ok())
}

/// Writes the rows of `batches`, which have the schema of the topics, to one file per date.
///
/// Takes memory for one gathered batch and one row group of encoded pages on top of `batches`.
pub(crate) fn write_files(
    root: &Path,
    spec: &Arc<TableSpec>,
    config: &LakeConfig,
    batches: &[RecordBatch],
) -> Result<Vec<DataFile>> {
    let batches = unify_dictionaries(batches)?;
    let rows = sorted_rows(spec, &batches)?;
    let batches = batches.iter().map(text_as_views).collect::<Result<Vec<_>>>()?;
    let schema = batches.first().map_or_else(|| Arc::clone(&spec.schema), RecordBatch::schema);
    let batches: Vec<&RecordBatch> = batches.iter().collect();
    let write_day = |day: &[SortedRow]| {
        let date = day.first().map_or(0, SortedRow::date);
        let mut file = FileEncoder::create(root, spec, config, Arc::clone(&schema), date)?;
        for rows in day.chunks(GATHER_ROWS) {
            let places: Vec<_> = rows.iter().map(|r| (r.batch as usize, r.row as usize)).collect();
            file.write(&interleave_record_batch(&batches, &places)?)?;
        }
        file.finish()
    };
    let mut files: Vec<DataFile> = vec![];
    for day in rows.chunk_by(|a, b| a.date() == b.date()) {
        let written = write_day(day).inspect_err(|_| {
            // A full disk must not fill further with the files of each attempt.
            files.iter().for_each(|file| drop(fs::remove_file(root.join(&file.path))));
        });
        files.push(written?);
    }
    Ok(files)
}

/// A row's place in the buffered batches, and its place in the files.
struct SortedRow {
    /// Date, rank of the cluster column's value, time: most significant first.
    key: u128,
    batch: u32,
    row: u32,
}

impl SortedRow {
    fn date(&self) -> i32 {
        ((self.key >> 96) as u32 ^ SIGN_32) as i32
    }
}

/// Flipping the sign bit makes signed integers compare as unsigned ones.
const SIGN_32: u32 = 1 << 31;
const SIGN_64: u64 = 1 << 63;

/// Rows of `batches` in the order of date, cluster column (nulls first) and time.
fn sorted_rows(spec: &TableSpec, batches: &[RecordBatch]) -> Result<Vec<SortedRow>> {
    let time = spec.schema.index_of(&spec.time_column)?;
    let cluster = match &spec.cluster_column {
        Some(name) => Some(spec.schema.index_of(name)?),
        None => None,
    };
    let mut rows = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
    for (number, batch) in batches.iter().enumerate() {
        let times = batch.column(time).as_primitive::<TimestampMicrosecondType>().values();
        let ranks = cluster.map(|index| batch.column(index).as_dictionary::<Int32Type>());
        for (row, &time) in times.iter().enumerate() {
            let date = date_of(time) as u32 ^ SIGN_32;
            // `unify_dictionaries` numbers values in their order.
            let rank = ranks.and_then(|ranks| ranks.key(row)).map_or(0, |rank| rank as u32 + 1);
            let time = time as u64 ^ SIGN_64;
            let key = u128::from(date) << 96 | u128::from(rank) << 64 | u128::from(time);
            rows.push(SortedRow { key, batch: number as u32, row: row as u32 });
        }
    }
    rows.sort_unstable_by_key(|row| row.key);
    Ok(rows)
}

/// Gives each dictionary column one dictionary for all batches, its values in order.
///
/// Gathering rows then copies keys only, and keys compare as the values do.
fn unify_dictionaries(batches: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
    let Some(first) = batches.first() else { return Ok(vec![]) };
    let mut columns: Vec<Vec<ArrayRef>> = batches.iter().map(|b| b.columns().to_vec()).collect();
    for index in 0..first.num_columns() {
        if !matches!(first.column(index).data_type(), DataType::Dictionary(_, _)) {
            continue;
        }
        let unified = {
            let arrays = batches.iter().map(|b| b.column(index).as_dictionary::<Int32Type>());
            unify(&arrays.collect::<Vec<_>>())?
        };
        for (columns, array) in columns.iter_mut().zip(unified) {
            columns[index] = Arc::new(array);
        }
    }
    let batches = batches.iter().zip(columns);
    Ok(batches
        .map(|(b, columns)| RecordBatch::try_new(b.schema(), columns))
        .collect::<Result<_, _>>()?)
}

fn unify(arrays: &[&DictionaryArray<Int32Type>]) -> Result<Vec<DictionaryArray<Int32Type>>> {
    let mut ranks: HashMap<&str, i32> = HashMap::new();
    for array in arrays {
        for value in array.values().as_string::<i32>().iter().flatten() {
            ranks.insert(value, 0);
        }
    }
    let mut values: Vec<&str> = ranks.keys().copied().collect();
    values.sort_unstable();
    for (rank, value) in values.iter().enumerate() {
        ranks.insert(value, rank as i32);
    }
    let values: ArrayRef = Arc::new(StringArray::from_iter_values(&values));
    let unified = arrays.iter().map(|array| {
        let found = array.values().as_string::<i32>();
        let rank_of: Vec<Option<i32>> = found.iter().map(|v| v.map(|v| ranks[v])).collect();
        let keys = array.keys().iter().map(|key| key.and_then(|key| rank_of[key as usize]));
        let keys: Int32Array = keys.collect();
        Ok(DictionaryArray::try_new(keys, Arc::clone(&values))?)
    });
    unified.collect()
}

/// Turns columns of text into views of the same bytes: gathering rows then copies 16 bytes a
/// value, and the text itself is copied only once, by the encoder.
fn text_as_views(batch: &RecordBatch) -> Result<RecordBatch> {
    let view = |(field, column): (&FieldRef, &ArrayRef)| {
        let data_type = match field.data_type() {
            DataType::Utf8 => DataType::Utf8View,
            DataType::Binary => DataType::BinaryView,
            _ => return Ok((Arc::clone(field), Arc::clone(column))),
        };
        let column = cast(column, &data_type)?;
        Ok((Arc::new(field.as_ref().clone().with_data_type(data_type)), column))
    };
    let columns = batch.schema_ref().fields().iter().zip(batch.columns()).map(view);
    let (fields, columns): (Vec<_>, Vec<_>) =
        columns.collect::<Result<Vec<_>, ArrowError>>()?.into_iter().unzip();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// How each column is encoded.
///
/// Measured on events of 330 bytes with random ids: a dictionary that does not pay costs a tenth
/// of the time before it is given up, delta encodings of strings save 2 % of space at best, and
/// zstd 3 takes half as long again as zstd 1 to save nothing.
fn properties(spec: &TableSpec, config: &LakeConfig) -> Result<WriterProperties> {
    let level = ZstdLevel::try_new(config.zstd_level).map_err(LakeError::parquet(Path::new("")))?;
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("thalweg ", env!("CARGO_PKG_VERSION")).into())
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(config.row_group_rows))
        .set_statistics_truncate_length(Some(BOUND_BYTES))
        .set_column_index_truncate_length(Some(BOUND_BYTES))
        .set_statistics_enabled(EnabledStatistics::Page);
    for field in spec.schema.fields() {
        let path = || ColumnPath::from(field.name().as_str());
        properties = match field.data_type() {
            DataType::Timestamp(_, _) | DataType::Int64 => properties
                .set_column_dictionary_enabled(path(), false)
                .set_column_encoding(path(), Encoding::DELTA_BINARY_PACKED),
            _ if spec.lookup_columns.contains(field.name()) => properties
                .set_column_dictionary_enabled(path(), false)
                .set_column_statistics_enabled(path(), EnabledStatistics::Chunk)
                .set_column_bloom_filter_enabled(path(), true)
                .set_column_bloom_filter_fpp(path(), BLOOM_FALSE_POSITIVES)
                .set_column_bloom_filter_max_ndv(path(), config.row_group_rows as u64),
            _ if spec.text_columns.contains(field.name()) => properties
                .set_column_dictionary_enabled(path(), false)
                .set_column_statistics_enabled(path(), EnabledStatistics::Chunk),
            _ => properties,
        };
    }
    Ok(properties.build())
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> Result<()> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(LakeError::io(path))
}
