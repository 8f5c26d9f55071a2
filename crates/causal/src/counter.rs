//! Counters: one that only grows, and one that goes both ways.

use alloc::vec::Vec;

use crate::{
    crdt::Crdt,
    replica::ReplicaId,
    vector_clock::VectorClock,
    wire::{DecodeError, Reader, Wire},
};

/// A counter that goes up and down: per replica, what it added and what it took.
///
/// ```
/// use thalweg_causal::{Crdt, PnCounter, ReplicaId};
///
/// let mut stock = PnCounter::default();
/// let received = stock.increment(ReplicaId(1), 10);
/// let mut elsewhere = PnCounter::default();
/// elsewhere.decrement(ReplicaId(2), 3);
/// elsewhere.merge(&received);
/// assert_eq!(elsewhere.value(), 7);
/// ```
///
/// Source: Shapiro et al., *A Comprehensive Study of Convergent and Commutative
/// Replicated Data Types*, INRIA RR-7506, 2011, §3.1.3 (specification 7). n is
/// the number of replicas below.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PnCounter {
    up: VectorClock,
    down: VectorClock,
}

impl PnCounter {
    /// Adds `by` at `replica` and returns the delta. O(log n).
    ///
    /// What one replica adds in its life saturates at [`MAX_COUNTER`](crate::MAX_COUNTER).
    pub fn increment(&mut self, replica: ReplicaId, by: u64) -> Self {
        let total = self.up.add(replica, by);
        Self { up: VectorClock::single(replica, total), ..Self::default() }
    }

    /// Takes `by` at `replica` and returns the delta; limits as for
    /// [`PnCounter::increment`]. O(log n).
    pub fn decrement(&mut self, replica: ReplicaId, by: u64) -> Self {
        let total = self.down.add(replica, by);
        Self { down: VectorClock::single(replica, total), ..Self::default() }
    }

    /// All that was added less all that was taken. O(n).
    pub fn value(&self) -> i128 {
        let sum =
            |clock: &VectorClock| clock.iter().map(|(_, total)| i128::from(total)).sum::<i128>();
        sum(&self.up) - sum(&self.down)
    }
}

impl Crdt for PnCounter {
    const KIND: u8 = 3;

    /// O(n).
    fn merge(&mut self, other: &Self) -> bool {
        self.up.merge(&other.up) | self.down.merge(&other.down)
    }

    /// Brings `departed` to a net of zero and adds what it had to `heir`.
    ///
    /// Were `heir` a working replica, its increments would travel in deltas that
    /// carry the inherited amount without what balances it, and a reader that got
    /// such a delta first would count the amount twice for a while.
    fn retire(&mut self, departed: ReplicaId, heir: ReplicaId) -> Self {
        let (up, down) = (self.up.get(departed), self.down.get(departed));
        self.up.add(heir, up.saturating_sub(down));
        self.down.add(heir, down.saturating_sub(up));
        self.up.raise(departed, down);
        self.down.raise(departed, up);
        // All balanced entries, not just this one: the heir's totals contain what
        // earlier retirements moved.
        let balanced =
            |replica: ReplicaId| replica == heir || self.up.get(replica) == self.down.get(replica);
        Self {
            up: self.up.iter().filter(|(replica, _)| balanced(*replica)).collect(),
            down: self.down.iter().filter(|(replica, _)| balanced(*replica)).collect(),
        }
    }

    fn forget(&mut self, departed: ReplicaId) {
        self.up.forget(departed);
        self.down.forget(departed);
    }
}

impl Wire for PnCounter {
    fn encode(&self, out: &mut Vec<u8>) {
        self.up.encode(out);
        self.down.encode(out);
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { up: VectorClock::decode(input)?, down: VectorClock::decode(input)? })
    }
}

/// A counter that only grows.
///
/// It is a [`PnCounter`] that users cannot decrement; the downward half serves
/// [`Crdt::retire`] and otherwise costs one byte.
///
/// Source: Shapiro et al., INRIA RR-7506, 2011, §3.1.2 (specification 6).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct GCounter(PnCounter);

impl GCounter {
    /// Adds `by` at `replica` and returns the delta; limits as for
    /// [`PnCounter::increment`]. O(log n).
    pub fn increment(&mut self, replica: ReplicaId, by: u64) -> Self {
        Self(self.0.increment(replica, by))
    }

    /// All that was added. O(n).
    pub fn value(&self) -> u128 {
        // Never negative unless a peer forged it: only retirement writes downward.
        u128::try_from(self.0.value()).unwrap_or(0)
    }
}

impl Crdt for GCounter {
    const KIND: u8 = 4;

    /// O(n).
    fn merge(&mut self, other: &Self) -> bool {
        self.0.merge(&other.0)
    }

    /// As for [`PnCounter`].
    fn retire(&mut self, departed: ReplicaId, heir: ReplicaId) -> Self {
        Self(self.0.retire(departed, heir))
    }

    fn forget(&mut self, departed: ReplicaId) {
        self.0.forget(departed);
    }
}

impl Wire for GCounter {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        PnCounter::decode(input).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endless_count_saturates() {
        let mut counter = GCounter::default();
        counter.increment(ReplicaId(1), u64::MAX);
        let delta = counter.increment(ReplicaId(1), u64::MAX);
        assert_eq!(counter.value(), u128::from(crate::MAX_COUNTER));
        assert_eq!(GCounter::from_bytes(&delta.to_bytes()), Ok(counter));
    }

    #[test]
    fn a_merge_that_brings_nothing_new_says_so() {
        let mut counter = PnCounter::default();
        let delta = counter.decrement(ReplicaId(1), 2);
        assert!(!counter.merge(&delta));
        assert!(PnCounter::default().merge(&delta));
    }
}
