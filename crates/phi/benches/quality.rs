//! Mistakes against detection time, for every detector on every network.
//!
//! Each detector's threshold is swept over one and the same trace, which gives its curve of mistake
//! rate over mean detection time; curves are then compared where they cross the point at which a
//! fixed timeout, tuned in hindsight to that very trace, makes so many mistakes a day.
//!
//! `BEATS=864000 cargo bench -p thalweg-phi --bench quality` for a quick, noisy look.

#[path = "../sim/curve.rs"]
mod curve;
#[path = "../sim/detectors.rs"]
mod detectors;
#[path = "../sim/network.rs"]
mod network;
#[path = "../sim/random.rs"]
mod random;

use curve::{Point, at_detection_time, curve, detection_ms_at, oracle};
use detectors::Rival;
use network::{LOAD_SIGMA, Network, Trace};

/// Mistakes a day of the fixed timeouts that others are compared with.
const RATES: [f64; 3] = [1_000.0, 100.0, 20.0];
/// Random crashes over which detection time is averaged.
const CRASHES: usize = 4_000;
const SEED: u64 = 1;

const FIXED: usize = 0;
const OURS: [&str; 2] = ["φ empirical", "urgency empirical"];
const ORACLE: &str = "(oracle)";

type Curves = Vec<(&'static str, Vec<Point>)>;

fn main() {
    // Eight days at 100 ms, 1.6 days at 20 ms.
    let beats = std::env::var("BEATS").ok().and_then(|b| b.parse().ok()).unwrap_or(6_912_000);
    let mut results: Vec<(Network, Curves)> = Vec::new();
    for network in Network::ALL {
        let trace = network.trace(SEED, beats, LOAD_SIGMA);
        let curves = curves(&trace, |_| true);
        print_network(network, &trace, &curves);
        results.push((network, curves));
    }
    print_summary(&results);
    print_sensitivity(beats / 4);
}

fn curves(trace: &Trace, include: impl Fn(&str) -> bool) -> Curves {
    let mut curves: Curves = Rival::all(trace.interval_us)
        .into_iter()
        .filter(|(name, _)| include(name))
        .map(|(name, rival)| (name, curve(trace, &rival, CRASHES)))
        .collect();
    curves.push((ORACLE, oracle(trace, &curves[FIXED].1)));
    curves
}

/// What a curve has at the operating point of a fixed timeout: its point at equal detection time,
/// the relative change of mistakes, detection at equal mistakes, and the relative change of it.
struct Compared {
    point: Option<Point>,
    mistakes: Option<f64>,
    detection_ms: Option<f64>,
    detection: Option<f64>,
}

fn compare(curve: &[Point], rate: f64, fixed_ms: f64) -> Compared {
    let point = at_detection_time(curve, fixed_ms);
    let detection_ms = detection_ms_at(curve, rate);
    Compared {
        mistakes: point.map(|point| point.mistakes_per_day / rate - 1.0),
        point,
        detection: detection_ms.map(|ms| ms / fixed_ms - 1.0),
        detection_ms,
    }
}

fn show(value: Option<f64>, digits: usize) -> String {
    value.map_or("-".into(), |value| format!("{value:.digits$}"))
}

fn percent(value: Option<f64>) -> String {
    value.map_or("-".into(), |value| format!("{:+.0}%", value * 100.0))
}

fn print_network(network: Network, trace: &Trace, curves: &Curves) {
    let (days, interval_ms) = (trace.days(), trace.interval_us / 1_000);
    println!("\n### {}: {days:.1} days, a heartbeat every {interval_ms} ms\n", network.name());
    for rate in RATES {
        let Some(fixed_ms) = detection_ms_at(&curves[FIXED].1, rate) else {
            println!("No fixed timeout makes {rate} mistakes a day.\n");
            continue;
        };
        println!("A fixed timeout that makes {rate} mistakes a day detects in {fixed_ms:.0} ms.\n");
        println!(
            "| detector | mistakes/day at that detection time | change | mistake duration, s | \
             query accuracy | detection at those mistakes, ms | change |"
        );
        println!("|---|--:|--:|--:|--:|--:|--:|");
        for (name, curve) in curves {
            let compared = compare(curve, rate, fixed_ms);
            let point = compared.point.filter(|_| *name != ORACLE);
            println!(
                "| {name} | {} | {} | {} | {} | {} | {} |",
                show(compared.point.map(|point| point.mistakes_per_day), 1),
                percent(compared.mistakes),
                show(point.map(|point| point.mistake_secs), 2),
                show(point.map(|point| point.query_accuracy), 6),
                show(compared.detection_ms, 0),
                percent(compared.detection),
            );
        }
        println!();
    }
}

fn print_summary(results: &[(Network, Curves)]) {
    println!(
        "\n### Against a fixed timeout: false alarms at equal detection time / detection time at equal false alarms\n"
    );
    print!("| network |");
    RATES.iter().for_each(|rate| print!(" {rate}/day: φ | urgency | oracle |"));
    println!("\n|---|{}", "--:|".repeat(3 * RATES.len()));
    for (network, curves) in results {
        print!("| {} |", network.name());
        for rate in RATES {
            let fixed_ms = detection_ms_at(&curves[FIXED].1, rate);
            for name in [OURS[0], OURS[1], ORACLE] {
                let curve = curves.iter().find(|(other, _)| *other == name).map(|(_, curve)| curve);
                let cell = fixed_ms.zip(curve).map(|(ms, curve)| compare(curve, rate, ms));
                let (mistakes, detection) =
                    cell.map_or((None, None), |cell| (cell.mistakes, cell.detection));
                print!(" {} / {} |", percent(mistakes), percent(detection));
            }
        }
        println!();
    }
}

/// The load's deviation is what makes networks predictable; here is what it is worth.
fn print_sensitivity(beats: u64) {
    println!("\n### The same for urgency at 100 mistakes a day, by deviation of the load\n");
    println!("| network | steady load (0) | mild (0.75) | as above ({LOAD_SIGMA}) |");
    println!("|---|--:|--:|--:|");
    for network in [Network::Lan, Network::LossyWan, Network::GcPauses, Network::FatTail] {
        print!("| {} |", network.name());
        for sigma in [0.0, LOAD_SIGMA / 2.0, LOAD_SIGMA] {
            let trace = network.trace(SEED + 1, beats, sigma);
            let curves = curves(&trace, |name| name == "fixed timeout" || name == OURS[1]);
            let cell = detection_ms_at(&curves[FIXED].1, 100.0)
                .map(|ms| compare(&curves[FIXED + 1].1, 100.0, ms));
            let (mistakes, detection) =
                cell.map_or((None, None), |cell| (cell.mistakes, cell.detection));
            print!(" {} / {} |", percent(mistakes), percent(detection));
        }
        println!();
    }
}
