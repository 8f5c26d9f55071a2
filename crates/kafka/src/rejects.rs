//! Rows for the topic of rejected records.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arrow::array::RecordBatch;
use thalweg_event::{Fault, RejectedBatchBuilder, schema::topic};
use thalweg_log::{Log, LogError, TopicPartition};
use tokio_util::sync::CancellationToken;

use crate::{codec::to_json, lane_handle::LaneHandle, meters};

/// Name of rows that a broker refused among the formats in table `rejected`.
const FORMAT: &str = "kafka";
/// Pause after an append that may succeed later.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Stores what cannot be stored where it belongs.
#[derive(Clone)]
pub(crate) struct Rejects {
    pub(crate) place: RejectsPlace,
    /// When the log is closed, nobody waits any more for records to be stored.
    pub(crate) closed: CancellationToken,
}

/// Where rejected records are stored.
#[derive(Clone)]
pub(crate) enum RejectsPlace {
    /// There is no topic for them: says so only.
    Nowhere,
    /// In the topic for them of the log itself.
    Lane(LaneHandle),
    /// In the topic for them of another log.
    Log(Arc<dyn Log>),
}

impl Rejects {
    /// Stores rows of `at` that a broker has refused for good, which had been acknowledged; `false`
    /// when the log was closed before they were stored.
    pub(crate) async fn refused(
        &self,
        at: &TopicPartition,
        rows: &RecordBatch,
        reason: &str,
    ) -> bool {
        meters::refused(at, rows.num_rows());
        let mut rejected = RejectedBatchBuilder::default();
        let fault = Fault(format!("{at}: the broker refuses it: {reason}"));
        match to_json(rows) {
            Ok(objects) => objects.iter().enumerate().for_each(|(index, object)| {
                rejected.push(FORMAT, index, &fault, object);
            }),
            Err(error) => tracing::error!(%at, %error, "refused rows cannot be written as JSON"),
        }
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX);
        self.store(at, rejected.finish(now, None)).await
    }

    /// Stores rows of the schema of rejected records; resolves when they are durable, or to `false`
    /// when the log was closed before.
    pub(crate) async fn store(&self, at: &TopicPartition, rejected: RecordBatch) -> bool {
        let rows = rejected.num_rows();
        loop {
            let appended = match &self.place {
                RejectsPlace::Lane(lane) => lane.append(rejected.clone()).await,
                RejectsPlace::Log(log) => {
                    log.append(TopicPartition::new(topic::REJECTED, 0), rejected.clone()).await
                }
                RejectsPlace::Nowhere => {
                    tracing::error!(%at, rows, "there is no topic for records that are refused");
                    return true;
                }
            };
            match appended {
                Ok(_) => return true,
                Err(error @ (LogError::Rejected { .. } | LogError::Config(_))) => {
                    tracing::error!(%at, rows, %error, "records are lost that nobody takes");
                    return true;
                }
                Err(error) => {
                    tracing::warn!(%at, rows, %error, "rejected records wait");
                    let pause = tokio::time::sleep(RETRY_DELAY);
                    if self.closed.run_until_cancelled(pause).await.is_none() {
                        return false;
                    }
                }
            }
        }
    }
}
