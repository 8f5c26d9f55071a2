//! Why a detector holds a value for an anomaly.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What was expected, what was seen, and what came before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Evidence {
    /// `robust_z`, `ewma`, `holt_winters`, `rate_of_change` or `missing`.
    pub detector: String,
    /// Lowest value that would have been normal.
    pub expected_low: Option<f64>,
    /// Highest value that would have been normal.
    pub expected_high: Option<f64>,
    /// What was seen.
    pub observed: Option<f64>,
    /// Distance from what was expected, in the detector's own measure: standard deviations, or
    /// for `rate_of_change` the relative change; for `missing` the windows without data.
    pub score: f64,
    /// Values of the windows before, oldest first.
    pub history: Vec<f64>,
}
