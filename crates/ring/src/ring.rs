//! The ring: virtual nodes on a circle of hashes.

use alloc::sync::Arc;
use alloc::vec::Vec;

use xxhash_rust::xxh3::xxh3_64;

use crate::domains::Domains;
use crate::error::RingError;
use crate::hash::{KeyHash, SplitMix64};
use crate::membership::{MAX_NODES, Membership, Node};
use crate::placement::Placement;
use crate::share::{HashRange, Share};

/// Most virtual nodes a ring may have (2 GiB of points).
pub const MAX_POINTS: u64 = 1 << 28;

/// Virtual nodes per unit of weight where the caller has no wish: the most
/// loaded of ten nodes then holds about 1.10 of the mean.
pub const DEFAULT_VNODES: u32 = 256;

const NODE_MASK: u64 = MAX_NODES as u64 - 1;

/// Words that a lookup compares at once, without a branch to mispredict; of 100
/// lookups, about one has to go on.
const WINDOW: usize = 4;

/// A consistent-hash ring with weighted virtual nodes (Karger et al.,
/// *Consistent hashing and random trees*, STOC 1997, §4; virtual nodes as in
/// DeCandia et al., *Dynamo*, SOSP 2007, §4.2).
///
/// A node of weight *w* stands at *w* × `vnodes` points; a key belongs to the
/// first point at or after its hash. Points depend on the node's id alone, so
/// that when a node joins, keys move only to it, and when it leaves, only from
/// it; raising a weight adds points and moves nothing else.
///
/// A node's share deviates from its weight's by about 1/√(points of the node):
///
/// | vnodes | standard deviation | bytes per unit of weight |
/// |---|---|---|
/// | 256 | 6.3% | 3 KB |
/// | 1,024 | 3.1% | 12 KB |
/// | 4,096 | 1.6% | 46 KB |
/// | 16,384 | 0.8% | 184 KB |
///
/// Lookups find the hash's top bits in an index that holds one or two points
/// per entry, then walk: O(1) expected, two dependent memory reads.
///
/// ```
/// use thalweg_ring::{HashRing, Membership, Placement};
/// let ring = HashRing::new(Membership::of_ids(["ada", "bob", "cy"])?, 1024)?;
/// let home = ring.node("song-1").id();
/// let copies = ring.replicas("song-1", 2);
/// assert_eq!(copies[0].id(), home);
/// assert_ne!(copies[1].id(), home);
/// # Ok::<(), thalweg_ring::RingError>(())
/// ```
#[derive(Clone)]
pub struct HashRing {
    membership: Membership,
    domains: Arc<Domains>,
    vnodes: u32,
    /// Position in the upper 44 bits (a hash's), node index in the lower 20,
    /// ascending; of points at one position the node first in order of id wins,
    /// whoever else takes part. The last [`WINDOW`] words repeat the first one's
    /// node at the highest position, which closes the circle without a branch.
    words: Arc<[u64]>,
    /// First word at or after each value of the hash's top bits.
    index: Arc<[u32]>,
    index_shift: u32,
}

impl HashRing {
    /// Builds a ring of `vnodes` virtual nodes per unit of weight
    /// ([`DEFAULT_VNODES`] for want of a better number).
    ///
    /// Changing `vnodes` moves keys as a change of all nodes' weights would:
    /// decide once. O(p log p) for p points.
    ///
    /// # Errors
    /// `vnodes` is zero, or the points would exceed [`MAX_POINTS`].
    pub fn new(membership: Membership, vnodes: u32) -> Result<Self, RingError> {
        if vnodes == 0 {
            let expected = "at least 1";
            return Err(RingError::Parameter { name: "vnodes", expected, found: 0 });
        }
        let points = membership.total_weight().saturating_mul(u64::from(vnodes));
        if points > MAX_POINTS {
            return Err(RingError::TooManySlots {
                what: "virtual nodes",
                needed: points,
                limit: MAX_POINTS,
                remedy: "use fewer virtual nodes per unit of weight",
            });
        }
        let mut words = Vec::with_capacity(points as usize + WINDOW);
        for (index, node) in membership.iter().enumerate() {
            let mut sequence = SplitMix64(xxh3_64(node.id().as_bytes()));
            let points = u64::from(node.weight()) * u64::from(vnodes);
            words.extend((0..points).map(|_| (sequence.next() & !NODE_MASK) | index as u64));
        }
        words.sort_unstable();
        words.dedup();
        words.extend([!NODE_MASK | (words[0] & NODE_MASK); WINDOW]);

        let buckets = (words.len() / 2).next_power_of_two().max(2);
        let index_shift = u64::BITS - buckets.trailing_zeros();
        Ok(Self {
            domains: Arc::new(Domains::new(&membership)),
            index: index(&words, buckets, index_shift),
            words: words.into(),
            index_shift,
            membership,
            vnodes,
        })
    }

    /// Virtual nodes per unit of weight.
    pub fn vnodes(&self) -> u32 {
        self.vnodes
    }

    /// The nodes that hold the key's `count` copies, in order of preference.
    ///
    /// The first is [`Placement::node`]'s. Each further one is the next on the
    /// circle among those whose zone holds the fewest copies so far and, of
    /// these, whose rack does. So copies share a zone only when every zone has
    /// one, and a rack only when every rack of those zones does, and numbers stay
    /// even beyond that. Fewer than `count` come back only if there are fewer
    /// nodes. Keys whose copies do not involve a leaving node keep theirs.
    ///
    /// Expected O(count · n / d) for d nodes in the domains that qualify, in
    /// practice a few points per copy (after Dynamo, §4.3, with domains).
    pub fn replicas(&self, key: impl Into<KeyHash>, count: usize) -> Vec<&Node> {
        let mut indices = Vec::new();
        self.replica_indices(key.into(), count, &mut indices);
        indices.into_iter().map(|index| &self.membership[index]).collect()
    }

    /// [`HashRing::replicas`] as node indices, into a buffer that is cleared first.
    pub fn replica_indices(&self, key: KeyHash, count: usize, into: &mut Vec<usize>) {
        into.clear();
        into.push(self.locate(key));
        for _ in 1..count.min(self.membership.len()) {
            let wanted = self.domains.next_level(into);
            let next = self
                .walk(key)
                .find(|node| !into.contains(node) && self.domains.level(*node, into) == wanted)
                .expect("a node of the least used domain stands somewhere on the circle");
            into.push(next);
        }
        into.truncate(count);
    }

    /// The first node from the key on that `accept`s: the next best when some are
    /// down or full. `None` if none does.
    ///
    /// `accept` may see a node several times. O(points) if none accepts.
    pub fn node_where(
        &self,
        key: impl Into<KeyHash>,
        mut accept: impl FnMut(&Node) -> bool,
    ) -> Option<&Node> {
        let key = key.into();
        self.walk(key).map(|index| &self.membership[index]).find(|node| accept(node))
    }

    /// Each node's exact share of the key space, by node index. O(points).
    pub fn shares(&self) -> Vec<Share> {
        let mut shares = alloc::vec![Share::NONE; self.membership.len()];
        let mut start = 0;
        for end in self.arc_ends() {
            shares[self.locate(KeyHash(end))] += HashRange { start, end }.share();
            start = end.wrapping_add(1);
        }
        shares
    }

    /// Last hash of each arc that belongs to one point, ascending, and then the
    /// end of the key space.
    pub(crate) fn arc_ends(&self) -> impl Iterator<Item = u64> + '_ {
        self.words.chunk_by(|a, b| a | NODE_MASK == b | NODE_MASK).map(|arc| arc[0] | NODE_MASK)
    }

    /// Nodes of the points from the key on, once around.
    pub(crate) fn walk(&self, key: KeyHash) -> impl Iterator<Item = usize> + '_ {
        let points = self.points();
        let (before, after) = points.split_at(self.first_word(key).min(points.len()));
        after.iter().chain(before).map(|word| (word & NODE_MASK) as usize)
    }

    #[inline]
    fn first_word(&self, KeyHash(hash): KeyHash) -> usize {
        let position = hash & !NODE_MASK;
        let mut at = self.index[(hash >> self.index_shift) as usize] as usize;
        loop {
            let window: Option<&[u64; WINDOW]> = self.words[at..].first_chunk();
            let window = window.expect("no position is after the closing words");
            let before = window.iter().filter(|word| **word < position).count();
            at += before;
            if before < WINDOW {
                return at;
            }
        }
    }

    /// The words without those that close the circle.
    fn points(&self) -> &[u64] {
        &self.words[..self.words.len() - WINDOW]
    }
}

/// For each of `buckets` (a power of two) the first word in it or after it.
fn index(words: &[u64], buckets: usize, shift: u32) -> Arc<[u32]> {
    let mut index = Vec::with_capacity(buckets);
    let mut at = 0;
    for bucket in 0..buckets as u64 {
        while words[at] < bucket << shift {
            at += 1;
        }
        index.push(at as u32);
    }
    index.into()
}

impl Placement for HashRing {
    fn membership(&self) -> &Membership {
        &self.membership
    }

    #[inline]
    fn locate(&self, key: KeyHash) -> usize {
        (self.words[self.first_word(key)] & NODE_MASK) as usize
    }

    fn rebuild(&self, membership: Membership) -> Result<Self, RingError> {
        Self::new(membership, self.vnodes)
    }

    fn heap_bytes(&self) -> usize {
        size_of_val(&*self.words)
            + size_of_val(&*self.index)
            + self.domains.heap_bytes()
            + self.membership.heap_bytes()
    }
}

impl core::fmt::Debug for HashRing {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("HashRing")
            .field("nodes", &self.membership.len())
            .field("points", &self.points().len())
            .field("vnodes", &self.vnodes)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE_BITS: u32 = MAX_NODES.trailing_zeros();

    fn ring(nodes: usize, vnodes: u32) -> HashRing {
        let ids = (0..nodes).map(|i| alloc::format!("n{i}"));
        HashRing::new(Membership::of_ids(ids).unwrap(), vnodes).unwrap()
    }

    /// The definition, without index or sentinel.
    fn by_definition(ring: &HashRing, hash: u64) -> usize {
        let points = ring.points();
        let at = points.partition_point(|word| word >> NODE_BITS < hash >> NODE_BITS);
        (points[at % points.len()] & NODE_MASK) as usize
    }

    #[test]
    fn the_index_finds_what_the_definition_says_at_every_boundary() {
        for (nodes, vnodes) in [(1, 1), (2, 1), (3, 7), (100, 40)] {
            let ring = ring(nodes, vnodes);
            let step = 1 << NODE_BITS;
            let around = |word: &u64| [*word, word.wrapping_sub(step), word.wrapping_add(step)];
            let edges = ring.words.iter().flat_map(around).chain([0, u64::MAX]);
            for hash in edges {
                assert_eq!(ring.locate(KeyHash(hash)), by_definition(&ring, hash), "{hash:x}");
            }
        }
    }

    #[test]
    fn at_one_position_the_first_id_wins() {
        let shared = 5 << NODE_BITS;
        let mut ring = ring(3, 1);
        let last = !NODE_MASK | 1;
        let words = [shared | 1, shared | 2, 9 << NODE_BITS, last, last, last, last];
        ring.index = index(&words, 2, 63);
        ring.index_shift = 63;
        ring.words = words.into();
        assert_eq!(ring.locate(KeyHash(shared)), 1);
        assert_eq!(ring.locate(KeyHash(shared | NODE_MASK)), 1);
        assert_eq!(ring.locate(KeyHash(shared + (1 << NODE_BITS))), 0);
        assert_eq!(ring.locate(KeyHash(u64::MAX)), 1);
        assert_eq!(ring.arc_ends().count(), 3);
    }

    #[test]
    fn too_many_points_are_refused_before_they_are_made() {
        let one = Membership::new([Node::new("a").with_weight(u32::MAX)]).unwrap();
        assert!(matches!(HashRing::new(one, 256), Err(RingError::TooManySlots { .. })));
    }
}
