//! Templates by id, and what became of those that are gone.

use std::collections::VecDeque;

use crate::hash::HashedMap;

/// A template that is there.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: u64,
    pub(crate) count: u64,
    /// When it came to be; counts as patterns do.
    pub(crate) born: u64,
    /// Its patterns; at least one.
    pub(crate) patterns: Vec<u32>,
}

/// Where the patterns of a canonical key belong.
struct Home {
    template: u32,
    patterns: u32,
}

/// Templates by their place, by their id, and by the canonical keys of their patterns.
#[derive(Default)]
pub(crate) struct Templates {
    slots: Vec<Option<Entry>>,
    free: Vec<u32>,
    by_id: HashedMap<u32>,
    homes: HashedMap<Home>,
    /// From the id of each template that was merged to the one it went into.
    /// No template that is there has one.
    redirects: HashedMap<u64>,
    /// Their keys, the oldest first. A chain of redirects is made front to
    /// back, so what is forgotten is always the front of one.
    redirect_order: VecDeque<u64>,
    max_redirects: usize,
    /// How many redirects were recorded, those forgotten included.
    pub(crate) merges: u64,
}

impl Templates {
    pub(crate) fn new(max_redirects: usize) -> Self {
        Self { max_redirects, ..Self::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().flatten()
    }

    pub(crate) fn get(&self, at: u32) -> &Entry {
        self.slots[at as usize].as_ref().expect("only templates that are there are referred to")
    }

    pub(crate) fn get_mut(&mut self, at: u32) -> &mut Entry {
        self.slots[at as usize].as_mut().expect("only templates that are there are referred to")
    }

    pub(crate) fn with_id(&self, id: u64) -> Option<u32> {
        self.by_id.get(&id).copied()
    }

    /// The template that one of this id is or went into.
    pub(crate) fn resolve(&self, mut id: u64) -> u64 {
        while let Some(&next) = self.redirects.get(&id) {
            id = next;
        }
        id
    }

    /// All redirects, the oldest first.
    pub(crate) fn redirects(
        &self,
    ) -> impl ExactSizeIterator<Item = (u64, u64)> + DoubleEndedIterator {
        self.redirect_order.iter().map(|id| (*id, self.redirects[id]))
    }

    /// Records where a template went that is not there (any more).
    pub(crate) fn redirect(&mut self, id: u64, into: u64) {
        self.merges += 1;
        if self.redirects.insert(id, into).is_none() {
            self.redirect_order.push_back(id);
        }
        if self.redirect_order.len() > self.max_redirects
            && let Some(oldest) = self.redirect_order.pop_front()
        {
            self.redirects.remove(&oldest);
        }
    }

    /// Adds a template without patterns.
    pub(crate) fn insert(&mut self, id: u64, born: u64) -> u32 {
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        if self.redirects.remove(&id).is_some() {
            self.redirect_order.retain(|&other| other != id);
        }
        self.slots[at as usize] = Some(Entry { id, count: 0, born, patterns: Vec::new() });
        self.by_id.insert(id, at);
        at
    }

    /// Takes a template out.
    pub(crate) fn remove(&mut self, at: u32) -> Entry {
        let entry =
            self.slots[at as usize].take().expect("only templates that are there are referred to");
        self.free.push(at);
        self.by_id.remove(&entry.id);
        entry
    }

    /// Which template has the patterns with this canonical key.
    pub(crate) fn home(&self, canonical: u64) -> Option<u32> {
        self.homes.get(&canonical).map(|home| home.template)
    }

    /// Gives a template a pattern.
    pub(crate) fn settle(&mut self, at: u32, pattern: u32, canonical: u64) {
        self.get_mut(at).patterns.push(pattern);
        self.homes.entry(canonical).or_insert(Home { template: at, patterns: 0 }).patterns += 1;
    }

    /// Takes a pattern away from a template.
    pub(crate) fn unsettle(&mut self, at: u32, pattern: u32, canonical: u64) {
        self.get_mut(at).patterns.retain(|&other| other != pattern);
        if let Some(home) = self.homes.get_mut(&canonical) {
            home.patterns -= 1;
            if home.patterns == 0 {
                self.homes.remove(&canonical);
            }
        }
    }

    /// Records that all patterns with this canonical key have moved.
    pub(crate) fn rehome(&mut self, canonical: u64, at: u32) {
        if let Some(home) = self.homes.get_mut(&canonical) {
            home.template = at;
        }
    }
}
