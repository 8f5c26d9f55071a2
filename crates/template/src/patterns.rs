//! All patterns, found by message or by likeness.

use crate::element::Element;
use crate::hash::HashedMap;
use crate::pattern::{Pattern, Positions, base_key, exchanged};
use crate::sentence::MAX_ELEMENTS;

/// How many sets of parameters the patterns of one length may have. A look-up
/// tries each of them in the worst case.
const MAX_PARAMETER_SETS: usize = 64;

/// How many patterns that share a third are looked at: the latest.
const MAX_ALIKE: usize = 256;

/// The positions that are parameters in some patterns of one length.
struct ParameterSet {
    positions: Positions,
    patterns: u32,
}

/// Patterns by their key and by their thirds.
#[derive(Default)]
pub(crate) struct Patterns {
    slots: Vec<Option<Pattern>>,
    free: Vec<u32>,
    by_key: HashedMap<u32>,
    /// By length; those with the fewest positions first.
    parameter_sets: Vec<Vec<ParameterSet>>,
    by_third: HashedMap<Vec<u32>>,
}

impl Patterns {
    pub(crate) fn new() -> Self {
        let mut parameter_sets = Vec::new();
        parameter_sets.resize_with(MAX_ELEMENTS + 2, Vec::new);
        Self { parameter_sets, ..Self::default() }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// All, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Pattern)> {
        self.slots.iter().zip(0..).filter_map(|(slot, at)| Some((at, slot.as_ref()?)))
    }

    pub(crate) fn get(&self, at: u32) -> &Pattern {
        self.slots[at as usize].as_ref().expect("only patterns that are there are referred to")
    }

    pub(crate) fn get_mut(&mut self, at: u32) -> &mut Pattern {
        self.slots[at as usize].as_mut().expect("only patterns that are there are referred to")
    }

    /// The pattern that a message matches; of several the one with the fewest parameters.
    #[inline]
    pub(crate) fn matching(&self, elements: &[Element]) -> Option<u32> {
        let base = base_key(elements);
        if let Some(&at) = self.by_key.get(&base) {
            return Some(at);
        }
        self.parameter_sets[elements.len()].iter().find_map(|set| {
            let key = exchanged(elements.len(), base, elements, set.positions);
            self.by_key.get(&key).copied()
        })
    }

    /// The pattern with this key.
    pub(crate) fn with_key(&self, key: u64) -> Option<u32> {
        self.by_key.get(&key).copied()
    }

    /// Whether a pattern of this length may have these parameters.
    pub(crate) fn has_room_for(&self, length: usize, positions: Positions) -> bool {
        let sets = &self.parameter_sets[length];
        sets.len() < MAX_PARAMETER_SETS || sets.iter().any(|set| set.positions == positions)
    }

    /// Adds a pattern whose key is not there yet.
    pub(crate) fn insert(&mut self, pattern: Pattern) -> u32 {
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.by_key.insert(pattern.key(), at);
        for third in pattern.thirds() {
            self.by_third.entry(third).or_default().push(at);
        }
        if pattern.parameters != 0 {
            let sets = &mut self.parameter_sets[pattern.elements.len()];
            let rank = |positions: Positions| (positions.count_ones(), positions);
            let sought = rank(pattern.parameters);
            match sets.binary_search_by_key(&sought, |set| rank(set.positions)) {
                Ok(found) => sets[found].patterns += 1,
                Err(place) => {
                    let positions = pattern.parameters;
                    sets.insert(place, ParameterSet { positions, patterns: 1 });
                }
            }
        }
        self.slots[at as usize] = Some(pattern);
        at
    }

    /// Takes a pattern out.
    pub(crate) fn remove(&mut self, at: u32) -> Pattern {
        let pattern =
            self.slots[at as usize].take().expect("only patterns that are there are referred to");
        self.free.push(at);
        self.by_key.remove(&pattern.key());
        for third in pattern.thirds() {
            strike_out(&mut self.by_third, third, at);
        }
        let sets = &mut self.parameter_sets[pattern.elements.len()];
        if let Some(set) = sets.iter_mut().find(|set| set.positions == pattern.parameters) {
            set.patterns -= 1;
            sets.retain(|set| set.patterns > 0);
        }
        pattern
    }

    /// All patterns that agree with this one but at `parameters`, itself among them.
    ///
    /// Looks at every pattern.
    pub(crate) fn covered(&self, at: u32, parameters: Positions) -> Vec<u32> {
        let pattern = self.get(at);
        let agrees = |other: &Pattern| {
            other.elements.len() == pattern.elements.len()
                && (0..pattern.elements.len()).all(|position| {
                    parameters >> position & 1 == 1
                        || other.key_at(position) == pattern.key_at(position)
                })
        };
        self.iter().filter(|(_, other)| agrees(other)).map(|(other, _)| other).collect()
    }

    /// The other patterns of the same length that share a third with this one.
    pub(crate) fn alike(&self, at: u32) -> Vec<u32> {
        let mut alike: Vec<u32> = self
            .get(at)
            .thirds()
            .filter_map(|third| self.by_third.get(&third))
            .flat_map(|alike| &alike[alike.len().saturating_sub(MAX_ALIKE)..])
            .copied()
            .filter(|&other| other != at)
            .collect();
        alike.sort_unstable();
        alike.dedup();
        alike
    }
}

fn strike_out(lists: &mut HashedMap<Vec<u32>>, key: u64, at: u32) {
    if let Some(list) = lists.get_mut(&key) {
        list.retain(|&other| other != at);
        if list.is_empty() {
            lists.remove(&key);
        }
    }
}
