//! The detectors on simulated networks.

#[path = "../../sim/curve.rs"]
mod curve;
#[path = "../../sim/detectors.rs"]
mod detectors;
#[path = "../../sim/network.rs"]
mod network;
#[path = "../../sim/population.rs"]
mod population;
#[path = "../../sim/random.rs"]
mod random;

use std::time::Duration;

use curve::{Curve, Fleet, ORACLE, curves, detection_ms_at, mistakes_at};
use network::{LOAD_SIGMA, Network, Trace};
use population::{Peer, fleet};
use thalweg_phi::{AdaptiveThreshold, Change, Config, Detector, Model, QosMeter, Threshold};

const SEED: u64 = 7;

/// 4 hours at 100 ms, 50 minutes at 20 ms, of one typical link.
fn link(network: Network) -> Fleet {
    Fleet {
        network,
        seed: SEED,
        peers: 1,
        heterogeneity: 0.0,
        beats: 150_000,
        load_sigma: LOAD_SIGMA,
        crashes: 4_000,
    }
}

fn typical(network: Network) -> Peer {
    fleet(network, SEED, 1, 0.0)[0]
}

fn trace(network: Network) -> Trace {
    network.trace(&typical(network), SEED, 150_000, LOAD_SIGMA)
}

fn curve<'a>(curves: &'a [(&str, Curve)], name: &str) -> &'a Curve {
    &curves.iter().find(|(other, _)| *other == name).expect("one of the curves").1
}

/// Mistakes relative to a fixed timeout's that makes `rate` a day, at its detection time.
fn mistakes_against_fixed(curves: &[(&str, Curve)], name: &str, rate: f64) -> f64 {
    let fixed_ms = detection_ms_at(curve(curves, "fixed timeout"), rate).expect("passes the rate");
    mistakes_at(curve(curves, name), fixed_ms).expect("passes the detection time") / rate
}

/// Detection time relative to a fixed timeout's that makes `rate` mistakes a day, at as many.
fn detection_against_fixed(curves: &[(&str, Curve)], name: &str, rate: f64) -> f64 {
    let [fixed_ms, ms] = ["fixed timeout", name]
        .map(|name| detection_ms_at(curve(curves, name), rate).expect("passes the rate"));
    ms / fixed_ms
}

#[test]
fn seed_decides_the_trace() {
    for network in Network::ALL {
        let [one, same, other] =
            [1, 1, 2].map(|seed| network.trace(&typical(network), seed, 10_000, LOAD_SIGMA).beats);
        assert!(one == same && one != other, "{network:?}");
    }
}

#[test]
fn chen_makes_fewer_mistakes_than_a_timeout_where_jitter_is_independent() {
    // A timeout errs by the jitter of two heartbeats, NFD-E by that of one (Chen et al. §4.3).
    let constant = curves(link(Network::Constant), &["fixed timeout", "Chen NFD-E"]);
    assert!(mistakes_against_fixed(&constant, "Chen NFD-E", 1_000.0) < 0.3);
}

#[test]
fn no_detector_beats_hindsight_by_more_than_it_may() {
    // The oracle times from the latest arrival; the schedule's phase is worth a little to others.
    let names = ["fixed timeout", "Chen NFD-E", "φ", "urgency", ORACLE];
    let fat = curves(link(Network::FatTail), &names);
    let bound = mistakes_against_fixed(&fat, ORACLE, 1_000.0);
    for name in &names[1..4] {
        let made = mistakes_against_fixed(&fat, name, 1_000.0);
        assert!(made > 0.95 * bound, "{name}: {made}, bound {bound}");
    }
}

/// A dozen peers that differ as `population.rs` says, for 2 hours (24 minutes on the LAN).
fn small_fleet(network: Network) -> Vec<(&'static str, Curve)> {
    let of = Fleet { peers: 12, heterogeneity: 1.0, beats: 72_000, ..link(network) };
    curves(of, &["fixed timeout", "urgency"])
}

#[test]
fn one_threshold_for_a_fleet_beats_one_timeout() {
    // Goals: 0.3 of the mistakes at equal detection time, 0.7 of the detection time at equal
    // mistakes. So little evidence meets them here with room to spare, but for what README.md says
    // is not met, or not met early: those bounds only keep what is gained.
    for (network, mistakes_goal, detection_goal) in [
        (Network::Lan, 0.3, 0.7),
        (Network::LossyWan, 0.3, 0.7),
        (Network::GcPauses, 0.8, 0.7),
        (Network::Diurnal, 0.3, 0.9),
        (Network::FatTail, 0.55, 0.7),
    ] {
        let curves = small_fleet(network);
        let mistakes = mistakes_against_fixed(&curves, "urgency", 200.0);
        let detection = detection_against_fixed(&curves, "urgency", 200.0);
        assert!(mistakes < mistakes_goal, "{network:?}: {mistakes} of the mistakes");
        assert!(detection < detection_goal, "{network:?}: {detection} of the time");
    }
}

/// Runs a detector whose threshold adapts over a trace, looking when each heartbeat comes;
/// counts mistakes in the second half.
fn adaptive_mistakes_per_day(network: Network, model: Model, target_per_day: f64) -> f64 {
    let trace = trace(network);
    let first_interval = Duration::from_micros(network.interval_us());
    let config = Config { model, first_interval, ..Config::default() };
    let mut detector = Detector::new(&config).expect("valid");
    let mut adaptive = AdaptiveThreshold::new(target_per_day, 8.0).expect("valid");
    let mut threshold = Threshold::new(8.0, 0.5).expect("valid");
    let half = trace.beats.len() / 2;
    let begin = Duration::from_micros(trace.beats[half].arrived_us);
    let mut meter = QosMeter::new(begin);
    let mut last = Duration::ZERO;
    for (index, beat) in trace.beats.iter().enumerate() {
        let now = Duration::from_micros(beat.arrived_us);
        let phi = detector.phi(now);
        if threshold.look(phi) == Some(Change::Suspect) && index > half {
            meter.suspect(now);
        }
        if detector.heartbeat_numbered(beat.sequence, now) {
            adaptive.observe(phi, now - last);
            last = now;
            threshold.set_suspect(adaptive.level().max(0.6)).expect("valid");
        }
        if threshold.look(detector.phi(now)) == Some(Change::Trust) {
            meter.trust(now);
        }
    }
    meter.report(last).mistakes_per_day
}

#[test]
fn adaptive_threshold_holds_its_target() {
    for network in [Network::Lan, Network::LossyWan, Network::GcPauses, Network::Diurnal] {
        for model in [Model::Normal, Model::Empirical] {
            let target = 1_000.0;
            let made = adaptive_mistakes_per_day(network, model, target);
            assert!(
                (target / 4.0..target * 4.0).contains(&made),
                "{network:?}, {model:?}: {made:.0} a day, not {target}"
            );
        }
    }
}

#[test]
fn meter_and_curve_agree_on_detection_time() {
    let constant = trace(Network::Constant);
    let curves = curves(link(Network::Constant), &["fixed timeout"]);
    let fixed = curve(&curves, "fixed timeout");
    // The same by hand: on average half an interval since the latest was sent, 10 ms on the way.
    let mut meter = QosMeter::new(Duration::ZERO);
    let timeout = Duration::from_millis(102);
    for (i, beat) in constant.beats.iter().enumerate().take(200_000).step_by(100) {
        let part = Duration::from_micros(((i / 100) % 100) as u64 * 1_000);
        let crash = Duration::from_micros(constant.sent_us[beat.sequence as usize]) + part;
        let detected = Duration::from_micros(beat.arrived_us) + timeout;
        meter.crash(crash);
        meter.suspect(detected);
        meter.recover(detected);
        meter.trust(detected);
    }
    let by_hand_ms =
        meter.report(Duration::from_secs(30_000)).detection_time.expect("measured").as_secs_f64()
            * 1e3;
    let point = fixed.iter().filter(|p| p.mistakes_per_day < 150.0).map(|p| p.detection_ms);
    let fastest_ms = point.fold(f64::INFINITY, f64::min);
    assert!((by_hand_ms - fastest_ms).abs() < 3.0, "{by_hand_ms} by hand, {fastest_ms} in curve");
}
