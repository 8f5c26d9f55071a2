//! When words at one position are values of a parameter.
//!
//! Patterns that agree everywhere else show what stands at a position. Few
//! words there tell templates apart: `session opened`, `session closed`. Many
//! are values. How many it takes depends on how they look and on how much the
//! patterns agree in.

use std::cmp::Reverse;

use crate::element::{Context, Element, Kind};
use crate::pattern::{Pattern, Positions, positions};
use crate::patterns::Patterns;

/// What it takes, in half words.
const ENOUGH: u32 = 10;
/// How much more at the start of a message, where its verb or subject stands, if it always is a word.
const MORE_AT_START: u32 = 10;
/// How many positions may turn into parameters at once.
const MAX_POSITIONS: u32 = 8;
/// For how many positions it takes no more than for one.
const FREE_POSITIONS: u32 = 2;
/// How many sets of positions are tried for a pattern.
const MAX_TRIED: usize = 24;
/// What a plain word says.
const PLAIN: u32 = 2;
/// Values as rare as this keep coming; those of an enumeration have all been seen often.
const RARE: u64 = 2;
/// One in so many plain words has to be rare when the next one comes.
const RARE_SHARE: usize = 5;

/// That all patterns are one that differ from one of them at certain positions only.
pub(crate) struct Finding {
    /// One of them.
    pub(crate) pattern: u32,
    /// Where they have parameters.
    pub(crate) parameters: Positions,
}

/// How much a value says for a parameter, in half words.
fn weight(element: &Element) -> u32 {
    let by_look = match element.kind {
        Kind::Word => PLAIN,
        Kind::Name | Kind::Quoted => 4,
        Kind::Number => return 6,
        Kind::Value => return 8,
    };
    match element.context {
        Context::Plain => by_look,
        Context::Assigned => by_look + by_look / 2,
        Context::Named => by_look.max(4),
    }
}

/// Whether other patterns are one with this one.
///
/// Looks at patterns of the same length that differ in at most
/// [`MAX_POSITIONS`]; takes time linear in how many there are, times the
/// kinds of difference between them.
pub(crate) fn parameters_found(patterns: &Patterns, at: u32) -> Option<Finding> {
    let pattern = patterns.get(at);
    let mut alike: Vec<(Positions, u32)> = patterns
        .alike(at)
        .into_iter()
        .filter_map(|other| Some((difference(pattern, patterns.get(other))?, other)))
        .collect();
    alike.sort_unstable();
    let mut tried: Vec<(Positions, usize)> =
        alike.chunk_by(|one, other| one.0 == other.0).map(|same| (same[0].0, same.len())).collect();
    // Few positions first, and of many those in which the most patterns differ.
    tried.sort_unstable_by_key(|&(positions, patterns)| {
        let count = positions.count_ones();
        let rank = if count <= FREE_POSITIONS { (count, 0) } else { (u32::MAX, patterns) };
        (rank.0, Reverse(rank.1), positions)
    });
    tried.truncate(MAX_TRIED);
    let weighing = Weighing { patterns, at, alike: &alike };
    tried.iter().find_map(|&(positions, _)| weighing.finding(positions))
}

/// Where two patterns of one length differ, if in few positions.
fn difference(one: &Pattern, other: &Pattern) -> Option<Positions> {
    let mut found: Positions = 0;
    for position in 0..one.elements.len() {
        if one.key_at(position) != other.key_at(position) {
            found |= 1 << position;
            if found.count_ones() > MAX_POSITIONS {
                return None;
            }
        }
    }
    Some(found)
}

struct Weighing<'a> {
    patterns: &'a Patterns,
    at: u32,
    /// Where others differ from it, and the others.
    alike: &'a [(Positions, u32)],
}

impl Weighing<'_> {
    /// Whether these positions are parameters, or else those of them that are.
    fn finding(&self, mut candidates: Positions) -> Option<Finding> {
        let pattern = self.patterns.get(self.at);
        while candidates != 0 {
            let enough = self.enough(pattern, candidates)?;
            let members: Vec<u32> = self
                .alike
                .iter()
                .filter(|(differing, _)| differing & !candidates == 0)
                .map(|&(_, other)| other)
                .chain([self.at])
                .collect();
            let constant = positions(candidates)
                .filter(|&position| {
                    let is_start = position == 0 && !self.any_value(&members, position);
                    let enough = if is_start { enough + MORE_AT_START } else { enough };
                    !self.varies(&members, position, enough)
                })
                .fold(0, |set: Positions, position| set | 1 << position);
            if constant == 0 {
                let parameters = members
                    .iter()
                    .fold(candidates, |set, &member| set | self.patterns.get(member).parameters);
                let length = pattern.elements.len();
                let has_room = self.patterns.has_room_for(length, parameters);
                return has_room.then_some(Finding { pattern: self.at, parameters });
            }
            candidates &= !constant;
        }
        None
    }

    /// How much it takes when patterns agree everywhere but at `candidates`:
    /// the fewer words they share, the more. Nothing is enough where they
    /// share hardly any.
    fn enough(&self, pattern: &Pattern, candidates: Positions) -> Option<u32> {
        let agreeing =
            (0..pattern.elements.len()).filter(|position| candidates >> position & 1 == 0);
        let (wild, words): (Vec<usize>, Vec<usize>) =
            agreeing.partition(|&position| pattern.is_wild(position));
        if words.is_empty() {
            return None;
        }
        let shared = words.len() + usize::from(wild.len() >= 2);
        let enough = match shared {
            _ if candidates.count_ones() as usize > shared => return None,
            1 => 2 * ENOUGH,
            2 => ENOUGH + ENOUGH / 2,
            _ => ENOUGH,
        };
        Some(enough * candidates.count_ones().max(FREE_POSITIONS) / FREE_POSITIONS)
    }

    fn any_value(&self, members: &[u32], position: usize) -> bool {
        members.iter().any(|&member| self.patterns.get(member).is_wild(position))
    }

    /// Whether what stands at a position of these patterns comes to `enough`.
    fn varies(&self, members: &[u32], position: usize, enough: u32) -> bool {
        let mut seen: Vec<Seen> = members
            .iter()
            .map(|&member| {
                let pattern = self.patterns.get(member);
                let element = &pattern.elements[position];
                let is_parameter = pattern.is_parameter(position);
                Seen {
                    key: pattern.key_at(position),
                    weight: if is_parameter { enough } else { weight(element) },
                    count: pattern.count,
                    is_new: member == self.at,
                }
            })
            .collect();
        seen.sort_unstable_by_key(|seen| (seen.key, Reverse(seen.weight)));
        let (mut values, mut total, mut before, mut rare, mut is_plain) = (0, 0, 0, 0, true);
        for same in seen.chunk_by(|one, other| one.key == other.key) {
            values += 1;
            total += same[0].weight;
            is_plain &= same[0].weight == PLAIN;
            if !same.iter().any(|seen| seen.is_new) {
                before += 1;
                let count: u64 = same.iter().map(|seen| seen.count).sum();
                rare += usize::from(count <= RARE);
            }
        }
        values >= 2 && total >= enough && (!is_plain || rare * RARE_SHARE >= before)
    }
}

/// What one pattern has at a position.
struct Seen {
    key: u64,
    weight: u32,
    count: u64,
    is_new: bool,
}
