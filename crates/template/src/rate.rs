//! Whether a count comes from the rate of the counts before it.

/// How many windows there have to be before a rate is known.
pub(crate) const MIN_WINDOWS: usize = 5;

/// A bound on the probability that a window holds as few or as many events as
/// `now`, if they come at the rate of the windows `before`.
///
/// If events are independent (Poisson), then given how many there are in
/// total, those of one window are binomial whatever the rate (Przyborowski and
/// Wilenski, "Homogeneity of results in testing samples from Poisson series",
/// Biometrika 31, 1940); Chernoff's bound holds for every count, small ones too.
/// Logs are burstier than that: the exponent is divided by how much more than
/// Poisson's the counts before varied (quasi-likelihood; Wedderburn, Biometrika
/// 61, 1974).
///
/// `None` if there are fewer than [`MIN_WINDOWS`]. Linear in their number.
pub(crate) fn chance(before: impl ExactSizeIterator<Item = u32> + Clone, now: u32) -> Option<f64> {
    let windows = before.len();
    if windows < MIN_WINDOWS {
        return None;
    }
    let sum: u64 = before.clone().map(u64::from).sum();
    let total = (sum + u64::from(now)) as f64;
    if total == 0.0 {
        return Some(1.0);
    }
    let mean = sum as f64 / windows as f64;
    let deviations: f64 = before.map(|count| (f64::from(count) - mean).powi(2)).sum();
    let variance = deviations / (windows - 1) as f64;
    let dispersion = if mean > 0.0 { (variance / mean).max(1.0) } else { 1.0 };
    let expected_share = 1.0 / (windows + 1) as f64;
    let exponent = total * divergence(f64::from(now) / total, expected_share);
    // Twice, for either side may surprise.
    Some((2.0 * (-exponent / dispersion).exp()).min(1.0))
}

/// Kullback–Leibler divergence between two coins, in nats.
fn divergence(seen: f64, expected: f64) -> f64 {
    let term =
        |seen: f64, expected: f64| if seen > 0.0 { seen * (seen / expected).ln() } else { 0.0 };
    term(seen, expected) + term(1.0 - seen, 1.0 - expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(before: &[u32], now: u32) -> f64 {
        chance(before.iter().copied(), now).unwrap()
    }

    #[test]
    fn the_usual_count_is_no_surprise() {
        assert_eq!(of(&[10; 10], 10), 1.0);
        assert!(of(&[10; 10], 14) > 0.1);
        assert_eq!(of(&[0; 10], 0), 1.0);
    }

    #[test]
    fn a_jump_is_a_surprise_the_greater_the_more_is_known() {
        assert!(of(&[10; 10], 40) < 1e-6);
        assert!(of(&[10; 30], 40) < of(&[10; 10], 40));
    }

    #[test]
    fn silence_is_a_surprise_where_there_was_much() {
        assert!(of(&[30; 30], 0) < 1e-9);
        assert!(of(&[1; 30], 0) > 0.5);
    }

    #[test]
    fn small_counts_surprise_little() {
        assert!(of(&[0, 0, 1, 0, 0, 0, 0, 0, 0, 0], 2) > 0.01);
        assert!(of(&[0; 10], 1) > 0.05);
    }

    #[test]
    fn bursts_are_expected_of_what_was_bursty() {
        let bursty = [0, 90, 0, 0, 80, 0, 0, 0, 70, 0];
        assert!(of(&bursty, 90) > 1e-3);
        assert!(of(&[24; 10], 90) < 1e-6);
    }

    #[test]
    fn a_rate_takes_five_windows() {
        assert_eq!(chance([1; 4].into_iter(), 100), None);
        assert!(chance([1; 5].into_iter(), 100).is_some());
    }

    #[test]
    fn the_bound_holds_for_poisson_counts() {
        let mut random = fastrand::Rng::with_seed(7);
        for mean in [0.3_f64, 2.0, 20.0] {
            let mut poisson = || {
                let mut product = random.f64();
                let mut count = 0;
                while product > (-mean).exp() {
                    product *= random.f64();
                    count += 1;
                }
                count
            };
            let trials = 20_000;
            let alarms = (0..trials)
                .filter(|_| {
                    let before: [u32; 20] = std::array::from_fn(|_| poisson());
                    of(&before, poisson()) < 0.01
                })
                .count();
            assert!(alarms * 100 <= trials, "{alarms} alarms at mean {mean}");
        }
    }
}
