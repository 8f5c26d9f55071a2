//! Seeds for the ids that events without one are given.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use xxhash_rust::xxh3::xxh3_64;

/// Makes the seed of each batch's version 7 UUIDs.
///
/// The 12 bits of the field `rand_a` (RFC 9562 §5.7) are a checksum of the time, so that
/// [`is_generated`] can tell such an id from one that a sender made; the other 62 are random.
#[derive(Debug, Default)]
pub(crate) struct IdSeeds {
    /// Keyed by the operating system's randomness, another for each process.
    random: RandomState,
    made: AtomicU64,
}

impl IdSeeds {
    /// The seed for a batch received at `unix_nanos`.
    pub(crate) fn next(&self, unix_nanos: i64) -> [u8; 10] {
        let mut seed = [0; 10];
        seed[..2].copy_from_slice(&checksum(unix_nanos / 1_000_000).to_be_bytes());
        let random = self.random.hash_one(self.made.fetch_add(1, Relaxed));
        seed[2..].copy_from_slice(&random.to_be_bytes());
        seed
    }
}

fn checksum(unix_millis: i64) -> u16 {
    xxh3_64(&unix_millis.to_le_bytes()) as u16 & 0x0fff
}

/// Whether `id`, of an event received at `observed_unix_millis`, came from such a seed: nobody
/// but this process has sent it. One in 4096 ids that a sender made within that very millisecond
/// is taken for one.
pub(crate) fn is_generated(id: &str, observed_unix_millis: i64) -> bool {
    let hex = |digits: &str| i64::from_str_radix(digits, 16).ok();
    let fields = || {
        // 8-4-4-4-12 digits: the time in the first two groups, the version and rand_a in the third.
        let millis = (hex(id.get(..8)?)? << 16) | hex(id.get(9..13)?)?;
        let rand_a = id.get(14..18)?.strip_prefix('7')?;
        Some((millis, hex(rand_a)?))
    };
    id.len() == 36
        && fields() == Some((observed_unix_millis, i64::from(checksum(observed_unix_millis))))
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use thalweg_event::{BatchContext, EventBatchBuilder, PriorityRules};

    use super::*;

    const NANOS: i64 = 1_700_000_000_123_456_789;
    const MILLIS: i64 = NANOS / 1_000_000;

    #[test]
    fn ids_from_a_seed_are_recognised_and_differ_between_batches() {
        let (seeds, rules) = (IdSeeds::default(), PriorityRules::default());
        let mut ids = Vec::new();
        for _ in 0..2 {
            let mut events =
                EventBatchBuilder::new(BatchContext::new(NANOS, &rules, seeds.next(NANOS)));
            for _ in 0..1000 {
                events.row().commit().unwrap();
            }
            let batch = events.finish();
            ids.extend(batch["event_id"].as_string::<i32>().iter().flatten().map(str::to_owned));
        }
        assert!(ids.iter().all(|id| is_generated(id, MILLIS)));
        assert!(!ids.iter().any(|id| is_generated(id, MILLIS + 1)));
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 2000);
    }

    #[test]
    fn ids_of_senders_are_not_taken_for_ours() {
        for id in [
            "",
            "order-17",
            "018bcfe5-687b-7000-8000-000000000000",
            "018bcfe5-687b-4000-8000-000000000000",
            "é18bcfe5-687b-7000-8000-00000000000",
            "+18bcfe5-687b-7000-8000-000000000000",
        ] {
            assert!(!is_generated(id, MILLIS), "{id}");
        }
    }
}
