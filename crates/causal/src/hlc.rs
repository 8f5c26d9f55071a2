//! Hybrid logical clocks: timestamps near wall time that respect causality.

use alloc::vec::Vec;

use crate::{
    replica::ReplicaId,
    wire::{DecodeError, Reader, Wire, put_varint},
};

/// A point in time that is unique and ordered: wall time, then events within
/// it, then the replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Microseconds since the Unix epoch, of the fastest clock heard of.
    pub wall_micros: u64,
    /// Events within the same `wall_micros`.
    pub logical: u32,
    /// Where it was made; breaks ties.
    pub replica: ReplicaId,
}

impl Wire for Timestamp {
    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.wall_micros);
        put_varint(out, u64::from(self.logical));
        put_varint(out, self.replica.0);
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let wall_micros = input.varint("microseconds")?;
        let logical = u32::try_from(input.varint("a logical time")?)
            .map_err(|_| input.invalid("a logical time below 2^32"))?;
        Ok(Self { wall_micros, logical, replica: ReplicaId(input.varint("a replica id")?) })
    }
}

/// A remote clock is too far ahead of the local one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a timestamp at most {max_ahead_micros} µs ahead of the local clock, found one \
     {ahead_micros} µs ahead from replica {replica}: check the time synchronisation of both nodes"
)]
pub struct ClockDrift {
    /// How far ahead it is.
    pub ahead_micros: u64,
    /// How far ahead it may be.
    pub max_ahead_micros: u64,
    /// Whose timestamp it is.
    pub replica: ReplicaId,
}

/// Makes [`Timestamp`]s: each later than all it has made or observed.
///
/// The time is an argument. It may lag, jump or run backwards: timestamps still
/// grow, and are never ahead of the fastest clock in the cluster, of which those
/// further ahead than `max_ahead_micros` are refused.
///
/// ```
/// use thalweg_causal::{HybridClock, ReplicaId};
///
/// let mut fast = HybridClock::new(ReplicaId(1), 500_000);
/// let mut slow = HybridClock::new(ReplicaId(2), 500_000);
/// let sent = fast.tick(1_000_300);
/// let received = slow.observe(sent, 1_000_000)?;
/// assert!(received > sent, "an effect is later than its cause");
/// # Ok::<(), thalweg_causal::ClockDrift>(())
/// ```
///
/// Source: Kulkarni et al., *Logical Physical Clocks*, OPODIS 2014, figure 5.
/// All operations are O(1).
#[derive(Clone, Debug)]
pub struct HybridClock {
    last: Timestamp,
    max_ahead_micros: u64,
}

impl HybridClock {
    /// A clock for `replica` that refuses timestamps further ahead of its own
    /// time than `max_ahead_micros`.
    pub fn new(replica: ReplicaId, max_ahead_micros: u64) -> Self {
        Self { last: Timestamp { wall_micros: 0, logical: 0, replica }, max_ahead_micros }
    }

    /// The timestamp of a local event or a message to send.
    pub fn tick(&mut self, now_micros: u64) -> Timestamp {
        self.advance(self.last, now_micros)
    }

    /// The timestamp of receiving a message stamped `remote`.
    ///
    /// # Errors
    /// [`ClockDrift`] when `remote` is too far ahead; the clock is unchanged, so
    /// one bad node cannot drag all others into the future.
    pub fn observe(&mut self, remote: Timestamp, now_micros: u64) -> Result<Timestamp, ClockDrift> {
        let ahead_micros = remote.wall_micros.saturating_sub(now_micros);
        if ahead_micros > self.max_ahead_micros {
            return Err(ClockDrift {
                ahead_micros,
                max_ahead_micros: self.max_ahead_micros,
                replica: remote.replica,
            });
        }
        Ok(self.advance(self.last.max(remote), now_micros))
    }

    /// Moves to the first time that is after `floor` and not before `now_micros`.
    fn advance(&mut self, floor: Timestamp, now_micros: u64) -> Timestamp {
        (self.last.wall_micros, self.last.logical) = if now_micros > floor.wall_micros {
            (now_micros, 0)
        } else if let Some(logical) = floor.logical.checked_add(1) {
            (floor.wall_micros, logical)
        } else {
            (floor.wall_micros.saturating_add(1), 0)
        };
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT_MICROS: u64 = 1_000;

    fn clock(replica: u64) -> HybridClock {
        HybridClock::new(ReplicaId(replica), LIMIT_MICROS)
    }

    #[test]
    fn time_that_runs_backwards_still_gives_growing_timestamps() {
        let mut clock = clock(1);
        let stamps = [50, 40, 40, 51, 0].map(|now| clock.tick(now));
        assert!(stamps.is_sorted_by(|a, b| a < b), "{stamps:?}");
        assert_eq!((stamps[2].wall_micros, stamps[2].logical), (50, 2));
        assert_eq!((stamps[3].wall_micros, stamps[3].logical), (51, 0));
    }

    #[test]
    fn a_clock_from_the_far_future_is_refused_and_forgotten() {
        let mut clock = clock(1);
        let before = clock.tick(10);
        let remote = Timestamp { wall_micros: u64::MAX, logical: u32::MAX, replica: ReplicaId(9) };
        let error = clock.observe(remote, 10).unwrap_err();
        assert_eq!((error.ahead_micros, error.replica), (u64::MAX - 10, ReplicaId(9)));
        let after = clock.tick(10);
        assert_eq!((after.wall_micros, after.logical), (before.wall_micros, before.logical + 1));
    }

    #[test]
    fn a_full_logical_part_carries_into_the_wall_time() {
        let mut clock = clock(1);
        let remote = Timestamp { wall_micros: 10, logical: u32::MAX, replica: ReplicaId(9) };
        let received = clock.observe(remote, 10).unwrap();
        assert_eq!((received.wall_micros, received.logical), (11, 0));
        assert!(received > remote);
    }
}
