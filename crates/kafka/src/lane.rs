//! The way of one partition's rows into Kafka, by the spool where need be.
//!
//! ```text
//! append ─▶ numbered ─▶ producer ───────────────▶ acknowledged by Kafka ─▶ answer
//!               │           │ not within patience
//!               │           └──▶ spool ─ fsync ─▶ answer ─ ─ ─ ▶ acknowledged: forwarded
//!               └─ while anything waits ─▶ spool ─ fsync ─▶ answer ─▶ producer ─▶ forwarded
//! ```
//!
//! One task owns a lane, so that its rows have one order: `outstanding` are the rows in the
//! producer's hands, and behind them come those that only the spool has.

mod spooling;

use std::{collections::VecDeque, ops::Range, sync::Arc, time::Duration};

use arrow::array::RecordBatch;
use thalweg_log::{Appended, LogError, Offset, Result};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::spooling::Waiting;
use crate::{
    arrivals::{Arrivals, Check},
    backlog::Backlog,
    client::unavailable,
    lane_handle::Request,
    message::Outgoing,
    meters,
    partition::Partition,
    producer::{Delivery, Generation, Outcome, Producer, Ticket},
    readers::Readers,
    rejects::Rejects,
    spool::{Rows, Spool},
};

/// Rows in the producer's hands at once; more wait.
const WINDOW_BYTES: usize = 16 << 20;
/// Appends that are spooled with one sync.
const MAX_TOGETHER: usize = 256;
/// Outcomes of messages that are settled before anything else gets its turn.
const MAX_OUTCOMES: usize = 4096;
/// Pause after a spool that could not be written or read, and after messages that failed; it doubles
/// each time until some are stored.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// How often what waits is shown.
const SHOW_EVERY: Duration = Duration::from_secs(1);
/// Longest that closing waits for rows that are in the producer's hands only.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// What a lane works with.
pub(crate) struct Tools {
    pub(crate) partition: Arc<Partition>,
    pub(crate) producer: Arc<Producer>,
    /// `None` of a topic whose writers keep their rows themselves.
    pub(crate) spool: Option<Arc<Spool>>,
    pub(crate) readers: Arc<Readers>,
    pub(crate) rejects: Rejects,
    pub(crate) origin: Uuid,
    pub(crate) patience: Duration,
    /// Whether other processes append to the partition, too.
    pub(crate) is_shared: bool,
    /// Tells that nobody may append any more.
    pub(crate) closing: CancellationToken,
}

/// The state of a lane.
pub(crate) struct Lane {
    tools: Tools,
    deliveries: mpsc::UnboundedSender<Delivery>,
    next_sequence: u64,
    outstanding: VecDeque<Item>,
    /// Number of the first of `outstanding`.
    first_item: u64,
    window_bytes: usize,
    waiting: Waiting,
    check: Check,
    /// Why messages have failed, from then until all others have an outcome too: nothing more is
    /// sent, so that it can be found out what to send again.
    draining: Option<String>,
    /// Of a topic without a spool: whether rows may be there that nobody here knows of, from before
    /// the start or from messages that have failed.
    is_unsure: bool,
    /// Not before then is a spool written again that failed.
    spool_from: Instant,
    /// Not before then are rows sent from the spool after some have failed.
    retry_from: Instant,
    retry_delay: Duration,
    /// Whether rows were refused that could not be kept as such, which happens at the end of the
    /// process only: the spool keeps them for the next one.
    is_halted: bool,
}

/// Rows in the producer's hands.
struct Item {
    rows: Rows,
    sent: Instant,
    bytes: usize,
    /// Messages without an outcome.
    undelivered: usize,
    /// Whether nobody can tell of one of them if it is stored.
    is_unknown: bool,
    refused: Vec<(Range<usize>, String)>,
    /// Where the rows that have an outcome stand in Kafka.
    stored: Option<Appended>,
    /// Who waits for an answer; nobody of rows that were spooled.
    reply: Option<Reply>,
    /// Where the spool ends behind these rows, if they stand there.
    spooled: Option<Offset>,
}

/// Who waits for rows to be durable.
type Reply = (oneshot::Sender<Result<Appended>>, OwnedSemaphorePermit);

impl Lane {
    pub(crate) fn new(tools: Tools) -> Result<(Self, mpsc::UnboundedReceiver<Delivery>)> {
        let (deliveries, delivered) = mpsc::unbounded_channel();
        let range = tools.spool.as_ref().map(|spool| spool.range(&tools.partition.at));
        let (forwarded, end) = range.transpose()?.unwrap_or((0, 0));
        let check = match forwarded < end {
            true => Check::Unknown,
            false => Check::Known(Arrivals::default()),
        };
        let now = Instant::now();
        let told = (forwarded, now);
        let backlog = Backlog::default();
        let waiting = Waiting { forwarded, told, sent: forwarded, end, backlog };
        let is_unsure = tools.spool.is_none();
        let lane = Self {
            tools,
            deliveries,
            next_sequence: 0,
            outstanding: VecDeque::new(),
            first_item: 0,
            window_bytes: 0,
            waiting,
            check,
            draining: None,
            is_unsure,
            spool_from: now,
            retry_from: now,
            retry_delay: FIRST_RETRY,
            is_halted: false,
        };
        Ok((lane, delivered))
    }

    /// Works until nobody may append any more and everything is durable.
    pub(crate) async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        mut delivered: mpsc::UnboundedReceiver<Delivery>,
    ) {
        self.count_waiting().await;
        let (mut together, mut outcomes) = (vec![], vec![]);
        let closing = self.tools.closing.clone();
        let (mut closing_since, mut is_closed) = (None, false);
        while !self.is_done(closing_since, is_closed) {
            self.begin_look().await;
            let deadline = self.deadline();
            let takes_more = !is_closed && self.takes_more();
            let forwards_from = self.may_forward().then_some(self.retry_from);
            let is_waiting = self.waiting.forwarded < self.waiting.end;
            let looked = self.check.looked();
            tokio::select! {
                () = closing.cancelled(), if closing_since.is_none() => {
                    closing_since = Some(Instant::now());
                    // What is in the queue is still taken.
                    requests.close();
                }
                _ = delivered.recv_many(&mut outcomes, MAX_OUTCOMES) => {
                    for delivery in outcomes.drain(..) {
                        self.settle(delivery).await;
                    }
                }
                known = looked => self.check = known,
                () = until(deadline) => self.spool_overdue().await,
                count = requests.recv_many(&mut together, MAX_TOGETHER), if takes_more => {
                    is_closed = count == 0;
                    self.take(&mut together).await;
                }
                () = until(forwards_from) => {}
                () = tokio::time::sleep(SHOW_EVERY), if is_waiting => self.show_waiting(),
                () = tokio::time::sleep(CLOSE_PATIENCE), if closing_since.is_some() => {}
            }
            // Also while appends keep coming.
            if self.may_forward() && self.retry_from <= Instant::now() {
                self.forward().await;
            }
        }
        self.tell_forwarded(true).await;
    }

    /// Whether everything is durable and nothing more can come, or has been waited for long enough:
    /// what is left then is not acknowledged.
    fn is_done(&self, closing_since: Option<Instant>, is_closed: bool) -> bool {
        let is_durable = self.outstanding.iter().all(|item| item.spooled.is_some());
        (is_closed && is_durable)
            || closing_since.is_some_and(|since| since.elapsed() >= CLOSE_PATIENCE)
    }

    fn is_stalled(&self) -> bool {
        let oldest = self.outstanding.front();
        oldest.is_some_and(|item| item.sent.elapsed() >= self.tools.patience)
    }

    /// Whether appends have to queue behind rows that only the spool has.
    fn goes_to_spool(&self) -> bool {
        self.tools.spool.is_some()
            && (self.waiting.sent < self.waiting.end
                || !matches!(self.check, Check::Known(_))
                || self.draining.is_some()
                || self.is_stalled())
    }

    fn takes_more(&self) -> bool {
        self.goes_to_spool() || (self.draining.is_none() && self.window_bytes < WINDOW_BYTES)
    }

    fn may_forward(&self) -> bool {
        self.waiting.sent < self.waiting.end
            && matches!(self.check, Check::Known(_))
            && self.window_bytes < WINDOW_BYTES / 2
            && self.draining.is_none()
            && !self.is_stalled()
    }

    /// When rows in the producer's hands have to be spooled.
    fn deadline(&self) -> Option<Instant> {
        self.tools.spool.as_ref()?;
        let unspooled = self.outstanding.iter().find(|item| item.spooled.is_none())?;
        Some((unspooled.sent + self.tools.patience).max(self.spool_from))
    }

    async fn take(&mut self, requests: &mut Vec<Request>) {
        if self.goes_to_spool() {
            // What the producer has comes first, in the spool too.
            match self.spool_outstanding().await {
                Ok(()) => self.spool(std::mem::take(requests)).await,
                Err(error) => requests.drain(..).for_each(|request| {
                    let _ = request.reply.send(Err(error.clone()));
                }),
            }
            return;
        }
        for request in requests.drain(..) {
            let Request { batch, mut messages, bytes, reply, permit, only_asks } = request;
            // Whoever waits for all that may be there has to wait for those nobody knows of, too.
            let is_unsure = self.is_unsure || self.tools.is_shared;
            if batch.num_rows() == 0 && is_unsure && !only_asks {
                messages.push(Outgoing::mark());
            }
            let rows = self.number(batch);
            self.send(rows, messages, bytes, Some((reply, permit)), None).await;
        }
    }

    fn number(&mut self, batch: RecordBatch) -> Rows {
        let sequence = self.next_sequence;
        self.next_sequence += batch.num_rows() as u64;
        let after = self.tools.partition.offsets().end;
        Rows { batch, origin: self.tools.origin, sequence, after }
    }

    /// Gives rows to the producer.
    async fn send(
        &mut self,
        rows: Rows,
        messages: Vec<Outgoing>,
        bytes: usize,
        reply: Option<Reply>,
        spooled: Option<Offset>,
    ) {
        let item = self.first_item + self.outstanding.len() as u64;
        let partition = &self.tools.partition;
        for message in &messages {
            let (deliveries, rows_of) = (self.deliveries.clone(), message.rows.clone());
            let ticket = Ticket { deliveries, item, rows: rows_of };
            let stamp = rows.stamp(&message.rows);
            let encoding = partition.codec.encoding();
            self.tools.producer.send(&partition.at, message, encoding, stamp, ticket);
        }
        self.window_bytes += bytes;
        self.outstanding.push_back(Item {
            rows,
            sent: Instant::now(),
            bytes,
            undelivered: messages.len(),
            is_unknown: false,
            refused: vec![],
            stored: None,
            reply,
            spooled,
        });
        self.finish_delivered().await;
    }

    async fn settle(&mut self, Delivery { item, rows, outcome, generation }: Delivery) {
        let index = item.checked_sub(self.first_item).and_then(|index| usize::try_from(index).ok());
        let Some(item) = index.and_then(|index| self.outstanding.get_mut(index)) else {
            return tracing::error!(at = %self.tools.partition.at, "an outcome of no message");
        };
        item.undelivered -= 1;
        match outcome {
            Outcome::Stored(offset) => {
                let next_offset = offset + 1;
                let stored = item.stored.get_or_insert(Appended { offset, next_offset });
                stored.next_offset = stored.next_offset.max(next_offset);
                self.retry_delay = FIRST_RETRY;
            }
            Outcome::Refused(reason) => item.refused.push((rows, reason)),
            Outcome::Unknown(reason) => {
                item.is_unknown = true;
                self.begin_drain(reason, generation).await;
            }
        }
        self.finish_delivered().await;
        if self.draining.is_some() && self.outstanding.iter().all(|item| item.undelivered == 0) {
            self.end_drain();
        }
    }

    async fn finish_delivered(&mut self) {
        while let Some(item) =
            self.outstanding.pop_front_if(|item| item.undelivered == 0 && !item.is_unknown)
        {
            self.first_item += 1;
            self.window_bytes -= item.bytes;
            self.finish(item).await;
        }
    }

    /// Draws the consequences of rows whose outcome is known.
    async fn finish(&mut self, item: Item) {
        let Item { rows, refused, stored, reply, spooled, .. } = item;
        self.note(stored);
        let refused_rows: usize = refused.iter().map(|(range, _)| range.len()).sum();
        if let Some(offset) = spooled {
            // Who sent them was told that they are stored; nobody is left to be told otherwise.
            self.is_halted |= !self.reject(&rows, refused).await;
            if !self.is_halted {
                self.waiting.forwarded = offset;
                self.tell_forwarded(false).await;
            }
        } else if let Some((reply, _permit)) = reply {
            let is_whole = refused_rows == rows.batch.num_rows() || self.tools.spool.is_none();
            let reason = refused.first().map(|(_, reason)| reason.clone()).filter(|_| is_whole);
            let at = || self.tools.partition.at.clone();
            let _ = reply.send(match reason {
                Some(reason) => {
                    meters::refused(&at(), refused_rows);
                    Err(LogError::Rejected { at: at(), reason })
                }
                // Where some are stored, to refuse all would have them sent again.
                None if self.reject(&rows, refused).await => {
                    Ok(stored.unwrap_or_else(|| self.elsewhere()))
                }
                None => Err(unavailable(&at(), &"the log is closed")),
            });
        }
    }

    /// Notes where rows were stored: whatever arrived earlier stands before them.
    fn note(&mut self, stored: Option<Appended>) {
        if let Some(stored) = stored {
            self.tools.partition.note_end(stored.next_offset);
            self.is_unsure = false;
        }
    }

    /// Stores what was refused among rejected records; whether that was done.
    async fn reject(&self, rows: &Rows, refused: Vec<(Range<usize>, String)>) -> bool {
        for (range, reason) in refused {
            let rows = rows.batch.slice(range.start, range.len());
            if !self.tools.rejects.refused(&self.tools.partition.at, &rows, &reason).await {
                return false;
            }
        }
        true
    }

    /// Nobody can tell what became of a message, and librdkafka will not send it any more.
    async fn begin_drain(&mut self, reason: String, generation: Generation) {
        if self.draining.is_none() {
            tracing::warn!(at = %self.tools.partition.at, reason, "messages have failed");
            self.draining = Some(reason);
            if self.tools.spool.is_some() {
                self.spool_overdue().await;
            }
        }
        self.tools.producer.replace_failed(generation).await;
    }

    /// Begins anew with what may not have been stored.
    fn end_drain(&mut self) {
        let reason = self.draining.take().unwrap_or_default();
        for item in std::mem::take(&mut self.outstanding) {
            self.first_item += 1;
            self.note(item.stored);
            let is_stored = !item.is_unknown && item.refused.is_empty();
            if let Some((reply, _permit)) = item.reply {
                let unknown = || unavailable(&self.tools.partition.at, &reason);
                let _ = reply.send(item.stored.filter(|_| is_stored).ok_or_else(unknown));
            }
        }
        self.window_bytes = 0;
        self.waiting.sent = self.waiting.forwarded;
        match self.tools.spool {
            Some(_) if self.waiting.sent < self.waiting.end => self.check = Check::Unknown,
            Some(_) => {}
            None => self.is_unsure = true,
        }
        self.put_off();
    }

    /// Waits before it tries again what has failed.
    fn put_off(&mut self) {
        self.retry_from = Instant::now() + self.retry_delay;
        self.retry_delay = (self.retry_delay * 2).min(LONGEST_RETRY);
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
