//! The frozen hash: where a key and a virtual node stand.
//!
//! [`HASH_NAME`] never changes its meaning. A placement computed today by one
//! process must be the placement computed in ten years by another; the vectors
//! in `tests/it/vectors.rs` hold it in place.

use xxhash_rust::xxh3::xxh3_64;

/// Name of the hash that every placement in this crate uses, for wire formats
/// and manifests that must refuse a peer with another.
///
/// Keys: XXH3-64, seed 0 ([specification](https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md)).
/// Virtual nodes, Maglev permutations and Dx probes: the SplitMix64 sequence
/// (Steele, Lea and Flood, *Fast splittable pseudorandom number generators*,
/// OOPSLA 2014) that starts from the node's or key's XXH3-64.
pub const HASH_NAME: &str = "xxh3-64+splitmix64/v1";

/// A key's 64-bit hash: its place in the key space.
///
/// Every lookup takes `impl Into<KeyHash>`, so a string or bytes can be passed
/// as they are; `KeyHash(h)` passes a hash computed elsewhere, which must be as
/// well mixed as a hash of good quality (a counter is not).
///
/// XXH3 is not keyed: whoever chooses keys can aim them at one node. Where keys
/// come from adversaries, hash them with a secret (SipHash) and pass the result.
///
/// ```
/// use thalweg_ring::KeyHash;
/// assert_eq!(KeyHash::from("song-1"), KeyHash::from(b"song-1"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(pub u64);

impl From<&[u8]> for KeyHash {
    #[inline]
    fn from(key: &[u8]) -> Self {
        Self(xxh3_64(key))
    }
}

impl<const N: usize> From<&[u8; N]> for KeyHash {
    #[inline]
    fn from(key: &[u8; N]) -> Self {
        Self(xxh3_64(key))
    }
}

impl From<&str> for KeyHash {
    #[inline]
    fn from(key: &str) -> Self {
        Self(xxh3_64(key.as_bytes()))
    }
}

/// The SplitMix64 sequence: every value is a bijection of `seed + i · γ`, so a
/// sequence never repeats and two seeds share values only by accident. (XXH3's
/// own seed would not do: ids of three bytes that differ in the last one give
/// overlapping sets of values under consecutive seeds.)
#[derive(Clone)]
pub(crate) struct SplitMix64(pub(crate) u64);

impl SplitMix64 {
    #[inline]
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Scales a hash to `0..slots` by its high bits (Lemire, *Fast random integer
/// generation in an interval*, 2019), which needs no division.
#[inline]
pub(crate) fn scale(hash: u64, slots: usize) -> usize {
    ((u128::from(hash) * slots as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix_matches_the_reference_implementation() {
        // Vigna, splitmix64.c, seed 1234567.
        let mut sequence = SplitMix64(1_234_567);
        let first: [u64; 3] = core::array::from_fn(|_| sequence.next());
        assert_eq!(
            first,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn scaling_covers_every_slot_and_stays_inside() {
        assert_eq!(scale(0, 7), 0);
        assert_eq!(scale(u64::MAX, 7), 6);
        assert_eq!(scale(1 << 63, 8), 4);
    }
}
