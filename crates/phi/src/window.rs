//! A sliding window of intervals with exact running moments.

use alloc::boxed::Box;
use alloc::vec;

/// The last intervals, in microseconds, with their mean and standard deviation.
///
/// Sums are integers, so that a sample leaves them exactly as it entered: there is no drift after
/// any number of samples, and no cancellation in the variance.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    intervals_us: Box<[u32]>,
    next: u32,
    filled: u32,
    sum: u64,
    sum_of_squares: u128,
    mean_us: f64,
    std_dev_us: f64,
}

impl Window {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            intervals_us: vec![0; capacity].into_boxed_slice(),
            next: 0,
            filled: 0,
            sum: 0,
            sum_of_squares: 0,
            mean_us: 0.0,
            std_dev_us: 0.0,
        }
    }

    /// Slides the window by one sample; intervals above 71 minutes count as 71 minutes. O(1).
    pub(crate) fn push(&mut self, interval_us: u64) {
        let new = u32::try_from(interval_us).unwrap_or(u32::MAX);
        let slot = &mut self.intervals_us[self.next as usize];
        let old = core::mem::replace(slot, new);
        let capacity = self.intervals_us.len() as u32;
        self.next = if self.next + 1 == capacity { 0 } else { self.next + 1 };
        // Slots not yet filled hold zero, which leaves the sums as it should.
        self.filled = (self.filled + 1).min(capacity);
        self.sum = self.sum + u64::from(new) - u64::from(old);
        self.sum_of_squares =
            self.sum_of_squares + u128::from(square(new)) - u128::from(square(old));

        let count = u128::from(self.filled);
        let squared_sum = u128::from(self.sum) * u128::from(self.sum);
        let variance_numerator = count * self.sum_of_squares - squared_sum;
        let per_sample = 1.0 / f64::from(self.filled);
        self.mean_us = self.sum as f64 * per_sample;
        self.std_dev_us = libm::sqrt(to_f64(variance_numerator)) * per_sample;
    }

    pub(crate) fn mean_us(&self) -> f64 {
        self.mean_us
    }

    pub(crate) fn std_dev_us(&self) -> f64 {
        self.std_dev_us
    }
}

fn square(value: u32) -> u64 {
    u64::from(value) * u64::from(value)
}

/// The conversion of 128 bits is a slow call; most variances fit 64.
fn to_f64(value: u128) -> f64 {
    u64::try_from(value).map_or(value as f64, |small| small as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn moments_are_those_of_the_last_samples(
            capacity in 2usize..50,
            samples in prop::collection::vec(0u64..u64::from(u32::MAX), 1..200),
        ) {
            let mut window = Window::new(capacity);
            samples.iter().for_each(|&sample| window.push(sample));
            let last = &samples[samples.len().saturating_sub(capacity)..];
            let count = last.len() as f64;
            let mean = last.iter().sum::<u64>() as f64 / count;
            let variance = last.iter().map(|&x| (x as f64 - mean).powi(2)).sum::<f64>() / count;
            prop_assert!((window.mean_us() - mean).abs() <= mean * 1e-12);
            prop_assert!((window.std_dev_us() - variance.sqrt()).abs() <= mean * 1e-9);
        }
    }

    #[test]
    fn a_jolt_leaves_no_trace_once_it_has_slid_out() {
        let mut window = Window::new(10);
        window.push(u64::MAX);
        for _ in 0..10_000_000 {
            window.push(1_000_003);
        }
        assert_eq!((window.mean_us(), window.std_dev_us()), (1_000_003.0, 0.0));
    }
}
