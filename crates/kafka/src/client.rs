//! Clients of librdkafka, and what they report.

use std::{
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, ClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, ConsumerContext},
    error::{KafkaError, KafkaResult},
};
use thalweg_log::{LogError, TopicPartition};

use crate::config::{ConfigError, KafkaConfig};

/// Longest that a single question to a broker may take.
pub(crate) const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between looks whether a thread has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Pause before it is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// Longest that it may take to find out whether a broker answers.
pub(crate) const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Consumer group of readers: under it the log keeps how far it has looked for damaged messages.
pub(crate) const OWN_GROUP: &str = "thalweg";

/// A consumer whose reports go to `tracing`.
pub(crate) type Consumer = BaseConsumer<Reports>;

/// Passes what librdkafka reports on to `tracing`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reports;

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        report(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // That no broker can be reached is said once, by the producer.
        tracing::debug!(%error, "librdkafka: {reason}");
    }
}

impl ConsumerContext for Reports {}

pub(crate) fn report(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(facility, "librdkafka: {message}");
        }
        // Connections that fail and come back are reported here; what follows from it is not said
        // by librdkafka but by the spool.
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning | RDKafkaLogLevel::Notice => {
            tracing::info!(facility, "librdkafka: {message}");
        }
        RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
            tracing::debug!(facility, "librdkafka: {message}");
        }
    }
}

/// librdkafka's settings for `config`, with `more`.
pub(crate) fn client_config(
    config: &KafkaConfig,
    more: &[(&str, &str)],
) -> Result<ClientConfig, ConfigError> {
    let mut client = ClientConfig::new();
    for (name, value) in config.client()? {
        client.set(name, value);
    }
    for (name, value) in more {
        client.set(*name, *value);
    }
    Ok(client)
}

/// A consumer of `group` that is told its partitions, and commits nothing by itself.
pub(crate) fn consumer(
    config: &KafkaConfig,
    group: &str,
    prefetch_kbytes: usize,
) -> Result<Consumer, LogError> {
    let prefetch = prefetch_kbytes.to_string();
    let more = [
        ("group.id", group),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("auto.offset.reset", "error"),
        ("enable.partition.eof", "true"),
        ("isolation.level", "read_committed"),
        ("queued.max.messages.kbytes", &prefetch),
        ("fetch.wait.max.ms", "100"),
        ("fetch.error.backoff.ms", "100"),
        // A queue that was full is filled again at once: librdkafka waits a second by itself.
        ("fetch.queue.backoff.ms", "1"),
        ("check.crcs", "true"),
    ];
    let client = client_config(config, &more).map_err(|error| wrong_settings(&error))?;
    client.create_with_context(Reports).map_err(|error| wrong_settings(&error))
}

/// Asks again until `deadline` what brokers do not answer, such as while they elect leaders. Blocks.
///
/// # Errors
/// What `ask` says last.
pub(crate) fn patiently<T>(
    deadline: Instant,
    mut ask: impl FnMut() -> Result<T, LogError>,
) -> Result<T, LogError> {
    loop {
        match ask() {
            Err(error @ LogError::Unavailable { .. }) if Instant::now() < deadline => {
                tracing::info!(%error, "waiting for Kafka");
                thread::sleep(ASK_AGAIN);
            }
            answer => return answer,
        }
    }
}

/// Waits for a thread that ends, but not for ever: librdkafka may wait for brokers that are away
/// without a limit. Blocks.
pub(crate) fn join_soon(thread: JoinHandle<()>) {
    let deadline = Instant::now() + ASK_TIMEOUT;
    while !thread.is_finished() && Instant::now() < deadline {
        thread::sleep(LOOK_AGAIN);
    }
    if !thread.is_finished() {
        tracing::warn!("no broker answers; the end of a thread is not waited for");
    } else if thread.join().is_err() {
        tracing::error!("a thread panicked");
    }
}

/// A [`LogError`] of settings that cannot work.
pub(crate) fn wrong_settings(error: &dyn std::fmt::Display) -> LogError {
    LogError::Config(error.to_string())
}

/// A [`LogError`] of a broker that did not do what it was asked for at `at`.
pub(crate) fn unavailable(at: &TopicPartition, error: &dyn std::fmt::Display) -> LogError {
    LogError::Unavailable { at: at.clone(), reason: error.to_string() }
}

/// Partition number as librdkafka has it.
pub(crate) fn partition_number(at: &TopicPartition) -> i32 {
    i32::try_from(at.partition).unwrap_or(i32::MAX)
}

/// Whether a broker answers, soon: a commit without one would wait for it without a limit.
pub(crate) fn is_answered(consumer: &Consumer, topic: &str) -> bool {
    use rdkafka::consumer::Consumer as _;

    consumer.fetch_metadata(Some(topic), PROBE_TIMEOUT).is_ok()
}

/// First and next offset of a partition, as its leader says.
pub(crate) fn watermarks(consumer: &Consumer, at: &TopicPartition) -> KafkaResult<(u64, u64)> {
    use rdkafka::consumer::Consumer as _;

    let (low, high) = consumer.fetch_watermarks(&at.topic, partition_number(at), ASK_TIMEOUT)?;
    Ok((u64::try_from(low).unwrap_or(0), u64::try_from(high).unwrap_or(0)))
}
