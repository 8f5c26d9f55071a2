//! Where those are who read a partition on.

use std::time::{Duration, Instant};

use thalweg_log::Offset;

/// How long one who does not read on is waited for.
const GONE_AFTER: Duration = Duration::from_secs(30);
/// Most places that are known.
const MAX_PLACES: usize = 256;

/// Where readers are, as far as what they ask for tells: who asks for what stands behind the last
/// answer is taken for the one who got that.
#[derive(Debug, Default)]
pub(crate) struct Places(Vec<(Offset, Instant)>);

impl Places {
    /// Notes that a reader who was at `from` is at `next` now.
    pub(crate) fn note(&mut self, from: Offset, next: Offset, now: Instant) {
        let known = self.0.iter().position(|(place, _)| *place == from);
        // Where too many are, the foremost needs least.
        let foremost = || (0..self.0.len()).max_by_key(|index| self.0[*index].0);
        let slot = match known {
            None if self.0.len() >= MAX_PLACES => foremost(),
            known => known,
        };
        match slot {
            Some(index) => self.0[index] = (next, now),
            None => self.0.push((next, now)),
        }
    }

    /// Where the last one is, of those who have read lately.
    pub(crate) fn last(&mut self, now: Instant) -> Option<Offset> {
        self.0.retain(|(_, since)| now.duration_since(*since) < GONE_AFTER);
        self.0.iter().map(|(place, _)| *place).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_are_told_apart_by_where_they_are() {
        let (mut places, now) = (Places::default(), Instant::now());
        assert_eq!(places.last(now), None);
        places.note(0, 10, now);
        places.note(0, 10, now);
        places.note(10, 30, now);
        assert_eq!(places.last(now), Some(10), "one of two has gone on");
        places.note(10, 20, now);
        assert_eq!(places.last(now), Some(20));
        places.note(20, 40, now);
        assert_eq!(places.last(now), Some(30));
    }

    #[test]
    fn who_reads_no_more_is_forgotten() {
        let (mut places, now) = (Places::default(), Instant::now());
        places.note(0, 10, now);
        let later = now + GONE_AFTER;
        places.note(50, 60, later);
        assert_eq!(places.last(later), Some(60));
    }

    #[test]
    fn the_last_ones_are_known_however_many_there_are() {
        let (mut places, now) = (Places::default(), Instant::now());
        (0..10_000).for_each(|n| places.note(0, 5 + n, now));
        assert_eq!(places.0.len(), MAX_PLACES);
        assert_eq!(places.last(now), Some(5));
    }
}
