//! One view: what becomes of entries of the log, a checkpoint at a time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use thalweg_log::{Entry, Log, Offset, TopicPartition};

use crate::aggregation::Groups;
use crate::config::{Late, StreamConfig, ViewOptions};
use crate::error::{Result, StreamError};
use crate::join::Join;
use crate::late::{LATE_EVENTS, count_of, late_rows, view_of};
use crate::meters::Meters;
use crate::open::{Open, OpenWindows};
use crate::plan::Plan;
use crate::store::{Changes, Checkpoint, Outbox, Store};
use crate::task::ranges;
use crate::watermark::{BEGINNING, Now, Watermark};

/// Rows of closed windows that one checkpoint emits, about.
const CLOSE_ROWS: usize = 256 << 10;
/// Rows that are appended to a topic at once.
const APPEND_ROWS: usize = 64 << 10;
/// Pause between two notes to the log of how far a view has read.
const RELEASE_EVERY: Duration = Duration::from_secs(5);
/// Memory for entries that are looked through for rows delivered before a crash.
const REREAD_BYTES: usize = 8 << 20;

/// What a view is made of.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) name: String,
    /// Topic of its rows.
    pub(crate) topic: String,
    pub(crate) plan: Arc<Plan>,
    pub(crate) options: ViewOptions,
    pub(crate) log: Arc<dyn Log>,
    /// Event time, in microseconds, before which rows are none of the view's.
    pub(crate) since: Option<i64>,
    /// Whether another version of the view answers.
    pub(crate) is_beside: Arc<AtomicBool>,
}

impl Made {
    /// What late events and metrics call the view. A version beside the one that answers has a name
    /// of its own: whether late events were delivered is told by the name.
    fn label(&self) -> String {
        match self.is_beside.load(Ordering::Acquire) {
            true => format!("{} (replay)", self.name),
            false => self.name.clone(),
        }
    }
}

/// A view being maintained.
///
/// Every result is the outcome of [`View::take`] for the entries up to some offsets, and
/// [`View::checkpoint`] makes both durable at once. [`View::deliver`] then appends to topics what
/// the checkpoint says; after a crash it finds out how much of that was done before.
pub(crate) struct View {
    made: Made,
    store: Arc<Store>,
    config: StreamConfig,
    watermark: Watermark,
    cursors: BTreeMap<TopicPartition, Offset>,
    /// Rows that wait to be joined, if the view joins two streams.
    join: Option<Join>,
    groups: Groups,
    open: OpenWindows,
    late: Vec<RecordBatch>,
    /// The checkpoint whose rows are not delivered yet.
    undelivered: Option<Checkpoint>,
    /// Whether rows of `undelivered` may have been appended before a crash.
    is_resumed: bool,
    /// Whether anything came since the last checkpoint.
    is_changed: bool,
    /// When the log was told last how far the view has read.
    released: Option<Instant>,
    /// When queries were last shown the open windows.
    refreshed: Option<Instant>,
    label: String,
    meters: Meters,
}

/// A view's open windows after a checkpoint, and where its closed ones end.
pub(crate) struct Published {
    /// Windows that end at or before this are closed, and their rows delivered.
    pub(crate) closed_until: i64,
    pub(crate) open: Open,
}

impl fmt::Debug for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Published")
            .field("closed_until", &self.closed_until)
            .finish_non_exhaustive()
    }
}

impl View {
    /// Takes up a view where its last checkpoint left it; `None` when it has none, and has to be
    /// begun.
    pub(crate) fn resume(
        made: Made,
        store: Arc<Store>,
        config: StreamConfig,
        now: Now,
    ) -> Result<Option<Self>> {
        let Some(checkpoint) = store.checkpoint()? else {
            return Ok(None);
        };
        let (read, sequence) = (checkpoint.cursors(), checkpoint.next_sequence);
        let ranges = ranges(made.log.as_ref(), &made.plan.topics())?.into_iter();
        // A partition that the streams have got since is read from its beginning; one that they have
        // no more, not at all.
        let cursors = ranges.map(|(at, range)| {
            let cursor = read.get(&at).copied().unwrap_or(range.start);
            (at, cursor)
        });
        let cursors = cursors.collect();
        let mut view = Self::new(made, store, config, cursors, sequence, now)?;
        view.watermark.resume(&checkpoint.reached);
        if checkpoint.outbox.is_some() {
            view.undelivered = Some(checkpoint);
            view.is_resumed = true;
        }
        Ok(Some(view))
    }

    /// Begins a view that reads its streams from `cursors` on.
    pub(crate) fn begin(
        made: Made,
        store: Arc<Store>,
        config: StreamConfig,
        cursors: BTreeMap<TopicPartition, Offset>,
        now: Now,
    ) -> Result<Self> {
        // An attempt before this one may have been cut off.
        store.clear()?;
        let mut view = Self::new(made, store, config, cursors, 0, now)?;
        // Even without a row, its first checkpoint says where it began.
        view.is_changed = true;
        Ok(view)
    }

    fn new(
        made: Made,
        store: Arc<Store>,
        config: StreamConfig,
        cursors: BTreeMap<TopicPartition, Offset>,
        sequence: u64,
        now: Now,
    ) -> Result<Self> {
        let aggregation = &made.plan.aggregation;
        let resident = config.resident_bytes;
        let open = OpenWindows::load(Arc::clone(aggregation), &store, sequence, resident)?;
        let lateness = Duration::from_secs(made.options.lateness_secs);
        let idle = Duration::from_secs(made.options.idle_secs);
        let watermark = Watermark::new(cursors.keys().cloned(), lateness, idle, now.instant);
        Ok(Self {
            join: Join::load(&made.plan, &store, config.join_bytes)?,
            groups: aggregation.groups()?,
            meters: Meters::new(&made.label()),
            label: made.label(),
            watermark,
            cursors,
            open,
            late: vec![],
            undelivered: None,
            is_resumed: false,
            is_changed: false,
            released: None,
            refreshed: None,
            made,
            store,
            config,
        })
    }

    /// Where to read on.
    pub(crate) fn cursors(&self) -> &BTreeMap<TopicPartition, Offset> {
        &self.cursors
    }

    /// Takes rows of the history of the stream at `source`, for which no watermark holds.
    pub(crate) fn take_history(
        &mut self,
        source: usize,
        rows: &RecordBatch,
        now: Now,
    ) -> Result<()> {
        let newest = self.gather(source, rows, BEGINNING)?;
        self.watermark.observe_history(newest, now);
        if self.is_full() {
            let mut changes = Changes::default();
            self.keep_gathered(&mut changes)?;
            self.store.write(None, changes, &[], &[])?;
        }
        Ok(())
    }

    /// Takes the rows of an entry that were not read yet.
    pub(crate) fn take(&mut self, at: &TopicPartition, entry: &Entry, now: Now) -> Result<()> {
        let cursor = self.cursors.get(at).copied().unwrap_or(0);
        if entry.next_offset <= cursor {
            return Ok(());
        }
        let watermark = self.watermark.advance(now.instant);
        let source = self.made.plan.source(&at.topic);
        let rows = entry.after(cursor);
        // Offsets without rows are no sign of life.
        if rows.num_rows() > 0 {
            let newest = self.gather(source, &rows, watermark)?;
            self.watermark.observe(at, newest, now);
        }
        self.cursors.insert(at.clone(), entry.next_offset);
        self.is_changed = true;
        Ok(())
    }

    /// Adds rows to groups, or to those that wait to be joined; answers the newest event time among
    /// them.
    fn gather(&mut self, source: usize, rows: &RecordBatch, watermark: i64) -> Result<i64> {
        let plan = &self.made.plan;
        let newest = plan.streams[source].newest(rows);
        let rows = &match self.made.since {
            Some(since) => plan.streams[source].since(rows, since)?,
            None => rows.clone(),
        };
        let (late, timeless) = match &mut self.join {
            None => {
                let input = plan.input(rows, watermark)?;
                if input.rows.num_rows() > 0 {
                    self.groups.update(&input.rows, &input.times)?;
                }
                let late = match input.late {
                    Some(late) => Some((plan.times(&late)?, late)),
                    None => None,
                };
                (late, input.timeless)
            }
            Some(join) => {
                let refused = join.take(source, rows, watermark)?;
                (refused.late, refused.timeless)
            }
        };
        self.meters.rows(rows.num_rows(), timeless);
        if let Some((times, late)) = &late {
            self.meters.late(late.num_rows());
            if self.made.options.late == Late::Keep {
                self.late.push(late_rows(&self.label, late, times, watermark)?);
            }
        }
        Ok(newest)
    }

    /// Notes which partitions have been read to their end.
    pub(crate) fn note_ends(&mut self) -> Result<()> {
        for (at, cursor) in &self.cursors {
            let log = &self.made.log;
            // Rows that are still on their way are not to find their windows closed. Where another
            // process has read further than this one has heard of, more may have come since.
            let is_at_end =
                log.offsets(at.clone())?.end == *cursor && !log.awaits_more(at.clone())?;
            self.watermark.set_at_end(at, is_at_end);
        }
        Ok(())
    }

    /// Whether so much has been gathered that a checkpoint is due.
    pub(crate) fn is_full(&self) -> bool {
        let late: usize = self.late.iter().map(RecordBatch::get_array_memory_size).sum();
        let pending = self.join.as_ref().map_or(0, Join::pending_bytes);
        self.groups.size() + late + pending >= self.config.gather_bytes
            || self.join.as_ref().is_some_and(Join::is_full)
    }

    fn keep_gathered(&mut self, changes: &mut Changes) -> Result<()> {
        if let Some(mut join) = self.join.take() {
            let store = Arc::clone(&self.store);
            let mut emit = |rows, changes: &mut Changes| self.gather_joined(rows, changes);
            // After a fault the view is taken up from its last checkpoint, so that the rest of what
            // was gathered, which is gone, is read again.
            join.join(&store, changes, &mut emit)?;
            self.join = Some(join);
        }
        self.keep_groups(changes)
    }

    /// Adds rows that were joined to groups.
    fn gather_joined(&mut self, rows: RecordBatch, changes: &mut Changes) -> Result<()> {
        let plan = &self.made.plan;
        let input = plan.joined(rows)?;
        if input.rows.num_rows() > 0 {
            self.groups.update(&input.rows, &input.times)?;
        }
        match self.groups.size() >= self.config.gather_bytes {
            true => self.keep_groups(changes),
            false => Ok(()),
        }
    }

    fn keep_groups(&mut self, changes: &mut Changes) -> Result<()> {
        if self.groups.is_empty() {
            return Ok(());
        }
        let fresh = self.made.plan.aggregation.groups()?;
        let gathered = std::mem::replace(&mut self.groups, fresh).into_partial()?;
        self.open.add(gathered, &self.store, changes)
    }

    /// Makes durable what was taken, and what it completes.
    ///
    /// Rows of the checkpoint before must have been delivered.
    pub(crate) fn checkpoint(&mut self, now: Now) -> Result<()> {
        assert!(self.undelivered.is_none(), "a checkpoint's rows are delivered before the next");
        let watermark = self.watermark.advance(now.instant);
        let mut changes = Changes::default();
        self.keep_gathered(&mut changes)?;
        if let Some(join) = &mut self.join {
            join.expire(watermark, &mut changes);
        }
        let until = self.made.plan.closed_until(watermark);
        let closed = self.open.close(until, CLOSE_ROWS, &self.store, &mut changes)?;
        if !self.is_changed && changes.is_empty() {
            return Ok(());
        }
        let output = closed.into_iter().map(|results| self.made.plan.output(results));
        let output = output.collect::<Result<Vec<_>>>()?;
        let output = in_pieces(output);
        let late = in_pieces(std::mem::take(&mut self.late));
        let outbox = match output.is_empty() && late.is_empty() {
            true => None,
            false => Some(Outbox {
                output_end: self.made.log.offsets(self.output_at())?.end,
                late_end: self.made.log.offsets(late_at())?.end,
            }),
        };
        let sequence = self.open.next_sequence();
        let checkpoint = Checkpoint::new(&self.cursors, self.watermark.reached(), sequence, outbox);
        self.store.write(Some(&checkpoint), changes, &output, &late)?;
        self.is_changed = false;
        self.meters.checkpoint(watermark, now, &self.open);
        if let Some(join) = &self.join {
            self.meters.join(join);
        }
        self.undelivered = outbox.map(|_| checkpoint);
        if self.label != self.made.label() {
            self.label = self.made.label();
            self.meters = Meters::new(&self.label);
        }
        Ok(())
    }

    /// Takes over from a version that has read up to `cursors` and come as far as `watermark`, if
    /// this one has read as much: windows that were closed there are closed here, and what was late
    /// there is late here. Answers whether it has.
    pub(crate) fn succeed(
        &mut self,
        cursors: &BTreeMap<TopicPartition, Offset>,
        watermark: i64,
    ) -> bool {
        let has_read = |at, cursor| self.cursors.get(at).is_none_or(|own| *own >= cursor);
        let has_read = cursors.iter().all(|(at, cursor)| has_read(at, *cursor));
        if has_read {
            self.is_changed |= self.watermark.raise(watermark);
            // Queries are shown at the next chance how far this is.
            self.refreshed = None;
        }
        has_read
    }

    /// How far event time has come.
    pub(crate) fn watermark(&self) -> i64 {
        self.watermark.reached().watermark
    }

    /// Windows that end at or before this are closed.
    pub(crate) fn closed_until(&self) -> i64 {
        self.open.closed_until(self.made.plan.closed_until(self.watermark()))
    }

    /// Appends the rows of the last checkpoint to their topics, as far as that was not done.
    pub(crate) async fn deliver(&mut self) -> Result<()> {
        let Some(checkpoint) = &self.undelivered else {
            return Ok(());
        };
        let ends = checkpoint.outbox.as_ref().expect("kept only with rows to deliver");
        let log = &*self.made.log;
        let output = self.store.output()?;
        let late = self.store.late()?;
        if self.is_resumed {
            settle(log, self.output_at(), &output).await?;
            settle(log, late_at(), &late).await?;
        }
        let emitted =
            append(log, self.output_at(), ends.output_end, output, RecordBatch::num_rows).await?;
        self.meters.emitted(emitted);
        let label = late.first().and_then(view_of);
        let own = |batch: &RecordBatch| label.as_ref().map_or(0, |label| count_of(label, batch));
        append(log, late_at(), ends.late_end, late, own).await?;
        self.store.set_delivered(checkpoint)?;
        self.undelivered = None;
        self.is_resumed = false;
        Ok(())
    }

    fn output_at(&self) -> TopicPartition {
        TopicPartition::new(self.made.topic.as_str(), 0)
    }

    #[cfg(test)]
    pub(crate) fn join(&self) -> Option<&Join> {
        self.join.as_ref()
    }

    /// Sides of the rows that wait on disk to be joined.
    #[cfg(test)]
    pub(crate) fn buffered_on_disk(&self) -> Vec<crate::bound::Side> {
        let all = self.store.all_buffered().expect("the store can be read");
        all.into_iter().map(|(key, _)| key.side).collect()
    }

    /// Lets the log remove what was read, every few seconds.
    pub(crate) async fn release(&mut self, now: Now) -> Result<()> {
        let is_recent = |released| now.instant.duration_since(released) < RELEASE_EVERY;
        if self.released.is_some_and(is_recent) {
            return Ok(());
        }
        self.released = Some(now.instant);
        for (at, cursor) in &self.cursors {
            self.made.log.commit(&consumer_group(&self.made.topic), at.clone(), *cursor).await?;
        }
        Ok(())
    }

    /// Goes on behind rows that the log no longer has.
    pub(crate) fn skip_lost(&mut self) -> Result<()> {
        for (at, cursor) in &mut self.cursors {
            let start = self.made.log.offsets(at.clone())?.start;
            if *cursor < start {
                tracing::error!(
                    view = self.made.name, partition = %at, from = *cursor, to = start,
                    "the log has removed events that the view had not read; it goes on without them"
                );
                self.meters.lost(start - *cursor);
                *cursor = start;
                self.is_changed = true;
            }
        }
        Ok(())
    }

    /// The open windows, for queries, if it is time to show them anew.
    pub(crate) fn refresh(&mut self, now: Now) -> Option<Published> {
        let interval = Duration::from_millis(self.made.options.refresh_ms);
        // The checkpoint that is nearest to the time, rather than the one after it.
        let tolerance = Duration::from_millis(self.config.checkpoint_interval_ms.get() / 2);
        let interval = interval.saturating_sub(tolerance);
        let is_recent = |refreshed| now.instant.duration_since(refreshed) < interval;
        if self.refreshed.is_some_and(is_recent) {
            return None;
        }
        self.refreshed = Some(now.instant);
        Some(self.published())
    }

    fn published(&self) -> Published {
        Published { closed_until: self.closed_until(), open: self.open.snapshot(&self.store) }
    }
}

/// The consumer group that a view, whose rows go to `topic`, reads its streams as.
pub fn consumer_group(topic: &str) -> String {
    format!("stream/{topic}")
}

pub(crate) fn late_at() -> TopicPartition {
    TopicPartition::new(LATE_EVENTS, 0)
}

/// Waits for rows of `batches` that were on their way to the log before a crash.
async fn settle(log: &dyn Log, at: TopicPartition, batches: &[RecordBatch]) -> Result<()> {
    if let Some(first) = batches.first() {
        log.append(at, RecordBatch::new_empty(first.schema())).await?;
    }
    Ok(())
}

/// Appends `batches`, without the rows that are behind `end` already: `own` counts, in a batch of
/// the topic, those of this view. Answers how many rows were appended.
async fn append(
    log: &dyn Log,
    at: TopicPartition,
    end: Offset,
    batches: Vec<RecordBatch>,
    own: impl Fn(&RecordBatch) -> usize,
) -> Result<usize> {
    if batches.is_empty() {
        return Ok(0);
    }
    let mut done = 0;
    // What retention has removed since then cannot be told any more; it must not stop the view.
    let mut from = end.max(log.offsets(at.clone())?.start);
    while from < log.offsets(at.clone())?.end {
        let entries = log.read(at.clone(), from, REREAD_BYTES).await?;
        for entry in &entries {
            done += own(&entry.after(from));
        }
        from = entries.last().map_or(from, |last| last.next_offset);
    }
    let mut appended = 0;
    for batch in batches {
        let skipped = done.min(batch.num_rows());
        done -= skipped;
        let rest = batch.slice(skipped, batch.num_rows() - skipped);
        if rest.num_rows() > 0 {
            appended += rest.num_rows();
            log.append(at.clone(), rest).await?;
        }
    }
    Ok(appended)
}

/// Batches of a size that the log takes well.
fn in_pieces(batches: Vec<RecordBatch>) -> Vec<RecordBatch> {
    let pieces = batches.into_iter().flat_map(|batch| {
        (0..batch.num_rows())
            .step_by(APPEND_ROWS)
            .map(move |from| batch.slice(from, APPEND_ROWS.min(batch.num_rows() - from)))
            .collect::<Vec<_>>()
    });
    pieces.collect()
}

/// Whether the log has lost what was to be read.
pub(crate) fn is_lost(error: &StreamError) -> bool {
    matches!(error, StreamError::Log(thalweg_log::LogError::OffsetOutOfRange { .. }))
}
