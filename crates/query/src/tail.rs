//! Following the log as it grows.

use arrow::array::RecordBatch;
use datafusion::logical_expr::Expr;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, stream};
use thalweg_access::Record;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::json::{RowShape, for_each_row};
use crate::live_filter::LiveFilter;
use crate::{QueryError, View};

/// What a follower gets.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Tailed {
    /// A row, as a JSON object.
    Row(String),
    /// So many rows were left out here because the follower reads too slowly.
    Dropped(u64),
}

/// Follows the rows of `logs` that `view` shows and for which all `conditions` hold, as
/// `statement` asks, until the returned stream is
/// dropped or the engine stops.
///
/// # Errors
/// [`QueryError::TooManyTailers`] at the limit of followers.
pub(crate) fn follow(
    view: &View,
    conditions: Vec<Expr>,
    statement: &str,
) -> Result<impl Stream<Item = Tailed> + Send + use<>, QueryError> {
    let mut record = view.record(statement);
    let engine = view.engine();
    let permit = engine.admit_tailer().inspect_err(|_| record.set_outcome("refused", 0))?;
    let filter = LiveFilter::new(view.clone(), conditions)?;
    // Another entry than that of the end, which may be far.
    view.record(statement).set_outcome("following", 0);
    let (sender, receiver) = mpsc::channel(engine.config().tail_buffer_rows.max(1));
    let tailer = Tailer {
        live: view.live_logs(),
        stopping: engine.stopping().clone(),
        filter,
        sender,
        dropped: 0,
        sent: 0,
        record,
        _open: Open::new(permit),
    };
    let task = AbortOnDropHandle::new(engine.runtime().spawn(tailer.run()));
    Ok(stream::unfold((receiver, task), |(mut receiver, task)| async {
        let tailed = receiver.recv().await?;
        Some((tailed, (receiver, task)))
    }))
}

/// Moves rows from the live stream to one follower, and never waits for the follower.
struct Tailer {
    live: BoxStream<'static, RecordBatch>,
    stopping: CancellationToken,
    filter: LiveFilter,
    sender: mpsc::Sender<Tailed>,
    /// Rows dropped that the follower has not been told of.
    dropped: u64,
    sent: u64,
    record: Record,
    _open: Open,
}

impl Tailer {
    async fn run(mut self) {
        let sender = self.sender.clone();
        loop {
            tokio::select! {
                () = self.stopping.cancelled() => return,
                permit = sender.reserve(), if self.dropped > 0 => {
                    let Ok(permit) = permit else { return };
                    permit.send(Tailed::Dropped(std::mem::take(&mut self.dropped)));
                }
                batch = self.live.next() => {
                    let Some(batch) = batch else { return };
                    if let Err(error) = self.offer(&batch) {
                        tracing::warn!(%error, "cannot filter the live log for a follower");
                        return;
                    }
                }
            }
        }
    }

    fn offer(&mut self, batch: &RecordBatch) -> Result<(), QueryError> {
        let matching = self.filter.matching(batch)?;
        // While there are dropped rows to tell of, later ones would come too early.
        let room = if self.dropped > 0 { 0 } else { self.sender.capacity() };
        let kept = matching.num_rows().min(room);
        for_each_row(&matching.slice(0, kept), RowShape::Log, |row| {
            let row = String::from_utf8_lossy(row).into_owned();
            // Only this task sends, so the room is still there unless the follower left.
            let _ = self.sender.try_send(Tailed::Row(row));
        })
        .map_err(internal)?;
        let dropped = (matching.num_rows() - kept) as u64;
        self.dropped += dropped;
        self.sent += kept as u64;
        metrics::counter!("thalweg_query_tail_dropped_rows_total").increment(dropped);
        Ok(())
    }
}

impl Drop for Tailer {
    fn drop(&mut self) {
        self.record.set_outcome("ok", self.sent);
    }
}

fn internal(error: arrow::error::ArrowError) -> QueryError {
    QueryError::Internal(error.to_string())
}

/// Counts a follower for as long as it is there.
struct Open(#[allow(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Open {
    fn new(permit: OwnedSemaphorePermit) -> Self {
        metrics::gauge!("thalweg_query_tailers").increment(1);
        Self(permit)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        metrics::gauge!("thalweg_query_tailers").decrement(1);
    }
}
