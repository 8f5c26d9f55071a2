//! Values at which an alert fires and is resolved.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::instance::Signal;

/// A value at which an alert fires, and another at which it is resolved: between the two it stays
/// what it is, so that a value that wavers around one of them does not make it flap.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "Bounds")]
#[schemars(with = "Bounds")]
pub struct Threshold {
    fire: Comparison,
    resolve: Option<Comparison>,
}

/// `{fire: "> 0.05", resolve: "< 0.02"}`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Bounds {
    /// The alert fires when `value` is so: `> 0.05`.
    fire: Comparison,
    /// It is resolved when `value` is so: `< 0.02`; when it does not fire, if this is not given.
    resolve: Option<Comparison>,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
struct Comparison {
    operator: Operator,
    bound: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    AtLeast,
    AtMost,
    Above,
    Below,
}

impl Operator {
    /// Longest first: `>` begins `>=` too.
    const ALL: [(&str, Self); 4] =
        [(">=", Self::AtLeast), ("<=", Self::AtMost), (">", Self::Above), ("<", Self::Below)];

    fn is_upward(self) -> bool {
        matches!(self, Self::AtLeast | Self::Above)
    }
}

impl Threshold {
    /// What `value` means for the alert. No value means that there is nothing to be alarmed
    /// about.
    pub(crate) fn judge(self, value: Option<f64>) -> Signal {
        let Some(value) = value else { return Signal::Clear };
        if self.fire.holds(value) {
            return Signal::Fire;
        }
        match self.resolve {
            Some(resolve) if !resolve.holds(value) => Signal::Hold,
            _ => Signal::Clear,
        }
    }
}

impl Comparison {
    fn holds(self, value: f64) -> bool {
        match self.operator {
            Operator::AtLeast => value >= self.bound,
            Operator::AtMost => value <= self.bound,
            Operator::Above => value > self.bound,
            Operator::Below => value < self.bound,
        }
    }
}

impl TryFrom<Bounds> for Threshold {
    type Error = String;

    fn try_from(Bounds { fire, resolve }: Bounds) -> Result<Self, String> {
        if let Some(resolve) = resolve {
            let is_opposed = fire.operator.is_upward() != resolve.operator.is_upward();
            let is_apart = if fire.operator.is_upward() {
                resolve.bound <= fire.bound
            } else {
                resolve.bound >= fire.bound
            };
            if !is_opposed || !is_apart {
                let found = Self { fire, resolve: Some(resolve) };
                return Err(format!(
                    "expected `resolve` to be on the other side of `fire`, as in \
                     {{fire: \"> 0.05\", resolve: \"< 0.02\"}}, found {found}"
                ));
            }
        }
        Ok(Self { fire, resolve })
    }
}

impl TryFrom<String> for Comparison {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let trimmed = text.trim();
        Operator::ALL
            .into_iter()
            .find_map(|(symbol, operator)| {
                let bound: f64 = trimmed.strip_prefix(symbol)?.trim().parse().ok()?;
                bound.is_finite().then_some(Self { operator, bound })
            })
            .ok_or_else(|| format!("expected a comparison such as \"> 0.05\", found `{text}`"))
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fire {}", self.fire)?;
        self.resolve.map_or(Ok(()), |resolve| write!(f, ", resolve {resolve}"))
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (symbol, _) = Operator::ALL
            .into_iter()
            .find(|(_, operator)| *operator == self.operator)
            .unwrap_or(Operator::ALL[0]);
        write!(f, "\"{symbol} {}\"", self.bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threshold(json: serde_json::Value) -> Result<Threshold, String> {
        serde_json::from_value(json).map_err(|error| error.to_string())
    }

    #[test]
    fn between_the_two_values_an_alert_stays_what_it_is() {
        let rates = threshold(serde_json::json!({"fire": "> 0.05", "resolve": "< 0.02"})).unwrap();
        let signals = [0.06, 0.05, 0.02, 0.01].map(|rate| rates.judge(Some(rate)));
        assert_eq!(signals, [Signal::Fire, Signal::Hold, Signal::Hold, Signal::Clear]);
        assert_eq!(rates.judge(None), Signal::Clear);
        let low = threshold(serde_json::json!({"fire": "<=1"})).unwrap();
        assert_eq!([1.0, 1.1].map(|n| low.judge(Some(n))), [Signal::Fire, Signal::Clear]);
    }

    #[test]
    fn thresholds_that_cannot_work_are_refused() {
        for (json, why) in [
            (serde_json::json!({"fire": "> 1", "resolve": "< 2"}), "other side"),
            (serde_json::json!({"fire": "> 1", "resolve": "> 0"}), "other side"),
            (serde_json::json!({"fire": "< 1", "resolve": "> 0"}), "other side"),
            (serde_json::json!({"fire": "= 1"}), "such as"),
            (serde_json::json!({"fire": "> NaN"}), "such as"),
            (serde_json::json!({"fier": "> 1"}), "fier"),
        ] {
            let error = threshold(json.clone()).unwrap_err();
            assert!(error.contains(why), "{json}: {error}");
        }
    }
}
