use proptest::prelude::*;
use thalweg_ring::{BoundedLoads, HashRing, Node, Placement};

use crate::{equal_nodes, memberships, sample_keys};

proptest! {
    #[test]
    fn no_node_takes_more_than_its_bound_while_units_come_and_go(
        nodes in memberships(),
        headroom in 1..100_u32,
        events in proptest::collection::vec((any::<bool>(), 0..40_u32), 1..300),
    ) {
        let ring = HashRing::new(nodes.clone(), 8).unwrap();
        let mut loads = BoundedLoads::new(ring, headroom).unwrap();
        let mut held: Vec<String> = Vec::new();
        for (release, key) in events {
            if release && let Some(id) = held.pop() {
                prop_assert!(loads.release(&id));
            } else {
                let id = loads.acquire(&key.to_le_bytes()).id().to_owned();
                prop_assert!(loads.load(&id) <= loads.capacity(&id));
                held.push(id);
            }
            prop_assert_eq!(loads.total(), held.len() as u64);
            for node in nodes.iter() {
                let count = held.iter().filter(|id| *id == node.id()).count() as u64;
                prop_assert_eq!(loads.load(node.id()), Some(count));
            }
        }
    }

    #[test]
    fn the_bound_is_the_papers(nodes in memberships(), total in 1..500_u32, headroom in 1..100_u32) {
        let mut loads = BoundedLoads::new(HashRing::new(nodes.clone(), 8).unwrap(), headroom).unwrap();
        sample_keys(total).for_each(|key| { loads.acquire(key); });
        for node in nodes.iter() {
            let fair = f64::from(total) * f64::from(node.weight()) / nodes.total_weight() as f64;
            let bound = (1.0 + f64::from(headroom) / 100.0) * fair;
            let capacity = loads.capacity(node.id()).unwrap() as f64;
            prop_assert!(capacity > bound - 1e-6 && capacity < bound + 1.0 + 1e-6);
            prop_assert!(loads.load(node.id()).unwrap() as f64 <= capacity);
        }
    }
}

#[test]
fn keys_stay_home_while_nothing_is_full() {
    let ring = HashRing::new(equal_nodes(10), 1_024).unwrap();
    let mut loads = BoundedLoads::new(ring.clone(), 100).unwrap();
    // Small totals fill a node with one or two units; past them nothing does.
    sample_keys(2_000).for_each(|key| {
        loads.acquire(key);
    });
    let home = |key| loads.clone().acquire(key) == ring.node(key);
    assert!(sample_keys(200).all(home));
}

#[test]
fn another_ring_keeps_the_loads_of_those_who_stay() {
    let mut loads = BoundedLoads::new(HashRing::new(equal_nodes(3), 64).unwrap(), 25).unwrap();
    sample_keys(90).for_each(|key| {
        loads.acquire(key);
    });
    let stays = loads.load("node-0");
    let nodes = equal_nodes(3).without("node-2").unwrap().with(Node::new("new")).unwrap();
    loads.set_ring(loads.ring().rebuild(nodes).unwrap());
    assert_eq!(loads.load("node-0"), stays);
    assert_eq!((loads.load("new"), loads.load("node-2")), (Some(0), None));
    let sum = ["node-0", "node-1", "new"].iter().filter_map(|id| loads.load(id)).sum::<u64>();
    assert_eq!(loads.total(), sum);
    assert!(!loads.release("node-2"));
    assert!(!loads.release("new"));
}
