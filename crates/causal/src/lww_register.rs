//! A register in which the last writer wins.

use alloc::vec::Vec;

use crate::{
    crdt::Crdt,
    hlc::Timestamp,
    wire::{DecodeError, Reader, Wire},
};

/// One value; of two writes, the later timestamp stays.
///
/// Simple and small, and it drops one of two concurrent writes: use
/// [`MvRegister`](crate::MvRegister) or [`Siblings`](crate::Siblings) where that
/// is not acceptable. With timestamps of a [`HybridClock`](crate::HybridClock)
/// a write always wins over those it has seen. If two writes carry the same
/// timestamp, which one clock never makes, the greater value wins, so replicas
/// still agree.
///
/// ```
/// use thalweg_causal::{Crdt, HybridClock, LwwRegister, ReplicaId};
///
/// let mut clock = HybridClock::new(ReplicaId(1), 500_000);
/// let (mut here, mut there) = (LwwRegister::default(), LwwRegister::default());
/// there.write(clock.tick(1_000), "draft".to_string());
/// here.write(clock.tick(2_000), "final".to_string());
/// here.merge(&there);
/// assert_eq!(here.value().map(String::as_str), Some("final"));
/// ```
///
/// Source: Shapiro et al., INRIA RR-7506, 2011, §3.2.1 (specification 8); Johnson
/// and Thomas, RFC 677, 1975. All operations cost one comparison and one copy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LwwRegister<V>(Option<(Timestamp, V)>);

impl<V> Default for LwwRegister<V> {
    fn default() -> Self {
        Self(None)
    }
}

impl<V: Ord + Clone + Wire> LwwRegister<V> {
    /// Writes `value` as of `at` and returns the delta: bottom if a later write is
    /// already here.
    pub fn write(&mut self, at: Timestamp, value: V) -> Self {
        let delta = Self(Some((at, value)));
        if self.merge(&delta) { delta } else { Self::default() }
    }

    /// The value of the latest write; none before the first.
    pub fn value(&self) -> Option<&V> {
        self.0.as_ref().map(|(_, value)| value)
    }

    /// When the value was written.
    pub fn written_at(&self) -> Option<Timestamp> {
        self.0.as_ref().map(|(at, _)| *at)
    }
}

impl<V: Ord + Clone + Wire> Crdt for LwwRegister<V> {
    const KIND: u8 = 5;

    fn merge(&mut self, other: &Self) -> bool {
        let behind = self.0 < other.0;
        if behind {
            self.0.clone_from(&other.0);
        }
        behind
    }
}

impl<V: Wire> Wire for LwwRegister<V> {
    /// Bottom is one byte 0; else 1, timestamp and value.
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.is_some().encode(out);
        if let Some((at, value)) = &self.0 {
            at.encode(out);
            value.encode(out);
        }
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        if !bool::decode(input)? {
            return Ok(Self(None));
        }
        Ok(Self(Some((Timestamp::decode(input)?, V::decode(input)?))))
    }
}
