//! All views of a node: what they are, and who reads what.

mod replay;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwapOption;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::datasource::empty::EmptyTable;
use datafusion::prelude::SessionContext;
use parking_lot::Mutex;
use thalweg_log::Log;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_64;

use crate::config::{StreamConfig, ViewConfig, ViewOptions};
use crate::error::{Result, StreamError};
use crate::functions;
use crate::history::Histories;
use crate::plan::{Plan, WINDOW_START};
use crate::stream::{Stream, Streams};
use crate::table::ViewTable;
use crate::task::{Task, ends};
use crate::view::{Made, Published};

pub use self::replay::Replay;

/// Views over streams, maintained on threads of their own.
pub struct Views {
    config: StreamConfig,
    context: SessionContext,
    log: Arc<dyn Log>,
    histories: Arc<dyn Histories>,
    known: Mutex<Known>,
    /// Taken only when the views are dropped.
    runtime: Option<Runtime>,
}

#[derive(Default)]
struct Known {
    streams: Streams,
    /// The versions that answer.
    running: BTreeMap<String, Running>,
    /// Those that are to replace them.
    beside: BTreeMap<String, Running>,
}

/// A version of a view.
struct Running {
    config: ViewConfig,
    task: Task,
    /// None once it has ended.
    running: Option<JoinHandle<()>>,
}

impl Running {
    /// The rows of closed windows, as a stream for other views.
    fn stream(&self) -> Stream {
        Stream {
            name: self.config.name.to_string(),
            topics: vec![self.task.made.topic.clone()],
            schema: Arc::clone(&self.task.made.plan.output),
            time_column: WINDOW_START.into(),
        }
    }

    /// Makes a last checkpoint, and ends.
    async fn end(mut self) {
        self.task.stop.cancel();
        if let Some(running) = self.running.take()
            && running.await.is_err()
        {
            tracing::error!(view = %self.config.name, "a view's task has failed");
        }
    }

    /// Ends at once, whatever it waits for, such as for a log that does not take its rows.
    async fn end_at_once(mut self) {
        self.task.stop.cancel();
        if let Some(running) = self.running.take() {
            running.abort();
            let _ = running.await;
        }
        // What it has published holds its state open.
        self.task.published.store(None);
    }
}

impl Known {
    /// # Errors
    /// [`StreamError::InUse`] when another view reads `name`.
    fn refuse_if_read(&self, name: &str) -> Result<()> {
        let reads =
            |running: &Running| running.task.made.plan.streams.iter().any(|read| read.name == name);
        match self.running.iter().find(|(_, running)| reads(running)) {
            None => Ok(()),
            Some((reader, _)) => {
                Err(StreamError::InUse { view: name.into(), reader: reader.clone() })
            }
        }
    }
}

/// A view whose query has been understood, and that waits for its topic to be there.
pub struct Planned {
    config: ViewConfig,
    plan: Arc<Plan>,
    /// Digest of the query.
    digest: String,
    replay: Option<Replay>,
}

impl Planned {
    /// Tells this version from others of the view: of another query, or begun another time.
    fn version(&self) -> String {
        match self.replay {
            None => self.digest.clone(),
            Some(replay) => format!("{}-{}", self.digest, replay.number),
        }
    }

    /// Whether `version` is of the same query, and was begun later.
    fn is_before(&self, version: &str) -> bool {
        let number = version.strip_prefix(&self.digest).and_then(|rest| rest.strip_prefix('-'));
        let number = number.and_then(|number| number.parse::<u32>().ok());
        number.is_some_and(|number| number > self.replay.map_or(0, |replay| replay.number))
    }

    /// Topic that the view's rows go to: of this view and this query only.
    pub fn topic(&self) -> String {
        format!("view.{}.{}", self.config.name, self.version())
    }

    /// Columns of the view's rows on their topic.
    pub fn schema(&self) -> &SchemaRef {
        &self.plan.output
    }

    /// The column that says when a row's window began.
    pub fn time_column(&self) -> &'static str {
        WINDOW_START
    }
}

impl Views {
    /// Views over `streams`, planned with the functions of `context`, whose tables are not used.
    ///
    /// # Errors
    /// Threads cannot be started.
    pub fn new(
        config: StreamConfig,
        context: SessionContext,
        streams: Vec<Stream>,
        histories: Arc<dyn Histories>,
        log: Arc<dyn Log>,
    ) -> std::io::Result<Self> {
        functions::register(&context);
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = config.threads.unwrap_or_else(|| cores() / 2).max(1);
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name("stream")
            .enable_all()
            .build()?;
        let views = Self {
            config,
            context,
            log,
            histories,
            known: Mutex::default(),
            runtime: Some(runtime),
        };
        for stream in streams {
            views.add_stream(&mut views.known.lock(), stream);
        }
        Ok(views)
    }

    fn add_stream(&self, known: &mut Known, stream: Stream) {
        let empty = Arc::new(EmptyTable::new(Arc::clone(&stream.schema)));
        // A table of the planner's alone: it is there for its columns.
        let _ = self.context.register_table(stream.name.as_str(), empty);
        known.streams.insert(stream);
    }

    /// Understands a view's query. `replay` is the latest one of the view with this query.
    ///
    /// # Errors
    /// [`StreamError::Exists`]; [`StreamError::Definition`], also at the limit of views.
    pub async fn plan(&self, config: ViewConfig, replay: Option<Replay>) -> Result<Planned> {
        {
            let known = self.known.lock();
            if known.streams.get(config.name.as_str()).is_some() {
                return Err(StreamError::Exists(config.name.to_string()));
            }
            if known.running.len() >= self.config.max_views {
                let reason = format!(
                    "there are {} views, as many as `stream.max_views` allows; drop one, or raise it",
                    self.config.max_views
                );
                return Err(StreamError::definition(config.name.as_str(), reason));
            }
        }
        self.understand(config, replay).await
    }

    async fn understand(&self, config: ViewConfig, replay: Option<Replay>) -> Result<Planned> {
        let streams = self.known.lock().streams.clone();
        let plan = Plan::of(&config, &self.context.state(), &streams).await?;
        let digest = format!("{:08x}", xxh3_64(config.query.trim().as_bytes()) as u32);
        Ok(Planned { plan: Arc::new(plan), digest, replay, config })
    }

    /// Whether a view's query is understood, leaving aside whether there is one of that name.
    ///
    /// # Errors
    /// [`StreamError::Definition`].
    pub async fn check(&self, config: &ViewConfig) -> Result<()> {
        let streams = self.known.lock().streams.clone();
        Plan::of(config, &self.context.state(), &streams).await.map(drop)
    }

    /// Maintains a view from now on. Its topic is there, and so is the one of late events; its
    /// rows are to be found in `closed` from the moment they are on the topic.
    ///
    /// Answers the view as a table.
    ///
    /// # Errors
    /// [`StreamError::Exists`]; [`StreamError::Log`] when the log lacks a topic.
    pub fn start(
        &self,
        planned: Planned,
        closed: Arc<dyn TableProvider>,
    ) -> Result<Arc<ViewTable>> {
        let name = planned.config.name.to_string();
        let mut known = self.known.lock();
        if known.streams.get(&name).is_some() {
            return Err(StreamError::Exists(name));
        }
        // Another process may be maintaining another version still.
        if !self.log.ownership().is_shared() {
            remove_other_versions(&self.config.directory.join(&name), &planned);
        }
        let (running, table) = self.spawn(planned, closed, false)?;
        self.add_stream(&mut known, running.stream());
        known.running.insert(name, running);
        Ok(table)
    }

    /// Starts the task of a version.
    fn spawn(
        &self,
        planned: Planned,
        closed: Arc<dyn TableProvider>,
        is_beside: bool,
    ) -> Result<(Running, Arc<ViewTable>)> {
        let (topic, version) = (planned.topic(), planned.version());
        let Planned { config, plan, replay, .. } = planned;
        let name = config.name.to_string();
        let published: Arc<ArcSwapOption<Published>> = Arc::default();
        let directory = self.config.directory.join(&name).join(&version);
        let backfill = config.options.backfill || replay.is_some();
        let task = Task {
            made: Made {
                name,
                topic,
                plan: Arc::clone(&plan),
                options: ViewOptions { backfill, ..config.options.clone() },
                log: Arc::clone(&self.log),
                since: replay.map(|replay| replay.since_micros),
                is_beside: Arc::new(AtomicBool::new(is_beside)),
            },
            config: self.config.clone(),
            directory,
            stated_at: ends(self.log.as_ref(), &plan.topics())?,
            histories: Arc::clone(&self.histories),
            published: Arc::clone(&published),
            standing: Arc::default(),
            stop: CancellationToken::new(),
        };
        let table = ViewTable::new(closed, plan, config.options.emit, published);
        let running = Some(self.runtime().spawn(task.clone().run()));
        Ok((Running { config, task, running }, Arc::new(table)))
    }

    /// Ends a view that is dropped, in this process, and leaves its state as it happens to be.
    ///
    /// # Errors
    /// [`StreamError::Unknown`], [`StreamError::InUse`].
    pub async fn drop_view(&self, name: &str) -> Result<()> {
        let (running, beside) = {
            let mut known = self.known.lock();
            known.refuse_if_read(name)?;
            let running = known.running.remove(name);
            let running = running.ok_or_else(|| StreamError::Unknown(name.into()))?;
            known.streams.remove(name);
            let _ = self.context.deregister_table(name);
            (running, known.beside.remove(name))
        };
        for version in [Some(running), beside].into_iter().flatten() {
            version.end_at_once().await;
        }
        Ok(())
    }

    /// Names of the views.
    pub fn names(&self) -> Vec<String> {
        self.known.lock().running.keys().cloned().collect()
    }

    /// Topics of the views there are, of all their versions.
    pub fn topics(&self) -> Vec<String> {
        let known = self.known.lock();
        let versions = known.running.values().chain(known.beside.values());
        versions.map(|version| version.task.made.topic.clone()).collect()
    }

    /// Makes a last checkpoint of each view, and ends.
    pub async fn shutdown(&self) {
        let Known { running, beside, .. } = std::mem::take(&mut *self.known.lock());
        let versions: Vec<Running> = running.into_values().chain(beside.into_values()).collect();
        for version in &versions {
            version.task.stop.cancel();
        }
        for version in versions {
            version.end().await;
        }
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("the runtime is taken only by drop")
    }
}

impl Drop for Views {
    fn drop(&mut self) {
        // A plain drop would block, which asynchronous callers must not.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Removes the state of queries, and of replays, that the view had before.
fn remove_other_versions(directory: &Path, planned: &Planned) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let is_kept = |name: &str| name == planned.version() || planned.is_before(name);
        if !name.to_str().is_some_and(is_kept) {
            remove_state(&entry.path());
        }
    }
}

fn remove_state(directory: &Path) {
    if let Err(error) = std::fs::remove_dir_all(directory) {
        let path = directory.display();
        tracing::warn!(%path, %error, "the state of a former view is left on disk");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use arrow::array::{ArrayRef, RecordBatch, TimestampMicrosecondArray, new_null_array};
    use arrow::datatypes::Schema;
    use thalweg_log::{EmbeddedLog, LogConfig, Offset, TopicConfig, TopicPartition};
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::history::History;
    use crate::standing::Position;
    use crate::{LATE_EVENTS, ViewOptions};

    struct NoHistory;

    #[async_trait::async_trait]
    impl Histories for NoHistory {
        async fn open(&self, stream: &str, _: &[String], _: Option<i64>) -> Result<History> {
            Err(StreamError::History { stream: stream.into(), reason: "there is none".into() })
        }
    }

    /// History that never ends.
    struct EndlessHistory;

    #[async_trait::async_trait]
    impl Histories for EndlessHistory {
        async fn open(&self, _: &str, _: &[String], _: Option<i64>) -> Result<History> {
            Ok(History { rows: Box::pin(futures::stream::pending()), cursors: BTreeMap::new() })
        }
    }

    const PER_SERVICE: &str = "SELECT service, count(*) AS n FROM logs \
        GROUP BY tumble(INTERVAL '1 second'), service";

    fn config(name: &str, query: &str) -> ViewConfig {
        ViewConfig {
            name: name.to_owned().try_into().unwrap(),
            query: query.into(),
            options: ViewOptions::default(),
        }
    }

    /// Views over a log that has `topics` too.
    fn views_with(
        directory: &Path,
        topics: &[String],
        histories: Arc<dyn Histories>,
    ) -> (Views, Arc<EmbeddedLog>) {
        let topics =
            topics.iter().cloned().chain([LATE_EVENTS.into()]).chain(Stream::logs().topics);
        let log = LogConfig {
            directory: directory.join("log"),
            topics: topics.map(|topic| TopicConfig::new(topic, 1)).collect(),
            ..LogConfig::default()
        };
        let log = Arc::new(EmbeddedLog::open(log).unwrap().0);
        let stream = StreamConfig { directory: directory.join("views"), ..StreamConfig::default() };
        let (context, logs) = (SessionContext::new(), vec![Stream::logs()]);
        (Views::new(stream, context, logs, histories, log.clone()).unwrap(), log)
    }

    fn closed(planned: &Planned) -> Arc<dyn TableProvider> {
        Arc::new(EmptyTable::new(Arc::clone(planned.schema())))
    }

    fn topic(config: &ViewConfig) -> String {
        format!("view.{}.{:08x}", config.name, xxh3_64(config.query.trim().as_bytes()) as u32)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_view_goes_on_when_the_version_that_is_to_replace_it_cannot() {
        let directory = tempfile::tempdir().unwrap();
        let config = config("v", PER_SERVICE);
        let topics = [topic(&config), topic(&config) + "-1"];
        let (views, log) = views_with(directory.path(), &topics, Arc::new(EndlessHistory));
        let planned = views.plan(config, None).await.unwrap();
        let table = closed(&planned);
        views.start(planned, table).unwrap();
        let standing = views.known.lock().running["v"].task.standing.clone();
        let at = || TopicPartition::new(Stream::logs().topics[0].as_str(), 0);
        let has_read = async |offset: Offset| {
            let reads = |position: Position| position.cursors.get(&at()) >= Some(&offset);
            while !standing.reached().is_some_and(reads) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        has_read(0).await;
        let replay = Replay { number: 1, since_micros: 0 };
        let planned = views.plan_beside("v", replay).await.unwrap();
        let table = closed(&planned);
        views.start_beside(planned, table).unwrap();

        let waits = views.hand_over("v", Duration::from_millis(200)).await;
        assert!(matches!(waits, Err(StreamError::Behind(_))), "{waits:?}");
        let columns = Stream::logs().schema;
        let times = TimestampMicrosecondArray::from(vec![1]).with_timezone("UTC");
        let fields = columns.fields().iter().map(|field| match field.name().as_str() {
            "timestamp" => Arc::new(times.clone()) as ArrayRef,
            _ => new_null_array(field.data_type(), 1),
        });
        let fields = fields.collect();
        let nullable = columns.fields().iter().map(|f| f.as_ref().clone().with_nullable(true));
        let columns = Arc::new(Schema::new(nullable.collect::<Vec<_>>()));
        let row = RecordBatch::try_new(columns, fields).unwrap();
        log.append(at(), row).await.unwrap();
        timeout(Duration::from_secs(20), has_read(1)).await.expect("the view reads on");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_view_is_not_dropped_while_a_join_reads_it() {
        let directory = tempfile::tempdir().unwrap();
        let compared = "SELECT s.service, max(s.n) AS n FROM logs l JOIN per_service s \
                ON l.service = s.service AND s.window_start BETWEEN \
                l.timestamp - INTERVAL '1 second' AND l.timestamp \
            GROUP BY tumble(INTERVAL '1 minute', s.window_start), s.service";
        let configs = [config("per_service", PER_SERVICE), config("compared", compared)];
        let topics = configs.each_ref().map(topic);
        let (views, _log) = views_with(directory.path(), &topics, Arc::new(NoHistory));
        for config in configs {
            let planned = views.plan(config, None).await.unwrap();
            let table = closed(&planned);
            views.start(planned, table).unwrap();
        }
        let error = views.drop_view("per_service").await.unwrap_err().to_string();
        assert_eq!(error, "view `per_service` is read by view `compared`; drop that one first");
        views.drop_view("compared").await.unwrap();
        views.drop_view("per_service").await.unwrap();
    }
}
