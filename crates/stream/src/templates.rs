//! Templates of messages, mined as logs stream by.
//!
//! ```text
//! topics of `logs` ─▶ miner ─▶ counts ─▶ table `templates`
//!                       │          └───▶ topic `template_signals`: new ones, changed rates
//!                       └─▶ functions template_id(message), template(message)
//! ```

mod functions;
mod keeper;
mod saved;
mod table;

use std::path::Path;
use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use parking_lot::Mutex;
use thalweg_event::schema::{dictionary_type, timestamp_type};
use thalweg_log::Log;
use thalweg_template::{Config, Miner, TemplateId, TemplateStatistics, Watch, WatchConfig};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::stream::Stream;

pub use functions::register_template_functions;
pub use table::templates_schema;

/// Topic, and table, of what is remarkable about templates.
pub const TEMPLATE_SIGNALS: &str = "template_signals";

/// Schema of [`TEMPLATE_SIGNALS`]: when, what (`new` or `rate_changed`), of which template, and
/// for rates how many messages a minute before and now.
pub fn template_signals_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        Arc::new(Schema::new(vec![
            Field::new("timestamp", timestamp_type(), false),
            Field::new("signal", dictionary_type(), false),
            Field::new("template_id", DataType::Utf8, false),
            Field::new("template", DataType::Utf8, false),
            Field::new("before", DataType::Float64, true),
            Field::new("now", DataType::Int64, true),
        ]))
    });
    Arc::clone(&SCHEMA)
}

/// The templates of a node's messages.
pub struct Templates {
    mined: Mutex<Mined>,
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// What has been learnt of messages.
struct Mined {
    miner: Miner,
    watch: Watch,
}

impl Mined {
    fn new(miner: Miner, counts: Vec<(u64, TemplateStatistics)>, now_micros: i64) -> Self {
        let mut watch = Watch::new(WatchConfig::default(), now_micros);
        for (template, statistics) in counts {
            watch.remember(TemplateId(template), statistics);
        }
        Self { miner, watch }
    }

    /// Finds, or learns, the template of a message.
    fn observe(&mut self, message: &str) -> TemplateId {
        let observed = self.miner.observe(message);
        if observed.merged {
            let merged: Vec<_> = self.miner.merged().rev().take(MERGES_AT_ONCE).collect();
            for (from, into) in merged {
                self.watch.merge(from, self.miner.resolve(into));
            }
        }
        observed.template
    }
}

/// Merges that one message can cause, at most, that are looked at.
const MERGES_AT_ONCE: usize = 64;

impl Templates {
    /// Starts to mine what `logs` has, going on where the state in `directory` ends. Signals go to
    /// the topic [`TEMPLATE_SIGNALS`], which must be there. Where several processes share the log, the
    /// one that owns that topic's first partition mines, and the others have what it has kept. Must
    /// be called within a runtime.
    ///
    /// # Errors
    /// The log lacks a topic, or the state on disk is damaged.
    pub fn start(directory: &Path, logs: &Stream, log: Arc<dyn Log>) -> Result<Arc<Self>> {
        std::fs::create_dir_all(directory).map_err(fjall::Error::Io)?;
        let (mined, cursors) = saved::load(directory, logs, log.as_ref())?;
        let stop = CancellationToken::new();
        let templates =
            Arc::new(Self { mined: Mutex::new(mined), stop: stop.clone(), task: Mutex::default() });
        let keeper = keeper::Keeper {
            templates: Arc::clone(&templates),
            directory: directory.to_owned(),
            logs: logs.clone(),
            log,
            cursors,
            stop,
        };
        *templates.task.lock() = Some(tokio::spawn(keeper.run()));
        Ok(templates)
    }

    /// Keeps what was learnt, and ends.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        let task = self.task.lock().take();
        if let Some(task) = task
            && task.await.is_err()
        {
            tracing::error!("the task that mines templates has failed");
        }
    }
}

fn new_miner() -> Miner {
    Miner::new(Config::default()).expect("the default limits are valid")
}
