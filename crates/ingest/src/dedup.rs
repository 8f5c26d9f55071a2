//! Events that were sent again are stored once.
//!
//! Only ids that senders gave are looked at. A request *claims* its ids before its events are
//! appended and *settles* the claim afterwards: stored ids are remembered for a while, those of a
//! failed append are given free for the next try.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use arrow::array::{AsArray as _, RecordBatch};
use hashbrown::{HashMap, HashTable, hash_map};
use metrics::{counter, gauge};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Deserialize;
use thalweg_event::schema::column;
use tokio::sync::watch;
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

use crate::{meters, route::PerValue};

/// How long ids of stored events are remembered.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DuplicatesConfig {
    /// For how long; 0 turns the search for duplicates off.
    pub window_secs: u64,
    /// At most how many; the oldest are forgotten first. One takes about 30 bytes.
    pub max_ids: usize,
}

impl Default for DuplicatesConfig {
    fn default() -> Self {
        Self { window_secs: 600, max_ids: 2_000_000 }
    }
}

/// 128-bit hash of an event id under a key that senders cannot know: two ids among 2 million
/// share one with a probability below 10⁻²⁵.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct IdHash(u128);

/// The ids of events stored within the window, and those being stored.
#[derive(Debug)]
pub(crate) struct Dedup {
    key: u64,
    window_millis: i64,
    ids: Mutex<Ids>,
}

#[derive(Debug)]
struct Ids {
    claimed: HashMap<IdHash, Arc<watch::Receiver<()>>>,
    stored: Stored,
}

/// What became of a request's ids.
pub(crate) struct Claimed {
    /// For each id, whether it is new and now claimed.
    pub(crate) is_fresh: Vec<bool>,
    /// The claim of the fresh ones.
    pub(crate) claim: Claim,
    /// Ids that other requests have claimed, and are about to store.
    pub(crate) twins: Twins,
}

/// Ids that only the holder may store. Dropped without [`Claim::stored`], they are free again.
pub(crate) struct Claim {
    dedup: Arc<Dedup>,
    ids: Vec<IdHash>,
    /// Dropped with the last part of the claim, which wakes those who wait for it.
    open: Arc<watch::Sender<()>>,
}

/// Ids that are being stored by other requests.
pub(crate) struct Twins {
    dedup: Arc<Dedup>,
    ids: Vec<(IdHash, Arc<watch::Receiver<()>>)>,
}

impl Dedup {
    /// Remembers nothing yet.
    pub(crate) fn new(config: &DuplicatesConfig) -> Self {
        let window_millis = i64::try_from(config.window_secs.saturating_mul(1000));
        Self {
            key: RandomState::new().hash_one(0),
            window_millis: window_millis.unwrap_or(i64::MAX),
            ids: Mutex::new(Ids { claimed: HashMap::new(), stored: Stored::new(config.max_ids) }),
        }
    }

    /// How long ids are remembered, milliseconds.
    pub(crate) fn window_millis(&self) -> i64 {
        self.window_millis
    }

    /// Hashes of the ids in `rows` of a batch of events.
    ///
    /// An id counts within its service: who may write events of one service cannot take the ids
    /// of another's in advance.
    pub(crate) fn hashes(
        &self,
        batch: &RecordBatch,
        rows: impl Iterator<Item = usize>,
    ) -> Vec<IdHash> {
        let ids = batch.column_by_name(column::EVENT_ID).expect("the schema has this column");
        let ids = ids.as_string::<i32>();
        let seeds = PerValue::new(batch, column::SERVICE, |service| {
            self.key ^ xxh3_64_with_seed(service.as_bytes(), self.key)
        });
        rows.map(|row| self.hash(ids.value(row), seeds.of(row))).collect()
    }

    fn hash(&self, id: &str, seed: u64) -> IdHash {
        IdHash(xxh3_128_with_seed(id.as_bytes(), seed))
    }

    /// Claims those of `ids` that are neither stored nor claimed; the second of two equal ones is
    /// not fresh. O(`ids`), under a lock.
    pub(crate) fn claim(self: &Arc<Self>, ids: &[IdHash], now_millis: i64) -> Claimed {
        let (open, settled) = watch::channel(());
        let settled = Arc::new(settled);
        let mut claim = Claim { dedup: Arc::clone(self), ids: Vec::new(), open: Arc::new(open) };
        let mut twins = Twins { dedup: Arc::clone(self), ids: Vec::new() };
        let mut known = self.ids.lock();
        let Ids { claimed, stored } = &mut *known;
        stored.forget_before(now_millis.saturating_sub(self.window_millis));
        let mut claim_one = |id: IdHash| {
            if stored.contains(id) {
                return false;
            }
            match claimed.entry(id) {
                hash_map::Entry::Vacant(free) => {
                    free.insert(Arc::clone(&settled));
                    claim.ids.push(id);
                    true
                }
                hash_map::Entry::Occupied(taken) => {
                    if !Arc::ptr_eq(taken.get(), &settled) {
                        twins.ids.push((id, Arc::clone(taken.get())));
                    }
                    false
                }
            }
        };
        let is_fresh = ids.iter().map(|id| claim_one(*id)).collect();
        drop(known);
        Claimed { is_fresh, claim, twins }
    }

    /// Remembers ids of events stored earlier, in order of time.
    pub(crate) fn remember(&self, ids: impl IntoIterator<Item = IdHash>, stored_millis: i64) {
        let mut known = self.ids.lock();
        let forgotten = known.stored.insert(ids, stored_millis);
        gauge!(meters::KNOWN_IDS).set(known.stored.len() as f64);
        drop(known);
        if forgotten > 0 {
            counter!(meters::IDS_FORGOTTEN_EARLY).increment(forgotten);
        }
    }
}

impl Claim {
    /// Splits the claim into `parts`; the id at `index` goes to the one that `part_of` says.
    pub(crate) fn split(mut self, parts: usize, part_of: impl Fn(usize) -> usize) -> Vec<Self> {
        let empty = || Self {
            dedup: Arc::clone(&self.dedup),
            ids: Vec::new(),
            open: Arc::clone(&self.open),
        };
        let mut split: Vec<_> = (0..parts).map(|_| empty()).collect();
        for (index, id) in std::mem::take(&mut self.ids).into_iter().enumerate() {
            split[part_of(index)].ids.push(id);
        }
        split
    }

    /// The events are durable.
    pub(crate) fn stored(mut self, now_millis: i64) {
        let ids = std::mem::take(&mut self.ids);
        if ids.is_empty() {
            return;
        }
        self.dedup.remember(ids.iter().copied(), now_millis);
        self.dedup.release(&ids);
    }
}

impl Dedup {
    fn release(&self, ids: &[IdHash]) {
        let claimed = &mut self.ids.lock().claimed;
        for id in ids {
            claimed.remove(id);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.ids.is_empty() {
            self.dedup.release(&self.ids);
        }
    }
}

impl Twins {
    /// Waits until the others have settled; says whether all ids were stored.
    pub(crate) async fn are_stored(self) -> bool {
        for (_, settled) in &self.ids {
            // Nothing is ever sent: the channel closes when the claim is settled.
            while (**settled).clone().changed().await.is_ok() {}
        }
        let known = self.dedup.ids.lock();
        self.ids.iter().all(|(id, _)| known.stored.contains(*id))
    }
}

/// A bounded set that forgets in the order of insertion.
///
/// The hashes lie in a ring; a table of their positions finds them. That takes about 30 bytes per
/// id, half of what a map from hashes to times would.
#[derive(Debug)]
struct Stored {
    max_ids: usize,
    ring: VecDeque<IdHash>,
    /// Position of the first id of the ring; positions wrap around at 2³².
    first: u32,
    positions: HashTable<u32>,
    /// How many ids were stored in which second, in order.
    seconds: VecDeque<(i64, usize)>,
}

impl Stored {
    fn new(max_ids: usize) -> Self {
        Self {
            max_ids,
            ring: VecDeque::new(),
            first: 0,
            positions: HashTable::new(),
            seconds: VecDeque::new(),
        }
    }

    fn len(&self) -> usize {
        self.ring.len()
    }

    fn contains(&self, id: IdHash) -> bool {
        let index = |position: u32| position.wrapping_sub(self.first) as usize;
        self.positions.find(id.low(), |position| self.ring[index(*position)] == id).is_some()
    }

    /// Adds `ids`, making room by forgetting the oldest; says how many those were.
    fn insert(&mut self, ids: impl IntoIterator<Item = IdHash>, now_millis: i64) -> u64 {
        // Seconds never go back, lest one id that came early keep later ones from being forgotten.
        let last_second = self.seconds.back().map_or(i64::MIN, |(second, _)| *second);
        let second = (now_millis / 1000).max(last_second);
        if second > last_second {
            self.seconds.push_back((second, 0));
        }
        let mut forgotten = 0;
        for id in ids {
            if self.contains(id) {
                continue;
            }
            if self.ring.len() == self.max_ids {
                self.forget_oldest();
                forgotten += 1;
            }
            let Self { ring, first, positions, seconds, .. } = self;
            let position = first.wrapping_add(ring.len() as u32);
            let hash = |position: &u32| ring[position.wrapping_sub(*first) as usize].low();
            positions.insert_unique(id.low(), position, hash);
            ring.push_back(id);
            seconds.back_mut().expect("the second was added above").1 += 1;
        }
        forgotten
    }

    fn forget_oldest(&mut self) {
        // A second none of whose ids is left goes, unless it is the last, which may get more.
        while self.seconds.len() > 1 && self.seconds.front().is_some_and(|(_, ids)| *ids == 0) {
            self.seconds.pop_front();
        }
        let Some(id) = self.ring.pop_front() else { return };
        if let Ok(found) = self.positions.find_entry(id.low(), |position| *position == self.first) {
            found.remove();
        }
        self.first = self.first.wrapping_add(1);
        if let Some((_, ids)) = self.seconds.front_mut() {
            *ids -= 1;
        }
    }

    fn forget_before(&mut self, millis: i64) {
        while let Some((second, ids)) = self.seconds.front().copied()
            && second.saturating_add(1).saturating_mul(1000) <= millis
        {
            for _ in 0..ids {
                self.forget_oldest();
            }
            self.seconds.pop_front();
        }
    }
}

impl IdHash {
    fn low(self) -> u64 {
        self.0 as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dedup(window_secs: u64, max_ids: usize) -> Arc<Dedup> {
        Arc::new(Dedup::new(&DuplicatesConfig { window_secs, max_ids }))
    }

    fn claim(dedup: &Arc<Dedup>, ids: &[&str], now_millis: i64) -> Claimed {
        let ids: Vec<_> = ids.iter().map(|id| dedup.hash(id, 0)).collect();
        dedup.claim(&ids, now_millis)
    }

    #[test]
    fn a_stored_id_is_a_duplicate_until_the_window_ends() {
        let dedup = dedup(10, 100);
        claim(&dedup, &["a", "b"], 1_000).claim.stored(1_000);
        assert_eq!(claim(&dedup, &["b", "c", "a"], 11_000).is_fresh, [false, true, false]);
        assert_eq!(claim(&dedup, &["a"], 12_000).is_fresh, [true]);
    }

    #[test]
    fn the_second_of_two_equal_ids_in_one_body_is_a_duplicate() {
        let claimed = claim(&dedup(10, 100), &["a", "b", "a"], 0);
        assert_eq!(claimed.is_fresh, [true, true, false]);
        assert!(claimed.twins.ids.is_empty());
    }

    #[test]
    fn a_dropped_claim_frees_its_ids() {
        let dedup = dedup(10, 100);
        drop(claim(&dedup, &["a"], 0));
        assert_eq!(claim(&dedup, &["a"], 0).is_fresh, [true]);
    }

    #[tokio::test]
    async fn a_twin_learns_what_became_of_the_first() {
        let dedup = dedup(10, 100);
        let first = claim(&dedup, &["a", "b"], 0);
        let twin = claim(&dedup, &["a"], 0);
        assert_eq!(twin.is_fresh, [false]);
        let learns = tokio::spawn(twin.twins.are_stored());
        first.claim.stored(0);
        assert!(learns.await.unwrap());

        let first = claim(&dedup, &["c"], 0);
        let twin = claim(&dedup, &["c"], 0);
        drop(first);
        assert!(!twin.twins.are_stored().await);
    }

    #[tokio::test]
    async fn parts_of_a_claim_settle_on_their_own() {
        let dedup = dedup(10, 100);
        let Claimed { claim: whole, .. } = claim(&dedup, &["a", "b", "c"], 0);
        let twin = claim(&dedup, &["a"], 0);
        let mut parts = whole.split(2, |index| index % 2);
        drop(parts.pop());
        parts.pop().unwrap().stored(0);
        assert!(twin.twins.are_stored().await);
        assert_eq!(claim(&dedup, &["a", "b", "c"], 0).is_fresh, [false, true, false]);
    }

    #[test]
    fn the_oldest_ids_make_room_for_new_ones() {
        let mut stored = Stored::new(3);
        let ids: Vec<_> = (0..10).map(IdHash).collect();
        for (second, pair) in ids.chunks(2).enumerate() {
            stored.insert(pair.iter().copied(), second as i64 * 1000);
        }
        let known: Vec<_> = ids.iter().filter(|id| stored.contains(**id)).collect();
        assert_eq!(known, [&ids[7], &ids[8], &ids[9]]);
        assert_eq!(stored.positions.len(), 3);
        stored.forget_before(4_000);
        assert!(!stored.contains(ids[7]) && stored.contains(ids[8]));
        stored.forget_before(5_000);
        assert_eq!((stored.len(), stored.positions.len(), stored.seconds.len()), (0, 0, 0));
    }

    #[test]
    fn positions_survive_their_wrap_around() {
        let mut stored = Stored::new(4);
        stored.first = u32::MAX - 1;
        stored.insert((0..9).map(IdHash), 0);
        assert!((5..9).all(|id| stored.contains(IdHash(id))));
        assert!(!(0..5).any(|id| stored.contains(IdHash(id))));
    }
}
