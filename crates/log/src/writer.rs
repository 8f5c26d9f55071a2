//! The thread that writes a partition: group commit.
//!
//! It takes what is queued, writes it with one (vectored) write and one `fdatasync`, makes it
//! visible to readers and then answers the senders. While it waits for the disk the next group
//! gathers, so that groups grow with the load.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, IoSlice, Write},
    sync::Arc,
    time::{Instant, SystemTime},
};

use arrow::compute::concat_batches;
use tokio::sync::oneshot;

use crate::{
    entry::{EncodedBatch, EntryHeader, HEADER_BYTES},
    error::{LogError, Result},
    partition::Partition,
    queue::{Append, Rows, Work},
    segment::Segment,
    types::{Appended, Offset},
};

/// Rows that merged appends may reach together.
const MERGED_ROWS: Offset = 8 * 1024;

/// Owns the active segment of a partition.
pub(crate) struct Writer {
    partition: Arc<Partition>,
    segment: Arc<Segment>,
    file: File,
    segment_bytes: u64,
    /// The last group was refused for want of space; said once, not for every group.
    full: bool,
    /// Why nothing can be written any more.
    failed: Option<String>,
}

/// Why a group was not written.
enum Failure {
    /// Nothing of it is left in the file.
    Refused(io::Error),
    /// What the file holds is not known.
    Unknown(String),
}

/// A sender that waits, and the rows it waits for.
struct Waiting {
    rows: Offset,
    reply: oneshot::Sender<Result<Appended>>,
}

impl Writer {
    /// A writer that goes on in `file`, the last of the partition's segments.
    pub(crate) fn new(partition: Arc<Partition>, file: File, segment_bytes: u64) -> Self {
        let segment = partition.segments.read().back().map(Arc::clone);
        let segment = segment.expect("recovery leaves an active segment");
        Self { partition, segment, file, segment_bytes, full: false, failed: None }
    }

    /// Works until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        while let Some(work) = self.partition.queue.take() {
            match work {
                Work::Group(appends) => self.commit(appends),
                Work::RollIfOlder(unix_millis) => self.roll_if_older(unix_millis),
            }
        }
        if self.failed.is_none() {
            self.segment.write_index();
        }
    }

    fn commit(&mut self, appends: Vec<Append>) {
        let topic = self.partition.at.topic.to_string();
        metrics::histogram!("thalweg_log_group_appends", "topic" => topic.clone())
            .record(appends.len() as f64);
        // Their memory stays reserved until the group is done.
        let mut permits = Vec::with_capacity(appends.len());
        let (mut waiting, mut pieces) = (vec![], vec![]);
        let mut runs = VecDeque::from(runs_of_few(appends));
        while let Some(mut run) = runs.pop_front() {
            let rows: Vec<_> = run.iter().map(|append| append.rows.count()).collect();
            match encode(&mut run) {
                Ok(encoded) => pieces.extend(encoded),
                // Together they may exceed what one dictionary can hold.
                Err(_) if run.len() > 1 => {
                    run.into_iter().rev().for_each(|append| runs.push_front(vec![append]));
                    continue;
                }
                Err(reason) => {
                    let error = LogError::Rejected { at: self.partition.at.clone(), reason };
                    run.into_iter().for_each(|append| answer(append.reply, Err(error.clone())));
                    continue;
                }
            }
            for (append, rows) in run.into_iter().zip(rows) {
                permits.push(append.permit);
                waiting.push(Waiting { rows, reply: append.reply });
            }
        }
        let mut offset = self.partition.durable.borrow().end;
        match self.write(pieces) {
            Ok(()) => {
                for Waiting { rows, reply } in waiting {
                    let next_offset = offset + rows;
                    answer(reply, Ok(Appended { offset, next_offset }));
                    offset = next_offset;
                }
            }
            Err(error) => {
                waiting.into_iter().for_each(|waiting| answer(waiting.reply, Err(error.clone())));
            }
        }
    }

    /// Makes `pieces` durable and visible, or leaves no trace of them.
    fn write(&mut self, pieces: Vec<EncodedBatch>) -> Result<()> {
        let at = self.partition.at.clone();
        if let Some(reason) = &self.failed {
            return Err(LogError::Unavailable { at, reason: reason.clone() });
        }
        if pieces.is_empty() {
            return Ok(());
        }
        match self.write_entries(&pieces) {
            Ok(headers) => {
                self.publish(pieces, &headers);
                if std::mem::replace(&mut self.full, false) {
                    tracing::info!(%at, "storage has room again; appends are accepted");
                }
                Ok(())
            }
            Err(Failure::Refused(error)) if is_full(&error) => {
                metrics::counter!("thalweg_log_storage_full_total", "topic" => at.topic.to_string())
                    .increment(1);
                if !std::mem::replace(&mut self.full, true) {
                    tracing::error!(%at, %error, "storage is full; appends are refused until there is room");
                }
                Err(LogError::StorageFull(at))
            }
            Err(Failure::Refused(error)) => {
                tracing::error!(%at, %error, "write failed; the appends were refused");
                Err(LogError::Unavailable { at, reason: error.to_string() })
            }
            Err(Failure::Unknown(reason)) => {
                metrics::gauge!("thalweg_log_failed_partitions", "topic" => at.topic.to_string())
                    .increment(1);
                tracing::error!(%at, reason, "partition stopped");
                let error = LogError::Unavailable { at, reason: reason.clone() };
                self.failed = Some(reason);
                Err(error)
            }
        }
    }

    fn write_entries(&mut self, pieces: &[EncodedBatch]) -> Result<Vec<EntryHeader>, Failure> {
        let total: u64 =
            pieces.iter().map(|piece| (HEADER_BYTES + piece.payload.len()) as u64).sum();
        let mut durable_bytes = self.segment.extent.read().bytes;
        let end = self.partition.durable.borrow().end;
        if end > self.segment.base && durable_bytes + total > self.segment_bytes {
            self.roll(end).map_err(Failure::Refused)?;
            durable_bytes = self.segment.extent.read().bytes;
        }
        let headers = headers(pieces, self.segment.salt, end, unix_millis());
        let bytes: Vec<_> = headers.iter().map(|header| header.to_bytes()).collect();
        let mut slices: Vec<_> = bytes
            .iter()
            .zip(pieces)
            .flat_map(|(header, piece)| [IoSlice::new(header), IoSlice::new(&piece.payload)])
            .collect();
        if let Err(error) = write_all_vectored(&mut self.file, &mut slices) {
            // Synced, so that a crash does not bring back whole entries whose senders were refused.
            return match self.file.set_len(durable_bytes).and_then(|()| self.file.sync_data()) {
                Ok(()) => Err(Failure::Refused(error)),
                Err(undo) => Err(Failure::Unknown(format!(
                    "write failed ({error}), and so did undoing it ({undo}); restart to recover"
                ))),
            };
        }
        let started = Instant::now();
        // After a failed fsync the kernel may have marked the pages clean: a second call would
        // succeed without writing them (Rebello et al., "Can Applications Recover from fsync
        // Failures?", USENIX ATC 2020). Only reading the file anew tells what it holds.
        self.file.sync_data().map_err(|error| {
            Failure::Unknown(format!("fsync failed ({error}); restart to recover"))
        })?;
        metrics::histogram!("thalweg_log_fsync_seconds").record(started.elapsed().as_secs_f64());
        metrics::counter!("thalweg_log_appended_bytes_total", "topic" => self.partition.at.topic.to_string()).increment(total);
        Ok(headers)
    }

    /// Shows durable entries to readers.
    fn publish(&mut self, pieces: Vec<EncodedBatch>, headers: &[EntryHeader]) {
        let mut extent = self.segment.extent.write();
        for header in headers {
            let position = extent.bytes;
            extent.push(position, header);
        }
        let end = extent.end;
        drop(extent);
        let mut cache = self.partition.cache.lock();
        for (header, piece) in headers.iter().zip(pieces) {
            cache.push(header.entry(piece.batch), piece.memory_bytes);
        }
        drop(cache);
        let rows = end - self.partition.durable.borrow().end;
        metrics::counter!("thalweg_log_appended_rows_total", "topic" => self.partition.at.topic.to_string()).increment(rows);
        self.partition.durable.send_modify(|durable| durable.end = end);
    }

    fn roll_if_older(&mut self, unix_millis: i64) {
        let end = self.partition.durable.borrow().end;
        let idle = self.segment.extent.read().last_append < unix_millis;
        if self.failed.is_none()
            && end > self.segment.base
            && idle
            && let Err(error) = self.roll(end)
        {
            tracing::warn!(at = %self.partition.at, %error, "idle segment not closed");
        }
    }

    /// Begins a new segment at `base`.
    fn roll(&mut self, base: Offset) -> io::Result<()> {
        let directory = self.segment.path.parent().expect("a segment lies in a directory");
        let (segment, file) = Segment::create(directory, base)?;
        self.segment.write_index();
        self.segment = Arc::new(segment);
        self.file = file;
        self.partition.segments.write().push_back(Arc::clone(&self.segment));
        Ok(())
    }
}

impl Drop for Writer {
    /// Also when the thread panics: nobody may wait for a writer that is gone.
    fn drop(&mut self) {
        self.partition.queue.close();
        while self.partition.queue.take().is_some() {}
        self.partition.durable.send_modify(|durable| durable.closed = true);
    }
}

/// Groups neighbours that are to become one entry; everything else stands alone.
fn runs_of_few(appends: Vec<Append>) -> Vec<Vec<Append>> {
    let mut runs: Vec<Vec<Append>> = vec![];
    let mut rows = 0;
    for append in appends {
        let more = append.rows.count();
        match runs.last_mut() {
            Some(run) if rows + more <= MERGED_ROWS && mergeable(run.last(), &append) => {
                rows += more;
                run.push(append);
            }
            _ => {
                rows = more;
                runs.push(vec![append]);
            }
        }
    }
    runs
}

fn mergeable(last: Option<&Append>, next: &Append) -> bool {
    match (last.map(|last| &last.rows), &next.rows) {
        (Some(Rows::Few(last)), Rows::Few(next)) => last.schema_ref() == next.schema_ref(),
        _ => false,
    }
}

/// The entries of a run: one of all its few rows together, or those that were encoded already.
fn encode(run: &mut [Append]) -> Result<Vec<EncodedBatch>, String> {
    let mut few = vec![];
    for append in run {
        match &mut append.rows {
            Rows::Encoded(pieces) => return Ok(std::mem::take(pieces)),
            Rows::Few(batch) => few.push(&*batch),
        }
    }
    let Some(first) = few.first() else { return Ok(vec![]) };
    let batch = match few.len() {
        1 => (*first).clone(),
        _ => concat_batches(first.schema_ref(), few.iter().copied())
            .map_err(|error| error.to_string())?,
    };
    Ok(vec![EncodedBatch::new(batch)?])
}

/// Headers of `pieces` as one group that begins at `group_offset`.
fn headers(
    pieces: &[EncodedBatch],
    salt: u64,
    group_offset: Offset,
    append_unix_millis: i64,
) -> Vec<EntryHeader> {
    let mut offset = group_offset;
    let header = |piece: &EncodedBatch| {
        let rows =
            u32::try_from(piece.batch.num_rows()).expect("pieces are smaller than 4 Gi rows");
        let bytes = |bytes| u32::try_from(bytes).expect("payloads are limited to 256 MiB");
        let header = EntryHeader {
            salt,
            offset,
            group_offset,
            append_unix_millis,
            rows,
            payload_bytes: bytes(piece.payload.len()),
            payload_crc: piece.payload_crc,
            stream_bytes: bytes(piece.stream_bytes),
        };
        offset = header.next_offset();
        header
    };
    pieces.iter().map(header).collect()
}

fn write_all_vectored(file: &mut File, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    while !slices.is_empty() {
        match file.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut slices, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull, WriteZero};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge | WriteZero)
}

/// Whoever dropped the future of an append does not wait for the answer.
fn answer(reply: oneshot::Sender<Result<Appended>>, result: Result<Appended>) {
    let _ = reply.send(result);
}

/// The wall clock, in milliseconds since the Unix epoch.
pub(crate) fn unix_millis() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
