//! Replicas leave: reads stay the same, entries go, late messages do no harm.

use std::fmt::Debug;

use proptest::prelude::*;
use thalweg_causal::{
    Crdt, DotMap, DotSet, GCounter, MvRegister, OrMap, OrSet, PnCounter, ReplicaId, Siblings,
};

const DEPARTED: ReplicaId = ReplicaId(2);
/// Only the coordinator's retirements write under this id.
const ESTATE: ReplicaId = ReplicaId(100);

/// Replicas 0, 1 and 2 perform `writes` and merge now and then; replica 2 leaves.
/// `write` performs one operation and `read` is what users see.
fn leave<C: Crdt + Debug, View: PartialEq + Debug>(
    writes: &[(usize, u64)],
    write: impl Fn(&mut C, ReplicaId, u64),
    read: impl Fn(&C) -> View,
) {
    let mut replicas: [C; 3] = Default::default();
    let mut late = Vec::new();
    for (replica, value) in writes {
        let replica = replica % 3;
        write(&mut replicas[replica], ReplicaId(replica as u64), *value);
        if value % 3 == 0 {
            let other = replicas[(replica + 1) % 3].clone();
            replicas[replica].merge(&other);
        }
        late.push(replicas[replica].clone());
    }
    let [mut coordinator, mut member, departed] = replicas;
    coordinator.merge(&departed);

    let before = read(&coordinator);
    let delta = coordinator.retire(DEPARTED, ESTATE);
    assert_eq!(read(&coordinator), before, "retiring changes no read");

    // The member gets the departed state late, twice, and in between the delta.
    let mut expected = member.clone();
    expected.merge(&coordinator);
    member.merge(&delta);
    member.merge(&departed);
    member.merge(&coordinator);
    assert!(!member.merge(&delta));
    assert_eq!(member, expected);
    coordinator.merge(&member);

    // Everyone has merged the delta: forget.
    let before = read(&coordinator);
    for replica in [&mut coordinator, &mut member] {
        replica.forget(DEPARTED);
        assert_eq!(read(replica), before, "forgetting changes no read");
    }
    for mut message in late {
        message.forget(DEPARTED);
        assert!(!coordinator.merge(&message), "late messages bring nothing back");
    }

    // Life goes on.
    write(&mut member, ReplicaId(1), 7);
    coordinator.merge(&member);
    assert_eq!(read(&coordinator), read(&member));
    assert_eq!(C::from_bytes(&coordinator.to_bytes()), Ok(coordinator));
}

proptest! {
    #[test]
    fn counters(writes in prop::collection::vec((0usize..3, 0u64..9), 0..20)) {
        leave::<GCounter, _>(
            &writes,
            |counter, replica, value| _ = counter.increment(replica, value),
            GCounter::value,
        );
        leave::<PnCounter, _>(
            &writes,
            |counter, replica, value| {
                _ = match value % 2 {
                    0 => counter.increment(replica, value),
                    _ => counter.decrement(replica, value),
                }
            },
            PnCounter::value,
        );
    }

    #[test]
    fn sets_and_maps(writes in prop::collection::vec((0usize..3, 0u64..9), 0..20)) {
        leave::<OrSet<u64>, _>(
            &writes,
            |set, replica, value| {
                _ = match value {
                    0..6 => set.add(replica, value),
                    _ => set.remove(&(value - 6)),
                }
            },
            |set| set.keys().copied().collect::<Vec<_>>(),
        );
        leave::<OrMap<u64, DotMap<u64, DotSet>>, _>(
            &writes,
            |map, replica, value| {
                _ = map.update(replica, value % 2, |set, dot| {
                    set.update(value / 2, |presence| presence.enable(dot))
                })
            },
            |map| map.keys().copied().collect::<Vec<_>>(),
        );
    }

    #[test]
    fn registers(writes in prop::collection::vec((0usize..3, 0u64..9), 0..20)) {
        let sorted = |mut values: Vec<u64>| { values.sort(); values };
        leave::<MvRegister<u64>, _>(
            &writes,
            |register, replica, value| _ = register.write(replica, value),
            |register| sorted(register.values().copied().collect()),
        );
        leave::<Siblings<u64>, _>(
            &writes,
            |siblings, replica, value| _ = siblings.write(replica, &siblings.context(), value),
            |siblings| sorted(siblings.values().copied().collect()),
        );
    }
}

#[test]
fn a_forgotten_replica_costs_no_bytes() {
    let mut counter = GCounter::default();
    counter.increment(DEPARTED, 300);
    counter.retire(DEPARTED, ESTATE);
    counter.forget(DEPARTED);
    let mut never_there = GCounter::default();
    never_there.increment(ESTATE, 300);
    assert_eq!(counter.to_bytes(), never_there.to_bytes());
}
