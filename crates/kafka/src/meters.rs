//! What the Kafka log tells of itself in metrics.

use thalweg_log::TopicPartition;

/// Rows that wait in the spool, and for how long the oldest of them has.
pub(crate) fn waiting(at: &TopicPartition, rows: u64, age_millis: i64) {
    metrics::gauge!("thalweg_kafka_spool_rows", &labels(at)).set(rows as f64);
    metrics::gauge!("thalweg_kafka_spool_age_seconds", &labels(at)).set(age_millis as f64 / 1e3);
}

/// A read of the log, and where it found its rows.
pub(crate) fn read(from: &'static str) {
    metrics::counter!("thalweg_kafka_log_reads_total", "from" => from).increment(1);
}

/// Rows that a broker has refused for good.
pub(crate) fn refused(at: &TopicPartition, rows: usize) {
    metrics::counter!("thalweg_kafka_refused_rows_total", &labels(at)).increment(rows as u64);
}

/// Messages, or records in them, that no row could be made of.
pub(crate) fn damaged(at: &TopicPartition, records: usize) {
    metrics::counter!("thalweg_kafka_damaged_records_total", &labels(at)).increment(records as u64);
}

/// Whether a topic of others could be read when brokers were last asked about it.
pub(crate) fn source_up(source: &str, is_up: bool) {
    metrics::gauge!("thalweg_source_up", "source" => source.to_owned()).set(u8::from(is_up));
}

/// Messages of a topic of others that have still to be read.
pub(crate) fn source_lag(source: &str, partition: u32, messages: u64) {
    let labels = [("source", source.to_owned()), ("partition", partition.to_string())];
    metrics::gauge!("thalweg_source_lag_messages", &labels).set(messages as f64);
}

fn labels(at: &TopicPartition) -> [(&'static str, String); 2] {
    [("topic", at.topic.to_string()), ("partition", at.partition.to_string())]
}
