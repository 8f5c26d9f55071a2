//! Bounded loads: no node takes much more than its part of what is under way.

use alloc::vec::Vec;

use crate::error::RingError;
use crate::hash::KeyHash;
use crate::membership::Node;
use crate::placement::Placement;
use crate::ring::HashRing;

/// Assigns keys to nodes so that none holds more than (1 + ε) of its fair part
/// (Mirrokni, Thorup and Zadimoghaddam, *Consistent hashing with bounded loads*,
/// SODA 2018, §1), for requests, connections or leases that come and go.
///
/// With *m* units held in all, a node of weight *w* out of *W* takes at most
/// ⌈(1 + ε) · m · w / W⌉; a key whose node is full goes on to the next on the
/// circle. While nothing is full, keys are where the ring puts them. A unit stays
/// where it was put until it is released: nothing held is moved when the total
/// shrinks, unlike the paper's §2, which is for data at rest.
///
/// ```
/// use thalweg_ring::{BoundedLoads, HashRing, Membership};
/// let ring = HashRing::new(Membership::of_ids(["a", "b", "c", "d"])?, 256)?;
/// let mut loads = BoundedLoads::new(ring, 25)?;
/// for _ in 0..100 {
///     loads.acquire("the one hot key");
/// }
/// assert!(["a", "b", "c", "d"].iter().all(|id| loads.load(id) <= Some(32)));
/// # Ok::<(), thalweg_ring::RingError>(())
/// ```
#[derive(Clone, Debug)]
pub struct BoundedLoads {
    ring: HashRing,
    headroom_percent: u32,
    loads: Vec<u64>,
    total: u64,
}

impl BoundedLoads {
    /// Nothing held yet. `headroom_percent` is 100 · ε: 25 lets a node take 1.25
    /// of its fair part; less is more even, and moves more keys off their node.
    ///
    /// # Errors
    /// A headroom of zero, under which every key would go anywhere.
    pub fn new(ring: HashRing, headroom_percent: u32) -> Result<Self, RingError> {
        if headroom_percent == 0 {
            let (name, expected) = ("headroom_percent", "at least 1");
            return Err(RingError::Parameter { name, expected, found: 0 });
        }
        let loads = alloc::vec![0; ring.membership().len()];
        Ok(Self { ring, headroom_percent, loads, total: 0 })
    }

    /// Takes one unit for the key and says on which node; give it back with
    /// [`BoundedLoads::release`]. O(1/ε²) nodes are tried, expected.
    pub fn acquire(&mut self, key: impl Into<KeyHash>) -> &Node {
        self.total += 1;
        let chosen = self
            .ring
            .walk(key.into())
            .find(|index| self.loads[*index] < self.capacity_of(*index))
            .expect("capacities add up to more than the total, so one has room");
        self.loads[chosen] += 1;
        &self.ring.membership()[chosen]
    }

    /// Gives one unit back to the node; `false` if it held none or has left.
    pub fn release(&mut self, id: &str) -> bool {
        let index = self.ring.membership().index_of(id);
        let Some(load) =
            index.and_then(|index| self.loads.get_mut(index)).filter(|load| **load > 0)
        else {
            return false;
        };
        *load -= 1;
        self.total -= 1;
        true
    }

    /// Units that the node holds; `None` for a node that is not there.
    pub fn load(&self, id: &str) -> Option<u64> {
        self.ring.membership().index_of(id).map(|index| self.loads[index])
    }

    /// Most units that the node may hold at the present total.
    pub fn capacity(&self, id: &str) -> Option<u64> {
        self.ring.membership().index_of(id).map(|index| self.capacity_of(index))
    }

    /// Units held in all.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Goes on with another ring: nodes that stay keep their loads, and what the
    /// others held is forgotten.
    pub fn set_ring(&mut self, ring: HashRing) {
        let load = |node: &Node| self.load(node.id()).unwrap_or(0);
        self.loads = ring.membership().iter().map(load).collect();
        self.total = self.loads.iter().sum();
        self.ring = ring;
    }

    /// The ring below.
    pub fn ring(&self) -> &HashRing {
        &self.ring
    }

    fn capacity_of(&self, index: usize) -> u64 {
        let membership = self.ring.membership();
        let percent = 100 + u128::from(self.headroom_percent);
        let part = percent * u128::from(self.total) * u128::from(membership[index].weight());
        part.div_ceil(100 * u128::from(membership.total_weight())) as u64
    }
}
