//! The one producer of a process: idempotent, acknowledged by all in-sync replicas.

use std::{ops::Range, sync::Arc};

use parking_lot::RwLock;
use rdkafka::{
    ClientConfig, ClientContext, Message as _,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    message::DeliveryResult,
    producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer},
};
use thalweg_log::{LogError, Offset, Result, TopicPartition};
use tokio::sync::mpsc::UnboundedSender;

use crate::{
    client::{client_config, partition_number, report, wrong_settings},
    config::{Encoding, KafkaConfig},
    message::{Outgoing, headers},
    stamp::Stamp,
};

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// Number that the sender of the message knows it by.
    pub(crate) item: u64,
    /// Rows of the item that it carries.
    pub(crate) rows: Range<usize>,
    pub(crate) outcome: Outcome,
    /// The producer that tells it.
    pub(crate) generation: Generation,
}

/// Whether a message is in Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All in-sync replicas have it.
    Stored(Offset),
    /// It is not, and never will be; the broker's reason.
    Refused(String),
    /// Nobody can tell without looking.
    Unknown(String),
}

/// Number of a producer: one that has failed for good is replaced.
pub(crate) type Generation = u64;

/// Where the outcome of a message is told.
#[derive(Clone, Debug)]
pub(crate) struct Ticket {
    pub(crate) deliveries: UnboundedSender<Delivery>,
    pub(crate) item: u64,
    pub(crate) rows: Range<usize>,
}

impl Ticket {
    fn tell(self, generation: Generation, outcome: Outcome) {
        let Self { deliveries, item, rows } = self;
        // A sender that is gone has no use for it.
        let _ = deliveries.send(Delivery { item, rows, outcome, generation });
    }
}

/// Sends messages of all partitions.
pub(crate) struct Producer {
    config: ClientConfig,
    current: RwLock<Arc<ThreadedProducer<Deliveries>>>,
}

impl Producer {
    /// A producer that sends at most `batch_bytes` at once: a broker refuses what is larger as a
    /// whole, and small messages must not suffer for a large one among them.
    ///
    /// # Errors
    /// [`LogError::Config`].
    pub(crate) fn new(config: &KafkaConfig, batch_bytes: usize) -> Result<Self> {
        let batch = batch_bytes.min(config.message_bytes).to_string();
        let bytes = config.message_bytes.to_string();
        let more = [
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("compression.codec", "zstd"),
            ("linger.ms", "5"),
            ("batch.size", &batch),
            ("message.max.bytes", &bytes),
            // A message is in librdkafka's hands until its outcome is known, however long it takes;
            // what waits is bounded by who sends.
            ("message.timeout.ms", "0"),
            ("queue.buffering.max.messages", "10000000"),
            ("queue.buffering.max.kbytes", "2097151"),
            ("retry.backoff.ms", "100"),
            ("retry.backoff.max.ms", "2000"),
            ("request.timeout.ms", "10000"),
        ];
        let config = client_config(config, &more).map_err(|error| wrong_settings(&error))?;
        let first = config.create_with_context(Deliveries { generation: 0 });
        let first = first.map_err(|error| wrong_settings(&error))?;
        Ok(Self { config, current: RwLock::new(Arc::new(first)) })
    }

    /// Sends a message to `at`; what becomes of it is told by `ticket`.
    pub(crate) fn send(
        &self,
        at: &TopicPartition,
        message: &Outgoing,
        encoding: Encoding,
        stamp: Stamp,
        ticket: Ticket,
    ) {
        let producer = Arc::clone(&self.current.read());
        let headers = headers(encoding, stamp, message.traceparent.as_deref());
        let mut record = BaseRecord::with_opaque_to(&at.topic, Box::new(ticket))
            .partition(partition_number(at))
            .payload(&message.payload)
            .headers(headers);
        if let Some(key) = &message.key {
            record = record.key(key);
        }
        if let Err((error, record)) = producer.send(record) {
            let generation = generation_of(&producer);
            record.delivery_opaque.tell(generation, outcome_of(&error));
        }
    }

    /// Replaces the producer `generation`, which has failed for good, unless that was done.
    ///
    /// # Errors
    /// [`LogError::Config`].
    pub(crate) fn replace(&self, generation: Generation) -> Result<()> {
        let mut current = self.current.write();
        if generation_of(&current) == generation {
            let context = Deliveries { generation: generation + 1 };
            let next = self.config.create_with_context(context);
            let next = next.map_err(|error| LogError::Config(error.to_string()))?;
            *current = Arc::new(next);
        }
        Ok(())
    }
}

fn generation_of(producer: &ThreadedProducer<Deliveries>) -> Generation {
    producer.context().generation
}

/// Tells the senders of messages what became of them.
struct Deliveries {
    generation: Generation,
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        report(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => tracing::warn!("no broker can be reached"),
            _ => tracing::info!(%error, "librdkafka: {reason}"),
        }
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        let outcome = match result {
            Ok(message) => Outcome::Stored(Offset::try_from(message.offset()).unwrap_or(0)),
            Err((error, _)) => outcome_of(error),
        };
        ticket.tell(self.generation, outcome);
    }
}

/// What an error says of the message it came for.
fn outcome_of(error: &KafkaError) -> Outcome {
    use RDKafkaErrorCode as Code;
    let is_final = matches!(
        error.rdkafka_error_code(),
        Some(
            Code::MessageSizeTooLarge
                | Code::InvalidMessageSize
                | Code::MessageBatchTooLarge
                | Code::TopicAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::InvalidRecord
                | Code::InvalidTimestamp
                | Code::PolicyViolation
                | Code::InvalidTopic
                | Code::UnknownTopic
                | Code::UnknownPartition
        )
    );
    let reason = match error.rdkafka_error_code() {
        Some(code) => code.to_string(),
        None => error.to_string(),
    };
    if is_final { Outcome::Refused(reason) } else { Outcome::Unknown(reason) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_broker_will_never_take_is_told_from_what_nobody_knows() {
        let outcome = |code| outcome_of(&KafkaError::MessageProduction(code));
        for code in
            [RDKafkaErrorCode::MessageSizeTooLarge, RDKafkaErrorCode::TopicAuthorizationFailed]
        {
            assert_eq!(outcome(code), Outcome::Refused(code.to_string()));
        }
        for code in [RDKafkaErrorCode::MessageTimedOut, RDKafkaErrorCode::Fatal] {
            assert_eq!(outcome(code), Outcome::Unknown(code.to_string()));
        }
    }
}
