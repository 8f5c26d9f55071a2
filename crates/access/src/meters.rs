//! Names of the metrics about credentials, and what they count.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use crate::{denial::Denial, hash::MEMORY_KIB};

/// Requests that were not let in, by `reason`.
const DENIED: &str = "thalweg_access_denied_total";
const TOKENS: &str = "thalweg_access_tokens";
/// Argon2 computations under way and waiting.
pub(crate) const CHECKS: &str = "thalweg_access_checks";
const CHECKS_LIMIT: &str = "thalweg_access_checks_limit";
const CHECK_BYTES_LIMIT: &str = "thalweg_access_check_limit_bytes";

/// Entries of the audit log that found its queue full.
pub(crate) const AUDIT_LOST: &str = "thalweg_audit_lost_total";
pub(crate) const AUDIT_QUEUED: &str = "thalweg_audit_queued";
pub(crate) const AUDIT_QUEUE_LIMIT: &str = "thalweg_audit_queue_limit";

/// Gives the metrics their help texts and shows the limits.
pub(crate) fn describe(checks_limit: usize, checks_at_once: usize) {
    describe_counter!(DENIED, "Requests that were not let in, by reason");
    describe_gauge!(TOKENS, "Tokens that are valid");
    describe_gauge!(CHECKS, "Tokens whose hash is being computed or is waited for");
    describe_gauge!(CHECKS_LIMIT, "Limit of tokens whose hash is waited for");
    describe_gauge!(CHECK_BYTES_LIMIT, Unit::Bytes, "Limit of memory for computing hashes");
    describe_counter!(AUDIT_LOST, "Entries of the audit log that found its queue full");
    describe_gauge!(AUDIT_QUEUED, "Entries that wait to be written to the audit log");
    describe_gauge!(AUDIT_QUEUE_LIMIT, "Limit of entries that wait to be written");
    gauge!(CHECKS_LIMIT).set(checks_limit as f64);
    gauge!(CHECK_BYTES_LIMIT).set((checks_at_once as u64 * u64::from(MEMORY_KIB) * 1024) as f64);
}

pub(crate) fn tokens(count: usize) {
    gauge!(TOKENS).set(count as f64);
}

pub(crate) fn denied(denial: &Denial) {
    counter!(DENIED, "reason" => denial.kind()).increment(1);
}
