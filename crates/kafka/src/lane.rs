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

use std::{collections::VecDeque, ops::Range, sync::Arc, time::Duration};

use arrow::array::RecordBatch;
use thalweg_log::{Appended, LogError, Offset, Result};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    arrivals::{Arrivals, Check, look},
    lane_handle::Request,
    message::Outgoing,
    meters,
    partition::{Partition, batch_bytes},
    producer::{Delivery, Generation, Outcome, Producer, Ticket},
    readers::Readers,
    rejects::Rejects,
    spool::{Rows, Spool},
};

/// Rows in the producer's hands at once; more wait.
const WINDOW_BYTES: usize = 16 << 20;
/// Rows that are read from the spool at once.
const FORWARD_BYTES: usize = 2 << 20;
/// Appends that are spooled with one sync.
const MAX_TOGETHER: usize = 256;
/// Outcomes of messages that are settled before anything else gets its turn.
const MAX_OUTCOMES: usize = 4096;
/// Pause after a spool that could not be written or read.
const SPOOL_RETRY: Duration = Duration::from_millis(500);
/// How often the spool is told what has been forwarded; after a crash, what lies between is looked
/// for in Kafka.
const FORWARDED_EVERY: Duration = Duration::from_millis(500);
/// How often it is told how long rows have waited.
const SHOW_EVERY: Duration = Duration::from_secs(1);
/// Longest that closing waits for rows that may not be spooled.
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
    /// Not before then is a spool tried again that failed.
    spool_from: Instant,
}

/// Where the lane's rows stand in the spool.
struct Waiting {
    /// Everything before it is in Kafka.
    forwarded: Offset,
    /// `forwarded` as the spool was told last, and when.
    told: (Offset, Instant),
    /// Everything before it was given to the producer.
    sent: Offset,
    end: Offset,
    /// When the oldest of it was spooled.
    oldest_unix_millis: i64,
}

/// Rows in the producer's hands.
struct Item {
    rows: Rows,
    sent: Instant,
    bytes: usize,
    /// Messages without an outcome.
    undelivered: usize,
    refused: Vec<(Range<usize>, String)>,
    /// Where the rows that have an outcome stand in Kafka.
    stored: Option<Appended>,
    /// Who waits for an answer; nobody of rows that were spooled.
    reply: Option<(oneshot::Sender<Result<Appended>>, OwnedSemaphorePermit)>,
    /// Where the spool ends behind these rows, if they stand there, and what they take in it.
    spooled: Option<(Offset, u64)>,
}

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
        let waiting = Waiting { forwarded, told, sent: forwarded, end, oldest_unix_millis: 0 };
        let lane = Self {
            tools,
            deliveries,
            next_sequence: 0,
            outstanding: VecDeque::new(),
            first_item: 0,
            window_bytes: 0,
            waiting,
            check,
            spool_from: now,
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
        let (mut closing_since, mut closed_at) = (None, None);
        while !self.is_done(closed_at) {
            self.begin_look().await;
            let deadline = self.deadline();
            let takes_more = closed_at.is_none() && self.takes_more();
            let forwards_from = self.may_forward().then_some(self.spool_from);
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
                    if count == 0 {
                        closed_at = closing_since.or_else(|| Some(Instant::now()));
                    }
                    self.take(&mut together).await;
                }
                () = until(forwards_from) => {}
                // What waits grows older, also while nothing comes.
                () = tokio::time::sleep(SHOW_EVERY), if self.waiting.forwarded < self.waiting.end => {
                    self.show_waiting();
                }
                () = tokio::time::sleep(CLOSE_PATIENCE), if closed_at.is_some() => {}
            }
            // Also while appends keep coming.
            if self.may_forward() && self.spool_from <= Instant::now() {
                self.forward().await;
            }
        }
        self.tell_forwarded(true).await;
    }

    fn is_done(&self, closed_at: Option<Instant>) -> bool {
        let Some(closed_at) = closed_at else { return false };
        let is_durable = self.outstanding.iter().all(|item| item.spooled.is_some());
        let may_spool = self.tools.spool.is_some();
        is_durable || (!may_spool && closed_at.elapsed() >= CLOSE_PATIENCE)
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
                || self.is_stalled())
    }

    fn takes_more(&self) -> bool {
        self.window_bytes < WINDOW_BYTES || self.goes_to_spool()
    }

    fn may_forward(&self) -> bool {
        self.waiting.sent < self.waiting.end
            && matches!(self.check, Check::Known(_))
            && self.window_bytes < WINDOW_BYTES / 2
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
            let Request { batch, messages, bytes, reply, permit } = request;
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
        reply: Option<(oneshot::Sender<Result<Appended>>, OwnedSemaphorePermit)>,
        spooled: Option<(Offset, u64)>,
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
            refused: vec![],
            stored: None,
            reply,
            spooled,
        });
        self.finish_delivered().await;
    }

    async fn settle(&mut self, Delivery { item, rows, outcome, generation }: Delivery) {
        let index = item.checked_sub(self.first_item).and_then(|index| usize::try_from(index).ok());
        // Of a producer that was given up.
        let Some(item) = index.and_then(|index| self.outstanding.get_mut(index)) else { return };
        match outcome {
            Outcome::Stored(offset) => {
                let next_offset = offset + 1;
                let stored = item.stored.get_or_insert(Appended { offset, next_offset });
                stored.next_offset = stored.next_offset.max(next_offset);
            }
            Outcome::Refused(reason) => item.refused.push((rows, reason)),
            Outcome::Unknown(reason) => return self.give_up(&reason, generation).await,
        }
        item.undelivered -= 1;
        self.finish_delivered().await;
    }

    async fn finish_delivered(&mut self) {
        while self.outstanding.front().is_some_and(|item| item.undelivered == 0)
            && let Some(item) = self.outstanding.pop_front()
        {
            self.first_item += 1;
            self.window_bytes -= item.bytes;
            self.finish(item).await;
        }
    }

    /// Draws the consequences of rows whose outcome is known.
    async fn finish(&mut self, item: Item) {
        let Item { rows, mut refused, stored, reply, spooled, .. } = item;
        let partition = &self.tools.partition;
        if let Some(stored) = stored {
            partition.note_end(stored.next_offset);
        }
        if let Some((offset, bytes)) = spooled {
            // Who sent them was told that they are stored; nobody is left to be told otherwise.
            for (range, reason) in refused {
                let rows = rows.batch.slice(range.start, range.len());
                self.tools.rejects.refused(&partition.at, &rows, &reason).await;
            }
            self.waiting.forwarded = offset;
            if let Some(spool) = &self.tools.spool {
                spool.release(bytes);
            }
            self.tell_forwarded(false).await;
        } else if let Some((reply, _permit)) = reply {
            let answer = match refused.pop() {
                Some((_, reason)) => {
                    meters::refused(&partition.at, rows.batch.num_rows());
                    Err(LogError::Rejected { at: partition.at.clone(), reason })
                }
                None => Ok(stored.unwrap_or_else(|| self.elsewhere())),
            };
            let _ = reply.send(answer);
        }
    }

    /// The producer cannot say what became of its messages, and never will.
    async fn give_up(&mut self, reason: &str, generation: Generation) {
        tracing::warn!(at = %self.tools.partition.at, reason, "looking in Kafka for what has arrived");
        if self.tools.spool.is_some() {
            self.spool_overdue().await;
        }
        let at = &self.tools.partition.at;
        for item in self.outstanding.drain(..) {
            self.first_item += 1;
            if let Some((reply, _permit)) = item.reply {
                let reason = reason.to_owned();
                let _ = reply.send(Err(LogError::Unavailable { at: at.clone(), reason }));
            }
        }
        self.window_bytes = 0;
        self.waiting.sent = self.waiting.forwarded;
        if self.waiting.sent < self.waiting.end {
            self.check = Check::Unknown;
        }
        if let Err(error) = self.tools.producer.replace(generation) {
            tracing::error!(%error, "no new producer; rows stay in the spool");
        }
    }

    /// Spools appends together, and answers them.
    async fn spool(&mut self, requests: Vec<Request>) {
        let (mut rows, mut replies) = (vec![], vec![]);
        for Request { batch, reply, permit, .. } in requests {
            if batch.num_rows() > 0 {
                rows.push(self.number(batch));
            }
            replies.push((reply, permit));
        }
        let outcome = self.append_to_spool(&rows).await.map(|()| self.elsewhere());
        for (reply, _permit) in replies {
            let _ = reply.send(outcome.clone());
        }
    }

    /// Spools what the producer has had for too long; if that fails, it is tried again later.
    async fn spool_overdue(&mut self) {
        if let Err(error) = self.spool_outstanding().await {
            tracing::warn!(at = %self.tools.partition.at, %error, "senders wait for Kafka");
        }
    }

    /// Spools what is in the producer's hands only, and answers who waits for it.
    async fn spool_outstanding(&mut self) -> Result<()> {
        let unspooled = self.outstanding.iter().filter(|item| item.spooled.is_none());
        let rows: Vec<Rows> = unspooled.map(|item| item.rows.clone()).collect();
        if rows.is_empty() {
            return Ok(());
        }
        assert_eq!(
            self.waiting.sent, self.waiting.end,
            "rows go to the producer at once only when the spool holds nothing unsent"
        );
        let mut offset = self.waiting.end;
        self.append_to_spool(&rows).await?;
        // They are in the producer's hands: not to be sent from the spool.
        self.waiting.sent = self.waiting.end;
        let answer = self.elsewhere();
        for item in self.outstanding.iter_mut().filter(|item| item.spooled.is_none()) {
            offset += item.rows.batch.num_rows() as u64;
            item.spooled = Some((offset, batch_bytes(&item.rows.batch) as u64));
            if let Some((reply, _permit)) = item.reply.take() {
                let _ = reply.send(Ok(answer));
            }
        }
        Ok(())
    }

    /// Where rows landed that have still to reach their partition.
    fn elsewhere(&self) -> Appended {
        let end = self.tools.partition.offsets().end;
        Appended { offset: end, next_offset: end }
    }

    async fn append_to_spool(&mut self, rows: &[Rows]) -> Result<()> {
        let Some(spool) = &self.tools.spool else { return Ok(()) };
        match spool.append(&self.tools.partition.at, rows).await {
            Ok(end) => {
                if self.waiting.forwarded == self.waiting.end {
                    self.waiting.oldest_unix_millis = unix_millis();
                }
                self.waiting.end = end;
                self.show_waiting();
                Ok(())
            }
            Err(error) => {
                self.spool_from = Instant::now() + SPOOL_RETRY;
                Err(error)
            }
        }
    }

    /// Gives the producer the next rows of the spool.
    async fn forward(&mut self) {
        let Some(spool) = self.tools.spool.clone() else { return };
        let at = self.tools.partition.at.clone();
        let entries = match spool.read(&at, self.waiting.sent, FORWARD_BYTES).await {
            Ok(entries) => entries,
            Err(error) => {
                tracing::error!(%at, %error, "the spool cannot be read; rows wait in it");
                self.spool_from = Instant::now() + SPOOL_RETRY;
                return;
            }
        };
        for entry in entries {
            let before = self.waiting.sent;
            self.waiting.sent = entry.next_offset;
            self.waiting.oldest_unix_millis = entry.unix_millis;
            let missing: Vec<Rows> = match &self.check {
                Check::Known(arrivals) => {
                    entry.rows.into_iter().map(|rows| arrivals.missing(rows)).collect()
                }
                _ => entry.rows,
            };
            let last = missing.len().saturating_sub(1);
            for (index, rows) in missing.into_iter().enumerate() {
                // Only when the last rows have arrived, the entry has.
                let spooled =
                    if index == last { (entry.next_offset, entry.bytes) } else { (before, 0) };
                let partition = Arc::clone(&self.tools.partition);
                let batch = rows.batch.clone();
                let encode = move || partition.codec.encode(&batch);
                let encoded = tokio::task::spawn_blocking(encode).await;
                match encoded.unwrap_or_else(|error| Err(error.to_string())) {
                    Ok(messages) => {
                        let bytes = messages.iter().map(|message| message.payload.len()).sum();
                        self.send(rows, messages, bytes, None, Some(spooled)).await;
                    }
                    Err(reason) => {
                        self.tools.rejects.refused(&at, &rows.batch, &reason).await;
                        self.send(rows, vec![], 0, None, Some(spooled)).await;
                    }
                }
            }
        }
    }

    /// Looks in Kafka for rows of the spool, if it is not known which of them are there.
    async fn begin_look(&mut self) {
        if !matches!(self.check, Check::Unknown) {
            return;
        }
        let Some(spool) = &self.tools.spool else { return };
        let at = self.tools.partition.at.clone();
        match spool.read(&at, self.waiting.forwarded, 1).await {
            Ok(entries) => {
                let first = entries.first().and_then(|entry| entry.rows.first());
                let after = first.map_or(0, |rows| rows.after);
                let look = look(Arc::clone(&self.tools.readers), at, after);
                self.check = Check::Looking(tokio::spawn(look));
            }
            Err(error) => {
                tracing::error!(%at, %error, "the spool cannot be read; rows wait in it");
                tokio::time::sleep(SPOOL_RETRY).await;
            }
        }
    }

    /// Counts what a process before this one has left in the spool.
    async fn count_waiting(&mut self) {
        let Some(spool) = self.tools.spool.clone() else { return };
        let (mut from, end) = (self.waiting.forwarded, self.waiting.end);
        while from < end {
            match spool.read(&self.tools.partition.at, from, FORWARD_BYTES).await {
                Ok(entries) if !entries.is_empty() => {
                    if from == self.waiting.forwarded {
                        self.waiting.oldest_unix_millis = entries[0].unix_millis;
                    }
                    spool.found(entries.iter().map(|entry| entry.bytes).sum());
                    from = entries.last().map_or(end, |last| last.next_offset);
                }
                _ => break,
            }
        }
        self.show_waiting();
    }

    async fn tell_forwarded(&mut self, at_once: bool) {
        self.show_waiting();
        let Waiting { forwarded, told: (told, when), end, .. } = self.waiting;
        let is_due = at_once || forwarded == end || when.elapsed() >= FORWARDED_EVERY;
        let Some(spool) = self.tools.spool.as_ref().filter(|_| is_due && told < forwarded) else {
            return;
        };
        match spool.set_forwarded(&self.tools.partition.at, forwarded).await {
            Ok(()) => self.waiting.told = (forwarded, Instant::now()),
            Err(error) => tracing::warn!(%error, "what was forwarded is looked for after a crash"),
        }
    }

    fn show_waiting(&self) {
        let Waiting { forwarded, end, oldest_unix_millis, .. } = self.waiting;
        let age_millis = match forwarded < end {
            true => unix_millis().saturating_sub(oldest_unix_millis),
            false => 0,
        };
        meters::waiting(&self.tools.partition.at, end - forwarded, age_millis);
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn unix_millis() -> i64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_epoch.map_or(0, |t| i64::try_from(t.as_millis()).unwrap_or(i64::MAX))
}
