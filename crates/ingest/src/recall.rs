//! What the ingest knows of the log when it starts: the ids of recently stored events.

use std::collections::VecDeque;

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::{Int32Type, TimestampMicrosecondType},
};
use thalweg_event::schema::column;
use thalweg_log::{Log, LogError, TopicPartition};

use crate::{
    dedup::{Dedup, IdHash},
    id_seed,
};

/// Memory of log entries read at a time.
const READ_BYTES: usize = 8 << 20;

/// Rows looked at per id that can be remembered: most events have no sender's id, and a start
/// must not take for ever.
const ROWS_PER_ID: u64 = 4;

/// Teaches `dedup` the ids that senders gave to the events in `topics` within its window before
/// `now_millis`, so that what is sent again after a crash is stored once.
///
/// What cannot be read of the log is left out: better to accept an event twice than none at all.
///
/// # Errors
/// [`LogError::UnknownTopic`].
pub(crate) async fn recall(
    log: &dyn Log,
    topics: impl IntoIterator<Item = &str>,
    dedup: &Dedup,
    max_ids: usize,
    now_millis: i64,
) -> Result<(), LogError> {
    let mut recalled = VecDeque::new();
    for topic in topics {
        for partition in 0..log.partitions(topic)? {
            let at = TopicPartition::new(topic, partition);
            let mut newest = Newest { entries: VecDeque::new(), ids: 0, max_ids };
            if let Err(error) = recall_partition(log, &at, dedup, now_millis, &mut newest).await {
                tracing::warn!(%at, %error, "recent events sent again may be stored twice");
            }
            recalled.append(&mut newest.entries);
        }
    }
    recalled.make_contiguous().sort_by_key(|(millis, _)| *millis);
    let ids: usize = recalled.iter().map(|(_, ids)| ids.len()).sum();
    for (millis, ids) in recalled {
        dedup.remember(ids, millis);
    }
    tracing::info!(ids, "recalled the ids of recently stored events");
    Ok(())
}

async fn recall_partition(
    log: &dyn Log,
    at: &TopicPartition,
    dedup: &Dedup,
    now_millis: i64,
    newest: &mut Newest,
) -> Result<(), LogError> {
    let end = log.offsets(at.clone())?.end;
    let since_millis = now_millis.saturating_sub(dedup.window_millis());
    let within_window = log.offset_at(at.clone(), since_millis).await?;
    let at_most = (newest.max_ids as u64).saturating_mul(ROWS_PER_ID);
    let mut from = within_window.max(end.saturating_sub(at_most));
    while from < end {
        let entries = log.read(at.clone(), from, READ_BYTES).await?;
        let Some(last) = entries.last() else { break };
        from = last.next_offset;
        for entry in entries {
            newest.push(entry.append_unix_millis, sender_ids(&entry.batch, dedup));
        }
    }
    Ok(())
}

/// The newest ids of a partition: times of entries, and hashes of the ids in them.
struct Newest {
    entries: VecDeque<(i64, Vec<IdHash>)>,
    ids: usize,
    max_ids: usize,
}

impl Newest {
    fn push(&mut self, millis: i64, ids: Vec<IdHash>) {
        if ids.is_empty() {
            return;
        }
        self.ids += ids.len();
        self.entries.push_back((millis, ids));
        while let Some((_, oldest)) = self.entries.front()
            && self.ids - oldest.len() >= self.max_ids
        {
            self.ids -= oldest.len();
            self.entries.pop_front();
        }
    }
}

/// Hashes of the ids in a stored batch that senders gave.
fn sender_ids(batch: &RecordBatch, dedup: &Dedup) -> Vec<IdHash> {
    let ids = batch.column_by_name(column::EVENT_ID).and_then(|ids| ids.as_string_opt::<i32>());
    let times = batch
        .column_by_name(column::OBSERVED_TIMESTAMP)
        .and_then(|times| times.as_primitive_opt::<TimestampMicrosecondType>());
    let services = batch
        .column_by_name(column::SERVICE)
        .and_then(|services| services.as_dictionary_opt::<Int32Type>());
    let (Some(ids), Some(times), Some(_)) = (ids, times, services) else { return Vec::new() };
    let given = |(id, micros): &(&str, i64)| !id_seed::is_generated(id, micros.div_euclid(1000));
    let rows = ids.iter().zip(times.iter()).enumerate();
    let rows = rows.filter_map(|(row, (id, time))| Some((row, (id?, time?))));
    dedup.hashes(batch, rows.filter(|(_, event)| given(event)).map(|(row, _)| row))
}
