//! Counts of magnitudes in half-octave buckets, with a Pareto tail beyond the largest.

use crate::log::log2;

/// Buckets of a histogram: one for all below [`FLOOR`], then two per octave up to 2²⁵ · 1.5.
const BUCKETS: usize = 40;

/// Magnitudes below this fall into the first bucket.
pub(crate) const FLOOR: u64 = 1 << FLOOR_LOG2;
const FLOOR_LOG2: usize = 6;

/// Of the buckets above the floor, signed because vector comparisons are.
const NUMBERS: [i16; BUCKETS - 1] = {
    let mut numbers = [0; BUCKETS - 1];
    let mut index = 0;
    while index < numbers.len() {
        numbers[index] = index as i16 + 1;
        index += 1;
    }
    numbers
};

/// Beyond the magnitude that so many samples exceed, counts are too few to be a probability.
const SPARSE: u32 = 16;
/// What a fit believes before it has samples: four of them, a quarter of which rise by a bucket,
/// a quarter of those by another, and so on. That is an index of 4.
const PRIOR_SAMPLES: f64 = 4.0;
const PRIOR_RISES: f64 = 4.0 / 3.0;
/// From the heaviest tail that has a mean to one that falls like an exponential.
const INDEX_RANGE: (f64, f64) = (1.0, 12.0);

/// 92 bytes for magnitudes over six decades.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    /// Counts of all buckets but the first, which is what they leave of `total`.
    above_floor: [u16; BUCKETS - 1],
    total: u32,
    /// The bucket at whose lower edge counts become sparse; 0 if they are everywhere.
    sparse_bucket: u8,
    sparse_count: u32,
}

/// Where a magnitude lies: its bucket, and how far from the bucket's lower edge to its upper (0–1).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    bucket: usize,
    fraction: f64,
}

impl Position {
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

    pub(crate) fn is_at_or_above(self, bucket: usize) -> bool {
        self.bucket >= bucket
    }
}

/// The magnitude at which a bucket ends.
fn upper_edge(bucket: usize) -> f64 {
    let octave = (1u64 << (FLOOR_LOG2 + bucket / 2)) as f64;
    if bucket.is_multiple_of(2) { octave } else { octave * 1.5 }
}

/// The tail beyond what a histogram has seen: P(X > x) ∝ x^−index from `from` on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ParetoTail {
    /// The upper edge of the highest bucket that is not empty; 0 in an empty histogram.
    pub(crate) from: f32,
    pub(crate) index: f32,
    /// Samples below this bucket do not change the fit.
    pub(crate) lowest_bucket: u8,
}

impl Histogram {
    pub(crate) const EMPTY: Self =
        Self { above_floor: [0; BUCKETS - 1], total: 0, sparse_bucket: 0, sparse_count: 0 };

    /// Counts a magnitude. True when older counts were halved to make room.
    ///
    /// Halving rounds down, so that what happened once, long ago, is forgotten in the end.
    pub(crate) fn add(&mut self, at: Position) -> bool {
        let full = at.bucket > 0 && self.above_floor[at.bucket - 1] == u16::MAX;
        let halve = full || self.total == u32::MAX;
        if halve {
            self.total /= 2;
            for count in &mut self.above_floor {
                *count /= 2;
            }
        }
        if at.bucket > 0 {
            self.above_floor[at.bucket - 1] += 1;
        }
        self.total += 1;
        let sparse_bucket = usize::from(self.sparse_bucket);
        if halve || at.bucket > sparse_bucket {
            // Rare once there are enough samples: those above the sparse edge are few.
            self.find_sparse();
        } else if at.bucket == sparse_bucket && at.bucket > 0 {
            self.sparse_count += 1;
        }
        halve
    }

    pub(crate) fn total(&self) -> f64 {
        f64::from(self.total)
    }

    /// How many of the samples exceed this magnitude, taking each bucket's to be spread evenly.
    pub(crate) fn count_above(&self, at: Position) -> f64 {
        // Branch-free over the whole row, so that it compiles to a few vector instructions.
        let bucket = at.bucket as i16;
        let mut above = 0;
        for (&count, &number) in self.above_floor.iter().zip(&NUMBERS) {
            let mask = u16::from(number > bucket).wrapping_neg();
            above += u32::from(count & mask);
        }
        let here = match at.bucket {
            0 => self.total.saturating_sub(above),
            bucket => u32::from(self.above_floor[bucket - 1]),
        };
        f64::from(above) + f64::from(here) * (1.0 - at.fraction)
    }

    /// The highest edge of a bucket that enough samples exceed to make a probability, and how many
    /// do; none if there are too few above the floor. O(1).
    pub(crate) fn sparse_from(&self) -> Option<(Position, f64)> {
        let bucket = usize::from(self.sparse_bucket);
        (bucket > 0).then_some((Position { bucket, fraction: 0.0 }, f64::from(self.sparse_count)))
    }

    fn find_sparse(&mut self) {
        let mut above = 0;
        for (index, &count) in self.above_floor.iter().enumerate().rev() {
            above += u32::from(count);
            if above >= SPARSE {
                (self.sparse_bucket, self.sparse_count) = (index as u8 + 1, above);
                return;
            }
        }
        (self.sparse_bucket, self.sparse_count) = (0, 0);
    }

    /// Fits the tail to the largest samples, leaning on a prior while they are few.
    ///
    /// The maximum-likelihood estimate of Hill (1975), for samples known by bucket only: how many
    /// buckets they rise above the lowest is then geometrically distributed.
    pub(crate) fn fit_tail(&self) -> ParetoTail {
        let (mut samples, mut rises, mut top, mut lowest) = (0u32, 0u32, 0, 0);
        for (index, &count) in self.above_floor.iter().enumerate().rev() {
            // What was counted before is one bucket farther above this one.
            rises += samples;
            samples += u32::from(count);
            lowest = index + 1;
            if samples > 0 && top == 0 {
                top = lowest;
            }
            if samples >= SPARSE {
                break;
            }
        }
        let rises = f64::from(rises) + PRIOR_RISES;
        let samples = f64::from(samples) + PRIOR_SAMPLES;
        let index = 2.0 * log2((rises + samples) / rises);
        ParetoTail {
            from: if top == 0 { 0.0 } else { upper_edge(top) as f32 },
            index: index.clamp(INDEX_RANGE.0, INDEX_RANGE.1) as f32,
            lowest_bucket: lowest as u8,
        }
    }

    /// The magnitude that `count` samples of this many would exceed, extrapolated where counts are
    /// sparse; none if there are too few above the floor.
    pub(crate) fn exceeded_by(&self, count: f64) -> Option<f64> {
        self.sparse_from()?;
        let mut above = 0.0;
        for (index, &here) in self.above_floor.iter().enumerate().rev() {
            let (low, at_low) = (upper_edge(index), above + f64::from(here));
            if at_low >= count {
                let along = |index: f64| Some(low * libm::pow(at_low / count, 1.0 / index));
                if above > 0.0 && count >= above {
                    // Along the Pareto curve through both edges of the bucket.
                    return along(log2(at_low / above) / log2(upper_edge(index + 1) / low));
                }
                if at_low >= f64::from(SPARSE) {
                    return along(f64::from(self.fit_tail().index));
                }
            }
            above = at_low;
        }
        Some(FLOOR as f64)
    }
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
            let edge = upper_edge(bucket) as u64;
            assert_eq!(Position::of(edge - 1).bucket, bucket);
            assert_eq!(Position::of(edge).bucket, bucket + 1);
        }
    }

    #[test]
    fn counts_above_are_those_of_the_samples() {
        let histogram = of(1..=10_000);
        for magnitude in [0, 10, 64, 100, 1_000, 5_000, 8_000] {
            let above = histogram.count_above(Position::of(magnitude));
            assert!((above - (10_000 - magnitude) as f64).abs() < 2.0, "{magnitude}: {above}");
        }
        assert_eq!(histogram.count_above(Position::of(1 << 40)), 0.0);
    }

    #[test]
    fn index_of_a_pareto_tail_is_recovered() {
        for index in [1.5, 2.0, 3.0] {
            let fitted = f64::from(pareto(index, 10_000).fit_tail().index);
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
        assert!(of([70, 80]).exceeded_by(1.0).is_none());
    }

    #[test]
    fn a_full_bucket_halves_all() {
        let mut histogram = of([5_000; 3]);
        for _ in 0..u16::MAX {
            histogram.add(Position::of(100));
        }
        assert!(histogram.add(Position::of(100)));
        assert_eq!(histogram.total(), f64::from((3 + u32::from(u16::MAX)) / 2 + 1));
        assert_eq!(histogram.count_above(Position::of(4_096)), 1.0);
    }
}
