//! Reads of what is not at hand any more, from Kafka.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::{
    Message as _, Offset as Position, TopicPartitionList,
    consumer::Consumer as _,
    error::{KafkaError, RDKafkaErrorCode},
    message::BorrowedMessage,
};
use thalweg_log::{Entry, Offset, Result, TopicPartition};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    client::{Consumer, OWN_GROUP, consumer, partition_number, unavailable, watermarks},
    config::KafkaConfig,
    message::Incoming,
    partition::Partition,
};

/// Consumers that are kept for the next read: tables and views each read on where they are.
const MAX_IDLE: usize = 16;
/// Reads of messages at once, each with a consumer and memory for what that fetches; more wait.
const MAX_READS: usize = MAX_IDLE;
/// What a consumer fetches ahead.
const PREFETCH_KBYTES: usize = 8 << 10;
/// Longest that a read waits for the next message before it is given up.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause before a read that has found nothing is tried again.
const READ_AGAIN: Duration = Duration::from_millis(200);
/// How long a read that has some messages waits for more.
const MORE_TIMEOUT: Duration = Duration::from_millis(20);

/// Consumers that read from any offset of any partition. All but [`Readers::turn`] block.
pub(crate) struct Readers {
    config: KafkaConfig,
    idle: Mutex<Vec<Reader>>,
    turns: Semaphore,
}

/// A consumer, and where it would read on.
struct Reader {
    consumer: Consumer,
    place: Option<(TopicPartition, Offset)>,
}

/// What became of a message that was waited for.
enum Polled<T> {
    Message(T),
    EndOfPartition,
    Nothing,
}

impl Readers {
    pub(crate) fn new(config: KafkaConfig) -> Self {
        Self { config, idle: Mutex::default(), turns: Semaphore::new(MAX_READS) }
    }

    /// Waits for a turn to [`Readers::read`].
    pub(crate) async fn turn(&self) -> SemaphorePermit<'_> {
        self.turns.acquire().await.expect("nobody closes it")
    }

    /// First and next offset of a partition, as its leader says now.
    ///
    /// # Errors
    /// [`thalweg_log::LogError::Unavailable`].
    pub(crate) fn watermarks(&self, at: &TopicPartition) -> Result<(Offset, Offset)> {
        let reader = self.take(at, None)?;
        let found = watermarks(&reader.consumer, at).map_err(|error| unavailable(at, &error));
        self.give_back(reader);
        found
    }

    /// Rows of `partition` from `from` on, up to about `max_bytes`; `from` lies before its end.
    ///
    /// # Errors
    /// [`thalweg_log::LogError::OffsetOutOfRange`], [`thalweg_log::LogError::Unavailable`].
    pub(crate) fn read(
        &self,
        partition: &Partition,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Vec<Entry>> {
        let began = Instant::now();
        loop {
            let waited = began.elapsed() >= READ_TIMEOUT;
            // Both known before the read, which may be told of less.
            let end = partition.offsets().end;
            let is_behind = waited && self.watermarks(&partition.at)?.1 < end;
            match self.read_once(partition, from, max_bytes) {
                Ok(entries) if !entries.is_empty() => return Ok(entries),
                // Kafka's own records, such as those of transactions, take offsets too. But a new
                // leader may also not know yet how far its log is valid: it is given time.
                Ok(_) if is_behind => {
                    let reason = format!("it ends before {end}, which was acknowledged");
                    return Err(unavailable(&partition.at, &reason));
                }
                Ok(_) if waited => return Ok(vec![partition.codec.gap(from, end, 0)]),
                Ok(_) => {}
                Err(error) if is_out_of_range(&error) => {
                    let (low, _) = self.watermarks(&partition.at)?;
                    partition.note_start(low);
                    if from < low {
                        return Err(partition.out_of_range(from));
                    }
                    // Of a topic that has just been made, not all brokers and clients know.
                    if waited {
                        return Err(unavailable(&partition.at, &error));
                    }
                }
                Err(error) => return Err(unavailable(&partition.at, &error)),
            }
            std::thread::sleep(READ_AGAIN);
        }
    }

    /// Rows from `from` on; none when the partition seems to end there.
    fn read_once(
        &self,
        partition: &Partition,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Vec<Entry>, KafkaError> {
        let end = partition.offsets().end;
        let (mut messages, mut bytes) = (vec![], 0);
        self.each(&partition.at, from, |message| {
            let message = Incoming::from(message);
            bytes += message.payload.len();
            let goes_on = bytes < max_bytes && message.offset + 1 < end;
            messages.push(message);
            goes_on
        })?;
        // Rejected records are reported by whoever follows the partition, once.
        Ok(partition.codec.decode(&partition.at, from, &messages).entries)
    }

    /// Calls `see` with the messages of a partition from `from` to before `end`. Answers whether that
    /// was reached: not if consumers are shown no message behind the last one that was seen.
    ///
    /// # Errors
    /// [`thalweg_log::LogError::Unavailable`].
    pub(crate) fn scan(
        &self,
        at: &TopicPartition,
        from: Offset,
        end: Offset,
        mut see: impl FnMut(&BorrowedMessage<'_>),
    ) -> Result<bool> {
        let (mut next, mut moved) = (from, Instant::now());
        while next < end {
            let before = next;
            let read = self.each(at, next, |message| {
                see(message);
                next = offset(message) + 1;
                next < end
            });
            read.map_err(|error| unavailable(at, &error))?;
            if next > before {
                moved = Instant::now();
            } else if moved.elapsed() >= READ_TIMEOUT {
                return Ok(false);
            } else {
                std::thread::sleep(READ_AGAIN);
            }
        }
        Ok(true)
    }

    /// Calls `see` with messages from `from` on for as long as it says so and more are there.
    fn each(
        &self,
        at: &TopicPartition,
        from: Offset,
        mut see: impl FnMut(&BorrowedMessage<'_>) -> bool,
    ) -> Result<(), KafkaError> {
        let place = (at.clone(), from);
        let mut reader = self
            .take(at, Some(&place))
            .map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
        if reader.place.take() != Some(place) {
            reader.assign(at, from)?;
        }
        let (began, mut next) = (Instant::now(), from);
        let is_end = loop {
            let patience = if next == from { READ_TIMEOUT } else { MORE_TIMEOUT };
            match reader.poll(patience)? {
                Polled::Message(message) => {
                    // Left over from what was assigned before.
                    let place = (message.topic(), message.partition());
                    if place != (&at.topic, partition_number(at)) || offset(&message) < next {
                        continue;
                    }
                    next = offset(&message) + 1;
                    if !see(&message) {
                        break false;
                    }
                }
                Polled::EndOfPartition => break true,
                Polled::Nothing if next > from => break false,
                Polled::Nothing if began.elapsed() >= READ_TIMEOUT => {
                    return Err(KafkaError::MessageConsumption(
                        RDKafkaErrorCode::OperationTimedOut,
                    ));
                }
                Polled::Nothing => {}
            }
        };
        // At the end nothing says when there is more; it is asked again.
        reader.place = (!is_end).then(|| (at.clone(), next));
        self.give_back(reader);
        Ok(())
    }

    fn take(
        &self,
        at: &TopicPartition,
        place: Option<&(TopicPartition, Offset)>,
    ) -> Result<Reader> {
        let mut idle = self.idle.lock();
        let index = match place {
            // A question leaves a reader where it is.
            None => idle.len().checked_sub(1),
            // One that others would read on with only if there are many; the oldest stands first.
            Some(_) => {
                let at = |place| idle.iter().position(|reader| reader.place.as_ref() == place);
                at(place).or_else(|| at(None)).or_else(|| (idle.len() >= MAX_IDLE).then_some(0))
            }
        };
        if let Some(index) = index {
            return Ok(idle.remove(index));
        }
        drop(idle);
        let consumer = consumer(&self.config, OWN_GROUP, PREFETCH_KBYTES);
        let consumer = consumer.map_err(|error| unavailable(at, &error))?;
        Ok(Reader { consumer, place: None })
    }

    fn give_back(&self, reader: Reader) {
        let mut idle = self.idle.lock();
        idle.push(reader);
        if idle.len() > MAX_IDLE {
            idle.remove(0);
        }
    }
}

impl Reader {
    fn assign(&self, at: &TopicPartition, from: Offset) -> Result<(), KafkaError> {
        let position = Position::Offset(i64::try_from(from).unwrap_or(i64::MAX));
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&at.topic, partition_number(at), position)?;
        self.consumer.assign(&list)
    }

    fn poll(&self, timeout: Duration) -> Result<Polled<BorrowedMessage<'_>>, KafkaError> {
        match self.consumer.poll(timeout) {
            Some(Ok(message)) => Ok(Polled::Message(message)),
            Some(Err(KafkaError::PartitionEOF(_))) => Ok(Polled::EndOfPartition),
            Some(Err(error)) if is_passing(&error) => Ok(Polled::Nothing),
            Some(Err(error)) => Err(error),
            None => Ok(Polled::Nothing),
        }
    }
}

/// Offset of a message that was read, which always has one.
pub(crate) fn offset(message: &BorrowedMessage<'_>) -> Offset {
    Offset::try_from(message.offset()).unwrap_or(0)
}

/// Whether a broker has no such offset.
pub(crate) fn is_out_of_range(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{AutoOffsetReset, OffsetOutOfRange};
    matches!(error.rdkafka_error_code(), Some(AutoOffsetReset | OffsetOutOfRange))
}

/// Whether librdkafka goes on by itself.
pub(crate) fn is_passing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::AllBrokersDown
                | Code::BrokerTransportFailure
                | Code::OperationTimedOut
                | Code::RequestTimedOut
                | Code::NotLeaderForPartition
                | Code::LeaderNotAvailable
                | Code::Resolve
        )
    )
}
