//! What a detector is told about the heartbeats it will watch.

use core::fmt;
use core::time::Duration;

/// The shape that a [`Detector`](crate::Detector) takes the silence between heartbeats to have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Model {
    /// Normally distributed intervals, with the mean and deviation of the window: the φ accrual
    /// detector of Hayashibara, Défago, Yared and Katayama (2004, §4), as in Akka.
    Normal,
    /// Exponentially distributed intervals, with the mean of the window: Cassandra's variant
    /// (Lakshman and Malik 2009, §5.2). Twice as late is twice as suspicious.
    Exponential,
    /// The measured distribution of lateness, given how late heartbeats have been lately, with a
    /// Pareto tail fitted to the largest (Hill 1975). Makes the fewest mistakes wherever lateness
    /// comes in episodes or has a heavy tail; loss counts as lateness of an interval and more.
    #[default]
    Empirical,
}

/// How a [`Detector`](crate::Detector) estimates, and where its estimates end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The shape of the silences. Default: [`Model::Empirical`].
    pub model: Model,
    /// How many intervals the normal and exponential models remember; 2 to [`Config::MAX_WINDOW`].
    /// Default: 200. The empirical model keeps counts instead, of 65,000 heartbeats and more.
    pub window: usize,
    /// The interval to assume before any is measured (Akka's first-heartbeat estimate), with a
    /// deviation of a quarter of it; not zero. Default: 1 s. The empirical model tells lateness of
    /// up to 33 s apart, or of 16 times this if that is more.
    pub first_interval: Duration,
    /// A floor under the standard deviation, and under lateness in the empirical model, so that
    /// very regular heartbeats do not make the detector hysterical. Default: 1 ms.
    pub min_std_dev: Duration,
    /// Silence that is forgiven before suspicion begins to rise. Default: none.
    pub acceptable_pause: Duration,
}

impl Config {
    /// The largest window: 256 KiB for each peer.
    pub const MAX_WINDOW: usize = 65_536;

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if !(2..=Self::MAX_WINDOW).contains(&self.window) {
            return Err(ConfigError::Window { found: self.window });
        }
        if self.first_interval < Duration::from_micros(1) {
            return Err(ConfigError::FirstInterval { found: self.first_interval });
        }
        Ok(())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            model: Model::default(),
            window: 200,
            first_interval: Duration::from_secs(1),
            min_std_dev: Duration::from_millis(1),
            acceptable_pause: Duration::ZERO,
        }
    }
}

/// A [`Config`] or threshold that cannot work.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The window holds too few intervals for a deviation, or more than the limit.
    Window {
        /// The window that was asked for.
        found: usize,
    },
    /// The first interval is shorter than a microsecond.
    FirstInterval {
        /// The interval that was asked for.
        found: Duration,
    },
    /// The threshold of suspicion is not a number above the threshold of trust.
    Thresholds {
        /// The level above which to suspect.
        suspect: f64,
        /// The level below which to trust.
        trust: f64,
    },
    /// The target is not a finite number of mistakes above zero.
    Target {
        /// The mistakes per day that were asked for.
        found: f64,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Window { found } => {
                let max = Config::MAX_WINDOW;
                write!(out, "window must hold 2 to {max} intervals, found {found}")
            }
            Self::FirstInterval { found } => {
                write!(out, "first_interval must be at least 1 µs, found {found:?}")
            }
            Self::Thresholds { suspect, trust } => write!(
                out,
                "the level to suspect at must exceed the level to trust at, \
                 found suspect {suspect} and trust {trust}"
            ),
            Self::Target { found } => {
                write!(out, "target mistakes per day must be finite and above zero, found {found}")
            }
        }
    }
}

impl core::error::Error for ConfigError {}
