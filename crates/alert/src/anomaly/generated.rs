//! Detectors on generated series: false alarms over many seeds, and what must be found.

use fastrand::Rng;

use super::{
    config::{AnomalyConfig, tests::anomaly},
    detector::{Detector, Side, Verdict},
};

/// Seeds of each kind of noise.
const SEEDS: u64 = 100;
/// Windows of each series: a quiet hour of ten-second windows, after as much history.
const WINDOWS: usize = 720;
const NONE: [usize; 0] = [];

/// A normally distributed value (Box and Muller, 1958).
fn normal(rng: &mut Rng) -> f64 {
    let (one, two) = (1.0 - rng.f64(), rng.f64());
    (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * two).cos()
}

/// Requests in a window, `mean` on average.
fn poisson(rng: &mut Rng, mean: f64) -> f64 {
    // Large means are as good as normal.
    if mean > 30.0 {
        return (mean + mean.sqrt() * normal(rng)).round().max(0.0);
    }
    let (limit, mut product, mut count) = ((-mean).exp(), rng.f64(), 0.0);
    while product > limit {
        product *= rng.f64();
        count += 1.0;
    }
    count
}

fn config(detector: &str, more: &str) -> AnomalyConfig {
    anomaly(&format!("detector: {{{detector}}}\n{more}")).unwrap()
}

/// Every detector, with default settings.
fn detectors() -> [(&'static str, AnomalyConfig); 4] {
    [
        ("robust_z", config("robust_z: {}", "")),
        ("ewma", config("ewma: {}", "")),
        ("holt_winters", config("holt_winters: {season: 60}", "")),
        ("rate_of_change", config("rate_of_change: {ratio: 3, min_baseline: 20}", "")),
    ]
}

fn judge(config: &AnomalyConfig, values: impl IntoIterator<Item = f64>) -> Vec<Verdict> {
    let mut detector = Detector::new(config);
    values.into_iter().map(|value| detector.observe(config, value, 0)).collect()
}

/// Places of the values that are unusual.
fn unusual(verdicts: &[Verdict]) -> Vec<usize> {
    let is_unusual = |(n, verdict): (usize, &Verdict)| verdict.side.is_some().then_some(n);
    verdicts.iter().enumerate().filter_map(is_unusual).collect()
}

/// `n` values of noise around 100.
fn noise(rng: &mut Rng, n: usize) -> Vec<f64> {
    (0..n).map(|_| 100.0 + 10.0 * normal(rng)).collect()
}

/// A season of 60 windows, from 50 to 150, with noise.
fn seasonal(rng: &mut Rng, window: usize) -> f64 {
    100.0 + 50.0 * (std::f64::consts::TAU * window as f64 / 60.0).sin() + 3.0 * normal(rng)
}

#[test]
fn quiet_series_raise_less_than_one_false_alarm_in_ten_thousand_windows() {
    type Noise = fn(&mut Rng, usize) -> f64;
    let noises: [(&str, Noise); 5] = [
        ("normal", |rng, _| 1_000.0 + 30.0 * normal(rng)),
        ("busy service", |rng, _| poisson(rng, 400.0)),
        ("idle service", |rng, _| poisson(rng, 2.0)),
        ("latencies", |rng, _| 80.0 * (0.15 * normal(rng)).exp()),
        ("daily cycle in miniature", seasonal),
    ];
    for (detector, config) in detectors() {
        for (kind, noise) in noises {
            // Only a forecast with seasons can know of them.
            if kind.starts_with("daily") && detector != "holt_winters" {
                continue;
            }
            let mut alarms = 0;
            for seed in 0..SEEDS {
                let mut rng = Rng::with_seed(seed);
                let values: Vec<f64> = (0..WINDOWS).map(|window| noise(&mut rng, window)).collect();
                alarms += unusual(&judge(&config, values)).len();
            }
            let windows = SEEDS as usize * WINDOWS;
            assert!(alarms * 10_000 < windows, "{detector}, {kind}: {alarms} of {windows}");
        }
    }
}

#[test]
fn nothing_is_said_before_enough_was_seen() {
    for (detector, config) in detectors() {
        let wild = (0..29).map(|n| if n % 3 == 0 { 1e6 } else { 0.0 });
        assert_eq!(unusual(&judge(&config, wild)), NONE, "{detector}");
    }
}

#[test]
fn a_constant_series_is_not_alarmed_by_one_more_and_is_by_much_more() {
    for (detector, config) in detectors() {
        for constant in [0.0, 7.0, 100.0] {
            let mut values = vec![constant; 200];
            values.extend([constant + 1.0, constant, constant - 1.0, constant]);
            assert_eq!(unusual(&judge(&config, values.clone())), NONE, "{detector} {constant}");
            values.push(constant + 1_000.0);
            assert_eq!(unusual(&judge(&config, values)), [204], "{detector} {constant}");
        }
    }
}

#[test]
fn a_spike_is_found_at_once_and_over_at_once() {
    for (detector, config) in detectors() {
        for seed in 0..SEEDS {
            let mut rng = Rng::with_seed(seed);
            let mut values = noise(&mut rng, 400);
            values[300] = 400.0;
            let verdicts = judge(&config, values);
            assert_eq!(unusual(&verdicts), [300], "{detector}, seed {seed}");
            assert_eq!(verdicts[300].side, Some(Side::High));
        }
    }
}

#[test]
fn a_drop_to_nothing_is_found_on_its_side() {
    for (detector, config) in detectors() {
        let mut values = noise(&mut Rng::with_seed(1), 200);
        values.push(0.0);
        let verdict = judge(&config, values)[200];
        assert_eq!(verdict.side, Some(Side::Low), "{detector}: {verdict:?}");
    }
}

#[test]
fn an_incident_stays_unusual_for_as_long_as_it_lasts_and_is_the_new_normal_in_the_end() {
    for (detector, mut config) in detectors() {
        config.adapt_after = crate::number::Count::of(100);
        for seed in 0..10 {
            let mut rng = Rng::with_seed(seed);
            let mut values = noise(&mut rng, 200);
            values.extend(noise(&mut rng, 400).into_iter().map(|value| value + 300.0));
            let unusual = unusual(&judge(&config, values));
            assert_eq!(unusual[0], 200, "{detector}, seed {seed}");
            // By its nature a rate of change finds changes only.
            let last = if detector == "rate_of_change" { 203 } else { 300 };
            let found = unusual.iter().filter(|n| **n < last).count();
            assert!(found * 100 >= (last - 200) * 95, "{detector}, seed {seed}: {found}");
            assert!(unusual.iter().all(|n| *n <= last + 5), "{detector}, seed {seed}: {unusual:?}");
        }
    }
}

#[test]
fn a_new_normal_is_adopted_after_as_few_windows_as_one_likes() {
    for (detector, mut config) in detectors() {
        config.adapt_after = crate::number::Count::of(10);
        let mut rng = Rng::with_seed(2);
        let mut values = noise(&mut rng, 200);
        values.extend(noise(&mut rng, 100).into_iter().map(|value| value + 300.0));
        let unusual = unusual(&judge(&config, values));
        assert_eq!(unusual[0], 200, "{detector}");
        assert!(unusual.iter().all(|n| *n <= 212), "{detector}: {unusual:?}");
    }
}

#[test]
fn after_an_incident_what_was_normal_before_is_normal_again() {
    for (detector, config) in detectors() {
        let mut rng = Rng::with_seed(5);
        let mut values = noise(&mut rng, 200);
        values.extend(noise(&mut rng, 60).into_iter().map(|value| value + 300.0));
        values.extend(noise(&mut rng, 200));
        let unusual = unusual(&judge(&config, values));
        // What was a rise to a rate of change is a fall afterwards.
        let end = if detector == "rate_of_change" { 264 } else { 260 };
        assert!(unusual.iter().all(|n| (200..end).contains(n)), "{detector}: {unusual:?}");
    }
}

#[test]
fn a_control_chart_finds_a_shift_too_small_for_single_values() {
    let small = |config: &AnomalyConfig, seed| {
        let mut rng = Rng::with_seed(seed);
        let mut values = noise(&mut rng, 300);
        // Two standard deviations.
        values.extend(noise(&mut rng, 30).into_iter().map(|value| value + 20.0));
        unusual(&judge(config, values)).iter().filter(|n| **n >= 300).count()
    };
    let [(_, robust_z), (_, ewma), ..] = detectors();
    let found = |config: &AnomalyConfig| (0..SEEDS).filter(|seed| small(config, *seed) > 0).count();
    let (charted, single) = (found(&ewma), found(&robust_z));
    assert!(charted >= 95 && single <= 10, "{charted} {single}");
}

#[test]
fn a_control_chart_begins_at_the_first_value() {
    let config = config("ewma: {}", "min_history: 2");
    for verdict in judge(&config, [100.0; 20]) {
        assert!(
            (verdict.judged - 100.0).abs() < 1e-9 || verdict.expectation.is_none(),
            "{verdict:?}"
        );
    }
}

#[test]
fn a_season_is_learned_and_what_does_not_fit_it_is_found() {
    let [.., (_, config), _] = detectors();
    for seed in 0..SEEDS {
        let mut rng = Rng::with_seed(seed);
        let mut values: Vec<f64> = (0..600).map(|window| seasonal(&mut rng, window)).collect();
        // 150 is normal at the peak (window 15 of the season) and is not in the trough.
        values[15 + 60 * 7] = 150.0;
        values[45 + 60 * 7] = 150.0;
        assert_eq!(unusual(&judge(&config, values)), [45 + 60 * 7], "seed {seed}");
    }
}

#[test]
fn a_season_is_kept_over_windows_without_values() {
    let [.., (_, config), _] = detectors();
    let mut rng = Rng::with_seed(3);
    let mut detector = Detector::new(&config);
    for window in 0..400 {
        detector.observe(&config, seasonal(&mut rng, window), 0);
    }
    let verdict = detector.observe(&config, seasonal(&mut rng, 425), 25);
    assert_eq!(verdict.side, None, "{verdict:?}");
}

#[test]
fn a_trend_is_followed() {
    let [.., (_, config), _] = detectors();
    let mut rng = Rng::with_seed(3);
    let values: Vec<f64> =
        (0..900).map(|window| seasonal(&mut rng, window) + 0.5 * window as f64).collect();
    assert_eq!(unusual(&judge(&config, values)), NONE);
}

#[test]
fn a_rate_of_change_ignores_multiples_of_almost_nothing() {
    let [.., (_, config)] = detectors();
    let mut values = vec![1.0; 100];
    values.extend([30.0, 1.0, 1.0, 1.0, 70.0]);
    assert_eq!(unusual(&judge(&config, values)), [104]);
}

#[test]
fn what_was_learned_is_written_and_read() {
    for (detector, config) in detectors() {
        let mut rng = Rng::with_seed(9);
        let mut before = Detector::new(&config);
        for value in noise(&mut rng, 300) {
            before.observe(&config, value, 0);
        }
        let text = serde_json::to_string(&before).unwrap();
        let after: Detector = serde_json::from_str(&text).unwrap();
        assert!(text.len() < 8_192, "{detector}: {} bytes", text.len());
        let [before, after] = [before, after].map(|mut it| it.observe(&config, 170.0, 0));
        assert_eq!(before.side, after.side, "{detector}");
        assert!((before.score - after.score).abs() < 1e-9, "{detector}: {before:?} {after:?}");
    }
}
