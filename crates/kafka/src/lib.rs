//! Kafka as the log: a [`thalweg_log::Log`] in topics of Apache Kafka, with a spool on this
//! machine's disk for the time that brokers are away.
//!
//! ```text
//!           encode          number           idempotent, acks=all
//! append ─▶ LaneHandle ───▶ Lane ──────────▶ Producer ──▶ Kafka ──┬──▶ Follower ─▶ Partition ─▶ read, tail
//!                            │  ▲                                 └──▶ Readers (what is older) ─▶ read
//!                            ▼  │ when brokers are back
//!                            Spool
//! ```
//!
//! # An acknowledged event is durable
//!
//! An append is answered when all in-sync replicas have its messages. Brokers that do not
//! acknowledge it within [`KafkaConfig::acknowledge_within_ms`] get no more time: its rows are
//! written to the spool, an embedded log, and the append is answered when they are synced to disk.
//! While anything waits in the spool, all rows of that partition go through it, so that they keep
//! their order. Writing everything to the spool first would be simpler, but an acknowledged event
//! would live on one disk only until it is forwarded, also while Kafka is well.
//!
//! # It is in Kafka exactly once
//!
//! What was spooled because its acknowledgement was late may have arrived all the same.
//!
//! - As long as the process lives, librdkafka finds out: it sends on, idempotently and without a
//!   time limit, and rows in its hands are not sent from the spool.
//! - After a crash, and when librdkafka gives up a message, Kafka is looked into, once all others
//!   have an outcome. Rows are numbered by process and partition; each message carries the number of
//!   its first row (header `thalweg.stamp`), and so does each row of the spool, with the end that
//!   the partition had in Kafka before the row may have been sent. From the least such end on, the
//!   messages are read, and only rows whose numbers are not found are sent.
//! - Consumers see only what all in-sync replicas have. So a look first sends a mark, a message
//!   without rows and without a value, and reads up to it: when the mark is acknowledged, everything
//!   that arrived before it can be seen.
//! - Requests of a killed process may still lie in a broker's socket, unread, while the broker is
//!   paused. It reads them when it goes on, at once; so the look begins two seconds after the broker
//!   has answered us (`arrivals.rs`). A broker that takes longer for requests that it has in hand
//!   would let a row appear twice: Kafka fences them for transactional producers only, whose commits
//!   would cost every append some milliseconds. The stamps of both messages are equal then, so that
//!   whoever reads can tell.
//!
//! Rows whose writers keep them until they are acknowledged, and look in the topic for what has
//! arrived after a crash, as views do, must not be acknowledged from the spool, where they would not
//! find them: their topics have none ([`Topic::may_spool`]), and their appends wait for Kafka. Before
//! they look they append an empty batch, which waits for a mark if rows may be there that nobody in
//! this process knows of.
//!
//! # Results say what they cover
//!
//! Tables and views keep the offsets that they cover with their results, and go on from there.
//! Offsets of consumer groups are told to Kafka for those who look there. A start waits for brokers,
//! because nothing is known of a partition without them, and forwards what is in the spool first.
//!
//! # Several processes
//!
//! With [`KafkaConfig::shared`], processes share the partitions: each follows all of them, because
//! queries look at all latest rows, but works only on those that a consumer group gives it
//! (`members.rs`). Who has a partition reports its damaged messages too (`reporting.rs`).
//!
//! # Messages
//!
//! Events are OTLP export requests, a batch a message, or JSON objects with the columns of the table,
//! one a message ([`Encoding`]); rows of other topics are JSON objects. What is read equals what was
//! written, down to the text of a number (`codec/properties.rs`). Offsets may have gaps, and a message
//! many rows: [`thalweg_log::Entry`] says what that means for its offsets. Messages of others are read as
//! what they seem to be, and what cannot be read goes to the topic of rejected records.
//!
//! # Topics of others
//!
//! A [`SourceLog`] is a topic that others write, in whatever cluster, as a log that refuses appends
//! (`source.rs`).
//!
//! # TLS
//!
//! librdkafka knows TLS and SCRAM through OpenSSL only. That is a second TLS stack besides rustls, so
//! the crate's feature `tls` is off by default; without it, settings that need it are refused.

mod admin;
mod arrivals;
mod backlog;
mod client;
mod codec;
mod config;
mod follower;
mod groups;
mod kafka_log;
mod lane;
mod lane_handle;
mod members;
mod message;
mod meters;
mod opened;
mod overflow;
mod partition;
mod places;
mod producer;
mod readers;
mod rejects;
mod reporting;
mod source;
mod spool;
mod stamp;

pub use config::{
    Broker, ConfigError, Encoding, KafkaConfig, NodeName, SaslConfig, SaslMechanism, SpoolConfig,
    TlsConfig,
};
pub use kafka_log::{KafkaLog, Topic};
pub use source::{
    KnownTopic, SourceLog,
    config::{
        Begin, ColumnName, ColumnType, KEY as KEY_COLUMN, KafkaSource, Source, SourceFormat,
        TopicName,
    },
};
