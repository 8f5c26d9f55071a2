//! Which events are critical.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::severity::{Level, Severity};

/// Rules that tell critical events from routine ones; an event is critical when any rule matches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct PriorityRules(pub Vec<PriorityRule>);

/// Matches an event when everything it names matches; a rule that names nothing matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PriorityRule {
    /// Lowest level that matches, e.g. `ERROR`.
    pub min_level: Option<Level>,
    /// Service names that match.
    pub services: Vec<String>,
    /// Environments that match.
    pub environments: Vec<String>,
}

impl Default for PriorityRules {
    /// ERROR and above is critical.
    fn default() -> Self {
        Self(vec![PriorityRule { min_level: Some(Level::Error), ..Default::default() }])
    }
}

impl PriorityRules {
    pub(crate) fn is_critical(
        &self,
        severity: Option<Severity>,
        service: Option<&str>,
        environment: Option<&str>,
    ) -> bool {
        let listed = |names: &[String], name: Option<&str>| {
            names.is_empty() || name.is_some_and(|name| names.iter().any(|listed| listed == name))
        };
        self.0.iter().any(|rule| {
            let severe = rule
                .min_level
                .is_none_or(|min| severity.is_some_and(|severity| severity.level() >= min));
            severe && listed(&rule.services, service) && listed(&rule.environments, environment)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_default_errors_are_critical_and_warnings_are_not() {
        let rules = PriorityRules::default();
        assert!(rules.is_critical(Some(Level::Error.severity()), None, None));
        assert!(rules.is_critical(Some(Level::Fatal.severity()), Some("a"), None));
        assert!(!rules.is_critical(Some(Level::Warn.severity()), None, None));
        assert!(!rules.is_critical(None, None, None));
    }

    #[test]
    fn everything_a_rule_names_must_match() {
        let rule = PriorityRule {
            services: vec!["payment".into()],
            environments: vec!["prod".into()],
            ..Default::default()
        };
        let rules = PriorityRules(vec![rule]);
        assert!(rules.is_critical(None, Some("payment"), Some("prod")));
        assert!(!rules.is_critical(None, Some("payment"), Some("test")));
        assert!(!rules.is_critical(None, None, Some("prod")));
    }
}
