//! What can be said of alerts.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    anomaly::AnomalyConfig,
    error::{AlertError, Result},
    inhibit::InhibitRule,
    period::Period,
    receiver::ReceiverConfig,
    route::RouteConfig,
    rule::RuleConfig,
    silence::RecurringSilence,
};

/// Most texts of an alert: all that is kept of alerts is bounded.
const MAX_ANNOTATIONS: usize = 16;

/// Most that a limit may allow.
const MAX_LIMIT: usize = 100_000;

/// Name of the alerts about rules that cannot be evaluated.
pub(crate) const RULE_FAILING: &str = "RuleFailing";

/// Everything that can be said of alerts: three sections of a node's configuration.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AlertsConfig {
    /// Rules: queries whose rows are alerts.
    pub alerts: Vec<RuleConfig>,
    /// Columns of views that are watched for what is unusual.
    pub anomalies: Vec<AnomalyConfig>,
    /// Who is told of alerts, and of which not.
    pub alerting: AlertingConfig,
}

/// Who is told of alerts, and of which not.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AlertingConfig {
    /// Whether the rules that a server has of itself are kept: about the spool, with Kafka as the
    /// log. A rule of `alerts` takes the place of the one of its name.
    pub builtin_rules: bool,
    /// Address of this server, for links in messages.
    pub external_url: String,
    /// Who can be told.
    pub receivers: Vec<ReceiverConfig>,
    /// Who is told of which alerts: the first that fits. Without any, every receiver is told of
    /// everything.
    pub routes: Vec<RouteConfig>,
    /// Times at which nobody is told of some alerts.
    pub silences: Vec<RecurringSilence>,
    /// Alerts that explain others, of which nobody is told then.
    pub inhibit: Vec<InhibitRule>,
    /// Most alerts of one rule or anomaly; more are counted and left out.
    pub max_alerts_per_rule: usize,
    /// Queries of rules and anomalies that run at once.
    pub max_queries: usize,
    /// How long a query may take.
    pub query_timeout: Period<1>,
    /// How long after a start an alert that fired before and is not found is not yet held for
    /// over: the tables may have to catch up.
    pub restart_grace: Period,
    /// Notifications that wait for one receiver. When there are as many, groups wait, and are told
    /// of as they then are.
    pub max_queued_per_receiver: usize,
}

impl Default for AlertingConfig {
    fn default() -> Self {
        Self {
            builtin_rules: true,
            external_url: "http://127.0.0.1:7070".to_owned(),
            receivers: Vec::new(),
            routes: Vec::new(),
            silences: Vec::new(),
            inhibit: Vec::new(),
            max_alerts_per_rule: 1_000,
            max_queries: 4,
            query_timeout: Period::secs(30),
            restart_grace: Period::secs(60),
            max_queued_per_receiver: 100,
        }
    }
}

impl AlertsConfig {
    /// Checks what no value can tell of itself.
    ///
    /// # Errors
    /// [`AlertError::Config`].
    pub fn validate(&self) -> Result<()> {
        let wrong = |message: String| Err(AlertError::Config(message));
        let mut names = BTreeSet::from([RULE_FAILING]);
        let rules = self.alerts.iter().map(|rule| &rule.name);
        for name in rules.chain(self.anomalies.iter().map(|anomaly| &anomaly.name)) {
            if !names.insert(name.as_str()) {
                return wrong(format!(
                    "two alerts are called `{}`; names of rules and anomalies must differ",
                    name.as_str()
                ));
            }
        }
        for anomaly in &self.anomalies {
            anomaly.validate().map_err(AlertError::Config)?;
        }
        let texts = self.alerts.iter().map(|rule| (&rule.name, rule.annotations.len()));
        let anomalies = self.anomalies.iter().map(|it| (&it.name, it.annotations.len()));
        for (name, count) in texts.chain(anomalies) {
            if count > MAX_ANNOTATIONS {
                return wrong(format!(
                    "alert `{}`: expected at most {MAX_ANNOTATIONS} annotations, found {count}",
                    name.as_str()
                ));
            }
        }
        let alerting = &self.alerting;
        let mut receivers = BTreeSet::new();
        for receiver in &alerting.receivers {
            if !receivers.insert(receiver.name.as_str()) {
                return wrong(format!("two receivers are called `{}`", receiver.name));
            }
        }
        for (n, route) in alerting.routes.iter().enumerate() {
            let place = format!("alerting.routes[{n}].receivers");
            if route.receivers.is_empty() {
                return wrong(format!("{place}: expected the name of a receiver, found none"));
            }
            if let Some(name) =
                route.receivers.iter().find(|name| !receivers.contains(name.as_str()))
            {
                let known: Vec<&str> = receivers.iter().copied().collect();
                return wrong(format!(
                    "{place}: expected one of [{}], found `{name}`",
                    known.join(", ")
                ));
            }
        }
        for (name, limit) in [
            ("max_alerts_per_rule", alerting.max_alerts_per_rule),
            ("max_queries", alerting.max_queries),
            ("max_queued_per_receiver", alerting.max_queued_per_receiver),
        ] {
            if !(1..=MAX_LIMIT).contains(&limit) {
                return wrong(format!("alerting.{name}: expected 1 to {MAX_LIMIT}, found {limit}"));
            }
        }
        Ok(())
    }
}

impl AlertingConfig {
    /// The routes, or the one that there is without any.
    pub(crate) fn routes(&self) -> Vec<RouteConfig> {
        if !self.routes.is_empty() || self.receivers.is_empty() {
            return self.routes.clone();
        }
        let everyone = self.receivers.iter().map(|receiver| receiver.name.clone()).collect();
        vec![RouteConfig::everything_to(everyone)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validated(yaml: &str) -> Result<AlertsConfig, String> {
        let config: AlertsConfig =
            serde_saphyr::from_str(yaml).map_err(|error| error.to_string())?;
        config.validate().map_err(|error| error.to_string())?;
        Ok(config)
    }

    #[test]
    fn without_routes_everyone_is_told_of_everything() {
        let config = validated(
            "alerting: {receivers: [{name: a, webhook: {url: 'http://x'}}, {name: b, slack: {url: 'http://x'}}]}",
        );
        assert_eq!(config.unwrap().alerting.routes()[0].receivers, ["a", "b"]);
        assert_eq!(validated("{}").unwrap().alerting.routes(), []);
    }

    #[test]
    fn an_alert_has_a_limited_number_of_texts() {
        let yaml = |count: usize| {
            let texts: Vec<String> = (0..count).map(|n| format!("a{n}: x")).collect();
            format!("alerts: [{{name: a, query: x, annotations: {{{}}}}}]", texts.join(", "))
        };
        assert!(validated(&yaml(MAX_ANNOTATIONS)).is_ok());
        let error = validated(&yaml(MAX_ANNOTATIONS + 1)).unwrap_err();
        assert_eq!(error, "alert `a`: expected at most 16 annotations, found 17");
    }

    #[test]
    fn what_does_not_go_together_is_refused_with_the_place() {
        for (yaml, why) in [
            ("alerts: [{name: a, query: x}, {name: a, query: y}]", "called `a`"),
            ("alerts: [{name: RuleFailing, query: x}]", "called `RuleFailing`"),
            ("alerting: {routes: [{receivers: [a]}]}", "routes[0].receivers: expected one of []"),
            ("alerting: {routes: [{receivers: []}]}", "found none"),
            ("alerting: {max_queries: 0}", "max_queries: expected 1 to 100000, found 0"),
            ("alerting: {max_alerts_per_rule: 18446744073709551615}", "max_alerts_per_rule"),
            ("alerting: {max_queued_per_receiver: 100001}", "max_queued_per_receiver"),
            ("alerting: {maxx: 0}", "maxx"),
        ] {
            let error = validated(yaml).unwrap_err();
            assert!(error.contains(why), "{yaml}: {error}");
        }
    }
}
