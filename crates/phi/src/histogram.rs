//! Counts of magnitudes in half-octave buckets, with a Pareto tail beyond the largest.

use crate::log::log2;

/// Buckets of a histogram: one for all below [`FLOOR`], then two per octave up to 2²⁵.
pub(crate) const BUCKETS: usize = 34;

/// Magnitudes below this fall into the first bucket.
pub(crate) const FLOOR: u64 = 1 << FLOOR_LOG2;
const FLOOR_LOG2: usize = 9;

/// Beyond the magnitude that so many samples exceed, counts are too few to be a probability.
const SPARSE: u32 = 16;
/// What a fit believes before it has samples: four of them, a quarter of which rise by a bucket,
/// a quarter of those by another, and so on. That is an index of 4.
const PRIOR_SAMPLES: f64 = 4.0;
const PRIOR_RISES: f64 = 4.0 / 3.0;
/// From the heaviest tail that has a mean to one that falls like an exponential.
const INDEX_RANGE: (f64, f64) = (1.0, 12.0);

/// 72 bytes for magnitudes over five decades.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    /// Counts of all buckets but the first, which is what they leave of `total`.
    above_floor: [u16; BUCKETS - 1],
    total: u32,
}

/// Where a magnitude lies: its bucket, and how far from the bucket's lower edge to its upper (0–1).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    pub(crate) bucket: usize,
    pub(crate) fraction: f64,
}

impl Position {
    pub(crate) const ZERO: Self = Self { bucket: 0, fraction: 0.0 };

    pub(crate) fn of(magnitude: u64) -> Self {
        if magnitude < FLOOR {
            return Self { bucket: 0, fraction: magnitude as f64 / FLOOR as f64 };
        }
        let octave = magnitude.ilog2() as usize;
        let half_octave = 1u64 << (octave - 1);
        let upper_half = usize::from(magnitude & half_octave != 0);
        let bucket = 2 * (octave - FLOOR_LOG2) + upper_half + 1;
        if bucket >= BUCKETS {
            return Self { bucket: BUCKETS - 1, fraction: 1.0 };
        }
        let fraction = (magnitude & (half_octave - 1)) as f64 / half_octave as f64;
        Self { bucket, fraction }
    }
}

/// The magnitude at which a bucket ends.
pub(crate) const fn upper_edge(bucket: usize) -> u64 {
    let octave = 1 << (FLOOR_LOG2 + bucket / 2);
    if bucket.is_multiple_of(2) { octave } else { octave / 2 * 3 }
}

impl Histogram {
    pub(crate) const EMPTY: Self = Self { above_floor: [0; BUCKETS - 1], total: 0 };

    /// Counts a magnitude. True when older counts were halved to make room.
    pub(crate) fn add(&mut self, at: Position) -> bool {
        let full = at.bucket > 0 && self.above_floor[at.bucket - 1] == u16::MAX;
        let halve = full || self.total == u32::MAX;
        if halve {
            self.halve();
        }
        if at.bucket > 0 {
            self.above_floor[at.bucket - 1] += 1;
        }
        self.total += 1;
        halve
    }

    /// Rounds up in every other bucket, so that single counts are neither all kept nor all lost.
    fn halve(&mut self) {
        let below_floor = self.total - self.above_floor.iter().copied().map(u32::from).sum::<u32>();
        self.total = below_floor / 2;
        let mut up = self.total % 2 == 1;
        for count in &mut self.above_floor {
            let odd = *count % 2 == 1;
            *count = *count / 2 + u16::from(odd && up);
            up ^= odd;
            self.total += u32::from(*count);
        }
    }

    pub(crate) fn total(&self) -> u32 {
        self.total
    }

    /// How many have been counted in this bucket, which is not the first.
    pub(crate) fn count_in(&self, at: Position) -> u16 {
        self.above_floor[at.bucket - 1]
    }

    /// Adds the counts of all buckets to those of others.
    pub(crate) fn add_to(&self, counts: &mut [u32; BUCKETS]) {
        let mut above = 0;
        for (sum, &count) in counts[1..].iter_mut().zip(&self.above_floor) {
            above += u32::from(count);
            *sum += u32::from(count);
        }
        counts[0] += self.total - above;
    }

    /// The magnitude that `count` samples of this many would exceed, extrapolated where counts are
    /// sparse; none if there are too few above the floor.
    pub(crate) fn exceeded_by(&self, count: f64) -> Option<f64> {
        let all_above: u32 = self.above_floor.iter().copied().map(u32::from).sum();
        if all_above < SPARSE {
            return None;
        }
        let mut above = 0.0;
        for (index, &here) in self.above_floor.iter().enumerate().rev() {
            let (low, at_low) = (upper_edge(index) as f64, above + f64::from(here));
            if at_low >= count {
                let along = |index: f64| Some(low * libm::pow(at_low / count, 1.0 / index));
                if above > 0.0 && count >= above {
                    // Along the Pareto curve through both edges of the bucket.
                    return along(log2(at_low / above) / log2(upper_edge(index + 1) as f64 / low));
                }
                if at_low >= f64::from(SPARSE) {
                    return along(tail_index(self.above_floor.iter().rev().map(|&c| u32::from(c))));
                }
            }
            above = at_low;
        }
        Some(FLOOR as f64)
    }
}

/// Fits a Pareto tail, P(X > x) ∝ x^−index, to the largest samples; leans on a prior while they are
/// few. Takes the counts of half-octave buckets, the highest first.
///
/// The maximum-likelihood estimate of Hill (1975), for samples known by bucket only: how many
/// buckets they rise above the lowest is then geometrically distributed.
pub(crate) fn tail_index(counts_from_highest: impl Iterator<Item = u32>) -> f64 {
    let (mut samples, mut rises) = (0u32, 0u32);
    for count in counts_from_highest {
        // What was counted before is one bucket farther above this one.
        rises += samples;
        samples += count;
        if samples >= SPARSE {
            break;
        }
    }
    let rises = f64::from(rises) + PRIOR_RISES;
    let samples = f64::from(samples) + PRIOR_SAMPLES;
    let index = 2.0 * log2((rises + samples) / rises);
    index.clamp(INDEX_RANGE.0, INDEX_RANGE.1)
}

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

    /// The `count` quantiles of a Pareto distribution from 1,000 upwards.
    fn pareto(index: f64, count: u32) -> Histogram {
        of((0..count).map(|i| {
            let above = (f64::from(i) + 0.5) / f64::from(count);
            (1_000.0 * above.powf(-1.0 / index)) as u64
        }))
    }

    #[test]
    fn positions_rise_without_a_gap() {
        let mut last = -0.01;
        for magnitude in 0..100_000 {
            let at = Position::of(magnitude);
            let place = at.bucket as f64 + at.fraction;
            assert!(place > last && place - last < 0.04, "{magnitude}: {last} to {place}");
            last = place;
        }
    }

    #[test]
    fn edges_are_where_buckets_change() {
        for bucket in 0..BUCKETS - 1 {
            let edge = upper_edge(bucket);
            assert_eq!(Position::of(edge - 1).bucket, bucket);
            assert_eq!(Position::of(edge).bucket, bucket + 1);
        }
    }

    #[test]
    fn index_of_a_pareto_tail_is_recovered() {
        for index in [1.5, 2.0, 3.0] {
            let counts = pareto(index, 10_000).above_floor;
            let fitted = tail_index(counts.iter().rev().map(|&count| u32::from(count)));
            assert!((fitted / index - 1.0).abs() < 0.35, "{index}: {fitted}");
        }
    }

    #[test]
    fn quantiles_are_extrapolated_along_the_tail() {
        let histogram = pareto(2.0, 10_000);
        // Exact: 1,000 · (10,000 / count)^½.
        for (count, exact) in [(1_000.0, 3_162.0), (100.0, 10_000.0), (0.1, 316_228.0)] {
            let magnitude = histogram.exceeded_by(count).unwrap();
            assert!((magnitude / exact).ln().abs() < 0.7, "{count}: {magnitude} for {exact}");
        }
        assert!(of([600, 800]).exceeded_by(1.0).is_none());
    }

    #[test]
    fn a_full_bucket_halves_all() {
        let mut histogram = of([5_000, 7_000, 10_000, 14_000].into_iter().chain([20; 9]));
        for _ in 0..u16::MAX {
            histogram.add(Position::of(1_000));
        }
        assert!(histogram.add(Position::of(1_000)));
        let mut counts = [0; BUCKETS];
        histogram.add_to(&mut counts);
        assert_eq!(counts[0], 4);
        assert_eq!(counts[Position::of(1_000).bucket], u32::from(u16::MAX / 2) + 1);
        let single = [5_000, 7_000, 10_000, 14_000].map(|at| counts[Position::of(at).bucket]);
        assert_eq!(single.iter().sum::<u32>(), 2, "of those that happened once, half are kept");
        assert_eq!(histogram.total(), counts.iter().sum());
    }
}
