//! Values that are unusual, and values that fail to come.
//!
//! ```text
//! view ─ rows of closed windows ─▶ series, one a key ─▶ detector ─▶ verdict ─▶ samples of alerts
//! ```
//!
//! Everything but the query is arithmetic on values and times that are handed in.

mod config;
mod detector;
mod ewma;
#[cfg(test)]
mod generated;
mod holt_winters;
mod query;
mod rate_of_change;
mod robust_z;
mod series;
mod watch;

pub use config::{
    AnomalyConfig, DetectorConfig, Direction, EwmaConfig, HoltWintersConfig, RateOfChangeConfig,
    RobustZConfig,
};
pub use detector::{Detector, Expectation, Side, Verdict};
pub(crate) use query::{Cursor, Points};
pub(crate) use watch::{Watch, WatchState};
