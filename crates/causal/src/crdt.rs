//! What all convergent objects have in common.

use alloc::vec::Vec;

use crate::{
    replica::ReplicaId,
    wire::{DecodeError, FORMAT_VERSION, Reader, Wire},
};

/// A convergent object: a join semilattice with an encoding.
///
/// [`Crdt::merge`] is commutative, associative and idempotent, and only moves
/// the state up, so replicas that exchange states or deltas converge however
/// often, in whatever order and along whatever paths messages travel. A *delta*
/// is a small state of the same type: mutators return the one that carries just
/// their change, `merge` applies it, and deltas may be merged into one another
/// before they are sent. A lost delta is healed by merging a full state.
///
/// [`Default`] is the bottom: merging it changes nothing.
///
/// # Retirement
/// Entries of departed replicas would stay for ever. They are removed in two steps:
/// 1. When `departed` makes no more events and one replica has merged all of
///    them, that replica calls [`Crdt::retire`] and spreads the delta: what
///    `departed` contributed now lives under `heir`. Reads do not change.
/// 2. When every member has merged that delta (*causal stability*), each calls
///    [`Crdt::forget`], and from then on calls it on every state it receives
///    before merging, lest a late message brings the entries back.
///
/// The agreement on who departed and the stability check belong to the
/// membership above this crate.
///
/// Sources: Shapiro et al., *Conflict-free Replicated Data Types*, SSS 2011;
/// Almeida, Shoker, Baquero, *Delta State Replicated Data Types*, JPDC
/// 2018; causal stability: Baquero, Almeida, Shoker, *Pure Operation-Based
/// Replicated Data Types*, 2017.
pub trait Crdt: Clone + Default + Eq + Wire {
    /// Names the type in the first byte of its encoding: 1 to 15.
    ///
    /// It catches a counter read as a set, not a set of numbers read as a set of
    /// strings.
    const KIND: u8;

    /// Joins `other`, a state or a delta, into `self`, and says whether that
    /// changed anything (what changed nothing need be neither stored nor sent on).
    fn merge(&mut self, other: &Self) -> bool;

    /// Moves what `departed` contributed to `heir` and returns the delta.
    ///
    /// `heir` is an id that nothing but the retirements of this one coordinator
    /// writes under. A write that crosses the retirement, overwriting what is
    /// being moved, leaves the moved copy as a concurrent value or element; two
    /// coordinators at once leave two copies. Kinds without live entries by
    /// replica return bottom.
    fn retire(&mut self, departed: ReplicaId, heir: ReplicaId) -> Self {
        let _ = (departed, heir);
        Self::default()
    }

    /// Drops every trace of `departed`, whether retired or not.
    fn forget(&mut self, departed: ReplicaId) {
        let _ = departed;
    }

    /// The encoding: one byte of version and kind, then the body.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.push(FORMAT_VERSION << 4 | Self::KIND);
        self.encode(&mut out);
        out
    }

    /// Reads what [`Crdt::to_bytes`] wrote, and nothing else.
    ///
    /// # Errors
    /// [`DecodeError`] says what was expected where.
    fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes);
        let header = input.byte("a version and kind")?;
        if header >> 4 != FORMAT_VERSION {
            return Err(DecodeError::Version { found: header >> 4 });
        }
        if header & 0x0f != Self::KIND {
            return Err(DecodeError::Kind { expected: Self::KIND, found: header & 0x0f });
        }
        let object = Self::decode(&mut input)?;
        input.finish()?;
        Ok(object)
    }
}
