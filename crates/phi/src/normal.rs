//! The tail of the normal distribution, in logarithms.

use core::f64::consts::{FRAC_1_SQRT_2, LN_10, TAU};

/// From here on the asymptotic series is exact to 1e-11 and cheaper than erfc.
const SERIES_FROM: f64 = 10.0;

/// −log₁₀ of the probability that a standard normal variable exceeds `z`.
///
/// Finite for every finite `z` below 1e154 and never decreasing in `z`. Relative error below
/// 1e-11: the complementary error function near the mean, and its asymptotic expansion (Abramowitz
/// and Stegun, 7.1.23 and 26.2.12) in the tail, where the probability itself would underflow.
pub(crate) fn minus_log10_tail(z: f64) -> f64 {
    if z < 0.0 {
        // 1 − P keeps its digits where P itself rounds to one.
        -libm::log1p(-0.5 * libm::erfc(-z * FRAC_1_SQRT_2)) / LN_10
    } else if z < SERIES_FROM {
        -libm::log10(0.5 * libm::erfc(z * FRAC_1_SQRT_2))
    } else {
        let y = 1.0 / (z * z);
        // 1 − y + 3y² − 15y³ + …, ended after a negative term: φ may only jump up at the seam.
        let mut series = 1.0;
        for odd in [17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0] {
            series = 1.0 - odd * y * series;
        }
        (0.5 * z * z + libm::log(z) + 0.5 * libm::log(TAU) - libm::log(series)) / LN_10
    }
}
