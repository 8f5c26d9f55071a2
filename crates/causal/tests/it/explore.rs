//! Every state of small worlds: three replicas, a few operations anywhere, and
//! each message delivered to each replica never, once or again, in every order.
//!
//! Why not `stateright`: messages that never leave the network make loss,
//! duplication and reordering one rule, so the whole checker is the loop below;
//! and the specification needs the set of events behind each state, which an
//! actor model would have to carry along in the same way.
//!
//! The default fits into a test run; this takes all operations, goes one event
//! deeper where asked, and says how many states there were:
//! `CAUSAL_EXPLORE_EVENTS=3 cargo test --release -p thalweg-causal --test it explore -- --nocapture`

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
};

use thalweg_causal::{Crdt, DecodeError, Reader, ReplicaId, Wire};

use crate::{
    models,
    world::{Events, History, Model, World},
};

/// The first so many operations of a menu in a default run: those that write and
/// remove in all ways that differ.
const DEFAULT_OPS: usize = 3;

fn explore<M: Model>(max_events: usize) {
    let (max_events, ops) = match std::env::var("CAUSAL_EXPLORE_EVENTS") {
        Ok(events) => (events.parse().expect("a number of events"), usize::MAX),
        Err(_) => (max_events, DEFAULT_OPS),
    };
    let mut known = HashSet::new();
    let mut open = vec![World::<M>::new()];
    while let Some(world) = open.pop() {
        if !known.insert(fingerprint(&world)) {
            continue;
        }
        world.check_laws();
        for step in world.steps(max_events, ops) {
            let mut next = world.clone();
            next.take(step);
            open.push(next);
        }
    }
    let model = std::any::type_name::<M>().rsplit("::").next().unwrap_or_default();
    println!("{model}: {} states with up to {max_events} events", known.len());
    assert!(known.len() > 100, "the world has more states than {}", known.len());
}

/// 128 bits of everything that decides what can happen next.
fn fingerprint<M: Model>(world: &World<M>) -> u128 {
    let mut messages: Vec<_> =
        world.messages.iter().map(|(object, events)| (*events, object.to_bytes())).collect();
    messages.sort();
    messages.dedup();
    let history = world.history.0.each_ref().map(|events| {
        let events = events.iter().map(|event| (format!("{:?}", event.op), event.overwrote));
        events.collect::<Vec<_>>()
    });
    let objects = world.objects.each_ref().map(Crdt::to_bytes);
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, &objects, world.seen, &messages, &history).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}

macro_rules! explored {
    ($($name:ident: $model:ident to $events:literal events;)*) => {$(
        #[test]
        fn $name() {
            explore::<models::$model>($events);
        }
    )*};
}

explored! {
    grow_only_counter: GrowOnly to 3 events;
    up_and_down_counter: UpAndDown to 3 events;
    last_writer_register: LastWriter to 3 events;
    enable_wins_flag: EnableWins to 3 events;
    multi_value_register: MultiValue to 3 events;
    add_wins_set: AddWins to 3 events;
    map_of_registers: MapOfRegisters to 3 events;
    map_of_sets: NestedSets to 3 events;
    dotted_version_vectors: DottedVersions to 3 events;
}

/// A counter with a textbook bug: merging adds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct AddsOnMerge(u64);

impl Wire for AddsOnMerge {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        u64::decode(input).map(Self)
    }
}

impl Crdt for AddsOnMerge {
    const KIND: u8 = 15;
    fn merge(&mut self, other: &Self) -> bool {
        self.0 += other.0;
        other.0 > 0
    }
}

impl Model for AddsOnMerge {
    type Object = Self;
    type Op = ();
    type View = u64;
    const OPS: &'static [()] = &[()];
    fn apply(object: &mut Self, (): (), _: ReplicaId, _: u64) -> Self {
        object.0 += 1;
        Self(1)
    }
    fn read(object: &Self) -> u64 {
        object.0
    }
    fn specification(history: &History<()>, events: Events) -> u64 {
        history.events(events).count() as u64
    }
}

#[test]
#[should_panic(expected = "merge is idempotent")]
fn the_explorer_finds_a_counter_that_adds_on_merge() {
    explore::<AddsOnMerge>(2);
}
