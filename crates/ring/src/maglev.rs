//! Maglev: a table that every node fills in turn.

use alloc::sync::Arc;
use alloc::vec::Vec;

use xxhash_rust::xxh3::xxh3_64;

use crate::error::RingError;
use crate::hash::{KeyHash, SplitMix64, scale};
use crate::membership::Membership;
use crate::placement::Placement;

/// The paper's table size, for up to about 650 nodes (§5.3).
pub const MAGLEV_SMALL: u32 = 65_537;
/// The paper's larger table size, for up to about 6,500 nodes (§5.3).
pub const MAGLEV_LARGE: u32 = 655_373;
/// Most entries of a table.
pub const MAX_TABLE: u32 = 1 << 28;

/// Maglev hashing (Eisenbud et al., *Maglev: a fast and reliable software
/// network load balancer*, NSDI 2016, §3.4): nodes take turns to claim the next
/// free entry of their own permutation of the table.
///
/// Loads differ by at most one entry per unit of weight: with 100 entries per
/// node, by 1%. In exchange a change of nodes also moves a few percent of the
/// keys between nodes that stay (§5.3). Lookups read one entry.
///
/// ```
/// use thalweg_ring::{MAGLEV_SMALL, Maglev, Membership, Placement};
/// let maglev = Maglev::new(Membership::of_ids(["a", "b", "c"])?, MAGLEV_SMALL)?;
/// assert!(["a", "b", "c"].contains(&maglev.node("flow-1").id()));
/// # Ok::<(), thalweg_ring::RingError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Maglev {
    membership: Membership,
    table: Arc<[u32]>,
}

impl Maglev {
    /// Fills a table of `size` entries, which must be prime and should be 100
    /// times the sum of the weights or more. Expected O(size · ln
    /// size) for weights that are alike, O(size · nodes) if one dwarfs the others.
    ///
    /// # Errors
    /// A size that is not prime or exceeds [`MAX_TABLE`], or that is below the sum
    /// of the weights.
    pub fn new(membership: Membership, size: u32) -> Result<Self, RingError> {
        if size > MAX_TABLE || !is_prime(size) {
            let (name, expected) = ("table size", "a prime of at most 2^28");
            return Err(RingError::Parameter { name, expected, found: u64::from(size) });
        }
        let needed = membership.total_weight();
        if needed > u64::from(size) {
            let remedy = "use a larger table";
            let (what, limit) = ("entries", u64::from(size));
            return Err(RingError::TooManySlots { what, needed, limit, remedy });
        }
        Ok(Self { table: fill(&membership, size).into(), membership })
    }
}

/// A node's permutation of the table: `(offset + i · skip) mod size`.
struct Turn {
    at: u32,
    skip: u32,
    /// Turns earned and not yet taken, in units of the largest weight.
    credit: u64,
}

fn fill(membership: &Membership, size: u32) -> Vec<u32> {
    const EMPTY: u32 = u32::MAX;
    let mut turns: Vec<Turn> = membership
        .iter()
        .map(|node| {
            let mut sequence = SplitMix64(xxh3_64(node.id().as_bytes()));
            let at = scale(sequence.next(), size as usize) as u32;
            let skip = 1 + scale(sequence.next(), size as usize - 1) as u32;
            Turn { at, skip, credit: 0 }
        })
        .collect();
    let most = membership.iter().map(|node| u64::from(node.weight())).max().unwrap_or(1);
    let mut table = alloc::vec![EMPTY; size as usize];
    let mut empty = size;
    loop {
        for (index, (turn, node)) in turns.iter_mut().zip(membership.iter()).enumerate() {
            turn.credit += u64::from(node.weight());
            if turn.credit < most {
                continue;
            }
            turn.credit -= most;
            while table[turn.at as usize] != EMPTY {
                turn.at = step(turn.at, turn.skip, size);
            }
            table[turn.at as usize] = index as u32;
            empty -= 1;
            if empty == 0 {
                return table;
            }
        }
    }
}

fn step(at: u32, skip: u32, size: u32) -> u32 {
    let next = at + skip;
    if next >= size { next - size } else { next }
}

fn is_prime(n: u32) -> bool {
    n >= 2 && (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d))
}

impl Placement for Maglev {
    fn membership(&self) -> &Membership {
        &self.membership
    }

    #[inline]
    fn locate(&self, KeyHash(hash): KeyHash) -> usize {
        self.table[scale(hash, self.table.len())] as usize
    }

    fn rebuild(&self, membership: Membership) -> Result<Self, RingError> {
        Self::new(membership, self.table.len() as u32)
    }

    fn heap_bytes(&self) -> usize {
        size_of_val(&*self.table) + self.membership.heap_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::Node;

    #[test]
    fn the_table_must_be_prime() {
        let nodes = Membership::of_ids(["a"]).unwrap();
        assert!(Maglev::new(nodes.clone(), 65_536).is_err());
        for size in [MAGLEV_SMALL, MAGLEV_LARGE, 2, 3] {
            assert!(Maglev::new(nodes.clone(), size).is_ok());
        }
    }

    #[test]
    fn entries_follow_the_weights_to_within_one_turn() {
        let nodes = [Node::new("a"), Node::new("b").with_weight(2), Node::new("c").with_weight(4)];
        let maglev = Maglev::new(Membership::new(nodes).unwrap(), 7_001).unwrap();
        let entries =
            [0, 1, 2].map(|node| maglev.table.iter().filter(|entry| **entry == node).count());
        assert_eq!(entries.iter().sum::<usize>(), 7_001);
        assert!(entries[0].abs_diff(1_000) <= 1);
        assert!(entries[1].abs_diff(2_000) <= 1);
        assert!(entries[2].abs_diff(4_000) <= 1);
    }
}
