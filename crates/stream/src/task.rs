//! The task that maintains a view: entries in, a checkpoint a second.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use futures::StreamExt;
use futures::stream::{BoxStream, select_all};
use thalweg_log::{Entry, HandOver, Log, Offset, OffsetRange, TopicPartition};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::config::StreamConfig;
use crate::error::{Result, StreamError};
use crate::history::Histories;
use crate::standing::{Position, Standing};
use crate::store::Store;
use crate::view::{Made, Published, View, consumer_group, is_lost, late_at};
use crate::watermark::Now;

/// Waits between attempts to go on after a fault.
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// Pause before a state that another process still has open is tried again.
const LOCK_RETRY: Duration = Duration::from_secs(1);

/// A view and where it lives.
#[derive(Clone)]
pub(crate) struct Task {
    pub(crate) made: Made,
    pub(crate) config: StreamConfig,
    pub(crate) directory: std::path::PathBuf,
    /// Where the streams' topics ended when the view was stated: where it begins, without history.
    pub(crate) stated_at: BTreeMap<TopicPartition, Offset>,
    pub(crate) histories: Arc<dyn Histories>,
    pub(crate) published: Arc<ArcSwapOption<Published>>,
    pub(crate) standing: Arc<Standing>,
    pub(crate) stop: CancellationToken,
}

impl Task {
    /// Maintains the view until it is stopped, whenever it is this process' work. After a fault it
    /// goes on from the last checkpoint.
    pub(crate) async fn run(self) {
        let name = &self.made.name;
        let (ownership, place) = (self.made.log.ownership(), self.place());
        let (mut retry, mut hand_over) = (FIRST_RETRY, HandOver::default());
        while self.stop.run_until_cancelled(ownership.until(&place, true)).await.is_some() {
            let began = Instant::now();
            let ended = self.attempt().await;
            if ended.is_ok() && self.stop.is_cancelled() {
                return; // what it has published is still shown
            }
            // A fault may have left the database's handle unusable.
            self.published.store(None);
            match ended {
                Ok(()) => {
                    tracing::info!(view = name, "another process goes on with the view");
                    continue;
                }
                Err(StreamError::State(fjall::Error::Locked)) if self.is_shared() => {
                    hand_over.waits(&format!("view {name}"));
                    self.stop.run_until_cancelled(tokio::time::sleep(LOCK_RETRY)).await;
                    continue;
                }
                Err(error) => {
                    self.standing.note_fault(error.to_string());
                    metrics::counter!("thalweg_view_faults_total", "view" => name.clone())
                        .increment(1);
                    tracing::error!(view = name, %error, "view stopped; retrying in {retry:?}");
                }
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(retry) => {}
            }
            let lasted = began.elapsed() > LONGEST_RETRY;
            retry = if lasted { FIRST_RETRY } else { (retry * 2).min(LONGEST_RETRY) };
        }
    }

    /// The partition that is owned by whoever maintains the view.
    fn place(&self) -> TopicPartition {
        TopicPartition::new(self.made.topic.as_str(), 0)
    }

    fn is_shared(&self) -> bool {
        self.made.log.ownership().is_shared()
    }

    /// Resolves when the view is to be left as it is, to the next start or to another process.
    async fn is_left(&self) {
        let (ownership, place) = (self.made.log.ownership(), self.place());
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = ownership.until(&place, false) => {}
        }
    }

    async fn attempt(&self) -> Result<()> {
        let store = Arc::new(Store::open(&self.directory, &self.made.name)?);
        if self.is_shared() {
            // Only now, with its state in hand, has the process before delivered its last rows.
            for at in [self.place(), late_at()] {
                self.made.log.latest_end(at).await?;
            }
        }
        let Some(mut view) = self.open(store).await? else {
            return Ok(());
        };
        view.skip_lost()?;
        let result = self.maintain(&mut view).await;
        if let Err(error) = &result
            && is_lost(error)
        {
            view.skip_lost()?;
            view.deliver().await?;
            view.checkpoint(now())?;
        }
        result
    }

    /// The view as it was left, or begun with its history; `None` when it is left meanwhile.
    async fn open(&self, store: Arc<Store>) -> Result<Option<View>> {
        let (made, config) = (self.made.clone(), self.config.clone());
        if let Some(view) = View::resume(made.clone(), Arc::clone(&store), config.clone(), now())? {
            return Ok(Some(view));
        }
        if !made.options.backfill {
            let cursors = self.stated_at.clone();
            let mut view = View::begin(made, store, config, cursors, now())?;
            view.checkpoint(now())?;
            return Ok(Some(view));
        }
        let mut histories = vec![];
        let mut cursors = BTreeMap::new();
        for (source, stream) in made.plan.streams.iter().enumerate() {
            let columns = made.plan.columns(source);
            let history = self.histories.open(&stream.name, &columns, made.since).await?;
            cursors.extend(history.cursors);
            histories.push(history.rows);
        }
        let group = consumer_group(&made.topic);
        for (at, cursor) in &cursors {
            // Reading history may take longer than the log would keep what is behind it.
            made.log.commit(&group, at.clone(), *cursor).await?;
        }
        let began = Instant::now();
        let mut rows = 0;
        let mut view = View::begin(made, store, config, cursors, now())?;
        let mut is_left = pin!(self.is_left());
        for (source, mut history) in histories.into_iter().enumerate() {
            loop {
                let batch = tokio::select! {
                    () = &mut is_left => return Ok(None),
                    batch = history.next() => batch,
                };
                let Some(batch) = batch else {
                    break;
                };
                let batch = batch?;
                rows += batch.num_rows() as u64;
                self.standing.note_history(rows);
                view.take_history(source, &batch, now())?;
                tokio::task::yield_now().await;
            }
        }
        view.checkpoint(now())?;
        tracing::info!(view = self.made.name, rows, elapsed = ?began.elapsed(), "history read");
        Ok(Some(view))
    }

    async fn maintain(&self, view: &mut View) -> Result<()> {
        view.deliver().await?;
        let mut entries = entries(self.made.log.as_ref(), view.cursors());
        let mut ticks = interval(Duration::from_millis(self.config.checkpoint_interval_ms.get()));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_left = pin!(self.is_left());
        loop {
            let is_due = tokio::select! {
                biased;
                // Whoever goes on with it waits for the state, and so until its rows are delivered.
                () = &mut is_left => return self.checkpoint(view).await,
                _ = ticks.tick() => true,
                Some((at, entry)) = entries.next() => {
                    view.take(&at, &entry?, now())?;
                    view.is_full()
                }
            };
            if is_due {
                self.checkpoint(view).await?;
            }
        }
    }

    async fn checkpoint(&self, view: &mut View) -> Result<()> {
        view.note_ends()?;
        let predecessor = self.standing.predecessor();
        let succeeds = predecessor.is_some_and(|it| view.succeed(&it.cursors, it.watermark));
        view.checkpoint(now())?;
        view.deliver().await?;
        view.release(now()).await?;
        if let Some(published) = view.refresh(now()) {
            self.published.store(Some(Arc::new(published)));
        }
        // Whoever waits for this lets queries see it.
        self.standing.note_reached(Position {
            cursors: view.cursors().clone(),
            watermark: view.watermark(),
            closed_until: view.closed_until(),
        });
        if succeeds {
            self.standing.note_succeeded();
        }
        Ok(())
    }
}

/// Where topics end now.
pub(crate) fn ends(log: &dyn Log, topics: &[String]) -> Result<BTreeMap<TopicPartition, Offset>> {
    let ranges = ranges(log, topics)?.into_iter();
    Ok(ranges.map(|(at, range)| (at, range.end)).collect())
}

/// What the log has of topics now.
pub(crate) fn ranges(
    log: &dyn Log,
    topics: &[String],
) -> Result<BTreeMap<TopicPartition, OffsetRange>> {
    let mut ranges = BTreeMap::new();
    for topic in topics {
        for partition in 0..log.partitions(topic)? {
            let at = TopicPartition::new(topic.as_str(), partition);
            let range = log.offsets(at.clone())?;
            ranges.insert(at, range);
        }
    }
    Ok(ranges)
}

/// What partitions have from the cursors on, for ever.
pub(crate) fn entries(
    log: &dyn Log,
    cursors: &BTreeMap<TopicPartition, Offset>,
) -> BoxStream<'static, (TopicPartition, thalweg_log::Result<Entry>)> {
    let tails = cursors.iter().map(|(at, cursor)| {
        let partition = at.clone();
        let tail = log.tail(at.clone(), *cursor);
        tail.map(move |entry| (partition.clone(), entry)).boxed()
    });
    select_all(tails).boxed()
}

pub(crate) fn now() -> Now {
    let unix_micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_micros());
    Now { instant: Instant::now(), unix_micros: i64::try_from(unix_micros).unwrap_or(i64::MAX) }
}
