//! The textbook's music catalogue: ten million songs on four servers, a fifth
//! server joins, and one leaves again.
//!
//! `cargo run --release -p thalweg-ring --example music_catalogue [songs]`

use std::time::Instant;

use thalweg_ring::{
    HashRing, KeyHash, Membership, MovementPlan, Node, Placement, RingError, Share,
};

const VNODES: u32 = 8_192;

fn main() -> Result<(), RingError> {
    let songs = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(10_000_000);

    let four = HashRing::new(Membership::of_ids((1..=4).map(|i| format!("music-{i}")))?, VNODES)?;
    let five = four.rebuild(four.membership().with(Node::new("music-5"))?)?;
    println!("{songs} songs, {VNODES} virtual nodes per server\n");
    println!("{:28}{:>9}{:>12}{:>12}", "", "moved", "of those,", "most loaded");
    println!("{:28}{:>9}{:>12}{:>12}", "", "", "necessary", "/ mean");
    modulo(songs, 4, 5);
    change("ring, 4 → 5", songs, &four, &five, "music-5");
    change("ring, 5 → 4", songs, &five, &four, "music-5");

    println!("\nthe same as a plan, exactly");
    let start = Instant::now();
    let plan = MovementPlan::between(&four, &five, 1)?;
    println!(
        "  {} in {} ranges, computed in {:?}",
        plan.moved(),
        plan.movements().len(),
        start.elapsed()
    );
    let per_step = Share::of(1, 100);
    let capacity = Share::of(27, 100);
    let migration = plan.in_steps_within(per_step, |_| capacity)?;
    println!(
        "  {} steps of at most {per_step}, no server ever above {capacity}",
        migration.steps().len()
    );

    weights(songs)?;
    virtual_nodes()
}

fn modulo(songs: u64, old: u64, new: u64) {
    let moved = (0..songs).map(hash).filter(|h| h % old != h % new).count() as f64;
    println!("{:28}{:>8.3}%", "hash modulo servers, 4 → 5", 100.0 * moved / songs as f64);
}

/// Asks both rings for every song.
fn change(title: &str, songs: u64, old: &HashRing, new: &HashRing, expected: &str) {
    let (mut moved, mut necessary) = (0_u64, 0_u64);
    let mut loads = vec![0_u64; new.membership().len()];
    for song in 0..songs {
        let key = KeyHash(hash(song));
        let (before, after) = (old.node(key).id(), new.locate(key));
        loads[after] += 1;
        let after = new.membership()[after].id();
        if before != after {
            moved += 1;
            necessary += u64::from(before == expected || after == expected);
        }
    }
    let most = loads.iter().max().copied().unwrap_or(0) as f64 * loads.len() as f64 / songs as f64;
    let percent = |part: u64, whole: u64| 100.0 * part as f64 / whole as f64;
    println!(
        "{title:28}{:>8.3}%{:>11.3}%{most:>12.4}",
        percent(moved, songs),
        percent(necessary, moved)
    );
}

fn weights(songs: u64) -> Result<(), RingError> {
    const VNODES: u32 = 32_768;
    println!("\nweights, {VNODES} virtual nodes per unit");
    println!("  {:>8}{:>14}{:>12}", "weight", "songs", "off by");
    let nodes = [1, 1, 2, 4, 8].into_iter().enumerate();
    let nodes = nodes.map(|(i, weight)| Node::new(format!("music-{i}")).with_weight(weight));
    let ring = HashRing::new(Membership::new(nodes)?, VNODES)?;
    let mut loads = vec![0_u64; ring.membership().len()];
    (0..songs).for_each(|song| loads[ring.locate(KeyHash(hash(song)))] += 1);
    for (node, load) in ring.membership().iter().zip(loads) {
        let fair =
            songs as f64 * f64::from(node.weight()) / ring.membership().total_weight() as f64;
        println!("  {:>8}{load:>14}{:>+11.2}%", node.weight(), 100.0 * (load as f64 / fair - 1.0));
    }
    Ok(())
}

/// How many virtual nodes an evenness takes, over 200 clusters of other names.
fn virtual_nodes() -> Result<(), RingError> {
    const CLUSTERS: usize = 200;
    println!("\nvirtual nodes, evenness and cost: {CLUSTERS} clusters of five");
    println!(
        "  {:>8}{:>10}{:>10}{:>10}{:>12}{:>12}{:>12}",
        "vnodes", "median", "99 of 100", "worst", "joiner", "build", "bytes"
    );
    println!("  {:>8}{:>32}{:>12}", "", "most loaded / mean ", "takes");
    for vnodes in [64, 256, 1_024, 2_048, 4_096, 8_192, 16_384] {
        let mut peaks = Vec::new();
        let mut joiner = Vec::new();
        let (mut micros, mut bytes) = (0, 0);
        for cluster in 0..CLUSTERS {
            let ids = (0..5).map(|i| format!("cluster-{cluster}-server-{i}"));
            let start = Instant::now();
            let ring = HashRing::new(Membership::of_ids(ids)?, vnodes)?;
            micros += start.elapsed().as_micros();
            bytes = ring.heap_bytes();
            let shares: Vec<f64> = ring.shares().into_iter().map(Share::fraction).collect();
            peaks.push(5.0 * shares.iter().copied().fold(0.0, f64::max));
            joiner.push(100.0 * shares[4]);
        }
        peaks.sort_by(f64::total_cmp);
        joiner.sort_by(f64::total_cmp);
        println!(
            "  {vnodes:>8}{:>10.4}{:>10.4}{:>10.4}{:>6.2}–{:.2}%{:>9} µs{:>12}",
            peaks[CLUSTERS / 2],
            peaks[CLUSTERS * 99 / 100],
            peaks[CLUSTERS - 1],
            joiner[0],
            joiner[CLUSTERS - 1],
            micros / CLUSTERS as u128,
            bytes
        );
    }
    Ok(())
}

/// A song's hash, by its number in the catalogue.
fn hash(song: u64) -> u64 {
    KeyHash::from(&song.to_le_bytes()).0
}
