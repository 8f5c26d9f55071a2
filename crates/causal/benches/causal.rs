//! Nanoseconds and bytes beside the `crdts` crate, as Markdown tables.
//!
//! `cargo bench -p thalweg-causal`. The comparison runs in the same process on the
//! same histories; `crdts` states are serialised with `postcard`, a compact varint
//! format. A ratio above 1 says how many times faster or smaller ours is.

use std::{hint::black_box, time::Instant};

use crdts::{CmRDT, CvRDT};
use thalweg_causal::{
    CausalContext, Crdt, DotFun, GCounter, HybridClock, MvRegister, OrMap, OrSet, PnCounter,
    ReplicaId, Siblings, VectorClock, token,
};

const REPLICAS: [u64; 3] = [3, 10, 100];
const ELEMENTS: u64 = 100;
const SAMPLES: usize = 41;
/// Calls timed together, so that the clock's resolution does not matter.
const BATCH: usize = 64;

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        return; // `cargo test` only checks that it compiles
    }
    println!("### Time per call\n");
    println!("| operation | replicas | thalweg ns | crdts ns | crdts / thalweg |");
    println!("|---|--:|--:|--:|--:|");
    for replicas in REPLICAS {
        clocks(replicas);
        counters(replicas);
        registers(replicas);
        sets(replicas);
        maps(replicas);
    }
    println!("\n### Time per call, without a counterpart\n");
    println!("| operation | replicas | ns |\n|---|--:|--:|");
    for replicas in REPLICAS {
        alone(replicas);
    }
    println!("\n### Bytes on the wire\n");
    println!("| state | replica ids | replicas | thalweg | crdts | crdts / thalweg |");
    println!("|---|---|--:|--:|--:|--:|");
    for (ids, id) in [("0, 1, 2 …", small as fn(u64) -> u64), ("random 64-bit", random)] {
        for replicas in REPLICAS {
            bytes(ids, id, replicas);
        }
    }
}

fn small(replica: u64) -> u64 {
    replica
}

/// Spread over all 64 bits, the same in every run.
fn random(replica: u64) -> u64 {
    (replica + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The median time of `call` in nanoseconds, on fresh copies of `input`.
fn time<T: Clone, R>(input: &T, mut call: impl FnMut(&mut T) -> R) -> f64 {
    let mut samples: Vec<f64> = (0..SAMPLES)
        .map(|_| {
            let mut inputs = vec![input.clone(); BATCH];
            let mut outputs = Vec::with_capacity(BATCH);
            let start = Instant::now();
            for input in &mut inputs {
                outputs.push(call(black_box(input)));
            }
            let elapsed = start.elapsed();
            black_box(outputs);
            elapsed.as_nanos() as f64 / BATCH as f64
        })
        .collect();
    samples.sort_by(f64::total_cmp);
    samples[SAMPLES / 2]
}

fn row(operation: &str, replicas: u64, ours: f64, theirs: f64) {
    println!("| {operation} | {replicas} | {ours:.0} | {theirs:.0} | {:.1} |", theirs / ours);
}

/// Both merges on the same terms: `crdts` takes the other side by value, so its
/// copy is made beforehand and not timed.
fn merge_row<A: Crdt, B: CvRDT + Clone>(name: &str, replicas: u64, ours: [A; 2], theirs: [B; 2]) {
    let ours = time(&ours, |[left, right]| left.merge(right));
    let [left, right] = theirs;
    let theirs = time(&(left, Some(right)), |(left, right)| {
        left.merge(right.take().expect("each copy is used once"));
    });
    row(name, replicas, ours, theirs);
}

/// Two clocks with the same replicas, each ahead in every other entry.
fn clock_pair(replicas: u64) -> ([VectorClock; 2], [crdts::VClock<u64>; 2]) {
    let entries = |side: u64| {
        (0..replicas).map(move |replica| (random(replica), 1_000 + (replica + side) % 2 * 50))
    };
    let ours = [0, 1].map(|side| entries(side).map(|(id, n)| (ReplicaId(id), n)).collect());
    let theirs = [0, 1].map(|side| entries(side).map(|(id, n)| crdts::Dot::new(id, n)).collect());
    (ours, theirs)
}

fn clocks(replicas: u64) {
    let (ours, theirs) = clock_pair(replicas);
    let compare = time(&ours, |[left, right]| left.compare(right));
    let partial_cmp = time(&theirs, |[left, right]| left.partial_cmp(&right));
    row("vector clock: compare, concurrent (ends early)", replicas, compare, partial_cmp);
    let (mut ours_later, mut theirs_later) = (ours.clone(), theirs.clone());
    ours_later[1].merge(&ours[0]);
    CvRDT::merge(&mut theirs_later[1], theirs[0].clone());
    let compare = time(&ours_later, |[left, right]| left.compare(right));
    let partial_cmp = time(&theirs_later, |[left, right]| left.partial_cmp(&right));
    row("vector clock: compare, before (reads all)", replicas, compare, partial_cmp);
    merge_row("vector clock: merge", replicas, ours, theirs);
}

/// Two counters that all replicas incremented, each ahead in every other entry.
fn counter_pair(replicas: u64) -> ([GCounter; 2], [crdts::GCounter<u64>; 2]) {
    let mut ours: [GCounter; 2] = Default::default();
    let mut theirs: [crdts::GCounter<u64>; 2] = Default::default();
    for side in 0..2 {
        for replica in 0..replicas {
            let by = 1_000 + (replica + side) % 2 * 50;
            ours[side as usize].increment(ReplicaId(random(replica)), by);
            let op = theirs[side as usize].inc_many(random(replica), by);
            theirs[side as usize].apply(op);
        }
    }
    (ours, theirs)
}

/// The same for counters that also go down.
fn pn_pair(id: impl Fn(u64) -> u64, replicas: u64) -> ([PnCounter; 2], [crdts::PNCounter<u64>; 2]) {
    let mut ours: [PnCounter; 2] = Default::default();
    let mut theirs: [crdts::PNCounter<u64>; 2] = Default::default();
    for side in 0..2 {
        for replica in 0..replicas {
            let by = 1_000 + (replica + side) % 2 * 50;
            let (ours, theirs) = (&mut ours[side as usize], &mut theirs[side as usize]);
            ours.increment(ReplicaId(id(replica)), by);
            ours.decrement(ReplicaId(id(replica)), by / 10);
            theirs.apply(theirs.inc_many(id(replica), by));
            theirs.apply(theirs.dec_many(id(replica), by / 10));
        }
    }
    (ours, theirs)
}

fn counters(replicas: u64) {
    let ([ours, _], [theirs, _]) = counter_pair(replicas);
    let who = random(replicas / 2);
    let increment = time(&ours, |counter| counter.increment(ReplicaId(who), 1));
    let inc = time(&theirs, |counter| {
        let op = counter.inc(who);
        counter.apply(op);
        op
    });
    row("grow-only counter: increment, delta kept", replicas, increment, inc);
    let value = time(&ours, |counter| counter.value());
    let read = time(&theirs, |counter| counter.read());
    row("grow-only counter: value", replicas, value, read);
    let (ours, theirs) = counter_pair(replicas);
    merge_row("grow-only counter: merge", replicas, ours, theirs);
    let (ours, theirs) = pn_pair(random, replicas);
    merge_row("up-and-down counter: merge", replicas, ours, theirs);
}

/// Registers that all replicas wrote one after the other, then both sides at once.
fn register_pair(
    id: impl Fn(u64) -> u64,
    replicas: u64,
) -> ([MvRegister<u64>; 2], [crdts::MVReg<u64, u64>; 2]) {
    let mut ours = MvRegister::default();
    let mut theirs = crdts::MVReg::new();
    for replica in 0..replicas {
        ours.write(ReplicaId(id(replica)), replica);
        let context = theirs.read_ctx().derive_add_ctx(id(replica));
        theirs.apply(theirs.write(replica, context));
    }
    let (mut ours, mut theirs) = ([ours.clone(), ours], [theirs.clone(), theirs]);
    for side in 0..2 {
        ours[side].write(ReplicaId(id(side as u64)), 7);
        let context = theirs[side].read_ctx().derive_add_ctx(id(side as u64));
        let op = theirs[side].write(7, context);
        theirs[side].apply(op);
    }
    (ours, theirs)
}

fn registers(replicas: u64) {
    let (ours, theirs) = register_pair(random, replicas);
    let write = time(&ours[0], |register| register.write(ReplicaId(random(1)), 8));
    let apply = time(&theirs[0], |register| {
        let context = register.read_ctx().derive_add_ctx(random(1));
        let op = register.write(8, context);
        register.apply(op.clone());
        op
    });
    row("multi-value register: write, delta kept", replicas, write, apply);
    merge_row("multi-value register: merge", replicas, ours, theirs);
}

type TheirSet = crdts::Orswot<u64, u64>;

fn their_add(set: &mut TheirSet, replica: u64, element: u64) -> crdts::orswot::Op<u64, u64> {
    let op = set.add(element, set.read_ctx().derive_add_ctx(replica));
    set.apply(op.clone());
    op
}

/// Sets of [`ELEMENTS`] elements that the replicas added in turns; then each side
/// adds five and removes five others.
fn set_pair(id: impl Fn(u64) -> u64, replicas: u64) -> ([OrSet<u64>; 2], [TheirSet; 2]) {
    let mut ours = OrSet::default();
    let mut theirs = TheirSet::new();
    for element in 0..ELEMENTS {
        let replica = id(element % replicas);
        ours.add(ReplicaId(replica), element);
        their_add(&mut theirs, replica, element);
    }
    let (mut ours, mut theirs) = ([ours.clone(), ours], [theirs.clone(), theirs]);
    for side in 0..2 {
        for n in 0..5 {
            let (replica, base) = (id(side as u64), side as u64 * 50 + n);
            ours[side].add(ReplicaId(replica), 1_000 + base);
            their_add(&mut theirs[side], replica, 1_000 + base);
            ours[side].remove(&base);
            let context = theirs[side].contains(&base).derive_rm_ctx();
            let op = theirs[side].rm(base, context);
            theirs[side].apply(op);
        }
    }
    (ours, theirs)
}

fn sets(replicas: u64) {
    let (ours, theirs) = set_pair(random, replicas);
    let add = time(&ours[0], |set| set.add(ReplicaId(random(1)), 5_000));
    let their_time = time(&theirs[0], |set| their_add(set, random(1), 5_000));
    row("set of 100: add, delta kept", replicas, add, their_time);

    let apply = |op| {
        time(&(theirs[0].clone(), Some(op)), |(set, op)| {
            set.apply(op.take().expect("each copy is used once"));
        })
    };
    let delta = ours[0].clone().add(ReplicaId(random(1)), 5_000);
    let op = their_add(&mut theirs[0].clone(), random(1), 5_000);
    let receive = time(&ours[0], |set| set.merge(&delta));
    row("set of 100: receive the delta of an add", replicas, receive, apply(op));
    let delta = ours[0].clone().remove(&99);
    let op = theirs[0].rm(99, theirs[0].contains(&99).derive_rm_ctx());
    let receive = time(&ours[0], |set| set.merge(&delta));
    row("set of 100: receive the delta of a removal", replicas, receive, apply(op));
    merge_row("set of 100: merge states", replicas, ours, theirs);
}

type OurMap = OrMap<u64, DotFun<u64>>;
type TheirMap = crdts::Map<u64, crdts::MVReg<u64, u64>, u64>;

/// Maps of [`ELEMENTS`] registers that the replicas wrote in turns; then each side
/// writes five of them.
fn map_pair(id: impl Fn(u64) -> u64, replicas: u64) -> ([OurMap; 2], [TheirMap; 2]) {
    let (mut ours, mut theirs) = (OurMap::default(), TheirMap::new());
    let write = |ours: &mut OurMap, theirs: &mut TheirMap, replica, key, value: u64| {
        ours.update(ReplicaId(replica), key, |values, dot| values.write(dot, value));
        let context = theirs.read_ctx().derive_add_ctx(replica);
        let op = theirs.update(key, context, |register, context| register.write(value, context));
        theirs.apply(op);
    };
    for key in 0..ELEMENTS {
        write(&mut ours, &mut theirs, id(key % replicas), key, key);
    }
    let (mut ours, mut theirs) = ([ours.clone(), ours], [theirs.clone(), theirs]);
    for side in 0..2 {
        for n in 0..5 {
            let key = side as u64 * 50 + n;
            write(&mut ours[side], &mut theirs[side], id(side as u64), key, 7);
        }
    }
    (ours, theirs)
}

fn maps(replicas: u64) {
    let (ours, theirs) = map_pair(random, replicas);
    merge_row("map of 100 registers: merge states", replicas, ours, theirs);
}

fn alone(replicas: u64) {
    let print = |operation: &str, ns: f64| println!("| {operation} | {replicas} | {ns:.0} |");
    let clock: VectorClock = (0..replicas).map(|id| (ReplicaId(random(id)), 1_000)).collect();
    let mut siblings = Siblings::default();
    siblings.write(ReplicaId(random(1)), &clock, 1u64);
    let seen = siblings.context();
    print("siblings: read-modify-write", {
        time(&siblings, |siblings| siblings.write(ReplicaId(random(1)), &seen, 2))
    });
    let mut other = siblings.clone();
    other.write(ReplicaId(random(2)), &seen, 3);
    print("siblings: merge", time(&(siblings, other), |(left, right)| left.merge(right)));

    let ([set, _], _) = set_pair(random, replicas);
    let bytes = set.to_bytes();
    print("set of 100: encode", time(&set, |set| set.to_bytes()));
    print("set of 100: decode", time(&bytes, |bytes| OrSet::<u64>::from_bytes(bytes)));

    let context = CausalContext::from(&clock);
    let no_mac = |_: &[u8]| [0; token::MAC_BYTES];
    let sealed = token::seal(&context, b"key", no_mac).expect("it is short");
    print("token: seal, without the MAC", {
        time(&context, |context| token::seal(context, b"key", no_mac))
    });
    print("token: open, without the MAC", {
        time(&sealed, |sealed| token::open(sealed, b"key", no_mac))
    });
    if replicas == REPLICAS[0] {
        let clock = HybridClock::new(ReplicaId(1), 500_000);
        print("hybrid logical clock: tick", time(&clock, |clock| clock.tick(1)));
    }
}

fn bytes(ids: &str, id: fn(u64) -> u64, replicas: u64) {
    fn their_bytes(state: &impl serde::Serialize) -> usize {
        postcard::to_allocvec(state).expect("plain data").len()
    }
    let print = |state: &str, ours: usize, theirs: usize| {
        let ratio = theirs as f64 / ours as f64;
        println!("| {state} | {ids} | {replicas} | {ours} | {theirs} | {ratio:.1} |");
    };
    let ([ours, _], [theirs, _]) = pn_pair(id, replicas);
    print("up-and-down counter", ours.to_bytes().len(), their_bytes(&theirs));
    let ([ours, _], [theirs, _]) = register_pair(id, replicas);
    print("multi-value register", ours.to_bytes().len(), their_bytes(&theirs));
    let ([mut ours, _], [mut theirs, _]) = set_pair(id, replicas);
    print("set of 100", ours.to_bytes().len(), their_bytes(&theirs));
    let delta = ours.add(ReplicaId(id(1)), 5_000);
    let op = their_add(&mut theirs, id(1), 5_000);
    print("delta of an add to it", delta.to_bytes().len(), their_bytes(&op));
    let ([ours, _], [theirs, _]) = map_pair(id, replicas);
    print("map of 100 registers", ours.to_bytes().len(), their_bytes(&theirs));
    let clock: VectorClock = (0..replicas).map(|n| (ReplicaId(id(n)), 1_000)).collect();
    let their_clock: crdts::VClock<u64> =
        (0..replicas).map(|n| crdts::Dot::new(id(n), 1_000)).collect();
    print(
        "causal context",
        CausalContext::from(&clock).to_bytes().len(),
        their_bytes(&their_clock),
    );
}
