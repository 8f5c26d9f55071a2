//! Values with dotted version vectors: what a key of a Dynamo-style store holds.

use alloc::vec::Vec;

use crate::{
    crdt::Crdt,
    replica::{Dot, ReplicaId},
    replica_map::ReplicaMap,
    vector_clock::VectorClock,
    wire::{DecodeError, Reader, Wire, put_varint},
};

/// The concurrent values of one key, as a dotted version vector set.
///
/// A client reads [`Siblings::values`] with [`Siblings::context`], and writes back
/// with that context: the write replaces exactly what the client saw. Each value
/// remembers its own dot next to the context it was read in, so a slow client's
/// write becomes one sibling and the next write of a client that saw both
/// resolves them. With plain version vectors per server, interleaved writers make
/// each other's old values look concurrent again and siblings pile up without end
/// (*sibling explosion*); here there are never more than writes that did not
/// see one another. A client that writes without reading makes a sibling each
/// time: limit [`Siblings::len`] above.
///
/// The context holds one number per *server* that coordinated a write, however
/// many clients there are. One replica must apply its writes to a key one after
/// the other, and replicates by sending the whole object: it is the size of what
/// a delta would be.
///
/// ```
/// use thalweg_causal::{ReplicaId, Siblings, VectorClock};
///
/// let server = ReplicaId(1);
/// let mut cart = Siblings::default();
/// cart.write(server, &VectorClock::new(), "milk".to_string());
/// let seen_by_ann = cart.context();
/// let seen_by_bob = cart.context();
/// cart.write(server, &seen_by_ann, "milk, eggs".to_string());
/// cart.write(server, &seen_by_bob, "milk, flour".to_string());
/// assert_eq!(cart.values().collect::<Vec<_>>(), ["milk, eggs", "milk, flour"]);
///
/// cart.write(server, &cart.context(), "milk, eggs, flour".to_string());
/// assert_eq!(cart.values().collect::<Vec<_>>(), ["milk, eggs, flour"]);
/// ```
///
/// Sources: Preguiça et al., *Dotted Version Vectors*, 2010; the set form and its
/// operations: Almeida, Baquero, Gonçalves, Preguiça, Fonte, *Scalable and
/// Accurate Causality Tracking for Eventually Consistent Stores*, DAIS 2014.
/// n is the number of servers and v the number of values below.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Siblings<V>(ReplicaMap<Row<V>>);

/// Of one server: events `1..=last` are known, and the newest of them still have
/// values, oldest first; the others were overwritten.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Row<V> {
    last: u64,
    values: Vec<V>,
}

impl<V> Default for Row<V> {
    fn default() -> Self {
        Self { last: 0, values: Vec::new() }
    }
}

impl<V> Row<V> {
    /// The newest event known to be overwritten.
    fn overwritten(&self) -> u64 {
        self.last - self.values.len() as u64
    }

    /// Drops the values of events up to `counter`.
    fn overwrite(&mut self, counter: u64) {
        let stale = counter.saturating_sub(self.overwritten());
        let stale = usize::try_from(stale).unwrap_or(usize::MAX).min(self.values.len());
        self.values.drain(..stale);
        self.last = self.last.max(counter);
    }

    fn push(&mut self, value: V) {
        self.last = self.last.checked_add(1).expect("a replica makes under 2^64 events");
        self.values.push(value);
    }
}

impl<V> Default for Siblings<V> {
    fn default() -> Self {
        Self(ReplicaMap::default())
    }
}

impl<V> Siblings<V> {
    /// The values that no other value has overwritten, by server and age. O(n + v).
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().flat_map(|(_, row)| &row.values)
    }

    /// The number of values. O(n).
    pub fn len(&self) -> usize {
        self.0.iter().map(|(_, row)| row.values.len()).sum()
    }

    /// Whether there is no value: never written, or cleared. O(n).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All events that led to the values: what a client must hand back to
    /// overwrite them. O(n).
    pub fn context(&self) -> VectorClock {
        self.0.iter().map(|(replica, row)| (replica, row.last)).collect()
    }

    /// Replaces what `observed` covers by `value`, at `replica`. O(n + v).
    ///
    /// `observed` may be ahead of this replica (the client read from another
    /// one): the write is accepted and wins over the values still to arrive.
    ///
    /// # Panics
    /// After 2⁶⁴ − 1 events of one replica.
    pub fn write(&mut self, replica: ReplicaId, observed: &VectorClock, value: V) -> Dot {
        self.clear(observed);
        let row = self.0.entry(replica);
        row.push(value);
        Dot { replica, counter: row.last }
    }

    /// Deletes what `observed` covers; concurrent writes stay. O(n + v).
    ///
    /// The context remains, as the memory that those values are gone.
    pub fn clear(&mut self, observed: &VectorClock) {
        let unknown = |last: &u64| Row { last: *last, values: Vec::new() };
        self.0.merge_from(observed.entries(), unknown, |row, counter| {
            row.overwrite(*counter);
            true
        });
    }
}

impl<V: Clone + Eq + Wire> Crdt for Siblings<V> {
    const KIND: u8 = 6;

    /// Keeps the values that neither side knows to be overwritten. O(n + v).
    fn merge(&mut self, other: &Self) -> bool {
        self.0.merge(&other.0, |mine, theirs| {
            let before = (mine.last, mine.values.len());
            if mine.last < theirs.last {
                let overwritten = mine.overwritten();
                mine.clone_from(theirs);
                mine.overwrite(overwritten);
            } else {
                mine.overwrite(theirs.overwritten());
            }
            before != (mine.last, mine.values.len())
        })
    }

    /// Rewrites the values of `departed` as new events of `heir`. The delta is the
    /// whole object.
    fn retire(&mut self, departed: ReplicaId, heir: ReplicaId) -> Self {
        if departed != heir
            && let Some(row) = self.0.get_mut(departed)
        {
            let values = core::mem::take(&mut row.values);
            for value in values {
                self.0.entry(heir).push(value);
            }
        }
        self.clone()
    }

    fn forget(&mut self, departed: ReplicaId) {
        self.0.remove(departed);
    }
}

impl<V: Wire> Wire for Siblings<V> {
    /// Per server: last event, number of values, values.
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode_with(out, |row, out| {
            put_varint(out, row.last);
            put_varint(out, row.values.len() as u64);
            for value in &row.values {
                value.encode(out);
            }
        });
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        ReplicaMap::decode_with(input, |input| {
            let last = input.counter("an event count")?;
            let count = input.count(1, "values")?;
            if last == 0 || count as u64 > last {
                return Err(input.invalid("as many events as values, and one at least"));
            }
            let mut values = Vec::with_capacity(count);
            for _ in 0..count {
                values.push(V::decode(input)?);
            }
            Ok(Row { last, values })
        })
        .map(Self)
    }
}
