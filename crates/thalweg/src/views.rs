//! The continuous views of a node: for each a topic, a table in the lake, and who maintains it.

mod created;
mod history;
mod kept;
mod replay;
mod versions;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use anyhow::Context as _;
use serde_json::{Map, Value};
use thalweg_lake::{LakeConfig, LakeTable, TableSpec};
use thalweg_log::{TopicConfig, Topics};
use thalweg_query::{NamedTable, QueryEngine, ViewDefinition, ViewStatements};
use thalweg_stream::{Planned, Stream, StreamConfig, Templates, ViewConfig, Views, builtin_views};
use tokio::{
    sync::Mutex,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::task::AbortOnDropHandle;

use self::{created::CreatedViews, history::LakeHistories, replay::Waiting, versions::Versions};
use crate::config::Config;

/// Rows of views are few: their tables commit at most this often.
const FLUSH_INTERVAL_MS: u64 = 60_000;

/// Longest that a stop waits for views.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a process looks for views that another has created or dropped.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long the others have to leave a view that is dropped before its data are removed.
const LEAVE_PATIENCE: Duration = Duration::from_secs(6);

/// The views of a node.
pub(crate) struct NodeViews {
    views: Views,
    log: Arc<dyn Topics>,
    lake_dir: PathBuf,
    lake: LakeConfig,
    query: Arc<QueryEngine>,
    histories: Arc<LakeHistories>,
    /// The views that statements created, which a restart finds again.
    created: CreatedViews,
    versions: Versions,
    /// Replays of this run, by view.
    waiting: parking_lot::Mutex<BTreeMap<String, Waiting>>,
    /// Tables of closed windows, by view. Held while a view comes or goes.
    tables: Mutex<BTreeMap<String, Arc<LakeTable>>>,
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
        let lake_dir = config.data_dir.join("lake");
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
            log,
            lake_dir,
            lake,
            query,
            histories,
            created: CreatedViews::open(&directory)?,
            versions: Versions::open(&directory)?,
            waiting: parking_lot::Mutex::default(),
            tables: Mutex::default(),
            following: parking_lot::Mutex::default(),
        });
        let builtin = if config.stream.builtin_views { builtin_views() } else { vec![] };
        for view in builtin.into_iter().chain(config.views.iter().cloned()) {
            let name = view.name.clone();
            node.begin(view).await.with_context(|| format!("views: `{name}`"))?;
        }
        for view in node.created.list() {
            let name = view.name.clone();
            if let Err(error) = node.begin(view).await {
                tracing::error!(view = %name, "a view that was created by statement: {error:#}");
            }
        }
        node.resume_replays().await;
        let (others, topics) = (node.clone(), node.views.topics());
        blocking(move || others.release_others(&topics)).await?;
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
            if let Some(pending) = self.versions.of(name, &query).pending
                && let Err(error) = self.begin_beside(name, pending).await
            {
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

    async fn begin_locked(
        &self,
        view: ViewConfig,
        tables: &mut BTreeMap<String, Arc<LakeTable>>,
    ) -> anyhow::Result<()> {
        let name = view.name.to_string();
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
        let schema = planned.schema().clone();
        let (log, config) = (self.log.clone(), TopicConfig::new(topic.as_str(), 1));
        let columns = schema.clone();
        blocking(move || log.create_topic(&config, columns)).await??;
        let spec = TableSpec::of_topic(&topic, schema, planned.time_column());
        let directory = self.lake_dir.join(&topic);
        Ok(LakeTable::open(&directory, spec, self.lake.clone(), self.log.clone()).await?)
    }

    /// Removes a table that has been shut down, and its topic.
    async fn remove_table(&self, table: &LakeTable) -> anyhow::Result<()> {
        let topic = table.name().to_owned();
        let (log, place) = (self.log.clone(), topic.clone());
        let removed = blocking(move || {
            log.forget_group(&thalweg_stream::consumer_group(&place))?;
            log.remove_topic(&place)
        });
        // Such as of brokers that are away: that must not keep the view's name from being free.
        if let Err(error) = removed.await? {
            tracing::warn!(topic, %error, "the topic of a former view is left in the log");
        }
        std::fs::remove_dir_all(table.path())
            .with_context(|| format!("removing {}", table.path().display()))
    }

    /// Ends a view, and removes everything it has.
    async fn end(
        &self,
        name: &str,
        tables: &mut BTreeMap<String, Arc<LakeTable>>,
    ) -> anyhow::Result<()> {
        let (state, table) = self.leave(name, tables).await?;
        self.created.remove(name)?;
        self.versions.forget(name)?;
        if self.log.ownership().is_shared() {
            sleep(LEAVE_PATIENCE).await;
        }
        if let Err(error) = std::fs::remove_dir_all(&state) {
            tracing::warn!(view = name, %error, "the state of a dropped view is left on disk");
        }
        if let Some(table) = table {
            self.remove_table(&table).await?;
        }
        Ok(())
    }

    /// Ends a view in this process, and leaves its state and its table to others. Answers where these
    /// are.
    async fn leave(
        &self,
        name: &str,
        tables: &mut BTreeMap<String, Arc<LakeTable>>,
    ) -> anyhow::Result<(PathBuf, Option<Arc<LakeTable>>)> {
        let state = self.views.end(name).await?;
        self.give_up(name).await;
        self.waiting.lock().remove(name);
        self.query.remove_table(name);
        self.histories.remove(name);
        let table = tables.remove(name);
        if let Some(table) = &table {
            table.shutdown().await;
        }
        Ok((state, table))
    }

    /// Begins the views that another process has created, and leaves those that it has dropped.
    async fn follow_created(&self) -> anyhow::Result<()> {
        let mut tables = self.tables.lock().await;
        let before = self.created.list();
        let now = self.created.look_again()?;
        // Those that read others came after them.
        for view in before.iter().rev().filter(|view| !now.contains(view)) {
            if let (_, Some(table)) = self.leave(view.name.as_str(), &mut tables).await? {
                let (log, topic) = (self.log.clone(), table.name().to_owned());
                blocking(move || log.leave_topic(&topic)).await?;
            }
        }
        for view in now {
            if !tables.contains_key(view.name.as_str()) {
                self.begin_locked(view, &mut tables).await?;
            }
        }
        Ok(())
    }

    /// Lets the log forget about views that are not there any more, which would hold it back, and
    /// removes their topics. Their tables stay on disk.
    fn release_others(&self, topics: &[String]) {
        for group in self.log.groups() {
            let of_view = group.strip_prefix("stream/");
            if of_view.is_some_and(|topic| !topics.iter().any(|known| known == topic))
                && let Err(error) = self.log.forget_group(&group)
            {
                tracing::warn!(%group, %error, "the log keeps what a former view has not read");
            }
        }
        let all = self.log.topics().unwrap_or_default();
        for topic in all.iter().filter(|topic| topic.starts_with("view.")) {
            if !topics.contains(topic) {
                let table = self.lake_dir.join(topic);
                if topics.iter().any(|known| query_of(known) == query_of(topic)) {
                    // A former version of a view whose latest answers.
                    if let Err(error) = std::fs::remove_dir_all(&table) {
                        tracing::warn!(table = %table.display(), %error, "a table is left");
                    }
                } else {
                    let table = table.display();
                    tracing::info!(topic, %table, "a former view's table is left");
                }
                if let Err(error) = self.log.remove_topic(topic) {
                    tracing::warn!(topic, %error, "a former view's topic is left on disk");
                }
            }
        }
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
            self.end(&name, &mut tables).await.map_err(described)?;
        }
        self.begin_locked(view.clone(), &mut tables).await.map_err(described)?;
        self.created.add(view).map_err(described)
    }

    async fn drop_view(&self, name: &str) -> Result<bool, String> {
        let mut tables = self.tables.lock().await;
        if !tables.contains_key(name) {
            return Ok(false);
        }
        self.refuse_configured(name)?;
        self.end(name, &mut tables).await.map_err(|error| format!("{error:#}"))?;
        Ok(true)
    }
}

impl NodeViews {
    fn refuse_configured(&self, name: &str) -> Result<(), String> {
        if self.created.list().iter().any(|view| view.name.as_str() == name) {
            return Ok(());
        }
        Err(format!(
            "view `{name}` is stated in the configuration (or built in: `stream.builtin_views`); \
             change it there"
        ))
    }
}

/// The part of a view's topic that all versions with the same query share.
fn query_of(topic: &str) -> &str {
    topic.split('-').next().unwrap_or(topic)
}

/// Follows what other processes create and drop, for as long as the views are there.
async fn follow_others(node: Weak<NodeViews>) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(node) = node.upgrade() else { return };
        if let Err(error) = node.follow_created().await {
            tracing::error!("views that another process has created or dropped: {error:#}");
        }
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
