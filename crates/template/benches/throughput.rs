//! Lines per second on one core, beside the least that could be done with a line.
//!
//! `cargo bench -p thalweg-template` (half a minute). Contenders take turns and each one's best
//! turn counts: other load on the machine can only slow a turn down. The baseline splits a line
//! at white space, hashes each word (XXH3) and looks the sum up in a map; it finds no templates.

#[path = "../corpus/corpus.rs"]
mod corpus;

use std::alloc::System;
use std::collections::HashMap;
use std::hint::black_box;
use std::time::Instant;

use corpus::labelled;
use corpus::systems::SYSTEMS;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use thalweg_template::{Config, Miner};
use xxhash_rust::xxh3::xxh3_64;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const LINES: usize = 20_000;
const TURNS: usize = 20;

fn main() {
    // `cargo test --benches` runs this too: one short pass then.
    let is_bench = std::env::args().any(|arg| arg == "--bench");
    let (lines, turns) = if is_bench { (LINES, TURNS) } else { (200, 1) };
    println!(
        "{:15}{:>7}{:>12}{:>12}{:>12}{:>8}{:>7}{:>9}{:>9}",
        "", "bytes/", "known", "at first", "split", "known/", "MB/s", "bytes/", "alloc/"
    );
    println!(
        "{:15}{:>7}{:>12}{:>12}{:>12}{:>8}{:>7}{:>9}{:>9}",
        "", "line", "lines/s", "lines/s", "lines/s", "split", "known", "pattern", "known"
    );
    let mut all: Vec<String> = Vec::new();
    for (name, catalogue) in SYSTEMS {
        let messages = labelled(catalogue, lines, 1).messages;
        measure(name, &messages, turns);
        all.extend(messages);
    }
    // Neighbours of unlike systems, as on a shared pipeline.
    let mixed: Vec<String> =
        (0..lines).flat_map(|line| all[line..].iter().step_by(lines)).cloned().collect();
    measure("all, mixed", &mixed, turns.div_ceil(4));
    measure("all different", &made_up(lines, ""), turns.div_ceil(4));
    // As many others as are looked at begin alike, and none ever turns out to be the same.
    measure("same beginning", &made_up(lines, "the state of service "), turns.div_ceil(4));
}

fn measure(name: &str, messages: &[String], turns: usize) {
    let region = Region::new(ALLOCATOR);
    let mut taught = Miner::new(Config::default()).expect("the default is within its limits");
    for message in messages {
        let _ = taught.observe(message);
    }
    let kept = region.change();
    let kept = kept.bytes_allocated - kept.bytes_deallocated;
    let region = Region::new(ALLOCATOR);
    for message in messages {
        let _ = taught.observe(message);
    }
    let allocations = region.change().allocations;
    let (mut known, mut anew, mut split) = (f64::INFINITY, f64::INFINITY, f64::INFINITY);
    for _ in 0..turns {
        let start = Instant::now();
        for message in messages {
            let _ = black_box(taught.observe(black_box(message)));
        }
        known = known.min(start.elapsed().as_secs_f64());

        let start = Instant::now();
        let mut miner = Miner::new(Config::default()).expect("the default is within its limits");
        for message in messages {
            let _ = black_box(miner.observe(black_box(message)));
        }
        anew = anew.min(start.elapsed().as_secs_f64());

        let start = Instant::now();
        let mut counts: HashMap<u64, u64> = HashMap::new();
        for message in messages {
            let words = black_box(message).split_ascii_whitespace();
            let key = words.map(|word| xxh3_64(word.as_bytes())).fold(0, u64::wrapping_add);
            *counts.entry(key).or_default() += 1;
        }
        black_box(counts.len());
        split = split.min(start.elapsed().as_secs_f64());
    }
    let lines = messages.len() as f64;
    let bytes: usize = messages.iter().map(String::len).sum();
    println!(
        "{name:15}{:>7.0}{:>12.0}{:>12.0}{:>12.0}{:>8.2}{:>7.0}{:>9.0}{:>9.2}",
        bytes as f64 / lines,
        lines / known,
        lines / anew,
        lines / split,
        split / known,
        bytes as f64 / known / 1e6,
        kept as f64 / taught.pattern_count() as f64,
        allocations as f64 / lines,
    );
}

/// Lines that have nothing in common but how they begin.
fn made_up(lines: usize, start: &str) -> Vec<String> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut word = || -> String { (0..8).map(|_| random.lowercase()).collect() };
    let mut words = || (0..8).map(|_| word()).collect::<Vec<_>>().join(" ");
    (0..lines).map(|_| format!("{start}{}", words())).collect()
}
