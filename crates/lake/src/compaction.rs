//! Many small files into few large ones.
//!
//! Files of a date are merged with files of similar size (size-tiered compaction), so that a row
//! is rewritten a logarithmic number of times however small the commits are. The inputs are
//! sorted; merging them takes memory for a row group of each.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::compute::SortOptions;
use datafusion::execution::context::SessionContext;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::TryStreamExt;

use crate::config::LakeConfig;
use crate::delta::Change;
use crate::encode::{FileEncoder, is_sorted};
use crate::error::{LakeError, Result};
use crate::scan;
use crate::snapshot::{DataFile, Snapshot};
use crate::table::Table;

/// Files up to this size are of the lowest tier.
const SMALLEST_TIER_BYTES: u64 = 64 << 10;
/// Inputs of one merge: bounds its memory.
const MAX_INPUTS: usize = 8;

/// Merges one group of files, if there is one worth it.
///
/// # Errors
/// The inputs cannot be read or the output not written; the table is as it was.
pub(crate) async fn compact_once(table: &Arc<Table>, today: i32) -> Result<bool> {
    let snapshot = table.snapshots.current();
    if snapshot.foreign.is_some() {
        return Ok(false);
    }
    let Some(inputs) = pick(&snapshot.files, &table.config, today) else { return Ok(false) };
    let merged = Arc::new(merge(table, &snapshot, &inputs).await?);
    drop(snapshot);
    let label = || [("table", table.spec.name.clone())];
    metrics::counter!("thalweg_lake_compactions_total", &label()).increment(1);
    metrics::counter!("thalweg_lake_compacted_bytes_total", &label()).increment(merged.size_bytes);
    let swap = |current: &Snapshot| {
        let there = |input: &Arc<DataFile>| current.files.iter().any(|f| f.path == input.path);
        let swap = Change { add: vec![merged], remove: inputs, ..Change::default() };
        swap.remove.iter().all(there).then_some(swap)
    };
    table.commit(swap).await
}

/// Files of one date worth merging: enough of a tier, or all small ones once the date is over.
fn pick(files: &[Arc<DataFile>], config: &LakeConfig, today: i32) -> Option<Vec<Arc<DataFile>>> {
    let mut tiers: BTreeMap<(i32, u32), Vec<&Arc<DataFile>>> = BTreeMap::new();
    for file in files {
        if is_sorted(&file.path) && file.size_bytes < config.target_file_bytes / 2 {
            // The writer may still add rows of yesterday.
            let over = file.date < today - 1;
            let tier = if over { 0 } else { tier(file.size_bytes, config) };
            tiers.entry((file.date, tier)).or_default().push(file);
        }
    }
    let enough = |&(&(date, _), files): &(&(i32, u32), &Vec<_>)| {
        files.len() >= if date < today - 1 { 2 } else { config.compaction_min_files.max(2) }
    };
    let (_, files) = tiers.iter().find(enough)?;
    let mut files = files.clone();
    files.sort_by_key(|file| (file.written_unix_millis, file.size_bytes));
    let mut bytes = 0;
    let fits = |file: &&Arc<DataFile>| {
        let fits = bytes < config.target_file_bytes;
        bytes += file.size_bytes;
        fits
    };
    let inputs: Vec<_> = files.into_iter().take_while(fits).take(MAX_INPUTS).cloned().collect();
    (inputs.len() > 1).then_some(inputs)
}

fn tier(size_bytes: u64, config: &LakeConfig) -> u32 {
    let base = config.compaction_min_files.max(2) as u64;
    (size_bytes / SMALLEST_TIER_BYTES).max(1).ilog(base)
}

async fn merge(
    table: &Table,
    snapshot: &Arc<Snapshot>,
    inputs: &[Arc<DataFile>],
) -> Result<DataFile> {
    let session = SessionContext::new();
    let schema = table.spec.file_schema();
    let columns = table.spec.cluster_column.iter().chain([&table.spec.time_column]);
    let order = columns.map(|name| {
        let column = Arc::new(Column::new(name, schema.index_of(name)?));
        let options = SortOptions { descending: false, nulls_first: true };
        Ok(PhysicalSortExpr::new(column, options))
    });
    let order = order.collect::<Result<Vec<_>>>()?;
    let order = LexOrdering::new(order).expect("the time column is always there");
    let groups = inputs.iter().map(|file| vec![Arc::clone(file)]).collect();
    let all = Some((0..schema.fields().len()).collect());
    let (root, spec) = (&table.root, &table.spec);
    let state = session.state();
    let files = scan::plan(&state, table, snapshot, groups, all, None, Some(order.clone()))?;
    let plan: Arc<dyn ExecutionPlan> = Arc::new(SortPreservingMergeExec::new(order, files));
    let mut rows = execute_stream(plan, session.task_ctx())?;
    let date = inputs.first().map_or(0, |file| file.date);
    let mut output = FileEncoder::create(root, spec, &table.config, schema, date)?;
    while let Some(batch) = rows.try_next().await? {
        let encode = move || output.write(&batch).map(|()| output);
        output = blocking(encode).await?;
    }
    let merged = blocking(move || output.finish()).await?;
    let (expected, found) = (inputs.iter().map(|file| file.rows()).sum(), merged.rows());
    if found != expected {
        return Err(LakeError::MergeLostRows { expected, found });
    }
    Ok(merged)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| LakeError::Stopped("compaction".into()))?
}

#[cfg(test)]
mod tests {
    use datafusion::common::Statistics;

    use super::*;

    const TODAY: i32 = 20_000;

    fn files(date: i32, sizes: &[u64]) -> Vec<Arc<DataFile>> {
        let file = |(number, &size_bytes): (usize, &u64)| {
            Arc::new(DataFile {
                path: format!("date=x/sorted-{date}-{number}.parquet"),
                date,
                size_bytes,
                written_unix_millis: number as i64,
                statistics: Arc::new(Statistics::default()),
            })
        };
        sizes.iter().enumerate().map(file).collect()
    }

    fn picked(files: &[Arc<DataFile>]) -> Option<Vec<u64>> {
        let picked = pick(files, &LakeConfig::default(), TODAY)?;
        Some(picked.iter().map(|file| file.size_bytes).collect())
    }

    #[test]
    fn files_of_today_wait_for_company_of_their_size() {
        assert_eq!(picked(&files(TODAY, &[1000; 7])), None);
        assert_eq!(picked(&files(TODAY, &[1000; 8])), Some(vec![1000; 8]));
        let mut sizes = vec![10 << 20; 7];
        sizes.push(1000);
        assert_eq!(picked(&files(TODAY, &sizes)), None);
    }

    #[test]
    fn small_files_of_a_date_that_is_over_are_merged_whatever_their_size() {
        assert_eq!(picked(&files(TODAY - 2, &[1000, 10 << 20])), Some(vec![1000, 10 << 20]));
        assert_eq!(picked(&files(TODAY - 2, &[100 << 20, 1000])), None);
    }

    #[test]
    fn a_row_is_rewritten_once_per_tier() {
        let (mut files, mut written, mut rewritten) = (vec![], 0, 0);
        for number in 0..4096_u64 {
            let mut next = files_of_commit(number);
            written += next[0].size_bytes;
            files.append(&mut next);
            while let Some(inputs) = pick(&files, &LakeConfig::default(), TODAY) {
                let size_bytes = inputs.iter().map(|file| file.size_bytes).sum();
                rewritten += size_bytes;
                files.retain(|file| !inputs.iter().any(|input| input.path == file.path));
                let path = format!("{}+", inputs[0].path);
                files.push(Arc::new(DataFile { path, size_bytes, ..inputs[0].as_ref().clone() }));
            }
        }
        assert!(files.len() <= 32, "{} files", files.len());
        assert!(rewritten <= 4 * written, "{rewritten} of {written} bytes rewritten");
    }

    fn files_of_commit(number: u64) -> Vec<Arc<DataFile>> {
        let mut file = files(TODAY, &[50_000])[0].as_ref().clone();
        file.path = format!("date=x/sorted-{number}.parquet");
        vec![Arc::new(file)]
    }
}
