//! Tests that hold views to what batch SQL says of the same events, through crashes between any
//! two steps.

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

/// Steps in which all partitions go on together, with events at the edges of what is in time: the
/// watermark is right behind them.
fn close_steps(topics: &'static [&'static str]) -> impl Strategy<Value = Vec<Step>> {
    let other = prop_oneof![
        6 => Just(Step::Checkpoint),
        2 => (0usize..4, any::<bool>())
            .prop_map(|(appends, is_done)| Step::Crash { appends, is_done }),
        1 => Just(Step::CrashBetween),
    ];
    proptest::collection::vec((0i64..12, other), 6..20).prop_flat_map(move |drawn| {
        let mut latest = 2 * LATENESS;
        let mut steps: Vec<BoxedStrategy<Step>> = vec![];
        for (seconds, other) in drawn {
            latest += seconds * SECOND;
            for topic in topics {
                for partition in 0..2 {
                    let before = prop_oneof![
                        2 => (LATENESS - 3 * SECOND)..=LATENESS,
                        1 => 0..=LATENESS,
                    ];
                    let event = (before, 0u8..2, 0u8..2, 0i64..100).prop_map(
                        move |(before, service, user, bytes)| Event {
                            time: EPOCH + latest - before,
                            service: Some(service),
                            user,
                            bytes,
                        },
                    );
                    let events = proptest::collection::vec(event, 0..3);
                    let append = move |mut events: Vec<Event>| {
                        let time = EPOCH + latest;
                        events.push(Event { time, service: None, user: 3, bytes: 7 });
                        Step::Append { topic, partition, events }
                    };
                    steps.push(events.prop_map(append).boxed());
                }
            }
            steps.push(Just(Step::Take { entries: 9 }).boxed());
            steps.push(Just(other).boxed());
        }
        steps
    })
}

/// Steps of either kind.
fn join_steps(topics: &'static [&'static str]) -> impl Strategy<Value = Vec<Step>> {
    prop_oneof![steps(topics), close_steps(topics)]
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

/// A view's query, and the same as batch SQL.
fn tumbling() -> (String, String) {
    let view = format!(
        "SELECT service, {AGGREGATES} FROM events WHERE bytes <> 7 \
         GROUP BY tumble(INTERVAL '20 seconds'), service HAVING count(*) > 1"
    );
    let batch = format!(
        "SELECT tumble(INTERVAL '20 seconds', timestamp) AS s, \
                tumble(INTERVAL '20 seconds', timestamp) + INTERVAL '20 seconds', service, {AGGREGATES} \
         FROM events WHERE bytes <> 7 \
         GROUP BY tumble(INTERVAL '20 seconds', timestamp), service HAVING count(*) > 1"
    );
    (view, batch)
}

fn hopping() -> (String, String) {
    let view = format!(
        "SELECT upper(service) AS service, {AGGREGATES} FROM (SELECT service, \"user\", \
            bytes + 1 - 1 AS bytes FROM events) AS renamed \
         GROUP BY upper(service), hop(INTERVAL '30 seconds', INTERVAL '10 seconds')"
    );
    let shifted = |n: i64| {
        format!(
            "SELECT tumble(INTERVAL '10 seconds', timestamp) - INTERVAL '{} seconds' AS s, * FROM events",
            n * 10
        )
    };
    let all = [0, 1, 2].map(shifted).join(" UNION ALL ");
    let batch = format!(
        "SELECT s, s + INTERVAL '30 seconds', upper(service) AS service, {AGGREGATES} \
         FROM ({all}) GROUP BY s, upper(service)"
    );
    (view, batch)
}

fn sessions() -> (String, String) {
    let view = format!(
        "SELECT \"user\", {AGGREGATES} FROM events \
         GROUP BY session(INTERVAL '6 seconds'), \"user\""
    );
    let batch = format!(
        "WITH marked AS (SELECT *, CASE WHEN timestamp - lag(timestamp) OVER w > INTERVAL '6 seconds' \
                THEN 1 ELSE 0 END AS is_first \
            FROM events WINDOW w AS (PARTITION BY \"user\" ORDER BY timestamp)), \
         numbered AS (SELECT *, sum(is_first) OVER (PARTITION BY \"user\" ORDER BY timestamp \
                RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS n FROM marked) \
         SELECT min(timestamp), max(timestamp) + INTERVAL '6 seconds', \"user\", {AGGREGATES} \
         FROM numbered GROUP BY n, \"user\""
    );
    (view, batch)
}

/// A stream joined with itself, as spans are with those that called them.
fn calls() -> (String, String) {
    let select = "p.service AS caller, c.service AS callee, count(*) AS calls, \
        sum(c.bytes) AS bytes, avg(p.bytes) AS mean, min(p.\"user\") AS first_user, \
        count(*) FILTER (WHERE c.bytes > 50) AS large";
    let from = "events c JOIN events p ON c.\"user\" = p.\"user\" \
            AND p.timestamp BETWEEN c.timestamp - INTERVAL '10 seconds' \
                AND c.timestamp + INTERVAL '2 seconds' \
            AND c.bytes <> p.bytes + 1 \
        WHERE c.service <> p.service AND c.bytes <> 7";
    let view = format!(
        "SELECT {select} FROM {from} \
         GROUP BY tumble(INTERVAL '20 seconds', c.timestamp), p.service, c.service"
    );
    let batch = format!(
        "SELECT tumble(INTERVAL '20 seconds', c.timestamp) AS s, \
                tumble(INTERVAL '20 seconds', c.timestamp) + INTERVAL '20 seconds', {select} \
         FROM {from} \
         GROUP BY tumble(INTERVAL '20 seconds', c.timestamp), p.service, c.service"
    );
    (view, batch)
}

/// Rows of two streams, by two keys of which one may be null, the later between 1 and 9 s behind
/// the earlier one.
const FOLLOWED: &str = "SELECT l.name AS service, r.\"user\", l.more + r.bytes AS bytes, \
        l.happened AS first, r.timestamp AS second \
    FROM (SELECT upper(service) AS name, \"user\", bytes + 1 AS more, timestamp AS happened \
          FROM events WHERE bytes < 90) AS l \
    JOIN others r ON l.\"user\" = r.\"user\" AND l.name = upper(r.service) \
    WHERE r.timestamp > l.happened + INTERVAL '1 second' \
      AND l.happened >= r.timestamp - INTERVAL '9 seconds' AND l.more <> r.bytes";

fn followed_hopping() -> (String, String) {
    let view = format!(
        "SELECT service, {AGGREGATES} FROM ({FOLLOWED}) AS j \
         GROUP BY hop(INTERVAL '30 seconds', INTERVAL '10 seconds', j.first), service"
    );
    let shifted = |n: i64| {
        format!(
            "SELECT tumble(INTERVAL '10 seconds', first) - INTERVAL '{} seconds' AS s, * FROM j",
            n * 10
        )
    };
    let all = [0, 1, 2].map(shifted).join(" UNION ALL ");
    let batch = format!(
        "WITH j AS ({FOLLOWED}) SELECT s, s + INTERVAL '30 seconds', service, {AGGREGATES} \
         FROM ({all}) GROUP BY s, service"
    );
    (view, batch)
}

fn followed_sessions() -> (String, String) {
    let view = format!(
        "SELECT \"user\", {AGGREGATES} FROM ({FOLLOWED}) AS j \
         GROUP BY session(INTERVAL '6 seconds', second), \"user\""
    );
    let batch = format!(
        "WITH j AS ({FOLLOWED}), \
         marked AS (SELECT *, CASE WHEN second - lag(second) OVER w > INTERVAL '6 seconds' \
                THEN 1 ELSE 0 END AS is_first \
            FROM j WINDOW w AS (PARTITION BY \"user\" ORDER BY second)), \
         numbered AS (SELECT *, sum(is_first) OVER (PARTITION BY \"user\" ORDER BY second \
                RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS n FROM marked) \
         SELECT min(second), max(second) + INTERVAL '6 seconds', \"user\", {AGGREGATES} \
         FROM numbered GROUP BY n, \"user\""
    );
    (view, batch)
}

/// Memory for rows to be joined: for none, for some, for all.
fn join_bytes() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0), Just(8_000), Just(usize::MAX)]
}

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

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn tumbling_views_equal_batch_sql_through_crashes(steps in steps(&[EVENTS])) {
        check(tumbling(), &steps);
    }

    #[test]
    fn hopping_views_equal_batch_sql_through_crashes(steps in steps(&[EVENTS])) {
        check(hopping(), &steps);
    }

    #[test]
    fn session_views_equal_batch_sql_through_crashes(steps in steps(&[EVENTS])) {
        check(sessions(), &steps);
    }

    #[test]
    fn a_stream_joined_with_itself_equals_batch_sql_through_crashes(
        steps in join_steps(&[EVENTS]), join_bytes in join_bytes(),
    ) {
        check_with_memory(calls(), &steps, join_bytes);
    }

    #[test]
    fn hopping_views_of_two_streams_equal_batch_sql_through_crashes(
        steps in join_steps(&[EVENTS, OTHERS]), join_bytes in join_bytes(),
    ) {
        check_with_memory(followed_hopping(), &steps, join_bytes);
    }

    #[test]
    fn session_views_of_two_streams_equal_batch_sql_through_crashes(
        steps in join_steps(&[EVENTS, OTHERS]), join_bytes in join_bytes(),
    ) {
        check_with_memory(followed_sessions(), &steps, join_bytes);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_event_goes_to_the_side_table_with_how_late_it_was() {
    let query = "SELECT count(*) AS events FROM events GROUP BY tumble(INTERVAL '10 seconds')";
    let mut harness = Harness::new(query, options()).await;
    let at =
        |seconds: i64| Event { time: EPOCH + seconds * SECOND, service: None, user: 1, bytes: 5 };
    for partition in 0..2 {
        let events = vec![at(100)];
        harness.step(&Step::Append { topic: EVENTS, partition, events }).await;
    }
    harness.step(&Step::Take { entries: 9 }).await;
    harness.step(&Step::Checkpoint).await;
    // The watermark stands at 70 s: the window from 50 to 60 s is closed, the one from 70 s not.
    harness.step(&Step::Append { topic: EVENTS, partition: 0, events: vec![at(55), at(75)] }).await;
    harness.step(&Step::Take { entries: 9 }).await;
    harness.step(&Step::Crash { appends: 1, is_done: true }).await;
    harness.finish().await;
    let late = harness.topic(LATE_EVENTS, &crate::late_schema()).await;
    let event = r#"{"timestamp":"2023-11-14T22:14:15Z"}"#;
    let expected = [["2023-11-14T22:14:15Z", "tested", "15000", event].map(String::from).to_vec()];
    assert_eq!(sorted(&late), expected);
    let counts: Vec<String> = harness.rows().await.into_iter().map(|row| row[2].clone()).collect();
    assert_eq!(counts, ["1", "2"]);
}

/// Rows of one user that are at most 10 s behind others, by the time of the earlier ones.
const WITHIN: &str = "SELECT count(*) AS pairs FROM events l JOIN others r USING (\"user\") \
    WHERE l.timestamp BETWEEN r.timestamp - INTERVAL '10 seconds' AND r.timestamp \
    GROUP BY tumble(INTERVAL '10 seconds', l.timestamp)";

fn at(seconds: i64) -> Event {
    Event { time: EPOCH + seconds * SECOND, service: None, user: 1, bytes: 5 }
}

impl Harness {
    /// Appends an event of each time to all partitions of `topic`, and makes a checkpoint.
    async fn come(&mut self, topic: &'static str, seconds: &[i64]) {
        for partition in 0..2 {
            let events = seconds.iter().copied().map(at).collect();
            self.step(&Step::Append { topic, partition, events }).await;
        }
        self.step(&Step::Take { entries: 9 }).await;
        self.step(&Step::Checkpoint).await;
    }

    fn join(&self) -> &Join {
        self.view.as_ref().unwrap().join().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_wait_to_be_joined_until_the_watermark_is_past_their_matches() {
    let mut harness = Harness::new(WITHIN, options()).await;
    harness.come(EVENTS, &[100]).await;
    harness.come(OTHERS, &[100]).await;
    let both = harness.join().stored_bytes();
    assert!(both > 0 && harness.join().resident_bytes() > 0);
    // The watermark is at 103 s: no row comes any more that one at 100 s is behind.
    harness.come(EVENTS, &[133]).await;
    harness.come(OTHERS, &[133]).await;
    let store = |harness: &Harness| harness.view.as_ref().unwrap().buffered_on_disk();
    let kept = |harness: &Harness, side| store(harness).iter().filter(|of| **of == side).count();
    assert_eq!(kept(&harness, Side::Right), 1, "only the one at 133 s");
    assert_eq!(kept(&harness, Side::Left), 2, "one may come that is behind the one at 100 s");
    // At 115 s, none may.
    harness.come(EVENTS, &[145]).await;
    harness.come(OTHERS, &[145]).await;
    assert_eq!(kept(&harness, Side::Left), 2, "those at 133 s and 145 s");
    harness.finish().await;
    assert_eq!(store(&harness), []);
    assert_eq!((harness.join().stored_bytes(), harness.join().resident_bytes()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_stays_open_until_no_row_of_it_can_be_joined_any_more() {
    let mut harness = Harness::new(WITHIN, options()).await;
    harness.come(EVENTS, &[105, 147]).await;
    harness.come(OTHERS, &[105, 147]).await;
    // The watermark is at 117 s, past the window from 100 s to 110 s. Rows at 117 s are in time
    // for those at 107 s.
    assert_eq!(harness.rows().await, Vec::<Vec<String>>::new());
    harness.come(OTHERS, &[117]).await;
    harness.come(EVENTS, &[108, 117]).await;
    harness.finish().await;
    let pairs: Vec<String> = harness.rows().await.into_iter().map(|row| row[2].clone()).collect();
    // Two rows each: at 105 s with those at 105 s; at 117 s and 147 s as well. Those at 108 s were
    // late.
    assert_eq!(pairs, ["4", "4", "4"]);
    let late = harness.topic(LATE_EVENTS, &crate::late_schema()).await;
    assert_eq!(late.num_rows(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_event_of_a_stream_joined_with_itself_is_told_of_once() {
    let query = "SELECT count(*) AS pairs FROM events l JOIN events r ON l.\"user\" = r.\"user\" \
        AND l.timestamp BETWEEN r.timestamp - INTERVAL '10 seconds' AND r.timestamp \
        WHERE l.bytes <> 6 AND r.service IS NULL \
        GROUP BY tumble(INTERVAL '10 seconds', l.timestamp)";
    let mut harness = Harness::new(query, options()).await;
    harness.come(EVENTS, &[100]).await;
    // The watermark is at 70 s. No side would have taken the third; the last one is just in time.
    let events = vec![
        at(55),
        Event { bytes: 6, ..at(56) },
        Event { bytes: 6, service: Some(1), ..at(57) },
        Event { time: at(70).time - 1, ..at(70) },
        at(70),
    ];
    harness.step(&Step::Append { topic: EVENTS, partition: 0, events }).await;
    harness.step(&Step::Take { entries: 9 }).await;
    harness.step(&Step::Crash { appends: 1, is_done: true }).await;
    harness.finish().await;
    let late = sorted(&harness.topic(LATE_EVENTS, &crate::late_schema()).await);
    let late: Vec<&str> = late.iter().map(|row| row[3].as_str()).collect();
    assert_eq!(
        late,
        [
            r#"{"timestamp":"2023-11-14T22:14:15Z","user":"user-1","bytes":5}"#,
            r#"{"timestamp":"2023-11-14T22:14:16Z","user":"user-1","bytes":6}"#,
            r#"{"timestamp":"2023-11-14T22:14:29.999999Z","user":"user-1","bytes":5}"#,
        ]
    );
    let pairs: Vec<String> = harness.rows().await.into_iter().map(|row| row[2].clone()).collect();
    assert_eq!(pairs, ["1", "4"], "the one at 70 s with itself, the two at 100 s with each other");
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_joined_with_itself_and_with_what_comes() {
    for gather_bytes in [1, 64 << 20] {
        let (view, sql) = followed_hopping();
        let mut harness = Harness::with_memory(&view, options(), 0).await;
        let random = |seed: i64, n: i64| (n * 7_919 + seed * 104_729) % 100_003;
        let events = |seed, from: i64| {
            let event = |n| Event {
                time: EPOCH + (from + random(seed, n) % 60) * SECOND,
                service: Some((random(seed, n) % 2) as u8),
                user: (random(seed, n) % 3) as u8,
                bytes: random(seed, n) % 100,
            };
            batch(&(0..80).map(event).collect::<Vec<_>>())
        };
        // As if the view had just begun.
        let config = StreamConfig { gather_bytes, join_bytes: 0, ..StreamConfig::default() };
        let cursors = harness.view.take().unwrap().cursors().clone();
        let store = Store::open(&harness.directory.path().join("state"), "tested").unwrap();
        let now = harness.now();
        let mut begun =
            View::begin(harness.made(harness.log.clone()), store.into(), config, cursors, now)
                .unwrap();
        for (source, name) in [EVENTS, OTHERS].into_iter().enumerate() {
            for from in [40, 0] {
                let rows = events(source as i64, from);
                begun.take_history(source, &rows, now).unwrap();
                harness.appended.get_mut(name).unwrap().push(rows);
            }
        }
        begun.checkpoint(now).unwrap();
        harness.view = Some(begun);
        harness.step(&Step::CrashBetween).await;
        for (source, topic) in [EVENTS, OTHERS].into_iter().enumerate() {
            let rows = events(source as i64 + 5, 90);
            harness.appended.get_mut(topic).unwrap().push(rows.clone());
            harness.log.append(TopicPartition::new(topic, 0), rows).await.unwrap();
        }
        harness.finish().await;
        let rows = harness.rows().await;
        assert!(rows.len() > 10);
        assert_eq!(rows, harness.batch_sql(&sql).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn open_windows_are_seen_and_closed_ones_are_not_seen_twice() {
    for window in ["tumble(INTERVAL '10 seconds')", "session(INTERVAL '8 seconds')"] {
        see_each_window_once(window).await;
    }
}

/// Sums of open windows and of closed ones are those of all events, whenever they are asked for.
async fn see_each_window_once(window: &str) {
    let query =
        format!("SELECT \"user\", sum(bytes) AS bytes FROM events GROUP BY {window}, \"user\"");
    let mut harness = Harness::new(&query, options()).await;
    for seconds in [0, 3, 9, 60, 61, 100] {
        for partition in 0..2 {
            let time = EPOCH + seconds * SECOND;
            let events = vec![Event { time, service: None, user: partition as u8, bytes: 2 }];
            harness.step(&Step::Append { topic: EVENTS, partition, events }).await;
        }
        harness.step(&Step::Take { entries: 9 }).await;
        harness.step(&Step::Checkpoint).await;
        harness.elapsed += Duration::from_secs(1);
        let now = harness.now();
        let view = harness.view.as_mut().unwrap();
        let published = view.refresh(now).unwrap();
        assert!(view.refresh(now).is_none(), "once a second");
        let mut sum = 0;
        for results in published.open.results().unwrap() {
            let rows = harness.plan.output(results).unwrap();
            let bytes: &Int64Array = arrow::array::AsArray::as_primitive(rows.column(3));
            sum += bytes.iter().flatten().sum::<i64>();
        }
        let rows = harness.rows().await;
        let end = |row: &Vec<String>| string_to_timestamp_nanos(&row[1]).unwrap() / 1_000;
        assert!(rows.iter().all(|row| end(row) <= published.closed_until), "after {seconds} s");
        let closed = rows.iter().map(|row| row[3].parse::<i64>().unwrap()).sum::<i64>();
        let all: usize = harness.appended[EVENTS].iter().map(RecordBatch::num_rows).sum();
        assert_eq!(sum + closed, all as i64 * 2, "after {seconds} s");
    }
}

#[tokio::test]
async fn a_query_that_is_no_view_is_refused_with_the_reason() {
    for (query, expected) in [
        ("SELECT count(*) FROM events", "expected a window in GROUP BY"),
        ("SELECT service FROM events", "expected GROUP BY with a window"),
        ("SELECT count(*) FROM events GROUP BY tumble(INTERVAL '1 month')", "months differ"),
        ("SELECT count(*) FROM events GROUP BY hop(INTERVAL '10s', INTERVAL '3s')", "multiple"),
        ("SELECT count(*) FROM events GROUP BY tumble('1s'), tumble('2s')", "found two"),
        (
            "SELECT count(*) FROM events WHERE random() > 0.5 GROUP BY tumble('1s')",
            "does not always answer the same",
        ),
        ("SELECT count(*) AS n FROM events GROUP BY tumble('1s') ORDER BY n", "ORDER BY"),
        ("SELECT 1 AS window_end, count(*) FROM events GROUP BY tumble('1s')", "two columns"),
        ("SELECT array_agg(bytes) FROM events GROUP BY tumble('1s')", "cast it to text"),
        ("SELECT count(*) FROM nowhere GROUP BY tumble('1s')", "nowhere"),
    ] {
        let error = plan(query, options()).await.err().unwrap_or_else(|| panic!("{query} passed"));
        let text = error.to_string();
        assert!(text.contains(expected), "{query}: {text}");
    }
}

#[test]
fn rows_in_any_order_make_the_same_sessions() {
    // Taking the rows of one batch in another order changes nothing.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (view, _) = sessions();
    let events: Vec<Event> = (0..40)
        .map(|n| Event {
            time: EPOCH + (n * 7 % 40) * SECOND,
            service: None,
            user: (n % 3) as u8,
            bytes: n,
        })
        .collect();
    let results = [1usize, 3, 7].map(|stride| {
        runtime.block_on(async {
            let mut harness = Harness::new(&view, options()).await;
            let order = (0..40).map(|n| (n * stride % 40) as u32);
            let rows = batch(&events);
            let rows = take_record_batch(&rows, &UInt32Array::from_iter_values(order)).unwrap();
            harness.log.append(TopicPartition::new(EVENTS, 0), rows).await.unwrap();
            harness.finish().await;
            harness.rows().await
        })
    });
    assert!(!results[0].is_empty());
    assert!(results.iter().all(|rows| *rows == results[0]));
}
