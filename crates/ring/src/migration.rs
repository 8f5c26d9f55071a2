//! A plan carried out step by step, with the right answer in between.

use alloc::collections::VecDeque;
use alloc::string::ToString;
use alloc::vec::Vec;

use crate::error::RingError;
use crate::hash::KeyHash;
use crate::membership::Node;
use crate::plan::{Change, Movement, MovementPlan, changes};
use crate::share::Share;

/// Most steps a plan may be cut into.
pub const MAX_STEPS: usize = 1 << 16;

/// The steps of a [`MovementPlan`], how far they are carried out, and who holds
/// each key meanwhile.
///
/// The caller copies a step's ranges, then calls [`Migration::complete_step`]
/// everywhere: from there on keys of that step are at their new place. A step is
/// the unit of agreement; until it completes, its keys are where they were.
///
/// ```
/// use thalweg_ring::{HashRing, Membership, MovementPlan, Node, Placement, Share};
/// let old = HashRing::new(Membership::of_ids(["a", "b", "c", "d"])?, 256)?;
/// let new = old.rebuild(old.membership().with(Node::new("e"))?)?;
/// let plan = MovementPlan::between(&old, &new, 1)?;
/// let mut migration = plan.in_steps(Share::of(1, 100))?;
/// while let Some(movements) = migration.next_step() {
///     // Send each range from its giver to its receiver here.
///     assert!(!movements.is_empty());
///     migration.complete_step();
/// }
/// assert_eq!(migration.holders("song-1")[0].id(), new.node("song-1").id());
/// # Ok::<(), thalweg_ring::RingError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Migration {
    plan: MovementPlan,
    steps: Vec<Vec<Movement>>,
    completed: usize,
    /// For each node, the pieces it receives as (start, step), ascending: a node
    /// receives a key at most once, so they are disjoint.
    received: Vec<Vec<(u64, usize)>>,
}

impl Migration {
    pub(crate) fn schedule(
        plan: MovementPlan,
        most_per_step: Share,
        capacities: &[Option<Share>],
    ) -> Result<Self, RingError> {
        for ((node, &needed), capacity) in plan.nodes().iter().zip(plan.after()).zip(capacities) {
            if let Some(capacity) = capacity.filter(|capacity| *capacity < needed) {
                return Err(RingError::OverCapacity {
                    id: node.id().to_string(),
                    needed,
                    capacity,
                });
            }
        }
        let mut steps = Vec::new();
        let mut received = alloc::vec![Vec::new(); plan.nodes().len()];
        let mut queues = Queues::new(&plan, capacities);
        while let Some(step) = queues.next_step(&plan, most_per_step)? {
            if steps.len() == MAX_STEPS {
                return Err(RingError::TooManySteps { limit: MAX_STEPS });
            }
            for movement in &step {
                if let Some(to) = movement.change.receiver() {
                    received[to].push((movement.range.start, steps.len()));
                }
            }
            steps.push(step);
        }
        Ok(Self { plan, steps, completed: 0, received })
    }

    /// The whole that the steps add up to.
    pub fn plan(&self) -> &MovementPlan {
        &self.plan
    }

    /// All steps, in order.
    pub fn steps(&self) -> &[Vec<Movement>] {
        &self.steps
    }

    /// How many steps are completed.
    pub fn completed(&self) -> usize {
        self.completed
    }

    /// What to do next; `None` when all is done.
    pub fn next_step(&self) -> Option<&[Movement]> {
        self.steps.get(self.completed).map(Vec::as_slice)
    }

    /// Declares the next step done; nothing happens if all are.
    pub fn complete_step(&mut self) {
        self.completed = self.steps.len().min(self.completed + 1);
    }

    /// Who holds the key after the completed steps, the preferred one first: as by
    /// the old ring before the first step and as by the new ring after the last.
    /// A node that a step drops a copy from holds none from that step on.
    ///
    /// O(cost of [`HashRing::replicas`](crate::HashRing::replicas) + log pieces).
    pub fn holders(&self, key: impl Into<KeyHash>) -> Vec<&Node> {
        let key = key.into();
        let (mut holders, mut after) = (Vec::new(), Vec::new());
        self.plan.new.holders(key, self.plan.copies, &mut after);
        if self.completed < self.steps.len() {
            self.plan.old.holders(key, self.plan.copies, &mut holders);
            let before = holders.clone();
            for change in changes(&before, &after).filter(|change| self.is_done(*change, key)) {
                match change {
                    Change::Move { from, to } => holders
                        .iter_mut()
                        .filter(|holder| **holder == from)
                        .for_each(|holder| *holder = to),
                    Change::Copy { to } => holders.push(to),
                    Change::Drop { from } => holders.retain(|holder| *holder != from),
                }
            }
        } else {
            holders = after;
        }
        holders.into_iter().map(|index| &self.plan.nodes()[index]).collect()
    }

    fn is_done(&self, change: Change, KeyHash(hash): KeyHash) -> bool {
        let step = match change.receiver() {
            None => 0,
            Some(to) => {
                let pieces = &self.received[to];
                let after = pieces.partition_point(|(start, _)| *start <= hash);
                let piece = after.checked_sub(1).and_then(|at| pieces.get(at));
                piece.expect("a key that changes hands is in a piece").1
            }
        };
        step < self.completed
    }
}

/// What is still to be scheduled.
struct Queues {
    /// Per receiver, in order of range.
    incoming: Vec<(usize, VecDeque<Movement>)>,
    drops: Vec<Movement>,
    holds: Vec<Share>,
    capacities: Vec<Option<Share>>,
}

impl Queues {
    fn new(plan: &MovementPlan, capacities: &[Option<Share>]) -> Self {
        let mut incoming = alloc::vec![VecDeque::new(); plan.nodes().len()];
        let mut drops = Vec::new();
        for movement in plan.movements() {
            match movement.change.receiver() {
                Some(to) => incoming[to].push_back(*movement),
                None => drops.push(*movement),
            }
        }
        let incoming = incoming.into_iter().enumerate().filter(|(_, queue)| !queue.is_empty());
        Self {
            incoming: incoming.collect(),
            drops,
            holds: plan.before().to_vec(),
            capacities: capacities.to_vec(),
        }
    }

    /// Takes as much as the budget and the receivers' room allow; room that the
    /// step itself makes counts only from the next step on. Drops cost nothing to
    /// move and free room, so the first step has them all.
    fn next_step(
        &mut self,
        plan: &MovementPlan,
        most_per_step: Share,
    ) -> Result<Option<Vec<Movement>>, RingError> {
        let mut step = core::mem::take(&mut self.drops);
        let Some((first, _)) = self.incoming.first() else {
            return Ok(Some(step).filter(|step| !step.is_empty()));
        };
        if most_per_step == Share::NONE {
            return Err(RingError::TooManySteps { limit: MAX_STEPS });
        }
        let first = &plan.nodes()[*first];
        let mut budget = most_per_step;
        for (to, queue) in &mut self.incoming {
            let mut room = match self.capacities[*to] {
                Some(capacity) => capacity.saturating_sub(self.holds[*to]).min(budget),
                None => budget,
            };
            while room > Share::NONE {
                let Some(movement) = queue.pop_front() else { break };
                let (range, rest) = movement.range.cut(room);
                if let Some(range) = rest {
                    queue.push_front(Movement { range, ..movement });
                }
                room -= range.share();
                budget -= range.share();
                step.push(Movement { range, ..movement });
            }
        }
        if step.is_empty() {
            let pending = self.incoming.iter().flat_map(|(_, queue)| queue);
            let remaining = pending.map(|movement| movement.range.share()).sum();
            return Err(RingError::Stuck { id: first.id().to_string(), remaining });
        }
        for Movement { range, change } in &step {
            change.giver().into_iter().for_each(|node| self.holds[node] -= range.share());
            change.receiver().into_iter().for_each(|node| self.holds[node] += range.share());
        }
        self.incoming.retain(|(_, queue)| !queue.is_empty());
        Ok(Some(step))
    }
}
