//! What waits on this machine's disk while brokers are away: an embedded log.
//!
//! Rows stand there with their stamp, and with the end that the partition had in Kafka before they
//! may have been sent: only from there on need one look for them.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use arrow::{
    array::{ArrayRef, AsArray as _, FixedSizeBinaryArray, RecordBatch, UInt64Array},
    compute::concat_batches,
    datatypes::{Field, Schema, UInt64Type},
};
use thalweg_log::{
    EmbeddedLog, Log as _, LogConfig, LogError, Offset, Result, RetentionConfig, TopicConfig,
    TopicPartition,
};
use tokio::task::spawn_blocking;
use uuid::Uuid;

use crate::{config::SpoolConfig, partition::batch_bytes, stamp::Stamp};

/// Group under which the spool keeps what has been forwarded.
const GROUP: &str = "forward";
/// Files are removed whole: small ones give their space back soon.
const SEGMENT_BYTES: u64 = 16 << 20;
/// Memory for rows that are forwarded soon.
const CACHE_BYTES: usize = 32 << 20;

/// Names of the columns that rows have in the spool only.
const ORIGIN: &str = "__origin";
const SEQUENCE: &str = "__sequence";
const AFTER: &str = "__after";
/// How many they are.
const STAMP_COLUMNS: usize = 3;
/// Bytes of a UUID.
const UUID_BYTES: i32 = 16;

/// Rows that wait on disk until Kafka has them.
pub(crate) struct Spool {
    log: EmbeddedLog,
    limit_bytes: u64,
    /// Of what waits, in memory; of what waited at the start, about.
    waiting_bytes: AtomicU64,
}

/// Rows of one batch that follow each other.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rows {
    pub(crate) batch: RecordBatch,
    /// Where they come from, and their numbers.
    pub(crate) origin: Uuid,
    pub(crate) sequence: u64,
    /// End of the partition in Kafka before they may have been sent.
    pub(crate) after: Offset,
}

/// An entry of the spool.
#[derive(Debug)]
pub(crate) struct Spooled {
    pub(crate) rows: Vec<Rows>,
    pub(crate) next_offset: Offset,
    pub(crate) unix_millis: i64,
    pub(crate) bytes: u64,
}

impl Rows {
    /// Stamp of a message with the rows `range` of these.
    pub(crate) fn stamp(&self, range: &std::ops::Range<usize>) -> Stamp {
        let sequence = self.sequence + range.start as u64;
        let rows = u32::try_from(range.len()).unwrap_or(u32::MAX);
        Stamp { origin: self.origin, sequence, rows }
    }

    /// Those whose numbers are `sequences`, which lie among these; `None` if that is none.
    pub(crate) fn between(&self, sequences: std::ops::Range<u64>) -> Option<Self> {
        let rows = sequences.end.checked_sub(sequences.start).filter(|rows| *rows > 0)?;
        let skip = sequences.start - self.sequence;
        let batch = self.batch.slice(skip as usize, rows as usize);
        Some(Self { batch, sequence: sequences.start, ..self.clone() })
    }
}

impl Spool {
    /// Opens the spool for the partitions of `topics`.
    ///
    /// # Errors
    /// Those of [`EmbeddedLog::open`].
    pub(crate) async fn open(config: &SpoolConfig, topics: Vec<TopicConfig>) -> Result<Arc<Self>> {
        let names: Vec<_> =
            topics.iter().map(|topic| (topic.name.clone(), topic.partitions)).collect();
        let log_config = LogConfig {
            directory: config.directory.clone(),
            topics,
            segment_bytes: SEGMENT_BYTES,
            tail_cache_bytes: CACHE_BYTES,
            retention: RetentionConfig {
                age_secs: 0,
                partition_bytes: 0,
                partition_hard_limit_bytes: u64::MAX,
                grace_secs: 0,
            },
            ..LogConfig::default()
        };
        let opened = spawn_blocking(|| EmbeddedLog::open(log_config)).await;
        let failed = |error: tokio::task::JoinError| LogError::Config(error.to_string());
        let (log, recovery) = opened.map_err(failed)??;
        if !recovery.is_clean() {
            tracing::warn!(?recovery, "spool opened");
        }
        let spool = Self { log, limit_bytes: config.limit_bytes, waiting_bytes: AtomicU64::new(0) };
        let mut waiting_rows = 0;
        for (name, partitions) in names {
            for partition in 0..partitions {
                let at = TopicPartition::new(name.as_str(), partition);
                let (forwarded, end) = spool.range(&at)?;
                // From now on retention keeps what has not been forwarded.
                spool.set_forwarded(&at, forwarded).await?;
                waiting_rows += end - forwarded;
            }
        }
        if waiting_rows > 0 {
            tracing::info!(rows = waiting_rows, "rows wait in the spool");
        }
        Ok(Arc::new(spool))
    }

    /// What has been forwarded, and where the spool of a partition ends.
    pub(crate) fn range(&self, at: &TopicPartition) -> Result<(Offset, Offset)> {
        let range = self.log.offsets(at.clone())?;
        let forwarded = self.log.committed(GROUP, at.clone())?.unwrap_or(0);
        Ok((forwarded.max(range.start), range.end))
    }

    /// Stores rows durably; answers where the spool of the partition ends then, and how many bytes
    /// are to be released when they have been forwarded.
    ///
    /// # Errors
    /// [`LogError::Overloaded`] at the limit; the disk's errors.
    pub(crate) async fn append(&self, at: &TopicPartition, rows: &[Rows]) -> Result<(Offset, u64)> {
        let bytes: u64 = rows.iter().map(|rows| batch_bytes(&rows.batch) as u64).sum();
        let reserve = |waiting: u64| Some(waiting + bytes).filter(|sum| *sum <= self.limit_bytes);
        let reserved =
            self.waiting_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, reserve);
        reserved.map_err(|waiting| LogError::Overloaded {
            at: at.clone(),
            reason: format!(
                "{waiting} bytes wait in the spool for Kafka, and log.kafka.spool.limit_bytes is \
                 {}; retry when brokers are back",
                self.limit_bytes
            ),
        })?;
        let stored = self.store(at, rows).await;
        if stored.is_err() {
            self.release(bytes);
        }
        Ok((stored?, bytes))
    }

    async fn store(&self, at: &TopicPartition, rows: &[Rows]) -> Result<Offset> {
        let rejected = |error: arrow::error::ArrowError| LogError::Rejected {
            at: at.clone(),
            reason: error.to_string(),
        };
        let stamped = rows.iter().map(stamped).collect::<Result<Vec<_>, _>>().map_err(rejected)?;
        let Some(schema) = stamped.first().map(RecordBatch::schema) else {
            return Ok(self.range(at)?.1);
        };
        let batch = concat_batches(&schema, &stamped).map_err(rejected)?;
        let count = batch.num_rows() as u64;
        let appended = self.log.append(at.clone(), batch).await?;
        metrics::counter!("thalweg_kafka_spooled_rows_total", "topic" => at.topic.to_string())
            .increment(count);
        Ok(appended.next_offset)
    }

    /// What waits from `from` on, up to about `max_bytes`.
    pub(crate) async fn read(
        &self,
        at: &TopicPartition,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Vec<Spooled>> {
        let entries = self.log.read(at.clone(), from, max_bytes).await?;
        let entries = entries.into_iter().map(|entry| {
            let batch = entry.after(from);
            let bytes = batch_bytes(&batch) as u64;
            let rows = unstamped(&batch).ok_or_else(|| LogError::Corrupt {
                place: format!("spool of {at}, offset {}", entry.offset),
                reason: "rows have no stamp; remove the spool if it is not thalweg's".into(),
            })?;
            let (next_offset, unix_millis) = (entry.next_offset, entry.append_unix_millis);
            Ok(Spooled { rows, next_offset, unix_millis, bytes })
        });
        entries.collect()
    }

    /// Notes that Kafka has everything before `offset`.
    pub(crate) async fn set_forwarded(&self, at: &TopicPartition, offset: Offset) -> Result<()> {
        self.log.commit(GROUP, at.clone(), offset).await
    }

    /// Notes that `bytes` of what waited do not any more.
    pub(crate) fn release(&self, bytes: u64) {
        let release = |waiting: u64| Some(waiting.saturating_sub(bytes));
        let _ = self.waiting_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, release);
    }

    /// Counts `bytes` that waited before the start.
    pub(crate) fn found(&self, bytes: u64) {
        self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that wait, in all partitions together.
    pub(crate) fn waiting_bytes(&self) -> u64 {
        self.waiting_bytes.load(Ordering::Relaxed)
    }

    /// Closes the files. Blocks for the disk.
    pub(crate) fn close(&self) {
        self.log.close();
    }
}

fn stamped(rows: &Rows) -> Result<RecordBatch, arrow::error::ArrowError> {
    let count = rows.batch.num_rows();
    let origins = std::iter::repeat_n(rows.origin.as_bytes(), count);
    let columns: [(&str, ArrayRef); STAMP_COLUMNS] = [
        (ORIGIN, Arc::new(FixedSizeBinaryArray::try_from_iter(origins)?)),
        (SEQUENCE, Arc::new(UInt64Array::from_iter_values((rows.sequence..).take(count)))),
        (AFTER, Arc::new(UInt64Array::from_value(rows.after, count))),
    ];
    let mut fields = rows.batch.schema_ref().fields().to_vec();
    let mut all = rows.batch.columns().to_vec();
    for (name, column) in columns {
        fields.push(Arc::new(Field::new(name, column.data_type().clone(), false)));
        all.push(column);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), all)
}

/// The rows of an entry, cut where origins or numbers do not go on; `None` if they have none.
fn unstamped(batch: &RecordBatch) -> Option<Vec<Rows>> {
    let origins = batch.column_by_name(ORIGIN)?.as_fixed_size_binary_opt()?;
    let is_uuid = origins.value_length() == UUID_BYTES;
    let sequences = batch.column_by_name(SEQUENCE)?.as_primitive_opt::<UInt64Type>()?;
    let afters = batch.column_by_name(AFTER)?.as_primitive_opt::<UInt64Type>()?;
    if !is_uuid {
        return None;
    }
    let columns: Vec<usize> = (0..batch.num_columns().checked_sub(STAMP_COLUMNS)?).collect();
    let plain = batch.project(&columns).ok()?;
    let mut rows = vec![];
    let mut begin = 0;
    for row in 1..=batch.num_rows() {
        let goes_on = row < batch.num_rows()
            && origins.value(row) == origins.value(begin)
            && sequences.value(row).checked_sub(sequences.value(begin))
                == Some((row - begin) as u64);
        if !goes_on {
            rows.push(Rows {
                batch: plain.slice(begin, row - begin),
                origin: Uuid::from_slice(origins.value(begin)).ok()?,
                sequence: sequences.value(begin),
                after: afters.value(begin),
            });
            begin = row;
        }
    }
    Some(rows)
}

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;

    use super::*;

    fn rows(origin: u128, sequence: u64, count: i64) -> Rows {
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(0..count));
        let batch = RecordBatch::try_from_iter([("v", values)]).unwrap();
        Rows { batch, origin: Uuid::from_u128(origin), sequence, after: 7 }
    }

    fn at() -> TopicPartition {
        TopicPartition::new("logs.routine", 0)
    }

    async fn open(directory: &std::path::Path, limit_bytes: u64) -> Arc<Spool> {
        let config = SpoolConfig { directory: directory.to_owned(), limit_bytes };
        Spool::open(&config, vec![TopicConfig::new("logs.routine", 1)]).await.unwrap()
    }

    #[tokio::test]
    async fn rows_keep_their_numbers_through_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let spool = open(directory.path(), u64::MAX).await;
        let written = [rows(1, 10, 5), rows(1, 15, 2), rows(1, 20, 1), rows(2, 0, 3)];
        spool.append(&at(), &written).await.unwrap();
        spool.set_forwarded(&at(), 2).await.unwrap();
        spool.close();
        let spool = open(directory.path(), u64::MAX).await;
        assert_eq!(spool.range(&at()).unwrap(), (2, 11));
        let entries = spool.read(&at(), 2, usize::MAX).await.unwrap();
        let found: Vec<_> = entries
            .iter()
            .flat_map(|entry| &entry.rows)
            .map(|rows| (rows.origin.as_u128(), rows.sequence, rows.batch.num_rows(), rows.after))
            .collect();
        assert_eq!(found, [(1, 12, 5, 7), (1, 20, 1, 7), (2, 0, 3, 7)]);
    }

    #[tokio::test]
    async fn a_full_spool_takes_no_more_and_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let spool = open(directory.path(), 100).await;
        spool.append(&at(), &[rows(1, 0, 12)]).await.unwrap();
        let error = spool.append(&at(), &[rows(1, 12, 1)]).await.unwrap_err();
        assert!(matches!(error, LogError::Overloaded { .. }), "{error}");
        assert!(error.to_string().contains("96 bytes wait in the spool"), "{error}");
        spool.release(96);
        spool.append(&at(), &[rows(1, 12, 1)]).await.unwrap();
    }

    #[tokio::test]
    async fn what_has_not_been_forwarded_is_kept_before_anything_has() {
        let directory = tempfile::tempdir().unwrap();
        let spool = open(directory.path(), u64::MAX).await;
        // Random, so that compression does not keep it within one segment.
        let text: String = std::iter::repeat_with(fastrand::alphanumeric).take(12 << 20).collect();
        for sequence in 0..3 {
            let texts: ArrayRef = Arc::new(arrow::array::StringArray::from(vec![text.as_str()]));
            let batch = RecordBatch::try_from_iter([("v", texts)]).unwrap();
            let rows = Rows { batch, origin: Uuid::nil(), sequence, after: 0 };
            spool.append(&at(), &[rows]).await.unwrap();
        }
        let retain = Arc::clone(&spool);
        spawn_blocking(move || retain.log.apply_retention(i64::MAX)).await.unwrap();
        assert_eq!(spool.log.offsets(at()).unwrap().start, 0);
        spool.set_forwarded(&at(), 3).await.unwrap();
        let retain = Arc::clone(&spool);
        spawn_blocking(move || retain.log.apply_retention(i64::MAX)).await.unwrap();
        assert_ne!(spool.log.offsets(at()).unwrap().start, 0, "what was forwarded takes no space");
    }
}
