//! Rows of the tables `alerts` and `undelivered`.

use std::sync::{Arc, LazyLock};

use arrow::{
    array::{
        ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, StringDictionaryBuilder,
        TimestampMicrosecondArray,
    },
    datatypes::{DataType, Field, Int32Type, Schema, SchemaRef},
};
use chrono::{DateTime, Utc};
use thalweg_event::schema::{column, dictionary_type, timestamp_type};

use crate::{
    alert::Alert, book::Transition, deliver::GivenUp, labels::SEVERITY, notification::Notification,
};

/// Topic and table of the alerts' changes of state.
pub const ALERTS: &str = "alerts";
/// Topic and table of notifications that were given up.
pub const UNDELIVERED: &str = "undelivered";

/// Schema of the topic and table [`ALERTS`]: each change of an alert's state, `pending`, `firing`,
/// `resolved`, and `inactive` when a pending alert's condition was over before it fired.
pub fn alerts_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let few = |name: &str, nullable| Field::new(name, dictionary_type(), nullable);
        let text = |name: &str, nullable| Field::new(name, DataType::Utf8, nullable);
        Arc::new(Schema::new(vec![
            Field::new(column::TIMESTAMP, timestamp_type(), false),
            few("alert", false),
            few("state", false),
            few("severity", false),
            few(column::SERVICE, true),
            Field::new("value", DataType::Float64, true),
            text("summary", false),
            Field::new("starts_at", timestamp_type(), false),
            Field::new("ends_at", timestamp_type(), true),
            text("fingerprint", false),
            text("labels", false),
            text("annotations", false),
            text("evidence", true),
        ]))
    });
    Arc::clone(&SCHEMA)
}

/// Schema of the topic and table [`UNDELIVERED`]: what a receiver was not told, and why.
pub fn undelivered_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let few = |name: &str| Field::new(name, dictionary_type(), false);
        let text = |name: &str| Field::new(name, DataType::Utf8, false);
        Arc::new(Schema::new(vec![
            Field::new(column::TIMESTAMP, timestamp_type(), false),
            few("receiver"),
            few("status"),
            text("reason"),
            Field::new("tries", DataType::Int64, false),
            Field::new("alerts", DataType::Int64, false),
            Field::new("created_at", timestamp_type(), false),
            text("group_key"),
            text("notification"),
        ]))
    });
    Arc::clone(&SCHEMA)
}

/// A change of state that happened at a time.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) at: DateTime<Utc>,
    pub(crate) transition: Transition,
}

/// Rows of [`alerts_schema`].
pub(crate) fn alert_rows(changes: &[Change]) -> RecordBatch {
    let alerts: Vec<Alert> = changes
        .iter()
        .map(|change| Alert::new(&change.transition.labels, &change.transition.instance))
        .collect();
    let states = changes.iter().map(|change| change.transition.state());
    let services = alerts.iter().map(|alert| Some(alert.service()).filter(|name| !name.is_empty()));
    RecordBatch::try_new(
        alerts_schema(),
        vec![
            times(changes.iter().map(|change| Some(change.at))),
            few(alerts.iter().map(|alert| Some(alert.name()))),
            few(states.map(Some)),
            few(alerts.iter().map(|alert| Some(alert.labels.value(SEVERITY)))),
            few(services),
            Arc::new(alerts.iter().map(|alert| alert.value).collect::<Float64Array>()),
            texts(alerts.iter().map(|alert| Some(alert.summary().into_owned()))),
            times(alerts.iter().map(|alert| Some(alert.starts_at))),
            times(alerts.iter().map(|alert| alert.ends_at)),
            texts(alerts.iter().map(|alert| Some(alert.fingerprint.to_string()))),
            texts(alerts.iter().map(|alert| Some(json(&alert.labels)))),
            texts(alerts.iter().map(|alert| Some(json(&alert.annotations)))),
            texts(alerts.iter().map(|alert| alert.evidence.as_ref().map(json))),
        ],
    )
    .expect("columns are in the order of the schema")
}

/// A row of [`undelivered_schema`].
pub(crate) fn undelivered_row(
    at: DateTime<Utc>,
    notification: &Notification,
    given_up: &GivenUp,
    external_url: &str,
) -> RecordBatch {
    let count = notification.alerts.len() + notification.truncated;
    RecordBatch::try_new(
        undelivered_schema(),
        vec![
            times([Some(at)]),
            few([Some(notification.receiver.as_str())]),
            few([Some(notification.status())]),
            texts([Some(given_up.reason.clone())]),
            Arc::new(Int64Array::from(vec![i64::from(given_up.tries)])),
            Arc::new(Int64Array::from(vec![i64::try_from(count).unwrap_or(i64::MAX)])),
            times([Some(notification.created_at)]),
            texts([Some(notification.group_key.clone())]),
            texts([Some(notification.to_alertmanager_json(external_url).to_string())]),
        ],
    )
    .expect("columns are in the order of the schema")
}

fn times(times: impl IntoIterator<Item = Option<DateTime<Utc>>>) -> ArrayRef {
    let micros = times.into_iter().map(|time| time.map(|time| time.timestamp_micros()));
    Arc::new(micros.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

fn few<'a>(texts: impl IntoIterator<Item = Option<&'a str>>) -> ArrayRef {
    let mut column = StringDictionaryBuilder::<Int32Type>::new();
    texts.into_iter().for_each(|text| column.append_option(text));
    Arc::new(column.finish())
}

fn texts(texts: impl IntoIterator<Item = Option<String>>) -> ArrayRef {
    Arc::new(texts.into_iter().collect::<StringArray>())
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array as _, AsArray as _};

    use super::*;
    use crate::{
        instance::{Instance, Sample, Signal},
        labels::Labels,
        notification::tests::notification,
    };

    #[test]
    fn a_change_of_state_becomes_a_row() {
        let sample = Sample {
            labels: Labels::new([("alertname", "Errors"), ("severity", "info")]),
            signal: Signal::Fire,
            value: Some(0.5),
            annotations: Default::default(),
            evidence: None,
        };
        let labels = sample.labels.clone();
        let instance = Instance::new(sample, DateTime::UNIX_EPOCH);
        let transition = Transition { labels, instance, is_dropped: true };
        let rows = alert_rows(&[Change { at: DateTime::UNIX_EPOCH, transition }]);
        assert_eq!(rows.num_rows(), 1);
        let states = arrow::compute::cast(&rows["state"], &DataType::Utf8).unwrap();
        assert_eq!(states.as_string::<i32>().value(0), "inactive");
        assert!(rows["service"].is_null(0) && rows["ends_at"].is_null(0));
        let labels = rows["labels"].as_string::<i32>().value(0);
        assert_eq!(labels, r#"{"alertname":"Errors","severity":"info"}"#);
    }

    #[test]
    fn a_notification_that_was_given_up_becomes_a_row_with_all_that_it_said() {
        let given_up = GivenUp { reason: "answered 400".into(), tries: 1 };
        let row = undelivered_row(DateTime::UNIX_EPOCH, &notification(), &given_up, "https://x");
        assert_eq!(row["reason"].as_string::<i32>().value(0), "answered 400");
        let body = row["notification"].as_string::<i32>().value(0);
        assert!(body.contains("\"version\":\"4\"") && body.contains("errors of cart"), "{body}");
    }
}
