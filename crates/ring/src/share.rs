//! Parts of the key space: how much, and which.

use core::fmt;
use core::iter::Sum;
use core::ops::{Add, AddAssign, SubAssign};

use crate::hash::KeyHash;

/// How much of the key space: exact, in units of 2⁻⁶⁴.
///
/// Keys hash uniformly, so a share of the key space is the expected share of
/// the keys. With replicas, the shares of all nodes add up to the replica count.
///
/// ```
/// use thalweg_ring::Share;
/// assert_eq!(Share::of(1, 4).fraction(), 0.25);
/// assert_eq!(Share::of(1, 4).to_string(), "25.000%");
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u128);

impl Share {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// The whole key space.
    pub const ALL: Self = Self(1 << 64);

    /// `part` of `whole`, rounded down: `Share::of(2, 10)` is what a disk of 2 TB
    /// can hold of 10 TB of data. A `whole` of zero counts as one.
    pub fn of(part: u64, whole: u64) -> Self {
        Self((u128::from(part) << 64) / u128::from(whole.max(1)))
    }

    /// The nearest share to a fraction; negative and NaN give [`Share::NONE`].
    pub fn from_fraction(fraction: f64) -> Self {
        Self((fraction * Self::ALL.0 as f64) as u128)
    }

    /// As a fraction of the key space: 1.0 is all of it.
    pub fn fraction(self) -> f64 {
        self.0 as f64 / Self::ALL.0 as f64
    }

    /// As a number of hash values, of 2⁶⁴.
    pub fn hashes(self) -> u128 {
        self.0
    }

    pub(crate) fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}%", self.fraction() * 100.0)
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Share({self})")
    }
}

impl Add for Share {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl AddAssign for Share {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl SubAssign for Share {
    fn sub_assign(&mut self, other: Self) {
        self.0 -= other.0;
    }
}

impl Sum for Share {
    fn sum<I: Iterator<Item = Self>>(shares: I) -> Self {
        shares.fold(Self::NONE, Self::add)
    }
}

/// The keys whose hashes lie from `start` to `end`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct HashRange {
    /// First hash.
    pub start: u64,
    /// Last hash; never below `start`.
    pub end: u64,
}

impl HashRange {
    /// Whether the key lies in this range.
    pub fn contains(&self, key: impl Into<KeyHash>) -> bool {
        (self.start..=self.end).contains(&key.into().0)
    }

    /// How much of the key space it covers.
    pub fn share(&self) -> Share {
        Share(u128::from(self.end - self.start) + 1)
    }

    /// Cuts off at most `share` (not [`Share::NONE`]) from the front: the cut
    /// part, and what remains.
    pub(crate) fn cut(self, share: Share) -> (Self, Option<Self>) {
        if share >= self.share() {
            return (self, None);
        }
        let end = self.start + (share.0 - 1) as u64;
        (Self { start: self.start, end }, Some(Self { start: end + 1, end: self.end }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_range_is_all_and_cuts_where_asked() {
        let full = HashRange { start: 0, end: u64::MAX };
        assert_eq!(full.share(), Share::ALL);
        let (front, rest) = full.cut(Share::of(1, 2));
        assert_eq!(front, HashRange { start: 0, end: (1 << 63) - 1 });
        assert_eq!(rest, Some(HashRange { start: 1 << 63, end: u64::MAX }));
        assert_eq!(full.cut(Share::ALL), (full, None));
    }

    #[test]
    fn fractions_that_mean_nothing_are_nothing() {
        assert_eq!(Share::from_fraction(f64::NAN), Share::NONE);
        assert_eq!(Share::from_fraction(-1.0), Share::NONE);
        assert_eq!(Share::from_fraction(1.0), Share::ALL);
    }
}
