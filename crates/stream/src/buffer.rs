//! Rows of one side of a join that wait for those of the other, in memory and on disk.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, interleave, take_record_batch};
use arrow::datatypes::{DataType, SchemaRef, TimestampMicrosecondType};
use datafusion::common::hash_utils::{RandomState, create_hashes};

use crate::bound::{Bound, Side};
use crate::error::Result;
use crate::store::{BufferedKey, Changes, Store};

/// Pairs of rows that are found before they are joined.
const CHUNK_PAIRS: usize = 8 << 10;
/// Buckets of time that the width of a bound covers: more of them expire sooner, fewer are looked
/// into sooner.
const BUCKETS: i64 = 4;
/// Width of the narrowest bucket, in microseconds.
const MIN_WIDTH: i64 = 1_000_000;
/// Size up to which batches of rows are put together.
const MAX_RUN_BYTES: usize = 256 << 20;
/// Rows of a bucket in memory; they have numbers of 32 bits.
const MAX_SEGMENT_ROWS: usize = 1 << 31;
/// What rows take in memory, about, for each byte on disk.
const UNPACKED: usize = 4;
/// The end of a chain of rows.
const NONE: u32 = u32::MAX;

/// Rows of one side of a join, by buckets of time.
///
/// A bucket is dropped as a whole when none of its rows can match any more. It holds the rows of
/// each checkpoint as they were written; a bucket that fits into memory is there as well, with an
/// index by key.
pub(crate) struct Buffer {
    side: Side,
    bound: Bound,
    /// Columns of the rows: values, keys, and the event time.
    schema: SchemaRef,
    keys: Range<usize>,
    /// Width of a bucket in microseconds.
    width: i64,
    buckets: BTreeMap<i64, Bucket>,
    next_sequence: u64,
}

/// Rows of one stretch of time.
#[derive(Default)]
struct Bucket {
    stored: Vec<u64>,
    stored_bytes: usize,
    /// What all rows take in memory, about.
    bytes: usize,
    /// All rows, if they are in memory.
    segment: Option<Segment>,
    /// When rows were added or looked up last, in passes.
    touched: u64,
}

/// Rows of one side that have just come, with what is needed to find their matches.
pub(crate) struct Fresh {
    pub(crate) rows: RecordBatch,
    hashes: Vec<u64>,
    times: Int64Array,
    /// Their places by time.
    order: UInt32Array,
}

/// Rows in memory, indexed by key.
pub(crate) struct Segment {
    schema: SchemaRef,
    keys: Range<usize>,
    /// The rows, in batches of falling size: they are merged as the levels of an LSM tree are,
    /// which leaves the numbers of rows as they are.
    runs: Vec<RecordBatch>,
    /// Number of each batch's first row.
    starts: Vec<usize>,
    index: Index,
    bytes: usize,
}

/// Rows by the hash of their keys: a table of chains.
#[derive(Default)]
struct Index {
    heads: Vec<u32>,
    rows: Vec<Indexed>,
}

struct Indexed {
    hash: u64,
    time: i64,
    next: u32,
}

/// The memory that there is while rows are joined.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    /// For buckets that may stay in it from now on.
    pub(crate) room_bytes: usize,
    /// For rows of others that are looked through at once.
    pub(crate) piece_bytes: usize,
}

/// A bucket in memory, for choosing those that have to leave it.
pub(crate) struct Resident {
    pub(crate) touched: u64,
    pub(crate) bucket: i64,
    pub(crate) bytes: usize,
}

/// Rows that may match: places among the fresh ones, and numbers of those of the segment.
pub(crate) struct Pairs<'a> {
    pub(crate) fresh: UInt32Array,
    pub(crate) segment: &'a Segment,
    pub(crate) found: Vec<u32>,
}

impl Fresh {
    /// `rows` with the columns of a buffer, whose keys stand at `keys`.
    pub(crate) fn of(rows: RecordBatch, keys: &Range<usize>) -> Result<Self> {
        let (hashes, times) = (hash(&rows, keys)?, times(&rows));
        let mut order: Vec<u32> = (0..rows.num_rows() as u32).collect();
        order.sort_unstable_by_key(|at| times.value(*at as usize));
        Ok(Self { hashes, times, order: order.into(), rows })
    }

    fn time(&self, at: u32) -> i64 {
        self.times.value(at as usize)
    }
}

impl Buffer {
    /// What `store` holds of `side`.
    pub(crate) fn load(
        side: Side,
        bound: Bound,
        schema: SchemaRef,
        keys: Range<usize>,
        store: &Store,
    ) -> Result<Self> {
        let width = ((bound.hi - bound.lo) / BUCKETS).max(MIN_WIDTH);
        let mut buckets: BTreeMap<i64, Bucket> = BTreeMap::new();
        let mut next_sequence = 0;
        for (key, bytes) in store.all_buffered()? {
            if key.side == side {
                let bucket = buckets.entry(key.bucket).or_default();
                bucket.stored.push(key.sequence);
                bucket.stored_bytes += bytes;
                bucket.bytes += bytes * UNPACKED;
                next_sequence = next_sequence.max(key.sequence + 1);
            }
        }
        Ok(Self { side, bound, schema, keys, width, buckets, next_sequence })
    }

    /// Adds rows, which `changes` makes durable.
    pub(crate) fn insert(&mut self, fresh: &Fresh, pass: u64, changes: &mut Changes) -> Result<()> {
        let order = fresh.order.values();
        let mut from = 0;
        while from < order.len() {
            let number = fresh.time(order[from]).div_euclid(self.width);
            let is_in = |at: &u32| fresh.time(*at).div_euclid(self.width) == number;
            let count = order[from..].partition_point(is_in);
            let places = fresh.order.slice(from, count);
            let rows = compact(take_record_batch(&fresh.rows, &places)?)?;
            let key = self.key(number, self.next_sequence);
            self.next_sequence += 1;
            let stored = changes.buffer(key, &rows)?;
            let bucket = self.buckets.entry(number).or_default();
            if bucket.stored.is_empty() {
                bucket.segment = Some(Segment::new(&self.schema, &self.keys));
            }
            bucket.stored.push(key.sequence);
            bucket.stored_bytes += stored;
            bucket.touched = pass;
            bucket.add(rows)?;
            from += count;
        }
        Ok(())
    }

    fn key(&self, bucket: i64, sequence: u64) -> BufferedKey {
        BufferedKey { side: self.side, bucket, sequence }
    }

    /// Finds rows that may match `fresh` ones of the other side: those within the bound whose keys
    /// have the same hash.
    pub(crate) fn probe(
        &mut self,
        fresh: &Fresh,
        pass: u64,
        mut memory: Memory,
        store: &Store,
        changes: &mut Changes,
        found: &mut dyn FnMut(Pairs<'_>, &mut Changes) -> Result<()>,
    ) -> Result<()> {
        let order = fresh.order.values();
        let (Some(first), Some(last)) = (order.first(), order.last()) else {
            return Ok(());
        };
        let (width, side, schema, keys) = (self.width, self.side, &self.schema, &self.keys);
        let (from, to) = self.bound.around(side.other());
        let bucket_of = |time: i64, offset| time.saturating_add(offset).div_euclid(width);
        let range = bucket_of(fresh.time(*first), from)..=bucket_of(fresh.time(*last), to);
        for (&number, bucket) in self.buckets.range_mut(range) {
            // Fresh rows that match some row of the bucket's stretch of time.
            let starts = number.saturating_mul(width).saturating_sub(to);
            let ends = (number + 1).saturating_mul(width).saturating_sub(from);
            let among = order.partition_point(|at| fresh.time(*at) < starts)
                ..order.partition_point(|at| fresh.time(*at) < ends);
            if among.is_empty() {
                continue;
            }
            let (among, within) = (&order[among], (from, to));
            bucket.touched = pass;
            if let Some(segment) = &bucket.segment {
                segment.probe(fresh, among, within, changes, found)?;
                continue;
            }
            let stays = bucket.bytes <= memory.room_bytes;
            let mut piece = Segment::new(schema, keys);
            for &sequence in &bucket.stored {
                let key = BufferedKey { side, bucket: number, sequence };
                let rows = match changes.buffered(key) {
                    Some(unwritten) => store.decode(unwritten)?,
                    None => store.buffered(key)?,
                };
                piece.push(rows)?;
                if !stays && piece.bytes >= memory.piece_bytes {
                    piece.probe(fresh, among, within, changes, found)?;
                    piece = Segment::new(schema, keys);
                }
            }
            piece.probe(fresh, among, within, changes, found)?;
            if stays {
                memory.room_bytes = memory.room_bytes.saturating_sub(piece.bytes);
                bucket.bytes = piece.bytes;
                bucket.segment = Some(piece);
            }
        }
        Ok(())
    }

    /// Drops rows that match none which comes while the watermark is at `watermark` or later.
    pub(crate) fn expire(&mut self, watermark: i64, changes: &mut Changes) {
        let before = self.bound.expired_before(self.side, watermark);
        while let Some(first) = self.buckets.first_entry()
            && (first.key() + 1).saturating_mul(self.width) <= before
        {
            let (number, bucket) = first.remove_entry();
            for sequence in bucket.stored {
                changes.unbuffer(self.key(number, sequence));
            }
        }
    }

    /// The buckets that are in memory.
    pub(crate) fn resident(&self) -> impl Iterator<Item = Resident> + '_ {
        self.buckets.iter().filter_map(|(&number, bucket)| {
            let bytes = bucket.segment.as_ref()?.bytes;
            Some(Resident { touched: bucket.touched, bucket: number, bytes })
        })
    }

    /// Leaves a bucket's rows to the disk.
    pub(crate) fn evict(&mut self, bucket: i64) {
        if let Some(bucket) = self.buckets.get_mut(&bucket) {
            bucket.segment = None;
        }
    }

    /// Bytes on disk.
    pub(crate) fn stored_bytes(&self) -> usize {
        self.buckets.values().map(|bucket| bucket.stored_bytes).sum()
    }
}

impl Bucket {
    /// Adds rows to those in memory, if those are all there.
    fn add(&mut self, rows: RecordBatch) -> Result<()> {
        let has_room = |segment: &mut Segment| segment.len() + rows.num_rows() <= MAX_SEGMENT_ROWS;
        match self.segment.take_if(|segment| has_room(segment)) {
            Some(mut segment) => {
                segment.push(rows)?;
                self.bytes = segment.bytes;
                self.segment = Some(segment);
            }
            None => {
                self.segment = None;
                self.bytes += rows.get_array_memory_size();
            }
        }
        Ok(())
    }
}

impl Segment {
    fn new(schema: &SchemaRef, keys: &Range<usize>) -> Self {
        Self {
            schema: Arc::clone(schema),
            keys: keys.clone(),
            runs: vec![],
            starts: vec![],
            index: Index::default(),
            bytes: 0,
        }
    }

    fn len(&self) -> usize {
        self.index.rows.len()
    }

    fn push(&mut self, rows: RecordBatch) -> Result<()> {
        let hashes = hash(&rows, &self.keys)?;
        self.starts.push(self.len());
        self.index.extend(&hashes, times(&rows).values());
        self.runs.push(rows);
        while let [.., before, last] = self.runs.as_slice()
            && before.num_rows() <= 2 * last.num_rows()
            && before.get_array_memory_size() + last.get_array_memory_size() <= MAX_RUN_BYTES
        {
            let merged = concat_batches(&self.schema, [before, last])?;
            self.runs.truncate(self.runs.len() - 2);
            self.runs.push(merged);
            self.starts.pop();
        }
        let runs = self.runs.iter().map(RecordBatch::get_array_memory_size);
        self.bytes = runs.sum::<usize>() + self.index.bytes();
        Ok(())
    }

    /// Finds rows for those `fresh` ones that are `among`, from how much earlier to how much later
    /// is `within`.
    fn probe(
        &self,
        fresh: &Fresh,
        among: &[u32],
        within: (i64, i64),
        changes: &mut Changes,
        found: &mut dyn FnMut(Pairs<'_>, &mut Changes) -> Result<()>,
    ) -> Result<()> {
        if self.runs.is_empty() {
            return Ok(());
        }
        let mut flush = |places: &mut Vec<u32>, numbers: &mut Vec<u32>| {
            let fresh = std::mem::take(places).into();
            let found_rows = std::mem::take(numbers);
            found(Pairs { fresh, segment: self, found: found_rows }, changes)
        };
        let (mut places, mut numbers) = (vec![], vec![]);
        for &at in among {
            let (hash, time) = (fresh.hashes[at as usize], fresh.time(at));
            for number in self.index.get(hash) {
                let apart = self.index.rows[number as usize].time.saturating_sub(time);
                if within.0 <= apart && apart <= within.1 {
                    places.push(at);
                    numbers.push(number);
                    if numbers.len() == CHUNK_PAIRS {
                        flush(&mut places, &mut numbers)?;
                    }
                }
            }
        }
        if numbers.is_empty() {
            return Ok(());
        }
        flush(&mut places, &mut numbers)
    }

    /// Where the rows of these numbers are: in which batch, and where in it.
    pub(crate) fn locate(&self, numbers: &[u32]) -> Vec<(usize, usize)> {
        let locate = |number: &u32| {
            let number = *number as usize;
            let run = self.starts.partition_point(|start| *start <= number) - 1;
            (run, number - self.starts[run])
        };
        numbers.iter().map(locate).collect()
    }

    /// Values of column `n` of the rows that are located there.
    pub(crate) fn column(&self, n: usize, located: &[(usize, usize)]) -> Result<ArrayRef> {
        let columns: Vec<&dyn Array> = self.runs.iter().map(|run| run.column(n).as_ref()).collect();
        Ok(interleave(&columns, located)?)
    }
}

impl Index {
    /// Adds rows behind those that are there.
    fn extend(&mut self, hashes: &[u64], times: &[i64]) {
        let mut from = self.rows.len();
        let unlinked = hashes.iter().zip(times);
        self.rows.extend(unlinked.map(|(&hash, &time)| Indexed { hash, time, next: NONE }));
        if self.rows.len() > self.heads.len() {
            self.heads.clear();
            self.heads.resize(2 * self.rows.len().next_power_of_two(), NONE);
            from = 0;
        }
        let mask = self.heads.len() - 1;
        for (number, row) in self.rows.iter_mut().enumerate().skip(from) {
            let head = &mut self.heads[row.hash as usize & mask];
            row.next = std::mem::replace(head, number as u32);
        }
    }

    /// Numbers of the rows of this hash.
    fn get(&self, hash: u64) -> impl Iterator<Item = u32> + '_ {
        let head = self.heads[hash as usize & (self.heads.len() - 1)];
        let exists = |at: u32| (at != NONE).then_some(at);
        let next = move |at: &u32| exists(self.rows[*at as usize].next);
        std::iter::successors(exists(head), next)
            .filter(move |at| self.rows[*at as usize].hash == hash)
    }

    fn bytes(&self) -> usize {
        self.heads.capacity() * size_of::<u32>() + self.rows.capacity() * size_of::<Indexed>()
    }
}

fn hash(rows: &RecordBatch, keys: &Range<usize>) -> Result<Vec<u64>> {
    let mut hashes = vec![0; rows.num_rows()];
    create_hashes(&rows.columns()[keys.clone()], &RandomState::default(), &mut hashes)?;
    Ok(hashes)
}

/// Event times, which are the last column.
fn times(rows: &RecordBatch) -> Int64Array {
    let times = rows.column(rows.num_columns() - 1);
    times.as_primitive::<TimestampMicrosecondType>().reinterpret_cast()
}

/// `rows` without what their columns have of others: views keep whole buffers alive.
fn compact(rows: RecordBatch) -> Result<RecordBatch> {
    let is_view =
        |column: &ArrayRef| matches!(column.data_type(), DataType::Utf8View | DataType::BinaryView);
    if !rows.columns().iter().any(is_view) {
        return Ok(rows);
    }
    let compact = |column: &ArrayRef| -> ArrayRef {
        match column.data_type() {
            DataType::Utf8View => Arc::new(column.as_string_view().gc()),
            DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
            _ => Arc::clone(column),
        }
    };
    let columns = rows.columns().iter().map(compact).collect();
    Ok(RecordBatch::try_new(rows.schema(), columns)?)
}
