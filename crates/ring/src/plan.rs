//! What moves when one ring replaces another.

use alloc::vec::Vec;

use crate::error::RingError;
use crate::hash::KeyHash;
use crate::membership::{Membership, Node};
use crate::migration::Migration;
use crate::placement::Placement;
use crate::ring::HashRing;
use crate::share::{HashRange, Share};

/// What happens to the keys of one range. Nodes are indices of
/// [`MovementPlan::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// `to` takes over from `from`, which drops its copy.
    Move {
        /// Who has them.
        from: usize,
        /// Who gets them.
        to: usize,
    },
    /// `to` gets a further copy from whoever holds the key by then
    /// ([`Migration::holders`]). Only when there were fewer nodes than copies wanted.
    Copy {
        /// Who gets them.
        to: usize,
    },
    /// `from` drops its copy, of which there are enough. Only when there are fewer
    /// nodes than copies wanted.
    Drop {
        /// Who has them.
        from: usize,
    },
}

impl Change {
    /// Who holds more afterwards.
    pub fn receiver(self) -> Option<usize> {
        match self {
            Self::Move { to, .. } | Self::Copy { to } => Some(to),
            Self::Drop { .. } => None,
        }
    }

    /// Who holds less afterwards.
    pub fn giver(self) -> Option<usize> {
        match self {
            Self::Move { from, .. } | Self::Drop { from } => Some(from),
            Self::Copy { .. } => None,
        }
    }
}

/// One range of keys and what happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Movement {
    /// Which keys.
    pub range: HashRange,
    /// What happens.
    pub change: Change,
}

/// The exact difference between two rings: which ranges of keys change hands,
/// between whom, and how much of the key space that is.
///
/// ```
/// use thalweg_ring::{HashRing, Membership, MovementPlan, Node, Placement};
/// let old = HashRing::new(Membership::of_ids(["a", "b", "c", "d"])?, 1024)?;
/// let new = old.rebuild(old.membership().with(Node::new("e"))?)?;
/// let plan = MovementPlan::between(&old, &new, 1)?;
/// assert!((plan.moved().fraction() - 0.2).abs() < 0.02);
/// for movement in plan.movements() {
///     let receiver = movement.change.receiver().map(|index| plan.nodes()[index].id());
///     assert_eq!(receiver, Some("e"));
/// }
/// # Ok::<(), thalweg_ring::RingError>(())
/// ```
#[derive(Clone, Debug)]
pub struct MovementPlan {
    nodes: Membership,
    movements: Vec<Movement>,
    before: Vec<Share>,
    after: Vec<Share>,
    pub(crate) old: View,
    pub(crate) new: View,
    pub(crate) copies: usize,
}

/// A ring whose nodes are numbered as in the plan.
#[derive(Clone, Debug)]
pub(crate) struct View {
    ring: HashRing,
    numbers: Vec<usize>,
}

impl View {
    fn new(ring: &HashRing, nodes: &Membership) -> Self {
        let number = |node: &Node| nodes.index_of(node.id()).expect("the plan has every node");
        Self { numbers: ring.membership().iter().map(number).collect(), ring: ring.clone() }
    }

    /// Holders of the key, by the plan's numbers.
    pub(crate) fn holders(&self, key: KeyHash, copies: usize, into: &mut Vec<usize>) {
        self.ring.replica_indices(key, copies, into);
        into.iter_mut().for_each(|index| *index = self.numbers[*index]);
    }
}

impl MovementPlan {
    /// Compares where `copies` copies of each key are (1 for the owner alone).
    ///
    /// A node that stops holding a range is paired with one that starts to, in
    /// order of preference, so no key travels twice. O((p + q) · cost of
    /// [`HashRing::replicas`]) for p and q points.
    ///
    /// # Errors
    /// No copies, or more nodes in both together than a membership may have.
    pub fn between(old: &HashRing, new: &HashRing, copies: usize) -> Result<Self, RingError> {
        if copies == 0 {
            let (name, expected) = ("copies", "at least 1");
            return Err(RingError::Parameter { name, expected, found: 0 });
        }
        let only_old =
            old.membership().iter().filter(|node| new.membership().index_of(node.id()).is_none());
        let nodes = Membership::new(only_old.chain(new.membership().iter()).cloned())?;
        let mut plan = Self {
            movements: Vec::new(),
            before: alloc::vec![Share::NONE; nodes.len()],
            after: alloc::vec![Share::NONE; nodes.len()],
            old: View::new(old, &nodes),
            new: View::new(new, &nodes),
            nodes,
            copies,
        };
        plan.sweep();
        Ok(plan)
    }

    /// Walks the arcs of both rings at once: within one, nothing changes.
    fn sweep(&mut self) {
        let (old, new) = (self.old.clone(), self.new.clone());
        let (mut holders_before, mut holders_after) = (Vec::new(), Vec::new());
        // Movements that end where the sweep is, and may go on.
        let mut open: Vec<usize> = Vec::new();
        let mut start = 0;
        for end in merge(old.ring.arc_ends(), new.ring.arc_ends()) {
            let range = HashRange { start, end };
            old.holders(KeyHash(end), self.copies, &mut holders_before);
            new.holders(KeyHash(end), self.copies, &mut holders_after);
            holders_before.iter().for_each(|node| self.before[*node] += range.share());
            holders_after.iter().for_each(|node| self.after[*node] += range.share());

            let mut still_open = Vec::with_capacity(open.len());
            for change in changes(&holders_before, &holders_after) {
                let same = open.iter().find(|at| self.movements[**at].change == change);
                match same {
                    Some(at) => {
                        self.movements[*at].range.end = end;
                        still_open.push(*at);
                    }
                    None => {
                        still_open.push(self.movements.len());
                        self.movements.push(Movement { range, change });
                    }
                }
            }
            open = still_open;
            start = end.wrapping_add(1);
        }
    }

    /// The nodes of both memberships; the newer weight and place of each.
    pub fn nodes(&self) -> &Membership {
        &self.nodes
    }

    /// Every change, by start of range. No two neighbours are the same change.
    pub fn movements(&self) -> &[Movement] {
        &self.movements
    }

    /// How much travels: moves and copies.
    pub fn moved(&self) -> Share {
        let travels = |movement: &&Movement| movement.change.receiver().is_some();
        self.movements.iter().filter(travels).map(|movement| movement.range.share()).sum()
    }

    /// What each of [`MovementPlan::nodes`] holds by the old ring.
    pub fn before(&self) -> &[Share] {
        &self.before
    }

    /// What each of [`MovementPlan::nodes`] holds by the new ring.
    pub fn after(&self) -> &[Share] {
        &self.after
    }

    /// Cuts the plan into steps that each move at most `most_per_step` of the key
    /// space. O(movements + pieces).
    ///
    /// # Errors
    /// [`RingError::TooManySteps`], as for a `most_per_step` of nothing.
    pub fn in_steps(self, most_per_step: Share) -> Result<Migration, RingError> {
        let unlimited = alloc::vec![None; self.nodes.len()];
        Migration::schedule(self, most_per_step, &unlimited)
    }

    /// As [`MovementPlan::in_steps`], and orders the steps so that no node ever
    /// holds more than its capacity, even if within a step it receives everything
    /// before it gives anything. A node that is above it from the start receives
    /// nothing until it has given enough. O(steps · receivers + movements + pieces).
    ///
    /// # Errors
    /// [`RingError::OverCapacity`] when the new ring itself gives a node too much,
    /// [`RingError::Stuck`] when every receiver waits for another to give, and
    /// [`RingError::TooManySteps`].
    pub fn in_steps_within(
        self,
        most_per_step: Share,
        capacity: impl Fn(&Node) -> Share,
    ) -> Result<Migration, RingError> {
        let capacities: Vec<Option<Share>> =
            self.nodes.iter().map(|node| Some(capacity(node))).collect();
        Migration::schedule(self, most_per_step, &capacities)
    }
}

/// Pairs who holds the range no longer with who holds it newly.
pub(crate) fn changes<'a>(
    before: &'a [usize],
    after: &'a [usize],
) -> impl Iterator<Item = Change> + 'a {
    let mut leaving = before.iter().filter(|node| !after.contains(node));
    let mut coming = after.iter().filter(|node| !before.contains(node));
    core::iter::from_fn(move || match (leaving.next(), coming.next()) {
        (Some(&from), Some(&to)) => Some(Change::Move { from, to }),
        (None, Some(&to)) => Some(Change::Copy { to }),
        (Some(&from), None) => Some(Change::Drop { from }),
        (None, None) => None,
    })
}

/// Two ascending sequences as one, without repetition.
fn merge(a: impl Iterator<Item = u64>, b: impl Iterator<Item = u64>) -> impl Iterator<Item = u64> {
    let (mut a, mut b) = (a.peekable(), b.peekable());
    core::iter::from_fn(move || {
        let next = match (a.peek(), b.peek()) {
            (Some(x), Some(y)) => *x.min(y),
            (x, y) => *x.or(y)?,
        };
        a.next_if_eq(&next);
        b.next_if_eq(&next);
        Some(next)
    })
}
