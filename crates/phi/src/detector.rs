//! The detector: heartbeats in, suspicion out.

use alloc::boxed::Box;
use core::time::Duration;

use crate::config::{Config, ConfigError, Model};
use crate::empirical::Empirical;
use crate::log::log10;
use crate::normal::minus_log10_tail;
use crate::window::Window;

/// Watches the heartbeats of one peer and says how suspicious its silence is.
///
/// Times are durations since any fixed moment, the same for all calls (for instance
/// `start.elapsed()`); resolution is a microsecond. Time that runs backwards counts as standing
/// still.
///
/// One detector takes less than 1 KiB at the default window, its heap included.
///
/// ```
/// use std::time::Duration;
/// use thalweg_phi::{Config, Detector};
///
/// let mut peer = Detector::new(&Config::default())?;
/// for second in 0..100 {
///     peer.heartbeat(Duration::from_secs(second));
/// }
/// assert!(peer.phi(Duration::from_millis(99_500)) < 0.5);
/// assert!(peer.phi(Duration::from_secs(105)) > 8.0);
/// # Ok::<(), thalweg_phi::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Detector {
    estimator: Estimator,
    heard: Option<Heard>,
    min_std_dev_us: u64,
    acceptable_pause_us: u64,
}

/// The latest heartbeat, by sequence number.
#[derive(Clone, Copy, Debug)]
struct Heard {
    sequence: u64,
    at_us: u64,
}

#[derive(Clone, Debug)]
enum Estimator {
    Normal(Box<Window>),
    Exponential(Box<Window>),
    Empirical(Box<Empirical>),
}

impl Detector {
    /// A detector that has heard nothing yet.
    ///
    /// # Errors
    /// [`ConfigError`] when the window or the first interval is out of range.
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        config.validate()?;
        let mean_us = micros(config.first_interval);
        let std_dev_us = mean_us / 4;
        // Two samples whose mean and deviation are the estimate's, as in Akka.
        let window = || {
            let mut window = Window::new(config.window);
            window.push(mean_us - std_dev_us);
            window.push(mean_us + std_dev_us);
            Box::new(window)
        };
        let estimator = match config.model {
            Model::Normal => Estimator::Normal(window()),
            Model::Exponential => Estimator::Exponential(window()),
            Model::Empirical => {
                Estimator::Empirical(Box::new(Empirical::new(mean_us as f64, std_dev_us as f64)))
            }
        };
        Ok(Self {
            estimator,
            heard: None,
            min_std_dev_us: micros(config.min_std_dev).max(1),
            acceptable_pause_us: micros(config.acceptable_pause),
        })
    }

    /// Takes in a heartbeat without a sequence number. O(1), no allocation.
    pub fn heartbeat(&mut self, now: Duration) {
        let next = self.heard.map_or(0, |heard| heard.sequence.saturating_add(1));
        self.heartbeat_numbered(next, now);
    }

    /// Takes in the heartbeat with this number, of those that the peer counts up one by one.
    ///
    /// Reordered and repeated heartbeats are ignored, and answered with `false`; an interval that
    /// spans a lost one is no sample of the sender's period. After an outage, and where a peer starts
    /// counting anew, [`resume`](Self::resume). O(1), no allocation.
    pub fn heartbeat_numbered(&mut self, sequence: u64, now: Duration) -> bool {
        let at_us = micros(now);
        let Some(last) = self.heard else {
            self.resume(sequence, now);
            return true;
        };
        if sequence <= last.sequence {
            return false;
        }
        let at_us = at_us.max(last.at_us);
        let steps = sequence - last.sequence;
        match &mut self.estimator {
            Estimator::Normal(window) | Estimator::Exponential(window) => {
                if steps == 1 {
                    window.push(at_us - last.at_us);
                }
            }
            Estimator::Empirical(empirical) => {
                empirical.arrive(steps, at_us, self.min_std_dev_us);
            }
        }
        self.heard = Some(Heard { sequence, at_us });
        true
    }

    /// Takes in the first heartbeat after an outage, with whatever number it has.
    ///
    /// The silence before it is no sample: what really was down was not late. A detector that
    /// takes outages for lateness comes to expect them, and to wait. O(1).
    pub fn resume(&mut self, sequence: u64, now: Duration) {
        let at_us = micros(now).max(self.heard.map_or(0, |last| last.at_us));
        if let Estimator::Empirical(empirical) = &mut self.estimator {
            empirical.begin(at_us);
        }
        self.heard = Some(Heard { sequence, at_us });
    }

    /// φ(now) = −log₁₀ P(the next heartbeat comes later than now): φ = 3 is wrong once in 1,000
    /// heartbeats, if the model is right (Hayashibara et al. 2004, §4.2).
    ///
    /// 0 before the first heartbeat; otherwise finite, and never falling until the next. O(1).
    pub fn phi(&self, now: Duration) -> f64 {
        self.heard.map_or(0.0, |last| self.phi_us(last, micros(now)))
    }

    fn phi_us(&self, last: Heard, now_us: u64) -> f64 {
        let pause_us = self.acceptable_pause_us;
        let silence_us = now_us.saturating_sub(last.at_us).saturating_sub(pause_us) as f64;
        match &self.estimator {
            Estimator::Normal(window) => {
                let std_dev_us = window.std_dev_us().max(self.min_std_dev_us as f64);
                minus_log10_tail((silence_us - window.mean_us()) / std_dev_us)
            }
            Estimator::Exponential(window) => {
                silence_us / window.mean_us().max(1.0) * core::f64::consts::LOG10_E
            }
            Estimator::Empirical(empirical) => {
                empirical.phi(empirical.schedule().lateness_us(now_us).saturating_sub(pause_us))
            }
        }
    }

    /// −log₁₀ of the mistakes that waiting one interval more would avoid, per heartbeat.
    ///
    /// A threshold on φ makes equally many mistakes in calm and in storm, with good peers and with
    /// bad, and pays for it with very long waits where they are bad. A threshold on urgency spends
    /// waiting where it avoids most, and so makes the fewest mistakes at the same mean detection
    /// time: at the optimum, densities are equal (Lagrange). The empirical model measures the
    /// density, of the greatest convex function below the distribution, since waiting between two
    /// kinds of lateness avoids nothing by itself. The other models take φ(t) + log₁₀(t / interval),
    /// with t the silence: the density of a Pareto tail up to a factor.
    ///
    /// 0 before the first heartbeat; otherwise finite, and never falling until the next. O(1).
    pub fn urgency(&self, now: Duration) -> f64 {
        let Some(last) = self.heard else { return 0.0 };
        let now_us = micros(now);
        match &self.estimator {
            Estimator::Normal(window) | Estimator::Exponential(window) => {
                let waited_us = now_us.saturating_sub(last.at_us).max(1) as f64;
                self.phi_us(last, now_us) + log10(waited_us / window.mean_us().max(1.0))
            }
            Estimator::Empirical(empirical) => {
                let lateness_us = empirical.schedule().lateness_us(now_us);
                empirical.urgency(lateness_us.saturating_sub(self.acceptable_pause_us))
            }
        }
    }
}

/// 584,000 years fit.
fn micros(time: Duration) -> u64 {
    time.as_secs().saturating_mul(1_000_000).saturating_add(u64::from(time.subsec_micros()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    const MODELS: [Model; 3] = [Model::Normal, Model::Exponential, Model::Empirical];

    fn millis(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn detector(model: Model) -> Detector {
        Detector::new(&Config { model, first_interval: millis(100), ..Config::default() }).unwrap()
    }

    /// Lateness of 0 to 5 ms, in scattered order.
    fn jitter_ms(beat: u64) -> u64 {
        (beat.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % 6
    }

    /// One in ten, independently.
    fn lost(beat: u64) -> bool {
        ((beat * beat).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32).is_multiple_of(10)
    }

    /// 1,000 heartbeats every 100 ms.
    fn regular(model: Model) -> Detector {
        let mut detector = detector(model);
        for beat in 1..=1_000 {
            detector.heartbeat_numbered(beat, millis(beat * 100 + jitter_ms(beat)));
        }
        detector
    }

    fn any_model() -> impl Strategy<Value = Model> {
        prop::sample::select(MODELS.to_vec())
    }

    proptest! {
        #[test]
        fn phi_and_urgency_never_fall_in_silence_and_are_finite(
            model in any_model(),
            gaps in prop::collection::vec((1u64..4, 0u64..2_000_000), 0..300),
            looks in prop::collection::vec(0u64..1 << 50, 1..50),
        ) {
            let mut detector = detector(model);
            let (mut sequence, mut now_us) = (0, 0);
            detector.heartbeat_numbered(sequence, Duration::ZERO);
            for (steps, gap_us) in gaps {
                (sequence, now_us) = (sequence + steps, now_us + gap_us);
                detector.heartbeat_numbered(sequence, Duration::from_micros(now_us));
            }
            let mut looks = looks;
            looks.sort_unstable();
            let mut last = (f64::NEG_INFINITY, f64::NEG_INFINITY);
            for look in looks {
                let at = Duration::from_micros(now_us + look);
                let level = (detector.phi(at), detector.urgency(at));
                prop_assert!(level.0 >= last.0 && level.1 >= last.1, "{last:?} to {level:?}");
                prop_assert!(level.0 >= 0.0 && level.0.is_finite() && level.1.is_finite());
                last = level;
            }
        }

        #[test]
        fn reordered_and_repeated_heartbeats_change_nothing(
            model in any_model(),
            stale in prop::collection::vec((0u64..=1_000, 0u64..10_000), 1..20),
        ) {
            let clean = regular(model);
            let mut noisy = clean.clone();
            for (sequence, late_ms) in stale {
                prop_assert!(!noisy.heartbeat_numbered(sequence, millis(100_000 + late_ms)));
            }
            let look = millis(100_250);
            prop_assert_eq!(clean.phi(look), noisy.phi(look));
        }
    }

    #[test]
    fn nothing_is_suspicious_before_the_first_heartbeat() {
        for model in MODELS {
            assert_eq!(detector(model).phi(millis(1_000_000)), 0.0);
        }
    }

    #[test]
    fn first_estimate_stands_in_after_one_heartbeat() {
        for model in MODELS {
            let mut detector = detector(model);
            detector.heartbeat(millis(0));
            let (on_time, overdue) = (detector.phi(millis(90)), detector.phi(millis(5_000)));
            assert!(on_time < 0.5 && overdue > 6.0, "{model:?}: {on_time}, {overdue}");
        }
    }

    #[test]
    fn phi_is_the_tail_of_the_window_s_distribution() {
        let mut normal = detector(Model::Normal);
        let mut exponential = detector(Model::Exponential);
        let mut now = 0;
        normal.heartbeat(millis(0));
        exponential.heartbeat(millis(0));
        for beat in 0..200 {
            now += if beat % 2 == 0 { 90 } else { 110 };
            normal.heartbeat(millis(now));
            exponential.heartbeat(millis(now));
        }
        // 100 ms and 10 ms: 130 ms are three deviations, of which Q(3) = 0.00135.
        assert!((normal.phi(millis(now + 130)) - 2.869_699).abs() < 1e-6);
        // One mean is a probability of 1/e.
        assert!((exponential.phi(millis(now + 100)) - core::f64::consts::LOG10_E).abs() < 1e-6);
    }

    #[test]
    fn lost_heartbeats_are_not_samples_of_the_interval() {
        for model in [Model::Normal, Model::Exponential] {
            let mut lossy = detector(model);
            for beat in (1..=1_000).filter(|beat| beat % 3 != 0) {
                lossy.heartbeat_numbered(beat, millis(beat * 100 + jitter_ms(beat)));
            }
            let look = millis(100_130);
            let (with, without) = (lossy.phi(look), regular(model).phi(look));
            assert!((with / without - 1.0).abs() < 0.2, "{model:?}: {with}, {without}");
        }
    }

    #[test]
    fn empirical_model_expects_the_loss_it_has_seen() {
        let mut lossy = detector(Model::Empirical);
        for beat in (1..=10_000).filter(|&beat| !lost(beat) || beat == 10_000) {
            lossy.heartbeat_numbered(beat, millis(beat * 100));
        }
        let phi = lossy.phi(millis(1_000_150));
        assert!((phi - 1.0).abs() < 0.15, "one in ten is that late: {phi}");
    }

    #[test]
    fn an_outage_is_not_learnt_when_it_is_said_to_be_one() {
        for model in MODELS {
            let mut resumed = regular(model);
            resumed.resume(1, millis(1_000_000 + jitter_ms(1_000)));
            let (after, before) =
                (resumed.phi(millis(1_000_103)), regular(model).phi(millis(100_103)));
            assert!((after - before).abs() < 0.5, "{model:?}: {after}, {before}");
            assert!(resumed.heartbeat_numbered(2, millis(1_000_100)), "numbers begin anew");
            assert!(resumed.phi(millis(1_001_000)) > 3.0, "{model:?}");
        }
    }

    #[test]
    fn slow_heartbeats_are_told_apart_as_well_as_fast_ones() {
        let first_interval = Duration::from_secs(600);
        let mut slow = Detector::new(&Config { first_interval, ..Config::default() }).unwrap();
        for beat in (1..=10_000).filter(|&beat| !lost(beat) || beat == 10_000) {
            slow.heartbeat_numbered(beat, first_interval * beat as u32);
        }
        let phi = |intervals: f64| slow.phi(first_interval.mul_f64(10_000.0 + intervals));
        let (one, two) = (phi(1.5), phi(2.5));
        assert!((one - 1.0).abs() < 0.15, "one in ten is that late: {one}");
        assert!((two - 2.0).abs() < 0.3, "one in a hundred is that late: {two}");
    }

    #[test]
    fn acceptable_pause_delays_suspicion_by_itself() {
        for model in MODELS {
            let forgiving = Config {
                model,
                first_interval: millis(100),
                acceptable_pause: millis(500),
                ..Config::default()
            };
            let mut forgiving = Detector::new(&forgiving).unwrap();
            let mut strict = detector(model);
            for beat in 1..=100 {
                forgiving.heartbeat(millis(beat * 100));
                strict.heartbeat(millis(beat * 100));
            }
            for look in [100, 130, 400] {
                let strict = strict.phi(millis(10_000 + look));
                assert_eq!(forgiving.phi(millis(10_500 + look)), strict, "{model:?}");
            }
        }
    }

    #[test]
    fn deviation_never_goes_below_its_floor() {
        let mut exact = detector(Model::Normal);
        (0..=1_000).for_each(|beat| exact.heartbeat(millis(beat * 100)));
        assert!((exact.phi(millis(100_103)) - 2.869_699).abs() < 1e-6);
    }

    #[test]
    fn clock_that_steps_back_stands_still() {
        for model in MODELS {
            let mut detector = regular(model);
            assert!(detector.heartbeat_numbered(1_001, millis(50_000)));
            let levels: Vec<f64> =
                [40_000, 100_000].map(|ms| detector.phi(millis(ms))).into_iter().collect();
            assert_eq!(levels[0], levels[1]);
        }
    }

    #[test]
    fn impossible_configurations_are_refused() {
        for (window, first_interval) in [(1, millis(1)), (1 << 20, millis(1)), (10, millis(0))] {
            let config = Config { window, first_interval, ..Config::default() };
            assert!(Detector::new(&config).is_err());
        }
    }
}
