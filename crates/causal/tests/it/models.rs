//! The objects under test, each with the specification of its reads.

use std::collections::{BTreeMap, BTreeSet};

use thalweg_causal::{
    Causal, Crdt, DotFun, DotMap, DotSet, Flag, GCounter, LwwRegister, MvRegister, OrMap, OrSet,
    PnCounter, ReplicaId, Siblings, Timestamp, VectorClock,
};

use crate::world::{Events, History, Model};

/// Declares a model's fixed parts.
macro_rules! model {
    ($model:ident, $object:ty, $op:ty, $view:ty, $ops:expr, { $($body:item)* }) => {
        pub(crate) struct $model;
        impl Model for $model {
            type Object = $object;
            type Op = $op;
            type View = $view;
            const OPS: &'static [$op] = &$ops;
            $($body)*
        }
    };
}

// Counters: the sum of what was seen.

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Count {
    Add(i64),
    /// Replica 0 retires replica 2, all of whose events it has seen.
    Retire,
}

/// Only retirements write under this id.
const ESTATE: ReplicaId = ReplicaId(100);

fn sum(history: &History<Count>, events: Events) -> i128 {
    let amount = |count| match count {
        Count::Add(amount) => i128::from(amount),
        Count::Retire => 0,
    };
    history.events(events).map(|(_, event)| amount(event.op)).sum()
}

/// The delta of an addition holds the replica's total in that direction; the
/// delta of the retirement holds all of replica 2 and nothing of replica 0.
fn counted(history: &History<Count>, replica: usize) -> Events {
    let Some(Count::Add(last)) = history.0[replica].last().map(|event| event.op) else {
        return history.of(2);
    };
    let same_direction = |op| matches!(op, Count::Add(amount) if amount.signum() == last.signum());
    history
        .events(history.of(replica))
        .filter(|(_, event)| same_direction(event.op))
        .fold(0, |events, (number, _)| events | 1 << number)
}

fn may_count(history: &History<Count>, op: Count, replica: usize, seen: Events) -> bool {
    let retired = history.0[0].iter().any(|event| event.op == Count::Retire);
    match op {
        Count::Add(_) => !(retired && replica == 2),
        Count::Retire => {
            let departed = history.of(2);
            replica == 0 && !retired && departed != 0 && seen & departed == departed
        }
    }
}

model!(GrowOnly, GCounter, Count, i128, [Count::Add(1), Count::Add(5), Count::Retire], {
    const SYMMETRIC: bool = false;
    fn apply(counter: &mut GCounter, op: Count, replica: ReplicaId, _: u64) -> GCounter {
        match op {
            Count::Add(amount) => counter.increment(replica, amount.unsigned_abs()),
            Count::Retire => counter.retire(ReplicaId(2), ESTATE),
        }
    }
    fn read(counter: &GCounter) -> i128 {
        counter.value() as i128
    }
    fn specification(history: &History<Count>, events: Events) -> i128 {
        sum(history, events)
    }
    fn carried(history: &History<Count>, replica: usize, _: Events, _: Events) -> Events {
        counted(history, replica)
    }
    fn is_enabled(history: &History<Count>, op: Count, replica: usize, seen: Events) -> bool {
        may_count(history, op, replica, seen)
    }
});

model!(UpAndDown, PnCounter, Count, i128, [Count::Add(3), Count::Add(-4), Count::Retire], {
    const SYMMETRIC: bool = false;
    fn apply(counter: &mut PnCounter, op: Count, replica: ReplicaId, _: u64) -> PnCounter {
        match op {
            Count::Add(amount) if amount > 0 => counter.increment(replica, amount.unsigned_abs()),
            Count::Add(amount) => counter.decrement(replica, amount.unsigned_abs()),
            Count::Retire => counter.retire(ReplicaId(2), ESTATE),
        }
    }
    fn read(counter: &PnCounter) -> i128 {
        counter.value()
    }
    fn specification(history: &History<Count>, events: Events) -> i128 {
        sum(history, events)
    }
    fn carried(history: &History<Count>, replica: usize, _: Events, _: Events) -> Events {
        counted(history, replica)
    }
    fn is_enabled(history: &History<Count>, op: Count, replica: usize, seen: Events) -> bool {
        may_count(history, op, replica, seen)
    }
});

// The last writer.

#[derive(Clone, Copy, Debug)]
pub(crate) struct WriteAt {
    wall_micros: u64,
}

fn stamp(at: WriteAt, number: u64, replica: ReplicaId) -> Timestamp {
    Timestamp { wall_micros: at.wall_micros, logical: number as u32, replica }
}

model!(
    LastWriter,
    LwwRegister<u64>,
    WriteAt,
    Option<u64>,
    [WriteAt { wall_micros: 1 }, WriteAt { wall_micros: 2 }],
    {
        fn apply(
            register: &mut LwwRegister<u64>,
            at: WriteAt,
            replica: ReplicaId,
            number: u64,
        ) -> LwwRegister<u64> {
            register.write(stamp(at, number, replica), number)
        }
        fn read(register: &LwwRegister<u64>) -> Option<u64> {
            register.value().copied()
        }
        fn specification(history: &History<WriteAt>, events: Events) -> Option<u64> {
            let writes =
                history.events(events).map(|(number, event)| (event.op.wall_micros, number));
            writes.max().map(|(_, number)| number)
        }
    }
);

// Dots: the writes that were not overwritten.

#[derive(Clone, Copy, Debug)]
pub(crate) enum Write {
    /// Writes under this key, over what was seen there.
    Put(u64),
    /// Writes under key 0 without having seen anything.
    PutBlind,
    /// Overwrites this key with nothing.
    Remove(u64),
    /// Overwrites all keys from 10·n up to 10·n + 9 with nothing.
    RemoveGroup(u64),
    /// Overwrites everything with nothing.
    Clear,
}

impl Write {
    fn puts(self) -> Option<u64> {
        match self {
            Self::Put(key) => Some(key),
            Self::PutBlind => Some(0),
            Self::Remove(_) | Self::RemoveGroup(_) | Self::Clear => None,
        }
    }

    fn covers(self, key: u64) -> bool {
        match self {
            Self::Put(own) | Self::Remove(own) => own == key,
            Self::RemoveGroup(group) => key / 10 == group,
            Self::PutBlind => false,
            Self::Clear => true,
        }
    }
}

fn overwritten(history: &History<Write>, op: Write, live: Events) -> Events {
    history
        .events(live)
        .filter(|(_, event)| event.op.puts().is_some_and(|key| op.covers(key)))
        .fold(0, |events, (number, _)| events | 1 << number)
}

/// The live writes, by key.
fn entries(history: &History<Write>, events: Events) -> BTreeMap<u64, BTreeSet<u64>> {
    let mut entries = BTreeMap::<_, BTreeSet<_>>::new();
    for (number, event) in history.events(history.live(events)) {
        if let Some(key) = event.op.puts() {
            entries.entry(key).or_default().insert(number);
        }
    }
    entries
}

fn keys(history: &History<Write>, events: Events) -> BTreeSet<u64> {
    entries(history, events).into_keys().collect()
}

fn values(history: &History<Write>, events: Events) -> BTreeSet<u64> {
    entries(history, events).into_values().flatten().collect()
}

model!(EnableWins, Flag, Write, bool, [Write::Put(0), Write::Clear], {
    fn apply(flag: &mut Flag, op: Write, replica: ReplicaId, _: u64) -> Flag {
        if op.puts().is_some() { flag.enable(replica) } else { flag.clear() }
    }
    fn read(flag: &Flag) -> bool {
        flag.is_enabled()
    }
    fn specification(history: &History<Write>, events: Events) -> bool {
        !keys(history, events).is_empty()
    }
    fn overwrites(history: &History<Write>, op: Write, live: Events) -> Events {
        overwritten(history, op, live)
    }
});

model!(MultiValue, MvRegister<u64>, Write, BTreeSet<u64>, [Write::Put(0), Write::Clear], {
    fn apply(
        register: &mut MvRegister<u64>,
        op: Write,
        replica: ReplicaId,
        number: u64,
    ) -> MvRegister<u64> {
        if op.puts().is_some() { register.write(replica, number) } else { register.clear() }
    }
    fn read(register: &MvRegister<u64>) -> BTreeSet<u64> {
        register.values().copied().collect()
    }
    fn specification(history: &History<Write>, events: Events) -> BTreeSet<u64> {
        values(history, events)
    }
    fn overwrites(history: &History<Write>, op: Write, live: Events) -> Events {
        overwritten(history, op, live)
    }
});

model!(
    AddWins,
    OrSet<u64>,
    Write,
    BTreeSet<u64>,
    [Write::Put(1), Write::Put(2), Write::Remove(1), Write::Clear, Write::Put(3)],
    {
        fn apply(set: &mut OrSet<u64>, op: Write, replica: ReplicaId, _: u64) -> OrSet<u64> {
            match op {
                Write::Put(element) => set.add(replica, element),
                Write::Remove(element) => set.remove(&element),
                _ => set.clear(),
            }
        }
        fn read(set: &OrSet<u64>) -> BTreeSet<u64> {
            set.keys().copied().collect()
        }
        fn specification(history: &History<Write>, events: Events) -> BTreeSet<u64> {
            keys(history, events)
        }
        fn overwrites(history: &History<Write>, op: Write, live: Events) -> Events {
            overwritten(history, op, live)
        }
    }
);

model!(MapOfRegisters, OrMap<u64, DotFun<u64>>, Write, BTreeMap<u64, BTreeSet<u64>>,
    [Write::Put(1), Write::Put(2), Write::Remove(1), Write::Put(3)], {
    fn apply(
        map: &mut OrMap<u64, DotFun<u64>>, op: Write, replica: ReplicaId, number: u64,
    ) -> OrMap<u64, DotFun<u64>> {
        match op {
            Write::Put(key) => map.update(replica, key, |values, dot| values.write(dot, number)),
            Write::Remove(key) => map.remove(&key),
            _ => map.clear(),
        }
    }
    fn read(map: &OrMap<u64, DotFun<u64>>) -> BTreeMap<u64, BTreeSet<u64>> {
        map.iter().map(|(key, values)| (*key, values.values().copied().collect())).collect()
    }
    fn specification(history: &History<Write>, events: Events) -> BTreeMap<u64, BTreeSet<u64>> {
        entries(history, events)
    }
    fn overwrites(history: &History<Write>, op: Write, live: Events) -> Events {
        overwritten(history, op, live)
    }
});

/// A set under each key; elements are told apart by number, key · 10 + element.
type MapOfSets = OrMap<u64, DotMap<u64, DotSet>>;

model!(
    NestedSets,
    MapOfSets,
    Write,
    BTreeSet<u64>,
    [Write::Put(11), Write::Put(12), Write::RemoveGroup(1), Write::Remove(11), Write::Put(21)],
    {
        fn apply(map: &mut MapOfSets, op: Write, replica: ReplicaId, _: u64) -> MapOfSets {
            let enable = |set: &mut DotMap<u64, DotSet>, element, dot| -> Causal<_> {
                set.update(element, |presence| presence.enable(dot))
            };
            match op {
                Write::Put(element) => {
                    map.update(replica, element / 10, |set, dot| enable(set, element, dot))
                }
                Write::Remove(element) => {
                    map.update(replica, element / 10, |set, _| set.remove(&element))
                }
                Write::RemoveGroup(key) => map.remove(&key),
                _ => map.clear(),
            }
        }
        fn read(map: &MapOfSets) -> BTreeSet<u64> {
            map.iter().flat_map(|(_, set)| set.iter().map(|(element, _)| *element)).collect()
        }
        fn specification(history: &History<Write>, events: Events) -> BTreeSet<u64> {
            keys(history, events)
        }
        fn overwrites(history: &History<Write>, op: Write, live: Events) -> Events {
            overwritten(history, op, live)
        }
    }
);

model!(
    DottedVersions,
    Siblings<u64>,
    Write,
    BTreeSet<u64>,
    [Write::Put(0), Write::PutBlind, Write::Clear],
    {
        fn apply(
            siblings: &mut Siblings<u64>,
            op: Write,
            replica: ReplicaId,
            number: u64,
        ) -> Siblings<u64> {
            let seen = match op {
                Write::PutBlind => VectorClock::new(),
                _ => siblings.context(),
            };
            match op {
                Write::Clear => siblings.clear(&seen),
                _ => _ = siblings.write(replica, &seen, number),
            }
            siblings.clone()
        }
        fn read(siblings: &Siblings<u64>) -> BTreeSet<u64> {
            siblings.values().copied().collect()
        }
        fn specification(history: &History<Write>, events: Events) -> BTreeSet<u64> {
            values(history, events)
        }
        fn overwrites(history: &History<Write>, op: Write, live: Events) -> Events {
            overwritten(history, op, live)
        }
        fn carried(_: &History<Write>, _: usize, _: Events, seen: Events) -> Events {
            seen
        }
    }
);
