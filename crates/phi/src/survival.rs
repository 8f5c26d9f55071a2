//! From counts to φ: how often heartbeats that came later than one edge came later than the next.

use core::f64::consts::LOG10_2;

use crate::histogram::{BUCKETS, Histogram, Position, tail_index, upper_edge};
use crate::log::{log2, log2_single, log10};

/// All but the last bucket end at one.
const EDGES: usize = BUCKETS - 1;
/// All classes' links together lean on the Pareto tail as if it had been seen so often: little, so
/// that a gap between two kinds of lateness does not, link by link, wear down what is known of the
/// rarer.
const PARETO_SAMPLES: f32 = 0.25;
/// A class's links lean on its neighbour's as if so many exceedances had been seen; exceedances, so
/// that a hundred samples without one do not make rare what happens once in ten thousand. But where
/// many more come than the neighbour says, no more than so many are taken for chance.
const EXCEEDANCES: f32 = 2.0;

/// φ and urgency at the edges of buckets, and between them on straight lines; 268 bytes.
///
/// A distribution is a chain of links: of those that came later than one edge, how many came later
/// than the next? Each link is estimated by itself and leans, where few came that far, on the same
/// link of its neighbour: a class's on the next calmer class's, the calmest's on all classes'
/// together, theirs on a Pareto tail (a Pólya tree, Lavine 1992; each link shrunk as
/// epidemiologists shrink relative risks, Clayton and Kaldor 1987). So a class knows early how
/// often it is late at all, and has the shape of its tail from where tails are known.
#[derive(Clone, Debug)]
pub(crate) struct Survival {
    /// At the upper edge of each bucket but the last, which has none.
    phi_at_end: [f32; EDGES],
    urgency_at_end: [f32; EDGES],
    /// Of the Pareto tail beyond the last edge.
    index: f32,
}

impl Survival {
    /// Of one of the classes, which are in order of turbulence. Lateness up to `floor` is not
    /// told apart from punctuality; up to `forgiven`, it is no surprise if it never was seen.
    pub(crate) fn estimate(
        classes: &[Histogram],
        class: usize,
        floor: u64,
        forgiven: f32,
        interval: f64,
    ) -> Self {
        let forgiven = forgiven.max(floor as f32);
        let floor = Position::of(floor).bucket;
        let mut all = [0; BUCKETS];
        for histogram in classes {
            histogram.add_to(&mut all);
        }
        let index = tail_index(all.iter().skip(1).rev().copied()) as f32;
        let fall = libm::exp2f(-index / 2.0);
        let all_from = sums_from(all, floor);
        let mut links = [0.0; EDGES];
        for (bucket, link) in links.iter_mut().enumerate() {
            let pareto = if ENDS[bucket] <= forgiven { 1.0 } else { fall };
            *link = (all_from[bucket + 1] + PARETO_SAMPLES * pareto)
                / (all_from[bucket] + PARETO_SAMPLES);
        }
        for calmer in classes[..=class].iter().filter(|class| class.total() > 0) {
            let mut counts = [0; BUCKETS];
            calmer.add_to(&mut counts);
            let from = sums_from(counts, floor);
            for (bucket, link) in links.iter_mut().enumerate() {
                let [reached, exceeded] = [from[bucket], from[bucket + 1]];
                let shrunk = *link * (exceeded + EXCEEDANCES) / (reached * *link + EXCEEDANCES);
                let at_least = (exceeded - EXCEEDANCES) / reached.max(1.0);
                *link = shrunk.max(at_least);
            }
        }
        // Never negative, whatever the logarithm's last digit: φ must not fall.
        let mut phi_at_end = links.map(|link| (-LOG10_2 as f32 * log2_single(link)).max(0.0));
        let mut phi = 0.0;
        for at_end in &mut phi_at_end {
            phi += *at_end;
            *at_end = phi;
        }
        Self { phi_at_end, urgency_at_end: urgencies(&links, interval), index }
    }

    /// −log₁₀ of the probability of more than this. O(1).
    pub(crate) fn phi(&self, magnitude: u64) -> f64 {
        self.between(&self.phi_at_end, 0.0, self.index, magnitude)
    }

    /// −log₁₀ of the probability, per interval, to end here what has lasted until here. O(1).
    pub(crate) fn urgency(&self, magnitude: u64) -> f64 {
        self.between(&self.urgency_at_end, self.urgency_at_end[0], self.index + 1.0, magnitude)
    }

    fn between(&self, at_end: &[f32; EDGES], first: f32, index: f32, magnitude: u64) -> f64 {
        let Position { bucket, fraction } = Position::of(magnitude);
        let begin = f64::from(if bucket == 0 { first } else { at_end[bucket - 1] });
        let Some(&end) = at_end.get(bucket) else {
            let octaves = log2(magnitude as f64 / f64::from(ENDS[EDGES - 1]));
            return begin + LOG10_2 * f64::from(index) * octaves.max(0.0);
        };
        begin + fraction * (f64::from(end) - begin)
    }
}

/// −log₁₀ of the density per interval, at the edges: of the greatest convex function below the
/// probabilities to exceed them. To wait where the density dips pays only if it pays beyond.
fn urgencies(links: &[f32; EDGES], interval: f64) -> [f32; EDGES] {
    // The corners of the convex function (Andrew's monotone chain), and the slopes that lead there.
    let mut corners = [(0.0, 1.0, 0.0); BUCKETS];
    let mut ends = [0; BUCKETS];
    let mut top = 0;
    let mut exceeded = 1.0f64;
    for (bucket, &link) in links.iter().enumerate() {
        exceeded *= f64::from(link);
        let edge = f64::from(ENDS[bucket]);
        let slope_from = |(x, y, _): (f64, f64, f64)| (y - exceeded) / (edge - x);
        let mut slope = slope_from(corners[top]);
        while top > 0 && slope >= corners[top].2 {
            top -= 1;
            slope = slope_from(corners[top]);
        }
        top += 1;
        corners[top] = (edge, exceeded, slope);
        ends[top] = bucket;
    }
    let mut urgencies = [0.0f32; EDGES];
    let mut bucket = 0;
    for corner in 1..=top {
        let density = (corners[corner].2 * interval).max(f64::MIN_POSITIVE);
        let urgency = -log10(density) as f32;
        while bucket <= ends[corner] {
            urgencies[bucket] = urgency;
            bucket += 1;
        }
    }
    // An edge lies between two slopes.
    for bucket in 0..EDGES - 1 {
        urgencies[bucket] = (urgencies[bucket] + urgencies[bucket + 1]) / 2.0;
    }
    urgencies
}

/// Of each bucket and all above; what is below the floor counts as in the floor's bucket.
fn sums_from(mut counts: [u32; BUCKETS], floor: usize) -> [f32; BUCKETS] {
    counts[floor] += core::mem::take(&mut counts[0]);
    let mut sums = [0.0; BUCKETS];
    let mut sum = 0;
    for (from, count) in sums.iter_mut().zip(counts).rev() {
        sum += count;
        *from = sum as f32;
    }
    sums
}

/// Where each bucket but the last ends.
const ENDS: [f32; EDGES] = {
    let mut edges = [0.0; EDGES];
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
        Survival::estimate(core::slice::from_ref(histogram), 0, 1, 1.0, 1e5)
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
        let unknown = Survival::estimate(&classes, 1, 1, 1.0, 1e5);
        for magnitude in [500, 5_000, 50_000, 5_000_000] {
            let (known, guessed) = (alone(&others).phi(magnitude), unknown.phi(magnitude));
            assert!((known - guessed).abs() < 0.1, "{magnitude}: {known} and {guessed}");
        }
    }

    #[test]
    fn a_hundred_calm_samples_do_not_rule_out_what_happens_once_in_ten_thousand() {
        let others = of((0..100_000).map(|i| if i % 10_000 == 0 { 500_000 } else { 10 }));
        let phi = Survival::estimate(&[others, of([10; 100])], 1, 1, 1.0, 1e5).phi(100_000);
        assert!((3.5..4.3).contains(&phi), "{phi}");
    }

    #[test]
    fn nor_do_ten_rule_out_what_happens_most_of_the_time() {
        let classes = [of([500_000; 100]), of([10; 10])];
        let phi = Survival::estimate(&classes, 1, 1, 1.0, 1e5).phi(100_000);
        assert!(phi < 1.0, "{phi}");
    }

    #[test]
    fn waiting_in_a_gap_is_as_urgent_as_what_lies_beyond_it() {
        // One in ten is 10 ms late, one in a thousand a second; nothing in between.
        let lateness = |i: u64| match i % 1_000 {
            0 => 1_000_000,
            of_10 if of_10 % 10 == 0 => 10_000,
            _ => 1,
        };
        let survival = alone(&of((0..100_000).map(lateness)));
        let [early, late] = [20_000, 500_000].map(|at| survival.urgency(at));
        assert!((early - late).abs() < 0.01, "{early} and {late}");
        assert!(survival.urgency(3_000_000) > late + 2.0);
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
