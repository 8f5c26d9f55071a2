//! How much waits in the spool of a partition, and since when.

use std::collections::VecDeque;

use thalweg_log::Offset;

/// What is spooled within this time is counted together: bounds the memory of a long outage.
const TOGETHER_MILLIS: i64 = 1_000;

/// Parts of the spool, in order.
#[derive(Debug, Default)]
pub(crate) struct Backlog(VecDeque<Part>);

#[derive(Debug)]
struct Part {
    end: Offset,
    bytes: u64,
    /// When the first of it was spooled.
    unix_millis: i64,
}

impl Backlog {
    /// Notes rows that were spooled, up to `end`.
    pub(crate) fn push(&mut self, end: Offset, bytes: u64, unix_millis: i64) {
        match self.0.back_mut() {
            Some(last) if unix_millis.saturating_sub(last.unix_millis) < TOGETHER_MILLIS => {
                last.end = end;
                last.bytes += bytes;
            }
            _ => self.0.push_back(Part { end, bytes, unix_millis }),
        }
    }

    /// Forgets what stands before `forwarded`; answers how many bytes that were.
    pub(crate) fn release(&mut self, forwarded: Offset) -> u64 {
        let mut bytes = 0;
        while let Some(part) = self.0.pop_front_if(|part| part.end <= forwarded) {
            bytes += part.bytes;
        }
        bytes
    }

    /// How long the oldest of it has waited.
    pub(crate) fn age_millis(&self, now_unix_millis: i64) -> i64 {
        self.0.front().map_or(0, |oldest| now_unix_millis.saturating_sub(oldest.unix_millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_released_and_the_oldest_tells_the_age() {
        let mut backlog = Backlog::default();
        assert_eq!(backlog.age_millis(5_000), 0);
        backlog.push(10, 100, 1_000);
        backlog.push(20, 50, 1_900);
        backlog.push(30, 7, 2_500);
        assert_eq!(backlog.age_millis(5_000), 4_000);
        assert_eq!(backlog.release(19), 0, "parts are released as a whole");
        assert_eq!(backlog.release(25), 150);
        assert_eq!(backlog.age_millis(5_000), 2_500);
        assert_eq!((backlog.release(30), backlog.age_millis(5_000)), (7, 0));
    }
}
