//! Names of the listeners' metrics, and what they count.

use metrics::{describe_counter, describe_gauge};

/// Messages received, by `transport` (udp, stream).
pub(super) const MESSAGES: &str = "thalweg_syslog_messages_total";
/// Messages lost, by `reason` (queue_full: UDP only; failed: the ingest refused them for good).
pub(super) const LOST: &str = "thalweg_syslog_lost_messages_total";
pub(super) const QUEUED_BYTES: &str = "thalweg_syslog_queued_bytes";
pub(super) const QUEUE_LIMIT_BYTES: &str = "thalweg_syslog_queue_limit_bytes";
pub(super) const CONNECTIONS: &str = "thalweg_syslog_connections";
pub(super) const CONNECTIONS_LIMIT: &str = "thalweg_syslog_connections_limit";
pub(super) const REFUSED_CONNECTIONS: &str = "thalweg_syslog_refused_connections_total";
/// Connections closed by us, by `reason` (too_long, too_slow, broken).
pub(super) const CUT_OFF: &str = "thalweg_syslog_cut_off_connections_total";

/// Gives the metrics their help texts.
pub(super) fn describe() {
    describe_counter!(MESSAGES, "Syslog messages received, by transport");
    describe_counter!(LOST, "Syslog messages that were not stored, by reason");
    describe_gauge!(QUEUED_BYTES, "Bytes of syslog messages not yet stored");
    describe_gauge!(QUEUE_LIMIT_BYTES, "Limit of syslog bytes not yet stored");
    describe_gauge!(CONNECTIONS, "Open syslog connections");
    describe_gauge!(CONNECTIONS_LIMIT, "Limit of open syslog connections");
    describe_counter!(REFUSED_CONNECTIONS, "Syslog connections beyond max_connections");
    describe_counter!(CUT_OFF, "Syslog connections cut off, by reason");
}
