//! The one question every algorithm answers: which node has this key?

use crate::error::RingError;
use crate::hash::KeyHash;
use crate::membership::{Membership, Node};

/// A function from keys to nodes that changes little when the nodes change.
///
/// | | lookup | memory | when nodes change | weights | use it for |
/// |---|---|---|---|---|---|
/// | [`HashRing`](crate::HashRing) | O(1) expected | O(points) | moves only what must move | yes | replicas, ranges, movement plans |
/// | [`Maglev`](crate::Maglev) | O(1) | O(table) | moves a few percent more | yes | evenest load, e.g. flows over backends |
/// | [`Dx`](crate::Dx) | O(slots / used) expected | O(slots) | moves only what must move | yes | many nodes in little memory |
/// | [`Jump`](crate::Jump) | O(ln n) | O(n) | minimal at the end, double elsewhere | yes | numbered shards that only grow |
///
/// Implementations are immutable and cheap to clone: a change makes a new one
/// ([`Placement::rebuild`]), and readers keep the old one until they switch.
pub trait Placement: Sized {
    /// The nodes that keys are placed on.
    fn membership(&self) -> &Membership;

    /// Index in [`Placement::membership`] of the node that has this key.
    fn locate(&self, key: KeyHash) -> usize;

    /// The placement of another membership by the same algorithm with the same
    /// parameters, keeping what must be kept so that few keys move.
    ///
    /// # Errors
    /// The new weights need more virtual nodes or slots than there may be.
    fn rebuild(&self, membership: Membership) -> Result<Self, RingError>;

    /// Bytes on the heap that lookups use, node names included.
    fn heap_bytes(&self) -> usize;

    /// The node that has this key.
    #[inline]
    fn node(&self, key: impl Into<KeyHash>) -> &Node {
        &self.membership()[self.locate(key.into())]
    }
}
