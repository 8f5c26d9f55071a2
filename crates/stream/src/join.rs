//! Joining two streams within a time bound.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::kernels::cmp::eq;
use arrow::compute::{and, cast, concat_batches, filter, take};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType, UInt32Type};
use thalweg_event::schema::timestamp_type;

use crate::bound::Side;
use crate::buffer::{Buffer, Fresh, Memory, Pairs};
use crate::error::Result;
use crate::plan::{JoinPlan, Plan};
use crate::rows::keep;
use crate::store::{Changes, Store};
use crate::stream::Stream;

/// Rows of one side that are joined at once, at most about.
const MAX_PENDING_ROWS: usize = 16 << 20;

/// Memory for rows on disk that are looked through at once, at most about.
const PIECE_BYTES: usize = 16 << 20;

/// The rows of two streams that wait for each other.
///
/// Rows are gathered as they come, and joined with each other and with those before them once a
/// checkpoint is made: each pair is found when the later of its rows is joined.
///
/// A row is late when it is older than the watermark. All others are at the watermark or later, so
/// that a row is kept until those that it may match are older than that; and what is found is not
/// older than the watermark less the time that the bound allows between a row and an earlier one
/// whose time tells the window. Windows are closed up to there.
pub(crate) struct Join {
    plan: Arc<JoinPlan>,
    streams: Vec<Arc<Stream>>,
    /// Rows of each side that were not joined yet.
    pending: [Vec<RecordBatch>; 2],
    pending_bytes: usize,
    pending_rows: usize,
    buffers: [Buffer; 2],
    /// How often rows were joined.
    pass: u64,
    /// Memory for the buffers.
    budget_bytes: usize,
}

/// What was not taken of a batch.
#[derive(Default)]
pub(crate) struct Refused {
    /// Rows that came too late, behind the times when they happened.
    pub(crate) late: Option<(Int64Array, RecordBatch)>,
    /// Rows without an event time.
    pub(crate) timeless: usize,
}

impl Join {
    /// The join of `plan`, if it has one, with the rows that `store` holds.
    pub(crate) fn load(plan: &Plan, store: &Store, budget_bytes: usize) -> Result<Option<Self>> {
        let Some(join) = &plan.join else {
            return Ok(None);
        };
        let buffer = |side| {
            let of = join.side(side);
            Buffer::load(side, join.bound, Arc::clone(&of.schema), of.keys(), store)
        };
        Ok(Some(Self {
            plan: Arc::clone(join),
            streams: plan.streams.clone(),
            pending: [vec![], vec![]],
            pending_bytes: 0,
            pending_rows: 0,
            buffers: [buffer(Side::Left)?, buffer(Side::Right)?],
            pass: 0,
            budget_bytes,
        }))
    }

    /// Gathers the rows of the stream at `source` that are not late.
    pub(crate) fn take(
        &mut self,
        source: usize,
        batch: &RecordBatch,
        watermark: i64,
    ) -> Result<Refused> {
        let stream = Arc::clone(&self.streams[source]);
        let times = event_times(&stream, batch)?;
        let mut refused = Refused { late: None, timeless: times.null_count() };
        let mut rows = batch.clone();
        let is_in_time = |time: Option<i64>| time.is_some_and(|time| time >= watermark);
        if !times.iter().all(is_in_time) {
            let mask: BooleanArray = times.iter().map(|time| Some(is_in_time(time))).collect();
            rows = keep(batch, &mask)?;
            let is_late = |time: Option<i64>| Some(time.is_some_and(|time| time < watermark));
            let late = keep(batch, &times.iter().map(is_late).collect())?;
            refused.late = self.late(source, &late)?;
        }
        for (side, pending) in self.plan.sides.iter().zip(&mut self.pending) {
            if side.source != source {
                continue;
            }
            let rows = side.input(&stream, &rows)?;
            if rows.num_rows() > 0 {
                self.pending_bytes += rows.get_array_memory_size();
                self.pending_rows += rows.num_rows();
                pending.push(rows);
            }
        }
        Ok(refused)
    }

    /// Those of late rows that some side would have taken, each once.
    fn late(&self, source: usize, rows: &RecordBatch) -> Result<Option<(Int64Array, RecordBatch)>> {
        let stream = &self.streams[source];
        let mut is_read = vec![false; rows.num_rows()];
        for side in self.plan.sides.iter().filter(|side| side.source == source) {
            for place in side.places(stream, rows)?.values() {
                is_read[*place as usize] = true;
            }
        }
        let late = keep(rows, &is_read.into())?;
        if late.num_rows() == 0 {
            return Ok(None);
        }
        let times = event_times(stream, &late)?;
        let columns: Vec<usize> = self.plan.columns(source).into_iter().collect();
        Ok(Some((times, stream.columns(&late, &columns)?)))
    }

    /// Memory for rows that were not joined yet.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Whether there are as many of them as are joined at once.
    pub(crate) fn is_full(&self) -> bool {
        self.pending_rows >= MAX_PENDING_ROWS
    }

    /// Joins the rows gathered since the last time. What is found goes to `emit`, some thousand
    /// rows at a time.
    pub(crate) fn join(
        &mut self,
        store: &Store,
        changes: &mut Changes,
        emit: &mut dyn FnMut(RecordBatch, &mut Changes) -> Result<()>,
    ) -> Result<()> {
        self.pass += 1;
        (self.pending_bytes, self.pending_rows) = (0, 0);
        // The left ones meet the right ones of before, and then the right ones all left ones: each
        // pair meets once.
        for side in Side::BOTH {
            let pending = std::mem::take(&mut self.pending[side as usize]);
            if pending.is_empty() {
                continue;
            }
            let (plan, of) = (Arc::clone(&self.plan), self.plan.side(side));
            let rows = concat_batches(&of.schema, &pending)?;
            drop(pending);
            let fresh = Fresh::of(rows, &of.keys())?;
            let memory = Memory {
                room_bytes: self.budget_bytes.saturating_sub(self.resident_bytes()),
                piece_bytes: self.budget_bytes.min(PIECE_BYTES),
            };
            let mut found = |pairs: Pairs<'_>, changes: &mut Changes| {
                let rows = joined(&plan, side, &fresh.rows, pairs)?;
                if rows.num_rows() > 0 { emit(rows, changes) } else { Ok(()) }
            };
            let others = &mut self.buffers[side.other() as usize];
            others.probe(&fresh, self.pass, memory, store, changes, &mut found)?;
            self.buffers[side as usize].insert(&fresh, self.pass, changes)?;
        }
        self.shrink();
        Ok(())
    }

    /// Leaves to the disk what does not fit: what was not used for longest, of that the oldest.
    fn shrink(&mut self) {
        let mut bytes = self.resident_bytes();
        if bytes <= self.budget_bytes {
            return;
        }
        let of = |side: Side| self.buffers[side as usize].resident().map(move |of| (side, of));
        let mut resident: Vec<_> = Side::BOTH.into_iter().flat_map(of).collect();
        resident.sort_unstable_by_key(|(side, of)| (of.touched, of.bucket, *side));
        for (side, of) in resident {
            if bytes <= self.budget_bytes {
                return;
            }
            bytes -= of.bytes;
            self.buffers[side as usize].evict(of.bucket);
        }
    }

    /// Drops rows that match none which is yet to come.
    pub(crate) fn expire(&mut self, watermark: i64, changes: &mut Changes) {
        for buffer in &mut self.buffers {
            buffer.expire(watermark, changes);
        }
    }

    /// Bytes of rows in memory.
    pub(crate) fn resident_bytes(&self) -> usize {
        self.buffers.iter().flat_map(Buffer::resident).map(|of| of.bytes).sum()
    }

    /// Bytes of rows on disk.
    pub(crate) fn stored_bytes(&self) -> usize {
        self.buffers.iter().map(Buffer::stored_bytes).sum()
    }
}

/// The rows of `side` that are joined with those that were found for them, where their keys are
/// equal.
fn joined(
    plan: &JoinPlan,
    side: Side,
    fresh: &RecordBatch,
    pairs: Pairs<'_>,
) -> Result<RecordBatch> {
    let Pairs { fresh: places, segment, found } = pairs;
    let mut places = places;
    let mut located = segment.locate(&found);
    let mut equal: Option<BooleanArray> = None;
    for (own, other) in plan.side(side).keys().zip(plan.side(side.other()).keys()) {
        let keys = take(fresh.column(own), &places, None)?;
        let same = eq(&keys, &segment.column(other, &located)?)?;
        equal = Some(match equal {
            Some(equal) => and(&equal, &same)?,
            None => same,
        });
    }
    // Different keys seldom have the same hash.
    if let Some(equal) = equal
        && equal.true_count() < equal.len()
    {
        places = filter(&places, &equal)?.as_primitive::<UInt32Type>().clone();
        let mut is_equal = equal.values().iter();
        located.retain(|_| is_equal.next() == Some(true));
    }
    let column = |of: Side, n: usize| match of == side {
        true => Ok(take(fresh.column(n), &places, None)?),
        false => segment.column(n, &located),
    };
    let mut columns: Vec<ArrayRef> = vec![];
    for of in Side::BOTH {
        for n in 0..plan.side(of).values() {
            columns.push(column(of, n)?);
        }
    }
    let time = plan.side(plan.timed).schema.fields().len() - 1;
    columns.push(column(plan.timed, time)?);
    Ok(RecordBatch::try_new(Arc::clone(&plan.joined), columns)?)
}

/// Event times of a stream's rows, in microseconds.
fn event_times(stream: &Stream, rows: &RecordBatch) -> Result<Int64Array> {
    let place = stream.schema.index_of(&stream.time_column)?;
    let times = stream.columns(rows, &[place])?;
    let times = cast(times.column(0), &timestamp_type())?;
    Ok(times.as_primitive::<TimestampMicrosecondType>().reinterpret_cast::<Int64Type>())
}
