//! Lines per second on one core, beside the least that could be done with a line.
//!
//! `cargo bench -p thalweg-template` (half a minute). Contenders take turns and each one's best
//! turn counts: other load on the machine can only slow a turn down. The baseline splits a line
//! at white space, hashes each word (XXH3) and looks the sum up in a map; it finds no templates.

#[path = "../corpus/corpus.rs"]
mod corpus;

use std::collections::HashMap;
use std::hint::black_box;
use std::time::Instant;

use corpus::labelled;
use corpus::systems::SYSTEMS;
use thalweg_template::{Config, Miner};
use xxhash_rust::xxh3::xxh3_64;

const LINES: usize = 20_000;
const TURNS: usize = 20;

fn main() {
    // `cargo test --benches` runs this too: one short pass then.
    let is_bench = std::env::args().any(|arg| arg == "--bench");
    let (lines, turns) = if is_bench { (LINES, TURNS) } else { (200, 1) };
    println!(
        "{:14}{:>8}{:>14}{:>14}{:>14}{:>10}{:>8}",
        "", "bytes", "known", "from nothing", "split+hash", "known/", "MB/s"
    );
    println!(
        "{:14}{:>8}{:>14}{:>14}{:>14}{:>10}{:>8}",
        "", "a line", "lines/s", "lines/s", "lines/s", "split", ""
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
    measure("all different", &all_different(lines), turns.div_ceil(4));
}

fn measure(name: &str, messages: &[String], turns: usize) {
    let mut taught = Miner::new(Config::default()).expect("the default is within its limits");
    for message in messages {
        let _ = taught.observe(message);
    }
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
        "{name:14}{:>8.0}{:>14.0}{:>14.0}{:>14.0}{:>10.2}{:>8.0}",
        bytes as f64 / lines,
        lines / known,
        lines / anew,
        lines / split,
        split / known,
        bytes as f64 / known / 1e6,
    );
}

/// Lines without a word in common.
fn all_different(lines: usize) -> Vec<String> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut word = || -> String { (0..8).map(|_| random.lowercase()).collect() };
    (0..lines).map(|_| (0..10).map(|_| word()).collect::<Vec<_>>().join(" ")).collect()
}
