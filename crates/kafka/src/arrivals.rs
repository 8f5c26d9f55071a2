//! Which rows are in Kafka already, after a crash left it unknown.

use std::{collections::HashMap, sync::Arc, time::Duration};

use thalweg_log::{Offset, Result, TopicPartition};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::{message, readers::Readers, spool::Rows};

/// Time that a broker that answers is given to do what it had been asked before.
///
/// Requests of a process that was killed lie in the sockets of its brokers. One that was paused, or
/// out of reach, reads them when it goes on, at once, but not before it has answered us.
const SETTLE: Duration = Duration::from_secs(2);
/// Waits between attempts to look.
const FIRST_RETRY: Duration = Duration::from_millis(250);
const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// By origin, the number after that of the last row that has arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arrivals(HashMap<Uuid, u64>);

impl Arrivals {
    /// What of `rows` has not arrived.
    pub(crate) fn missing(&self, rows: Rows) -> Rows {
        match self.0.get(&rows.origin) {
            Some(next) => rows.from(*next),
            None => rows,
        }
    }

    fn note(&mut self, origin: Uuid, next_sequence: u64) {
        let next = self.0.entry(origin).or_default();
        *next = next_sequence.max(*next);
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

/// Looks, until it succeeds, what has arrived in a partition at or behind offset `after`.
pub(crate) async fn look(readers: Arc<Readers>, at: TopicPartition, after: Offset) -> Arrivals {
    let mut delay = FIRST_RETRY;
    loop {
        let (readers, place) = (Arc::clone(&readers), at.clone());
        let found = tokio::task::spawn_blocking(move || look_once(&readers, &place, after)).await;
        match found {
            Ok(Ok(arrivals)) => return arrivals,
            Ok(Err(error)) => {
                tracing::info!(%at, %error, "rows wait in the spool until it is known which have arrived")
            }
            Err(error) => tracing::error!(%at, %error, "looking for rows that have arrived"),
        }
        tokio::time::sleep(with_jitter(delay)).await;
        delay = (delay * 2).min(LONGEST_RETRY);
    }
}

fn look_once(readers: &Readers, at: &TopicPartition, after: Offset) -> Result<Arrivals> {
    readers.watermarks(at)?;
    std::thread::sleep(SETTLE);
    let (low, high) = readers.watermarks(at)?;
    let mut arrivals = Arrivals::default();
    readers.scan(at, after.max(low), high, |message| {
        if let Some(stamp) = message::stamp(message) {
            arrivals.note(stamp.origin, stamp.next_sequence());
        }
    })?;
    Ok(arrivals)
}

/// Three quarters to five quarters of `delay`, so that processes do not all come back at once.
fn with_jitter(delay: Duration) -> Duration {
    let random = Uuid::now_v7().as_u128() as u8;
    delay.mul_f64(0.75 + f64::from(random) / 512.0)
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};

    use super::*;

    #[test]
    fn only_what_has_not_arrived_is_sent_again() {
        let mut arrivals = Arrivals::default();
        let (ours, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        arrivals.note(ours, 12);
        arrivals.note(ours, 9);
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(0..5));
        let batch = RecordBatch::try_from_iter([("v", values)]).unwrap();
        let rows = Rows { batch, origin: ours, sequence: 10, after: 0 };
        let missing = arrivals.missing(rows.clone());
        assert_eq!((missing.sequence, missing.batch.num_rows()), (12, 3));
        let theirs = Rows { origin: other, ..rows };
        assert_eq!(arrivals.missing(theirs.clone()), theirs);
    }

    #[test]
    fn jitter_stays_around_the_delay() {
        for _ in 0..100 {
            let delay = with_jitter(Duration::from_secs(4));
            assert!((3.0..5.0).contains(&delay.as_secs_f64()), "{delay:?}");
        }
    }
}
