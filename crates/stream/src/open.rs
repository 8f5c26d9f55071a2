//! Windows that are still open: their partial states, in memory and on disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::compute::{
    SortOptions, concat_batches, filter_record_batch, not, partition, sort_to_indices,
    take_record_batch,
};
use arrow::datatypes::Int64Type;

use crate::aggregation::{Aggregation, Groups, Results};
use crate::error::Result;
use crate::store::{Changes, PartialKey, Pinned, Store};
use crate::window::Window;

/// All sessions share one place, for two of them may yet become one.
const SESSIONS: i64 = 0;
/// Sessions are closed when the first of them has been over for this part of the gap: each time,
/// the states of all are read and those that go on are written anew.
const SESSIONS_OVER: i64 = 4;

/// The partial states of open windows.
///
/// A checkpoint adds one partial state to each window that got rows. Like the levels of an LSM
/// tree, states of similar size are merged, so that a window has `O(log n)` of them and each group
/// is merged `O(log n)` times.
pub(crate) struct OpenWindows {
    aggregation: Arc<Aggregation>,
    windows: BTreeMap<i64, Vec<Partial>>,
    next_sequence: u64,
    resident_bytes: usize,
    /// Memory for partial states.
    budget_bytes: usize,
    /// No session ends before this.
    earliest_end: i64,
}

/// A partial state.
#[derive(Clone)]
struct Partial {
    key: PartialKey,
    bytes: usize,
    /// The state, if it is held in memory too.
    resident: Option<RecordBatch>,
}

impl OpenWindows {
    /// The windows that `store` holds.
    pub(crate) fn load(
        aggregation: Arc<Aggregation>,
        store: &Store,
        next_sequence: u64,
        budget_bytes: usize,
    ) -> Result<Self> {
        let mut windows: BTreeMap<i64, Vec<Partial>> = BTreeMap::new();
        for (key, bytes) in store.partials()? {
            windows.entry(key.window).or_default().push(Partial { key, bytes, resident: None });
        }
        Ok(Self {
            aggregation,
            windows,
            next_sequence,
            resident_bytes: 0,
            budget_bytes,
            earliest_end: i64::MIN,
        })
    }

    pub(crate) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Bytes of all partial states, as stored.
    pub(crate) fn bytes(&self) -> usize {
        self.windows.values().flatten().map(|partial| partial.bytes).sum()
    }

    pub(crate) fn len(&self) -> usize {
        self.windows.len()
    }

    /// Adds what was gathered since the last checkpoint.
    pub(crate) fn add(
        &mut self,
        gathered: RecordBatch,
        store: &Store,
        changes: &mut Changes,
    ) -> Result<()> {
        for (window, partial) in self.split(gathered)? {
            self.push(window, partial, changes)?;
            self.merge_similar(window, store, changes)?;
        }
        Ok(())
    }

    /// `gathered` by window.
    fn split(&mut self, gathered: RecordBatch) -> Result<Vec<(i64, RecordBatch)>> {
        if let Window::Session { .. } = self.aggregation.window() {
            let lasts = gathered.column(1).as_primitive::<Int64Type>();
            let first_end =
                lasts.values().iter().map(|last| self.aggregation.window().end(0, *last));
            self.earliest_end = self.earliest_end.min(first_end.min().unwrap_or(i64::MAX));
            return Ok(vec![(SESSIONS, gathered)]);
        }
        let starts = gathered.column(0).as_primitive::<Int64Type>();
        let values = starts.values();
        let sorted = match values.windows(2).all(|pair| pair[0] <= pair[1]) {
            true => gathered,
            false => {
                let order =
                    sort_to_indices(gathered.column(0), Some(SortOptions::default()), None)?;
                take_record_batch(&gathered, &order)?
            }
        };
        let starts = sorted.column(0).as_primitive::<Int64Type>();
        let ranges = partition(&sorted.columns()[..1])?.ranges();
        let slice = |range: std::ops::Range<usize>| {
            (starts.value(range.start), sorted.slice(range.start, range.len()))
        };
        Ok(ranges.into_iter().map(slice).collect())
    }

    fn push(&mut self, window: i64, partial: RecordBatch, changes: &mut Changes) -> Result<()> {
        let key = PartialKey { window, sequence: self.next_sequence };
        self.next_sequence += 1;
        let bytes = changes.put(key, &partial)?;
        let fits = self.resident_bytes + bytes <= self.budget_bytes;
        self.resident_bytes += if fits { bytes } else { 0 };
        let resident = fits.then_some(partial);
        self.windows.entry(window).or_default().push(Partial { key, bytes, resident });
        Ok(())
    }

    /// Merges the newest partial states of a window until each is more than twice as large as the
    /// next.
    fn merge_similar(&mut self, window: i64, store: &Store, changes: &mut Changes) -> Result<()> {
        let Some(partials) = self.windows.get(&window) else {
            return Ok(());
        };
        let mut from = partials.len();
        let mut bytes = 0;
        for (n, partial) in partials.iter().enumerate().rev() {
            if from < partials.len() && partial.bytes > 2 * bytes {
                break;
            }
            bytes += partial.bytes;
            from = n;
        }
        if partials.len() - from < 2 {
            return Ok(());
        }
        let similar = self.windows.get_mut(&window).map(|all| all.split_off(from));
        let merged = self.merge(similar.unwrap_or_default(), store, changes)?.into_partial()?;
        self.push(window, merged, changes)
    }

    /// Merges partial states, which are forgotten.
    fn merge(
        &mut self,
        partials: Vec<Partial>,
        store: &Store,
        changes: &mut Changes,
    ) -> Result<Groups> {
        let mut states = vec![];
        for partial in partials {
            // What is neither in memory nor written yet is among the changes.
            let unwritten = changes.remove(partial.key);
            self.resident_bytes -= if partial.resident.is_some() { partial.bytes } else { 0 };
            states.push(match (partial.resident, unwritten) {
                (Some(state), _) => state,
                (None, Some(bytes)) => store.decode(&bytes)?,
                (None, None) => store.partial(partial.key)?,
            });
        }
        merge(&self.aggregation, states.into_iter().map(Ok))
    }

    /// Results of some windows that the watermark closes, the earliest first, which are forgotten;
    /// at least one window's if there is any, and further ones up to about `rows` rows.
    pub(crate) fn close(
        &mut self,
        watermark: i64,
        rows: usize,
        store: &Store,
        changes: &mut Changes,
    ) -> Result<Vec<Results>> {
        let window = self.aggregation.window();
        if let Window::Session { gap } = window {
            let is_due = watermark >= self.earliest_end.saturating_add(gap / SESSIONS_OVER);
            return if is_due {
                self.close_sessions(watermark, store, changes)
            } else {
                Ok(vec![])
            };
        }
        let mut closed = vec![];
        let mut found = 0;
        while found < rows
            && let Some(first) = self.windows.first_entry()
            && window.end(*first.key(), 0) <= watermark
        {
            let partials = first.remove();
            let results = self.merge(partials, store, changes)?.into_results()?;
            found += results.starts.len();
            closed.push(results);
        }
        Ok(closed)
    }

    fn close_sessions(
        &mut self,
        watermark: i64,
        store: &Store,
        changes: &mut Changes,
    ) -> Result<Vec<Results>> {
        self.earliest_end = i64::MAX;
        let partials = self.windows.remove(&SESSIONS).unwrap_or_default();
        if partials.is_empty() {
            return Ok(vec![]);
        }
        let sessions = self.merge(partials, store, changes)?.into_partial()?;
        let lasts = sessions.column(1).as_primitive::<Int64Type>();
        let window = self.aggregation.window();
        let ends: Int64Array = lasts.unary(|last| window.end(0, last));
        let is_over = ends.values().iter().map(|end| *end <= watermark).collect::<Vec<_>>().into();
        let over = filter_record_batch(&sessions, &is_over)?;
        let going_on = filter_record_batch(&sessions, &not(&is_over)?)?;
        if going_on.num_rows() > 0 {
            self.add(going_on, store, changes)?;
        }
        if over.num_rows() == 0 {
            return Ok(vec![]);
        }
        let mut groups = self.aggregation.groups()?;
        groups.merge(&over)?;
        Ok(vec![groups.into_results()?])
    }

    /// All windows that end at or before this are closed, when the watermark is at `watermark`.
    pub(crate) fn closed_until(&self, watermark: i64) -> i64 {
        let window = self.aggregation.window();
        let first_end = match window {
            Window::Session { .. } => Some(self.earliest_end),
            _ => self.windows.keys().next().map(|start| window.end(*start, 0)),
        };
        // Closing goes on in later checkpoints when much is to be closed.
        first_end.map_or(watermark, |end| watermark.min(end.saturating_sub(1)))
    }

    /// The open windows as they are now.
    pub(crate) fn snapshot(&self, store: &Store) -> Open {
        Open {
            aggregation: Arc::clone(&self.aggregation),
            windows: self.windows.values().cloned().collect(),
            stored: store.pin(),
        }
    }
}

/// The open windows as they were after some checkpoint.
pub(crate) struct Open {
    aggregation: Arc<Aggregation>,
    windows: Vec<Vec<Partial>>,
    stored: Pinned,
}

impl Open {
    /// Results so far, a batch a window.
    pub(crate) fn results(&self) -> Result<Vec<Results>> {
        let state = |partial: &Partial| match &partial.resident {
            Some(state) => Ok(state.clone()),
            None => self.stored.partial(partial.key),
        };
        let results = |partials: &Vec<Partial>| {
            Ok(merge(&self.aggregation, partials.iter().map(state))?.into_results()?)
        };
        self.windows.iter().map(results).collect()
    }
}

fn merge(
    aggregation: &Arc<Aggregation>,
    states: impl Iterator<Item = Result<RecordBatch>>,
) -> Result<Groups> {
    let mut groups = aggregation.groups()?;
    if let Window::Session { .. } = aggregation.window() {
        // Stretches of all states must be seen together to tell which are one session.
        let states = states.collect::<Result<Vec<_>>>()?;
        groups.merge(&concat_batches(aggregation.partial_schema(), &states)?)?;
        return Ok(groups);
    }
    for state in states {
        groups.merge(&state?)?;
    }
    Ok(groups)
}
