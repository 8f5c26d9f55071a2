//! Dx hash: a short array of slots and pseudo-random probes.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::error::RingError;
use crate::hash::{KeyHash, SplitMix64, scale};
use crate::membership::Membership;
use crate::placement::Placement;
use crate::slots::{self, FREE};

/// Most slots.
pub const MAX_SLOTS: u64 = 1 << 28;

/// Probes per slot before a lookup gives up: of w occupied slots, a key misses all
/// with probability e^(−8w), and with one node it does not matter.
const PROBES_PER_SLOT: u64 = 8;

/// Dx hash (Dong, Wang and Feng, *DxHash: a scalable consistent hashing algorithm
/// based on the pseudo-random sequence*, arXiv:2107.07930, 2021): a key probes slots in its own
/// pseudo-random order and belongs to the first that is occupied.
///
/// The memory-light choice here, for these reasons. Anchor and Memento answer
/// from the *history* of removals, so that two processes that know the same
/// members but saw them leave in another order disagree; Dx answers from the
/// slots alone, which are a list of names ([`Dx::slots`]) that can be sent and
/// taken over ([`Dx::from_slots`]). It takes four bytes per slot, Anchor sixteen
/// (table 1); Memento takes less, at jump hash's O(ln n) lookups. What it costs: the number
/// of slots is fixed, and lookups take slots / occupied probes, expected.
///
/// Each unit of weight occupies one slot. Shares are even by construction, up to
/// the keys' own randomness.
///
/// ```
/// use thalweg_ring::{Dx, Membership, Node, Placement};
/// let three = Dx::new(Membership::of_ids(["a", "b", "c"])?, 8)?;
/// let four = three.rebuild(three.membership().with(Node::new("d"))?)?;
/// let (before, after) = (three.node("song-1").id(), four.node("song-1").id());
/// assert!(before == after || after == "d");
/// # Ok::<(), thalweg_ring::RingError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Dx {
    membership: Membership,
    owners: Arc<[u32]>,
}

impl Dx {
    /// Nodes in order of id on the first of `slots`; leave room to grow, for
    /// another number of slots is another placement of every key.
    ///
    /// # Errors
    /// More than [`MAX_SLOTS`], or fewer than the weights need.
    pub fn new(membership: Membership, slots: usize) -> Result<Self, RingError> {
        check_slots(slots as u64)?;
        check_room(&membership, slots)?;
        let mut owners = slots::assign(&membership);
        owners.resize(slots, FREE);
        Ok(Self { membership, owners: owners.into() })
    }

    /// Takes over slots that another process published with [`Dx::slots`].
    ///
    /// # Errors
    /// More than [`MAX_SLOTS`]; a name that is no node's; or a node that has more
    /// or fewer slots than its weight.
    pub fn from_slots<'a>(
        membership: Membership,
        slots: impl IntoIterator<Item = Option<&'a str>>,
    ) -> Result<Self, RingError> {
        let mut counts = alloc::vec![0; membership.len()];
        let mut owners = Vec::new();
        for id in slots {
            check_slots(owners.len() as u64 + 1)?;
            let Some(id) = id else {
                owners.push(FREE);
                continue;
            };
            let unknown = || RingError::UnknownNode { id: id.into() };
            let index = membership.index_of(id).ok_or_else(unknown)?;
            counts[index] += 1;
            owners.push(index as u32);
        }
        for (node, count) in membership.iter().zip(counts) {
            if count != node.weight() {
                let (name, expected) = ("a node's number of slots", "its weight");
                return Err(RingError::Parameter { name, expected, found: u64::from(count) });
            }
        }
        Ok(Self { membership, owners: owners.into() })
    }

    /// Who occupies each slot, by id.
    pub fn slots(&self) -> impl Iterator<Item = Option<&str>> {
        self.owners.iter().map(|owner| self.membership.get(*owner as usize).map(|node| node.id()))
    }

    /// For a key that met no occupied slot.
    #[cold]
    fn fallback(&self, hash: u64) -> usize {
        scale(SplitMix64(hash).next(), self.membership.len())
    }
}

fn check_slots(found: u64) -> Result<(), RingError> {
    if found <= MAX_SLOTS {
        return Ok(());
    }
    Err(RingError::Parameter { name: "the number of slots", expected: "at most 2^28", found })
}

fn check_room(membership: &Membership, slots: usize) -> Result<(), RingError> {
    let (needed, limit) = (membership.total_weight(), slots as u64);
    if needed <= limit {
        return Ok(());
    }
    let remedy = "build a larger one, which moves every key";
    Err(RingError::TooManySlots { what: "slots", needed, limit, remedy })
}

impl Placement for Dx {
    fn membership(&self) -> &Membership {
        &self.membership
    }

    #[inline]
    fn locate(&self, KeyHash(hash): KeyHash) -> usize {
        let mut probe = hash;
        let mut sequence = SplitMix64(hash);
        for _ in 0..PROBES_PER_SLOT * self.owners.len() as u64 {
            let owner = self.owners[scale(probe, self.owners.len())];
            if owner != FREE {
                return owner as usize;
            }
            probe = sequence.next();
        }
        self.fallback(hash)
    }

    fn rebuild(&self, membership: Membership) -> Result<Self, RingError> {
        check_room(&membership, self.owners.len())?;
        let (owners, _) = slots::reassign(&self.owners, &self.membership, &membership);
        Ok(Self { membership, owners: owners.into() })
    }

    fn heap_bytes(&self) -> usize {
        size_of_val(&*self.owners) + self.membership.heap_bytes()
    }
}
