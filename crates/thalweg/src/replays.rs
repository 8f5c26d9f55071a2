//! Replays of views and of tables, which share the names that queries know.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use thalweg_lake::{LakeError, LakeTable, TableReplay};
use thalweg_log::{Log, Progress};
use thalweg_stream::StreamError;

use crate::{sources::SourceTables, views::NodeViews};

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    /// Event time of the first rows, in microseconds since the Unix epoch.
    pub(crate) from_micros: i64,
    /// Whether a table may have fewer rows than before.
    pub(crate) allow_fewer: bool,
}

/// How a replay stands.
#[derive(Debug)]
pub(crate) enum Stage {
    Running(Progress),
    Done,
    Failed(String),
}

/// Why nothing is replayed.
#[derive(Debug)]
pub(crate) enum Refused {
    /// There is no such view or table.
    Unknown(String),
    /// What was asked for cannot be.
    Asked(String),
    /// Not as things are.
    Conflict(String),
    /// The node could not.
    Failed(String),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Unknown(why) | Self::Asked(why) | Self::Conflict(why) | Self::Failed(why)) =
            self;
        f.write_str(why)
    }
}

impl From<StreamError> for Refused {
    fn from(error: StreamError) -> Self {
        let why = error.to_string();
        match error {
            StreamError::Unknown(_) => Self::Unknown(why),
            StreamError::Replaying(_) | StreamError::InUse { .. } => Self::Conflict(why),
            _ => Self::Failed(why),
        }
    }
}

impl From<LakeError> for Refused {
    fn from(error: LakeError) -> Self {
        let why = error.to_string();
        match error {
            LakeError::LogBegins { .. } => Self::Asked(why),
            LakeError::Replaying(_) => Self::Conflict(why),
            _ => Self::Failed(why),
        }
    }
}

impl From<anyhow::Error> for Refused {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(format!("{error:#}"))
    }
}

/// What a node can replay.
pub(crate) struct NodeReplays {
    log: Arc<dyn Log>,
    views: Arc<NodeViews>,
    tables: Vec<Arc<LakeTable>>,
    sources: SourceTables,
    /// The latest replay of each table in this run.
    of_tables: Mutex<BTreeMap<String, TableReplay>>,
}

impl NodeReplays {
    pub(crate) fn new(
        log: Arc<dyn Log>,
        views: Arc<NodeViews>,
        tables: Vec<Arc<LakeTable>>,
        sources: SourceTables,
    ) -> Arc<Self> {
        Arc::new(Self { log, views, tables, sources, of_tables: Mutex::default() })
    }

    /// Begins a replay of the view or, if there is none, of the table `name`.
    pub(crate) async fn begin(&self, name: &str, asked: Asked) -> Result<(), Refused> {
        let Asked { from_micros, allow_fewer } = asked;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if i128::from(from_micros) > now.as_micros().cast_signed() {
            return Err(Refused::Asked("expected a time that has been, found one to come".into()));
        }
        if self.log.ownership().is_shared() {
            return Err(Refused::Conflict(
                "processes that share partitions (log.kafka.shared) cannot replay views or tables; stop \
                 all but one, and start that without it"
                    .into(),
            ));
        }
        if self.views.has(name) {
            if allow_fewer {
                let why = format!("allow_fewer: expected it with a table only, `{name}` is a view");
                return Err(Refused::Asked(why));
            }
            return self.views.replay(name, from_micros).await;
        }
        let table = self.table(name).ok_or_else(|| self.unknown(name))?;
        let replay = table.replay(from_micros, allow_fewer).await?;
        self.of_tables.lock().insert(name.to_owned(), replay);
        Ok(())
    }

    /// How the latest replay of `name` stands: since when, and how far.
    pub(crate) fn stage(&self, name: &str) -> Result<(i64, Stage), Refused> {
        let never = || Refused::Unknown(format!("no replay of `{name}` is known"));
        if self.views.has(name) {
            return self.views.replay_stage(name).ok_or_else(never);
        }
        let replay = self.of_tables.lock().get(name).cloned();
        let Some(replay) = replay else {
            return Err(self.table(name).map_or_else(|| self.unknown(name), |_| never()));
        };
        let stage = match replay.outcome() {
            None => Stage::Running(replay.progress()),
            Some(Ok(())) => Stage::Done,
            Some(Err(error)) => Stage::Failed(error.to_string()),
        };
        Ok((replay.from_micros(), stage))
    }

    fn table(&self, name: &str) -> Option<Arc<LakeTable>> {
        let own = self.tables.iter().find(|table| table.name() == name).cloned();
        own.or_else(|| self.sources.lock().get(name).cloned())
    }

    fn unknown(&self, name: &str) -> Refused {
        let mut names = self.views.names();
        names.extend(self.tables.iter().map(|table| table.name().to_owned()));
        names.extend(self.sources.lock().keys().cloned());
        let names = names.join(", ");
        Refused::Unknown(format!(
            "there is no view or table `{name}` that can be replayed; there are: {names}"
        ))
    }
}
