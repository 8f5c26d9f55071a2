//! The continuous views of a node: for each a topic, a table in the lake, and who maintains it.

mod created;
mod history;
mod holdings;
mod kept;
mod replay;
mod retired;
mod versions;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Weak},
    time::Duration,
};

use anyhow::Context as _;
use serde_json::{Map, Value};
use thalweg_lake::{LakeConfig, LakeError, LakeTable, TableSpec};
use thalweg_log::{TopicConfig, Topics};
use thalweg_query::{NamedTable, QueryEngine, ViewDefinition, ViewStatements};
use thalweg_stream::{Planned, Stream, StreamConfig, Templates, ViewConfig, Views, builtin_views};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::task::AbortOnDropHandle;

pub(crate) use self::created::created_names;
use self::{
    created::CreatedViews, history::LakeHistories, holdings::Holdings, replay::Waiting,
    retired::Retired, versions::Versions,
};
use crate::config::Config;

/// Rows of views are few: their tables commit at most this often.
const FLUSH_INTERVAL_MS: u64 = 60_000;

/// Longest that a stop waits for views.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a process looks for views that another has created or dropped.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long the others have to leave a view that is dropped before its data are removed.
const LEAVE_PATIENCE: Duration = Duration::from_secs(6);

type Tables = BTreeMap<String, Arc<LakeTable>>;

/// The views of a node.
pub(crate) struct NodeViews {
    views: Views,
    log: Arc<dyn Topics>,
    holdings: Holdings,
    lake: LakeConfig,
    query: Arc<QueryEngine>,
    histories: Arc<LakeHistories>,
    /// The views that statements created, which a restart finds again.
    created: CreatedViews,
    versions: Versions,
    /// Replays of this run, by view.
    waiting: parking_lot::Mutex<BTreeMap<String, Waiting>>,
    /// Versions that replays have replaced.
    retired: Retired,
    /// Tables of closed windows, by view. Held while a view comes or goes.
    tables: Mutex<Tables>,
    /// Views that are being ended: their names are taken until nothing is left of them.
    ending: parking_lot::Mutex<BTreeSet<String>>,
    /// Views of statements that run here.
    begun: parking_lot::Mutex<Vec<ViewConfig>>,
    /// Follows what other processes create and drop, if there are any.
    following: parking_lot::Mutex<Option<AbortOnDropHandle<()>>>,
}

impl NodeViews {
    /// Starts the views of the configuration and those that statements created, over `streams`, whose
    /// tables are `sources`.
    pub(crate) async fn start(
        config: &Config,
        log: Arc<dyn Topics>,
        streams: Vec<Stream>,
        sources: &[Arc<LakeTable>],
        templates: &Arc<Templates>,
        query: Arc<QueryEngine>,
    ) -> anyhow::Result<Arc<Self>> {
        let lake = LakeConfig {
            flush_interval_ms: config.lake.flush_interval_ms.max(FLUSH_INTERVAL_MS),
            ..config.lake.clone()
        };
        let directory = config.data_dir.join("stream");
        let session = thalweg_query::planning_session()?;
        thalweg_stream::register_template_functions(&session, templates, true);
        let histories = Arc::new(LakeHistories::new(sources));
        let node = Arc::new(Self {
            views: Views::new(
                StreamConfig { directory: directory.clone(), ..config.stream.clone() },
                session,
                streams,
                histories.clone(),
                log.clone(),
            )?,
            holdings: Holdings {
                log: log.clone(),
                lake: config.data_dir.join("lake"),
                states: directory.clone(),
            },
            log,
            lake,
            query,
            histories,
            created: CreatedViews::open(&directory)?,
            versions: Versions::open(&directory)?,
            waiting: parking_lot::Mutex::default(),
            retired: Retired::default(),
            tables: Mutex::default(),
            ending: parking_lot::Mutex::default(),
            begun: parking_lot::Mutex::default(),
            following: parking_lot::Mutex::default(),
        });
        let builtin = if config.stream.builtin_views { builtin_views() } else { vec![] };
        for view in builtin.into_iter().chain(config.views.iter().cloned()) {
            let name = view.name.clone();
            node.begin(view).await.with_context(|| format!("views: `{name}`"))?;
        }
        // What they have is left to a start that can begin them.
        let mut failed = vec![];
        for view in node.created.list() {
            let name = view.name.to_string();
            match node.begin(view.clone()).await {
                Ok(()) => node.begun.lock().push(view),
                Err(error) => {
                    tracing::error!(view = name, "a view that was created by statement: {error:#}");
                    failed.push(name);
                }
            }
        }
        node.resume_replays().await;
        let (holdings, topics) = (node.holdings.clone(), node.views.topics());
        blocking(move || holdings.release_others(&topics, &failed)).await?;
        let statements: Arc<dyn ViewStatements> = node.clone();
        node.query.set_view_statements(Arc::downgrade(&statements));
        if node.log.ownership().is_shared() {
            let following = tokio::spawn(follow_others(Arc::downgrade(&node)));
            *node.following.lock() = Some(AbortOnDropHandle::new(following));
        }
        Ok(node)
    }

    /// Whether there is a view `name`.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.views.query(name).is_ok()
    }

    /// Names of all views.
    pub(crate) fn names(&self) -> Vec<String> {
        self.views.names()
    }

    /// Goes on with the replays that the last stop has cut off.
    async fn resume_replays(self: &Arc<Self>) {
        let tables = self.tables.lock().await;
        for name in tables.keys() {
            let Ok(query) = self.views.query(name) else { continue };
            let Some(pending) = self.versions.of(name, &query).pending else { continue };
            if self.log.ownership().is_shared() {
                tracing::warn!(
                    view = name,
                    "its replay waits for a start without log.kafka.shared: processes that share \
                     partitions cannot replay views"
                );
            } else if let Err(error) = self.begin_beside(name, pending).await {
                tracing::error!(view = name, "the replay was given up: {error:#}");
                self.give_up(name).await;
            }
        }
    }

    /// Makes a last checkpoint of each view, and closes their tables.
    pub(crate) async fn stop(&self) {
        drop(self.following.lock().take());
        // Ends who waits for replays first: they may hold the tables.
        let waiting = std::mem::take(&mut *self.waiting.lock());
        let beside: Vec<_> = waiting.into_values().filter_map(Waiting::into_table).collect();
        self.retired.stop();
        // A view waits for the log to take its rows; without, it goes on as after a crash.
        let shutdown = tokio::time::timeout(STOP_TIMEOUT, self.views.shutdown());
        if shutdown.await.is_err() {
            tracing::warn!("views still wait for the log; their next start delivers what is left");
        }
        for table in self.tables.lock().await.values().cloned().chain(beside) {
            table.shutdown().await;
        }
    }

    async fn begin(&self, view: ViewConfig) -> anyhow::Result<()> {
        let mut tables = self.tables.lock().await;
        self.begin_locked(view, &mut tables).await
    }

    async fn begin_locked(&self, view: ViewConfig, tables: &mut Tables) -> anyhow::Result<()> {
        let name = view.name.to_string();
        anyhow::ensure!(
            !self.ending.lock().contains(&name),
            "view `{name}` is still being dropped"
        );
        anyhow::ensure!(!self.query.has_table(&name), "there is a table `{name}` already");
        let replay = self.versions.of(&name, &view.query).current;
        let planned = self.views.plan(view, replay).await?;
        let table = self.open_table(&planned).await?;
        let provider = self.views.start(planned, table.clone())?;
        self.histories.add(&name, table.clone());
        self.query.add_table(NamedTable { name: name.clone(), provider, is_for_admins: false })?;
        tables.insert(name, table);
        Ok(())
    }

    /// The table, and the topic, of a version of a view.
    async fn open_table(&self, planned: &Planned) -> anyhow::Result<Arc<LakeTable>> {
        let topic = planned.topic();
        match self.open_table_once(planned).await {
            // The topic is a new one: the one that the table was filled from is gone.
            Err(error) if self.is_of_former_topic(&error) => {
                let holdings = self.holdings.clone();
                blocking(move || holdings.set_aside(&topic)).await??;
                self.open_table_once(planned).await
            }
            opened => opened,
        }
    }

    async fn open_table_once(&self, planned: &Planned) -> anyhow::Result<Arc<LakeTable>> {
        let topic = planned.topic();
        let schema = planned.schema().clone();
        let (log, config) = (self.log.clone(), TopicConfig::new(topic.as_str(), 1));
        let columns = schema.clone();
        blocking(move || log.create_topic(&config, columns)).await??;
        let spec = TableSpec::of_topic(&topic, schema, planned.time_column());
        let directory = self.holdings.table(&topic);
        Ok(LakeTable::open(&directory, spec, self.lake.clone(), self.log.clone()).await?)
    }

    fn is_of_former_topic(&self, error: &anyhow::Error) -> bool {
        let is_empty = |error| matches!(error, &LakeError::LogBehindTable { end: 0, .. });
        error.downcast_ref().is_some_and(is_empty) && !self.log.ownership().is_shared()
    }

    /// Removes a version whose table has been shut down.
    async fn remove_version(&self, table: &LakeTable) -> anyhow::Result<()> {
        let (holdings, topic) = (self.holdings.clone(), table.name().to_owned());
        blocking(move || holdings.remove(&topic)).await?
    }

    /// Ends a view, and removes everything it has.
    async fn end(&self, name: &str, mut tables: MutexGuard<'_, Tables>) -> anyhow::Result<()> {
        // One that was created, but could not be begun, has only what it left.
        if tables.contains_key(name) {
            self.leave(name, &mut tables).await?;
        }
        self.versions.forget(name)?;
        self.created.remove(name)?;
        self.ending.lock().insert(name.to_owned());
        drop(tables);
        let removed = self.remove_left(name).await;
        self.ending.lock().remove(name);
        removed
    }

    async fn remove_left(&self, view: &str) -> anyhow::Result<()> {
        if self.log.ownership().is_shared() {
            sleep(LEAVE_PATIENCE).await;
        }
        self.retired.hurry(view).await;
        let (holdings, view) = (self.holdings.clone(), view.to_owned());
        blocking(move || holdings.remove_view(&view)).await?
    }

    /// Ends a view in this process, and leaves its state and its table, which is answered, to others.
    async fn leave(
        &self,
        name: &str,
        tables: &mut Tables,
    ) -> anyhow::Result<Option<Arc<LakeTable>>> {
        self.views.drop_view(name).await?;
        self.begun.lock().retain(|view| view.name.as_str() != name);
        self.give_up(name).await;
        self.waiting.lock().remove(name);
        self.query.remove_table(name);
        self.histories.remove(name);
        let table = tables.remove(name);
        if let Some(table) = &table {
            table.shutdown().await;
        }
        Ok(table)
    }

    /// Begins the views that another process has created, and leaves those that it has dropped.
    /// Answers what could not be done, by view; it is to be tried again.
    async fn follow_created(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let mut tables = self.tables.lock().await;
        let now = self.created.look_again()?;
        let mut failed = BTreeMap::new();
        // Those that read others came after them.
        let before = self.begun.lock().clone();
        for view in before.into_iter().rev().filter(|view| !now.contains(view)) {
            if let Err(error) = self.leave_to_dropper(view.name.as_str(), &mut tables).await {
                failed.insert(view.name.to_string(), format!("{error:#}"));
            }
        }
        for view in now {
            if tables.contains_key(view.name.as_str()) {
                continue;
            }
            match self.begin_locked(view.clone(), &mut tables).await {
                Ok(()) => self.begun.lock().push(view),
                Err(error) => drop(failed.insert(view.name.to_string(), format!("{error:#}"))),
            }
        }
        Ok(failed)
    }

    async fn leave_to_dropper(&self, name: &str, tables: &mut Tables) -> anyhow::Result<()> {
        if let Some(table) = self.leave(name, tables).await? {
            let (log, topic) = (self.log.clone(), table.name().to_owned());
            blocking(move || log.leave_topic(&topic)).await?;
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl ViewStatements for NodeViews {
    async fn create_view(&self, view: ViewDefinition, or_replace: bool) -> Result<(), String> {
        let view = stated(view)?;
        let name = view.name.to_string();
        let mut tables = self.tables.lock().await;
        let described = |error: anyhow::Error| format!("{error:#}");
        let exists = tables.contains_key(&name);
        if exists && or_replace {
            self.refuse_configured(&name)?;
            // A mistake must not cost the view that is there.
            self.views.check(&view).await.map_err(|error| error.to_string())?;
            self.end(&name, tables).await.map_err(described)?;
            tables = self.tables.lock().await;
        }
        self.begin_locked(view.clone(), &mut tables).await.map_err(described)?;
        self.begun.lock().push(view.clone());
        self.created.add(view).map_err(described)
    }

    async fn drop_view(&self, name: &str) -> Result<bool, String> {
        let tables = self.tables.lock().await;
        if !tables.contains_key(name) && !self.created.has(name) {
            return Ok(false);
        }
        self.refuse_configured(name)?;
        self.end(name, tables).await.map_err(|error| format!("{error:#}"))?;
        Ok(true)
    }
}

impl NodeViews {
    fn refuse_configured(&self, name: &str) -> Result<(), String> {
        if self.created.has(name) {
            return Ok(());
        }
        Err(format!(
            "view `{name}` is stated in the configuration (or built in: `stream.builtin_views`); \
             change it there"
        ))
    }
}

/// Follows what other processes create and drop, for as long as the views are there.
async fn follow_others(node: Weak<NodeViews>) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = BTreeMap::new();
    loop {
        ticks.tick().await;
        let Some(node) = node.upgrade() else { return };
        let failed = match node.follow_created().await {
            Ok(failed) => failed,
            Err(error) => {
                tracing::error!("views that another process has created or dropped: {error:#}");
                continue;
            }
        };
        for (view, error) in failed.iter().filter(|(view, error)| known.get(*view) != Some(*error))
        {
            tracing::error!(view, error, "what another process did to a view is tried again here");
        }
        known = failed;
    }
}

/// Runs what waits for a disk or a broker where it may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<T> {
    Ok(tokio::task::spawn_blocking(work).await?)
}

/// The view that a statement defines.
fn stated(view: ViewDefinition) -> Result<ViewConfig, String> {
    let mut fields = Map::new();
    for (option, text) in view.options {
        let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        fields.insert(option, value);
    }
    fields.insert("name".into(), view.name.into());
    fields.insert("query".into(), view.query.into());
    serde_json::from_value(Value::Object(fields)).map_err(|error| error.to_string())
}
