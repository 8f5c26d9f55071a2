//! Windows over event time.

use arrow::array::Int64Array;

/// How rows are gathered by their event time. All times are in microseconds.
///
/// The windows are those of the Dataflow model (Akidau et al., 2015, section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Window {
    /// Consecutive intervals of one size, aligned to the Unix epoch.
    Tumble {
        /// Length of a window.
        size: i64,
    },
    /// Overlapping intervals: one begins every `slide`.
    Hop {
        /// Length of a window.
        size: i64,
        /// Time from the start of one to the start of the next; divides the size.
        slide: i64,
    },
    /// Intervals that go on, for each combination of keys, until nothing happens for `gap`.
    Session {
        /// Rows at most this far apart belong together.
        gap: i64,
    },
}

/// Most windows that one row falls into.
pub(crate) const MAX_OVERLAP: i64 = 1_440;

impl Window {
    /// How many windows a row falls into.
    pub(crate) fn overlap(self) -> i64 {
        match self {
            Self::Hop { size, slide } => size / slide,
            Self::Tumble { .. } | Self::Session { .. } => 1,
        }
    }

    /// Starts of the windows that rows at `times` fall into and that began `nth` slides before
    /// the latest one. Sessions have theirs assigned by [`session_starts`].
    pub(crate) fn starts(self, times: &Int64Array, nth: i64) -> Int64Array {
        let back = match self {
            Self::Hop { slide, .. } => nth * slide,
            Self::Tumble { .. } | Self::Session { .. } => 0,
        };
        times.unary(|time| self.start(time).saturating_sub(back))
    }

    /// Start of the latest window that a row at `time` falls into.
    pub(crate) fn start(self, time: i64) -> i64 {
        match self {
            Self::Tumble { size: step } | Self::Hop { slide: step, .. } => {
                time.saturating_sub(time.rem_euclid(step))
            }
            Self::Session { .. } => time,
        }
    }

    /// End of the window that began at `start` and whose latest row is from `last`.
    pub(crate) fn end(self, start: i64, last: i64) -> i64 {
        match self {
            Self::Tumble { size } | Self::Hop { size, .. } => start.saturating_add(size),
            Self::Session { gap } => last.saturating_add(gap),
        }
    }

    /// The first watermark that closes some window which a row at `time` falls into: from then on
    /// the row is late.
    pub(crate) fn late_from(self, time: i64) -> i64 {
        match self {
            Self::Tumble { size } => self.start(time).saturating_add(size),
            Self::Hop { slide, .. } => self.start(time).saturating_add(slide),
            Self::Session { gap } => time.saturating_add(gap),
        }
    }
}

/// Starts of the sessions that stretches of activity belong to.
///
/// Stretch `i` has the keys that `groups[i]` stands for and goes from `firsts[i]` to `lasts[i]`.
/// Stretches of the same keys that are at most `gap` apart are one session. `O(n log n)`.
pub(crate) fn session_starts(
    groups: &[usize],
    firsts: &Int64Array,
    lasts: &Int64Array,
    gap: i64,
) -> Int64Array {
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_unstable_by_key(|&i| (groups[i], firsts.value(i)));
    let mut starts = vec![0; groups.len()];
    let mut current: Option<(usize, i64, i64)> = None;
    for i in order {
        let (group, first, last) = (groups[i], firsts.value(i), lasts.value(i));
        current = match current {
            Some((same, start, latest)) if same == group && first.saturating_sub(latest) <= gap => {
                Some((group, start, latest.max(last)))
            }
            _ => Some((group, first, last)),
        };
        starts[i] = current.map_or(first, |(_, start, _)| start);
    }
    debug_assert_eq!(starts.len(), firsts.len());
    starts.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_the_epoch_fall_into_windows_that_begin_before_them() {
        let window = Window::Tumble { size: 10 };
        let starts = window.starts(&Int64Array::from(vec![-1, 0, 9, 10]), 0);
        assert_eq!(starts, Int64Array::from(vec![-10, 0, 0, 10]));
    }

    #[test]
    fn a_row_falls_into_each_window_that_covers_it() {
        let window = Window::Hop { size: 30, slide: 10 };
        let time = Int64Array::from(vec![25]);
        let starts: Vec<i64> =
            (0..window.overlap()).map(|nth| window.starts(&time, nth).value(0)).collect();
        assert_eq!(starts, [20, 10, 0]);
        assert!(starts.iter().all(|start| *start <= 25 && 25 < window.end(*start, 25)));
    }

    #[test]
    fn a_row_is_late_once_the_first_of_its_windows_is_closed() {
        assert_eq!(Window::Tumble { size: 10 }.late_from(25), 30);
        assert_eq!(Window::Hop { size: 30, slide: 10 }.late_from(25), 30);
        assert_eq!(Window::Session { gap: 10 }.late_from(25), 35);
    }

    #[test]
    fn stretches_within_the_gap_are_one_session_whatever_their_order() {
        let groups = [1, 0, 0, 0, 0];
        let firsts = Int64Array::from(vec![3, 40, 0, 12, 5]);
        let lasts = Int64Array::from(vec![3, 41, 0, 20, 5]);
        let starts = session_starts(&groups, &firsts, &lasts, 10);
        assert_eq!(starts, Int64Array::from(vec![3, 40, 0, 0, 0]));
    }

    #[test]
    fn a_stretch_inside_a_longer_one_does_not_shorten_it() {
        let firsts = Int64Array::from(vec![0, 10, 108]);
        let lasts = Int64Array::from(vec![100, 11, 108]);
        assert_eq!(session_starts(&[0; 3], &firsts, &lasts, 10), Int64Array::from(vec![0; 3]));
    }
}
