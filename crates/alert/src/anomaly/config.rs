//! What can be said of anomalies.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    book::Timing,
    name::Name,
    number::{Count, Fraction, LARGEST, Positive},
    period::Period,
    rule::Query,
    severity::Severity,
    template::Template,
};

/// Numbers that the detectors of one anomaly's series may keep, all together.
const MAX_NUMBERS: usize = 2_000_000;

/// A column of a view that is watched for what is unusual.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AnomalyConfig {
    /// Its name, which its alerts have as the label `alertname`.
    pub name: Name,
    /// Name of the view.
    pub view: Name,
    /// Name of the column, whose values must be numbers.
    pub column: Name,
    /// Columns that tell series apart, such as `service`: each is judged by its own history, and
    /// has them as labels.
    #[serde(default)]
    pub by: Vec<String>,
    /// How values are judged.
    pub detector: DetectorConfig,
    /// Which values are worth an alert: those above what is expected, those below, or both.
    #[serde(default)]
    pub direction: Direction,
    /// A difference from what is expected that is too small to matter, in the column's own unit,
    /// however unusual it may be.
    pub min_deviation: Positive,
    /// Windows of a series that must have been seen before it is judged.
    #[serde(default = "default_min_history")]
    pub min_history: Count<2, 10_000>,
    /// Windows that must be unusual before they are held for the new normal.
    #[serde(default = "default_adapt_after")]
    pub adapt_after: Count<2, 100_000>,
    /// Windows that a series that used to report must be silent for to be missing, which is an
    /// anomaly of its own (label `anomaly="missing"`); twice its longest pause lately if that is
    /// more. With 0 nothing is ever missing.
    #[serde(default = "default_missing_after")]
    pub missing_after: Count<0, 10_000>,
    /// How long a series may be silent before it is forgotten.
    #[serde(default = "one_day")]
    pub forget_after: Period<1>,
    /// A condition in SQL on the rows to be judged, such as `requests >= 20`. Series that report
    /// rows that do not meet it are neither judged by them nor missing.
    #[serde(rename = "where")]
    pub condition: Option<Query>,
    /// How often the view is asked for new rows.
    #[serde(default = "default_every")]
    pub every: Period<1>,
    /// How far back rows are read at the first start, to have a history to begin with.
    #[serde(default = "one_day")]
    pub lookback: Period<1>,
    /// How long values must be unusual before the alert fires.
    #[serde(default, rename = "for")]
    pub hold: Period,
    /// How long they must be normal before it is resolved.
    #[serde(default)]
    pub keep_firing_for: Period,
    /// How bad its alerts are.
    #[serde(default)]
    pub severity: Severity,
    /// Labels of its alerts besides those of `by`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Texts for people, besides and in place of those that explain the anomaly (`summary`,
    /// `expected`, `observed`, `history`); `{{ value }}`, `{{ expected }}`, `{{ score }}` and the
    /// labels are what they can show.
    #[serde(default)]
    pub annotations: BTreeMap<String, Template>,
    /// Most series; more are counted and left out.
    #[serde(default = "default_max_series")]
    pub max_series: Count<1, 100_000>,
    /// The column with the time that a window begins.
    #[serde(default = "default_time_column")]
    pub time_column: Name,
    /// The column that says whether a row is final: only those are judged. Without a name all
    /// rows are.
    #[serde(default = "default_final_column")]
    pub final_column: Option<Name>,
}

/// Which values are worth an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Those above what is expected.
    Above,
    /// Those below.
    Below,
    /// All.
    #[default]
    Both,
}

/// How values are judged.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DetectorConfig {
    /// By their distance from the median, in median absolute deviations: for values without trend
    /// or season, whatever outliers they have had (Iglewicz and Hoaglin, 1993).
    RobustZ(RobustZConfig),
    /// By a control chart of their exponentially weighted mean: for small shifts that last
    /// (Roberts, 1959).
    Ewma(EwmaConfig),
    /// By their distance from a forecast with trend and season (Holt, 1957; Winters, 1960).
    HoltWinters(HoltWintersConfig),
    /// By how much they changed in a short time.
    RateOfChange(RateOfChangeConfig),
}

/// Distance from the median.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RobustZConfig {
    /// Windows that the median is taken of.
    pub window: Count<5, 2_000>,
    /// Distance from the median that is unusual, in standard deviations.
    pub threshold: Positive,
}

/// A control chart.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EwmaConfig {
    /// Weight of the newest value in the mean: small ones find small shifts, and later.
    pub lambda: Fraction,
    /// Distance of the mean that is unusual, in its own standard deviations.
    pub limit: Positive,
    /// Windows over which it is learned what is usual.
    pub memory: Count<10, 100_000>,
}

/// A forecast with trend and season.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HoltWintersConfig {
    /// Windows of a season: 1440 for a day of minutes. Two seasons are seen before values are
    /// judged.
    pub season: Count<2, 20_000>,
    /// How fast the level follows.
    #[serde(default = "default_alpha")]
    pub alpha: Fraction,
    /// How fast the trend follows.
    #[serde(default = "default_beta")]
    pub beta: Fraction,
    /// How fast the season follows.
    #[serde(default = "default_gamma")]
    pub gamma: Fraction,
    /// Distance from the forecast that is unusual, in standard deviations of its error.
    #[serde(default = "default_band")]
    pub band: Positive,
}

/// Change in a short time.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateOfChangeConfig {
    /// How many times the baseline a value must be, or its inverse: 2 for the double or the half.
    #[serde(deserialize_with = "ratio")]
    pub ratio: f64,
    /// Windows before whose median is the baseline.
    #[serde(default = "default_over")]
    pub over: Count<1, 1_000>,
    /// Baselines below this are taken for this: twice of almost nothing is nothing.
    pub min_baseline: Positive,
}

fn ratio<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let ratio = f64::deserialize(deserializer)?;
    if ratio > 1.0 && ratio <= LARGEST {
        return Ok(ratio);
    }
    let message = format!(
        "expected a ratio above 1 and at most {LARGEST:e}, such as 2 for the double, found {ratio}"
    );
    Err(serde::de::Error::custom(message))
}

impl Default for RobustZConfig {
    fn default() -> Self {
        Self { window: Count::of(120), threshold: Positive::of(6.0) }
    }
}

impl Default for EwmaConfig {
    fn default() -> Self {
        Self { lambda: Fraction::of(0.2), limit: Positive::of(5.0), memory: Count::of(240) }
    }
}

fn default_min_history() -> Count<2, 10_000> {
    Count::of(30)
}

fn default_adapt_after() -> Count<2, 100_000> {
    Count::of(360)
}

fn default_missing_after() -> Count<0, 10_000> {
    Count::of(5)
}

fn default_max_series() -> Count<1, 100_000> {
    Count::of(1_000)
}

fn default_over() -> Count<1, 1_000> {
    Count::of(5)
}

fn default_every() -> Period<1> {
    Period::secs(5)
}

fn one_day() -> Period<1> {
    Period::secs(86_400)
}

fn default_alpha() -> Fraction {
    Fraction::of(0.2)
}

fn default_beta() -> Fraction {
    Fraction::of(0.01)
}

fn default_gamma() -> Fraction {
    Fraction::of(0.2)
}

fn default_band() -> Positive {
    Positive::of(6.0)
}

fn default_time_column() -> Name {
    Name::constant("window_start")
}

fn default_final_column() -> Option<Name> {
    Some(Name::constant("is_final"))
}

impl DetectorConfig {
    /// Its name, as in the configuration.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RobustZ(_) => "robust_z",
            Self::Ewma(_) => "ewma",
            Self::HoltWinters(_) => "holt_winters",
            Self::RateOfChange(_) => "rate_of_change",
        }
    }

    /// Windows of a series whose values it keeps, and the setting that says how many.
    fn remembered(&self) -> Option<(&'static str, usize)> {
        match self {
            Self::RobustZ(config) => Some(("window", config.window.get())),
            Self::Ewma(_) => None,
            Self::HoltWinters(config) => Some(("season", config.season.get())),
            Self::RateOfChange(config) => Some(("over", config.over.get())),
        }
    }
}

impl AnomalyConfig {
    /// Checks what no value can tell of itself.
    pub(crate) fn validate(&self) -> Result<(), String> {
        let Some((setting, windows)) = self.detector.remembered() else { return Ok(()) };
        let series = self.max_series.get();
        if windows * series <= MAX_NUMBERS {
            return Ok(());
        }
        Err(format!(
            "anomaly `{}`: {windows} windows of {series} series are more than {MAX_NUMBERS} numbers \
             to keep; lower `max_series` or `{setting}`",
            self.name.as_str(),
        ))
    }

    /// What is watched, and how, as far as what is learned depends on it.
    pub(super) fn subject(&self) -> String {
        let season = match &self.detector {
            DetectorConfig::HoltWinters(config) => config.season.get(),
            _ => 0,
        };
        let (detector, condition) = (self.detector.name(), &self.condition);
        let (view, column) = (self.view.as_str(), self.column.as_str());
        format!("{view:?} {column:?} {:?} {condition:?} {detector} {season}", self.by)
    }

    pub(crate) fn timing(&self) -> Timing {
        Timing { hold: self.hold.get(), keep_firing: self.keep_firing_for.get() }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An anomaly of `requests` in `traffic` by service, with more said of it.
    pub(in crate::anomaly) fn anomaly(more: &str) -> Result<AnomalyConfig, String> {
        let yaml = format!(
            "name: Traffic\nview: traffic\ncolumn: requests\nby: [service]\nmin_deviation: 5\n{more}"
        );
        serde_saphyr::from_str(&yaml).map_err(|error| error.to_string())
    }

    #[test]
    fn a_detector_is_named_with_its_settings() {
        let config = anomaly("detector: {robust_z: {threshold: 4}}").unwrap();
        let DetectorConfig::RobustZ(robust_z) = config.detector else { panic!("{config:?}") };
        assert_eq!((robust_z.threshold.get(), robust_z.window.get()), (4.0, 120));
        assert!(anomaly("detector: {holt_winters: {season: 24}}").is_ok());
        assert!(anomaly("detector: {rate_of_change: {ratio: 2, min_baseline: 10}}").is_ok());
    }

    #[test]
    fn settings_that_cannot_work_do_not_parse() {
        for (more, why) in [
            ("detector: {robust_z: {window: 1}}", "5 to 2000"),
            ("detector: {ewma: {lambda: 2}}", "at most 1"),
            ("detector: {rate_of_change: {ratio: 0.5, min_baseline: 1}}", "above 1"),
            ("detector: {holt_winters: {}}", "season"),
            ("detector: {arima: {}}", "arima"),
            ("detector: {robust_z: {}}\ndirection: up", "above"),
        ] {
            let error = anomaly(more).unwrap_err();
            assert!(error.contains(why), "{more}: {error}");
        }
        for (detector, setting) in [
            ("holt_winters: {season: 10000}", "`season`"),
            ("robust_z: {window: 2000}", "`window`"),
            ("rate_of_change: {ratio: 2, min_baseline: 1, over: 1000}", "`over`"),
        ] {
            let large = anomaly(&format!("detector: {{{detector}}}\nmax_series: 5000")).unwrap();
            let error = large.validate().unwrap_err();
            assert!(error.contains("`max_series` or ") && error.contains(setting), "{error}");
        }
        let many = anomaly("detector: {ewma: {}}\nmax_series: 100000").unwrap();
        assert_eq!(many.validate(), Ok(()));
    }
}
