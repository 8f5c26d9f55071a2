use std::collections::BTreeSet;

use proptest::prelude::*;
use thalweg_ring::{
    Change, HashRange, HashRing, KeyHash, Membership, Migration, Movement, MovementPlan, Node,
    Placement, RingError, Share,
};

use crate::{equal_nodes, memberships, sample_keys};

fn plan(old: &Membership, new: &Membership, copies: usize) -> (HashRing, HashRing, MovementPlan) {
    let old = HashRing::new(old.clone(), 8).unwrap();
    let new = HashRing::new(new.clone(), 8).unwrap();
    let plan = MovementPlan::between(&old, &new, copies).unwrap();
    (old, new, plan)
}

/// Sampled keys, and keys at the edges of movements.
fn keys_of(plan: &MovementPlan) -> Vec<KeyHash> {
    let edges = |movement: &Movement| {
        let HashRange { start, end } = movement.range;
        [start, end, start.wrapping_sub(1), end.wrapping_add(1)].map(KeyHash)
    };
    plan.movements()
        .iter()
        .step_by(plan.movements().len() / 32 + 1)
        .flat_map(edges)
        .chain(sample_keys(50))
        .collect()
}

fn names<'a>(nodes: impl IntoIterator<Item = &'a Node>) -> BTreeSet<String> {
    nodes.into_iter().map(|node| node.id().to_owned()).collect()
}

/// Carries out movements on one key's holders, as a cluster would.
fn apply<'a>(
    holders: &mut BTreeSet<String>,
    nodes: &Membership,
    movements: impl IntoIterator<Item = &'a Movement>,
    key: KeyHash,
) {
    for movement in movements.into_iter().filter(|movement| movement.range.contains(key)) {
        match movement.change {
            Change::Move { from, to } => {
                assert!(holders.remove(nodes[from].id()), "the giver must have it");
                assert!(holders.insert(nodes[to].id().into()), "the receiver must lack it");
            }
            Change::Copy { to } => {
                assert!(!holders.is_empty(), "somebody must have it");
                assert!(holders.insert(nodes[to].id().into()), "the receiver must lack it");
            }
            Change::Drop { from } => {
                assert!(holders.remove(nodes[from].id()), "the giver must have it");
            }
        }
    }
}

/// Follows every step: bounds, capacities even if all arrivals precede all
/// departures, and holders as published in between.
fn follow(
    migration: &mut Migration,
    old: &HashRing,
    new: &HashRing,
    copies: usize,
    limits: Limits<'_>,
) {
    let plan = migration.plan().clone();
    let nodes = plan.nodes();
    let mut holds = plan.before().to_vec();
    let keys = keys_of(&plan);
    let mut holders: Vec<_> = keys.iter().map(|key| names(old.replicas(*key, copies))).collect();
    let mut moved = Share::NONE;
    loop {
        for (key, expected) in keys.iter().zip(&holders) {
            assert_eq!(names(migration.holders(*key)), *expected, "{}", migration.completed());
        }
        let Some(step) = migration.next_step() else { break };
        let travels = step.iter().filter(|movement| movement.change.receiver().is_some());
        let in_step: Share = travels.map(|movement| movement.range.share()).sum();
        assert!(in_step <= limits.per_step);
        moved += in_step;
        for movement in step {
            if let Some(to) = movement.change.receiver() {
                holds[to] += movement.range.share();
                assert!(holds[to] <= (limits.capacity)(&nodes[to]), "{}", nodes[to].id());
            }
        }
        for movement in step {
            if let Some(from) = movement.change.giver() {
                holds[from] -= movement.range.share();
            }
        }
        for (key, holders) in keys.iter().zip(&mut holders) {
            apply(holders, nodes, step, *key);
        }
        migration.complete_step();
    }
    assert_eq!(moved, plan.moved());
    assert_eq!(holds, plan.after());
    for key in keys {
        let published: Vec<_> = migration.holders(key).iter().map(|node| node.id()).collect();
        let expected: Vec<_> = new.replicas(key, copies).iter().map(|node| node.id()).collect();
        assert_eq!(published, expected);
    }
}

struct Limits<'a> {
    per_step: Share,
    capacity: &'a dyn Fn(&Node) -> Share,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn carrying_out_a_plan_gives_the_new_placement_of_every_key(
        old in memberships(), new in memberships(), copies in 1..4_usize,
    ) {
        let (old, new, plan) = plan(&old, &new, copies);
        for key in keys_of(&plan) {
            let mut holders = names(old.replicas(key, copies));
            apply(&mut holders, plan.nodes(), plan.movements(), key);
            prop_assert_eq!(holders, names(new.replicas(key, copies)));
        }
    }

    #[test]
    fn a_plan_accounts_for_every_share(
        old in memberships(), new in memberships(), copies in 1..4_usize,
    ) {
        let (old, new, plan) = plan(&old, &new, copies);
        let held = |copies: usize, ring: &HashRing| copies.min(ring.membership().len()) as f64;
        let sum = |shares: &[Share]| shares.iter().copied().sum::<Share>().fraction();
        prop_assert_eq!(sum(plan.before()), held(copies, &old));
        prop_assert_eq!(sum(plan.after()), held(copies, &new));
        let mut holds = plan.before().to_vec();
        for Movement { range, change } in plan.movements() {
            change.receiver().into_iter().for_each(|to| holds[to] += range.share());
        }
        for Movement { range, change } in plan.movements() {
            change.giver().into_iter().for_each(|from| holds[from] -= range.share());
        }
        prop_assert_eq!(&holds[..], plan.after());
        for pair in plan.movements().windows(2) {
            prop_assert!(pair[0].range.start <= pair[1].range.start);
            let follows = pair[0].range.end.checked_add(1) == Some(pair[1].range.start);
            prop_assert!(!follows || pair[0].change != pair[1].change, "neighbours are one");
        }
    }

    #[test]
    fn one_joining_node_receives_exactly_what_it_will_own(
        nodes in memberships(), weight in 1..4_u32,
    ) {
        let joined = nodes.with(Node::new("joiner").with_weight(weight)).unwrap();
        let (_, _, plan) = plan(&nodes, &joined, 1);
        let joiner = plan.nodes().index_of("joiner").unwrap();
        prop_assert!(plan.movements().iter().all(|m| m.change.receiver() == Some(joiner)));
        prop_assert_eq!(plan.moved(), plan.after()[joiner]);
    }

    #[test]
    fn steps_add_up_to_the_plan_within_their_bound(
        old in memberships(), new in memberships(), copies in 1..4_usize, percent in 5..40_u64,
    ) {
        let (old, new, plan) = plan(&old, &new, copies);
        let per_step = Share::of(percent, 100);
        let least = (plan.moved().hashes()).div_ceil(per_step.hashes()) as usize;
        let mut migration = plan.in_steps(per_step).unwrap();
        prop_assert!(migration.steps().len() <= least + 1, "full steps, and one of drops");
        let limits = Limits { per_step, capacity: &|_| Share::of(2, 1) };
        follow(&mut migration, &old, &new, copies, limits);
    }

    #[test]
    fn steps_keep_every_node_within_its_capacity(
        old in memberships(), new in memberships(), copies in 1..3_usize, slack in 1..30_u64,
    ) {
        let (old, new, plan) = plan(&old, &new, copies);
        let most: Vec<Share> = plan.before().iter().zip(plan.after()).map(|(a, b)| *a.max(b)).collect();
        let nodes = plan.nodes().clone();
        let capacity = |node: &Node| most[nodes.index_of(node.id()).unwrap()] + Share::of(slack, 1000);
        let per_step = Share::of(1, 4);
        let mut migration = plan.in_steps_within(per_step, capacity).unwrap();
        follow(&mut migration, &old, &new, copies, Limits { per_step, capacity: &capacity });
    }
}

#[test]
fn nothing_moves_between_equal_rings() {
    let (_, new, plan) = plan(&equal_nodes(5), &equal_nodes(5), 3);
    assert_eq!((plan.movements(), plan.moved()), (&[][..], Share::NONE));
    let migration = plan.in_steps(Share::of(1, 100)).unwrap();
    assert_eq!(migration.next_step(), None);
    assert_eq!(migration.holders("k")[0], new.node("k"));
}

#[test]
fn a_new_placement_that_overfills_a_node_is_refused() {
    let (_, _, plan) = plan(&equal_nodes(4), &equal_nodes(3), 1);
    let error = plan.in_steps_within(Share::of(1, 10), |_| Share::of(1, 4)).unwrap_err();
    let RingError::OverCapacity { needed, capacity, .. } = error else { panic!("{error}") };
    assert!(needed > capacity);
    assert_eq!(capacity, Share::of(1, 4));
}

/// More virtual nodes make two nodes exchange keys.
#[test]
fn full_nodes_that_wait_for_each_other_are_reported() {
    let nodes = Membership::of_ids(["a", "b"]).unwrap();
    let old = HashRing::new(nodes.clone(), 8).unwrap();
    let new = HashRing::new(nodes, 40).unwrap();
    let plan = MovementPlan::between(&old, &new, 1).unwrap();
    let receivers: BTreeSet<_> =
        plan.movements().iter().filter_map(|movement| movement.change.receiver()).collect();
    assert_eq!(receivers.len(), 2, "the case needs moves both ways");
    let full: Vec<Share> = plan.before().iter().zip(plan.after()).map(|(a, b)| *a.max(b)).collect();
    let nodes = plan.nodes().clone();
    let exactly = |node: &Node| full[nodes.index_of(node.id()).unwrap()];
    // What the shrinking one gives makes room for the rest, in turns.
    assert!(plan.clone().in_steps_within(Share::ALL, exactly).is_ok());
    // Here it is full even then: both are, with keys left to exchange.
    let after = |node: &Node| plan.after()[nodes.index_of(node.id()).unwrap()];
    let result = plan.clone().in_steps_within(Share::ALL, after);
    assert!(matches!(result, Err(RingError::Stuck { .. })), "{result:?}");
}

#[test]
fn steps_of_nothing_and_plans_of_no_copies_are_refused() {
    let (old, new, plan) = plan(&equal_nodes(4), &equal_nodes(5), 1);
    assert!(matches!(plan.in_steps(Share::NONE), Err(RingError::TooManySteps { .. })));
    assert!(matches!(MovementPlan::between(&old, &new, 0), Err(RingError::Parameter { .. })));
}
