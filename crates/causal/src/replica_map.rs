//! A map from replicas to `T`, kept as one sorted array.
//!
//! Clusters have few replicas and joins read all of them, so a linear walk over
//! contiguous memory beats a tree.

use alloc::vec::Vec;
use core::cmp::Ordering;

use crate::{
    replica::ReplicaId,
    wire::{DecodeError, Reader, put_varint},
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ReplicaMap<T>(Vec<(ReplicaId, T)>);

impl<T> Default for ReplicaMap<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> ReplicaMap<T> {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (ReplicaId, &T)> {
        self.0.iter().map(|(replica, entry)| (*replica, entry))
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut().map(|(_, entry)| entry)
    }

    pub(crate) fn position(&self, replica: ReplicaId) -> Option<usize> {
        self.0.binary_search_by_key(&replica, |(id, _)| *id).ok()
    }

    pub(crate) fn at(&self, position: usize) -> Option<(ReplicaId, &T)> {
        self.0.get(position).map(|(replica, entry)| (*replica, entry))
    }

    pub(crate) fn get(&self, replica: ReplicaId) -> Option<&T> {
        self.position(replica).map(|position| &self.0[position].1)
    }

    pub(crate) fn get_mut(&mut self, replica: ReplicaId) -> Option<&mut T> {
        self.position(replica).map(|position| &mut self.0[position].1)
    }

    pub(crate) fn entry(&mut self, replica: ReplicaId) -> &mut T
    where
        T: Default,
    {
        let position = match self.0.binary_search_by_key(&replica, |(id, _)| *id) {
            Ok(position) => position,
            Err(position) => {
                self.0.insert(position, (replica, T::default()));
                position
            }
        };
        &mut self.0[position].1
    }

    pub(crate) fn remove(&mut self, replica: ReplicaId) -> Option<T> {
        self.position(replica).map(|position| self.0.remove(position).1)
    }

    /// Joins entry by entry; an entry only `other` has is copied. Says whether
    /// anything changed. O(n + m).
    pub(crate) fn merge(&mut self, other: &Self, join: impl FnMut(&mut T, &T) -> bool) -> bool
    where
        T: Clone,
    {
        self.merge_from(other, T::clone, join)
    }

    /// The same with entries of another type.
    pub(crate) fn merge_from<U>(
        &mut self,
        other: &ReplicaMap<U>,
        copy: impl Fn(&U) -> T,
        mut join: impl FnMut(&mut T, &U) -> bool,
    ) -> bool {
        let known = self.0.len();
        let (mut position, mut changed) = (0, false);
        for (replica, theirs) in &other.0 {
            while position < known && self.0[position].0 < *replica {
                position += 1;
            }
            if position < known && self.0[position].0 == *replica {
                changed |= join(&mut self.0[position].1, theirs);
            } else {
                self.0.push((*replica, copy(theirs)));
            }
        }
        if self.0.len() > known {
            // Two sorted runs: the stable sort merges them in linear time.
            self.0.sort_by_key(|(replica, _)| *replica);
            changed = true;
        }
        changed
    }

    /// Pairs the entries of both maps, replica by replica. O(n + m).
    pub(crate) fn zip<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = (ReplicaId, Option<&'a T>, Option<&'a T>)> {
        let (mut left, mut right) = (self.0.as_slice(), other.0.as_slice());
        core::iter::from_fn(move || {
            let order = match (left.first(), right.first()) {
                (Some((mine, _)), Some((theirs, _))) => mine.cmp(theirs),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return None,
            };
            let mine = if order.is_le() { left.split_off_first() } else { None };
            let theirs = if order.is_ge() { right.split_off_first() } else { None };
            let replica = mine.or(theirs)?.0;
            Some((replica, mine.map(|(_, entry)| entry), theirs.map(|(_, entry)| entry)))
        })
    }

    /// Ids in ascending order, each as its distance from the one before.
    pub(crate) fn encode_with(&self, out: &mut Vec<u8>, mut put: impl FnMut(&T, &mut Vec<u8>)) {
        put_varint(out, self.0.len() as u64);
        let mut next_id = 0;
        for (ReplicaId(id), entry) in &self.0 {
            put_varint(out, id - next_id);
            put(entry, out);
            next_id = id.wrapping_add(1);
        }
    }

    /// Reads what [`ReplicaMap::encode_with`] wrote; each entry takes a byte at least.
    pub(crate) fn decode_with<'a>(
        input: &mut Reader<'a>,
        mut get: impl FnMut(&mut Reader<'a>) -> Result<T, DecodeError>,
    ) -> Result<Self, DecodeError> {
        let count = input.count(2, "replicas")?;
        let mut entries: Vec<(ReplicaId, T)> = Vec::with_capacity(count);
        for _ in 0..count {
            let gap = input.varint("a replica id")?;
            let id = match entries.last() {
                None => Some(gap),
                Some((ReplicaId(last), _)) => {
                    last.checked_add(1).and_then(|next| next.checked_add(gap))
                }
            };
            let id = id.ok_or_else(|| input.invalid("a replica id below 2^64"))?;
            entries.push((ReplicaId(id), get(input)?));
        }
        Ok(Self(entries))
    }
}

impl<T> FromIterator<(ReplicaId, T)> for ReplicaMap<T> {
    /// Ids must be distinct.
    fn from_iter<I: IntoIterator<Item = (ReplicaId, T)>>(entries: I) -> Self {
        let mut entries: Vec<_> = entries.into_iter().collect();
        entries.sort_by_key(|(replica, _)| *replica);
        debug_assert!(entries.is_sorted_by(|a, b| a.0 < b.0), "replica ids are distinct");
        Self(entries)
    }
}
