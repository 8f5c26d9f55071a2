//! Alerts that explain others.

use std::collections::{BTreeMap, HashMap};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    alert::Alert,
    labels::{Fingerprint, Labels},
    matcher::Matchers,
};

/// While an alert `source` fires, nobody is told of alerts `target` that are `equal` in some
/// labels.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InhibitRule {
    /// Conditions on the alerts that explain others.
    pub source: Matchers,
    /// Conditions on the alerts that they explain.
    pub target: Matchers,
    /// Labels in which both must be equal; one that neither has is.
    #[serde(default)]
    pub equal: Vec<String>,
}

/// Which of `alerts` are explained by which, as Alertmanager sees it: only firing alerts explain,
/// and of two that are both source and target neither explains the other, nor itself.
pub(crate) fn inhibited(
    rules: &[InhibitRule],
    alerts: &[Alert],
) -> BTreeMap<Fingerprint, Vec<Fingerprint>> {
    let mut inhibited: BTreeMap<Fingerprint, Vec<Fingerprint>> = BTreeMap::new();
    for rule in rules {
        let mut sources: HashMap<Vec<&str>, Fingerprint> = HashMap::new();
        let mut mere_sources: HashMap<Vec<&str>, Fingerprint> = HashMap::new();
        let is_source = |alert: &Alert| rule.source.match_all(&alert.labels);
        let is_target = |alert: &Alert| rule.target.match_all(&alert.labels);
        for alert in alerts.iter().filter(|alert| alert.is_firing() && is_source(alert)) {
            let key = rule.key(&alert.labels);
            if !is_target(alert) {
                mere_sources.entry(key.clone()).or_insert(alert.fingerprint);
            }
            sources.entry(key).or_insert(alert.fingerprint);
        }
        if sources.is_empty() {
            continue;
        }
        for alert in alerts.iter().filter(|alert| is_target(alert)) {
            let sources = if is_source(alert) { &mere_sources } else { &sources };
            if let Some(source) = sources.get(&rule.key(&alert.labels)) {
                inhibited.entry(alert.fingerprint).or_default().push(*source);
            }
        }
    }
    inhibited
}

impl InhibitRule {
    fn key<'a>(&self, labels: &'a Labels) -> Vec<&'a str> {
        self.equal.iter().map(|name| labels.value(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{alert::tests::firing, instance::State};

    const RULE: &str =
        "source: [severity=critical]\ntarget: [severity=~info|warning]\nequal: [service, zone]";

    fn targets(alerts: &[Alert]) -> Vec<String> {
        let rules = [serde_saphyr::from_str(RULE).unwrap()];
        let inhibited = inhibited(&rules, alerts);
        let is_inhibited = |alert: &&Alert| inhibited.contains_key(&alert.fingerprint);
        alerts.iter().filter(is_inhibited).map(|alert| alert.name().to_owned()).collect()
    }

    #[test]
    fn a_firing_cause_explains_alerts_that_are_equal_in_the_labels_named() {
        let mut cause =
            firing(&[("alertname", "Down"), ("severity", "critical"), ("service", "a")]);
        let alerts = |cause: &Alert| {
            [
                cause.clone(),
                firing(&[("alertname", "Slow"), ("severity", "warning"), ("service", "a")]),
                firing(&[("alertname", "Other"), ("severity", "warning"), ("service", "b")]),
                firing(&[
                    ("alertname", "Zone"),
                    ("severity", "info"),
                    ("service", "a"),
                    ("zone", "1"),
                ]),
            ]
        };
        assert_eq!(targets(&alerts(&cause)), ["Slow"]);
        cause.state = State::Pending;
        assert_eq!(targets(&alerts(&cause)), Vec::<String>::new());
    }

    #[test]
    fn what_is_source_and_target_is_explained_by_what_is_source_only() {
        let rule = "source: [severity=~critical|warning]\ntarget: [severity=~warning|info]";
        let rules = [serde_saphyr::from_str(rule).unwrap()];
        let [critical, warning, other, info] =
            [("Down", "critical"), ("Slow", "warning"), ("Busy", "warning"), ("Note", "info")]
                .map(|(name, severity)| firing(&[("alertname", name), ("severity", severity)]));
        let explained = |alerts: &[&Alert]| {
            let alerts: Vec<Alert> = alerts.iter().map(|alert| (*alert).clone()).collect();
            let inhibited = inhibited(&rules, &alerts);
            let is_inhibited = |alert: &&Alert| inhibited.contains_key(&alert.fingerprint);
            let names = alerts.iter().filter(is_inhibited).map(|alert| alert.name().to_owned());
            names.collect::<Vec<_>>()
        };
        assert_eq!(explained(&[&critical, &warning, &info]), ["Slow", "Note"]);
        assert_eq!(explained(&[&warning, &other, &info]), ["Note"]);
    }

    #[test]
    fn what_is_a_cause_itself_is_not_explained_away() {
        let rule = "source: [service=a]\ntarget: [service=a]";
        let rules = [serde_saphyr::from_str(rule).unwrap()];
        let alerts = [
            firing(&[("alertname", "x"), ("service", "a")]),
            firing(&[("alertname", "y"), ("service", "a")]),
        ];
        assert!(inhibited(&rules, &alerts).is_empty());
    }
}
