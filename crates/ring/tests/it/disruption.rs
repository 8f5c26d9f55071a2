use proptest::prelude::*;
use thalweg_ring::{Dx, HashRing, Jump, MAGLEV_SMALL, Maglev, Membership, Node, Placement};

use crate::{equal_nodes, memberships, sample_keys};

/// Every key that is elsewhere afterwards, with its owners before and after.
fn moved<P: Placement>(before: &P, after: &P, keys: u32) -> Vec<(String, String)> {
    sample_keys(keys)
        .map(|key| (before.node(key).id().to_owned(), after.node(key).id().to_owned()))
        .filter(|(old, new)| old != new)
        .collect()
}

fn joined(nodes: &Membership, weight: u32) -> Membership {
    nodes.with(Node::new("joiner").with_weight(weight)).unwrap()
}

fn check_minimal<P: Placement>(small: &P, weight: u32) {
    let large = small.rebuild(joined(small.membership(), weight)).unwrap();
    for (_, new) in moved(small, &large, 500) {
        assert_eq!(new, "joiner");
    }
    let back = large.rebuild(small.membership().clone()).unwrap();
    assert_eq!(moved(small, &back, 500), []);
}

proptest! {
    #[test]
    fn a_ring_moves_keys_only_to_who_joins_and_back_when_it_leaves(
        nodes in memberships(), weight in 1..4_u32, vnodes in 1..50_u32,
    ) {
        check_minimal(&HashRing::new(nodes, vnodes).unwrap(), weight);
    }

    #[test]
    fn dx_moves_keys_only_to_who_joins_and_back_when_it_leaves(
        nodes in memberships(), weight in 1..4_u32,
    ) {
        check_minimal(&Dx::new(nodes, 64).unwrap(), weight);
    }

    #[test]
    fn a_higher_weight_only_attracts_keys(nodes in memberships(), vnodes in 1..50_u32) {
        let heavier = nodes[0].clone().with_weight(nodes[0].weight() + 1);
        let (id, raised) = (heavier.id().to_owned(), nodes.with(heavier).unwrap());
        let ring = HashRing::new(nodes.clone(), vnodes).unwrap();
        for (_, new) in moved(&ring, &ring.rebuild(raised.clone()).unwrap(), 500) {
            prop_assert_eq!(&new, &id);
        }
        let dx = Dx::new(nodes.clone(), 64).unwrap();
        let heavier = dx.rebuild(raised).unwrap();
        for (_, new) in moved(&dx, &heavier, 500) {
            prop_assert_eq!(&new, &id);
        }
        prop_assert_eq!(moved(&dx, &heavier.rebuild(nodes).unwrap(), 500), []);
    }

    #[test]
    fn dx_does_not_remember_the_order_of_departures(
        first in 0..9_usize, second in 0..9_usize,
    ) {
        let dx = Dx::new(equal_nodes(10), 16).unwrap();
        let id = |index: usize| dx.membership()[index].id().to_owned();
        let (a, b) = (id(first), id(if second == first { 9 } else { second }));
        let leave = |dx: &Dx, id: &str| dx.rebuild(dx.membership().without(id).unwrap()).unwrap();
        let one = leave(&leave(&dx, &a), &b);
        let other = leave(&leave(&dx, &b), &a);
        prop_assert_eq!(moved(&one, &other, 500), []);
    }

    #[test]
    fn dx_taken_over_from_published_slots_answers_the_same(nodes in memberships()) {
        let dx = Dx::new(nodes.clone(), 64).unwrap();
        let copy = Dx::from_slots(nodes, dx.slots()).unwrap();
        prop_assert_eq!(moved(&dx, &copy, 500), []);
    }

    #[test]
    fn jump_moves_keys_only_to_new_buckets(nodes in memberships(), weight in 1..4_u32) {
        check_minimal(&Jump::new(nodes).unwrap(), weight);
    }
}

#[test]
fn jump_moves_twice_the_least_when_a_node_inside_the_row_leaves() {
    let jump = Jump::new(equal_nodes(10)).unwrap();
    let fewer = jump.rebuild(jump.membership().without("node-4").unwrap()).unwrap();
    let moved = moved(&jump, &fewer, 20_000).len() as f64 / 20_000.0;
    assert!((0.15..0.20).contains(&moved), "{moved}");
}

#[test]
fn maglev_moves_few_keys_beyond_the_necessary() {
    let maglev = Maglev::new(equal_nodes(20), MAGLEV_SMALL).unwrap();
    let more = maglev.rebuild(joined(maglev.membership(), 1)).unwrap();
    let moves = moved(&maglev, &more, 20_000);
    let beside = moves.iter().filter(|(_, new)| new != "joiner").count();
    assert!((0.04..0.06).contains(&((moves.len() - beside) as f64 / 20_000.0)));
    assert!(beside as f64 / 20_000.0 < 0.06, "{beside}");
}

#[test]
fn dx_refuses_what_its_slots_cannot_hold() {
    let dx = Dx::new(equal_nodes(4), 4).unwrap();
    let error = dx.rebuild(joined(dx.membership(), 1)).unwrap_err().to_string();
    assert!(error.contains("need 5 slots, at most 4"), "{error}");
    assert!(Dx::from_slots(equal_nodes(2), [Some("node-0"), Some("stranger")]).is_err());
    assert!(Dx::from_slots(equal_nodes(2), [Some("node-0"), Some("node-0")]).is_err());
    assert!(Dx::from_slots(equal_nodes(2), [Some("node-0"), None]).is_err());
}

#[test]
fn dx_finds_the_last_node_among_many_empty_slots() {
    let dx = Dx::new(equal_nodes(2), 5_000).unwrap();
    let counts = sample_keys(200).fold([0, 0], |mut counts, key| {
        counts[dx.locate(key)] += 1;
        counts
    });
    assert!(counts.iter().all(|count| *count > 60), "{counts:?}");
}
