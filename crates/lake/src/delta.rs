//! The table's Delta log: the one place that says which files and which rows the table has.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use chrono::Utc;
use deltalake::kernel::transaction::{
    CommitBuilder, CommitConflictError, CommitProperties, TransactionError,
};
use deltalake::kernel::{Action, Add, Remove, Transaction};
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::{DeltaTable, DeltaTableBuilder, DeltaTableError};
use futures::TryStreamExt;
use thalweg_log::TopicPartition;

use crate::durable::DurableFileSystem;
use crate::encode::{date_from_text, date_text, is_sorted, sync_directory};
use crate::error::{LakeError, Result};
use crate::snapshot::{DataFile, Offsets, Snapshot};
use crate::spec::{DATE_COLUMN, TableSpec};
use crate::statistics;

/// Application transaction of every commit that removes files: deltalake lets two processes remove the
/// same files if they only move rows (`dataChange` false), and what both merged would be there twice.
const REMOVAL: &str = "thalweg/removal";
/// Attempts to get in between commits of other programs.
const COMMIT_RETRIES: usize = 15;

/// A change of the table, made as a whole or not at all.
#[derive(Default)]
pub(crate) struct Change {
    pub add: Vec<Arc<DataFile>>,
    pub remove: Vec<Arc<DataFile>>,
    /// First offsets that the table does not cover after the change, where they moved.
    pub offsets: Offsets,
    /// Whether rows come or go; false when they only move between files.
    pub data_change: bool,
}

/// Owner of the Delta log. Commits go through `&mut self`, one after the other.
pub(crate) struct DeltaLog {
    spec: Arc<TableSpec>,
    root: PathBuf,
    /// Where partitions begin of which the table has no row yet.
    starts: Offsets,
    table: DeltaTable,
    /// Version of the last checkpoint this process wrote.
    checkpointed: u64,
}

impl DeltaLog {
    /// Opens the table under `root`, creating it when there is none.
    pub(crate) async fn open(root: PathBuf, spec: Arc<TableSpec>, starts: Offsets) -> Result<Self> {
        let delta = LakeError::delta(&spec.name);
        let url = deltalake::ensure_table_uri(root.to_string_lossy()).map_err(&delta)?;
        let builder = DeltaTableBuilder::from_url(url.clone()).map_err(&delta)?;
        let store = Arc::new(DurableFileSystem::new());
        let mut table = builder.with_storage_backend(store, url).build().map_err(&delta)?;
        if table.verify_deltatable_existence().await.map_err(&delta)? {
            table.load().await.map_err(&delta)?;
        } else {
            let create = table.create().with_columns(spec.delta_fields()?);
            let create = create.with_table_name(&spec.name).with_partition_columns([DATE_COLUMN]);
            match create.with_save_mode(SaveMode::ErrorIfExists).await {
                Ok(created) => table = created,
                // Another process was faster.
                Err(_) if table.verify_deltatable_existence().await.map_err(&delta)? => {
                    table.load().await.map_err(&delta)?;
                }
                Err(error) => return Err(delta(error)),
            }
            sync_directory(&root)?;
            sync_directory(root.parent().unwrap_or(&root))?;
        }
        let log = Self { spec: Arc::clone(&spec), root, starts, table, checkpointed: 0 };
        log.expect_columns()?;
        Ok(log)
    }

    /// Extra columns that another program has added are left alone.
    fn expect_columns(&self) -> Result<()> {
        let schema = self.state()?.schema();
        let expected = self.spec.delta_fields()?;
        let fits = expected.iter().all(|e| {
            schema.field(e.name()).is_some_and(|found| found.data_type() == e.data_type())
        });
        if fits {
            return Ok(());
        }
        let list = |name: &str, data_type: &dyn std::fmt::Display| format!("{name} {data_type}");
        let join = |columns: Vec<String>| columns.join(", ");
        Err(LakeError::OtherColumns {
            table: self.spec.name.clone(),
            path: self.root.clone(),
            expected: join(expected.iter().map(|f| list(f.name(), f.data_type())).collect()),
            found: join(schema.fields().map(|f| list(f.name(), f.data_type())).collect()),
        })
    }

    fn state(&self) -> Result<&deltalake::table::state::DeltaTableState> {
        self.table.snapshot().map_err(LakeError::delta(&self.spec.name))
    }

    /// Takes in what has been committed by others, or by an attempt of ours that seemed to fail.
    pub(crate) async fn refresh(&mut self) -> Result<()> {
        self.table.update_state().await.map_err(LakeError::delta(&self.spec.name))
    }

    /// Whether others may have committed since the version at hand: without listing the whole log,
    /// unless that version is so old that what came behind it may have gone with it.
    pub(crate) fn is_behind(&self) -> bool {
        let is_there =
            |version: u64| self.root.join(format!("_delta_log/{version:020}.json")).exists();
        is_there(self.version() + 1) || !is_there(self.version())
    }

    pub(crate) fn version(&self) -> u64 {
        self.table.version().unwrap_or(0)
    }

    /// Reads the version at hand in full. Takes time in proportion to the number of files.
    pub(crate) async fn snapshot(&self) -> Result<Snapshot> {
        let delta = LakeError::delta(&self.spec.name);
        let state = self.state()?;
        let log_store = self.table.log_store();
        let mut offsets = self.starts.clone();
        for (at, offset) in &mut offsets {
            let id = transaction_id(at);
            let found = state.transaction_version(log_store.as_ref(), id).await.map_err(&delta)?;
            *offset = found.map_or(*offset, |found| found.max(0) as u64);
        }
        let views = state.snapshot().file_views(log_store.as_ref(), None);
        let views: Vec<_> = views.try_collect().await.map_err(&delta)?;
        let schema = self.spec.file_schema();
        let deleted_rows = views.iter().any(|view| view.deletion_vector_descriptor().is_some());
        let plain = state.protocol().min_reader_version() <= 1 && !deleted_rows;
        let foreign = match plain {
            true => None,
            false => Some(self.table.table_provider().await?),
        };
        let file = |view: &deltalake::kernel::LogicalFileView| {
            let path = view.path().into_owned();
            let partition = view.partition_values_map();
            let date = partition.get(DATE_COLUMN).cloned().flatten();
            let stats = statistics::from_json(view.stats().as_deref(), &schema, is_sorted(&path));
            Arc::new(DataFile {
                date: date.and_then(|text| date_from_text(&text)).unwrap_or_default(),
                size_bytes: view.size().max(0) as u64,
                written_unix_millis: view.modification_time(),
                statistics: Arc::new(stats),
                path,
            })
        };
        Ok(Snapshot {
            version: state.version(),
            files: views.iter().map(file).collect(),
            offsets,
            foreign,
        })
    }

    /// Commits `change`, which was made for `from`, and gives the version that results.
    ///
    /// # Errors
    /// [`LakeError::Overtaken`] when another process has moved the same offsets, or removed files,
    /// meanwhile. After any other, the change may have been made all the same:
    /// [`DeltaLog::refresh`], then look.
    pub(crate) async fn commit(&mut self, from: &Snapshot, change: Change) -> Result<Snapshot> {
        let delta = LakeError::delta(&self.spec.name);
        let now = Utc::now().timestamp_millis();
        let schema = self.spec.file_schema();
        let adds =
            change.add.iter().map(|file| Action::Add(add(file, &schema, change.data_change)));
        let removes = change.remove.iter();
        let removes = removes.map(|file| Action::Remove(remove(file, now, change.data_change)));
        let actions = removes.chain(adds).collect();
        let transactions = change.offsets.iter().map(|(at, &offset)| {
            Transaction::new_with_last_update(transaction_id(at), offset as i64, Some(now))
        });
        let removal = (!change.remove.is_empty())
            .then(|| Transaction::new_with_last_update(REMOVAL, from.version as i64, Some(now)));
        let transactions = transactions.chain(removal);
        let operation = match (change.data_change, change.add.is_empty()) {
            (true, false) => DeltaOperation::Write {
                mode: match change.remove.is_empty() {
                    true => SaveMode::Append,
                    false => SaveMode::Overwrite,
                },
                partition_by: Some(vec![DATE_COLUMN.into()]),
                predicate: None,
            },
            (true, true) => DeltaOperation::Delete { predicate: None },
            (false, _) => DeltaOperation::Optimize { predicate: None, target_size: 0 },
        };
        let properties = CommitProperties::default()
            .with_max_retries(COMMIT_RETRIES)
            .with_application_transactions(transactions.collect())
            .with_create_checkpoint(false)
            .with_cleanup_expired_logs(Some(false));
        let state = self.state()?.clone();
        let committed = CommitBuilder::from(properties)
            .with_actions(actions)
            .build(Some(&state), self.table.log_store(), operation)
            .await
            .map_err(|error| match error {
                DeltaTableError::Transaction {
                    source:
                        TransactionError::CommitConflict(
                            CommitConflictError::ConcurrentTransaction
                            | CommitConflictError::ConcurrentDeleteRead
                            | CommitConflictError::ConcurrentDeleteDelete,
                        ),
                } => LakeError::Overtaken(self.spec.name.clone()),
                error => delta(error),
            })?;
        self.table.state = Some(committed.snapshot());
        if committed.version() != from.version + 1 || from.foreign.is_some() {
            return self.snapshot().await;
        }
        let removed: HashSet<&str> = change.remove.iter().map(|file| file.path.as_str()).collect();
        let kept = from.files.iter().filter(|file| !removed.contains(file.path.as_str()));
        let files = kept.cloned().chain(change.add).collect();
        let mut offsets = from.offsets.clone();
        offsets.extend(change.offsets);
        Ok(Snapshot { version: committed.version(), files, offsets, foreign: None })
    }

    /// Writes a checkpoint after every `interval` versions, so that opening the table reads
    /// little, and drops versions older than `keep_since_unix_millis` that it made superfluous.
    pub(crate) async fn checkpoint(
        &mut self,
        interval: u64,
        keep_since_unix_millis: i64,
    ) -> Result<()> {
        if self.version() < self.checkpointed + interval.max(1) {
            return Ok(());
        }
        let delta = LakeError::delta(&self.spec.name);
        let log_store = self.table.log_store();
        deltalake::checkpoints::create_checkpoint(&self.table, None).await.map_err(&delta)?;
        self.checkpointed = self.version();
        deltalake::checkpoints::cleanup_expired_logs_for(
            self.version(),
            log_store.as_ref(),
            keep_since_unix_millis,
            None,
        )
        .await
        .map_err(&delta)?;
        Ok(())
    }
}

fn transaction_id(at: &TopicPartition) -> String {
    format!("thalweg/{at}")
}

fn partition_values(file: &DataFile) -> HashMap<String, Option<String>> {
    HashMap::from([(DATE_COLUMN.into(), Some(date_text(file.date)))])
}

fn add(file: &DataFile, schema: &arrow::datatypes::Schema, data_change: bool) -> Add {
    Add {
        path: file.path.clone(),
        partition_values: partition_values(file),
        size: file.size_bytes as i64,
        modification_time: file.written_unix_millis,
        data_change,
        stats: Some(statistics::to_json(&file.statistics, schema)),
        ..Default::default()
    }
}

fn remove(file: &DataFile, now_unix_millis: i64, data_change: bool) -> Remove {
    Remove {
        path: file.path.clone(),
        data_change,
        deletion_timestamp: Some(now_unix_millis),
        extended_file_metadata: Some(true),
        partition_values: Some(partition_values(file)),
        size: Some(file.size_bytes as i64),
        ..Default::default()
    }
}
