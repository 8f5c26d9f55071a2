//! A lane's rows in the spool: how they get there, and from there to the producer.

use std::{sync::Arc, time::Duration};

use thalweg_log::{Appended, Offset, Result};
use tokio::time::Instant;

use super::{FIRST_RETRY, Lane};
use crate::{
    arrivals::{Check, Look},
    backlog::Backlog,
    lane_handle::Request,
    message::Outgoing,
    meters,
    spool::{Rows, Spooled},
};

/// Rows that are read from the spool at once.
const FORWARD_BYTES: usize = 2 << 20;
/// How often the spool is told what has been forwarded; after a crash, what lies between is looked
/// for in Kafka.
const FORWARDED_EVERY: Duration = Duration::from_millis(500);

/// Where the lane's rows stand in the spool.
pub(super) struct Waiting {
    /// Everything before it is in Kafka.
    pub(super) forwarded: Offset,
    /// `forwarded` as the spool was told last, and when.
    pub(super) told: (Offset, Instant),
    /// Everything before it was given to the producer.
    pub(super) sent: Offset,
    pub(super) end: Offset,
    pub(super) backlog: Backlog,
}

impl Lane {
    /// Spools appends together, and answers them.
    pub(super) async fn spool(&mut self, requests: Vec<Request>) {
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
    pub(super) async fn spool_overdue(&mut self) {
        if let Err(error) = self.spool_outstanding().await {
            tracing::warn!(at = %self.tools.partition.at, %error, "senders wait for Kafka");
        }
    }

    /// Spools what is in the producer's hands only, and answers who waits for it.
    pub(super) async fn spool_outstanding(&mut self) -> Result<()> {
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
            item.spooled = Some(offset);
            if let Some((reply, _permit)) = item.reply.take() {
                let _ = reply.send(Ok(answer));
            }
        }
        Ok(())
    }

    /// Where rows landed that have still to reach their partition.
    pub(super) fn elsewhere(&self) -> Appended {
        let end = self.tools.partition.offsets().end;
        Appended { offset: end, next_offset: end }
    }

    async fn append_to_spool(&mut self, rows: &[Rows]) -> Result<()> {
        let Some(spool) = &self.tools.spool else { return Ok(()) };
        match spool.append(&self.tools.partition.at, rows).await {
            Ok((end, bytes)) => {
                self.waiting.end = end;
                self.waiting.backlog.push(end, bytes, unix_millis());
                self.show_waiting();
                Ok(())
            }
            Err(error) => {
                self.spool_from = Instant::now() + FIRST_RETRY;
                Err(error)
            }
        }
    }

    /// Gives the producer the next rows of the spool.
    pub(super) async fn forward(&mut self) {
        let Some(spool) = self.tools.spool.clone() else { return };
        let at = self.tools.partition.at.clone();
        let entries = match spool.read(&at, self.waiting.sent, FORWARD_BYTES).await {
            Ok(entries) => entries,
            Err(error) => {
                tracing::error!(%at, %error, "the spool cannot be read; rows wait in it");
                self.put_off();
                return;
            }
        };
        for entry in entries {
            let before = self.waiting.sent;
            self.waiting.sent = entry.next_offset;
            let Some(last_rows) = entry.rows.last().cloned() else { continue };
            let mut missing: Vec<Rows> = match &self.check {
                Check::Known(arrivals) => {
                    entry.rows.into_iter().flat_map(|rows| arrivals.missing(rows)).collect()
                }
                _ => entry.rows,
            };
            if missing.is_empty() {
                // The entry has arrived, once what is in front of it has.
                missing.push(Rows { batch: last_rows.batch.slice(0, 0), ..last_rows });
            }
            let last = missing.len() - 1;
            for (index, rows) in missing.into_iter().enumerate() {
                // Only when the last rows have arrived, the entry has.
                let spooled = if index == last { entry.next_offset } else { before };
                let partition = Arc::clone(&self.tools.partition);
                let batch = rows.batch.clone();
                let encode = move || partition.codec.encode(&batch);
                let encoded = tokio::task::spawn_blocking(encode).await;
                match encoded.unwrap_or_else(|error| Err(error.to_string())) {
                    Ok(messages) => {
                        let bytes = messages.iter().map(Outgoing::bytes).sum();
                        self.send(rows, messages, bytes, None, Some(spooled)).await;
                    }
                    Err(reason) => {
                        // As if a broker had refused it.
                        let refused = vec![(0..rows.batch.num_rows(), reason)];
                        self.is_halted |= !self.reject(&rows, refused).await;
                        self.send(rows, vec![], 0, None, Some(spooled)).await;
                    }
                }
            }
        }
    }

    /// Looks in Kafka for rows of the spool, if it is not known which of them are there.
    pub(super) async fn begin_look(&mut self) {
        if !matches!(self.check, Check::Unknown) {
            return;
        }
        let Some(spool) = &self.tools.spool else { return };
        let at = self.tools.partition.at.clone();
        match spool.read(&at, self.waiting.forwarded, 1).await {
            Ok(entries) => {
                let first = entries.first().and_then(|entry| entry.rows.first());
                let after = first.map_or(0, |rows| rows.after);
                let look = Look {
                    partition: Arc::clone(&self.tools.partition),
                    producer: Arc::clone(&self.tools.producer),
                    readers: Arc::clone(&self.tools.readers),
                    after,
                };
                self.check = Check::Looking(tokio::spawn(look.until_known()));
            }
            Err(error) => {
                tracing::error!(%at, %error, "the spool cannot be read; rows wait in it");
                tokio::time::sleep(FIRST_RETRY).await;
            }
        }
    }

    /// Counts what a process before this one has left in the spool.
    pub(super) async fn count_waiting(&mut self) {
        let Some(spool) = self.tools.spool.clone() else { return };
        let (mut from, end) = (self.waiting.forwarded, self.waiting.end);
        while from < end {
            match spool.read(&self.tools.partition.at, from, FORWARD_BYTES).await {
                Ok(entries) if !entries.is_empty() => {
                    for Spooled { next_offset, bytes, unix_millis, .. } in &entries {
                        spool.found(*bytes);
                        self.waiting.backlog.push(*next_offset, *bytes, *unix_millis);
                    }
                    from = entries.last().map_or(end, |last| last.next_offset);
                }
                _ => break,
            }
        }
        self.show_waiting();
    }

    pub(super) async fn tell_forwarded(&mut self, at_once: bool) {
        if let Some(spool) = &self.tools.spool {
            spool.release(self.waiting.backlog.release(self.waiting.forwarded));
        }
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

    pub(super) fn show_waiting(&self) {
        let Waiting { forwarded, end, backlog, .. } = &self.waiting;
        self.tools.partition.set_awaiting_more(forwarded < end);
        let age_millis = backlog.age_millis(unix_millis());
        meters::waiting(&self.tools.partition.at, end - forwarded, age_millis);
    }
}

fn unix_millis() -> i64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since_epoch.map_or(0, |t| i64::try_from(t.as_millis()).unwrap_or(i64::MAX))
}
