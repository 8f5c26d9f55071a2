//! The detectors that are compared, all with one face.

use std::collections::VecDeque;
use std::time::Duration;

use thalweg_phi::{Config, Detector, Model};

/// A detector whose suspicion rises with silence; a threshold on its level makes it binary.
#[derive(Clone)]
pub(crate) enum Rival {
    /// Silence since the latest heartbeat: the level is the timeout, in microseconds.
    Fixed {
        last_us: u64,
        next: u64,
    },
    Chen(Chen),
    Bertier(Bertier),
    /// The paper's: intervals as they arrive, whatever was lost in between.
    Unnumbered(Detector),
    Phi(Detector),
    Urgency(Detector),
}

/// What [`Rival::all`] calls them, in this order.
pub(crate) const NAMES: [&str; 8] = [
    "fixed timeout",
    "Chen NFD-E",
    "Bertier",
    "φ normal, unnumbered",
    "φ normal",
    "φ exponential",
    "φ",
    "urgency",
];

impl Rival {
    pub(crate) fn all(interval_us: u64) -> Vec<(&'static str, Self)> {
        let detector = |model| {
            let first_interval = Duration::from_micros(interval_us);
            let config = Config { model, first_interval, ..Config::default() };
            Detector::new(&config).expect("the default with another interval is valid")
        };
        let rivals = [
            Self::Fixed { last_us: 0, next: 0 },
            Self::Chen(Chen::new(interval_us)),
            Self::Bertier(Bertier::new(interval_us)),
            Self::Unnumbered(detector(Model::Normal)),
            Self::Phi(detector(Model::Normal)),
            Self::Phi(detector(Model::Exponential)),
            Self::Phi(detector(Model::default())),
            Self::Urgency(detector(Model::default())),
        ];
        NAMES.into_iter().zip(rivals).collect()
    }

    /// Takes in a heartbeat newer than all before.
    pub(crate) fn heartbeat(&mut self, sequence: u64, now_us: u64) {
        let now = Duration::from_micros(now_us);
        match self {
            Self::Fixed { last_us, next } => (*last_us, *next) = (now_us, sequence + 1),
            Self::Chen(chen) => chen.heartbeat(sequence, now_us),
            Self::Bertier(bertier) => bertier.heartbeat(sequence, now_us),
            Self::Unnumbered(detector) => detector.heartbeat(now),
            Self::Phi(detector) | Self::Urgency(detector) => {
                detector.heartbeat_numbered(sequence, now);
            }
        }
    }

    pub(crate) fn level(&self, now_us: u64) -> f64 {
        let now = Duration::from_micros(now_us);
        match self {
            Self::Fixed { last_us, .. } => now_us.saturating_sub(*last_us) as f64,
            Self::Chen(chen) => now_us as f64 - chen.expected_us(),
            Self::Bertier(bertier) => bertier.level(now_us),
            Self::Unnumbered(detector) | Self::Phi(detector) => detector.phi(now),
            Self::Urgency(detector) => detector.urgency(now),
        }
    }

    /// The first moment at which the level is at least this high.
    pub(crate) fn reaches(&self, level: f64, from_us: u64) -> u64 {
        let mut step = 1 << 17;
        let mut low = from_us;
        if self.level(low) >= level {
            return low;
        }
        while self.level(low + step) < level && step < 1 << 50 {
            low += step;
            step *= 2;
        }
        let mut high = low + step;
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.level(middle) < level {
                low = middle;
            } else {
                high = middle;
            }
        }
        high
    }
}

/// NFD-E of Chen, Toueg and Aguilera (2002, §6.3): a margin α over the expected arrival, which is
/// the mean of the last arrivals, each moved to the next sequence number. The level is α.
#[derive(Clone)]
pub(crate) struct Chen {
    interval_us: f64,
    /// Arrival minus `sequence × interval`.
    offsets_us: VecDeque<f64>,
    sum_us: f64,
    next: u64,
}

impl Chen {
    /// The paper's choice: larger windows improved nothing.
    const WINDOW: usize = 32;

    fn new(interval_us: u64) -> Self {
        Self {
            interval_us: interval_us as f64,
            offsets_us: VecDeque::with_capacity(Self::WINDOW),
            sum_us: 0.0,
            next: 0,
        }
    }

    fn heartbeat(&mut self, sequence: u64, now_us: u64) {
        if self.offsets_us.len() == Self::WINDOW {
            self.sum_us -= self.offsets_us.pop_front().expect("the window is full");
        }
        let offset_us = now_us as f64 - sequence as f64 * self.interval_us;
        self.offsets_us.push_back(offset_us);
        self.sum_us += offset_us;
        self.next = sequence + 1;
    }

    fn expected_us(&self) -> f64 {
        let mean_us = self.sum_us / self.offsets_us.len().max(1) as f64;
        mean_us + self.next as f64 * self.interval_us
    }
}

/// Bertier, Marin and Sens (2002, §4): Chen's estimate, with a margin that follows the error
/// as Jacobson's retransmission timer does (β = 1, γ = 0.1). The level is the multiple of the
/// error's mean magnitude, φ = 4 in the paper.
#[derive(Clone)]
pub(crate) struct Bertier {
    chen: Chen,
    delay_us: f64,
    var_us: f64,
}

impl Bertier {
    const GAMMA: f64 = 0.1;

    fn new(interval_us: u64) -> Self {
        Self { chen: Chen::new(interval_us), delay_us: 0.0, var_us: interval_us as f64 / 4.0 }
    }

    fn heartbeat(&mut self, sequence: u64, now_us: u64) {
        if !self.chen.offsets_us.is_empty() {
            let missed = (sequence - self.chen.next) as f64 * self.chen.interval_us;
            let error = now_us as f64 - self.chen.expected_us() - missed - self.delay_us;
            self.delay_us += Self::GAMMA * error;
            self.var_us += Self::GAMMA * (error.abs() - self.var_us);
        }
        self.chen.heartbeat(sequence, now_us);
    }

    fn level(&self, now_us: u64) -> f64 {
        (now_us as f64 - self.chen.expected_us() - self.delay_us) / self.var_us.max(1.0)
    }
}
