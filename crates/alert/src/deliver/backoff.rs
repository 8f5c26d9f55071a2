//! How long to wait before the next try.

use std::time::Duration;

use fastrand::Rng;

use crate::receiver::RetryConfig;

/// Shortest pause: a receiver that refuses at once is not asked in a tight loop.
const SHORTEST: Duration = Duration::from_millis(50);

/// The pause after try number `tries`, from 1: a random time of up to a bound that doubles with
/// each try ("full jitter"), or what the receiver asked for, if that is longer.
pub(crate) fn pause(
    config: &RetryConfig,
    tries: u32,
    asked_for: Option<Duration>,
    rng: &mut Rng,
) -> Duration {
    let doubled = config.first.get().saturating_mul(1 << (tries - 1).min(20));
    let bound = doubled.min(config.longest.get());
    bound.mul_f64(rng.f64()).max(SHORTEST).max(asked_for.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::period::Period;

    #[test]
    fn pauses_are_spread_up_to_a_bound_that_doubles_and_ends() {
        let config = RetryConfig {
            first: Period::secs(1),
            longest: Period::secs(60),
            ..RetryConfig::default()
        };
        let mut rng = Rng::with_seed(1);
        for (tries, bound) in [(1, 1), (2, 2), (5, 16), (7, 60), (40, 60)] {
            let pauses: Vec<f64> =
                (0..1_000).map(|_| pause(&config, tries, None, &mut rng).as_secs_f64()).collect();
            let longest = pauses.iter().copied().fold(0.0, f64::max);
            let mean = pauses.iter().sum::<f64>() / 1_000.0;
            let bound = f64::from(bound);
            assert!(longest <= bound && longest > bound * 0.9, "{tries}: {longest}");
            assert!((mean / bound - 0.5).abs() < 0.06, "{tries}: {mean}");
        }
    }

    #[test]
    fn a_receiver_that_says_when_is_not_asked_earlier() {
        let asked = Some(Duration::from_secs(90));
        let pause = pause(&RetryConfig::default(), 1, asked, &mut Rng::with_seed(1));
        assert_eq!(pause, Duration::from_secs(90));
    }
}
