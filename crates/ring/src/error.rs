//! What can be wrong with a membership or a plan.

use alloc::string::String;

use crate::share::Share;

/// Why a membership, a placement or a plan was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// A membership needs at least one node.
    #[error("expected at least one node, found none: keep the last placement while no node lives")]
    NoNodes,
    /// More nodes than [`MAX_NODES`](crate::MAX_NODES).
    #[error("expected at most {limit} nodes, found {found}")]
    TooManyNodes {
        /// Nodes given.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// Two nodes with one id.
    #[error("node id {id:?} occurs twice: give every node its own id")]
    DuplicateNode {
        /// The id.
        id: String,
    },
    /// A weight of zero; a node that should hold nothing is left out instead.
    #[error("node {id:?} has weight 0: leave it out, or give it at least 1")]
    ZeroWeight {
        /// The node.
        id: String,
    },
    /// No node has this id.
    #[error("no node has the id {id:?}")]
    UnknownNode {
        /// The id.
        id: String,
    },
    /// A parameter outside its range.
    #[error("{name} must be {expected}, found {found}")]
    Parameter {
        /// The parameter.
        name: &'static str,
        /// Its range.
        expected: &'static str,
        /// What was given.
        found: u64,
    },
    /// The weights ask for more virtual nodes or slots than there may be.
    #[error(
        "the weights need {needed} {what}, at most {limit} are there: lower the weights or {remedy}"
    )]
    TooManySlots {
        /// What is counted.
        what: &'static str,
        /// How many are needed.
        needed: u64,
        /// How many there may be.
        limit: u64,
        /// What else helps.
        remedy: &'static str,
    },
    /// A node would end above its capacity: no order of moves can avoid it.
    #[error(
        "node {id:?} would hold {needed} of the keys and has room for {capacity}: lower its weight or add nodes"
    )]
    OverCapacity {
        /// The node.
        id: String,
        /// What the new placement gives it.
        needed: Share,
        /// What it can hold.
        capacity: Share,
    },
    /// Moves remain, and every node that should receive is full.
    #[error(
        "{remaining} of the keys cannot move, every receiver is full until another has given: free some room on {id:?}"
    )]
    Stuck {
        /// One of the full receivers.
        id: String,
        /// What still has to move.
        remaining: Share,
    },
    /// A plan cut so finely that it has more than [`MAX_STEPS`](crate::MAX_STEPS) steps.
    #[error(
        "the plan needs more than {limit} steps: allow more per step or give the full nodes more room"
    )]
    TooManySteps {
        /// The limit.
        limit: usize,
    },
}
