//! Spans and logs of a trace put into causal order.
//!
//! What parents say is trusted more than what clocks say, since machines' clocks differ; but
//! parents are what senders wrote, so that they may be missing or lead in circles.

use std::collections::HashMap;

/// Something that happened within a trace; times are nanoseconds since the Unix epoch.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Span {
        start: i64,
        end: Option<i64>,
        id: String,
        parent: Option<String>,
        /// Whether it is the receiving end of a call: it may share its id with the sending one
        /// (Zipkin's B3 propagation).
        receives: bool,
    },
    Log {
        time: i64,
        span: Option<String>,
    },
}

impl Node {
    fn time(&self) -> i64 {
        match self {
            Self::Span { start, .. } => *start,
            Self::Log { time, .. } => *time,
        }
    }

    fn is_log(&self) -> bool {
        matches!(self, Self::Log { .. })
    }
}

/// Where a node belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    /// Index of the node.
    pub(super) node: usize,
    /// Number of spans that it is within.
    pub(super) depth: usize,
    /// Whether it is a span whose parent is not there, or in a circle with it.
    pub(super) orphaned: bool,
}

/// Every node once, each after its parent and siblings by time. O(n log n), whatever the parents.
pub(super) fn order(nodes: &[Node]) -> Vec<Placed> {
    let ids = Ids::of(nodes);
    let mut parents: Vec<Option<usize>> =
        nodes.iter().enumerate().map(|(index, node)| ids.parent(index, node)).collect();
    break_circles(nodes, &mut parents);

    let mut by_time: Vec<usize> = (0..nodes.len()).collect();
    by_time.sort_by_key(|index| (nodes[*index].time(), nodes[*index].is_log(), *index));
    place_strays(nodes, &by_time, &mut parents);

    let mut children = vec![Vec::new(); nodes.len()];
    let mut roots = Vec::new();
    for index in by_time {
        match parents[index] {
            Some(parent) => children[parent].push(index),
            None => roots.push(index),
        }
    }
    let orphaned = |index: usize| {
        parents[index].is_none() && matches!(nodes[index], Node::Span { parent: Some(_), .. })
    };
    let mut placed = Vec::with_capacity(nodes.len());
    let mut next: Vec<(usize, usize)> = roots.into_iter().rev().map(|root| (root, 0)).collect();
    while let Some((node, depth)) = next.pop() {
        placed.push(Placed { node, depth, orphaned: orphaned(node) });
        next.extend(children[node].iter().rev().map(|child| (*child, depth + 1)));
    }
    placed
}

/// The spans by their ids.
struct Ids<'n> {
    /// The first span of an id that sends, and the first that receives.
    ends: HashMap<&'n str, [Option<usize>; 2]>,
}

impl<'n> Ids<'n> {
    fn of(nodes: &'n [Node]) -> Self {
        let mut ends = HashMap::<_, [Option<usize>; 2]>::new();
        for (index, node) in nodes.iter().enumerate() {
            if let Node::Span { id, receives, .. } = node {
                let end = &mut ends.entry(id.as_str()).or_default()[usize::from(*receives)];
                end.get_or_insert(index);
            }
        }
        Self { ends }
    }

    fn parent(&self, index: usize, node: &Node) -> Option<usize> {
        // What follows from a call follows from its receiving end.
        let follows = |id: &str| {
            let [sends, receives] = self.ends.get(id)?;
            receives.or(*sends)
        };
        match node {
            Node::Log { span, .. } => span.as_deref().and_then(follows),
            Node::Span { id, parent, receives, .. } => {
                let sender = self.ends.get(id.as_str()).and_then(|[sends, _]| *sends);
                let sender = sender.filter(|_| *receives);
                let parent = sender.or_else(|| parent.as_deref().and_then(follows));
                parent.filter(|parent| *parent != index)
            }
        }
    }
}

/// Cuts every circle of parents before its earliest span.
fn break_circles(nodes: &[Node], parents: &mut [Option<usize>]) {
    /// Walks that have come by: none, the one of this number.
    const UNSEEN: usize = usize::MAX;
    let mut seen_by = vec![UNSEEN; nodes.len()];
    for walk in 0..nodes.len() {
        let mut at = Some(walk);
        while let Some(index) = at.filter(|index| seen_by[*index] == UNSEEN) {
            seen_by[index] = walk;
            at = parents[index];
        }
        // Back on its own way: a circle.
        let Some(entry) = at.filter(|index| seen_by[*index] == walk) else { continue };
        let around = std::iter::successors(parents[entry], |index| parents[*index]);
        let circle = around.take_while(|index| *index != entry).chain([entry]);
        let first = circle.min_by_key(|index| (nodes[*index].time(), *index));
        parents[first.unwrap_or(entry)] = None;
    }
}

/// Puts logs of no span among the children of the root span that was under way: the one that
/// began last before them, if it had not ended.
fn place_strays(nodes: &[Node], by_time: &[usize], parents: &mut [Option<usize>]) {
    let mut root = None;
    for index in by_time {
        match &nodes[*index] {
            Node::Span { end, .. } if parents[*index].is_none() => root = Some((*index, *end)),
            Node::Log { time, .. } if parents[*index].is_none() => {
                let under_way = root.filter(|(_, end)| end.is_none_or(|end| *time <= end));
                parents[*index] = under_way.map(|(root, _)| root);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(id: &str, parent: Option<&str>, start: i64, end: i64) -> Node {
        let parent = parent.map(str::to_owned);
        Node::Span { start, end: Some(end), id: id.into(), parent, receives: false }
    }

    fn log(span: Option<&str>, time: i64) -> Node {
        Node::Log { time, span: span.map(str::to_owned) }
    }

    /// Node, depth and whether it is an orphan, in order.
    fn placed(nodes: &[Node]) -> Vec<(usize, usize, bool)> {
        order(nodes)
            .into_iter()
            .map(|placed| (placed.node, placed.depth, placed.orphaned))
            .collect()
    }

    #[test]
    fn children_follow_their_parent_even_if_their_clock_is_behind() {
        let nodes = [
            span("c", Some("b"), 5, 6),
            span("b", Some("a"), 1, 90),
            span("a", None, 10, 100),
            span("d", Some("a"), 20, 30),
        ];
        let expected = [(2, 0, false), (1, 1, false), (0, 2, false), (3, 1, false)];
        assert_eq!(placed(&nodes), expected);
    }

    #[test]
    fn logs_stand_within_their_span_at_their_time() {
        let nodes = [
            span("a", None, 10, 100),
            span("b", Some("a"), 20, 30),
            log(Some("b"), 25),
            log(Some("a"), 15),
            log(Some("a"), 40),
            log(Some("a"), 20),
        ];
        let expected = [(0, 0), (3, 1), (1, 1), (2, 2), (5, 1), (4, 1)]
            .map(|(node, depth)| (node, depth, false));
        assert_eq!(placed(&nodes), expected);
    }

    #[test]
    fn a_log_of_no_span_stands_where_it_happened() {
        let nodes = [
            log(None, 5),
            span("a", None, 10, 100),
            span("b", Some("a"), 20, 30),
            log(None, 15),
            log(Some("gone"), 50),
            log(None, 101),
        ];
        let expected = [(0, 0), (1, 0), (3, 1), (2, 1), (4, 1), (5, 0)]
            .map(|(node, depth)| (node, depth, false));
        assert_eq!(placed(&nodes), expected);
    }

    #[test]
    fn orphans_are_roots_that_are_marked() {
        let nodes = [
            span("a", Some("gone"), 10, 20),
            span("b", Some("b"), 1, 2),
            span("c", Some("a"), 3, 4),
        ];
        assert_eq!(placed(&nodes), [(1, 0, true), (0, 0, true), (2, 1, false)]);
    }

    #[test]
    fn a_circle_is_cut_before_its_earliest_span() {
        let nodes = [
            span("x", Some("a"), 1, 2),
            span("a", Some("c"), 30, 31),
            span("b", Some("a"), 10, 11),
            span("c", Some("b"), 20, 21),
        ];
        assert_eq!(placed(&nodes), [(2, 0, true), (3, 1, false), (1, 2, false), (0, 3, false)]);
    }

    #[test]
    fn the_receiving_end_of_a_call_may_share_the_id_of_the_sending_one() {
        let server = |id: &str, parent: &str| Node::Span {
            start: 1,
            end: None,
            id: id.into(),
            parent: Some(parent.into()),
            receives: true,
        };
        let nodes = [
            server("b", "a"),
            span("b", Some("a"), 2, 9),
            span("a", None, 0, 9),
            span("c", Some("b"), 3, 4),
        ];
        assert_eq!(placed(&nodes), [(2, 0, false), (1, 1, false), (0, 2, false), (3, 3, false)]);
    }

    #[test]
    fn a_chain_of_many_spans_takes_no_stack() {
        let nodes: Vec<Node> =
            (0..100_000).map(|n| span(&n.to_string(), Some(&(n + 1).to_string()), n, n)).collect();
        let placed = order(&nodes);
        assert_eq!((placed[0].node, placed.last().unwrap().depth), (99_999, 99_999));
    }

    proptest! {
        #[test]
        fn every_node_is_placed_once_after_its_parent_whatever_the_parents(
            sent in proptest::collection::vec(
                (any::<bool>(), 0..8_u8, proptest::option::of(0..10_u8), 0..5_i64, any::<bool>()),
                0..40,
            ),
        ) {
            let nodes: Vec<Node> = sent
                .into_iter()
                .map(|(is_log, id, other, time, receives)| {
                    let other = other.map(|other| other.to_string());
                    match is_log {
                        true => Node::Log { time, span: other },
                        false => Node::Span {
                            start: time,
                            end: Some(time + 1),
                            id: id.to_string(),
                            parent: other,
                            receives,
                        },
                    }
                })
                .collect();
            let placed = order(&nodes);
            let mut indices: Vec<usize> = placed.iter().map(|placed| placed.node).collect();
            indices.sort_unstable();
            prop_assert_eq!(indices, (0..nodes.len()).collect::<Vec<_>>());
            let mut path: Vec<usize> = Vec::new();
            let mut last_at_depth: Vec<i64> = Vec::new();
            for Placed { node, depth, .. } in placed {
                prop_assert!(depth <= path.len());
                path.truncate(depth);
                last_at_depth.truncate(depth + 1);
                // Whoever it is within is a span, and siblings come in the order of their times.
                prop_assert!(path.last().is_none_or(|parent| !nodes[*parent].is_log()));
                let time = nodes[node].time();
                match last_at_depth.get(depth) {
                    Some(last) => prop_assert!(*last <= time),
                    None => last_at_depth.push(time),
                }
                last_at_depth[depth] = time;
                path.push(node);
            }
        }
    }
}
