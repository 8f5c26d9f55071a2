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
    /// In the order of birth.
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
            let Some(alike) = self.by_third.get_mut(&third) else { continue };
            // They are in the order of birth, and this one's slot is empty now.
            let born = |&other: &u32| {
                self.slots[other as usize].as_ref().map_or(pattern.born, |other| other.born)
            };
            if let Ok(place) = alike.binary_search_by_key(&pattern.born, born) {
                alike.remove(place);
            }
            if alike.is_empty() {
                self.by_third.remove(&third);
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sentence::Reader;

    fn pattern(text: &str, parameters: Positions, born: u64) -> Pattern {
        let elements = Reader::default().read(text, false).into();
        let (template, count, last_line) = (0, 1, born);
        let text = text.into();
        Pattern { text, is_cut: false, elements, parameters, template, count, last_line, born }
    }

    fn found(patterns: &Patterns, text: &str) -> Option<u64> {
        let at = patterns.matching(Reader::default().read(text, false))?;
        Some(patterns.get(at).born)
    }

    #[test]
    fn the_pattern_with_the_fewest_parameters_is_found() {
        let mut patterns = Patterns::new();
        patterns.insert(pattern("user alice logged in", 0b1010, 1));
        patterns.insert(pattern("user alice logged in", 0b0010, 2));
        patterns.insert(pattern("user root logged in", 0, 3));
        assert_eq!(found(&patterns, "user root logged in"), Some(3));
        assert_eq!(found(&patterns, "user bob logged in"), Some(2));
        assert_eq!(found(&patterns, "user bob logged out"), Some(1));
        assert_eq!(found(&patterns, "user bob went out"), None);
    }

    #[test]
    fn a_pattern_that_was_taken_out_is_not_found() {
        let mut patterns = Patterns::new();
        let first = patterns.insert(pattern("user alice logged in", 0b0010, 1));
        let second = patterns.insert(pattern("user root logged out", 0, 2));
        assert_eq!(patterns.alike(second), [first]);
        patterns.remove(first);
        assert_eq!(patterns.len(), 1);
        assert_eq!(found(&patterns, "user bob logged in"), None);
        assert!(patterns.alike(second).is_empty());
        patterns.remove(second);
        assert!(patterns.by_third.is_empty() && patterns.parameter_sets.iter().all(Vec::is_empty));
    }

    #[test]
    fn patterns_of_one_length_that_differ_in_two_places_are_alike() {
        let mut patterns = Patterns::new();
        let first = patterns.insert(pattern("a b c d e f", 0, 1));
        let second = patterns.insert(pattern("a x c d y f", 0, 2));
        let third = patterns.insert(pattern("a b c d e f g", 0, 3));
        assert_eq!(patterns.alike(first), [second]);
        assert!(patterns.alike(third).is_empty());
    }

    #[test]
    fn room_for_sets_of_parameters_ends() {
        let mut patterns = Patterns::new();
        let text = "a b c d e f g h i j";
        for set in 1..=MAX_PARAMETER_SETS as u64 {
            assert!(patterns.has_room_for(10, Positions::from(set)));
            patterns.insert(pattern(text, Positions::from(set), set));
        }
        assert!(!patterns.has_room_for(10, 1000));
        assert!(patterns.has_room_for(10, 5));
    }
}
