//! What is wrong, and who is told: anomaly detectors, alert rules, their states, and delivery.
//!
//! ```text
//! rules ── SQL ──────────────┐ samples            alerts            notifications
//! anomalies ─ SQL ─▶ detectors ┴────▶ books ─▶ silences, inhibition ─▶ groups ─▶ queues ─▶ receivers
//!                                      │ pending, firing, resolved                 │
//!                                      ▼                                           ▼ given up
//!                               topic `alerts`                            topic `undelivered`
//! ```
//!
//! A rule is a query: each row that it finds is an alert, named by its columns of text. An anomaly
//! watches a column of a view, for each key by its own history. Both end in a [`Book`], the state
//! machine of one rule's alerts; what fires is grouped and told of as Alertmanager does it.
//!
//! What decides has neither clock nor I/O: books, groups, silences and detectors take times and
//! values and return what follows, and can be driven by a simulation. [`Alerts`] puts tasks around
//! them: one asks each query, one owns all state, one tells each receiver.
//!
//! What is promised:
//!
//! * States outlive restarts, and time that nobody watched counts neither for nor against an
//!   alert; nor does a clock that is set.
//! * Each notification is delivered at least once, or stands in `undelivered`, and what it said is
//!   told at its group's next interval. After a crash it may come twice.
//! * A rule that cannot be evaluated is an alert itself (`RuleFailing`, pending at once and firing
//!   after a minute), and ends no alert.
//! * Everything is bounded: alerts of a rule, series, queues, silences, tries, and texts that
//!   senders wrote.
//!
//! ```
//! use thalweg_alert::AlertsConfig;
//!
//! let config: AlertsConfig = serde_saphyr::from_str(r#"
//! alerts:
//!   - name: HighErrorRate
//!     query: >
//!       SELECT service, max(error_rate) AS value FROM service_health
//!       WHERE window_start > now() - INTERVAL '1 minute' GROUP BY service
//!     threshold: {fire: "> 0.05", resolve: "< 0.02"}
//!     for: 20s
//!     severity: critical
//!     annotations: {summary: "{{ service }} fails {{ value }} of its requests"}
//! anomalies:
//!   - name: SlowAnswers
//!     view: service_health
//!     column: p99_ms
//!     by: [service]
//!     detector: {robust_z: {threshold: 6}}
//!     direction: above
//!     min_deviation: 50
//! alerting:
//!   receivers:
//!     - name: pager
//!       webhook: {url: "https://pager.example/alerts", bearer_token: "file:/run/secrets/pager"}
//!     - name: chat
//!       slack: {url: "env:SLACK_WEBHOOK_URL"}
//!   routes:
//!     - {match: ["severity=critical"], receivers: [pager], continue: true}
//!     - {receivers: [chat], group_by: [alertname, service]}
//!   inhibit:
//!     - {source: ["alertname=HighErrorRate"], target: ["alertname=SlowAnswers"], equal: [service]}
//!   silences:
//!     - name: nights
//!       match: ["severity=info"]
//!       windows: [{from: "22:00", to: "06:00", time_zone: Europe/Berlin}]
//! "#)?;
//! config.validate()?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

mod alert;
mod alerts;
pub mod anomaly;
mod book;
mod config;
mod core;
mod deliver;
mod error;
mod evaluate;
mod evidence;
mod group;
pub mod http;
mod inhibit;
mod instance;
mod journal;
mod labels;
mod matcher;
mod meters;
mod name;
mod notification;
mod number;
mod period;
mod pulse;
mod receiver;
mod record;
mod route;
mod rows;
mod rule;
mod running;
mod schedule;
mod secret;
mod severity;
mod silence;
mod snapshot;
mod store;
mod template;
mod threshold;

pub use alert::Alert;
pub use alerts::Alerts;
pub use anomaly::AnomalyConfig;
pub use book::{Book, Step, Timing, Transition};
pub use config::{AlertingConfig, AlertsConfig};
pub use error::AlertError;
pub use evidence::Evidence;
pub use group::{Groups, Look};
pub use inhibit::InhibitRule;
pub use instance::{Instance, Sample, Signal, State};
pub use labels::{ALERT_NAME, Fingerprint, Labels, SERVICE, SEVERITY};
pub use matcher::{Matcher, Matchers};
pub use name::Name;
pub use notification::Notification;
pub use number::{Count, Fraction, Positive};
pub use period::Period;
pub use receiver::{
    ChannelConfig, CommandConfig, EmailConfig, MailSecurity, Mailbox, ReceiverConfig, RetryConfig,
    SlackConfig, WebhookConfig,
};
pub use record::{ALERTS, UNDELIVERED, alerts_schema, undelivered_schema};
pub use route::RouteConfig;
pub use rows::Rows;
pub use rule::{Query, RuleConfig};
pub use schedule::{Day, TimeOfDay, TimeZone, WeeklyWindow};
pub use secret::{Secret, SecretUrl};
pub use severity::Severity;
pub use silence::{NewSilence, RecurringSilence, Silence, Silences};
pub use snapshot::{Health, RuleStatus, ShownAlert, Snapshot};
pub use template::Template;
pub use threshold::Threshold;
