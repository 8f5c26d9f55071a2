//! A summary of numbers that answers for any percentile.

/// Numbers that are kept as they are before they are counted in buckets.
const EXACT_VALUES: usize = 64;
/// Buckets an octave (a range from x to 2x) is cut into, as a power of two.
const OCTAVE_BITS: u32 = 7;
const OCTAVE_BUCKETS: usize = 1 << OCTAVE_BITS;
/// Bits of a double below those that name its bucket.
const BUCKET_SHIFT: u32 = f64::MANTISSA_DIGITS - 1 - OCTAVE_BITS;
/// Bits of a double that name its sign and octave.
const OCTAVE_SHIFT: u32 = f64::MANTISSA_DIGITS - 1;

/// A multiset of numbers: exact up to [`EXACT_VALUES`] of them, and counted in logarithmic buckets
/// of at most 1/128 relative width beyond that, so that a percentile is off by less than 0.8 % of
/// its value, whatever the distribution (Masson, Rim, Lee: "DDSketch", VLDB 2019, §2.1; buckets of
/// equal width within an octave as in HdrHistogram). NaN counts as larger than any number, as in
/// Postgres.
///
/// Takes 1 KiB for each octave that occurs.
#[derive(Debug, Clone)]
pub(super) enum Sketch {
    Exact(Vec<f64>),
    Counted(Box<Histogram>),
}

#[derive(Debug, Clone)]
pub(super) struct Histogram {
    /// Octave of the first page.
    first_octave: usize,
    pages: Vec<Option<Box<Page>>>,
    /// Pages that are there.
    page_count: usize,
    count: u64,
    /// Smallest and largest number, as [`ordered`] bits.
    least: u64,
    greatest: u64,
}

/// Counts of the buckets of one octave.
type Page = [u64; OCTAVE_BUCKETS];

impl Default for Sketch {
    fn default() -> Self {
        Self::Exact(Vec::new())
    }
}

impl Sketch {
    pub(super) fn add(&mut self, value: f64) {
        match self {
            Self::Counted(histogram) => histogram.add(ordered(value), 1),
            Self::Exact(values) if values.len() < EXACT_VALUES => values.push(value),
            Self::Exact(_) => self.counted().add(ordered(value), 1),
        }
    }

    /// The number below which the share `percentile` of all numbers lies, interpolated between
    /// its neighbours; `None` if there are no numbers.
    pub(super) fn percentile(&self, percentile: f64) -> Option<f64> {
        match self {
            Self::Exact(values) => {
                let mut values = values.clone();
                values.sort_unstable_by(f64::total_cmp);
                interpolated(values.len() as u64, percentile, |rank| values[rank as usize])
            }
            Self::Counted(histogram) => {
                interpolated(histogram.count, percentile, |rank| histogram.value(rank))
            }
        }
    }

    /// Bytes of memory besides those of the value itself.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Self::Exact(values) => values.capacity() * size_of::<f64>(),
            Self::Counted(histogram) => {
                size_of::<Histogram>()
                    + histogram.pages.capacity() * size_of::<Option<Box<Page>>>()
                    + histogram.page_count * size_of::<Page>()
            }
        }
    }

    fn counted(&mut self) -> &mut Histogram {
        if let Self::Exact(values) = self {
            let mut histogram = Histogram {
                first_octave: 0,
                pages: Vec::new(),
                page_count: 0,
                count: 0,
                least: u64::MAX,
                greatest: 0,
            };
            values.iter().for_each(|value| histogram.add(ordered(*value), 1));
            *self = Self::Counted(Box::new(histogram));
        }
        match self {
            Self::Counted(histogram) => histogram,
            Self::Exact(_) => unreachable!("it has just been counted"),
        }
    }

    /// Appends the sketch as bytes: the numbers, or what [`Histogram::write`] says.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Exact(values) => {
                out.push(EXACT);
                values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
            }
            Self::Counted(histogram) => {
                out.push(COUNTED);
                histogram.write(out);
            }
        }
    }

    /// Adds the sketch that [`Sketch::write`] wrote; `None` if the bytes are not one.
    pub(super) fn merge_bytes(&mut self, bytes: &[u8]) -> Option<()> {
        let (kind, rest) = bytes.split_first()?;
        match *kind {
            EXACT => {
                let (values, []) = rest.as_chunks() else { return None };
                values.iter().for_each(|bytes| self.add(f64::from_le_bytes(*bytes)));
            }
            COUNTED => self.counted().merge_bytes(rest)?,
            _ => return None,
        }
        Some(())
    }
}

/// First byte of a sketch: what follows.
const EXACT: u8 = 0;
const COUNTED: u8 = 1;

impl Histogram {
    fn add(&mut self, bits: u64, times: u64) {
        self.least = self.least.min(bits);
        self.greatest = self.greatest.max(bits);
        self.count += times;
        let bucket = (bits >> BUCKET_SHIFT) as usize;
        self.page(bucket >> OCTAVE_BITS)[bucket % OCTAVE_BUCKETS] += times;
    }

    #[inline]
    fn page(&mut self, octave: usize) -> &mut Page {
        let index = octave.wrapping_sub(self.first_octave);
        if self.pages.get(index).is_none_or(Option::is_none) {
            self.new_page(octave);
        }
        let index = octave - self.first_octave;
        self.pages[index].as_mut().expect("the page has just been made")
    }

    #[cold]
    fn new_page(&mut self, octave: usize) {
        if self.pages.is_empty() {
            self.first_octave = octave;
        }
        if octave < self.first_octave {
            let missing = self.first_octave - octave;
            self.pages.splice(0..0, std::iter::repeat_with(|| None).take(missing));
            self.first_octave = octave;
        }
        let index = octave - self.first_octave;
        if index >= self.pages.len() {
            self.pages.resize_with(index + 1, || None);
        }
        self.pages[index] = Some(Box::new([0; OCTAVE_BUCKETS]));
        self.page_count += 1;
    }

    /// The number of rank `rank` from below, counted from 0; numbers are taken to be spread
    /// evenly over their bucket.
    fn value(&self, rank: u64) -> f64 {
        let mut below = 0;
        for (index, page) in self.pages.iter().enumerate() {
            let Some(page) = page else { continue };
            for (bucket, &count) in page.iter().enumerate() {
                if rank < below + count {
                    let bucket = ((self.first_octave + index) << OCTAVE_BITS | bucket) as u64;
                    let start = (bucket << BUCKET_SHIFT).clamp(self.least, self.greatest);
                    if !unordered(start).is_finite() {
                        return unordered(start); // what is beside infinity is no number
                    }
                    let last = (bucket << BUCKET_SHIFT | ((1 << BUCKET_SHIFT) - 1))
                        .clamp(self.least, self.greatest);
                    let share = ((rank - below) as f64 + 0.5) / count as f64;
                    let between = ((last - start) as f64 * share) as u64;
                    return unordered(start + between);
                }
                below += count;
            }
        }
        unordered(self.greatest)
    }

    /// Appends smallest and largest number, and for every bucket that holds any its number and
    /// count.
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.least.to_le_bytes());
        out.extend_from_slice(&self.greatest.to_le_bytes());
        for (index, page) in self.pages.iter().enumerate() {
            let Some(page) = page else { continue };
            for (bucket, count) in page.iter().enumerate().filter(|(_, count)| **count > 0) {
                let bucket = ((self.first_octave + index) << OCTAVE_BITS | bucket) as u32;
                out.extend_from_slice(&bucket.to_le_bytes());
                out.extend_from_slice(&count.to_le_bytes());
            }
        }
    }

    fn merge_bytes(&mut self, bytes: &[u8]) -> Option<()> {
        let (least, rest) = bytes.split_first_chunk()?;
        let (greatest, rest) = rest.split_first_chunk()?;
        let (buckets, []) = rest.as_chunks::<12>() else { return None };
        for entry in buckets {
            let (bucket, count) = entry.split_first_chunk()?;
            let bucket = u32::from_le_bytes(*bucket) as usize;
            let count = u64::from_le_bytes(count.try_into().ok()?);
            if bucket >> OCTAVE_BITS > (u64::MAX >> OCTAVE_SHIFT) as usize {
                return None;
            }
            // No bucket holds more than there are in all.
            self.count = self.count.checked_add(count)?;
            self.page(bucket >> OCTAVE_BITS)[bucket % OCTAVE_BUCKETS] += count;
        }
        self.least = self.least.min(u64::from_le_bytes(*least));
        self.greatest = self.greatest.max(u64::from_le_bytes(*greatest));
        Some(())
    }
}

/// Linear interpolation between closest ranks, as `percentile_cont` does it.
fn interpolated(count: u64, percentile: f64, value: impl Fn(u64) -> f64) -> Option<f64> {
    let last = count.checked_sub(1)?;
    let rank = percentile * last as f64;
    let below = (rank.floor() as u64).min(last);
    let (low, high) = (value(below), value((below + 1).min(last)));
    let share = rank - below as f64;
    // Written so that an infinite neighbour with no share does not make it NaN.
    Some(if share > 0.0 && low != high { low + (high - low) * share } else { low })
}

/// Bits of a number that compare as the numbers do.
fn ordered(value: f64) -> u64 {
    let bits = value.to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

/// The inverse of [`ordered`].
fn unordered(bits: u64) -> f64 {
    f64::from_bits(if bits >> 63 == 1 { bits & !(1 << 63) } else { !bits })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sketch(values: &[f64]) -> Sketch {
        let mut sketch = Sketch::default();
        values.iter().for_each(|value| sketch.add(*value));
        sketch
    }

    fn bytes(sketch: &Sketch) -> Vec<u8> {
        let mut bytes = Vec::new();
        sketch.write(&mut bytes);
        bytes
    }

    fn finite() -> impl Strategy<Value = f64> {
        prop_oneof![
            (-1e6..1e6_f64),
            (-300.0..300.0_f64).prop_map(|exponent| 10_f64.powf(exponent)),
            Just(0.0),
            Just(-0.0),
        ]
    }

    #[test]
    fn few_numbers_are_interpolated_exactly() {
        let few = sketch(&[4.0, 1.0, 3.0, 2.0]);
        assert_eq!(few.percentile(0.0), Some(1.0));
        assert_eq!(few.percentile(0.5), Some(2.5));
        assert_eq!(few.percentile(1.0), Some(4.0));
        assert_eq!(Sketch::default().percentile(0.5), None);
    }

    #[test]
    fn infinities_and_nan_have_their_places() {
        let mut values = vec![1.0; 98];
        values.extend([f64::INFINITY, f64::NAN, f64::NEG_INFINITY]);
        let sketch = sketch(&values);
        assert_eq!(sketch.percentile(0.0), Some(f64::NEG_INFINITY));
        let median = sketch.percentile(0.5).unwrap();
        assert!((1.0..1.0 + 1.0 / 128.0).contains(&median), "{median}");
        assert_eq!(sketch.percentile(0.99), Some(f64::INFINITY));
        assert!(sketch.percentile(1.0).unwrap().is_nan());
    }

    #[test]
    fn bytes_that_are_no_sketch_are_refused() {
        let bytes = bytes(&sketch(&[7.5; 100]));
        for end in [0, 1, 9, 16, 18, bytes.len() - 1] {
            assert_eq!(Sketch::default().merge_bytes(&bytes[..end]), None, "{end}");
        }
        let mut beyond = bytes.clone();
        beyond[17..21].fill(0xff);
        assert_eq!(Sketch::default().merge_bytes(&beyond), None);
        assert_eq!(Sketch::default().merge_bytes(&[2]), None);
    }

    proptest! {
        #[test]
        fn a_percentile_is_near_the_exact_one(
            mut values in prop::collection::vec(finite(), 1..400),
            percentile in 0.0..=1.0_f64,
        ) {
            let found = sketch(&values).percentile(percentile).unwrap();
            values.sort_unstable_by(f64::total_cmp);
            let rank = percentile * (values.len() - 1) as f64;
            let (low, high) = (values[rank.floor() as usize], values[rank.ceil() as usize]);
            // Numbers below the smallest normal one have fewer bits to be near in.
            let slack = |value: f64| value.abs() / 128.0 + f64::MIN_POSITIVE;
            prop_assert!(found >= low - slack(low), "{found} < {low}");
            prop_assert!(found <= high + slack(high), "{found} > {high}");
        }

        #[test]
        fn parts_merge_to_the_whole(
            parts in prop::collection::vec(prop::collection::vec(finite(), 0..150), 1..5),
        ) {
            let whole = sketch(&parts.concat());
            let mut merged = Sketch::default();
            for part in &parts {
                merged.merge_bytes(&bytes(&sketch(part))).unwrap();
            }
            for percentile in [0.0, 0.01, 0.5, 0.99, 1.0] {
                prop_assert_eq!(merged.percentile(percentile), whole.percentile(percentile));
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Sketch::default().merge_bytes(&bytes);
        }
    }
}
