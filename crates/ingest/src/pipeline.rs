//! From the bytes of a body to durable events.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    thread::available_parallelism,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use arrow::array::{ArrayRef, RecordBatch};
use bytes::Bytes;
use futures::future::{join, join_all};
use metrics::{counter, histogram};
use thalweg_event::{
    BatchContext, Fault, PriorityRules,
    schema::{column, topic},
};
use thalweg_log::{Log, LogError};
use tokio::sync::Semaphore;

use crate::{
    admission::{Admission, Permit, SMALL_BODY_BYTES},
    body::{BodyLimits, Encoding, Inflating, Payload},
    config::{ConfigError, IngestConfig},
    decode::{self, BodyFormat, Formats, Params, Sink, elasticsearch::items::Items},
    dedup::{Claim, Claimed, Dedup, Twins},
    error::IngestError,
    id_seed::IdSeeds,
    meters,
    recall::recall,
    route::{Kind, Part, Routes},
    sender::Sender,
};

/// Name of OTLP in protobuf among the formats.
pub const OTLP_PROTOBUF: &str = "otlp-protobuf";
/// Name of OTLP in JSON among the formats.
pub const OTLP_JSON: &str = "otlp-json";
/// Name of OTLP's traces in protobuf among the formats.
pub const OTLP_TRACES_PROTOBUF: &str = "otlp-traces-protobuf";
/// Name of OTLP's traces in JSON among the formats.
pub const OTLP_TRACES_JSON: &str = "otlp-traces-json";

/// Name of lines of syslog among the formats.
const SYSLOG: &str = "syslog";
/// Name of what the syslog listeners receive among the formats.
pub(crate) const SYSLOG_RECEIVED: &str = "syslog-received";

/// Name of Elasticsearch's bulk format among the formats.
pub const ELASTICSEARCH_BULK: &str = "elasticsearch-bulk";
/// Name of Loki's push request in JSON among the formats.
pub const LOKI_JSON: &str = "loki-json";
/// Name of Loki's push request in protobuf among the formats.
pub const LOKI_PROTOBUF: &str = "loki-protobuf";
/// Name of the events of Splunk's HTTP Event Collector among the formats.
pub const SPLUNK_EVENTS: &str = "splunk-events";
/// Name of raw lines for Splunk's HTTP Event Collector among the formats.
pub const SPLUNK_RAW: &str = "splunk-raw";

/// The formats of other systems' protocols.
const PROTOCOLS: [(&str, BodyFormat<'static>); 9] = [
    (OTLP_PROTOBUF, BodyFormat::OtlpProtobuf),
    (OTLP_JSON, BodyFormat::OtlpJson),
    (OTLP_TRACES_PROTOBUF, BodyFormat::OtlpTracesProtobuf),
    (OTLP_TRACES_JSON, BodyFormat::OtlpTracesJson),
    (ELASTICSEARCH_BULK, BodyFormat::ElasticsearchBulk),
    (LOKI_JSON, BodyFormat::LokiJson),
    (LOKI_PROTOBUF, BodyFormat::LokiProtobuf),
    (SPLUNK_EVENTS, BodyFormat::SplunkEvents),
    (SPLUNK_RAW, BodyFormat::SplunkRaw),
];

/// Accepts bodies of any known format and stores their events durably.
///
/// ```text
/// body ─▶ decompress ─▶ decode ─▶ leave out duplicates ─▶ split ─▶ logs.critical ─┐
///                         │ bad records                     ├────▶ logs.routine  ─┤
///                         │                                 └────▶ spans ─────────┼▶ answer
///                         └──────────────────────────────────────▶ rejected ──────┘
/// ```
///
/// When one of the appends fails, the sender is told to retry and may store events of the others
/// twice, unless it gives them ids.
pub struct Ingest {
    log: Arc<dyn Log>,
    formats: Formats,
    rules: PriorityRules,
    /// Of the local time of syslog's senders.
    syslog_offset_secs: i32,
    id_seeds: IdSeeds,
    dedup: Arc<Dedup>,
    routes: Routes,
    admission: Arc<Admission>,
    limits: BodyLimits,
    /// One for each processor: more large bodies are not decoded at once.
    decoders: Arc<Semaphore>,
}

/// What is known of a body besides its bytes.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Name of its format: one of [`Ingest::format_names`].
    pub format: String,
    /// Who sent it.
    pub client_ip: Option<IpAddr>,
    /// Service of events that name none.
    pub default_service: Option<String>,
    /// Gives record `i` the id `{prefix}:{start + i}` unless it brings its own.
    pub ids: Option<(String, u64)>,
    /// What the sender said of all events, but not in the body.
    pub params: Params,
    /// Whether nothing is to be stored: only what would become of the records is to be told.
    pub is_dry_run: bool,
}

/// What became of the records of a body that was accepted. All that is accepted is durable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Good records, those that had been stored before among them.
    pub accepted: usize,
    /// Bad records, now in table `rejected`.
    pub rejected: usize,
    /// What is wrong with the first [`decode::MAX_REPORTED_FAULTS`] of them, by index in the body.
    pub faults: Vec<(usize, Fault)>,
}

/// A body whose events are durable, with what answers of some protocols are made from.
pub(crate) struct Stored {
    pub(crate) accepted: Accepted,
    pub(crate) bulk: Bulk,
    /// Held for as long as the answer takes memory in proportion to the body.
    pub(crate) _permit: Permit,
}

/// What became of the operations of a bulk request.
#[derive(Default)]
pub(crate) struct Bulk {
    pub(crate) items: Items,
    /// Ids of the events that were accepted, in order.
    pub(crate) event_ids: Option<ArrayRef>,
}

/// Why the ingest cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The log lacks a topic, or cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// A body decoded, its events not yet in the log.
struct Prepared {
    parts: Vec<(Part, Claim)>,
    rejected: Option<RecordBatch>,
    twins: Twins,
    duplicates: usize,
    accepted: Accepted,
    bulk: Bulk,
    received_millis: i64,
    format: String,
    is_dry_run: bool,
    /// Held until the events are durable.
    permit: Permit,
}

impl Ingest {
    /// Begins to ingest into `log`, which has the topics of [`topic`]; reads the ids of recent
    /// events back from it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(log: Arc<dyn Log>, config: IngestConfig) -> Result<Arc<Self>, OpenError> {
        config.validate()?;
        meters::describe();
        let dedup = Arc::new(Dedup::new(&config.duplicates));
        let now_millis = unix_nanos_now() / NANOS_PER_MILLI;
        let topics = [topic::LOGS_CRITICAL, topic::LOGS_ROUTINE, topic::SPANS];
        let mut topics = BTreeSet::from(topics);
        topics.extend(config.routes.topics());
        topics.extend(config.former_topics.iter().map(String::as_str));
        recall(&*log, topics, &dedup, config.duplicates.max_ids, now_millis).await?;
        Ok(Arc::new(Self {
            formats: Formats::new(&config.formats).map_err(ConfigError::from)?,
            rules: config.priority,
            syslog_offset_secs: config.syslog.timezone.secs,
            id_seeds: IdSeeds::default(),
            dedup,
            routes: Routes::new(&*log, config.routes)?,
            admission: Arc::new(Admission::new(config.admission)),
            limits: BodyLimits {
                wire_bytes: config.body_limit_bytes,
                decompressed_bytes: config.decompressed_limit_bytes,
                inflate_ratio: config.inflate_ratio,
                timeout: Duration::from_secs(config.body_timeout_secs),
            },
            decoders: Arc::new(Semaphore::new(available_parallelism().map_or(1, Into::into))),
            log,
        }))
    }

    /// Stores the events of `body`, on this process' own word; resolves once they are durable.
    ///
    /// Dropping the future while it decodes stores nothing; later, it stores everything.
    ///
    /// # Errors
    /// [`IngestError`].
    pub async fn accept(
        self: &Arc<Self>,
        request: Request,
        body: Bytes,
    ) -> Result<Accepted, IngestError> {
        let limit = self.limits.decompressed_bytes;
        if body.len() > limit {
            return Err(IngestError::TooLarge { limit, stage: "in memory" });
        }
        let address = request.client_ip.unwrap_or(Ipv4Addr::LOCALHOST.into());
        let mut permit = self.admission.enter(&Sender::anyone(address), Some(body.len() as u64))?;
        permit.take(body.len())?;
        self.process(request, Payload { encoding: Encoding::Identity, bytes: body, permit }).await
    }

    /// The line formats: the built-in ones and those of the configuration.
    pub fn formats(&self) -> &Formats {
        &self.formats
    }

    /// Names of the formats that a [`Request`] can have.
    pub fn format_names(&self) -> impl Iterator<Item = &str> {
        self.formats.names().chain(PROTOCOLS.map(|(name, _)| name))
    }

    /// Shows in metrics what is in the works now.
    pub fn show_limits(&self) {
        self.admission.show();
    }

    pub(crate) fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    pub(crate) fn limits(&self) -> BodyLimits {
        self.limits
    }

    /// The format called `name`.
    ///
    /// # Errors
    /// [`IngestError::Unsupported`] when there is none.
    pub(crate) fn format(&self, name: &str) -> Result<BodyFormat<'_>, IngestError> {
        let protocol = PROTOCOLS.iter().find(|(known, _)| *known == name);
        let offset_secs = self.syslog_offset_secs;
        let format = match name {
            SYSLOG => Some(BodyFormat::Syslog { offset_secs }),
            SYSLOG_RECEIVED => Some(BodyFormat::SyslogReceived { offset_secs }),
            _ => protocol.map(|(_, format)| *format).or_else(|| self.formats.get(name)),
        };
        format.ok_or_else(|| {
            let known = self.format_names().collect::<Vec<_>>().join(", ");
            IngestError::Unsupported(format!("format: expected one of {known}, found `{name}`"))
        })
    }

    /// Stores the events of a body that was received.
    pub(crate) async fn process(
        self: &Arc<Self>,
        request: Request,
        payload: Payload,
    ) -> Result<Accepted, IngestError> {
        Ok(self.process_bulk(request, payload).await?.accepted)
    }

    /// As [`Ingest::process`], for protocols whose answer needs more.
    pub(crate) async fn process_bulk(
        self: &Arc<Self>,
        request: Request,
        payload: Payload,
    ) -> Result<Stored, IngestError> {
        let begun = Instant::now();
        let format = request.format.clone();
        let prepared = self.prepare(request, payload).await?;
        if prepared.is_dry_run {
            // The ids that were claimed are free again when the claims are dropped.
            let Prepared { accepted, bulk, permit, .. } = prepared;
            return Ok(Stored { accepted, bulk, _permit: permit });
        }
        // In a task of its own: what has been claimed is settled even if the sender goes away.
        let stored = tokio::spawn(Arc::clone(self).store(prepared)).await;
        let stored = stored.map_err(|_| IngestError::Internal)?;
        histogram!(meters::STORE_SECONDS, "format" => format).record(begun.elapsed());
        stored
    }

    /// Decompresses and decodes: small bodies at once, large ones on a thread that may block, so
    /// that small ones never wait for them.
    async fn prepare(
        self: &Arc<Self>,
        request: Request,
        payload: Payload,
    ) -> Result<Prepared, IngestError> {
        let mut inflating = payload.inflate(self.limits)?;
        if inflating.advance(SMALL_BODY_BYTES)? {
            return self.decode(request, inflating);
        }
        let turn = inflating.turns().acquire_owned().await;
        let decoder = Arc::clone(&self.decoders).acquire_owned().await;
        let ingest = Arc::clone(self);
        let decoded = tokio::task::spawn_blocking(move || {
            let _until_decoded = (turn, decoder);
            inflating.advance(usize::MAX)?;
            ingest.decode(request, inflating)
        });
        decoded.await.unwrap_or(Err(IngestError::Internal))
    }

    fn decode(&self, request: Request, inflated: Inflating) -> Result<Prepared, IngestError> {
        let received_unix_nanos = unix_nanos_now();
        let client_ip = request.client_ip.map(|address| address.to_canonical().to_string());
        let client_ip = client_ip.as_deref();
        let context = BatchContext {
            client_ip,
            default_service: request.default_service.as_deref(),
            ..BatchContext::new(
                received_unix_nanos,
                &self.rules,
                self.id_seeds.next(received_unix_nanos),
            )
        };
        let mut sink = Sink::new(context, &request.format).with_params(&request.params);
        if let Some((prefix, start)) = &request.ids {
            sink = sink.with_ids(prefix, *start);
        }
        let (body, permit) = inflated.finish();
        sink = sink.with_services(permit.services().cloned());
        decode::decode(self.format(&request.format)?, &body, &mut sink)?;
        drop(body);

        let Sink { events, spans, rejected, faults, items, .. } = sink;
        let (batch, kind, mut rows_with_id) = match spans {
            Some(spans) => {
                let all = (0..spans.len() as u32).collect();
                (spans.finish(), Kind::Spans, all)
            }
            None => {
                let given = events.sender_ids().to_vec();
                let kind = Kind::Logs { critical_rows: events.critical_rows() };
                (events.finish(), kind, given)
            }
        };
        let accepted = Accepted { accepted: batch.num_rows(), rejected: rejected.len(), faults };
        let rejected =
            (!rejected.is_empty()).then(|| rejected.finish(received_unix_nanos, client_ip));
        let event_ids = (!items.is_empty()).then(|| Arc::clone(event_ids(&batch)));
        let bulk = Bulk { items, event_ids };

        let received_millis = received_unix_nanos / NANOS_PER_MILLI;
        let Claimed { is_fresh, claim, twins } =
            self.claim(&batch, &mut rows_with_id, received_millis);
        let with_freshness = || rows_with_id.iter().copied().zip(is_fresh.iter().copied());
        let only =
            |fresh: bool| with_freshness().filter(move |row| row.1 == fresh).map(|row| row.0);
        let (fresh, duplicates): (Vec<u32>, Vec<u32>) =
            (only(true).collect(), only(false).collect());
        let split = self.routes.split(batch, kind, &duplicates);
        let claims = claim.split(split.parts.len(), |index| split.part_of(fresh[index] as usize));
        Ok(Prepared {
            parts: split.parts.into_iter().zip(claims).collect(),
            rejected,
            twins,
            duplicates: duplicates.len(),
            accepted,
            bulk,
            received_millis,
            format: request.format,
            is_dry_run: request.is_dry_run,
            permit,
        })
    }

    /// Claims the ids in `rows` of `batch`.
    fn claim(&self, batch: &RecordBatch, rows: &mut Vec<u32>, now_millis: i64) -> Claimed {
        if self.dedup.window_millis() == 0 {
            rows.clear();
        }
        let hashes = self.dedup.hashes(batch, rows.iter().map(|row| *row as usize));
        self.dedup.claim(&hashes, now_millis)
    }

    /// Appends everything, critical events first, and settles what was claimed.
    async fn store(self: Arc<Self>, prepared: Prepared) -> Result<Stored, IngestError> {
        let Prepared {
            parts, rejected, twins, duplicates, accepted, bulk, received_millis, ..
        } = prepared;
        let parts = parts.into_iter().map(async |(part, claim)| {
            self.log.append(part.at, part.batch).await?;
            claim.stored(received_millis);
            Ok::<_, LogError>(())
        });
        let rejected = async {
            match rejected {
                Some(batch) => self.log.append(self.routes.rejected.clone(), batch).await.map(drop),
                None => Ok(()),
            }
        };
        let (parts, rejected) = join(join_all(parts), rejected).await;
        parts.into_iter().chain([rejected]).collect::<Result<(), _>>()?;
        if !twins.are_stored().await {
            return Err(IngestError::TwinFailed);
        }
        let count = |outcome: &'static str, records: usize| {
            let format = prepared.format.clone();
            counter!(meters::RECORDS, "format" => format, "outcome" => outcome)
                .increment(records as u64);
        };
        count("accepted", accepted.accepted - duplicates);
        count("duplicate", duplicates);
        count("rejected", accepted.rejected);
        Ok(Stored { accepted, bulk, _permit: prepared.permit })
    }
}

fn event_ids(batch: &RecordBatch) -> &ArrayRef {
    batch.column_by_name(column::EVENT_ID).expect("the schema has this column")
}

/// Nanoseconds in a millisecond.
const NANOS_PER_MILLI: i64 = 1_000_000;

fn unix_nanos_now() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX)
}
