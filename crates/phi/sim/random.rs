//! A seeded generator, spelled out here so that the tables never change under us.

use std::f64::consts::TAU;

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014, figure 17) and the distributions networks need.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in (0, 1): never an end, so that logarithms are finite.
    pub(crate) fn uniform(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    pub(crate) fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (TAU * self.uniform()).cos()
    }

    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * self.uniform().ln()
    }

    pub(crate) fn log_normal(&mut self, median: f64, sigma: f64) -> f64 {
        median * (sigma * self.normal()).exp()
    }

    /// Lomax (Pareto II): zero upwards, with a tail of index `alpha`.
    pub(crate) fn lomax(&mut self, scale: f64, alpha: f64) -> f64 {
        scale * (self.uniform().powf(-1.0 / alpha) - 1.0)
    }
}

/// Load that wanders: an Ornstein-Uhlenbeck process with mean 0 and deviation `sigma`; `exp` of it
/// multiplies rates and queue lengths (a log-Gaussian Cox process, the usual model of bursty traffic).
pub(crate) struct Load {
    value: f64,
    sigma: f64,
    keep: f64,
}

impl Load {
    pub(crate) fn new(random: &mut Random, sigma: f64, memory_secs: f64, step_secs: f64) -> Self {
        let value = sigma * random.normal();
        Self { value, sigma, keep: (-step_secs / memory_secs).exp() }
    }

    /// The load after one more step.
    pub(crate) fn step(&mut self, random: &mut Random) -> f64 {
        let spread = self.sigma * (1.0 - self.keep * self.keep).sqrt();
        self.value = self.keep * self.value + spread * random.normal();
        self.value
    }
}
