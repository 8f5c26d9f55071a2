//! Frozen hashes: template ids are made of them.

use std::hash::{BuildHasherDefault, Hasher};

use xxhash_rust::xxh3::xxh3_64;

/// The key of a word.
#[inline]
pub(crate) fn word_key(word: &[u8]) -> u64 {
    xxh3_64(word)
}

/// The key of a word that goes on with a value, as `eth` of `eth0`.
#[inline]
pub(crate) fn stem_key(stem: &[u8]) -> u64 {
    xxh3_64(stem) ^ 0x5851_f42d_4c95_7f2d
}

/// What an element adds to the key of a message: the sum over all of them does
/// not depend on the order of adding, so that single ones can be exchanged.
#[inline]
pub(crate) fn at_position(key: u64, position: usize) -> u64 {
    let position = (position as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    fold(key ^ position, 0xd6e8_feb8_6659_fd93)
}

/// One value of two.
#[inline]
pub(crate) fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ (product >> 64) as u64
}

/// A map whose keys are hashes already.
pub(crate) type HashedMap<V> = std::collections::HashMap<u64, V, BuildHasherDefault<Hashed>>;

/// Passes a hash through.
#[derive(Default)]
pub(crate) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64(bytes);
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
