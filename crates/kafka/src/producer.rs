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
use thalweg_log::{Offset, Result, TopicPartition};
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    task::spawn_blocking,
};
use uuid::Uuid;

use crate::{
    client::{client_config, partition_number, report, unavailable, wrong_settings},
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
    /// [`thalweg_log::LogError::Config`].
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
            ("queue.buffering.max.kbytes", "2147483647"),
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
        let mut record = BaseRecord::<[u8], [u8], _>::with_opaque_to(&at.topic, Box::new(ticket))
            .partition(partition_number(at))
            .headers(headers);
        if let Some(payload) = &message.payload {
            record = record.payload(payload);
        }
        if let Some(key) = &message.key {
            record = record.key(key.as_bytes());
        }
        if let Err((error, record)) = producer.send(record) {
            let generation = generation_of(&producer);
            record.delivery_opaque.tell(generation, outcome_of(&error));
        }
    }

    /// Offset of a mark: a message without rows that all in-sync replicas have. What arrived in the
    /// partition earlier, whoever sent it, stands before it, and consumers get to see that.
    ///
    /// # Errors
    /// [`thalweg_log::LogError::Unavailable`].
    pub(crate) async fn mark(&self, at: &TopicPartition, encoding: Encoding) -> Result<Offset> {
        let (deliveries, mut delivered) = unbounded_channel();
        let stamp = Stamp { origin: Uuid::nil(), sequence: 0, rows: 0 };
        let ticket = Ticket { deliveries, item: 0, rows: 0..0 };
        self.send(at, &Outgoing::mark(), encoding, stamp, ticket);
        let Some(Delivery { outcome, generation, .. }) = delivered.recv().await else {
            return Err(unavailable(at, &"nobody says what became of a message"));
        };
        match outcome {
            Outcome::Stored(offset) => Ok(offset),
            Outcome::Refused(reason) => Err(unavailable(at, &reason)),
            Outcome::Unknown(reason) => {
                self.replace_failed(generation).await;
                Err(unavailable(at, &reason))
            }
        }
    }

    /// Replaces the producer `generation` if it has failed for good. All its messages get an outcome
    /// then.
    pub(crate) async fn replace_failed(&self, generation: Generation) {
        let current = Arc::clone(&self.current.read());
        if generation_of(&current) != generation {
            return;
        }
        let Some((code, reason)) = current.client().fatal_error() else { return };
        tracing::error!(%code, reason, "the producer has failed; another one takes over");
        drop(current);
        let context = Deliveries { generation: generation + 1 };
        let next = match self.config.create_with_context(context) {
            Ok(next) => Arc::new(next),
            Err(error) => return tracing::error!(%error, "there is no producer to take over"),
        };
        let failed = {
            let mut current = self.current.write();
            if generation_of(&current) != generation {
                return;
            }
            std::mem::replace(&mut *current, next)
        };
        // It tells what it knows of its messages, and ends its threads.
        if let Err(error) = spawn_blocking(move || drop(failed)).await {
            tracing::error!(%error, "ending a producer that has failed");
        }
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
                // Refused with the rest of its batch, of which one record was invalid.
                | Code::InvalidDifferentRecord
                | Code::InvalidTimestamp
                | Code::PolicyViolation
                | Code::InvalidTopic
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
