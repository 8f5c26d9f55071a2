//! Counts of magnitudes in half-octave buckets, with a Pareto tail beyond the largest.

/// Buckets of a histogram: one for all below [`FLOOR`], then two per octave up to 2²⁵ · 1.5.
pub(crate) const BUCKETS: usize = 40;

/// Magnitudes below this fall into the first bucket, which is not stored.
pub(crate) const FLOOR: u64 = 1 << FLOOR_LOG2;
const FLOOR_LOG2: usize = 6;

/// Samples that a fit of the tail looks at, if there are as many.
const TAIL_SAMPLES: u32 = 16;
/// What the fit believes before it has samples: this index, worth this many of them.
const PRIOR_INDEX: f64 = 4.0;
const PRIOR_SAMPLES: f64 = 4.0;
/// Heavier than any tail with a mean, lighter than any that matters.
const INDEX_RANGE: (f64, f64) = (1.0, 8.0);

/// Logarithmic width of a bucket: half an octave.
const BUCKET_LN: f64 = core::f64::consts::LN_2 / 2.0;

#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    /// Bucket 0 is implied by `total`.
    above_floor: [u16; BUCKETS - 1],
    total: u32,
}

/// Where a magnitude lies: its bucket, and how far from the bucket's lower edge to its upper (0–1).
#[derive(Clone, Copy)]
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
}

/// The magnitude at which a bucket ends.
fn upper_edge(bucket: usize) -> f64 {
    let half_octaves = bucket as u64;
    let octave = (1u64 << (FLOOR_LOG2 as u64 + half_octaves / 2)) as f64;
    if half_octaves.is_multiple_of(2) { octave } else { octave * 1.5 }
}

/// The tail of a histogram beyond what it has seen: P(X > x) ∝ x^−index from `from` on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ParetoTail {
    /// The upper edge of the highest bucket that is not empty; 0 in an empty histogram.
    pub(crate) from: f32,
    pub(crate) index: f32,
    /// Samples below this bucket do not change the fit.
    pub(crate) lowest_bucket: u8,
}

impl Histogram {
    /// Counts a magnitude. True when older counts were halved to make room.
    ///
    /// Halving rounds down, so that what happened once, long ago, is forgotten in the end.
    pub(crate) fn add(&mut self, at: Position) -> bool {
        let mut halved = false;
        let full = at.bucket > 0 && self.above_floor[at.bucket - 1] == u16::MAX;
        if full || self.total == u32::MAX {
            self.halve();
            halved = true;
        }
        if at.bucket > 0 {
            self.above_floor[at.bucket - 1] += 1;
        }
        self.total += 1;
        halved
    }

    fn halve(&mut self) {
        self.total /= 2;
        for count in &mut self.above_floor {
            *count /= 2;
        }
    }

    pub(crate) fn total(&self) -> f64 {
        f64::from(self.total)
    }

    /// How many of the samples exceed this magnitude, spread evenly within its bucket.
    pub(crate) fn count_above(&self, at: Position) -> f64 {
        // Branch-free over the whole row, so that it compiles to a few vector instructions.
        let above: u32 = self
            .above_floor
            .iter()
            .enumerate()
            .map(|(i, &count)| if i >= at.bucket { u32::from(count) } else { 0 })
            .sum();
        let here = match at.bucket {
            0 => self.total.saturating_sub(above),
            bucket => u32::from(self.above_floor[bucket - 1]),
        };
        f64::from(above) + f64::from(here) * (1.0 - at.fraction)
    }

    /// Fits the tail to the largest samples (Hill 1975), leaning on a prior while they are few.
    pub(crate) fn fit_tail(&self) -> ParetoTail {
        let Some(top) = self.above_floor.iter().rposition(|&count| count > 0) else {
            return ParetoTail { from: 0.0, index: PRIOR_INDEX as f32, lowest_bucket: 0 };
        };
        let (mut samples, mut half_octaves_above, mut lowest) = (0, 0, top);
        for bucket in (0..=top).rev() {
            // Everything counted so far rises by one bucket as the threshold sinks by one.
            half_octaves_above += samples;
            samples += u32::from(self.above_floor[bucket]);
            lowest = bucket;
            if samples >= TAIL_SAMPLES {
                break;
            }
        }
        // Samples lie half a bucket above their lower edge, on average.
        let log_excess = (f64::from(half_octaves_above) + f64::from(samples) / 2.0) * BUCKET_LN;
        let index = (f64::from(samples) + PRIOR_SAMPLES)
            / (log_excess + PRIOR_SAMPLES / PRIOR_INDEX);
        ParetoTail {
            from: upper_edge(top + 1) as f32,
            index: index.clamp(INDEX_RANGE.0, INDEX_RANGE.1) as f32,
            lowest_bucket: lowest as u8 + 1,
        }
    }

    /// The magnitude that `count` of the samples are expected to exceed, extrapolated if `count`
    /// is small.
    pub(crate) fn magnitude_exceeded_by(&self, count: f64) -> f64 {
        let mut above = 0.0;
        for bucket in (1..BUCKETS).rev() {
            let here = f64::from(self.above_floor[bucket - 1]);
            if above + here > count.max(f64::from(TAIL_SAMPLES)) {
                let (low, high) = (upper_edge(bucket - 1), upper_edge(bucket));
                if count > above {
                    return high - (high - low) * (count - above) / here;
                }
            }
            above += here;
        }
        FLOOR as f64
    }
}
