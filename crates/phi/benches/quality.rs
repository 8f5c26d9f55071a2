//! Mistakes against detection time, for every detector, on fleets and on single links.
//!
//! Each detector's threshold, one for the whole fleet, is swept over the same heartbeats, which
//! gives its curve of mistakes per peer and day over mean detection time. Curves are compared where
//! they cross the point at which a fixed timeout, the best in hindsight for that very fleet and
//! time, makes so many mistakes a day.
//!
//! `SEEDS=1,2 BEATS=200000 ONLY=LAN PART=fleets,rivals,links,spreads cargo bench …` for less than
//! everything.

#[path = "../sim/curve.rs"]
mod curve;
#[path = "../sim/detectors.rs"]
mod detectors;
#[path = "../sim/network.rs"]
mod network;
#[path = "../sim/population.rs"]
mod population;
#[path = "../sim/random.rs"]
mod random;

use std::env;

use curve::{Curve, Fleet, ORACLE, curves, detection_ms_at, mistakes_at};
use detectors::NAMES;
use network::{LOAD_SIGMA, Network};

/// Mistakes per peer and day of the fixed timeouts that others are compared with.
const RATES: [f64; 4] = [1_000.0, 100.0, 20.0, 5.0];
const MIDDLE_RATE: f64 = RATES[1];
/// No constant of any detector was chosen while looking at these.
const SEEDS: [u64; 3] = [101, 102, 103];
const PEERS: usize = 24;
/// A day at 100 ms, 4.8 hours at 20 ms.
const BEATS: u64 = 864_000;
/// A single link is watched for so many times as long.
const LINK_LENGTH: u64 = 4;
/// Random crashes over which detection time is averaged.
const CRASHES: usize = 4_800;

const FIXED: &str = NAMES[0];
const OURS: [&str; 2] = [NAMES[6], NAMES[7]];
const FIXED_AND_OURS: [&str; 3] = [FIXED, OURS[0], OURS[1]];
const WITH_ORACLE: [&str; 4] = [FIXED, OURS[0], OURS[1], ORACLE];

/// One network's curves, for each seed.
type Runs = Vec<Vec<(&'static str, Curve)>>;

fn main() {
    let parts = env::var("PART").unwrap_or_else(|_| "fleets,rivals,links,spreads".into());
    let seeds: Vec<u64> = env::var("SEEDS").map_or_else(
        |_| SEEDS.to_vec(),
        |seeds| seeds.split(',').map(|seed| seed.parse().expect("SEEDS are numbers")).collect(),
    );
    let beats = env::var("BEATS").map_or(BEATS, |beats| beats.parse().expect("BEATS is a number"));
    let fleet = |network| Fleet {
        network,
        seed: 0,
        peers: PEERS,
        heterogeneity: 1.0,
        beats,
        load_sigma: LOAD_SIGMA,
        crashes: CRASHES,
    };
    let run = |of: Fleet, rivals: &[&str]| -> Runs {
        seeds.iter().map(|&seed| curves(Fleet { seed, ..of }, rivals)).collect()
    };
    let only = env::var("ONLY").unwrap_or_default();
    let networks = || Network::ALL.into_iter().filter(|network| network.name().contains(&only));
    if parts.contains("fleets") {
        let results: Vec<_> =
            networks().map(|network| (network, run(fleet(network), &WITH_ORACLE))).collect();
        print_ours(&format!("Fleets of {PEERS}"), &results);
    }
    if parts.contains("rivals") {
        let results: Vec<_> =
            networks().map(|network| (network, run(fleet(network), &NAMES))).collect();
        print_all(&results);
    }
    if parts.contains("links") {
        let link = |network| {
            let of = Fleet {
                peers: 1,
                heterogeneity: 0.0,
                beats: beats * LINK_LENGTH,
                ..fleet(network)
            };
            (network, run(of, &WITH_ORACLE))
        };
        let results: Vec<_> = networks().map(link).collect();
        print_ours("Single links", &results);
    }
    if parts.contains("spreads") {
        print_spreads(networks().filter(|&network| network != Network::Constant), fleet, run);
    }
}

/// Change against the fixed timeout with so many mistakes, in percent: of mistakes at equal
/// detection time, and of detection time at equal mistakes. For each seed.
fn changes(runs: &Runs, name: &str, rate: f64) -> [Vec<f64>; 2] {
    let mut changes = [Vec::new(), Vec::new()];
    for curves in runs {
        let of = |name: &str| curves.iter().find(|curve| curve.0 == name).map(|curve| &curve.1[..]);
        let Some((fixed, other)) = of(FIXED).zip(of(name)) else { continue };
        let Some(fixed_ms) = detection_ms_at(fixed, rate) else { continue };
        let mistakes = mistakes_at(other, fixed_ms).map(|mistakes| mistakes / rate);
        let detection = detection_ms_at(other, rate).map(|ms| ms / fixed_ms);
        for (change, ratio) in changes.iter_mut().zip([mistakes, detection]) {
            change.extend(ratio.map(|ratio| (ratio - 1.0) * 100.0));
        }
    }
    changes
}

fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// The median, and from best to worst where seeds differ.
fn spread(values: &[f64]) -> String {
    let Some(middle) = median(values) else { return "-".into() };
    let best = values.iter().copied().fold(f64::INFINITY, f64::min);
    let worst = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if values.len() == 1 {
        return format!("{middle:+.0}%");
    }
    format!("{middle:+.0}% ({best:+.0}…{worst:+.0})")
}

fn short([mistakes, detection]: [Vec<f64>; 2]) -> String {
    let show = |values: &[f64]| median(values).map_or("-".into(), |value| format!("{value:+.0}%"));
    format!("{} / {}", show(&mistakes), show(&detection))
}

fn print_ours(title: &str, results: &[(Network, Runs)]) {
    let names = &WITH_ORACLE[1..];
    println!(
        "\n### {title}: false alarms at equal detection time, detection time at equal false alarms\n"
    );
    print!("| network | timeout's mistakes/day | detects in, ms |");
    names.iter().for_each(|name| print!(" {name}: false alarms | detection |"));
    println!("\n|---|--:|--:|{}", "--:|--:|".repeat(names.len()));
    for (network, runs) in results {
        for rate in RATES {
            let fixed_ms: Vec<f64> =
                runs.iter().filter_map(|curves| detection_ms_at(&curves[0].1, rate)).collect();
            let fixed_ms = median(&fixed_ms).map_or("-".into(), |ms| format!("{ms:.0}"));
            print!("| {} | {rate} | {fixed_ms} |", network.name());
            for name in names {
                let [mistakes, detection] = changes(runs, name, rate);
                print!(" {} | {} |", spread(&mistakes), spread(&detection));
            }
            println!();
        }
    }
}

fn print_all(results: &[(Network, Runs)]) {
    println!(
        "\n### All detectors on fleets, where the fixed timeout makes {MIDDLE_RATE} mistakes a day\n"
    );
    print!("| network |");
    NAMES[1..].iter().for_each(|name| print!(" {name} |"));
    println!("\n|---|{}", "--:|".repeat(NAMES.len() - 1));
    for (network, runs) in results {
        print!("| {} |", network.name());
        NAMES[1..].iter().for_each(|name| print!(" {} |", short(changes(runs, name, MIDDLE_RATE))));
        println!();
    }
}

/// What is left of the gain where peers differ less, or where their load is steady.
fn print_spreads(
    networks: impl Iterator<Item = Network>,
    fleet: impl Fn(Network) -> Fleet,
    run: impl Fn(Fleet, &[&str]) -> Runs,
) {
    println!("\n### The same by heterogeneity, φ and urgency, at {MIDDLE_RATE} mistakes a day\n");
    println!(
        "| network | none: φ | urgency | half: φ | urgency | \
         as stated, steady load: φ | urgency |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|");
    for network in networks {
        print!("| {} |", network.name());
        for (heterogeneity, load_sigma) in [(0.0, LOAD_SIGMA), (0.5, LOAD_SIGMA), (1.0, 0.0)] {
            let of = Fleet { heterogeneity, load_sigma, ..fleet(network) };
            let runs = run(of, &FIXED_AND_OURS);
            OURS.iter().for_each(|name| print!(" {} |", short(changes(&runs, name, MIDDLE_RATE))));
        }
        println!();
    }
}
