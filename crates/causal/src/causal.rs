//! Causal objects: a dot store and the context that says which dots are gone.

use alloc::vec::Vec;
use core::fmt::Debug;

use crate::{
    context::CausalContext,
    crdt::Crdt,
    dot_store::{DotFun, DotMap, DotSet, DotStore},
    replica::{Dot, ReplicaId},
    wire::{DecodeError, Reader, Wire},
};

/// A convergent object without tombstones: live data and everything ever seen.
///
/// What it is depends on the store: see [`Flag`], [`MvRegister`], [`OrSet`] and
/// [`OrMap`]. In all of them a write beats the removals that had not seen it,
/// and the size is that of the live data plus one number per replica.
///
/// Source: Almeida, Shoker, Baquero, *Delta State Replicated Data Types*, 2018,
/// part on causal δ-CRDTs. n is the number of live entries below.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Causal<S> {
    store: S,
    context: CausalContext,
}

/// A flag: enabled while an enabling is not seen by a clearing.
///
/// ```
/// use thalweg_causal::{Crdt, Flag, ReplicaId};
///
/// let mut here = Flag::default();
/// here.enable(ReplicaId(1));
/// let mut there = here.clone();
/// here.clear();
/// there.enable(ReplicaId(2));
/// here.merge(&there);
/// assert!(here.is_enabled(), "the enabling was not seen by the clearing");
/// ```
///
/// Source: as [`Causal`], enable-wins flag.
pub type Flag = Causal<DotSet>;

/// A register that keeps concurrent writes side by side until one that saw them
/// replaces them.
///
/// ```
/// use thalweg_causal::{Crdt, MvRegister, ReplicaId};
///
/// let (mut here, mut there) = (MvRegister::default(), MvRegister::default());
/// here.write(ReplicaId(1), "red".to_string());
/// there.write(ReplicaId(2), "blue".to_string());
/// here.merge(&there);
/// assert_eq!(here.values().collect::<Vec<_>>(), ["red", "blue"]);
/// here.write(ReplicaId(1), "violet".to_string());
/// assert_eq!(here.values().collect::<Vec<_>>(), ["violet"]);
/// ```
///
/// Source: as [`Causal`], multi-value register.
pub type MvRegister<V> = Causal<DotFun<V>>;

/// A set in which an addition beats the removals that did not see it.
///
/// ```
/// use thalweg_causal::{Crdt, OrSet, ReplicaId};
///
/// let mut tags = OrSet::default();
/// let added = tags.add(ReplicaId(1), "rust".to_string());
/// let removed = tags.remove(&"rust".to_string());
/// let mut elsewhere = OrSet::default();
/// elsewhere.merge(&removed); // out of order, and twice
/// elsewhere.merge(&added);
/// elsewhere.merge(&removed);
/// assert!(elsewhere.is_empty());
/// ```
///
/// Source: Bieniusa et al., *An Optimized Conflict-free Replicated Set*, INRIA
/// RR-8083, 2012; with deltas: as [`Causal`], add-wins set.
pub type OrSet<T> = Causal<DotMap<T, DotSet>>;

/// A map whose values are dot stores; an update beats the removals that did not
/// see it, and values merge by their own rules.
///
/// Values are named by their store: [`DotSet`] for a flag, [`DotFun`] for a
/// register, [`DotMap`] for a set or another map.
///
/// ```
/// use thalweg_causal::{DotFun, OrMap, ReplicaId};
///
/// let mut profile = OrMap::<String, DotFun<String>>::default();
/// let delta = profile.update(ReplicaId(1), "city".to_string(), |city, dot| {
///     city.write(dot, "Porto".to_string())
/// });
/// let city = delta.get(&"city".to_string()).expect("a delta holds what changed");
/// assert_eq!(city.values().collect::<Vec<_>>(), ["Porto"]);
/// ```
///
/// Source: as [`Causal`], map embedding causal δ-CRDTs.
pub type OrMap<K, S> = Causal<DotMap<K, S>>;

/// The caller has seen events that this replica has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a causal context this replica covers, found event {missing} it has not seen: merge \
     the object from a peer, then try again"
)]
pub struct ContextAhead {
    /// The first such event.
    pub missing: Dot,
}

impl<S: DotStore> Causal<S> {
    pub(crate) fn delta(store: S, dots: impl IntoIterator<Item = Dot>) -> Self {
        Self { store, context: dots.into_iter().collect() }
    }

    pub(crate) fn map<T>(self, wrap: impl FnOnce(S) -> T) -> Causal<T> {
        Causal { store: wrap(self.store), context: self.context }
    }

    /// Everything seen: what a client hands back to say what it acted upon.
    pub fn context(&self) -> &CausalContext {
        &self.context
    }

    /// Whether nothing is live; the context may still remember what is gone.
    pub fn is_empty(&self) -> bool {
        self.store.is_empty()
    }

    /// Makes one event of `replica`, changes the store by it, and returns the delta.
    ///
    /// `change` uses methods of the store that return deltas, and its dot at most
    /// once: dots are unique.
    pub fn mutate(&mut self, replica: ReplicaId, change: impl FnOnce(&mut S, Dot) -> Self) -> Self {
        let dot = self.context.next_dot(replica);
        let delta = change(&mut self.store, dot);
        if delta.context.contains(dot) {
            self.context.insert(dot);
        }
        delta
    }

    /// Removes all that is live here and returns the delta. O(n).
    pub fn clear(&mut self) -> Self {
        self.store.clear()
    }

    /// This object as a client with `context` saw it, to act in its name.
    ///
    /// Mutate the view and merge the delta into the object: a removal then spares
    /// what the client had not seen.
    ///
    /// ```
    /// use thalweg_causal::{Crdt, OrSet, ReplicaId};
    ///
    /// let mut queue = OrSet::default();
    /// queue.add(ReplicaId(1), 1u64);
    /// let seen_by_client = queue.context().clone();
    /// queue.add(ReplicaId(1), 1u64); // again, after the client looked
    /// let delta = queue.observed(&seen_by_client)?.remove(&1);
    /// queue.merge(&delta);
    /// assert!(queue.contains(&1));
    /// # Ok::<(), thalweg_causal::ContextAhead>(())
    /// ```
    ///
    /// O(n), a copy.
    ///
    /// # Errors
    /// [`ContextAhead`] when the client has seen more than this replica, so that
    /// what it means to remove may not have arrived yet.
    pub fn observed(&self, context: &CausalContext) -> Result<Self, ContextAhead> {
        if let Some(missing) = self.context.first_missing(context) {
            return Err(ContextAhead { missing });
        }
        let mut view = self.clone();
        view.store.retain(&|dot| context.contains(dot));
        Ok(view)
    }
}

impl Flag {
    /// Enables at `replica` and returns the delta. O(1).
    pub fn enable(&mut self, replica: ReplicaId) -> Self {
        self.mutate(replica, DotSet::enable)
    }

    /// Whether it is enabled; [`Causal::clear`] disables.
    pub fn is_enabled(&self) -> bool {
        !self.store.is_empty()
    }
}

impl<V: Clone + Debug + Eq + Wire> MvRegister<V> {
    /// Replaces the values seen here by `value` and returns the delta. O(n).
    pub fn write(&mut self, replica: ReplicaId, value: V) -> Self {
        self.mutate(replica, |values, dot| values.write(dot, value))
    }

    /// The concurrent values, by the dot that wrote them.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &V> {
        self.store.values()
    }
}

impl<K: Clone + Debug + Ord + Wire, S: DotStore> OrMap<K, S> {
    /// Changes what is under `key` and returns the delta; as [`Causal::mutate`].
    /// O(log n) and the cost of `change`.
    pub fn update(
        &mut self,
        replica: ReplicaId,
        key: K,
        change: impl FnOnce(&mut S, Dot) -> Causal<S>,
    ) -> Self {
        self.mutate(replica, |map, dot| map.update(key, |store| change(store, dot)))
    }

    /// Removes `key` as seen here and returns the delta. O(log n + what is under it).
    pub fn remove(&mut self, key: &K) -> Self {
        self.store.remove(key)
    }

    /// What is under `key`. O(log n).
    pub fn get(&self, key: &K) -> Option<&S> {
        self.store.get(key)
    }

    /// Whether anything is under `key`. O(log n).
    pub fn contains(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// The entries, by key.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&K, &S)> {
        self.store.iter()
    }

    /// The keys of a map, or elements of a set, ascending.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.iter().len()
    }
}

impl<T: Clone + Debug + Ord + Wire> OrSet<T> {
    /// Adds `element` at `replica` and returns the delta. O(log n).
    pub fn add(&mut self, replica: ReplicaId, element: T) -> Self {
        self.update(replica, element, DotSet::enable)
    }
}

impl<S: DotStore> Crdt for Causal<S> {
    const KIND: u8 = S::KIND;

    /// O(n of both); for deltas of additions and updates O(k log n), where k is
    /// their number. A removal costs O(n), as its delta names dots and not keys.
    fn merge(&mut self, other: &Self) -> bool {
        let changed = self.store.join(&self.context, &other.store, &other.context);
        self.context.merge(&other.context) | changed
    }

    /// Rewrites what is live of `departed` as new events of `heir`. O(n).
    fn retire(&mut self, departed: ReplicaId, heir: ReplicaId) -> Self {
        if departed == heir {
            return Self::default();
        }
        let mut dots = Vec::new();
        self.store.dots(&mut dots);
        dots.retain(|dot| dot.replica == departed);
        let mut next = self.context.next_dot(heir);
        let store = self.store.rewrite(departed, &mut || {
            let dot = next;
            next.counter += 1;
            dots.push(dot);
            dot
        });
        let delta = Self::delta(store, dots);
        self.context.merge(&delta.context);
        delta
    }

    fn forget(&mut self, departed: ReplicaId) {
        self.store.retain(&|dot| dot.replica != departed);
        self.context.forget(departed);
    }
}

impl<S: DotStore> Wire for Causal<S> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.context.encode(out);
        self.store.encode(&self.context, out);
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let context = CausalContext::decode(input)?;
        let store = S::decode(&context, input)?;
        Ok(Self { store, context })
    }
}
