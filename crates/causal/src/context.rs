//! Causal contexts: exactly which events one has seen, gaps included.

use alloc::vec::Vec;

use crate::{
    crdt::Crdt,
    replica::{Causality, Dot, ReplicaId},
    replica_map::ReplicaMap,
    vector_clock::VectorClock,
    wire::{DecodeError, MAX_COUNTER, Reader, Wire, put_varint},
};

/// A set of events: a vector clock plus those seen ahead of a gap.
///
/// Deltas may arrive out of order, so what a replica has seen of another is a
/// prefix of its history and perhaps some later stretches. Prefixes are one
/// number, stretches two, and a stretch melts into the prefix when the gap
/// closes, so the size is that of a vector clock whenever nothing is in flight.
///
/// ```
/// use thalweg_causal::{CausalContext, Dot, ReplicaId};
///
/// let event = |counter| Dot { replica: ReplicaId(7), counter };
/// let mut seen: CausalContext = [event(1), event(3)].into_iter().collect();
/// assert!(!seen.contains(event(2)));
/// assert_eq!(seen.next_dot(ReplicaId(7)), event(4));
/// seen.insert(event(2));
/// assert_eq!(seen.clock().get(ReplicaId(7)), 3);
/// ```
///
/// Source: Almeida, Shoker, Baquero, *Delta State Replicated Data Types*, 2018,
/// on causal context compression; stretches as the interval version vectors of
/// Mukund, Shenoy, Suresh, *Optimized OR-Sets without Ordering Constraints*, ICDCN
/// 2014. n is the number of replicas and g the number of gaps below.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CausalContext(ReplicaMap<Seen>);

/// What was seen of one replica: events `1..=upto` and the stretches beyond.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Seen {
    upto: u64,
    /// `(first, last)`, ascending, with a gap before each.
    beyond: Vec<(u64, u64)>,
}

impl Seen {
    fn contains(&self, counter: u64) -> bool {
        counter <= self.upto || {
            let position = self.beyond.partition_point(|(_, last)| *last < counter);
            self.beyond.get(position).is_some_and(|(first, _)| *first <= counter)
        }
    }

    fn last(&self) -> u64 {
        self.beyond.last().map_or(self.upto, |(_, last)| *last)
    }

    fn events(&self) -> u64 {
        self.beyond.iter().fold(self.upto, |events, (first, last)| events + (last - first + 1))
    }

    fn insert(&mut self, counter: u64) -> bool {
        if self.contains(counter) {
            return false;
        }
        if self.beyond.is_empty() && counter == self.upto + 1 {
            self.upto = counter;
        } else {
            self.beyond.push((counter, counter));
            self.close_gaps();
        }
        true
    }

    fn merge(&mut self, other: &Self) -> bool {
        if self.beyond.is_empty() && other.beyond.is_empty() {
            let behind = self.upto < other.upto;
            self.upto = self.upto.max(other.upto);
            return behind;
        }
        if self.first_missing(other).is_none() {
            return false;
        }
        self.upto = self.upto.max(other.upto);
        self.beyond.extend_from_slice(&other.beyond);
        self.close_gaps();
        true
    }

    /// Restores the invariants after stretches were appended.
    fn close_gaps(&mut self) {
        self.beyond.sort_unstable();
        let mut kept = 0;
        for position in 0..self.beyond.len() {
            let (first, last) = self.beyond[position];
            let end = match kept {
                0 => &mut self.upto,
                _ => &mut self.beyond[kept - 1].1,
            };
            if first <= end.saturating_add(1) {
                *end = last.max(*end);
            } else {
                self.beyond[kept] = (first, last);
                kept += 1;
            }
        }
        self.beyond.truncate(kept);
    }

    /// The first event of `other` that is not here.
    fn first_missing(&self, other: &Self) -> Option<u64> {
        if other.upto > self.upto {
            return Some(self.upto + 1);
        }
        // The first event past the stretch that holds `first`, or `first` itself.
        let past = |first: u64| {
            if first <= self.upto {
                return self.upto + 1;
            }
            let position = self.beyond.partition_point(|(_, last)| *last < first);
            match self.beyond.get(position) {
                Some((start, last)) if *start <= first => last + 1,
                _ => first,
            }
        };
        other
            .beyond
            .iter()
            .map(|(first, last)| (past(*first), *last))
            .find_map(|(past, last)| (past <= last).then_some(past))
    }
}

impl CausalContext {
    /// The context that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether `dot` was seen. O(log n + log g).
    pub fn contains(&self, dot: Dot) -> bool {
        self.0.get(dot.replica).is_some_and(|seen| seen.contains(dot.counter))
    }

    /// Adds one event and says whether it is new. O(log n) in order, O(n + g log g) else.
    pub fn insert(&mut self, dot: Dot) -> bool {
        dot.counter > 0 && self.0.entry(dot.replica).insert(dot.counter)
    }

    /// The event that `replica` makes next: one past the last seen of it. O(log n).
    ///
    /// Call it for the local replica only, which has seen all its own events.
    ///
    /// # Panics
    /// After 2⁶⁴ − 1 events of one replica; decoded contexts end at [`MAX_COUNTER`].
    pub fn next_dot(&self, replica: ReplicaId) -> Dot {
        let counter = self.last(replica).checked_add(1).expect("a replica makes under 2^64 events");
        Dot { replica, counter }
    }

    fn last(&self, replica: ReplicaId) -> u64 {
        self.0.get(replica).map_or(0, Seen::last)
    }

    /// The gapless part: for each replica, the prefix of its events that was seen. O(n).
    pub fn clock(&self) -> VectorClock {
        self.0.iter().map(|(replica, seen)| (replica, seen.upto)).collect()
    }

    /// How the two histories relate. O(n + g log g).
    pub fn compare(&self, other: &Self) -> Causality {
        Causality::from_covers(
            self.first_missing(other).is_none(),
            other.first_missing(self).is_none(),
        )
    }

    /// The first event, by replica, that `other` has seen and `self` has not;
    /// none if `self` covers `other`. O(n + g log g).
    pub fn first_missing(&self, other: &Self) -> Option<Dot> {
        let nothing = Seen::default();
        self.0.zip(&other.0).find_map(|(replica, mine, theirs)| {
            let counter = mine.unwrap_or(&nothing).first_missing(theirs?)?;
            Some(Dot { replica, counter })
        })
    }

    /// The number of events seen. O(n + g).
    pub(crate) fn events(&self) -> u64 {
        self.0.iter().fold(0, |events, (_, seen)| events.saturating_add(seen.events()))
    }

    /// The number of replicas of which anything was seen.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.0.len() == 0
    }

    /// Writes a dot of this context as the position of its replica and the
    /// distance from that replica's last event: two bytes for most.
    pub(crate) fn encode_dot(&self, dot: Dot, out: &mut Vec<u8>) {
        debug_assert!(self.contains(dot), "dots in a store are in its context");
        put_varint(out, self.0.position(dot.replica).unwrap_or(0) as u64);
        put_varint(out, self.last(dot.replica).saturating_sub(dot.counter));
    }

    /// Reads what [`CausalContext::encode_dot`] wrote.
    pub(crate) fn decode_dot(&self, input: &mut Reader<'_>) -> Result<Dot, DecodeError> {
        let position = input.varint("the position of a dot's replica")?;
        let distance = input.varint("the distance of a dot")?;
        usize::try_from(position)
            .ok()
            .and_then(|position| self.0.at(position))
            .and_then(|(replica, seen)| {
                let counter = seen.last().checked_sub(distance).filter(|counter| *counter > 0)?;
                seen.contains(counter).then_some(Dot { replica, counter })
            })
            .ok_or_else(|| input.invalid("a dot of the causal context"))
    }
}

impl From<&VectorClock> for CausalContext {
    fn from(clock: &VectorClock) -> Self {
        let seen = |upto: &u64| Seen { upto: *upto, beyond: Vec::new() };
        let mut context = Self::new();
        context.0.merge_from(clock.entries(), seen, |_, _| false);
        context
    }
}

impl FromIterator<Dot> for CausalContext {
    fn from_iter<I: IntoIterator<Item = Dot>>(dots: I) -> Self {
        let mut context = Self::new();
        for dot in dots.into_iter().filter(|dot| dot.counter > 0) {
            context.0.entry(dot.replica).beyond.push((dot.counter, dot.counter));
        }
        context.0.values_mut().for_each(Seen::close_gaps);
        context
    }
}

impl Crdt for CausalContext {
    const KIND: u8 = 2;

    /// The union. O(n + g log g).
    fn merge(&mut self, other: &Self) -> bool {
        self.0.merge(&other.0, Seen::merge)
    }

    fn forget(&mut self, departed: ReplicaId) {
        self.0.remove(departed);
    }
}

impl Wire for CausalContext {
    /// Per replica: `upto`, doubled, plus one if stretches follow; then their
    /// number and, for each, the gap before it less one and its length less one.
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode_with(out, |seen, out| {
            put_varint(out, seen.upto << 1 | u64::from(!seen.beyond.is_empty()));
            if seen.beyond.is_empty() {
                return;
            }
            put_varint(out, seen.beyond.len() as u64);
            let mut end = seen.upto;
            for (first, last) in &seen.beyond {
                put_varint(out, first - end - 2);
                put_varint(out, last - first);
                end = *last;
            }
        });
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        ReplicaMap::decode_with(input, |input| {
            let head = input.varint("events of a replica")?;
            let mut seen = Seen { upto: head >> 1, beyond: Vec::new() };
            if seen.upto > MAX_COUNTER {
                return Err(input.invalid("an event below 2^62"));
            }
            let stretches = if head & 1 == 1 { input.count(2, "stretches of events")? } else { 0 };
            seen.beyond.reserve_exact(stretches);
            for _ in 0..stretches {
                let gap = input.counter("a gap")?;
                let length = input.counter("the length of a stretch")?;
                let first = seen.last() + 2 + gap;
                let last = first + length;
                if last > MAX_COUNTER {
                    return Err(input.invalid("an event below 2^62"));
                }
                seen.beyond.push((first, last));
            }
            if stretches == 0 && (head == 0 || head & 1 == 1) {
                return Err(input.invalid("events where events are announced"));
            }
            Ok(seen)
        })
        .map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dot(replica: u64, counter: u64) -> Dot {
        Dot { replica: ReplicaId(replica), counter }
    }

    fn context(dots: &[(u64, u64)]) -> CausalContext {
        dots.iter().map(|(replica, counter)| dot(*replica, *counter)).collect()
    }

    #[test]
    fn a_gap_stays_open_until_its_last_event_arrives() {
        let mut seen = context(&[(1, 1), (1, 5), (1, 4), (1, 9)]);
        assert!(seen.contains(dot(1, 4)) && !seen.contains(dot(1, 3)));
        seen.insert(dot(1, 2));
        assert_eq!(seen.clock().get(ReplicaId(1)), 2);
        seen.insert(dot(1, 3));
        assert_eq!(seen.clock().get(ReplicaId(1)), 5);
        assert_eq!(seen.next_dot(ReplicaId(1)), dot(1, 10));
    }

    #[test]
    fn the_first_missing_event_is_named() {
        let here = context(&[(1, 1), (1, 2), (1, 5)]);
        assert_eq!(here.first_missing(&context(&[(1, 2)])), None);
        assert_eq!(here.first_missing(&context(&[(1, 5), (1, 6)])), Some(dot(1, 6)));
        assert_eq!(here.first_missing(&context(&[(1, 4), (1, 5)])), Some(dot(1, 4)));
        assert_eq!(here.first_missing(&context(&[(2, 3)])), Some(dot(2, 3)));
    }

    #[test]
    fn a_context_without_gaps_costs_no_more_than_a_clock() {
        let clock: VectorClock = (0..9).map(|id| (ReplicaId(id), 50)).collect();
        let context = CausalContext::from(&clock);
        assert_eq!(context.to_bytes().len(), clock.to_bytes().len());
    }
}
