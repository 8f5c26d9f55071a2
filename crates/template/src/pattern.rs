//! One sequence of words and values that a template has been seen with.

use crate::element::{Element, WILDCARD};
use crate::hash::at_position;
use crate::sentence::canonical_key;

/// A set of positions in a pattern, as bits.
pub(crate) type Positions = u128;

/// The positions of a set, in order.
pub(crate) fn positions(mut set: Positions) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let position = set.trailing_zeros() as usize;
        set &= set.wrapping_sub(1);
        (position < Positions::BITS as usize).then_some(position)
    })
}

/// A message that stands for all that differ from it in their values and at
/// certain positions only.
#[derive(Debug)]
pub(crate) struct Pattern {
    /// The message, as far as it was considered.
    pub(crate) text: Box<str>,
    /// Whether the message went on.
    pub(crate) is_cut: bool,
    /// What [`text`](Self::text) consists of.
    pub(crate) elements: Box<[Element]>,
    /// Where words have turned out to be values.
    pub(crate) parameters: Positions,
    /// Whose pattern it is: a place in [`Templates`](crate::templates::Templates).
    pub(crate) template: u32,
    /// How many lines it has matched.
    pub(crate) count: u64,
    /// The number of the line that it matched last.
    pub(crate) last_line: u64,
    /// When it came to be, among all patterns.
    pub(crate) born: u64,
}

impl Pattern {
    /// Whether every word here counts as a value.
    pub(crate) fn is_parameter(&self, position: usize) -> bool {
        self.parameters >> position & 1 == 1
    }

    /// Whether anything may stand here.
    pub(crate) fn is_wild(&self, position: usize) -> bool {
        self.is_parameter(position) || self.elements[position].is_value()
    }

    /// What has to stand here.
    pub(crate) fn key_at(&self, position: usize) -> u64 {
        if self.is_parameter(position) { WILDCARD } else { self.elements[position].key }
    }

    /// Equal for messages of the same words in the same places.
    pub(crate) fn key(&self) -> u64 {
        exchanged(self.elements.len(), base_key(&self.elements), &self.elements, self.parameters)
    }

    /// Equal for patterns that only differ in how many values stand in a row.
    pub(crate) fn canonical(&self) -> u64 {
        canonical_key((0..self.elements.len()).map(|position| {
            let may_repeat = self.is_wild(position) || self.elements[position].may_repeat();
            (self.key_at(position), may_repeat)
        }))
    }

    /// The keys of its thirds that hold a word. Two patterns of one length that
    /// differ in at most two positions share a third.
    pub(crate) fn thirds(&self) -> impl Iterator<Item = u64> {
        let length = self.elements.len();
        (0..3).filter_map(move |third| {
            let range = length * third / 3..length * (third + 1) / 3;
            let mut words = range.clone().filter(|&position| !self.is_wild(position));
            words.next()?;
            let key = range.fold(0_u64, |key, position| {
                key.wrapping_add(at_position(self.key_at(position), position))
            });
            Some(at_position(key, length * 3 + third))
        })
    }
}

/// The key of a message none of whose words is a parameter.
#[inline]
pub(crate) fn base_key(elements: &[Element]) -> u64 {
    elements.iter().enumerate().fold(elements.len() as u64, |key, (position, element)| {
        key.wrapping_add(at_position(element.key, position))
    })
}

/// The key of a message when the words at `parameters` are.
#[inline]
pub(crate) fn exchanged(
    length: usize,
    base: u64,
    elements: &[Element],
    parameters: Positions,
) -> u64 {
    positions(parameters).take_while(|&position| position < length).fold(base, |key, position| {
        key.wrapping_sub(at_position(elements[position].key, position))
            .wrapping_add(at_position(WILDCARD, position))
    })
}
