//! Tables of topics that others write: for each a log that is only read, and a table in the lake.
//!
//! A source's table is there from the start, with what it has, whether the brokers of others answer or
//! not: they are no part of this node. What is known of the topic stands in a file beside the lake, so
//! that a start needs nobody; a task asks brokers until they answer, and every few seconds from then
//! on. Partitions that are added make the table open anew.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Deserialize;
use thalweg_event::schema::column;
use thalweg_kafka::{KEY_COLUMN, KafkaSource, KnownTopic, Source, SourceFormat, SourceLog};
use thalweg_lake::{LakeConfig, LakeTable, TableSpec};
use thalweg_log::{Log, TopicPartition, replace_file};
use thalweg_query::{NamedTable, QueryEngine};
use thalweg_stream::{ViewName, builtin_views};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;

use crate::{config::Config, metrics_table::METRICS, tables};

/// How often brokers are asked about a topic.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Wait after the first time that a topic could not be read; doubles up to [`LONGEST_RETRY`].
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// What others keep, to be read as a table.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SourceConfig {
    /// Name of the table.
    pub(crate) name: ViewName,
    /// A topic of Kafka that others write.
    pub(crate) kafka: KafkaSource,
}

/// A source that cannot be, and why.
#[derive(Debug)]
pub(crate) struct WrongSource {
    pub(crate) name: String,
    reason: String,
}

impl std::fmt::Display for WrongSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sources: `{}`: {}", self.name, self.reason)
    }
}

impl std::error::Error for WrongSource {}

/// The sources that `config` states, where statements have `created` views of these names.
///
/// # Errors
/// The first one whose settings cannot work, or whose name another table has.
pub(crate) fn stated(config: &Config, created: &[String]) -> Result<Vec<Source>, WrongSource> {
    let builtin = if config.stream.builtin_views { builtin_views() } else { vec![] };
    let views = builtin.iter().chain(&config.views).map(|view| view.name.to_string());
    let tables = tables::all(vec![]).into_iter().map(|table| table.name);
    let files = config.query.tables.iter().map(|file| file.name.clone());
    let mut taken: HashSet<String> = tables.chain(views).chain(files).collect();
    taken.insert(tables::TEMPLATES.to_owned());
    taken.insert(METRICS.to_owned());
    let source = |source: &SourceConfig| {
        let name = source.name.to_string();
        let wrong = |reason: String| WrongSource { name: name.clone(), reason };
        if created.contains(&name) {
            return Err(wrong(
                "the name is taken by a view; drop that first, or choose another".into(),
            ));
        }
        if !taken.insert(name.clone()) {
            return Err(wrong("the name is taken by another table; choose another name".into()));
        }
        let log_kafka = config.log.kafka.as_ref();
        let source = Source::new(&name, &source.kafka, log_kafka);
        source.map_err(|error| wrong(format!("kafka: {error}")))
    };
    config.sources.iter().map(source).collect()
}

/// The tables of sources as they are now, by name: further partitions make them open anew.
pub(crate) type SourceTables = Arc<Mutex<BTreeMap<String, Arc<LakeTable>>>>;

/// The sources of a node.
pub(crate) struct NodeSources {
    tables: SourceTables,
    stopping: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl NodeSources {
    /// Adds the tables of the sources that `config` states to those of `query`, and begins to fill
    /// them; what cannot be read goes to the rejected records of `log`.
    pub(crate) async fn start(
        config: &Config,
        log: &Arc<dyn Log>,
        query: &Arc<QueryEngine>,
    ) -> anyhow::Result<Self> {
        let (tables, mut opened) = (SourceTables::default(), vec![]);
        for source in stated(config, &[])? {
            let name = source.name().to_owned();
            let keeper = Keeper::new(source, config, log.clone(), query.clone(), tables.clone());
            let open = keeper.open().await;
            opened.push((open.with_context(|| format!("sources: `{name}`"))?, keeper));
        }
        let stopping = CancellationToken::new();
        let task =
            |(open, keeper): (Open, Keeper)| tokio::spawn(keeper.run(open, stopping.clone()));
        let tasks = opened.into_iter().map(task).collect();
        Ok(Self { tables, stopping, tasks })
    }

    pub(crate) fn tables(&self) -> SourceTables {
        self.tables.clone()
    }

    /// Commits what was read, and closes the tables.
    pub(crate) async fn stop(&mut self) {
        self.stopping.cancel();
        for task in self.tasks.drain(..) {
            if let Err(error) = task.await {
                tracing::error!(%error, "a source ended badly");
            }
        }
    }
}

/// Keeps the table of one source.
struct Keeper {
    source: Source,
    spec: TableSpec,
    directory: PathBuf,
    lake: LakeConfig,
    /// Where it stands what is known of the topic.
    file: PathBuf,
    rejected: Arc<dyn Log>,
    query: Arc<QueryEngine>,
    tables: SourceTables,
}

/// A source as long as its topic has no further partitions.
struct Open {
    log: Arc<SourceLog>,
    table: Arc<LakeTable>,
}

impl Keeper {
    fn new(
        source: Source,
        config: &Config,
        rejected: Arc<dyn Log>,
        query: Arc<QueryEngine>,
        tables: SourceTables,
    ) -> Self {
        let name = source.name();
        Self {
            spec: spec(&source),
            directory: config.data_dir.join("lake").join(name),
            lake: config.lake.clone(),
            file: config.data_dir.join("sources").join(format!("{name}.json")),
            rejected,
            query,
            tables,
            source,
        }
    }

    /// Opens the table with what is known, and shows it to queries.
    async fn open(&self) -> anyhow::Result<Open> {
        let known = self.known()?;
        let begins = known.iter().flat_map(|known| &known.begins);
        let place = |number| TopicPartition::new(self.source.topic(), number);
        let begins = (0..).zip(begins).map(|(number, begin)| (place(number), *begin)).collect();
        let covered = self.covered(begins).await?;
        let log = SourceLog::open(&self.source, known, &covered, self.rejected.clone())?;
        let (spec, lake) = (self.spec.clone(), self.lake.clone());
        let table = LakeTable::open(&self.directory, spec, lake, log.clone()).await?;
        self.query.replace_table(NamedTable {
            name: self.source.name().to_owned(),
            provider: table.clone(),
            is_for_admins: false,
        });
        self.tables.lock().insert(self.source.name().to_owned(), table.clone());
        Ok(Open { log, table })
    }

    async fn covered(
        &self,
        begins: BTreeMap<TopicPartition, u64>,
    ) -> anyhow::Result<BTreeMap<TopicPartition, u64>> {
        Ok(LakeTable::covered(&self.directory, self.spec.clone(), begins).await?)
    }

    fn known(&self) -> anyhow::Result<Option<KnownTopic>> {
        let place = || self.file.display().to_string();
        let bytes = match std::fs::read(&self.file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(place),
        };
        let known: KnownTopic = serde_json::from_slice(&bytes).with_context(place)?;
        anyhow::ensure!(
            known.topic == self.source.topic(),
            "its table was filled from topic `{}`, found `{}`; give the source another name to read \
             that",
            known.topic,
            self.source.topic()
        );
        Ok(Some(known))
    }

    /// Looks after the source until told to stop.
    async fn run(self, mut open: Open, stopping: CancellationToken) {
        loop {
            let more = stopping.run_until_cancelled(self.await_more(&open.log)).await;
            open.table.shutdown().await;
            open.log.close();
            if more.is_none() {
                return;
            }
            open = match stopping.run_until_cancelled(self.open_anew()).await {
                Some(open) => open,
                None => return,
            };
        }
    }

    async fn open_anew(&self) -> Open {
        let mut retry = FIRST_RETRY;
        loop {
            match self.open().await {
                Ok(open) => return open,
                Err(error) => {
                    tracing::error!(
                        source = self.source.name(),
                        "its table stands still: {error:#}"
                    );
                }
            }
            tokio::time::sleep(retry).await;
            retry = (retry * 2).min(LONGEST_RETRY);
        }
    }

    /// Asks brokers about the topic until there is more to know of it, and notes that.
    async fn await_more(&self, log: &Arc<SourceLog>) {
        let (name, topic) = (self.source.name(), self.source.topic());
        let mut failing: Option<Duration> = None;
        loop {
            match self.look(log).await {
                Ok(has_more) => {
                    if failing.take().is_some() {
                        tracing::info!(source = name, topic, "the topic can be read again");
                    }
                    if has_more {
                        return;
                    }
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                Err(error) => {
                    let retry = failing.map_or(FIRST_RETRY, |retry| (retry * 2).min(LONGEST_RETRY));
                    if failing.is_none() {
                        tracing::warn!(
                            source = name,
                            topic,
                            "the topic cannot be read, and is tried again; until then its table has \
                             what was read before: {error:#}"
                        );
                    } else {
                        tracing::info!(source = name, topic, "still not: {error:#}");
                    }
                    failing = Some(retry);
                    tokio::time::sleep(retry).await;
                }
            }
        }
    }

    /// Whether more is known of the topic now than `log` was opened with.
    async fn look(&self, log: &Arc<SourceLog>) -> anyhow::Result<bool> {
        let (log, file) = (log.clone(), self.file.clone());
        let look = move || match log.look().map_err(anyhow::Error::msg)? {
            None => Ok(false),
            Some(known) => keep(&file, &known).map(|()| true),
        };
        spawn_blocking(look).await?
    }
}

fn keep(file: &Path, known: &KnownTopic) -> anyhow::Result<()> {
    let place = || file.display().to_string();
    if let Some(directory) = file.parent() {
        std::fs::create_dir_all(directory).with_context(place)?;
    }
    replace_file(file, &serde_json::to_vec(known)?).with_context(place)
}

/// The table that is filled from `source`.
fn spec(source: &Source) -> TableSpec {
    let (name, topics) = (source.name().to_owned(), vec![source.topic().to_owned()]);
    match source.format() {
        SourceFormat::Otlp => TableSpec { name, topics, ..TableSpec::logs() },
        SourceFormat::Json => TableSpec {
            name,
            lookup_columns: vec![KEY_COLUMN.to_owned()],
            text_columns: source.text_columns(),
            ..TableSpec::of_topic(source.topic(), source.schema(), column::TIMESTAMP)
        },
    }
}

#[cfg(test)]
mod tests {
    use crate::config::mistakes;

    #[test]
    fn a_name_that_another_table_has_is_a_mistake_with_its_line() {
        let source =
            "sources:\n  - name: NAME\n    kafka: {brokers: [a:1], topic: t, format: json}\n";
        let other = "views:\n  - name: mine\n    query: SELECT 1\nquery:\n  tables:\n    - {name: files, path: f.csv}\n";
        for name in ["logs", "rejected", "templates", "service_health", "mine", "files"] {
            let text = format!("{other}{}", source.replace("NAME", name));
            let mistakes = mistakes(&text);
            let expected = format!("line 8: sources: `{name}`: the name is taken");
            assert!(mistakes.iter().any(|mistake| mistake.starts_with(&expected)), "{mistakes:?}");
        }
        assert_eq!(mistakes(&source.replace("NAME", "payments")), Vec::<String>::new());
    }

    #[test]
    fn a_source_without_brokers_is_a_mistake_unless_the_log_has_them() {
        let source = "sources:\n- kafka: {topic: t, format: json}\n  name: payments\n";
        let mistake = mistakes(source);
        assert!(
            mistake[0].starts_with("line 3: sources: `payments`: kafka: brokers:"),
            "{mistake:?}"
        );
        let log = "log:\n  kafka: {brokers: [a:1]}\n";
        assert_eq!(mistakes(&format!("{log}{source}")), Vec::<String>::new());
    }
}
