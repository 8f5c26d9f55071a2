//! Who is told of which alerts, and how many at a time.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    alert::Alert,
    labels::{ALERT_NAME, Labels},
    matcher::Matchers,
    period::Period,
};

/// Groups by all labels: each alert is on its own.
const ALL_LABELS: &str = "...";

/// Sends alerts that meet conditions to receivers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// Conditions on the alerts' labels, all of which must hold; every alert when there are none.
    #[serde(default, rename = "match")]
    pub matchers: Matchers,
    /// Names of the receivers.
    pub receivers: Vec<String>,
    /// Whether the routes after this one are tried too.
    #[serde(default, rename = "continue")]
    pub goes_on: bool,
    /// Labels in which alerts must be equal to be told of together; `["..."]` for each on its own.
    #[serde(default = "default_group_by")]
    pub group_by: Vec<String>,
    /// How long to wait for more alerts before a new group is told of.
    #[serde(default = "default_group_wait")]
    pub group_wait: Period,
    /// How long to wait before changes of a group are told of.
    #[serde(default = "default_group_interval")]
    pub group_interval: Period<1>,
    /// After how long a group that still fires is told of again.
    #[serde(default = "default_repeat_interval")]
    pub repeat_interval: Period<1>,
}

fn default_group_by() -> Vec<String> {
    vec![ALERT_NAME.to_owned()]
}

fn default_group_wait() -> Period {
    Period::secs(10)
}

pub(crate) fn default_group_interval() -> Period<1> {
    Period::secs(60)
}

fn default_repeat_interval() -> Period<1> {
    Period::secs(4 * 3_600)
}

impl RouteConfig {
    /// A route of everything to `receivers`.
    pub(crate) fn everything_to(receivers: Vec<String>) -> Self {
        Self {
            matchers: Matchers::default(),
            receivers,
            goes_on: false,
            group_by: default_group_by(),
            group_wait: default_group_wait(),
            group_interval: default_group_interval(),
            repeat_interval: default_repeat_interval(),
        }
    }

    /// The labels that make up the group of an alert.
    pub(crate) fn group_labels(&self, alert: &Alert) -> Labels {
        if self.group_by.iter().any(|name| name == ALL_LABELS) {
            return alert.labels.clone();
        }
        Labels::new(self.group_by.iter().map(|name| (name, alert.labels.value(name))))
    }
}

/// The routes that an alert takes.
pub(crate) fn taken<'a>(
    routes: &'a [RouteConfig],
    alert: &Alert,
) -> impl Iterator<Item = &'a RouteConfig> {
    let mut is_done = false;
    routes.iter().filter(move |route| {
        let takes = !is_done && route.matchers.match_all(&alert.labels);
        is_done |= takes && !route.goes_on;
        takes
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::tests::firing;

    fn routes() -> Vec<RouteConfig> {
        serde_saphyr::from_str(
            "- {match: [severity=critical], receivers: [pager], continue: true}\n\
             - {match: [team=shop], receivers: [shop], group_by: [service]}\n\
             - {receivers: [mail], group_by: ['...']}",
        )
        .unwrap()
    }

    fn receivers(labels: &[(&str, &str)]) -> Vec<String> {
        let routes = routes();
        taken(&routes, &firing(labels)).flat_map(|route| route.receivers.clone()).collect()
    }

    #[test]
    fn the_first_route_that_fits_is_taken_and_more_if_it_says_so() {
        assert_eq!(receivers(&[("severity", "critical"), ("team", "shop")]), ["pager", "shop"]);
        assert_eq!(receivers(&[("severity", "critical")]), ["pager", "mail"]);
        assert_eq!(receivers(&[("team", "shop")]), ["shop"]);
        assert_eq!(receivers(&[]), ["mail"]);
    }

    #[test]
    fn alerts_are_grouped_by_the_labels_named() {
        let alert = firing(&[("alertname", "x"), ("service", "a"), ("host", "h")]);
        let groups: Vec<String> =
            routes().iter().map(|route| route.group_labels(&alert).to_string()).collect();
        assert_eq!(groups, ["{alertname=\"x\"}", "{service=\"a\"}", &alert.labels.to_string()]);
    }
}
