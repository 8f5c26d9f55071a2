//! Jump hash: numbered buckets without any table.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::error::RingError;
use crate::hash::KeyHash;
use crate::membership::Membership;
use crate::placement::Placement;
use crate::slots::{self, FREE};

/// Most buckets (sum of weights).
pub const MAX_BUCKETS: u64 = 1 << 28;

/// The bucket, of `buckets`, that has this key (Lamping and Veach, *A fast,
/// minimal memory, consistent hash algorithm*, 2014, figure 1). O(ln buckets);
/// zero buckets count as one.
#[inline]
pub fn jump_hash(KeyHash(mut key): KeyHash, buckets: u32) -> u32 {
    let (mut bucket, mut next) = (-1, 0);
    while next < i64::from(buckets) {
        bucket = next;
        key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
        let steps = (1_u64 << 31) as f64 / ((key >> 33) + 1) as f64;
        next = ((bucket + 1) as f64 * steps) as i64;
    }
    bucket.max(0) as u32
}

/// [`jump_hash`] over nodes: one bucket per unit of weight.
///
/// Even to the last key and without a table, but buckets come and go only at
/// the end of the row. When a node elsewhere leaves, the last bucket takes its
/// place, so that about twice the necessary keys move. Which node has which
/// bucket depends on who came and went before: [`Placement::rebuild`] keeps it.
#[derive(Clone, Debug)]
pub struct Jump {
    membership: Membership,
    owners: Arc<[u32]>,
}

impl Jump {
    /// Buckets in order of id.
    ///
    /// # Errors
    /// Weights that add up to more than [`MAX_BUCKETS`].
    pub fn new(membership: Membership) -> Result<Self, RingError> {
        check(&membership)?;
        Ok(Self { owners: slots::assign(&membership).into(), membership })
    }
}

fn check(membership: &Membership) -> Result<(), RingError> {
    let needed = membership.total_weight();
    if needed <= MAX_BUCKETS {
        return Ok(());
    }
    let remedy = "use the ring";
    Err(RingError::TooManySlots { what: "buckets", needed, limit: MAX_BUCKETS, remedy })
}

impl Placement for Jump {
    fn membership(&self) -> &Membership {
        &self.membership
    }

    #[inline]
    fn locate(&self, key: KeyHash) -> usize {
        self.owners[jump_hash(key, self.owners.len() as u32) as usize] as usize
    }

    fn rebuild(&self, membership: Membership) -> Result<Self, RingError> {
        check(&membership)?;
        let (mut owners, more) = slots::reassign(&self.owners, &self.membership, &membership);
        owners.extend(more);
        let mut dense: Vec<u32> = Vec::with_capacity(owners.len());
        let mut at = 0;
        while at < owners.len() {
            if owners[at] == FREE {
                // The last bucket moves into the hole; look again if it was one.
                owners.swap_remove(at);
            } else {
                dense.push(owners[at]);
                at += 1;
            }
        }
        Ok(Self { membership, owners: dense.into() })
    }

    fn heap_bytes(&self) -> usize {
        size_of_val(&*self.owners) + self.membership.heap_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_match_other_implementations() {
        // Guava, HashingTest.testConsistentHash_linearCongruentialGeneratorCompatibility.
        let golden = [0, 55, 62, 8, 45, 59, 86, 97, 82, 59, 73, 37, 17, 56, 86, 21, 90, 37, 38, 83];
        for (key, bucket) in golden.into_iter().enumerate() {
            assert_eq!(jump_hash(KeyHash(key as u64), 100), bucket);
        }
        assert_eq!(jump_hash(KeyHash(10_863_919_174_838_991), 11), 6);
        assert_eq!(jump_hash(KeyHash(2_016_238_256_797_177_309), 11), 3);
        assert_eq!(jump_hash(KeyHash(1_673_758_223_894_951_030), 11), 5);
    }
}
