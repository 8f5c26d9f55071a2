//! Which of the numbered events of a run were acknowledged, and which were found.

/// A set of event numbers that also counts how often each was seen.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    seen: Vec<u32>,
}

/// How what was found differs from what was acknowledged.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Difference {
    /// Acknowledged, but not found.
    pub(crate) missing: Vec<u64>,
    /// Found more than once.
    pub(crate) repeated: Vec<u64>,
}

impl Tally {
    pub(crate) fn add(&mut self, number: u64) {
        let index = usize::try_from(number).unwrap_or(usize::MAX - 1);
        if self.seen.len() <= index {
            self.seen.resize(index + 1, 0);
        }
        self.seen[index] = self.seen[index].saturating_add(1);
    }

    /// Number of distinct events.
    pub(crate) fn len(&self) -> usize {
        self.seen.iter().filter(|times| **times > 0).count()
    }

    /// Compares what was acknowledged with what was found. An event that was found but never
    /// acknowledged is no fault: its acknowledgement may have been lost on the way.
    pub(crate) fn compare(&self, found: &Self) -> Difference {
        let times = |tally: &Self, index: usize| tally.seen.get(index).copied().unwrap_or(0);
        let all = 0..self.seen.len().max(found.seen.len());
        Difference {
            missing: all
                .clone()
                .filter(|i| times(self, *i) > 0 && times(found, *i) == 0)
                .map(|i| i as u64)
                .collect(),
            repeated: all.filter(|i| times(found, *i) > 1).map(|i| i as u64).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_and_repeated_events_are_named() {
        let (mut acknowledged, mut found) = (Tally::default(), Tally::default());
        (0..4).for_each(|number| acknowledged.add(number));
        [0, 1, 1, 3, 9].into_iter().for_each(|number| found.add(number));
        let expected = Difference { missing: vec![2], repeated: vec![1] };
        assert_eq!(acknowledged.compare(&found), expected);
        assert_eq!(acknowledged.len(), 4);
    }
}
