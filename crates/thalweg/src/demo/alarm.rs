//! The demonstration's alert: which service fails, rather than suffers from another.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use thalweg_alert::RuleConfig;

use crate::{client::Client, demo::Incident};

/// Name of the alert.
pub(crate) const NAME: &str = "ServiceFailing";
/// The service that the incident befalls.
const CULPRIT: &str = "payment";
/// Runs shorter than this are over before an alert can be resolved.
pub(crate) const SHORTEST_CHECKED: Duration = Duration::from_secs(45);

/// The rule: a service logs errors, and no error of a service that it called explains them.
pub(crate) fn rule(incident: Incident) -> anyhow::Result<RuleConfig> {
    let rule = json!({
        "name": NAME,
        "query": query(incident.window()),
        "every": "1s",
        "for": "1s",
        "keep_firing_for": "2s",
        "threshold": {"fire": "> 0.1", "resolve": "< 0.03"},
        "severity": "critical",
        "annotations": {
            "summary": "{{ service }} fails by itself: {{ value }} of its events are errors that no callee explains",
        },
    });
    serde_json::from_value(rule).context("the demonstration's alert rule")
}

/// Services with errors of their own in the last `window`, and which share of their events those
/// are.
fn query(window: Duration) -> String {
    let (window, callees) = (window.as_secs(), window.as_secs() + 60);
    format!(
        "WITH calls AS (SELECT service, trace_id, span_id, severity_number, timestamp, \
                attributes->>'parent.span_id' AS caller FROM logs \
            WHERE timestamp > now() - INTERVAL '{callees} seconds'), \
         recent AS (SELECT * FROM calls WHERE timestamp > now() - INTERVAL '{window} seconds'), \
         causes AS (SELECT service, count(*) AS errors FROM recent AS e \
            WHERE severity_number >= 17 AND NOT EXISTS (SELECT 1 FROM calls AS c \
                WHERE c.severity_number >= 17 AND c.trace_id = e.trace_id AND c.caller = e.span_id) \
            GROUP BY service) \
         SELECT causes.service, causes.errors / CAST(count(*) AS DOUBLE) AS value \
         FROM causes JOIN recent ON recent.service = causes.service \
         WHERE causes.errors >= 5 GROUP BY causes.service, causes.errors"
    )
}

/// What the alert did, told in one line.
///
/// # Errors
/// It did not do what it should: fire within a window of the incident's start, name the culprit
/// and nobody else, and be resolved afterwards.
pub(crate) async fn check(
    client: &Client,
    incident: Incident,
    began_unix_micros: i64,
    ended_unix_micros: i64,
) -> anyhow::Result<String> {
    let sql = format!(
        "SELECT service, state, CAST(CAST(timestamp AS BIGINT) AS VARCHAR) AS at FROM alerts \
         WHERE alert = '{NAME}' AND state IN ('firing', 'resolved') ORDER BY timestamp"
    );
    let answer = client.sql(&sql, 1_000, "text/csv").await?.text().await?;
    let mut fired = None;
    let mut resolved = None;
    for line in answer.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let [service, state, at] = fields[..] else {
            anyhow::bail!("check: unexpected row `{line}`");
        };
        anyhow::ensure!(
            service == CULPRIT,
            "check: the alert named {service}, where {CULPRIT} was at fault"
        );
        let at: i64 = at.parse().with_context(|| format!("check: unexpected time `{at}`"))?;
        match state {
            "firing" => fired = fired.or(Some(at)),
            _ => resolved = Some(at),
        }
    }
    let seconds = |micros: i64| micros as f64 / 1e6;
    let fired = fired.context("check: the incident fired no alert")?;
    let after_start = seconds(fired - began_unix_micros);
    let window = incident.window().as_secs_f64();
    anyhow::ensure!(
        (0.0..=window).contains(&after_start),
        "check: the alert fired {after_start:.1} s after the incident began, expected at most \
         {window} s"
    );
    let resolved = resolved.context("check: the alert was not resolved")?;
    Ok(format!(
        "check: the alert named {CULPRIT} and nobody else, {after_start:.1} s after the incident \
         began, and was resolved {:.1} s after it ended",
        seconds(resolved - ended_unix_micros)
    ))
}

/// That nothing fired, told in one line.
///
/// # Errors
/// Something did.
pub(crate) async fn check_quiet(client: &Client) -> anyhow::Result<String> {
    let sql = "SELECT alert, service, summary FROM alerts WHERE state = 'firing'";
    let answer = client.sql(sql, 1_000, "text/csv").await?.text().await?;
    let fired: Vec<&str> = answer.lines().skip(1).collect();
    anyhow::ensure!(fired.is_empty(), "check: alerts fired without an incident: {fired:?}");
    Ok("check: no alert fired".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_is_one_that_alerts_accept() {
        let rule = rule(Incident::during(None)).unwrap();
        assert!(rule.query.as_str().contains("INTERVAL '18 seconds'"), "{}", rule.query.as_str());
    }
}
