//! Numbers that can work.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Largest magnitude of a number that is taken in: what is computed from such numbers, squares and
/// quotients among them, is finite, and so can be written down and read again.
pub(crate) const LARGEST: f64 = 1e100;

/// A number above zero, from 1e-100 to 1e100.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "f64", into = "f64")]
#[schemars(with = "f64")]
pub struct Positive(f64);

/// A number above 0 and at most 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "f64", into = "f64")]
#[schemars(with = "f64")]
pub struct Fraction(f64);

/// A number of windows, from `LEAST` to `MOST`.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "usize", into = "usize")]
#[schemars(with = "usize")]
pub struct Count<const LEAST: usize, const MOST: usize>(usize);

impl Positive {
    /// `value`, which must be above zero.
    pub(crate) const fn of(value: f64) -> Self {
        assert!(value > 0.0, "a constant above zero");
        Self(value)
    }

    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl Fraction {
    /// `value`, which must be above 0 and at most 1.
    pub(crate) const fn of(value: f64) -> Self {
        assert!(value > 0.0 && value <= 1.0, "a constant above 0 and at most 1");
        Self(value)
    }

    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl<const LEAST: usize, const MOST: usize> Count<LEAST, MOST> {
    /// `count`, which must be from `LEAST` to `MOST`.
    pub(crate) const fn of(count: usize) -> Self {
        assert!(count >= LEAST && count <= MOST, "a constant from LEAST to MOST");
        Self(count)
    }

    /// The number.
    pub const fn get(self) -> usize {
        self.0
    }
}

impl TryFrom<f64> for Positive {
    type Error = String;

    fn try_from(value: f64) -> Result<Self, String> {
        let fits = (1.0 / LARGEST..=LARGEST).contains(&value);
        fits.then_some(Self(value))
            .ok_or_else(|| format!("expected a number above 0, at most {LARGEST:e}, found {value}"))
    }
}

impl TryFrom<f64> for Fraction {
    type Error = String;

    fn try_from(value: f64) -> Result<Self, String> {
        let fits = (1.0 / LARGEST..=1.0).contains(&value);
        fits.then_some(Self(value))
            .ok_or_else(|| format!("expected a number above 0 and at most 1, found {value}"))
    }
}

impl<const LEAST: usize, const MOST: usize> TryFrom<usize> for Count<LEAST, MOST> {
    type Error = String;

    fn try_from(count: usize) -> Result<Self, String> {
        (LEAST..=MOST)
            .contains(&count)
            .then_some(Self(count))
            .ok_or_else(|| format!("expected {LEAST} to {MOST}, found {count}"))
    }
}

impl From<Positive> for f64 {
    fn from(number: Positive) -> Self {
        number.0
    }
}

impl From<Fraction> for f64 {
    fn from(number: Fraction) -> Self {
        number.0
    }
}

impl<const LEAST: usize, const MOST: usize> From<Count<LEAST, MOST>> for usize {
    fn from(count: Count<LEAST, MOST>) -> Self {
        count.0
    }
}

/// A number to be read by people: four digits, or as many as stand before the point.
pub(crate) struct Short(pub(crate) f64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.0.abs();
        if magnitude != 0.0 && !(1e-6..1e15).contains(&magnitude) {
            return write!(f, "{:.3e}", self.0);
        }
        let decimals = match magnitude {
            m if m >= 1_000.0 => 0,
            m if m >= 100.0 => 1,
            m if m >= 10.0 => 2,
            m if m >= 1.0 => 3,
            m if m >= 0.1 => 4,
            m if m >= 0.01 => 5,
            m if m >= 0.001 => 6,
            m if m >= 1e-4 => 7,
            m if m >= 1e-5 => 8,
            _ => 9,
        };
        let text = format!("{:.decimals$}", self.0);
        let text = match text.contains('.') {
            true => text.trim_end_matches('0').trim_end_matches('.'),
            false => &text,
        };
        f.write_str(if text == "-0" { "0" } else { text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_cannot_work_are_refused() {
        for value in [0.0, -1.0, 1e-200, f64::NAN, f64::INFINITY] {
            assert!(Positive::try_from(value).is_err(), "{value}");
            assert!(Fraction::try_from(value).is_err(), "{value}");
        }
        assert!(Positive::try_from(1e200).is_err());
        assert!(Fraction::try_from(1.1).is_err() && Fraction::try_from(1.0).is_ok());
        assert_eq!(Count::<2, 9>::try_from(1).unwrap_err(), "expected 2 to 9, found 1");
    }

    #[test]
    fn people_read_four_digits() {
        for (number, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (0.031_415_9, "0.03142"),
            (0.389_261_74, "0.3893"),
            (0.000_123_456, "0.0001235"),
            (2.0, "2"),
            (-12.345_6, "-12.35"),
            (123_456.7, "123457"),
            (1e-9, "1.000e-9"),
            (1e20, "1.000e20"),
        ] {
            assert_eq!(Short(number).to_string(), text);
        }
    }
}
