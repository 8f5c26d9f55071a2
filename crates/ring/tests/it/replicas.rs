use std::collections::HashMap;

use proptest::prelude::*;
use thalweg_ring::{HashRing, Membership, Node, Placement};

use crate::{memberships, sample_keys};

fn tally<'a>(names: impl Iterator<Item = String> + 'a) -> HashMap<String, usize> {
    names.fold(HashMap::new(), |mut counts, name| {
        *counts.entry(name).or_default() += 1;
        counts
    })
}

/// A domain may hold two copies more than another only if that other is full.
fn assert_even(copies: &HashMap<String, usize>, nodes: &HashMap<String, usize>) {
    for (domain, count) in copies {
        for (other, room) in nodes {
            let other_count = copies.get(other).copied().unwrap_or(0);
            let is_full = other_count == *room;
            assert!(is_full || *count <= other_count + 1, "{domain} {other}: {copies:?} {nodes:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn copies_are_on_distinct_nodes_and_evenly_over_zones_and_racks(
        nodes in memberships(), copies in 0..8_usize,
    ) {
        let ring = HashRing::new(nodes.clone(), 8).unwrap();
        let zone = |node: &Node| node.zone().to_owned();
        let zones = tally(nodes.iter().map(zone));
        for key in sample_keys(100) {
            let chosen = ring.replicas(key, copies);
            prop_assert_eq!(chosen.len(), copies.min(nodes.len()));
            prop_assert!(chosen.first().is_none_or(|first| *first == ring.node(key)));
            let ids = tally(chosen.iter().map(|node| node.id().to_owned()));
            prop_assert_eq!(ids.len(), chosen.len());
            assert_even(&tally(chosen.iter().map(|node| zone(node))), &zones);
            for here in zones.keys() {
                let racks = |nodes: &mut dyn Iterator<Item = &Node>| {
                    tally(nodes.filter(|n| n.zone() == here).map(|n| n.rack().to_owned()))
                };
                assert_even(&racks(&mut chosen.iter().copied()), &racks(&mut nodes.iter()));
            }
        }
    }

    #[test]
    fn copies_stay_where_they_are_when_another_node_leaves(
        nodes in memberships(), copies in 1..5_usize, leaver in any::<proptest::sample::Index>(),
    ) {
        prop_assume!(nodes.len() > 1);
        let ring = HashRing::new(nodes.clone(), 8).unwrap();
        let leaver = leaver.get(&nodes).id();
        let fewer = ring.rebuild(nodes.without(leaver).unwrap()).unwrap();
        for key in sample_keys(100) {
            let before = ring.replicas(key, copies);
            if before.iter().all(|node| node.id() != leaver) {
                prop_assert_eq!(before, fewer.replicas(key, copies));
            }
        }
    }
}

#[test]
fn a_zone_or_rack_takes_a_second_copy_only_when_none_is_without() {
    let place = |i: u32| {
        let (zone, rack) = (format!("z{}", i % 3), format!("r{}", i / 3 % 2));
        Node::new(format!("n{i}")).in_zone(zone).in_rack(rack)
    };
    let ring = HashRing::new(Membership::new((0..24).map(place)).unwrap(), 64).unwrap();
    for key in sample_keys(1_000) {
        let copies = ring.replicas(key, 6);
        assert_eq!(tally(copies[..3].iter().map(|node| node.zone().into())).len(), 3);
        let place = |node: &&Node| format!("{} {}", node.zone(), node.rack());
        assert_eq!(tally(copies.iter().map(place)).len(), 6);
    }
}

#[test]
fn a_key_goes_to_the_next_node_that_accepts() {
    let ring = HashRing::new(Membership::of_ids(["a", "b", "c"]).unwrap(), 64).unwrap();
    for key in sample_keys(200) {
        let order = ring.replicas(key, 3);
        let without_first = ring.node_where(key, |node| node != order[0]);
        assert_eq!(without_first, Some(order[1]));
        assert_eq!(ring.node_where(key, |node| node == order[2]), Some(order[2]));
        assert_eq!(ring.node_where(key, |_| false), None);
    }
}
