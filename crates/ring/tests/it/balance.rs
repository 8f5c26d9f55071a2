use proptest::prelude::*;
use thalweg_ring::{Dx, HashRing, Jump, Maglev, Membership, Node, Placement, Share};

use crate::{equal_nodes, memberships, sample_keys};

/// Largest relative deviation of a node's part from its weight's.
fn worst_deviation(nodes: &Membership, parts: &[f64]) -> f64 {
    let total = nodes.total_weight() as f64;
    let deviation =
        |(node, part): (&Node, &f64)| (part / (f64::from(node.weight()) / total) - 1.0).abs();
    nodes.iter().zip(parts).map(deviation).fold(0.0, f64::max)
}

fn sampled_parts(placement: &impl Placement, keys: u32) -> Vec<f64> {
    let mut parts = vec![0.0; placement.membership().len()];
    sample_keys(keys).for_each(|key| parts[placement.locate(key)] += 1.0 / f64::from(keys));
    parts
}

fn exact_parts(ring: &HashRing) -> Vec<f64> {
    ring.shares().into_iter().map(Share::fraction).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn ring_shares_follow_weights_within_five_deviations(nodes in memberships()) {
        let ring = HashRing::new(nodes.clone(), 1024).unwrap();
        prop_assert_eq!(ring.shares().into_iter().sum::<Share>(), Share::ALL);
        prop_assert!(worst_deviation(&nodes, &exact_parts(&ring)) < 5.0 / 1024_f64.sqrt());
    }

    #[test]
    fn ring_shares_are_what_keys_do(nodes in memberships()) {
        let ring = HashRing::new(nodes, 16).unwrap();
        for (exact, sampled) in exact_parts(&ring).iter().zip(sampled_parts(&ring, 4_000)) {
            prop_assert!((exact - sampled).abs() < 0.05);
        }
    }

    #[test]
    fn tables_and_slots_follow_weights(nodes in memberships()) {
        const KEYS: u32 = 8_000;
        let parts = sampled_parts(&Maglev::new(nodes.clone(), 4_001).unwrap(), KEYS);
        prop_assert!(worst_deviation(&nodes, &parts) < 0.35);
        let parts = sampled_parts(&Dx::new(nodes.clone(), 50).unwrap(), KEYS);
        prop_assert!(worst_deviation(&nodes, &parts) < 0.35);
        let parts = sampled_parts(&Jump::new(nodes.clone()).unwrap(), KEYS);
        prop_assert!(worst_deviation(&nodes, &parts) < 0.35);
    }
}

/// The catalogue in small; `examples/music_catalogue.rs` has all 10 million.
#[test]
fn four_music_servers_become_five_and_four_again() {
    const VNODES: u32 = 8_192;
    let four = HashRing::new(equal_nodes(4), VNODES).unwrap();
    let five = four.rebuild(equal_nodes(5)).unwrap();
    let moved: Vec<_> =
        sample_keys(100_000).filter(|key| four.node(*key) != five.node(*key)).collect();
    assert!((moved.len() as f64 / 100_000.0 - 0.20).abs() < 0.01);
    assert!(moved.iter().all(|key| five.node(*key).id() == "node-4"));
    for ring in [&four, &five] {
        let parts = exact_parts(ring);
        let most = parts.iter().copied().fold(0.0, f64::max) * parts.len() as f64;
        assert!(most < 1.05, "{most}");
    }
}

#[test]
fn weights_are_honoured_within_two_percent() {
    let nodes = [1, 1, 2, 3, 5].into_iter().enumerate();
    let nodes = nodes.map(|(i, weight)| Node::new(format!("s{i}")).with_weight(weight));
    let nodes = Membership::new(nodes).unwrap();
    let ring = HashRing::new(nodes.clone(), 32_768).unwrap();
    assert!(worst_deviation(&nodes, &exact_parts(&ring)) < 0.02);
}
