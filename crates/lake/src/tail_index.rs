//! What the log's tail holds, in short, so that queries read only what they need of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use datafusion::common::Result as QueryResult;
use futures::StreamExt;
use futures::stream::select_all;
use parking_lot::Mutex;
use thalweg_log::{Entry, Offset, TopicPartition};
use tokio::sync::watch;

use crate::conform::{batch_bytes, conform};
use crate::snapshot::Offsets;
use crate::table::{Table, stopped};
use crate::tail_pruning::{Summary, TailPruning};

/// Entries of a partition that are summed up; older ones are read by every query. Bounds the
/// memory of a tail that the writer does not keep up with.
const MAX_ENTRIES: usize = 16 * 1024;

/// Summaries of the log's entries that are not in the table yet.
///
/// What it does not know, because it has not seen it or forgotten it, queries read.
#[derive(Default)]
pub(crate) struct TailIndex {
    partitions: Mutex<BTreeMap<TopicPartition, VecDeque<Indexed>>>,
}

#[derive(Clone)]
struct Indexed {
    offset: Offset,
    next_offset: Offset,
    bytes: usize,
    summary: Arc<Summary>,
}

/// Offsets to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) from: Offset,
    pub(crate) end: Offset,
    /// Memory that its rows take, where it is known.
    pub(crate) bytes: Option<usize>,
}

impl TailIndex {
    fn push(&self, at: TopicPartition, indexed: Indexed) {
        let mut partitions = self.partitions.lock();
        let entries = partitions.entry(at).or_default();
        if entries.len() >= MAX_ENTRIES {
            entries.pop_front();
        }
        entries.push_back(indexed);
    }

    /// Forgets what the table covers.
    pub(crate) fn release(&self, covered: &Offsets) {
        let mut partitions = self.partitions.lock();
        for (at, entries) in partitions.iter_mut() {
            let covered = covered.get(at).copied().unwrap_or(0);
            while entries.front().is_some_and(|oldest| oldest.next_offset <= covered) {
                entries.pop_front();
            }
        }
    }

    /// The parts of `from..end` that may hold what `pruning` looks for, in order.
    pub(crate) fn ranges(
        &self,
        at: &TopicPartition,
        (from, end): (Offset, Offset),
        pruning: &TailPruning,
    ) -> QueryResult<Vec<Range>> {
        let known: Vec<Indexed> = {
            let partitions = self.partitions.lock();
            let entries = partitions.get(at).into_iter().flatten();
            entries.filter(|e| e.next_offset > from && e.offset < end).cloned().collect()
        };
        let summaries: Vec<_> = known.iter().map(|e| Arc::clone(&e.summary)).collect();
        let kept = pruning.may_hold(&summaries)?;
        let mut ranges = Ranges(vec![]);
        let mut next = from;
        for (entry, kept) in known.iter().zip(kept) {
            ranges.push(next, entry.offset, None);
            if kept {
                ranges.push(entry.offset.max(from), entry.next_offset.min(end), Some(entry.bytes));
            }
            next = entry.next_offset;
        }
        ranges.push(next, end, None);
        Ok(ranges.0)
    }
}

struct Ranges(Vec<Range>);

impl Ranges {
    /// Adds `from..end`, if there is anything in it, to the range before if that ends there.
    fn push(&mut self, from: Offset, end: Offset, bytes: Option<usize>) {
        if from >= end {
            return;
        }
        match self.0.last_mut() {
            Some(last) if last.end == from => {
                last.end = end;
                last.bytes = last.bytes.zip(bytes).map(|(before, more)| before + more);
            }
            _ => self.0.push(Range { from, end, bytes }),
        }
    }
}

/// Sums up what is appended to the table's topics from now on, until `stop` says so.
pub(crate) async fn run(table: Arc<Table>, mut stop: watch::Receiver<bool>) {
    let mut entries = select_all(table.snapshots.current().offsets.keys().filter_map(|at| {
        let end = table.log.offsets(at.clone()).ok()?.end;
        let place = at.clone();
        let entries = table.log.tail(at.clone(), end);
        Some(entries.map(move |entry| (place.clone(), entry)).boxed())
    }));
    loop {
        tokio::select! {
            () = stopped(&mut stop) => return,
            // After an error its partition is read by every query: slower, but right.
            entry = entries.next() => match entry {
                Some((at, Ok(entry))) => table.tail_index.see(&table, at, entry),
                Some((at, Err(error))) => tracing::warn!(%at, %error, "tail is not summed up"),
                None => return,
            },
        }
    }
}

impl TailIndex {
    fn see(&self, table: &Table, at: TopicPartition, entry: Entry) {
        let Entry { offset, next_offset, batch, .. } = entry;
        // What does not fit the table is left to be found out again by whoever reads it.
        if let Ok(batch) = conform(batch, &table.spec.schema) {
            let (bytes, summary) = (batch_bytes(&batch), Summary::of(&table.spec, &batch));
            self.push(at, Indexed { offset, next_offset, bytes, summary: Arc::new(summary) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::TableSpec;
    use crate::tail_pruning::tests::{batch, pruning};

    fn at() -> TopicPartition {
        TopicPartition::new("logs.routine", 0)
    }

    /// Entries of ten offsets each, from 100 on, with rows of these services.
    fn index(services: &[&str]) -> TailIndex {
        let (index, spec) = (TailIndex::default(), TableSpec::logs());
        for (number, service) in services.iter().enumerate() {
            let offset = 100 + 10 * number as u64;
            let summary = Arc::new(Summary::of(&spec, &batch(&spec, 0, &[service])));
            index.push(at(), Indexed { offset, next_offset: offset + 10, bytes: 7, summary });
        }
        index
    }

    fn ranges(index: &TailIndex, range: (Offset, Offset)) -> Vec<(Offset, Offset, Option<usize>)> {
        let ranges = index.ranges(&at(), range, &pruning("b")).unwrap();
        ranges.into_iter().map(|range| (range.from, range.end, range.bytes)).collect()
    }

    #[test]
    fn what_cannot_hold_the_rows_is_passed_over() {
        let index = index(&["a", "b", "b", "c", "b"]);
        let found = ranges(&index, (100, 150));
        assert_eq!(found, [(110, 130, Some(14)), (140, 150, Some(7))]);
    }

    #[test]
    fn what_is_not_known_is_read() {
        let index = index(&["a", "b", "a"]);
        assert_eq!(
            ranges(&index, (90, 150)),
            [(90, 100, None), (110, 120, Some(7)), (130, 150, None)]
        );
        assert_eq!(ranges(&TailIndex::default(), (90, 150)), [(90, 150, None)]);
        index.release(&Offsets::from([(at(), 120)]));
        assert_eq!(ranges(&index, (100, 130)), [(100, 120, None)]);
    }

    #[test]
    fn an_entry_is_read_from_where_the_table_ends() {
        assert_eq!(ranges(&index(&["b"]), (105, 108)), [(105, 108, Some(7))]);
        assert_eq!(ranges(&index(&["b"]), (110, 110)), []);
    }
}
