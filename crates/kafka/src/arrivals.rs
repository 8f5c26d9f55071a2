//! Which rows are in Kafka already, after a crash left it unknown.

use std::{collections::HashMap, ops::Range, sync::Arc, time::Duration};

use thalweg_log::{Offset, Result, TopicPartition};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::{
    client::unavailable, message, partition::Partition, producer::Producer, readers::Readers,
    spool::Rows, stamp::Stamp,
};

/// Time that a broker that answers is given to do what it had been asked before.
///
/// Requests of a process that was killed lie in the sockets of its brokers. One that was paused, or
/// out of reach, reads them when it goes on, at once, but not before it has answered us.
const SETTLE: Duration = Duration::from_secs(2);
/// Waits between attempts to look.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// By origin, the numbers of the rows that have arrived.
///
/// They have holes where a broker refused a message, and took those after it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arrivals(HashMap<Uuid, Vec<Range<u64>>>);

impl Arrivals {
    /// What of `rows` has not arrived, in order.
    pub(crate) fn missing(&self, rows: Rows) -> Vec<Rows> {
        let arrived = self.0.get(&rows.origin).map_or(&[][..], Vec::as_slice);
        let end = rows.sequence + rows.batch.num_rows() as u64;
        let (mut next, mut missing) = (rows.sequence, vec![]);
        let first = arrived.partition_point(|range| range.end <= next);
        for range in arrived[first..].iter().take_while(|range| range.start < end) {
            missing.extend(rows.between(next..range.start));
            next = range.end;
        }
        missing.extend(rows.between(next..end));
        missing
    }

    fn note(&mut self, stamp: Stamp) {
        let rows = stamp.sequence..stamp.next_sequence();
        if rows.is_empty() {
            return;
        }
        let arrived = self.0.entry(stamp.origin).or_default();
        // All that touch it become one with it.
        let from = arrived.partition_point(|range| range.end < rows.start);
        let to = arrived.partition_point(|range| range.start <= rows.end);
        let touched = &arrived[from..to];
        let start = touched.first().map_or(rows.start, |first| first.start.min(rows.start));
        let end = touched.last().map_or(rows.end, |last| last.end.max(rows.end));
        arrived.splice(from..to, std::iter::once(start..end));
    }
}

/// Whether it is known what of the spool is in Kafka.
pub(crate) enum Check {
    Known(Arrivals),
    Unknown,
    Looking(JoinHandle<Arrivals>),
}

impl Check {
    /// Resolves to what is known once a look has ended.
    pub(crate) async fn looked(&mut self) -> Self {
        match self {
            Self::Looking(look) => match look.await {
                Ok(arrivals) => Self::Known(arrivals),
                Err(error) => {
                    tracing::error!(%error, "looking for rows that have arrived has failed");
                    Self::Unknown
                }
            },
            _ => std::future::pending().await,
        }
    }
}

/// Where to look for rows.
pub(crate) struct Look {
    pub(crate) partition: Arc<Partition>,
    pub(crate) producer: Arc<Producer>,
    pub(crate) readers: Arc<Readers>,
    /// Offset before which there are none of them.
    pub(crate) after: Offset,
}

impl Look {
    /// Looks, until it succeeds, what has arrived.
    pub(crate) async fn until_known(self) -> Arrivals {
        let at = &self.partition.at;
        let mut delay = FIRST_RETRY;
        loop {
            match self.once().await {
                Ok(arrivals) => return arrivals,
                Err(error) => tracing::info!(
                    %at, %error, "rows wait in the spool until it is known which have arrived"
                ),
            }
            tokio::time::sleep(with_jitter(delay)).await;
            delay = (delay * 2).min(LONGEST_RETRY);
        }
    }

    /// Looks up to a mark: consumers are shown what all in-sync replicas have, and rows that the
    /// leader alone has by now would be missed, and stored again.
    async fn once(&self) -> Result<Arrivals> {
        let at = self.partition.at.clone();
        self.blocking(|readers, at| readers.watermarks(at)).await?;
        tokio::time::sleep(SETTLE).await;
        let mark = self.producer.mark(&at, self.partition.codec.encoding()).await?;
        let after = self.after;
        self.blocking(move |readers, at| {
            let mut arrivals = Arrivals::default();
            let low = readers.watermarks(at)?.0;
            let is_whole = readers.scan(at, after.max(low), mark + 1, |message| {
                message::stamp(message).into_iter().for_each(|stamp| arrivals.note(stamp));
            })?;
            // Such as of a transaction that is open before it.
            let hidden = || unavailable(at, &"its latest messages are not shown to consumers yet");
            is_whole.then_some(arrivals).ok_or_else(hidden)
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Readers, &TopicPartition) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (readers, at) = (Arc::clone(&self.readers), self.partition.at.clone());
        let asked = tokio::task::spawn_blocking(move || ask(&readers, &at)).await;
        asked.unwrap_or_else(|error| Err(unavailable(&self.partition.at, &error)))
    }
}

/// Three quarters to five quarters of `delay`, so that processes do not all come back at once.
fn with_jitter(delay: Duration) -> Duration {
    let random = Uuid::now_v7().as_u128() as u8;
    delay.mul_f64(0.75 + f64::from(random) / 512.0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use arrow::{
        array::{ArrayRef, AsArray as _, Int64Array, RecordBatch},
        datatypes::Int64Type,
    };
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn rows(origin: u128, sequences: Range<u64>) -> Rows {
        let values = Arc::new(Int64Array::from_iter_values(sequences.clone().map(|n| n as i64)));
        let batch = RecordBatch::try_from_iter([("v", values as ArrayRef)]).unwrap();
        Rows { batch, origin: Uuid::from_u128(origin), sequence: sequences.start, after: 0 }
    }

    fn stamp(origin: u128, sequence: u64, rows: u32) -> Stamp {
        Stamp { origin: Uuid::from_u128(origin), sequence, rows }
    }

    proptest! {
        #[test]
        fn what_has_not_arrived_is_missing_and_nothing_else(
            arrived in vec((0_u64..40, 0_u32..6), 0..12),
            (first, count) in (0_u64..40, 0_u64..20),
        ) {
            let mut arrivals = Arrivals::default();
            let mut expected: BTreeSet<u64> = (first..first + count).collect();
            for (sequence, rows) in arrived {
                arrivals.note(stamp(1, sequence, rows));
                (sequence..sequence + u64::from(rows)).for_each(|n| {
                    expected.remove(&n);
                });
            }
            let missing = arrivals.missing(rows(1, first..first + count));
            prop_assert!(missing.iter().all(|rows| rows.batch.num_rows() > 0));
            let found: Vec<u64> = missing
                .iter()
                .flat_map(|rows| {
                    let values = rows.batch["v"].as_primitive::<Int64Type>().values();
                    assert_eq!(values.first().map(|v| *v as u64), Some(rows.sequence));
                    values.iter().map(|v| *v as u64)
                })
                .collect();
            prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
            let theirs = rows(2, 0..3);
            prop_assert_eq!(arrivals.missing(theirs.clone()), [theirs]);
        }
    }

    #[test]
    fn jitter_stays_around_the_delay() {
        for _ in 0..100 {
            let delay = with_jitter(Duration::from_secs(4));
            assert!((3.0..5.0).contains(&delay.as_secs_f64()), "{delay:?}");
        }
    }
}
