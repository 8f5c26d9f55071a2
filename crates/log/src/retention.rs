//! Removing the oldest segments of a partition.

use std::sync::Arc;

use crate::{
    config::RetentionConfig,
    partition::Partition,
    segment::{Segment, sync_directory},
    types::Offset,
};

impl Partition {
    /// Removes the segments that `policy` no longer keeps at `now_unix_millis`; `groups` have
    /// committed up to the given offsets. Blocks for the disk.
    pub(crate) fn apply_retention(
        &self,
        now_unix_millis: i64,
        policy: &RetentionConfig,
        groups: &[(String, Offset)],
    ) {
        let oldest_kept = now_unix_millis.saturating_sub(millis(policy.age_secs));
        // Only closed segments are removed; an idle partition's last one is closed for that.
        self.queue.request_roll(oldest_kept);
        self.note_consumption(now_unix_millis, groups);
        let mut removed = vec![];
        {
            let mut segments = self.segments.write();
            let mut bytes: u64 = segments.iter().map(|segment| segment.extent.read().bytes).sum();
            while segments.len() > 1
                && let Some(oldest) = segments.front()
            {
                let beyond_hard_limit = bytes > policy.partition_hard_limit_bytes;
                let surplus = bytes > policy.partition_bytes
                    || oldest.extent.read().last_append < oldest_kept;
                let rested = oldest.consumed_unix_millis.lock().is_some_and(|consumed| {
                    now_unix_millis.saturating_sub(consumed) >= millis(policy.grace_secs)
                });
                if !(beyond_hard_limit || surplus && rested) {
                    break;
                }
                bytes -= oldest.extent.read().bytes;
                removed.extend(segments.pop_front());
            }
        }
        for segment in &removed {
            self.report_loss(segment, groups);
            self.delete(segment);
        }
        self.gauge(groups);
    }

    /// Remembers when each closed segment was first seen to be read by every group.
    fn note_consumption(&self, now_unix_millis: i64, groups: &[(String, Offset)]) {
        let read_by_all = groups.iter().map(|(_, offset)| *offset).min();
        for segment in self.segments.read().iter().rev().skip(1) {
            let extent = segment.extent.read();
            let mut consumed = segment.consumed_unix_millis.lock();
            match read_by_all {
                Some(offset) if offset < extent.end => *consumed = None,
                Some(_) => *consumed = consumed.or(Some(now_unix_millis)),
                // Nobody has to read it: it has rested since it was written.
                None => *consumed = consumed.or(Some(extent.last_append)),
            }
        }
    }

    fn report_loss(&self, segment: &Segment, groups: &[(String, Offset)]) {
        let end = segment.extent.read().end;
        for (group, committed) in groups {
            let lost = end.saturating_sub(segment.base.max(*committed));
            if lost > 0 {
                tracing::error!(
                    at = %self.at, group, rows = lost, from = segment.base, to = end,
                    "the partition reached its hard limit: rows a consumer group had still to read were removed"
                );
                metrics::counter!(
                    "thalweg_log_retention_lost_rows_total",
                    "group" => group.clone(), "topic" => self.at.topic.to_string()
                )
                .increment(lost);
            }
        }
    }

    fn delete(&self, segment: &Arc<Segment>) {
        let synced =
            segment.remove().and_then(|()| segment.path.parent().map_or(Ok(()), sync_directory));
        match synced {
            Ok(()) => {
                tracing::debug!(at = %self.at, file = %segment.path.display(), "segment removed")
            }
            Err(error) => tracing::warn!(
                at = %self.at, file = %segment.path.display(), %error,
                "segment not removed; it is tried again after a restart"
            ),
        }
    }

    fn gauge(&self, groups: &[(String, Offset)]) {
        let labels =
            || [("topic", self.at.topic.to_string()), ("partition", self.at.partition.to_string())];
        metrics::gauge!("thalweg_log_retained_bytes", &labels()).set(self.bytes() as f64);
        metrics::gauge!("thalweg_log_queued_bytes", &labels())
            .set(self.queue.reserved_bytes() as f64);
        let end = self.offsets().end;
        for (group, committed) in groups {
            let [topic, partition] = labels();
            let labels = [topic, partition, ("group", group.clone())];
            metrics::gauge!("thalweg_log_consumer_lag_rows", &labels)
                .set(end.saturating_sub(*committed) as f64);
        }
    }
}

fn millis(secs: u64) -> i64 {
    i64::try_from(secs).unwrap_or(i64::MAX).saturating_mul(1000)
}
