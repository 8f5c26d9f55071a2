//! What the server says at one moment.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde::Deserialize;

use crate::client::Client;

/// Minutes that are looked back.
pub(super) const MINUTES: usize = 60;
/// Youngest age of a minute, in seconds, that tells a rate.
const STEADY_SECS: f64 = 10.0;
/// Most rows of services and minutes.
const MAX_ROWS: usize = 60_000;

const HEALTH: &str = "SELECT service, extract(epoch FROM now() - window_start) AS age, events, errors, \
    p50_ms, p95_ms, p99_ms FROM service_health \
    WHERE window_start > now() - INTERVAL '60 minutes' ORDER BY window_start DESC";

/// Services and alerts.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) services: Vec<Service>,
    pub(super) alerts: Vec<Alert>,
    pub(super) alerts_total: usize,
}

/// One service in the last hour.
#[derive(Debug, Clone, Default)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) events_per_second: f64,
    pub(super) errors_per_second: f64,
    /// Latencies in milliseconds at 50, 95 and 99 %, if requests were timed.
    pub(super) latency_ms: [Option<f64>; 3],
    /// Events of each minute, the oldest first.
    pub(super) events: Vec<u64>,
    /// Errors of each minute.
    pub(super) errors: Vec<u64>,
}

/// An alert, as far as it is shown.
#[derive(Debug, Deserialize)]
pub(super) struct Alert {
    pub(super) state: String,
    pub(super) severity: String,
    pub(super) name: String,
    pub(super) service: Option<String>,
    pub(super) summary: String,
    pub(super) starts_at: String,
}

#[derive(Deserialize)]
struct Alerts {
    alerts: Vec<Alert>,
    total: usize,
}

#[derive(Deserialize)]
struct Answer<T> {
    rows: Vec<T>,
}

/// A service's minute: name, seconds since it began, events, errors, latencies.
type Minute = (String, f64, u64, u64, Option<f64>, Option<f64>, Option<f64>);

impl Snapshot {
    /// Asks the server.
    pub(super) async fn take(client: &Client) -> anyhow::Result<Self> {
        let health = client.sql(HEALTH, MAX_ROWS, "application/json").await;
        let health = health.context("table service_health (setting stream.builtin_views)")?;
        let health: Answer<Minute> = health.json().await.context("unexpected answer")?;
        let alerts: Alerts =
            client.get("/api/v1/alerts", &[]).await?.json().await.context("unexpected answer")?;
        Ok(Self::of(health.rows, alerts.alerts, alerts.total))
    }

    /// Rows of `HEALTH`, the newest first, and alerts.
    fn of(minutes: Vec<Minute>, mut alerts: Vec<Alert>, alerts_total: usize) -> Self {
        let mut services: BTreeMap<String, Service> = BTreeMap::new();
        for (name, age, events, errors, p50, p95, p99) in minutes {
            let service = services.entry(name).or_insert_with_key(|name| Service {
                name: name.clone(),
                events: vec![0; MINUTES],
                errors: vec![0; MINUTES],
                ..Service::default()
            });
            let ago = (age / 60.0).max(0.0) as usize;
            if let Some(place) = MINUTES.checked_sub(ago + 1) {
                service.events[place] += events;
                service.errors[place] += errors;
            }
            // The newest minute that is old enough; one that is over counts if it was the last.
            let is_current = (STEADY_SECS..60.0 + STEADY_SECS).contains(&age);
            if is_current && service.events_per_second == 0.0 {
                let seconds = age.min(60.0);
                service.events_per_second = events as f64 / seconds;
                service.errors_per_second = errors as f64 / seconds;
                service.latency_ms = [p50, p95, p99];
            }
        }
        // What fires first, then what may.
        let urgency = |alert: &Alert| match alert.state.as_str() {
            "firing" => 0,
            "pending" => 1,
            _ => 2,
        };
        alerts.sort_by(|a, b| urgency(a).cmp(&urgency(b)).then(b.starts_at.cmp(&a.starts_at)));
        Self { services: services.into_values().collect(), alerts, alerts_total }
    }

    /// Events of all services by minute.
    pub(super) fn events(&self) -> Vec<u64> {
        let sum = |minute| self.services.iter().map(|service| service.events[minute]).sum();
        (0..MINUTES).map(sum).collect()
    }

    /// How many alerts are in this state.
    pub(super) fn alerts_that_are(&self, state: &str) -> usize {
        self.alerts.iter().filter(|alert| alert.state == state).count()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn shop() -> Snapshot {
        let minute = |name: &str, age, events, errors| {
            (name.to_owned(), age, events, errors, Some(12.5), Some(80.0), None)
        };
        let alert = |state: &str, starts_at: &str| Alert {
            state: state.into(),
            severity: "critical".into(),
            name: "Failing".into(),
            service: Some("payment".into()),
            summary: "payment fails by itself".into(),
            starts_at: starts_at.into(),
        };
        Snapshot::of(
            vec![
                minute("web", 5.0, 10, 0),
                minute("web", 65.0, 600, 6),
                minute("payment", 30.0, 300, 30),
                minute("search", 3_599.0, 7, 0),
            ],
            vec![
                alert("resolved", "2026-01-05T10:00:02Z"),
                alert("firing", "2026-01-05T10:00:01Z"),
            ],
            2,
        )
    }

    #[test]
    fn rates_are_of_the_newest_minute_that_is_steady() {
        let [payment, search, web] = &shop().services[..] else { panic!("three services") };
        assert_eq!((payment.events_per_second, payment.errors_per_second), (10.0, 1.0));
        assert_eq!((web.events_per_second, web.errors_per_second), (10.0, 0.1));
        assert_eq!(search.events_per_second, 0.0, "silent for an hour");
        assert_eq!((search.events[0], web.events[58], web.events[59]), (7, 600, 10));
        assert_eq!(shop().events()[59], 310);
    }

    #[test]
    fn alerts_that_fire_come_first() {
        let states: Vec<String> = shop().alerts.into_iter().map(|alert| alert.state).collect();
        assert_eq!(states, ["firing", "resolved"]);
    }
}
