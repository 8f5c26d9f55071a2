//! What a table needs from time to time: compaction, retention, vacuum, checkpoints.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use chrono::Utc;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::compaction::compact_once;
use crate::conform::date_of;
use crate::delta::Change;
use crate::error::{LakeError, Result};
use crate::snapshot::Snapshot;
use crate::spec::DATE_COLUMN;
use crate::table::{Table, stopped};

const HOUR_MILLIS: i64 = 3_600_000;
/// Flushes worth of rows that the writer may have before it without being behind.
const FLUSHES_BEHIND: u64 = 2;
/// Files of a table after which compaction no longer waits for the writer.
const MAX_FILES_BEHIND: usize = 64;
/// A file younger than this may be one that a commit under way is about to add.
const MIN_VACUUM_AGE_SECS: u64 = 300;

/// What a run of the maintenance did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Merges of small files.
    pub compactions: usize,
    /// Files dropped because their rows are older than the retention.
    pub files_expired: usize,
    /// Files deleted from disk.
    pub files_vacuumed: usize,
}

/// Maintains the table until `stop` says so.
pub(crate) async fn run(table: Arc<Table>, mut stop: watch::Receiver<bool>) {
    let every = Duration::from_secs(table.config.maintenance_interval_secs.max(1));
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let work = async {
        loop {
            ticks.tick().await;
            if !table.is_maintained_here() {
                continue;
            }
            let maintained = maintain(&table, Utc::now().timestamp_millis()).await;
            if let Err(error @ LakeError::Overtaken(_)) = &maintained
                && table.log.ownership().is_shared()
            {
                tracing::debug!(%error, "another process still maintains the table");
                continue;
            }
            if let Err(error) = maintained {
                let table = table.spec.name.clone();
                tracing::error!(table, %error, "maintenance is put off to the next interval");
                metrics::counter!("thalweg_lake_maintenance_failures_total", "table" => table)
                    .increment(1);
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = stopped(&mut stop) => {}
    }
}

pub(crate) async fn maintain(table: &Arc<Table>, now_unix_millis: i64) -> Result<Maintained> {
    let today = date_of(now_unix_millis.saturating_mul(1000));
    let mut done = Maintained::default();
    table.refresh().await?;
    // A replay holds files that no version has, and has files left to replace.
    let upkeep = table.upkeep.try_read();
    if upkeep.is_ok() {
        done.files_expired = expire(table, today).await?;
    }
    while upkeep.is_ok() && !must_yield(table)? && compact_once(table, today).await? {
        done.compactions += 1;
    }
    let keep_since = now_unix_millis - i64::from(table.config.delta_log_hours) * HOUR_MILLIS;
    table.checkpoint(keep_since).await?;
    // Queries that have ended since the last commit may have held the log back.
    table.release_log().await?;
    if upkeep.is_ok() {
        done.files_vacuumed = vacuum(table, now_unix_millis).await?;
    }
    let label = || [("table", table.spec.name.clone())];
    metrics::counter!("thalweg_lake_expired_files_total", &label())
        .increment(done.files_expired as u64);
    metrics::counter!("thalweg_lake_vacuumed_files_total", &label())
        .increment(done.files_vacuumed as u64);
    Ok(done)
}

/// Whether compaction is to leave the machine to the writer, which is behind: what it has not
/// committed costs queries more than files that are small. Only for as long as these are few.
fn must_yield(table: &Table) -> Result<bool> {
    let current = table.snapshots.current();
    let is_behind = table.lag(&current)? > FLUSHES_BEHIND * table.config.flush_rows as u64;
    Ok(is_behind && current.files.len() < MAX_FILES_BEHIND)
}

/// Drops the dates that are `retention_days` past.
async fn expire(table: &Table, today: i32) -> Result<usize> {
    let days = i32::try_from(table.config.retention_days).unwrap_or(i32::MAX);
    if days == 0 {
        return Ok(0);
    }
    let first_kept = today.saturating_sub(days);
    let mut expired = 0;
    let drop_old = |current: &Snapshot| {
        let old = current.files.iter().filter(|file| file.date < first_kept);
        let remove: Vec<_> = old.cloned().collect();
        expired = remove.len();
        let change = Change { remove, data_change: true, ..Change::default() };
        (!change.remove.is_empty()).then_some(change)
    };
    table.commit(drop_old).await?;
    Ok(expired)
}

/// Deletes files that are not in the table, not read by a query, and old enough that nobody else
/// reads them or is about to add them.
async fn vacuum(table: &Table, now_unix_millis: i64) -> Result<usize> {
    let age_secs = table.config.vacuum_age_secs.max(MIN_VACUUM_AGE_SECS);
    let age_millis = i64::try_from(age_secs).unwrap_or(i64::MAX).saturating_mul(1000);
    let before = now_unix_millis.saturating_sub(age_millis);
    let in_use = table.snapshots.in_use();
    let files = in_use.iter().flat_map(|snapshot| &snapshot.files);
    let kept: HashSet<PathBuf> = files.map(|file| table.root.join(&file.path)).collect();
    let root = table.root.clone();
    let work = move || delete_unknown(&root, &kept, before);
    let deleted = tokio::task::spawn_blocking(work).await;
    deleted.map_err(|_| LakeError::Stopped("vacuum".into()))?
}

fn delete_unknown(root: &Path, kept: &HashSet<PathBuf>, before_unix_millis: i64) -> Result<usize> {
    let list = |path: &Path| -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(path).map_err(LakeError::io(path))?;
        Ok(entries.flatten().map(|entry| entry.path()).collect())
    };
    let is_partition = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        path.is_dir() && name.is_some_and(|name| name.starts_with(&format!("{DATE_COLUMN}=")))
    };
    let mut deleted = 0;
    for partition in list(root)?.into_iter().filter(is_partition) {
        for path in list(&partition)? {
            let parquet = path.extension().is_some_and(|extension| extension == "parquet");
            if parquet && !kept.contains(&path) && modified_before(&path, before_unix_millis) {
                fs::remove_file(&path).map_err(LakeError::io(&path))?;
                deleted += 1;
            }
        }
        // Fails while there are files in it, as it should.
        let _ = fs::remove_dir(&partition);
    }
    Ok(deleted)
}

fn modified_before(path: &Path, unix_millis: i64) -> bool {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let since = modified.and_then(|modified| modified.duration_since(UNIX_EPOCH).ok());
    since.is_some_and(|since| (since.as_millis() as i64) < unix_millis)
}
