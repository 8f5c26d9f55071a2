//! Logarithms and powers of two, twice as fast as exact to the last bit.

use core::f64::consts::{LOG2_E, LOG10_2, SQRT_2};

/// log₂ of a positive normal number, with a relative error below 1e-13 (absolute near 1).
pub(crate) fn log2(value: f64) -> f64 {
    let bits = value.to_bits();
    let exponent = (bits >> 52) as i64 - 1_023;
    let mantissa = f64::from_bits(bits & ((1 << 52) - 1) | 1_023 << 52);
    // To [√½, √2), where the series is short.
    let (mantissa, exponent) =
        if mantissa > SQRT_2 { (mantissa / 2.0, exponent + 1) } else { (mantissa, exponent) };
    // ln m = 2 artanh s (Abramowitz and Stegun, 4.1.27), |s| < 0.172.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let y = s * s;
    let (y2, y4) = (y * y, y * y * y * y);
    // Pairs do not wait for each other.
    let low = (1.0 + y / 3.0) + y2 * (1.0 / 5.0 + y / 7.0);
    let high = (1.0 / 9.0 + y / 11.0) + y2 * (1.0 / 13.0 + y / 15.0);
    exponent as f64 + 2.0 * LOG2_E * s * (low + y4 * high)
}

/// log₁₀ of a positive normal number, as exact as [`log2`].
pub(crate) fn log10(value: f64) -> f64 {
    log2(value) * LOG10_2
}

/// log₂ of a positive normal number, with an error below 1e-6: written so that rows of them take
/// vector instructions.
pub(crate) fn log2_single(value: f32) -> f32 {
    let bits = value.to_bits();
    // From √½ to √2, as above, by moving the seam between exponent and mantissa.
    let shifted = bits.wrapping_sub(SQRT_HALF_BITS);
    let exponent = (shifted as i32) >> 23;
    let mantissa = f32::from_bits((shifted & ((1 << 23) - 1)).wrapping_add(SQRT_HALF_BITS));
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let y = s * s;
    let series = 1.0 + y * (1.0 / 3.0 + y * (1.0 / 5.0 + y * (1.0 / 7.0)));
    exponent as f32 + 2.0 * core::f32::consts::LOG2_E * s * series
}

const SQRT_HALF_BITS: u32 = core::f32::consts::FRAC_1_SQRT_2.to_bits();

/// log₂ of a number of at least 1, off by 0.09 at most: exact at powers of two, straight between.
pub(crate) fn log2_roughly(value: f32) -> f32 {
    (value.to_bits() as f32) / (1 << 23) as f32 - 127.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithm_is_exact_to_thirteen_digits() {
        for exponent in -1_000..1_000 {
            for part in [0.0f64, 0.1, 0.41421, 0.41422, 0.7, 0.999_999] {
                let value = (1.0 + part) * 2f64.powi(exponent);
                let (found, exact) = (log2(value), libm::log2(value));
                assert!((found - exact).abs() <= 1e-13 * exact.abs().max(1.0), "{value}: {found}");
            }
        }
    }

    #[test]
    fn single_logarithm_is_within_a_millionth() {
        for exponent in -120..120 {
            for part in [0.0f32, 0.1, 0.41421, 0.41422, 0.7, 0.999_999] {
                let value = (1.0 + part) * 2f32.powi(exponent);
                let (found, exact) = (f64::from(log2_single(value)), f64::from(value).log2());
                let allowed = 1e-6 + exact.abs() * f64::from(f32::EPSILON);
                assert!((found - exact).abs() <= allowed, "{value}: {found}, not {exact}");
            }
        }
    }

    #[test]
    fn rough_logarithm_is_within_a_tenth() {
        for value in [1.0f32, 1.4, 2.0, 3.0, 100.0, 12_345.0, 1e9] {
            assert!((log2_roughly(value) - value.log2()).abs() < 0.09, "{value}");
        }
    }
}
