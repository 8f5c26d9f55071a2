//! Names of the ingest's metrics, and what they count.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram};

use crate::error::IngestError;

/// Records, by `format` and `outcome` (accepted, duplicate, rejected).
pub(crate) const RECORDS: &str = "thalweg_ingest_records_total";
/// Bytes of bodies, by `stage` (wire, decoded).
pub(crate) const BYTES: &str = "thalweg_ingest_bytes_total";
/// Time from the end of a body to its answer, by `format`.
pub(crate) const STORE_SECONDS: &str = "thalweg_ingest_store_seconds";
/// Requests not accepted, by `reason`.
pub(crate) const REFUSED: &str = "thalweg_ingest_refused_total";
pub(crate) const IN_FLIGHT_BYTES: &str = "thalweg_ingest_in_flight_bytes";
pub(crate) const IN_FLIGHT_LIMIT_BYTES: &str = "thalweg_ingest_in_flight_limit_bytes";
pub(crate) const CLIENT_BYTES: &str = "thalweg_ingest_client_in_flight_max_bytes";
pub(crate) const CLIENT_LIMIT_BYTES: &str = "thalweg_ingest_client_in_flight_limit_bytes";
pub(crate) const REQUESTS: &str = "thalweg_ingest_requests";
pub(crate) const REQUESTS_LIMIT: &str = "thalweg_ingest_requests_limit";
pub(crate) const KNOWN_IDS: &str = "thalweg_ingest_known_ids";
pub(crate) const IDS_FORGOTTEN_EARLY: &str = "thalweg_ingest_ids_forgotten_early_total";

/// Gives the metrics their help texts.
pub(crate) fn describe() {
    describe_counter!(RECORDS, "Records by format and outcome");
    describe_counter!(BYTES, Unit::Bytes, "Bytes of bodies, on the wire and decompressed");
    describe_histogram!(
        STORE_SECONDS,
        Unit::Seconds,
        "Time from the end of a body until its events are durable"
    );
    describe_counter!(REFUSED, "Requests not accepted, by reason");
    describe_gauge!(IN_FLIGHT_BYTES, Unit::Bytes, "Bytes of bodies not yet stored");
    describe_gauge!(IN_FLIGHT_LIMIT_BYTES, Unit::Bytes, "Limit of bytes not yet stored");
    describe_gauge!(
        CLIENT_BYTES,
        Unit::Bytes,
        "Bytes of bodies not yet stored, of the client that has most"
    );
    describe_gauge!(CLIENT_LIMIT_BYTES, Unit::Bytes, "Limit of bytes not yet stored, per client");
    describe_gauge!(REQUESTS, "Requests not yet answered");
    describe_gauge!(REQUESTS_LIMIT, "Limit of requests not yet answered");
    describe_gauge!(KNOWN_IDS, "Ids of stored events that are remembered");
    describe_counter!(
        IDS_FORGOTTEN_EARLY,
        "Ids forgotten before their time because `duplicates.max_ids` was reached"
    );
}

/// Counts a request that was not accepted.
pub(crate) fn refused(error: &IngestError) {
    counter!(REFUSED, "reason" => error.kind()).increment(1);
    tracing::debug!(%error, "request refused");
}
