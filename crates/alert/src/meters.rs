//! Names of the metrics about alerts, and what they count.

use std::time::Duration;

use metrics::{
    Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use crate::instance::State;

const ATTENDED: &str = "thalweg_alert_attended";
const EVALUATIONS: &str = "thalweg_alert_evaluations_total";
const EVALUATION_FAILURES: &str = "thalweg_alert_evaluation_failures_total";
const EVALUATION_SECONDS: &str = "thalweg_alert_evaluation_seconds";
const FAILING: &str = "thalweg_alert_failing_rules";
const INSTANCES: &str = "thalweg_alert_instances";
const INSTANCES_LIMIT: &str = "thalweg_alert_instances_per_rule_limit";
const OVERFLOW: &str = "thalweg_alert_instances_left_out";
const TRANSITIONS: &str = "thalweg_alert_transitions_total";
const CHANGES_LOST: &str = "thalweg_alert_changes_lost_total";
const NOTIFICATIONS: &str = "thalweg_alert_notifications_total";
const RETRIES: &str = "thalweg_alert_notification_retries_total";
const QUEUED: &str = "thalweg_alert_notifications_queued";
const QUEUED_LIMIT: &str = "thalweg_alert_notifications_queued_limit";
const STATE_FAILURES: &str = "thalweg_alert_state_write_failures_total";

/// Gives the metrics their help texts and shows the limits.
pub(crate) fn describe(instances_limit: usize, queued_limit: usize) {
    describe_gauge!(ATTENDED, "1 if this process evaluates rules and tells people");
    describe_counter!(EVALUATIONS, "Evaluations of rules and anomalies");
    describe_counter!(EVALUATION_FAILURES, "Evaluations that failed, by rule");
    describe_histogram!(EVALUATION_SECONDS, Unit::Seconds, "Time that evaluations took");
    describe_gauge!(FAILING, "Rules and anomalies whose last evaluation failed");
    describe_gauge!(INSTANCES, "Alerts, by state");
    describe_gauge!(INSTANCES_LIMIT, "Limit of alerts of one rule");
    describe_gauge!(
        OVERFLOW,
        "Alerts and series beyond the limits in the last evaluation, by rule"
    );
    describe_counter!(TRANSITIONS, "Changes of alerts' states, by the new state");
    describe_counter!(CHANGES_LOST, "Changes of alerts' states that the log did not take");
    describe_counter!(NOTIFICATIONS, "Notifications done with, by receiver and outcome");
    describe_counter!(RETRIES, "Tries to tell a receiver that failed, by receiver");
    describe_gauge!(QUEUED, "Notifications that wait or are under way, by receiver");
    describe_gauge!(QUEUED_LIMIT, "Limit of notifications that wait for one receiver");
    describe_counter!(STATE_FAILURES, "Times that the alerts' state could not be written");
    gauge!(INSTANCES_LIMIT).set(instances_limit as f64);
    gauge!(QUEUED_LIMIT).set(queued_limit as f64);
}

pub(crate) fn attended(is_attended: bool) {
    gauge!(ATTENDED).set(f64::from(u8::from(is_attended)));
}

pub(crate) fn evaluated(rule: &str, took: Duration, failed: bool) {
    counter!(EVALUATIONS).increment(1);
    histogram!(EVALUATION_SECONDS).record(took.as_secs_f64());
    if failed {
        counter!(EVALUATION_FAILURES, "rule" => rule.to_owned()).increment(1);
    }
}

pub(crate) fn failing(rules: usize) {
    gauge!(FAILING).set(rules as f64);
}

pub(crate) fn instances(state: State, count: usize) {
    let state = match state {
        State::Pending => "pending",
        State::Firing => "firing",
        State::Resolved => "resolved",
    };
    gauge!(INSTANCES, "state" => state).set(count as f64);
}

pub(crate) fn overflow(rule: &str, count: usize) {
    gauge!(OVERFLOW, "rule" => rule.to_owned()).set(count as f64);
}

pub(crate) fn transition(state: &'static str) {
    counter!(TRANSITIONS, "state" => state).increment(1);
}

pub(crate) fn change_lost() {
    counter!(CHANGES_LOST).increment(1);
}

pub(crate) fn told(receiver: &str, delivered: bool) {
    let outcome = if delivered { "delivered" } else { "given_up" };
    counter!(NOTIFICATIONS, "receiver" => receiver.to_owned(), "outcome" => outcome).increment(1);
}

pub(crate) fn retried(receiver: &str) {
    counter!(RETRIES, "receiver" => receiver.to_owned()).increment(1);
}

pub(crate) fn queued(receiver: &str, count: usize) {
    gauge!(QUEUED, "receiver" => receiver.to_owned()).set(count as f64);
}

pub(crate) fn state_not_written() {
    counter!(STATE_FAILURES).increment(1);
}
