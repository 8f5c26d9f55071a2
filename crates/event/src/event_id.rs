//! Event ids for events that come without one.

use uuid::{Builder, Uuid};

/// Makes version 7 UUIDs (RFC 9562 §5.7) that count up within a batch.
///
/// The 74 random bits are drawn once per batch and incremented per event (RFC 9562 §6.2,
/// method 2): ids of one batch are ordered, cost no system call, and compress to almost nothing.
#[derive(Debug)]
pub(crate) struct EventIds {
    unix_millis: u64,
    random: u128,
}

impl EventIds {
    pub(crate) fn new(unix_millis: u64, seed: [u8; 10]) -> Self {
        let mut random = [0; 16];
        random[6..].copy_from_slice(&seed);
        Self { unix_millis, random: u128::from_be_bytes(random) }
    }

    /// The next id, as hyphenated text in `buffer`.
    pub(crate) fn next<'b>(&mut self, buffer: &'b mut [u8; 36]) -> &'b str {
        // The version and variant bits overwrite 6 of the 80, all far above the low 32 that count.
        self.random = self.random.wrapping_add(1);
        let mut random = [0; 10];
        random.copy_from_slice(&self.random.to_be_bytes()[6..]);
        let id: Uuid = Builder::from_unix_timestamp_millis(self.unix_millis, &random).into_uuid();
        id.hyphenated().encode_lower(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_7_distinct_and_ordered() {
        let mut ids = EventIds::new(1_700_000_000_123, [0xab; 10]);
        let made: Vec<String> = (0..10_000).map(|_| ids.next(&mut [0; 36]).to_owned()).collect();
        assert!(made.is_sorted_by(|a, b| a < b));
        let id: Uuid = made[0].parse().unwrap();
        assert_eq!(id.get_version_num(), 7);
        assert_eq!(id.get_timestamp().unwrap().to_unix(), (1_700_000_000, 123_000_000));
    }
}
