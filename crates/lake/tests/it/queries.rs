//! What a query reads, and what it does not have to.

use datafusion::execution::context::SessionContext;
use futures::TryStreamExt as _;
use tempfile::TempDir;

use crate::events::{
    DAY_MICROS, DAY_START_MICROS, append, explain, log, number, open, quiet, rows, session,
    trace_id,
};

/// A metric of the Parquet scan, such as `files_ranges_pruned_statistics=3 total → 1 matched`.
fn metric<'a>(plan: &'a str, name: &str) -> &'a str {
    let start = plan.find(&format!("{name}=")).unwrap_or_else(|| panic!("no {name} in {plan}"));
    let value = &plan[start + name.len() + 1..];
    &value[..value.find([',', ']']).unwrap()]
}

/// Three days of 3 000 events each, in the table's files.
async fn three_days() -> (TempDir, std::sync::Arc<thalweg_lake::LakeTable>, SessionContext) {
    let (directory, log) = (TempDir::new().unwrap(), log());
    let table = open(&directory, quiet(), &log).await;
    for day in 0..3 {
        append(&log, day * 3_000, 3_000, DAY_START_MICROS + day as i64 * DAY_MICROS).await;
        table.flush().await.unwrap();
    }
    let session = session(&table);
    (directory, table, session)
}

#[tokio::test(flavor = "multi_thread")]
async fn bounds_on_time_choose_the_dates() {
    let (_directory, _table, session) = three_days().await;
    for filter in ["timestamp >= '2026-11-26T00:00:00Z'", "date = DATE '2026-11-26'"] {
        let sql = format!("SELECT max(message) FROM logs WHERE {filter}");
        let plan = explain(&session, &sql).await;
        assert!(plan.contains("date=2026-11-26/"), "{plan}");
        assert!(!plan.contains("date=2026-11-25/") && !plan.contains("date=2026-11-24/"), "{plan}");
        let count = format!("SELECT count(*) FROM logs WHERE {filter}");
        assert_eq!(number(&session, &count).await, 3_000);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_since_a_time_leaves_older_files_out() {
    let (_directory, table, session) = three_days().await;
    let columns = ["timestamp".to_owned()];
    for (since, expected) in [(None, 9_000), (Some(DAY_START_MICROS + 2 * DAY_MICROS), 3_000)] {
        let (_, rows) = table.committed(&session, &columns, since).await.unwrap();
        let rows: Vec<_> = rows.try_collect().await.unwrap();
        assert_eq!(rows.iter().map(|batch| batch.num_rows()).sum::<usize>(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_is_found_by_bloom_filter() {
    let (_directory, _table, session) = three_days().await;
    let sql = format!("SELECT message FROM logs WHERE trace_id = '{}'", trace_id(4_711));
    let found = rows(&session, &sql).await;
    let found = arrow::util::pretty::pretty_format_batches(&found).unwrap().to_string();
    assert!(found.contains("request 4711 took 11 ms"), "{found}");
    let plan = explain(&session, &sql).await;
    let pruned = metric(&plan, "row_groups_pruned_bloom_filter");
    assert!(pruned.starts_with("3 total") && pruned.ends_with("1 matched"), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_and_times_come_from_metadata_alone() {
    let (_directory, _table, session) = three_days().await;
    let sql = "SELECT count(*), min(timestamp), max(timestamp) FROM logs";
    let plan = explain(&session, sql).await;
    assert!(!plan.contains("DataSourceExec: file"), "{plan}");
    let rows = rows(&session, sql).await;
    let rows = arrow::util::pretty::pretty_format_batches(&rows).unwrap().to_string();
    assert!(rows.contains("| 9000 "), "{rows}");
    assert!(
        rows.contains("2026-11-24T00:00:00Z") && rows.contains("2026-11-26T00:00:02.999Z"),
        "{rows}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_in_files_and_in_the_tail_are_filtered_alike() {
    let (directory, log) = (TempDir::new().unwrap(), log());
    let table = open(&directory, quiet(), &log).await;
    append(&log, 0, 1_000, DAY_START_MICROS).await;
    table.flush().await.unwrap();
    append(&log, 1_000, 1_000, DAY_START_MICROS + DAY_MICROS).await;
    for pushdown in [false, true] {
        let session = session(&table);
        let set = format!("SET datafusion.execution.parquet.pushdown_filters = {pushdown}");
        rows(&session, &set).await;
        for (filter, expected) in [
            ("level = 'ERROR'", 200),
            ("service = 'auth' AND level = 'INFO'", 600),
            ("message LIKE '%took 7 ms%'", 20),
            ("event_id = 'event-000000001500'", 1),
            ("date = DATE '2026-11-25'", 1_000),
            ("host IS NOT NULL", 0),
        ] {
            let sql = format!("SELECT count(*) FROM logs WHERE {filter}");
            assert_eq!(number(&session, &sql).await, expected, "{filter}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_table_answers() {
    let (directory, log) = (TempDir::new().unwrap(), log());
    let table = open(&directory, quiet(), &log).await;
    let session = session(&table);
    assert_eq!(number(&session, "SELECT count(*) FROM logs").await, 0);
    assert!(rows(&session, "SELECT * FROM logs").await.iter().all(|batch| batch.num_rows() == 0));
}
