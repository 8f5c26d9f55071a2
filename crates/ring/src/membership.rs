//! Who takes part: nodes with weights and failure domains.

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Deref;

use crate::error::RingError;

/// Most nodes a membership may have: node numbers take 20 bits beside a
/// virtual node's position.
pub const MAX_NODES: usize = 1 << 20;

/// A server, a cache, a partition: whatever keys are placed on.
///
/// ```
/// use thalweg_ring::Node;
/// let node = Node::new("db-7").with_weight(2).in_zone("eu-1a").in_rack("r12");
/// assert_eq!(node.id(), "db-7");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    id: Box<str>,
    weight: u32,
    zone: Box<str>,
    rack: Box<str>,
}

impl Node {
    /// A node of weight 1. Its id alone decides where its keys are, so it should
    /// name the data's place and outlive restarts (not an address that changes).
    pub fn new(id: impl Into<Box<str>>) -> Self {
        Self { id: id.into(), weight: 1, zone: Box::default(), rack: Box::default() }
    }

    /// Its keys in proportion to the other nodes' weights.
    #[must_use]
    pub fn with_weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// The largest failure domain it shares with others; unnamed is a zone too.
    #[must_use]
    pub fn in_zone(mut self, zone: impl Into<Box<str>>) -> Self {
        self.zone = zone.into();
        self
    }

    /// The failure domain within its zone; racks of one name in two zones differ.
    #[must_use]
    pub fn in_rack(mut self, rack: impl Into<Box<str>>) -> Self {
        self.rack = rack.into();
        self
    }

    /// The id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The weight, at least 1 once in a [`Membership`].
    pub fn weight(&self) -> u32 {
        self.weight
    }

    /// The zone, empty if none was given.
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// The rack, empty if none was given.
    pub fn rack(&self) -> &str {
        &self.rack
    }
}

/// A set of nodes with distinct ids, in order of id; clones share it.
///
/// Two memberships of the same nodes are equal whatever order they were given
/// in. A *node index* anywhere in this crate is a place in this order and means
/// nothing in another membership.
///
/// ```
/// use thalweg_ring::{Membership, Node};
/// let four = Membership::of_ids(["a", "b", "c", "d"])?;
/// let five = four.with(Node::new("e"))?;
/// assert_eq!(five.len(), 5);
/// assert_eq!(five.without("e")?, four);
/// # Ok::<(), thalweg_ring::RingError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    nodes: Arc<[Node]>,
    total_weight: u64,
}

impl Membership {
    /// Takes the nodes in any order. O(n log n).
    ///
    /// # Errors
    /// No node, more than [`MAX_NODES`], an id twice, or a weight of zero.
    pub fn new(nodes: impl IntoIterator<Item = Node>) -> Result<Self, RingError> {
        let mut nodes: Vec<Node> = nodes.into_iter().collect();
        if nodes.is_empty() {
            return Err(RingError::NoNodes);
        }
        if nodes.len() > MAX_NODES {
            return Err(RingError::TooManyNodes { found: nodes.len(), limit: MAX_NODES });
        }
        if let Some(node) = nodes.iter().find(|node| node.weight == 0) {
            return Err(RingError::ZeroWeight { id: node.id.to_string() });
        }
        nodes.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        if let Some(pair) = nodes.windows(2).find(|pair| pair[0].id == pair[1].id) {
            return Err(RingError::DuplicateNode { id: pair[0].id.to_string() });
        }
        let total_weight = nodes.iter().map(|node| u64::from(node.weight)).sum();
        Ok(Self { nodes: nodes.into(), total_weight })
    }

    /// Nodes of weight 1, without zones, from ids alone.
    ///
    /// # Errors
    /// As [`Membership::new`].
    pub fn of_ids<I: Into<Box<str>>>(ids: impl IntoIterator<Item = I>) -> Result<Self, RingError> {
        Self::new(ids.into_iter().map(Node::new))
    }

    /// With one more node, or with another weight, zone or rack for the node of
    /// that id. O(n log n).
    ///
    /// # Errors
    /// As [`Membership::new`].
    pub fn with(&self, node: Node) -> Result<Self, RingError> {
        let others = self.iter().filter(|other| other.id != node.id).cloned();
        Self::new(others.chain([node.clone()]))
    }

    /// Without the node of this id. O(n log n).
    ///
    /// # Errors
    /// [`RingError::UnknownNode`], or [`RingError::NoNodes`] if it was the last.
    pub fn without(&self, id: &str) -> Result<Self, RingError> {
        if self.index_of(id).is_none() {
            return Err(RingError::UnknownNode { id: id.to_string() });
        }
        Self::new(self.iter().filter(|node| *node.id != *id).cloned())
    }

    /// The index of the node with this id. O(log n).
    pub fn index_of(&self, id: &str) -> Option<usize> {
        self.nodes.binary_search_by(|node| (*node.id).cmp(id)).ok()
    }

    /// Sum of the weights.
    pub fn total_weight(&self) -> u64 {
        self.total_weight
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let text = |node: &Node| node.id.len() + node.zone.len() + node.rack.len();
        self.iter().map(|node| size_of::<Node>() + text(node)).sum()
    }
}

impl Deref for Membership {
    type Target = [Node];
    fn deref(&self) -> &[Node] {
        &self.nodes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_placed_on_is_refused() {
        assert_eq!(Membership::new([]), Err(RingError::NoNodes));
        assert_eq!(
            Membership::of_ids(["a", "b", "a"]),
            Err(RingError::DuplicateNode { id: "a".into() })
        );
        assert_eq!(
            Membership::new([Node::new("a").with_weight(0)]),
            Err(RingError::ZeroWeight { id: "a".into() })
        );
        let one = Membership::of_ids(["a"]).unwrap();
        assert_eq!(one.without("b"), Err(RingError::UnknownNode { id: "b".into() }));
        assert_eq!(one.without("a"), Err(RingError::NoNodes));
    }

    #[test]
    fn order_of_joining_does_not_matter() {
        let a = Membership::of_ids(["x", "y", "z"]).unwrap();
        let b = Membership::of_ids(["z", "x", "y"]).unwrap();
        assert_eq!(a, b);
        assert_eq!(a.index_of("y"), Some(1));
    }
}
