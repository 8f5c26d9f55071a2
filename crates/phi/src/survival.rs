//! From counts to φ: how often heartbeats that came later than one edge came later than the next.

use core::f64::consts::LOG10_2;

use crate::histogram::{BUCKETS, Histogram, Position, tail_index, upper_edge};
use crate::log::{log2, log2_single};

/// All classes' links lean on the Pareto tail as if it had been seen so often: little, so that a
/// gap between two kinds of lateness does not, link by link, wear down what is known of the rarer.
const PARETO_SAMPLES: f32 = 0.25;
/// A class's links lean on all classes' as if so many exceedances had been seen; exceedances, so
/// that a hundred samples without one do not make rare what happens once in ten thousand.
const POOL_EXCEEDANCES: f32 = 2.0;

/// φ at the edges of buckets, and between them on straight lines; 148 bytes.
///
/// A distribution is a chain of links: of those that came later than one edge, how many came later
/// than the next? Each link is estimated by itself and leans, where few came that far, on the same
/// link of a wider population: a class's on all classes', theirs on a Pareto tail (a Pólya tree,
/// Lavine 1992; each link shrunk as epidemiologists shrink relative risks, Clayton and Kaldor 1987).
/// So a class knows early how often it is late at all, and has the shape of its tail from where
/// tails are known.
#[derive(Clone, Debug)]
pub(crate) struct Survival {
    /// At the upper edge of each bucket but the last, which has none.
    phi_at_end: [f32; BUCKETS - 1],
    /// Of the Pareto tail beyond the last edge.
    index: f32,
}

impl Survival {
    /// Of one of the classes. Lateness up to `floor_us` is not told apart from punctuality; up to
    /// `forgiven_us`, it is no surprise if it was not seen before.
    pub(crate) fn estimate(
        class: &Histogram,
        classes: &[Histogram],
        floor_us: u64,
        forgiven_us: f32,
    ) -> Self {
        let floor = Position::of(floor_us).bucket;
        let forgiven_us = forgiven_us.max(floor_us as f32);
        let mut all = [0; BUCKETS];
        for histogram in classes {
            histogram.add_to(&mut all);
        }
        let mut own = [0; BUCKETS];
        class.add_to(&mut own);
        for counts in [&mut all, &mut own] {
            counts[floor] += core::mem::take(&mut counts[0]);
        }
        let index = tail_index(all.iter().skip(1).rev().copied()) as f32;
        let fall = libm::exp2f(-index / 2.0);
        let (all_from, own_from) = (sums_from(&all), sums_from(&own));

        let mut phi_at_end = [0.0; BUCKETS - 1];
        for (bucket, rise) in phi_at_end.iter_mut().enumerate() {
            let prior = if EDGES_US[bucket] <= forgiven_us { 1.0 } else { fall };
            let pool = link(&all_from, bucket, prior, PARETO_SAMPLES);
            let link = link(&own_from, bucket, pool, POOL_EXCEEDANCES / pool);
            // Never negative, whatever the logarithm's last digit: φ must not fall.
            *rise = (-core::f32::consts::LOG10_2 * log2_single(link)).max(0.0);
        }
        let mut phi = 0.0;
        for at_end in &mut phi_at_end {
            phi += *at_end;
            *at_end = phi;
        }
        Self { phi_at_end, index }
    }

    /// −log₁₀ of the probability of more than this. O(1).
    pub(crate) fn phi(&self, magnitude_us: u64) -> f64 {
        let Position { bucket, fraction } = Position::of(magnitude_us);
        let begin = if bucket == 0 { 0.0 } else { f64::from(self.phi_at_end[bucket - 1]) };
        let Some(&end) = self.phi_at_end.get(bucket) else {
            let octaves = log2(magnitude_us as f64 / f64::from(EDGES_US[BUCKETS - 2]));
            return begin + LOG10_2 * f64::from(self.index) * octaves.max(0.0);
        };
        begin + fraction * (f64::from(end) - begin)
    }
}

/// The probability to exceed a bucket's upper edge, of those that exceed its lower.
fn link(from: &[f32; BUCKETS], bucket: usize, prior: f32, prior_samples: f32) -> f32 {
    (from[bucket + 1] + prior * prior_samples) / (from[bucket] + prior_samples)
}

/// Of each bucket and all above.
fn sums_from(counts: &[u32; BUCKETS]) -> [f32; BUCKETS] {
    let mut sums = [0.0; BUCKETS];
    let mut sum = 0;
    for (from, count) in sums.iter_mut().zip(counts).rev() {
        sum += count;
        *from = sum as f32;
    }
    sums
}

/// Where each bucket but the last ends.
const EDGES_US: [f32; BUCKETS - 1] = {
    let mut edges = [0.0; BUCKETS - 1];
    let mut bucket = 0;
    while bucket < edges.len() {
        edges[bucket] = upper_edge(bucket) as f32;
        bucket += 1;
    }
    edges
};

#[cfg(test)]
mod tests {
    use super::*;

    fn of(magnitudes: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::EMPTY;
        for magnitude in magnitudes {
            histogram.add(Position::of(magnitude));
        }
        histogram
    }

    fn alone(histogram: &Histogram) -> Survival {
        Survival::estimate(histogram, core::slice::from_ref(histogram), 1, 1.0)
    }

    #[test]
    fn counts_are_the_probability_where_they_are_dense() {
        let survival = alone(&of((0..10_000).map(|i| if i % 10 == 0 { 40_000 } else { i % 900 })));
        assert!((survival.phi(20_000) - 1.0).abs() < 0.01, "{}", survival.phi(20_000));
    }

    #[test]
    fn a_class_without_samples_is_like_all_others() {
        let others = of((1..10_000).map(|i| 3_000_000 / i));
        let classes = [others.clone(), Histogram::EMPTY];
        let unknown = Survival::estimate(&classes[1], &classes, 1, 1.0);
        for magnitude in [500, 5_000, 50_000, 5_000_000] {
            let (known, guessed) = (alone(&others).phi(magnitude), unknown.phi(magnitude));
            assert!((known - guessed).abs() < 0.1, "{magnitude}: {known} and {guessed}");
        }
    }

    #[test]
    fn a_hundred_calm_samples_do_not_rule_out_what_happens_once_in_ten_thousand() {
        let mut others = of((0..100_000).map(|i| if i % 10_000 == 0 { 500_000 } else { 10 }));
        let calm = of([10; 100]);
        let classes = [others.clone(), calm.clone()];
        let phi = Survival::estimate(&calm, &classes, 1, 1.0).phi(100_000);
        assert!((3.5..4.3).contains(&phi), "{phi}");
        others = of([10; 10]);
        let classes = [others.clone(), of([500_000; 100])];
        let phi = Survival::estimate(&others, &classes, 1, 1.0).phi(100_000);
        assert!(phi < 1.0, "nor do ten rule out what happens most of the time: {phi}");
    }

    #[test]
    fn tail_goes_on_as_it_fell() {
        // Lateness beyond x has probability (1,000 / x)².
        let samples = (0..10_000u32).map(|i| (1e3 * (1e4 / (f64::from(i) + 0.5)).sqrt()) as u64);
        let survival = alone(&of(samples));
        for (magnitude, exact) in [(100_000, 4.0), (1_000_000, 6.0), (1_000_000_000, 12.0)] {
            let phi = survival.phi(magnitude);
            assert!((phi / exact - 1.0).abs() < 0.15, "{magnitude}: {phi} for {exact}");
        }
    }
}
