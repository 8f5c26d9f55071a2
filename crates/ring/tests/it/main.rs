//! The laws that placements and plans keep, as properties.

// What helpers beside the tests unwrap is the tests' own.
#![allow(clippy::unwrap_used)]

mod balance;
mod bounded_loads;
mod disruption;
mod plans;
mod replicas;
mod vectors;

use proptest::prelude::*;
use thalweg_ring::{KeyHash, Membership, Node};

/// Keys whose hashes are spread over the whole space.
fn sample_keys(count: u32) -> impl Iterator<Item = KeyHash> {
    (0..count).map(|i| KeyHash::from(&i.to_le_bytes()))
}

/// A few nodes out of sixteen names, with weights, zones and racks.
fn memberships() -> impl Strategy<Value = Membership> {
    let node = (0..16_u32, 1..4_u32, 0..4_u32, 0..3_u32);
    proptest::collection::vec(node, 1..12).prop_map(|nodes| {
        let mut membership: Option<Membership> = None;
        for (name, weight, zone, rack) in nodes {
            let node = Node::new(format!("n{name}"))
                .with_weight(weight)
                .in_zone(format!("z{zone}"))
                .in_rack(format!("r{rack}"));
            let joined = match membership {
                None => Membership::new([node]),
                Some(membership) => membership.with(node),
            };
            membership = Some(joined.unwrap());
        }
        membership.unwrap()
    })
}

/// `count` nodes of weight 1.
fn equal_nodes(count: u32) -> Membership {
    Membership::of_ids((0..count).map(|i| format!("node-{i}"))).unwrap()
}
