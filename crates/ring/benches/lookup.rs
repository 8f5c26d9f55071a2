//! Lookups per second and bytes beside other crates, for 10 to 10,000 nodes.
//!
//! `cargo bench -p thalweg-ring` (about a minute). Contenders of one group take
//! turns of a millisecond or so, and each one's best turn counts: other load on
//! the machine can only slow a turn down. A lookup is from the key's bytes to the node's data. Bytes
//! are what building allocated and kept.

use std::alloc::System;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use maglev::ConsistentHasher;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use thalweg_ring::{
    BoundedLoads, Dx, HashRing, Jump, KeyHash, Maglev, Membership, Node, Placement,
};
use xxhash_rust::xxh3::xxh3_64;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const SIZES: [u32; 4] = [10, 100, 1_000, 10_000];
const ROUNDS: usize = 100;
/// nginx's and Pingora's number, for every ring here.
const VNODES: u32 = 160;

type Key = [u8; 16];

fn main() {
    // `cargo test --benches` runs this too: one short pass then.
    let is_bench = std::env::args().any(|arg| arg == "--bench");
    let keys = keys(if is_bench { 1 << 15 } else { 1 << 8 });
    let sizes = if is_bench { &SIZES[..] } else { &SIZES[..2] };
    for &nodes in sizes {
        rings(nodes).run(&format!("rings, {nodes} nodes, {VNODES} points each"), &keys);
    }
    for &nodes in sizes {
        tables(nodes).run(&format!("tables, {nodes} nodes, {} entries", table_size(nodes)), &keys);
    }
    for &nodes in sizes {
        light(nodes).run(&format!("memory-light, {nodes} nodes, room for twice as many"), &keys);
    }
    for &nodes in sizes {
        jumps(nodes).run(&format!("jump, {nodes} nodes"), &keys);
    }
    replicas(&keys);
}

fn keys(count: u32) -> Vec<Key> {
    let key = |i: u32| {
        let mut key = *b"song-00000000000";
        key[5..].copy_from_slice(format!("{:011}", u64::from(i) * 7_919).as_bytes());
        key
    };
    (0..count).map(key).collect()
}

/// The data that every contender's lookup ends at (Ketama's has its own).
fn nodes_of(count: u32) -> Vec<Node> {
    (0..count).map(|i| Node::new(format!("node-{i}"))).collect()
}

fn membership(count: u32) -> Membership {
    Membership::new(nodes_of(count)).expect("ids are distinct")
}

type Lookup = Box<dyn Fn(&[Key])>;

struct Contender {
    name: &'static str,
    is_ours: bool,
    build: Duration,
    bytes: usize,
    lookup: Lookup,
}

/// Contenders that are alike, measured in turns.
struct Group(Vec<Contender>);

impl Group {
    fn add<S: 'static, R>(
        mut self,
        name: &'static str,
        build: impl FnOnce() -> S,
        lookup: impl Fn(&S, &Key) -> R + 'static,
    ) -> Self {
        let region = Region::new(ALLOCATOR);
        let start = Instant::now();
        let structure = build();
        let elapsed = start.elapsed();
        let change = region.change();
        let kept = change.bytes_allocated as isize + change.bytes_reallocated
            - change.bytes_deallocated as isize;
        self.0.push(Contender {
            name,
            is_ours: name.starts_with("thalweg"),
            build: elapsed,
            bytes: kept.max(0) as usize,
            lookup: Box::new(move |keys| {
                for key in keys {
                    black_box(lookup(&structure, black_box(key)));
                }
            }),
        });
        self
    }

    fn run(self, title: &str, keys: &[Key]) {
        let mut best: HashMap<&str, f64> = HashMap::new();
        for _ in 0..ROUNDS {
            for Contender { name, lookup, .. } in &self.0 {
                let start = Instant::now();
                lookup(keys);
                let ns = start.elapsed().as_nanos() as f64 / keys.len() as f64;
                best.entry(name).and_modify(|best| *best = best.min(ns)).or_insert(ns);
            }
        }
        let others = self.0.iter().filter(|contender| !contender.is_ours);
        let fastest = others.map(|contender| best[contender.name]).fold(f64::INFINITY, f64::min);
        println!("\n{title}");
        println!(
            "  {:44}{:>11}{:>13}{:>12}{:>11}{:>22}",
            "", "ns/lookup", "M lookups/s", "bytes", "build ms", "time / fastest other"
        );
        for Contender { name, bytes, build, .. } in &self.0 {
            let ns = best[name];
            println!(
                "  {name:44}{ns:>11.1}{:>13.1}{bytes:>12}{:>11.2}{:>22}",
                1_000.0 / ns,
                build.as_secs_f64() * 1_000.0,
                if fastest.is_finite() { format!("{:.2}", ns / fastest) } else { "–".into() }
            );
        }
    }
}

fn rings(nodes: u32) -> Group {
    let points = move || (0..nodes).flat_map(|node| (0..VNODES).map(move |vnode| (node, vnode)));
    let address = |i: u32| SocketAddr::from((Ipv4Addr::from(0x0a00_0000 + i), 7070));
    Group(Vec::new())
        .add(
            "thalweg HashRing",
            || HashRing::new(membership(nodes), VNODES).expect("few points"),
            |ring, key| ring.node(key).weight(),
        )
        .add(
            "pingora-ketama Continuum (CRC-32)",
            || {
                let buckets: Vec<_> =
                    (0..nodes).map(|i| pingora_ketama::Bucket::new(address(i), 1)).collect();
                pingora_ketama::Continuum::new(&buckets)
            },
            |ring, key| ring.node(key),
        )
        .add(
            "hashring HashRing (SipHash)",
            || {
                let mut ring = hashring::HashRing::new();
                ring.batch_add(points().collect());
                (ring, nodes_of(nodes))
            },
            |(ring, nodes), key| ring.get(key).map(|(node, _)| nodes[*node as usize].weight()),
        )
        .add(
            "hashring HashRing (XXH3)",
            || {
                let mut ring = hashring::HashRing::with_hasher(Xxh3);
                ring.batch_add(points().collect());
                (ring, nodes_of(nodes))
            },
            |(ring, nodes), key| ring.get(key).map(|(node, _)| nodes[*node as usize].weight()),
        )
}

/// The smallest prime of at least 100 entries per node, as the maglev crate has
/// it: 100 n + a little.
fn table_size(nodes: u32) -> u32 {
    let is_prime = |n: &u32| (2..).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d));
    (100 * nodes..).find(is_prime).expect("primes go on")
}

fn tables(nodes: u32) -> Group {
    // The crate keeps every node's whole permutation while it builds: 8 bytes ×
    // 100 n² is 80 GB for 10,000 nodes.
    let group = Group(Vec::new()).add(
        "thalweg Maglev",
        || Maglev::new(membership(nodes), table_size(nodes)).expect("a prime size"),
        |table, key| table.node(key).weight(),
    );
    if nodes > 1_000 {
        println!("\n(maglev needs 80 GB to build for {nodes} nodes and is left out)");
        return group;
    }
    group
        .add(
            "maglev Maglev (SipHash)",
            || maglev::Maglev::new(nodes_of(nodes)),
            |table, key| table.get(key).map(Node::weight),
        )
        .add(
            "maglev Maglev (XXH3)",
            || maglev::Maglev::with_hasher(nodes_of(nodes), Xxh3),
            |table, key| table.get(key).map(Node::weight),
        )
}

fn light(nodes: u32) -> Group {
    let capacity = (2 * nodes) as u16;
    Group(Vec::new())
        .add(
            "thalweg Dx",
            || Dx::new(membership(nodes), usize::from(capacity)).expect("enough slots"),
            |dx, key| dx.node(key).weight(),
        )
        .add(
            "anchorhash AnchorHash (SipHash)",
            || {
                anchorhash::Builder::default()
                    .with_resources(nodes_of(nodes))
                    .build::<Key>(capacity)
            },
            |anchor, key| anchor.get_resource(*key).map(Node::weight),
        )
        .add(
            "anchorhash AnchorHash (XXH3)",
            || {
                let builder =
                    anchorhash::Builder::with_hasher(Xxh3).with_resources(nodes_of(nodes));
                builder.build::<Key>(capacity)
            },
            |anchor, key| anchor.get_resource(*key).map(Node::weight),
        )
}

fn jumps(nodes: u32) -> Group {
    Group(Vec::new())
        .add(
            "thalweg Jump",
            || Jump::new(membership(nodes)).expect("few buckets"),
            |jump, key| jump.node(key).weight(),
        )
        .add(
            "jumphash JumpHasher (SipHash-1-3)",
            || (jumphash::JumpHasher::new_with_keys(1, 2), nodes_of(nodes)),
            |(jump, nodes), key| nodes[jump.slot(key, nodes.len() as u32) as usize].weight(),
        )
        .add(
            "jumphash CustomJumpHasher (XXH3)",
            || (jumphash::CustomJumpHasher::new(Xxh3State(0)), nodes_of(nodes)),
            |(jump, nodes), key| nodes[jump.slot(key, nodes.len() as u32) as usize].weight(),
        )
}

/// What only this crate does.
fn replicas(keys: &[Key]) {
    let zones = (0..100).map(|i| {
        Node::new(format!("node-{i}"))
            .in_zone(format!("zone-{}", i % 3))
            .in_rack(format!("rack-{}", i % 12))
    });
    let ring = || {
        let membership = Membership::new(zones.clone()).expect("ids are distinct");
        HashRing::new(membership, VNODES).expect("few points")
    };
    Group(Vec::new())
        .add("thalweg: one node", ring, |ring, key| ring.node(key).weight())
        .add("thalweg: one node, hash given", ring, |ring, key| {
            let tail = key.last_chunk().copied().unwrap_or_default();
            ring.locate(KeyHash(u64::from_le_bytes(tail).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
        })
        .add("thalweg: three copies in three zones", ring, |ring, key| ring.replicas(key, 3).len())
        .add(
            "thalweg: bounded loads, acquire and release",
            || std::cell::RefCell::new(BoundedLoads::new(ring(), 25).expect("some headroom")),
            |loads, key| {
                let mut loads = loads.borrow_mut();
                let id = loads.acquire(key).id().to_owned();
                loads.release(&id)
            },
        )
        .run("thalweg HashRing, 100 nodes, 3 zones, 12 racks", keys);
}

/// Our key hash for the crates that take another, so that structures compare.
#[derive(Clone)]
struct Xxh3;

#[derive(Clone)]
struct Xxh3State(u64);

impl BuildHasher for Xxh3 {
    type Hasher = Xxh3State;
    fn build_hasher(&self) -> Xxh3State {
        Xxh3State(0)
    }
}

impl Hasher for Xxh3State {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 ^= xxh3_64(bytes);
    }
    fn write_usize(&mut self, _: usize) {}
    fn write_u32(&mut self, value: u32) {
        self.0 = xxh3_64(&(self.0 ^ u64::from(value)).to_le_bytes());
    }
}
