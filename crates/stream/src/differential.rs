//! Tests that hold views to what batch SQL says of the same events, through crashes between any
//! two steps.

mod joins;
mod windows;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array,
};
use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use arrow::compute::{cast, concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use proptest::prelude::*;
use thalweg_event::schema::{dictionary_type, timestamp_type};
use thalweg_log::{
    Appended, EmbeddedLog, Entry, Log, LogConfig, LogError, Offset, OffsetRange, TopicConfig,
    TopicPartition,
};

use crate::bound::Side;
use crate::config::{Emit, Late, StreamConfig, ViewConfig, ViewOptions};
use crate::functions;
use crate::join::Join;
use crate::late::LATE_EVENTS;
use crate::plan::Plan;
use crate::store::Store;
use crate::stream::{Stream, Streams};
use crate::view::{Made, View};
use crate::watermark::Now;

const SECOND: i64 = 1_000_000;
const LATENESS: i64 = 30 * SECOND;
/// 2023-11-14T22:13:20Z.
const EPOCH: i64 = 1_700_000_000 * SECOND;
const VIEW_TOPIC: &str = "view.tested";
/// The tests' streams, each on a topic of its name.
const EVENTS: &str = "events";
const OTHERS: &str = "others";

/// One event of the tests' streams.
#[derive(Debug, Clone)]
struct Event {
    time: i64,
    service: Option<u8>,
    user: u8,
    bytes: i64,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("timestamp", timestamp_type(), false),
        Field::new("service", dictionary_type(), true),
        Field::new("user", DataType::Utf8, false),
        Field::new("bytes", DataType::Int64, false),
        Field::new("unread", DataType::Utf8, true),
    ]))
}

fn batch(events: &[Event]) -> RecordBatch {
    let times = TimestampMicrosecondArray::from_iter_values(events.iter().map(|e| e.time));
    let services: ArrayRef = Arc::new(StringArray::from_iter(
        events.iter().map(|e| e.service.map(|service| format!("service-{service}"))),
    ));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(times.with_timezone("UTC")),
        cast(&services, &dictionary_type()).unwrap(),
        Arc::new(StringArray::from_iter_values(events.iter().map(|e| format!("user-{}", e.user)))),
        Arc::new(Int64Array::from_iter_values(events.iter().map(|e| e.bytes))),
        Arc::new(StringArray::from_iter_values(events.iter().map(|_| "unread"))),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

fn context() -> SessionContext {
    let context = SessionContext::new();
    functions::register(&context);
    context
}

/// The tests' streams.
fn streams() -> Vec<Stream> {
    let stream = |name: &str| Stream {
        name: name.into(),
        topics: vec![name.into()],
        schema: schema(),
        time_column: "timestamp".into(),
    };
    [EVENTS, OTHERS].map(stream).to_vec()
}

pub(crate) async fn plan(query: &str, options: ViewOptions) -> crate::Result<(Plan, ViewConfig)> {
    plan_of(query, options, streams()).await
}

pub(crate) async fn plan_of(
    query: &str,
    options: ViewOptions,
    of: Vec<Stream>,
) -> crate::Result<(Plan, ViewConfig)> {
    let context = context();
    let mut streams = Streams::default();
    for stream in of {
        let schema = Arc::clone(&stream.schema);
        let empty = datafusion::datasource::empty::EmptyTable::new(schema);
        context.register_table(stream.name.as_str(), Arc::new(empty)).unwrap();
        streams.insert(stream);
    }
    let name = "tested".to_owned().try_into().unwrap();
    let config = ViewConfig { name, query: query.into(), options };
    Ok((Plan::of(&config, &context.state(), &streams).await?, config))
}

fn open_log(directory: &Path) -> Arc<EmbeddedLog> {
    let topics = vec![
        TopicConfig::new(EVENTS, 2),
        TopicConfig::new(OTHERS, 2),
        TopicConfig::new(VIEW_TOPIC, 1),
        TopicConfig::new(LATE_EVENTS, 1),
    ];
    let config = LogConfig { directory: directory.join("log"), topics, ..LogConfig::default() };
    Arc::new(EmbeddedLog::open(config).unwrap().0)
}

/// A log whose appends fail once, before or after they are done.
struct FailingLog {
    inner: Arc<EmbeddedLog>,
    /// Appends until one fails; beyond that, all work.
    until_failure: AtomicUsize,
    /// Whether the one that fails is done all the same.
    is_done: bool,
}

impl Log for FailingLog {
    fn partitions(&self, topic: &str) -> thalweg_log::Result<u32> {
        self.inner.partitions(topic)
    }

    fn append(
        &self,
        at: TopicPartition,
        batch: RecordBatch,
    ) -> BoxFuture<'_, thalweg_log::Result<Appended>> {
        if self.until_failure.fetch_sub(1, Ordering::Relaxed) != 1 {
            return self.inner.append(at, batch);
        }
        async move {
            if self.is_done {
                // Only part of it, as a crash may leave it.
                self.inner.append(at.clone(), batch.slice(0, batch.num_rows().div_ceil(2))).await?;
            }
            Err(LogError::Unavailable { at, reason: "injected".into() })
        }
        .boxed()
    }

    fn read(
        &self,
        at: TopicPartition,
        from: Offset,
        max_bytes: usize,
    ) -> BoxFuture<'_, thalweg_log::Result<Vec<Entry>>> {
        self.inner.read(at, from, max_bytes)
    }

    fn tail(
        &self,
        at: TopicPartition,
        from: Offset,
    ) -> BoxStream<'static, thalweg_log::Result<Entry>> {
        self.inner.tail(at, from)
    }

    fn offsets(&self, at: TopicPartition) -> thalweg_log::Result<OffsetRange> {
        self.inner.offsets(at)
    }

    fn offset_at(
        &self,
        at: TopicPartition,
        unix_millis: i64,
    ) -> BoxFuture<'_, thalweg_log::Result<Offset>> {
        self.inner.offset_at(at, unix_millis)
    }

    fn commit(
        &self,
        group: &str,
        at: TopicPartition,
        offset: Offset,
    ) -> BoxFuture<'_, thalweg_log::Result<()>> {
        self.inner.commit(group, at, offset)
    }

    fn committed(&self, group: &str, at: TopicPartition) -> thalweg_log::Result<Option<Offset>> {
        self.inner.committed(group, at)
    }
}

/// What is done to a view.
#[derive(Debug, Clone)]
enum Step {
    /// Events are appended to a partition.
    Append { topic: &'static str, partition: u32, events: Vec<Event> },
    /// The view takes up to so many entries.
    Take { entries: usize },
    /// It makes a checkpoint and delivers it.
    Checkpoint,
    /// It makes a checkpoint and is killed before delivering, or while appending its `n`th batch.
    Crash { appends: usize, is_done: bool },
    /// It is killed with what it has gathered.
    CrashBetween,
}

fn event(latest: i64) -> impl Strategy<Value = Event> {
    let time = 0..LATENESS;
    (time, proptest::option::weighted(0.9, 0u8..3), 0u8..4, 0i64..100).prop_map(
        move |(before, service, user, bytes)| Event {
            time: EPOCH + latest - before,
            service,
            user,
            bytes,
        },
    )
}

/// Steps in which event time goes on by up to 20 s an append, in each partition at its own pace.
fn steps(topics: &'static [&'static str]) -> impl Strategy<Value = Vec<Step>> {
    let append = (0..topics.len(), 0u32..2, 0i64..20, 1usize..12);
    let other = prop_oneof![
        3 => (1usize..4).prop_map(|entries| Step::Take { entries }),
        2 => Just(Step::Checkpoint),
        2 => (0usize..4, any::<bool>())
            .prop_map(|(appends, is_done)| Step::Crash { appends, is_done }),
        1 => Just(Step::CrashBetween),
    ];
    proptest::collection::vec((append, other), 1..25).prop_flat_map(|drawn| {
        let mut latest = vec![[0i64; 2]; topics.len()];
        let mut steps: Vec<BoxedStrategy<Step>> = vec![];
        for ((topic, partition, seconds, count), other) in drawn {
            let latest = &mut latest[topic][partition as usize];
            *latest += seconds * SECOND;
            let events = proptest::collection::vec(event(*latest), count);
            let topic = topics[topic];
            let append = move |events| Step::Append { topic, partition, events };
            steps.push(events.prop_map(append).boxed());
            steps.push(Just(other).boxed());
        }
        steps
    })
}

/// A view under test, and the log and the disk that outlive it.
struct Harness {
    directory: tempfile::TempDir,
    log: Arc<EmbeddedLog>,
    plan: Arc<Plan>,
    options: ViewOptions,
    join_bytes: usize,
    view: Option<View>,
    started: Instant,
    elapsed: Duration,
    appended: BTreeMap<&'static str, Vec<RecordBatch>>,
}

impl Harness {
    async fn new(query: &str, options: ViewOptions) -> Self {
        Self::with_memory(query, options, StreamConfig::default().join_bytes).await
    }

    async fn with_memory(query: &str, options: ViewOptions, join_bytes: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = open_log(directory.path());
        let plan = Arc::new(plan(query, options.clone()).await.unwrap().0);
        let mut harness = Self {
            directory,
            log,
            plan,
            options,
            join_bytes,
            view: None,
            started: Instant::now(),
            elapsed: Duration::ZERO,
            appended: BTreeMap::from([(EVENTS, vec![]), (OTHERS, vec![])]),
        };
        harness.restart(harness.log.clone()).await;
        harness
    }

    fn now(&self) -> Now {
        Now { instant: self.started + self.elapsed, unix_micros: i64::MAX }
    }

    fn made(&self, log: Arc<dyn Log>) -> Made {
        Made {
            name: "tested".into(),
            topic: VIEW_TOPIC.into(),
            plan: Arc::clone(&self.plan),
            options: self.options.clone(),
            log,
            since: None,
            is_beside: Arc::default(),
        }
    }

    async fn restart(&mut self, log: Arc<dyn Log>) {
        self.view = None;
        let store = Store::open(&self.directory.path().join("state"), "tested").unwrap();
        let store = Arc::new(store);
        let made = self.made(log);
        // Small, so that states are read back from disk.
        let config = StreamConfig {
            resident_bytes: 2_000,
            join_bytes: self.join_bytes,
            ..StreamConfig::default()
        };
        let (store2, made2) = (Arc::clone(&store), made.clone());
        let view = View::resume(made, store, config.clone(), self.now()).unwrap();
        self.view = Some(view.unwrap_or_else(|| {
            let topics = self.plan.topics().into_iter();
            let partitions = topics.flat_map(|topic| {
                [0, 1].map(|partition| (TopicPartition::new(topic.as_str(), partition), 0))
            });
            let cursors = partitions.collect();
            let mut view = View::begin(made2, store2, config, cursors, self.now()).unwrap();
            view.checkpoint(self.now()).unwrap();
            view
        }));
    }

    async fn step(&mut self, step: &Step) {
        match step {
            Step::Append { topic, partition, events } => {
                let rows = batch(events);
                self.appended.get_mut(topic).unwrap().push(rows.clone());
                self.log.append(TopicPartition::new(*topic, *partition), rows).await.unwrap();
            }
            Step::Take { entries } => self.take(*entries).await,
            Step::Checkpoint => self.checkpoint().await,
            Step::Crash { appends, is_done } => {
                let failing = FailingLog {
                    inner: Arc::clone(&self.log),
                    until_failure: AtomicUsize::new(*appends),
                    is_done: *is_done,
                };
                // The view that makes the checkpoint is the one whose appends fail.
                let (now, gathered) = (self.now(), self.view.take());
                if let Some(mut view) = gathered {
                    view.deliver().await.unwrap();
                    view.checkpoint(now).unwrap();
                }
                self.restart(Arc::new(failing)).await;
                if *appends > 0 {
                    let _ = self.view.as_mut().unwrap().deliver().await;
                }
                self.restart(self.log.clone()).await;
            }
            Step::CrashBetween => self.restart(self.log.clone()).await,
        }
    }

    async fn take(&mut self, entries: usize) {
        let now = self.now();
        let view = self.view.as_mut().unwrap();
        for (at, cursor) in view.cursors().clone() {
            let read = self.log.read(at.clone(), cursor, 1 << 20).await.unwrap();
            for entry in read.iter().take(entries) {
                view.take(&at, entry, now).unwrap();
            }
        }
    }

    async fn checkpoint(&mut self) {
        let now = self.now();
        let view = self.view.as_mut().unwrap();
        view.deliver().await.unwrap();
        view.note_ends().unwrap();
        view.checkpoint(now).unwrap();
        view.deliver().await.unwrap();
        view.release(now).await.unwrap();
    }

    /// Takes what is left, and lets time go by until every window is closed.
    async fn finish(&mut self) {
        self.take(usize::MAX).await;
        self.checkpoint().await;
        for _ in 0..2 {
            self.elapsed += Duration::from_secs(86_400);
            self.checkpoint().await;
        }
    }

    async fn topic(&self, name: &str, schema: &SchemaRef) -> RecordBatch {
        let at = TopicPartition::new(name, 0);
        let end = self.log.offsets(at.clone()).unwrap().end;
        let mut batches = vec![];
        let mut from = 0;
        while from < end {
            for entry in self.log.read(at.clone(), from, 1 << 20).await.unwrap() {
                batches.push(entry.after(from));
                from = entry.next_offset;
            }
        }
        concat_batches(schema, &batches).unwrap()
    }

    async fn rows(&self) -> Vec<Vec<String>> {
        sorted(&self.topic(VIEW_TOPIC, &self.plan.output).await)
    }

    /// What a query over all events that were appended answers.
    async fn batch_sql(&self, query: &str) -> Vec<Vec<String>> {
        let context = context();
        for (name, appended) in &self.appended {
            let table = MemTable::try_new(schema(), vec![appended.clone()]).unwrap();
            context.register_table(*name, Arc::new(table)).unwrap();
        }
        let frame = context.sql(query).await.unwrap();
        let batches = frame.collect().await.unwrap();
        batches.first().map_or_else(Vec::new, |first| {
            sorted(&concat_batches(first.schema_ref(), &batches).unwrap())
        })
    }
}

/// Rows as text, in a fixed order.
fn sorted(rows: &RecordBatch) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("∅");
    let columns = rows.columns().iter();
    let columns: Vec<_> =
        columns.map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap()).collect();
    let text = |n| columns.iter().map(|column| column.value(n).to_string()).collect();
    let mut rows: Vec<Vec<String>> = (0..rows.num_rows()).map(text).collect();
    rows.sort();
    rows
}

const AGGREGATES: &str = "count(*) AS events, sum(bytes) AS bytes, avg(bytes) AS mean, \
    min(\"user\") AS first_user, count(DISTINCT \"user\") AS users, \
    count(*) FILTER (WHERE bytes > 50) AS large, sum(bytes) / count(*) AS each";

pub(crate) fn options() -> ViewOptions {
    ViewOptions {
        lateness_secs: (LATENESS / SECOND) as u64,
        emit: Emit::OnUpdate,
        late: Late::Keep,
        ..ViewOptions::default()
    }
}

fn check(query: (String, String), steps: &[Step]) {
    check_with_memory(query, steps, StreamConfig::default().join_bytes);
}

fn check_with_memory(query: (String, String), steps: &[Step], join_bytes: usize) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut harness = Harness::with_memory(&query.0, options(), join_bytes).await;
        for step in steps {
            harness.step(step).await;
        }
        harness.finish().await;
        assert_eq!(harness.rows().await, harness.batch_sql(&query.1).await);
        let late = harness.topic(LATE_EVENTS, &crate::late_schema()).await;
        assert_eq!(late.num_rows(), 0, "no event was older than the lateness");
    });
}
