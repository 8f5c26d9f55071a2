//! Acknowledgement ids of the Event Collector's channels.

use hashbrown::HashMap;
use parking_lot::Mutex;

/// Longest name of a channel; Splunk's are GUIDs of 36 bytes.
pub(super) const MAX_NAME_BYTES: usize = 128;

/// Channels that are remembered; of more, the ones that were not used for longest are forgotten.
const MAX_CHANNELS: usize = 10_000;

/// Which acknowledgement ids were issued.
///
/// An id is issued once the events of its request are durable, and ids of a channel count up from
/// 0: so one number a channel tells which ones are acknowledged. A client whose channel was
/// forgotten is told that its ids are not, and sends again.
#[derive(Debug, Default)]
pub(super) struct Channels {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    channels: HashMap<Box<str>, Channel>,
    /// Counts uses.
    clock: u64,
}

#[derive(Debug)]
struct Channel {
    next_id: u64,
    used_at: u64,
}

impl Channels {
    /// The next id of `channel`. O(1), O([`MAX_CHANNELS`]) for a new channel when there are as many.
    pub(super) fn issue(&self, channel: &str) -> u64 {
        let mut known = self.known.lock();
        if let Some(channel) = known.touch(channel) {
            let id = channel.next_id;
            channel.next_id += 1;
            return id;
        }
        if known.channels.len() >= MAX_CHANNELS {
            let oldest = known.channels.iter().min_by_key(|(_, channel)| channel.used_at);
            if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
                known.channels.remove(&oldest);
            }
        }
        let used_at = known.clock;
        known.channels.insert(channel.into(), Channel { next_id: 1, used_at });
        0
    }

    /// For each of `ids` whether it was issued on `channel`.
    pub(super) fn are_issued(&self, channel: &str, ids: &[u64]) -> Vec<bool> {
        let next_id = self.known.lock().touch(channel).map_or(0, |channel| channel.next_id);
        ids.iter().map(|id| *id < next_id).collect()
    }
}

impl Known {
    fn touch(&mut self, channel: &str) -> Option<&mut Channel> {
        self.clock += 1;
        let channel = self.channels.get_mut(channel)?;
        channel.used_at = self.clock;
        Some(channel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_a_channel_count_up_and_are_known_once_issued() {
        let channels = Channels::default();
        assert_eq!(channels.are_issued("a", &[0]), [false]);
        assert_eq!([channels.issue("a"), channels.issue("a"), channels.issue("b")], [0, 1, 0]);
        assert_eq!(channels.are_issued("a", &[1, 0, 2, u64::MAX]), [true, true, false, false]);
        assert_eq!(channels.are_issued("b", &[1]), [false]);
    }

    #[test]
    fn the_channels_that_were_not_used_for_longest_are_forgotten() {
        let channels = Channels::default();
        for number in 0..MAX_CHANNELS {
            channels.issue(&number.to_string());
        }
        channels.are_issued("0", &[]);
        channels.issue("another");
        assert_eq!(channels.known.lock().channels.len(), MAX_CHANNELS);
        assert_eq!(channels.are_issued("0", &[0]), [true]);
        assert_eq!(channels.are_issued("1", &[0]), [false]);
        assert_eq!(channels.are_issued("2", &[0]), [true]);
    }
}
