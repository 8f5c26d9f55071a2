//! The tables of every node, each with the topics that feed it.

use thalweg_alert::{ALERTS, SERVICE, UNDELIVERED, alerts_schema, undelivered_schema};
use thalweg_event::schema::column;
use thalweg_lake::TableSpec;
use thalweg_stream::{LATE_EVENTS, TEMPLATE_SIGNALS, late_schema, template_signals_schema};

/// Name of the table of templates, which is in no lake.
pub(crate) const TEMPLATES: &str = "templates";

/// All tables but those of views and sources; `logs`, which is fed by `log_topics`, and `spans`,
/// which views read, come first.
pub(crate) fn all(log_topics: Vec<String>) -> Vec<TableSpec> {
    let table = |topic: &str, schema, cluster: &str, texts: &[&str]| TableSpec {
        cluster_column: Some(cluster.into()),
        text_columns: texts.iter().map(|name| name.to_string()).collect(),
        ..TableSpec::of_topic(topic, schema, column::TIMESTAMP)
    };
    vec![
        TableSpec { topics: log_topics, ..TableSpec::logs() },
        TableSpec::spans(),
        TableSpec::rejected(),
        TableSpec::audit(),
        table(ALERTS, alerts_schema(), SERVICE, &["summary", "labels", "annotations", "evidence"]),
        table(UNDELIVERED, undelivered_schema(), "receiver", &["reason", "notification"]),
        table(TEMPLATE_SIGNALS, template_signals_schema(), "signal", &["template"]),
        table(LATE_EVENTS, late_schema(), "view", &["event"]),
    ]
}
