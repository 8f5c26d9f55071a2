//! The detectors on simulated networks.

#[path = "../../sim/curve.rs"]
mod curve;
#[path = "../../sim/detectors.rs"]
mod detectors;
#[path = "../../sim/network.rs"]
mod network;
#[path = "../../sim/random.rs"]
mod random;

use std::time::Duration;

use curve::{Point, at_detection_time, curve, detection_ms_at, oracle};
use detectors::Rival;
use network::{LOAD_SIGMA, Network, Trace};
use thalweg_phi::{AdaptiveThreshold, Change, Config, Detector, Model, QosMeter, Threshold};

/// Heartbeats of one trace: 4 hours at 100 ms, 50 minutes at 20 ms.
const BEATS: u64 = 150_000;

fn trace(network: Network) -> Trace {
    network.trace(7, BEATS, LOAD_SIGMA)
}

fn curve_of(trace: &Trace, wanted: &str) -> Vec<Point> {
    let mut rivals = Rival::all(trace.interval_us).into_iter();
    let (_, rival) = rivals.find(|(name, _)| *name == wanted).expect("one of the rivals");
    curve(trace, &rival, 400)
}

/// Mistakes relative to a fixed timeout's that makes `rate` a day, at its detection time.
fn mistakes_against_fixed(trace: &Trace, wanted: &str, rate: f64) -> f64 {
    let fixed_ms =
        detection_ms_at(&curve_of(trace, "fixed timeout"), rate).expect("the curve passes it");
    at_detection_time(&curve_of(trace, wanted), fixed_ms)
        .expect("the curve passes it")
        .mistakes_per_day
        / rate
}

#[test]
fn seed_decides_the_trace() {
    for network in Network::ALL {
        let [one, same, other] =
            [1, 1, 2].map(|seed| network.trace(seed, 10_000, LOAD_SIGMA).beats);
        assert!(one == same && one != other, "{network:?}");
    }
}

#[test]
fn chen_makes_fewer_mistakes_than_a_timeout_where_jitter_is_independent() {
    // A timeout errs by the jitter of two heartbeats, NFD-E by that of one (Chen et al. §4.3).
    let constant = trace(Network::Constant);
    assert!(mistakes_against_fixed(&constant, "Chen NFD-E", 1_000.0) < 0.3);
}

#[test]
fn empirical_model_makes_far_fewer_mistakes_on_a_drifting_network() {
    // Seven hours, from the calm of midnight to the rise of the morning.
    let diurnal = Network::Diurnal.trace(7, 250_000, LOAD_SIGMA);
    assert!(mistakes_against_fixed(&diurnal, "φ empirical", 200.0) < 0.4);
}

#[test]
fn urgency_makes_fewer_mistakes_than_phi_on_a_fat_tail() {
    let fat = trace(Network::FatTail);
    let [phi, urgency] = ["φ empirical", "urgency empirical"]
        .map(|name| mistakes_against_fixed(&fat, name, 1_000.0));
    assert!(urgency < 0.8 && urgency < phi, "{urgency} of a timeout's, {phi} with φ");
}

#[test]
fn no_detector_beats_hindsight_by_more_than_it_may() {
    // The oracle times from the latest arrival; the schedule's phase is worth a little to others.
    let fat = trace(Network::FatTail);
    let fixed = curve_of(&fat, "fixed timeout");
    let fixed_ms = detection_ms_at(&fixed, 1_000.0).expect("the curve passes it");
    let bound = at_detection_time(&oracle(&fat, &fixed), fixed_ms)
        .expect("the curve passes it")
        .mistakes_per_day;
    for name in ["Chen NFD-E", "φ empirical", "urgency empirical"] {
        let made = mistakes_against_fixed(&fat, name, 1_000.0) * 1_000.0;
        assert!(made > 0.95 * bound, "{name}: {made}, bound {bound}");
    }
}

/// Runs a detector whose threshold adapts over a trace, looking when each heartbeat comes;
/// counts mistakes in the second half.
fn adaptive_mistakes_per_day(trace: &Trace, model: Model, target_per_day: f64) -> f64 {
    let first_interval = Duration::from_micros(trace.interval_us);
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
        let trace = trace(network);
        for model in [Model::Normal, Model::Empirical] {
            let target = 1_000.0;
            let made = adaptive_mistakes_per_day(&trace, model, target);
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
    let fixed = curve_of(&constant, "fixed timeout");
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
