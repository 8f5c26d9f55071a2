//! Who did it, and which of their events it was.

use core::fmt;

/// A replica: one writer of dots.
///
/// Events of one replica are numbered without gaps, so an id belongs to one
/// life of one process: a node that lost its state must come back under a new
/// id, or it would number new events like old ones and peers would drop them
/// as already seen. Small ids are short on the wire (ids are sorted and
/// gap-coded); random ones cost about nine bytes each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplicaId(pub u64);

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One event: the `counter`-th of `replica`, counted from 1.
///
/// Source: Preguiça et al., *Dotted Version Vectors*, 2010.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// The replica at which the event happened.
    pub replica: ReplicaId,
    /// Its position among that replica's events.
    pub counter: u64,
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.replica, self.counter)
    }
}

/// How two histories relate.
///
/// Source: Lamport, *Time, Clocks, and the Ordering of Events*, 1978;
/// Fidge, Mattern, 1988.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Causality {
    /// The left one is a strict part of the right one.
    Before,
    /// The right one is a strict part of the left one.
    After,
    /// Both hold the same events.
    Equal,
    /// Each holds an event that the other lacks.
    Concurrent,
}

impl Causality {
    pub(crate) fn from_covers(left_covers_right: bool, right_covers_left: bool) -> Self {
        match (left_covers_right, right_covers_left) {
            (true, true) => Self::Equal,
            (true, false) => Self::After,
            (false, true) => Self::Before,
            (false, false) => Self::Concurrent,
        }
    }
}
