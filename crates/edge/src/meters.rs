//! Names of the listeners' metrics, and what they count.

use metrics::{counter, describe_counter, describe_gauge, gauge};

use crate::config::EdgeConfig;

pub(crate) const CONNECTIONS: &str = "thalweg_edge_connections";
pub(crate) const CONNECTIONS_BY_LISTENER: &str = "thalweg_edge_listener_connections";
pub(crate) const CONNECTIONS_LIMIT: &str = "thalweg_edge_connections_limit";
pub(crate) const CLIENT_CONNECTIONS: &str = "thalweg_edge_client_connections_max";
pub(crate) const CLIENT_CONNECTIONS_LIMIT: &str = "thalweg_edge_client_connections_limit";
pub(crate) const CLIENT_REQUESTS: &str = "thalweg_edge_client_requests_max";
pub(crate) const CLIENT_REQUESTS_LIMIT: &str = "thalweg_edge_client_requests_limit";
/// Connections and requests refused or cut off, by `reason`.
const CUT_OFF: &str = "thalweg_edge_cut_off_total";

/// Gives the metrics their help texts and shows the limits.
pub(crate) fn describe(limits: &EdgeConfig) {
    describe_gauge!(CONNECTIONS, "Connections open");
    describe_gauge!(CONNECTIONS_BY_LISTENER, "Connections open, by listener");
    describe_gauge!(CONNECTIONS_LIMIT, "Limit of connections open");
    describe_gauge!(CLIENT_CONNECTIONS, "Connections open of the client that has most");
    describe_gauge!(CLIENT_CONNECTIONS_LIMIT, "Limit of connections open of one client");
    describe_gauge!(CLIENT_REQUESTS, "Requests not fully answered of the client that has most");
    describe_gauge!(CLIENT_REQUESTS_LIMIT, "Limit of requests not fully answered of one client");
    describe_counter!(CUT_OFF, "Connections and requests refused or cut off, by reason");
    gauge!(CONNECTIONS_LIMIT).set(limits.max_connections as f64);
    gauge!(CLIENT_CONNECTIONS_LIMIT).set(limits.max_connections_per_client as f64);
    gauge!(CLIENT_REQUESTS_LIMIT).set(limits.max_requests_per_client as f64);
}

/// Counts something refused or cut off.
pub(crate) fn cut_off(reason: &'static str) {
    counter!(CUT_OFF, "reason" => reason).increment(1);
}
