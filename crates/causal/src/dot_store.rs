//! Dot stores: the shapes of live data that causal objects are made of.

use alloc::{collections::BTreeMap, vec, vec::Vec};
use core::fmt::Debug;

use crate::{
    causal::Causal,
    context::CausalContext,
    replica::{Dot, ReplicaId},
    wire::{DecodeError, Reader, Wire, put_varint},
};

/// Live data tagged with the dots that wrote it.
///
/// Together with a [`CausalContext`] it makes a [`Causal`] object. A dot that is
/// in the context but not in the store was removed, so removal needs no
/// tombstone. [`DotFun`] and [`DotMap`], which nests any of them, cover the known
/// causal objects; the trait is sealed.
///
/// Source: Almeida, Shoker, Baquero, *Delta State Replicated Data Types*, 2018,
/// on dot stores and their joins.
pub trait DotStore: Clone + Debug + Default + Eq + sealed::Sealed {
    /// [`Crdt::KIND`](crate::Crdt::KIND) of the object with this store.
    const KIND: u8;

    /// Whether no dot is live.
    fn is_empty(&self) -> bool;

    /// Appends the live dots to `out`.
    fn dots(&self, out: &mut Vec<Dot>);

    /// Drops what was written by dots that `keep` refuses.
    fn retain(&mut self, keep: &dyn Fn(Dot) -> bool);

    /// Keeps what is live on both sides and what is live on one and unseen by the
    /// other; says whether that changed `self`.
    fn join(&mut self, seen: &CausalContext, theirs: &Self, they_saw: &CausalContext) -> bool;

    /// Gives what `departed` wrote new dots from `next_dot`; returns just that part.
    fn rewrite(&mut self, departed: ReplicaId, next_dot: &mut dyn FnMut() -> Dot) -> Self;

    /// Appends the encoding; `context` holds all live dots.
    fn encode(&self, context: &CausalContext, out: &mut Vec<u8>);

    /// Reads what [`DotStore::encode`] wrote with the same `context`.
    ///
    /// # Errors
    /// [`DecodeError`], also where a dot is not in `context`.
    fn decode(context: &CausalContext, input: &mut Reader<'_>) -> Result<Self, DecodeError>;

    /// Removes everything and returns the delta. O(entries).
    fn clear(&mut self) -> Causal<Self> {
        let mut removed = Vec::new();
        self.dots(&mut removed);
        *self = Self::default();
        Causal::delta(Self::default(), removed)
    }
}

mod sealed {
    pub trait Sealed {}
    impl<V> Sealed for super::DotFun<V> {}
    impl<K, S> Sealed for super::DotMap<K, S> {}
}

/// Values by the dot that wrote them: the store of
/// [`MvRegister`](crate::MvRegister).
///
/// Source: as [`DotStore`], `DotFun`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DotFun<V>(Vec<(Dot, V)>);

/// Dots without values: the store of [`Flag`](crate::Flag) and of the elements of
/// an [`OrSet`](crate::OrSet).
///
/// Source: as [`DotStore`], `DotSet`.
pub type DotSet = DotFun<Present>;

/// The value of a dot that says no more than that it is there. No bytes on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Present;

impl Wire for Present {
    fn encode(&self, _: &mut Vec<u8>) {}

    fn decode(_: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self)
    }
}

impl<V> Default for DotFun<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<V> DotFun<V> {
    /// The values, by the dot that wrote them.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }
}

impl<V: Clone + Debug + Eq + Wire> DotFun<V> {
    /// Replaces all values by `value`, written by `dot`; returns the delta.
    pub fn write(&mut self, dot: Dot, value: V) -> Causal<Self> {
        let replaced = self.0.drain(..).map(|(replaced, _)| replaced);
        let delta = Causal::delta(Self(vec![(dot, value.clone())]), replaced.chain([dot]));
        self.0.push((dot, value));
        delta
    }
}

impl DotSet {
    /// Marks as present, by `dot`; returns the delta.
    pub fn enable(&mut self, dot: Dot) -> Causal<Self> {
        self.write(dot, Present)
    }
}

impl<V: Clone + Debug + Eq + Wire> DotStore for DotFun<V> {
    const KIND: u8 = 7;

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn dots(&self, out: &mut Vec<Dot>) {
        out.extend(self.0.iter().map(|(dot, _)| *dot));
    }

    fn retain(&mut self, keep: &dyn Fn(Dot) -> bool) {
        self.0.retain(|(dot, _)| keep(*dot));
    }

    fn join(&mut self, seen: &CausalContext, theirs: &Self, they_saw: &CausalContext) -> bool {
        let before = self.0.len();
        let in_theirs = |dot: &Dot| theirs.0.binary_search_by_key(dot, |(dot, _)| *dot).is_ok();
        self.0.retain(|(dot, _)| in_theirs(dot) || !they_saw.contains(*dot));
        let kept = self.0.len();
        self.0.extend(theirs.0.iter().filter(|(dot, _)| !seen.contains(*dot)).cloned());
        if self.0.len() > kept {
            self.0.sort_by_key(|(dot, _)| *dot);
        }
        kept < before || self.0.len() > kept
    }

    fn rewrite(&mut self, departed: ReplicaId, next_dot: &mut dyn FnMut() -> Dot) -> Self {
        let mut rewritten = Vec::new();
        for (dot, value) in self.0.iter_mut().filter(|(dot, _)| dot.replica == departed) {
            *dot = next_dot();
            rewritten.push((*dot, value.clone()));
        }
        self.0.sort_by_key(|(dot, _)| *dot);
        Self(rewritten)
    }

    fn encode(&self, context: &CausalContext, out: &mut Vec<u8>) {
        put_varint(out, self.0.len() as u64);
        for (dot, value) in &self.0 {
            context.encode_dot(*dot, out);
            value.encode(out);
        }
    }

    fn decode(context: &CausalContext, input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = input.count(2, "dots")?;
        let mut entries: Vec<(Dot, V)> = Vec::with_capacity(count);
        for _ in 0..count {
            let dot = context.decode_dot(input)?;
            if entries.last().is_some_and(|(last, _)| *last >= dot) {
                return Err(input.invalid("dots in ascending order"));
            }
            entries.push((dot, V::decode(input)?));
        }
        Ok(Self(entries))
    }
}

/// Stores by key, none of them empty: the store of [`OrSet`](crate::OrSet) and
/// [`OrMap`](crate::OrMap).
///
/// Source: as [`DotStore`], `DotMap`. n is the number of keys below.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DotMap<K, S>(BTreeMap<K, S>);

impl<K, S> Default for DotMap<K, S> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord, S> DotMap<K, S> {
    /// What is under `key`. O(log n).
    pub fn get(&self, key: &K) -> Option<&S> {
        self.0.get(key)
    }

    /// The entries, by key.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&K, &S)> {
        self.0.iter()
    }
}

impl<K: Clone + Debug + Ord + Wire, S: DotStore> DotMap<K, S> {
    /// Changes what is under `key`, which starts empty; returns the delta.
    /// O(log n) and the cost of `change`.
    pub fn update(&mut self, key: K, change: impl FnOnce(&mut S) -> Causal<S>) -> Causal<Self> {
        let entry = self.0.entry(key.clone()).or_default();
        let delta = change(entry);
        if entry.is_empty() {
            self.0.remove(&key);
        }
        delta.map(|store| {
            let touched = Some((key, store)).filter(|(_, store)| !store.is_empty());
            Self(touched.into_iter().collect())
        })
    }

    /// Whether all that the other side has seen is live there, or here under a key
    /// it has: so it is for deltas of additions and updates, whose join need not
    /// look at the other keys.
    fn is_changed_only_at_keys_of(&self, theirs: &Self, they_saw: &CausalContext) -> bool {
        if theirs.0.len() >= self.0.len() {
            return false; // a full state: walking both is cheaper
        }
        let (mut live_there, mut live_here) = (Vec::new(), Vec::new());
        for (key, store) in &theirs.0 {
            store.dots(&mut live_there);
            if let Some(store) = self.0.get(key) {
                store.dots(&mut live_here);
            }
        }
        live_there.sort_unstable();
        let replaced =
            |dot: &&Dot| they_saw.contains(**dot) && live_there.binary_search(dot).is_err();
        let replaced = live_here.iter().filter(replaced).count();
        they_saw.events() == (live_there.len() + replaced) as u64
    }

    /// Removes `key` with all that is under it; returns the delta. O(log n + entries removed).
    pub fn remove(&mut self, key: &K) -> Causal<Self> {
        let mut removed = Vec::new();
        if let Some(store) = self.0.remove(key) {
            store.dots(&mut removed);
        }
        Causal::delta(Self::default(), removed)
    }
}

impl<K: Clone + Debug + Ord + Wire, S: DotStore> DotStore for DotMap<K, S> {
    const KIND: u8 = 8;

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn dots(&self, out: &mut Vec<Dot>) {
        self.0.values().for_each(|store| store.dots(out));
    }

    fn retain(&mut self, keep: &dyn Fn(Dot) -> bool) {
        self.0.retain(|_, store| {
            store.retain(keep);
            !store.is_empty()
        });
    }

    fn join(&mut self, seen: &CausalContext, theirs: &Self, they_saw: &CausalContext) -> bool {
        let nothing = S::default();
        let mut changed = false;
        if self.is_changed_only_at_keys_of(theirs, they_saw) {
            for (key, theirs) in &theirs.0 {
                let mut store = self.0.remove(key).unwrap_or_default();
                changed |= store.join(seen, theirs, they_saw);
                if !store.is_empty() {
                    self.0.insert(key.clone(), store);
                }
            }
            return changed;
        }
        let mut only_theirs = Vec::new();
        let mut rest = theirs.0.iter().peekable();
        self.0.retain(|key, store| {
            while let Some(entry) = rest.next_if(|(other, _)| *other < key) {
                only_theirs.push(entry);
            }
            let other = rest.next_if(|(other, _)| *other == key).map_or(&nothing, |(_, s)| s);
            changed |= store.join(seen, other, they_saw);
            !store.is_empty()
        });
        for (key, theirs) in only_theirs.into_iter().chain(rest) {
            let mut store = S::default();
            if store.join(seen, theirs, they_saw) {
                changed = true;
                self.0.insert(key.clone(), store);
            }
        }
        changed
    }

    fn rewrite(&mut self, departed: ReplicaId, next_dot: &mut dyn FnMut() -> Dot) -> Self {
        let rewritten = self.0.iter_mut().map(|(key, store)| {
            let part = store.rewrite(departed, next_dot);
            (key.clone(), part)
        });
        Self(rewritten.filter(|(_, store)| !store.is_empty()).collect())
    }

    fn encode(&self, context: &CausalContext, out: &mut Vec<u8>) {
        put_varint(out, self.0.len() as u64);
        for (key, store) in &self.0 {
            key.encode(out);
            store.encode(context, out);
        }
    }

    fn decode(context: &CausalContext, input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = input.count(2, "keys")?;
        let mut entries = BTreeMap::new();
        for _ in 0..count {
            let key = K::decode(input)?;
            let store = S::decode(context, input)?;
            if entries.last_key_value().is_some_and(|(last, _)| *last >= key) || store.is_empty() {
                return Err(input.invalid("keys in ascending order, none of them empty"));
            }
            entries.insert(key, store);
        }
        Ok(Self(entries))
    }
}
