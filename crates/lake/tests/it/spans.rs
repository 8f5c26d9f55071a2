//! Table `spans`.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::util::pretty::pretty_format_batches;
use datafusion::execution::context::SessionContext;
use tempfile::TempDir;
use thalweg_event::schema::topic;
use thalweg_event::span::{SpanBatchBuilder, SpanEvent, SpanKind, SpanLink, span_schema};
use thalweg_event::{AttributeValue, BatchContext, PriorityRules};
use thalweg_lake::{LakeTable, TableSpec};
use thalweg_log::{Log, TopicPartition};

use crate::events::{DAY_START_MICROS, explain, number, quiet, rows};
use crate::memory_log::MemoryLog;

/// `count` spans from `number` on, of a trace each, one per millisecond.
fn spans(number: u64, count: u64) -> RecordBatch {
    let rules = PriorityRules::default();
    let mut builder = SpanBatchBuilder::new(BatchContext::new(7, &rules, [7; 10]));
    for n in number..number + count {
        let mut row = builder.row();
        row.trace_id(
            (u128::from(n) + 1)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
                .to_be_bytes(),
        );
        row.span_id((n + 1).to_be_bytes());
        row.service(["checkout", "payment"][(n % 2) as usize]);
        row.name("GET /é\n");
        let start = DAY_START_MICROS * 1_000 + n as i64 * 1_000_000 + 1;
        row.start_time_unix_nano(start);
        if n % 3 > 0 {
            row.parent_span_id(n.to_be_bytes());
            row.kind(SpanKind::Server);
            row.end_time_unix_nano(start + 2_500_000);
            row.attribute("n", AttributeValue::Int(n as i64));
            row.event(&SpanEvent { time_unix_nano: u64::MAX, name: "e\"", ..Default::default() });
            row.link(&SpanLink { trace_id: &[1; 16], span_id: &[2; 8], ..Default::default() });
            row.scope(r#"{"name":"lib"}"#);
        }
        row.commit().unwrap();
    }
    builder.finish()
}

async fn append(log: &MemoryLog, batch: RecordBatch) {
    log.append(TopicPartition::new(topic::SPANS, 0), batch).await.unwrap();
}

async fn open(directory: &TempDir, log: &Arc<MemoryLog>) -> (Arc<LakeTable>, SessionContext) {
    let log = Arc::clone(log) as Arc<dyn Log>;
    let table = LakeTable::open(directory.path(), TableSpec::spans(), quiet(), log).await.unwrap();
    let session = SessionContext::new();
    session.register_table("spans", Arc::clone(&table) as _).unwrap();
    (table, session)
}

/// All columns but the date as text, by time.
async fn as_text(session: &SessionContext) -> String {
    let names: Vec<String> =
        span_schema().fields().iter().map(|field| field.name().clone()).collect();
    let sql = format!("SELECT {} FROM spans ORDER BY start_time_unix_nano", names.join(", "));
    let rows = rows(session, &sql).await;
    pretty_format_batches(&rows).unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_read_back_as_written_from_the_tail_and_from_files_and_after_a_restart() {
    let (directory, log) = (TempDir::new().unwrap(), MemoryLog::new(&[(topic::SPANS, 1)]));
    let (table, session) = open(&directory, &log).await;
    let sent = [spans(0, 40), spans(40, 2)];
    for batch in sent.clone() {
        append(&log, batch).await;
    }
    let sent = concat_batches(&span_schema(), &sent).unwrap();
    let expected = pretty_format_batches(&[sent]).unwrap().to_string();
    assert_eq!(as_text(&session).await, expected, "from the tail");
    table.flush().await.unwrap();
    assert_eq!(as_text(&session).await, expected, "from files");
    table.shutdown().await;
    drop((table, session));
    let (_table, session) = open(&directory, &log).await;
    append(&log, spans(42, 3)).await;
    assert_eq!(number(&session, "SELECT count(*) FROM spans").await, 45);
    assert_eq!(number(&session, "SELECT count(DISTINCT event_id) FROM spans").await, 45);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_is_found_by_bloom_filter() {
    let (directory, log) = (TempDir::new().unwrap(), MemoryLog::new(&[(topic::SPANS, 1)]));
    let (table, session) = open(&directory, &log).await;
    for part in 0..3 {
        append(&log, spans(part * 2_000, 2_000)).await;
        table.flush().await.unwrap();
    }
    let trace_id = (4_711_u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let sql = format!("SELECT count(*) FROM spans WHERE trace_id = '{trace_id:032x}'");
    assert_eq!(number(&session, &sql).await, 1);
    let plan = explain(&session, &sql.replace("count(*)", "name")).await;
    let pruned = plan.split("row_groups_pruned_bloom_filter=").nth(1).unwrap();
    let pruned = &pruned[..pruned.find([',', ']']).unwrap()];
    assert!(pruned.starts_with("3 total") && pruned.ends_with("1 matched"), "{plan}");
}
