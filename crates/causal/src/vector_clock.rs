//! Vector clocks: how much of each replica's history one has seen.

use alloc::vec::Vec;
use core::fmt;

use crate::{
    crdt::Crdt,
    replica::{Causality, Dot, ReplicaId},
    replica_map::ReplicaMap,
    wire::{DecodeError, MAX_COUNTER, Reader, Wire, put_varint},
};

/// The number of events seen of each replica; a replica not listed counts as 0.
///
/// ```
/// use thalweg_causal::{Causality, Crdt, ReplicaId, VectorClock};
///
/// let (mut here, mut there) = (VectorClock::new(), VectorClock::new());
/// here.increment(ReplicaId(1));
/// there.increment(ReplicaId(2));
/// assert_eq!(here.compare(&there), Causality::Concurrent);
///
/// here.merge(&there);
/// assert_eq!(here.compare(&there), Causality::After);
/// ```
///
/// Source: Fidge, *Timestamps in Message-Passing Systems*, 1988; Mattern,
/// *Virtual Time and Global States*, 1989. n is the number of replicas below.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct VectorClock(ReplicaMap<u64>);

/// When [`VectorClock::prune`] drops an entry. Ages are in seconds.
///
/// Source: DeCandia et al., *Dynamo*, 2007, §4.4, with the bounds of Riak's
/// bucket properties (`small_vclock`, `big_vclock`, `young_vclock`, `old_vclock`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PruneBounds {
    /// At or below so many entries nothing is dropped.
    pub min_entries: usize,
    /// Above so many entries, the oldest go as long as they are not young.
    pub max_entries: usize,
    /// Entries younger than this always stay.
    pub young_secs: u64,
    /// Entries older than this go down to `min_entries`.
    pub old_secs: u64,
}

impl VectorClock {
    /// The clock that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Events seen of `replica`. O(log n).
    pub fn get(&self, replica: ReplicaId) -> u64 {
        self.0.get(replica).copied().unwrap_or(0)
    }

    /// Counts one more event of `replica` and returns it. O(log n), O(n) the first time.
    pub fn increment(&mut self, replica: ReplicaId) -> Dot {
        Dot { replica, counter: self.add(replica, 1) }
    }

    /// Raises the entry by `by`, up to [`MAX_COUNTER`], and returns it.
    pub(crate) fn add(&mut self, replica: ReplicaId, by: u64) -> u64 {
        if by == 0 {
            return self.get(replica);
        }
        let entry = self.0.entry(replica);
        *entry = entry.saturating_add(by).min(MAX_COUNTER);
        *entry
    }

    /// The clock with one entry.
    pub(crate) fn single(replica: ReplicaId, counter: u64) -> Self {
        Self((counter > 0).then_some((replica, counter)).into_iter().collect())
    }

    /// Raises the entry to `counter` unless it is there already.
    pub(crate) fn raise(&mut self, replica: ReplicaId, counter: u64) {
        if counter > 0 {
            let entry = self.0.entry(replica);
            *entry = counter.max(*entry);
        }
    }

    /// Whether `dot` was seen. O(log n).
    pub fn contains(&self, dot: Dot) -> bool {
        dot.counter <= self.get(dot.replica)
    }

    /// How the two histories relate. O(n).
    pub fn compare(&self, other: &Self) -> Causality {
        let (mut left_covers, mut right_covers) = (true, true);
        for (_, mine, theirs) in self.0.zip(&other.0) {
            left_covers &= mine >= theirs;
            right_covers &= theirs >= mine;
            if !left_covers && !right_covers {
                break;
            }
        }
        Causality::from_covers(left_covers, right_covers)
    }

    /// The entries, by ascending replica id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (ReplicaId, u64)> {
        self.0.iter().map(|(replica, counter)| (replica, *counter))
    }

    pub(crate) fn entries(&self) -> &ReplicaMap<u64> {
        &self.0
    }

    /// The number of replicas with an entry.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.0.len() == 0
    }

    /// Drops old entries of a clock that grew too long, and returns them.
    ///
    /// `age_secs` says how long ago a replica last raised its entry. Oldest go first.
    ///
    /// Pruning forgets order: a pruned clock never claims *more* than it saw, so
    /// a clock that was before it may now compare as concurrent (a false sibling,
    /// which a later write resolves) or, if all in which the pruned clock was
    /// ahead has been dropped, as equal or after (the pruned version would lose).
    /// `young_secs` is what prevents the latter: make it longer than any version
    /// stays unmerged. Server-side contexts, such as [`Siblings`](crate::Siblings)
    /// has, are bounded by the number of servers and need no pruning; use
    /// [`Crdt::forget`] for servers that left.
    ///
    /// O(n log n).
    ///
    /// ```
    /// use thalweg_causal::{PruneBounds, ReplicaId, VectorClock};
    ///
    /// let mut clock: VectorClock = (1..=10).map(|id| (ReplicaId(id), 1)).collect();
    /// let bounds =
    ///     PruneBounds { min_entries: 2, max_entries: 5, young_secs: 60, old_secs: 86_400 };
    /// // Replica n was last active n hours ago.
    /// clock.prune(&bounds, |replica| replica.0 * 3_600);
    /// assert_eq!(clock.len(), 5);
    /// assert_eq!(clock.get(ReplicaId(1)), 1);
    /// ```
    pub fn prune(
        &mut self,
        bounds: &PruneBounds,
        age_secs: impl Fn(ReplicaId) -> u64,
    ) -> Vec<(ReplicaId, u64)> {
        let mut by_age: Vec<_> =
            self.iter().map(|(replica, counter)| (age_secs(replica), replica, counter)).collect();
        by_age.sort_unstable_by_key(|(age, replica, _)| (core::cmp::Reverse(*age), *replica));
        let mut dropped = Vec::new();
        for (age, replica, counter) in by_age {
            let wanted = self.len() > bounds.max_entries || age > bounds.old_secs;
            if self.len() <= bounds.min_entries || age < bounds.young_secs || !wanted {
                break;
            }
            self.0.remove(replica);
            dropped.push((replica, counter));
        }
        dropped
    }
}

impl FromIterator<(ReplicaId, u64)> for VectorClock {
    /// The highest counter wins where a replica is listed twice.
    fn from_iter<I: IntoIterator<Item = (ReplicaId, u64)>>(entries: I) -> Self {
        let mut clock = Self::new();
        for (replica, counter) in entries {
            clock.raise(replica, counter);
        }
        clock
    }
}

impl fmt::Display for VectorClock {
    /// `[1:4, 7:2]`: replica, colon, events seen.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (position, (replica, counter)) in self.iter().enumerate() {
            let comma = if position > 0 { ", " } else { "" };
            write!(f, "{comma}{}", Dot { replica, counter })?;
        }
        f.write_str("]")
    }
}

impl Crdt for VectorClock {
    const KIND: u8 = 1;

    /// The pointwise maximum. O(n).
    fn merge(&mut self, other: &Self) -> bool {
        self.0.merge(&other.0, |mine, theirs| {
            let behind = *mine < *theirs;
            *mine = (*mine).max(*theirs);
            behind
        })
    }

    fn forget(&mut self, departed: ReplicaId) {
        self.0.remove(departed);
    }
}

impl Wire for VectorClock {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode_with(out, |counter, out| put_varint(out, *counter));
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        ReplicaMap::decode_with(input, |input| match input.counter("an event count")? {
            0 => Err(input.invalid("an event count of at least 1")),
            counter => Ok(counter),
        })
        .map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(entries: &[(u64, u64)]) -> VectorClock {
        entries.iter().map(|(replica, counter)| (ReplicaId(*replica), *counter)).collect()
    }

    #[test]
    fn the_four_relations() {
        let cases = [
            (clock(&[]), clock(&[]), Causality::Equal),
            (clock(&[]), clock(&[(1, 1)]), Causality::Before),
            (clock(&[(1, 2), (2, 1)]), clock(&[(1, 2)]), Causality::After),
            (clock(&[(1, 2), (2, 1)]), clock(&[(1, 3)]), Causality::Concurrent),
        ];
        for (left, right, expected) in cases {
            assert_eq!(left.compare(&right), expected, "{left} and {right}");
        }
    }

    #[test]
    fn a_count_of_zero_is_no_entry() {
        assert_eq!(clock(&[(1, 0)]), VectorClock::new());
    }

    #[test]
    fn young_entries_survive_any_bound() {
        let bounds = PruneBounds { min_entries: 0, max_entries: 1, young_secs: 60, old_secs: 60 };
        let mut many = clock(&[(1, 1), (2, 1), (3, 1)]);
        let dropped = many.prune(&bounds, |replica| if replica.0 == 2 { 61 } else { 59 });
        assert_eq!(dropped, [(ReplicaId(2), 1)]);
        assert_eq!(many, clock(&[(1, 1), (3, 1)]));
    }

    #[test]
    fn old_entries_go_down_to_the_minimum() {
        let bounds = PruneBounds { min_entries: 2, max_entries: 9, young_secs: 1, old_secs: 60 };
        let mut many = clock(&[(1, 1), (2, 1), (3, 1), (4, 1)]);
        let before = many.clone();
        many.prune(&bounds, |replica| 100 * replica.0);
        assert_eq!(many, clock(&[(1, 1), (2, 1)]));
        assert_eq!(many.compare(&before), Causality::Before, "it never claims more than it saw");
    }
}
