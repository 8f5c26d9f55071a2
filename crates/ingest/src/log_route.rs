//! Rules that give events topics of their own.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What names of topics of events begin with.
pub const LOGS_PREFIX: &str = "logs.";

/// Longest topic name; it names a directory, and Kafka's limit is near.
const MAX_TOPIC_BYTES: usize = 200;
/// Most rules: which of them a value meets is kept as the bits of a word.
const MAX_ROUTES: usize = u64::BITS as usize;

/// Rules for events, of which the first that an event meets names its topic. One that meets none
/// goes to `logs.critical` or `logs.routine`, as its priority says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "Vec<LogRoute>")]
pub struct LogRoutes(Vec<LogRoute>);

/// Events of some services or environments, and their topic. If both are given, both must fit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogRoute {
    /// Services, by their exact names.
    #[serde(default)]
    pub services: BTreeSet<String>,
    /// Environments (column `environment`: OpenTelemetry's `deployment.environment.name`), by their
    /// exact names.
    #[serde(default)]
    pub environments: BTreeSet<String>,
    /// Where they go. The topic is made; its rows are in table `logs` as those of all others are.
    pub topic: LogTopic,
}

/// Name of a topic of events: `logs.` and letters, digits, `.`, `_` or `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct LogTopic(String);

impl LogRoutes {
    /// The topics that the rules name, each once.
    pub fn topics(&self) -> BTreeSet<&str> {
        self.0.iter().map(|route| route.topic.as_str()).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, LogRoute> {
        self.0.iter()
    }

    /// The rules, by their bits, that a value of the column meets in which they name `names`.
    pub(crate) fn met_by(
        &self,
        value: &str,
        names: impl Fn(&LogRoute) -> &BTreeSet<String>,
    ) -> u64 {
        let is_met = |route: &LogRoute| names(route).is_empty() || names(route).contains(value);
        let met = self.iter().enumerate().filter(|(_, route)| is_met(route));
        met.fold(0, |bits, (rule, _)| bits | 1 << rule)
    }
}

impl TryFrom<Vec<LogRoute>> for LogRoutes {
    type Error = String;

    fn try_from(routes: Vec<LogRoute>) -> Result<Self, String> {
        if routes.len() > MAX_ROUTES {
            return Err(format!("expected at most {MAX_ROUTES} rules, found {}", routes.len()));
        }
        let asks = |route: &LogRoute| !(route.services.is_empty() && route.environments.is_empty());
        match routes.iter().find(|route| !asks(route)) {
            None => Ok(Self(routes)),
            Some(route) => Err(format!(
                "expected `services` or `environments` that go to {}, found neither",
                route.topic.as_str()
            )),
        }
    }
}

impl LogTopic {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for LogTopic {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let fits = |rest: &str| {
            !rest.is_empty()
                && rest.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
        };
        if name.len() <= MAX_TOPIC_BYTES && name.strip_prefix(LOGS_PREFIX).is_some_and(fits) {
            return Ok(Self(name));
        }
        Err(format!(
            "expected a topic `{LOGS_PREFIX}NAME` of at most {MAX_TOPIC_BYTES} letters, digits, \
             `.`, `_` and `-`, found `{name}`"
        ))
    }
}

impl From<LogTopic> for String {
    fn from(topic: LogTopic) -> Self {
        topic.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(routes: Value) -> Result<LogRoutes, String> {
        serde_json::from_value(routes).map_err(|error| error.to_string())
    }

    #[test]
    fn a_rule_that_cannot_be_meant_is_refused_with_what_would_be_right() {
        for (route, expected) in [
            (json!({"topic": "logs.a"}), "expected `services` or `environments`"),
            (json!({"services": ["a"], "topic": "payment"}), "expected a topic `logs.NAME`"),
            (json!({"services": ["a"], "topic": "logs."}), "expected a topic `logs.NAME`"),
            (json!({"services": ["a"], "topic": "logs.a/b"}), "found `logs.a/b`"),
            (json!({"service": ["a"], "topic": "logs.a"}), "unknown field `service`"),
        ] {
            let error = read(json!([route])).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let route = json!({"services": ["a"], "topic": "logs.a"});
        assert!(read(Value::from(vec![route.clone(); 64])).is_ok());
        assert!(read(Value::from(vec![route; 65])).unwrap_err().contains("found 65"));
    }

    #[test]
    fn a_value_meets_the_rules_that_name_it_and_those_that_ask_nothing_of_it() {
        let routes = read(json!([
            {"services": ["payment"], "topic": "logs.payment"},
            {"environments": ["prod-eu"], "topic": "logs.eu"},
            {"services": ["payment", "cart"], "environments": ["prod-us"], "topic": "logs.us"},
        ]))
        .unwrap();
        assert_eq!(routes.met_by("payment", |route| &route.services), 0b111);
        assert_eq!(routes.met_by("cart", |route| &route.services), 0b110);
        assert_eq!(routes.met_by("", |route| &route.environments), 0b001);
        assert_eq!(routes.met_by("prod-us", |route| &route.environments), 0b101);
        assert_eq!(Vec::from_iter(routes.topics()), ["logs.eu", "logs.payment", "logs.us"]);
    }
}
