//! Nanoseconds and bytes: update, φ and urgency for each model, and a million peers on one core.

use std::hint::black_box;
use std::time::{Duration, Instant};

use thalweg_phi::{Config, Detector, Model, Threshold};

const MODELS: [Model; 3] = [Model::Normal, Model::Exponential, Model::Empirical];
const ROUNDS: u64 = 100_000;
const PEERS: u64 = 1_000_000;
/// Every peer's heartbeats before the million is looked at: enough to fill the default window.
const HISTORY: u64 = 220;
/// Their updates are averaged over so many, since estimates are renewed every so often only.
const UPDATES: u64 = 20;

/// A second, give or take up to 65 ms in scattered order, plus a stall of up to 1 s for one in 256.
fn arrival(beat: u64) -> Duration {
    let scattered = beat.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    let stall_us = if scattered.is_multiple_of(256) { scattered & 0xf_ffff } else { 0 };
    Duration::from_micros(beat * 1_000_000 + (scattered & 0xffff) + stall_us)
}

fn heard(model: Model, beats: u64) -> Detector {
    let config = Config { model, ..Config::default() };
    let mut detector = Detector::new(&config).expect("the default is valid");
    for beat in 0..beats {
        detector.heartbeat_numbered(beat, arrival(beat));
    }
    detector
}

/// The fastest of a hundred runs, per round: others share the machine.
fn nanos(mut run: impl FnMut(u64)) -> f64 {
    (0..100)
        .map(|_| {
            let start = Instant::now();
            (0..ROUNDS).for_each(&mut run);
            start.elapsed().as_nanos() as f64 / ROUNDS as f64
        })
        .fold(f64::INFINITY, f64::min)
}

/// Time on the processor where the system tells, exact to a few milliseconds.
fn busy(since: Instant) -> Duration {
    let told = std::fs::read_to_string("/proc/self/schedstat").ok();
    let nanos = told.and_then(|told| told.split_whitespace().next()?.parse().ok());
    nanos.map_or_else(|| since.elapsed(), Duration::from_nanos)
}

fn resident_bytes() -> Option<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * 4_096.0)
}

fn main() {
    let asked = std::env::args().nth(1);
    if let Some(model) = MODELS.into_iter().find(|model| asked == Some(format!("{model:?}"))) {
        return million(model);
    }
    println!(
        "| model | update, ns (goal 20) | φ on time | φ late | φ far late (goal 50) | urgency late |"
    );
    println!("|---|--:|--:|--:|--:|--:|");
    let clock = nanos(|beat| {
        black_box(arrival(black_box(beat)));
    });
    for model in MODELS {
        let mut detector = heard(model, 10_000);
        let mut beat = 10_000;
        let update = nanos(|_| {
            detector.heartbeat_numbered(beat, arrival(beat));
            beat += 1;
        }) - clock;
        let last = arrival(beat - 1);
        let phi_after = |silence: Duration| {
            nanos(|round| {
                black_box(detector.phi(last + silence + Duration::from_micros(round % 1_024)));
            })
        };
        let on_time = phi_after(Duration::from_millis(900));
        let late = phi_after(Duration::from_millis(1_300));
        let far_late = phi_after(Duration::from_secs(20));
        let urgency = nanos(|round| {
            let silence = Duration::from_micros(1_300_000 + round % 1_024);
            black_box(detector.urgency(last + silence));
        });
        println!(
            "| {model:?} | {update:.1} | {on_time:.1} | {late:.1} | {far_late:.1} | {urgency:.1} |"
        );
    }

    println!();
    println!(
        "| a million peers | bytes each (goal 1,024) | look at all, ms (goal 1,000) | update all, ms |"
    );
    println!("|---|--:|--:|--:|");
    for model in MODELS {
        // A process of its own, so that memory is counted from zero.
        let own = std::env::current_exe().expect("this program has a path");
        let child = std::process::Command::new(own).arg(format!("{model:?}")).status();
        assert!(child.is_ok_and(|status| status.success()), "the count for {model:?} ended early");
    }
}

fn million(model: Model) {
    let first = heard(model, HISTORY);
    let before = resident_bytes();
    let mut peers: Vec<Detector> = (0..PEERS).map(|_| first.clone()).collect();
    let bytes = resident_bytes().zip(before).map(|(after, before)| (after - before) / PEERS as f64);
    let mut threshold = Threshold::new(8.0, 1.0).expect("eight is above one");
    let now = arrival(HISTORY - 1) + Duration::from_millis(1_010);
    let start = Instant::now();
    let before_look = busy(start);
    for peer in &peers {
        black_box(threshold.look(peer.phi(now)));
    }
    let after_look = busy(start);
    for beat in 0..UPDATES {
        let now = now + Duration::from_secs(beat);
        for peer in &mut peers {
            peer.heartbeat_numbered(HISTORY + beat, now);
        }
    }
    let look = after_look - before_look;
    let update = (busy(start) - after_look) / UPDATES as u32;
    let bytes = bytes.map_or("-".into(), |bytes| format!("{bytes:.0}"));
    println!("| {model:?} | {bytes} | {} | {} |", look.as_millis(), update.as_millis());
}
