//! Messages for Slack's incoming webhooks.

use serde_json::{Value, json};

use crate::{
    alert::Alert,
    labels::cut,
    notification::{Notification, alert_url},
    severity::Severity,
};

/// Alerts that a message shows; the others are counted.
const MAX_SHOWN: usize = 20;
/// Longest text of one alert, bytes.
const MAX_TEXT_BYTES: usize = 1_000;

/// The message about a notification.
pub(super) fn message(notification: &Notification, external_url: &str) -> Value {
    let shown = notification.alerts.iter().take(MAX_SHOWN);
    let mut attachments: Vec<Value> = shown.map(|alert| attachment(alert, external_url)).collect();
    let hidden = notification.alerts.len().saturating_sub(MAX_SHOWN) + notification.truncated;
    if hidden > 0 {
        attachments.push(
            json!({"text": format!("and {hidden} more"), "fallback": format!("and {hidden} more")}),
        );
    }
    json!({"text": format!("*{}*", escape(&notification.title())), "attachments": attachments})
}

fn attachment(alert: &Alert, external_url: &str) -> Value {
    let summary = escape(&cut(&alert.summary(), MAX_TEXT_BYTES));
    let mut text = vec![summary.clone()];
    if let Some(description) = alert.annotations.get("description") {
        text.push(escape(&cut(description, MAX_TEXT_BYTES)));
    }
    text.push(format!("<{}|{}>", alert_url(alert, external_url), alert.fingerprint));
    json!({
        "color": color(alert),
        "fallback": summary,
        "text": text.join("\n"),
        "mrkdwn_in": ["text"],
        "ts": alert.starts_at.timestamp(),
    })
}

fn color(alert: &Alert) -> &'static str {
    let severity = alert.labels.value(crate::labels::SEVERITY);
    if !alert.is_firing() {
        "#2eb886"
    } else if severity == Severity::Critical.name() {
        "#a30200"
    } else if severity == Severity::Info.name() {
        "#439fe0"
    } else {
        "#daa038"
    }
}

/// `text` that calls nobody (`<!channel>`) and links nowhere.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notification::tests::notification;

    #[test]
    fn a_message_says_what_fires_and_what_is_resolved() {
        let message = message(&notification(), "https://x");
        assert_eq!(message["text"], "*[FIRING:1] Errors*");
        let attachments = message["attachments"].as_array().unwrap();
        assert_eq!(attachments.len(), 2);
        assert_eq!(
            (&attachments[0]["color"], &attachments[1]["color"]),
            (&json!("#439fe0"), &json!("#2eb886"))
        );
        assert!(
            attachments[0]["text"].as_str().unwrap().starts_with("errors of cart\n<https://x/")
        );
    }

    #[test]
    fn what_a_sender_wrote_calls_nobody_and_links_nowhere() {
        let mut hostile = notification();
        hostile.alerts[0]
            .annotations
            .insert("summary".into(), "<!channel> <https://evil|click> & x".into());
        let message = message(&hostile, "https://x").to_string();
        assert!(message.contains("&lt;!channel&gt; &lt;https://evil|click&gt; &amp;"), "{message}");
        assert!(!message.contains("<!"), "{message}");
    }

    #[test]
    fn many_alerts_are_counted() {
        let mut many = notification();
        many.alerts = vec![many.alerts[0].clone(); 50];
        many.truncated = 5;
        let message = message(&many, "https://x");
        let attachments = message["attachments"].as_array().unwrap();
        assert_eq!(attachments.last().unwrap()["text"], "and 35 more");
    }
}
