//! What a receiver is told.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{alert::Alert, instance::State, labels::Labels};

/// Most alerts that are told of at once.
pub(crate) const MAX_ALERTS: usize = 100;
/// How Alertmanager says that an alert has not ended.
const NOT_ENDED: &str = "0001-01-01T00:00:00Z";

/// What a receiver is told of a group of alerts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// Number that no other one has.
    pub id: u64,
    /// Name of the receiver.
    pub receiver: String,
    /// Name of the group: the same each time that the group is told of.
    pub group_key: String,
    /// Labels that the alerts of the group are equal in.
    pub group_labels: Labels,
    /// The alerts, firing ones first; at most a hundred.
    pub alerts: Vec<Alert>,
    /// Alerts of the group that were left out.
    pub truncated: usize,
    /// When it was decided.
    pub created_at: DateTime<Utc>,
}

impl Notification {
    /// Whether any of its alerts fires.
    pub fn is_firing(&self) -> bool {
        self.alerts.iter().any(Alert::is_firing)
    }

    /// `firing` or `resolved`.
    pub fn status(&self) -> &'static str {
        if self.is_firing() { "firing" } else { "resolved" }
    }

    /// One line for people: `[FIRING:2] Errors payment`.
    pub fn title(&self) -> String {
        let firing = self.alerts.iter().filter(|alert| alert.is_firing()).count();
        let count = if firing > 0 { format!("[FIRING:{firing}]") } else { "[RESOLVED]".to_owned() };
        let about: Vec<&str> = self.group_labels.iter().map(|(_, value)| value).collect();
        let about = match about.is_empty() {
            true => self.alerts.first().map(Alert::name).unwrap_or_default().to_owned(),
            false => about.join(" "),
        };
        format!("{count} {about}")
    }

    /// The body of Alertmanager's webhook, version 4.
    pub fn to_alertmanager_json(&self, external_url: &str) -> Value {
        let alerts: Vec<Value> =
            self.alerts.iter().map(|alert| alert_json(alert, external_url)).collect();
        json!({
            "version": "4",
            "groupKey": self.group_key,
            "truncatedAlerts": self.truncated,
            "status": self.status(),
            "receiver": self.receiver,
            "groupLabels": self.group_labels,
            "commonLabels": common(&self.alerts, |alert| alert.labels.iter().collect()),
            "commonAnnotations": common(&self.alerts, |alert| {
                alert.annotations.iter().map(|(name, text)| (&**name, &**text)).collect()
            }),
            "externalURL": external_url,
            "alerts": alerts,
        })
    }
}

fn alert_json(alert: &Alert, external_url: &str) -> Value {
    let ends_at = alert.ends_at.map(|at| json!(at));
    json!({
        "status": if alert.state == State::Resolved { "resolved" } else { "firing" },
        "labels": alert.labels,
        "annotations": alert.annotations,
        "startsAt": alert.starts_at,
        "endsAt": ends_at.unwrap_or_else(|| NOT_ENDED.into()),
        "generatorURL": alert_url(alert, external_url),
        "fingerprint": alert.fingerprint,
    })
}

/// Where a person or a program sees more of an alert.
pub(crate) fn alert_url(alert: &Alert, external_url: &str) -> String {
    format!("{external_url}/api/v1/alerts?fingerprint={}", alert.fingerprint)
}

/// Names and values that all alerts have.
fn common<'a>(
    alerts: &'a [Alert],
    named: impl Fn(&'a Alert) -> Vec<(&'a str, &'a str)>,
) -> serde_json::Map<String, Value> {
    let Some((first, others)) = alerts.split_first() else { return Default::default() };
    let mut common = named(first);
    for alert in others {
        let named = named(alert);
        common.retain(|pair| named.contains(pair));
    }
    common.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::alert::tests::firing;

    /// Told of two alerts, one of which is resolved.
    pub(crate) fn notification() -> Notification {
        let mut first =
            firing(&[("alertname", "Errors"), ("service", "cart"), ("severity", "info")]);
        first.annotations.insert("summary".into(), "errors of cart".into());
        first.annotations.insert("runbook".into(), "r".into());
        let mut second =
            firing(&[("alertname", "Errors"), ("service", "pay"), ("severity", "info")]);
        second.annotations.insert("summary".into(), "errors of pay".into());
        second.annotations.insert("runbook".into(), "r".into());
        second.state = State::Resolved;
        second.ends_at = DateTime::from_timestamp(60, 0);
        Notification {
            id: 1,
            receiver: "ops".into(),
            group_key: "{}:{alertname=\"Errors\"}".into(),
            group_labels: Labels::new([("alertname", "Errors")]),
            alerts: vec![first, second],
            truncated: 0,
            created_at: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_body_is_what_alertmanager_sends() {
        let fingerprints = notification()
            .alerts
            .iter()
            .map(|alert| alert.fingerprint.to_string())
            .collect::<Vec<_>>();
        let url = |n: usize| format!("https://x/api/v1/alerts?fingerprint={}", fingerprints[n]);
        assert_eq!(
            notification().to_alertmanager_json("https://x"),
            json!({
                "version": "4",
                "groupKey": "{}:{alertname=\"Errors\"}",
                "truncatedAlerts": 0,
                "status": "firing",
                "receiver": "ops",
                "groupLabels": {"alertname": "Errors"},
                "commonLabels": {"alertname": "Errors", "severity": "info"},
                "commonAnnotations": {"runbook": "r"},
                "externalURL": "https://x",
                "alerts": [
                    {
                        "status": "firing",
                        "labels": {"alertname": "Errors", "service": "cart", "severity": "info"},
                        "annotations": {"summary": "errors of cart", "runbook": "r"},
                        "startsAt": "1970-01-01T00:00:00Z",
                        "endsAt": "0001-01-01T00:00:00Z",
                        "generatorURL": url(0),
                        "fingerprint": fingerprints[0],
                    },
                    {
                        "status": "resolved",
                        "labels": {"alertname": "Errors", "service": "pay", "severity": "info"},
                        "annotations": {"summary": "errors of pay", "runbook": "r"},
                        "startsAt": "1970-01-01T00:00:00Z",
                        "endsAt": "1970-01-01T00:01:00Z",
                        "generatorURL": url(1),
                        "fingerprint": fingerprints[1],
                    },
                ],
            })
        );
    }

    #[test]
    fn the_title_says_how_many_fire_and_what() {
        let mut notification = notification();
        assert_eq!(notification.title(), "[FIRING:1] Errors");
        notification.alerts.remove(0);
        notification.group_labels = Labels::default();
        assert_eq!(
            (&*notification.title(), notification.status()),
            ("[RESOLVED] Errors", "resolved")
        );
    }

    /// A value with its texts and numbers left out.
    fn shape(value: &Value) -> Value {
        match value {
            Value::Object(members) => {
                // Labels are as they are; of lists one element is looked at.
                let shaped = |(name, value): (&String, &Value)| {
                    let is_free = name.ends_with("abels") || name.ends_with("nnotations");
                    (name.clone(), if is_free { "names and texts".into() } else { shape(value) })
                };
                Value::Object(members.iter().map(shaped).collect())
            }
            Value::Array(values) => Value::Array(values.first().map(shape).into_iter().collect()),
            Value::String(_) => "text".into(),
            Value::Number(_) => 0.into(),
            other => other.clone(),
        }
    }

    #[test]
    fn the_body_has_the_members_of_one_that_alertmanager_sent() {
        let sent = include_str!("../tests/alertmanager-0.25.json");
        let sent: Value = serde_json::from_str(sent).unwrap();
        assert_eq!(shape(&notification().to_alertmanager_json("https://x")), shape(&sent));
    }
}
