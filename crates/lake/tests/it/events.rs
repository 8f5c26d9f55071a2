//! Events, tables and questions for the tests.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, DictionaryArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, new_null_array,
};
use arrow::datatypes::{Int32Type, Int64Type};
use datafusion::execution::context::SessionContext;
use datafusion::prelude::SessionConfig;
use tempfile::TempDir;
use thalweg_event::schema::{column, log_schema, topic};
use thalweg_lake::{LakeConfig, LakeTable, TableSpec};
use thalweg_log::{Log, TopicPartition};

use crate::memory_log::MemoryLog;

/// 2026-11-24T00:00:00Z.
pub(crate) const DAY_START_MICROS: i64 = 1_795_478_400_000_000;
pub(crate) const DAY_MICROS: i64 = 86_400_000_000;
const SERVICES: [&str; 3] = ["checkout", "auth", "search"];

/// `rows` events from `number` on, one per millisecond from `start_micros`.
pub(crate) fn events(number: u64, rows: usize, start_micros: i64) -> RecordBatch {
    let numbers = || number..number + rows as u64;
    let text = |f: &dyn Fn(u64) -> String| {
        Arc::new(StringArray::from_iter_values(numbers().map(f))) as ArrayRef
    };
    let few = |f: &dyn Fn(u64) -> &'static str| {
        Arc::new(numbers().map(f).collect::<DictionaryArray<Int32Type>>()) as ArrayRef
    };
    let times = || numbers().map(|n| start_micros + (n - number) as i64 * 1000);
    let time = Arc::new(TimestampMicrosecondArray::from_iter_values(times()).with_timezone("UTC"));
    let schema = log_schema();
    let columns = schema.fields().iter().map(|field| match field.name().as_str() {
        column::TIMESTAMP | column::OBSERVED_TIMESTAMP => Arc::clone(&time) as ArrayRef,
        column::TIME_UNIX_NANO => {
            Arc::new(Int64Array::from_iter_values(times().map(|micros| micros * 1000)))
        }
        column::EVENT_ID => text(&|n| format!("event-{n:012}")),
        column::TRACE_ID => text(&trace_id),
        column::SERVICE => few(&|n| SERVICES[n as usize % SERVICES.len()]),
        column::LEVEL => few(&|n| if n % 10 == 0 { "ERROR" } else { "INFO" }),
        column::MESSAGE => text(&|n| format!("request {n} took {} ms", n % 100)),
        column::DURATION_MS => {
            Arc::new(Float64Array::from_iter_values(numbers().map(|n| (n % 100) as f64 / 2.0)))
        }
        _ => new_null_array(field.data_type(), rows),
    });
    let columns = columns.collect();
    RecordBatch::try_new(schema, columns).unwrap()
}

/// Looks random, as trace ids do, but is known from the number.
pub(crate) fn trace_id(number: u64) -> String {
    let mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{mixed:016x}{:016x}", mixed.rotate_left(29))
}

pub(crate) fn log() -> Arc<MemoryLog> {
    MemoryLog::new(&[(topic::LOGS_CRITICAL, 1), (topic::LOGS_ROUTINE, 2)])
}

/// Appends events to the partitions in turn.
pub(crate) async fn append(log: &MemoryLog, number: u64, rows: usize, start_micros: i64) {
    let places = [(topic::LOGS_CRITICAL, 0), (topic::LOGS_ROUTINE, 0), (topic::LOGS_ROUTINE, 1)];
    let (topic, partition) = places[(number / rows as u64) as usize % places.len()];
    let batch = events(number, rows, start_micros);
    log.append(TopicPartition::new(topic, partition), batch).await.unwrap();
}

/// Commits only when told to, and never maintains by itself.
pub(crate) fn quiet() -> LakeConfig {
    LakeConfig {
        flush_interval_ms: 3_600_000,
        maintenance_interval_secs: 3_600,
        retention_days: 0,
        ..LakeConfig::default()
    }
}

pub(crate) async fn open(
    directory: &TempDir,
    config: LakeConfig,
    log: &Arc<MemoryLog>,
) -> Arc<LakeTable> {
    let log = Arc::clone(log) as Arc<dyn Log>;
    LakeTable::open(directory.path(), TableSpec::logs(), config, log).await.unwrap()
}

pub(crate) fn session(table: &Arc<LakeTable>) -> SessionContext {
    let session = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(2));
    session.register_table("logs", Arc::clone(table) as _).unwrap();
    session
}

pub(crate) async fn rows(session: &SessionContext, sql: &str) -> Vec<RecordBatch> {
    session.sql(sql).await.unwrap().collect().await.unwrap()
}

/// The single integer a query answers with.
pub(crate) async fn number(session: &SessionContext, sql: &str) -> i64 {
    let batches = rows(session, sql).await;
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1, "{sql}");
    let batch = batches.iter().find(|batch| batch.num_rows() == 1).unwrap();
    batch.column(0).as_primitive::<Int64Type>().value(0)
}

/// The plan of a query with what each operator did.
pub(crate) async fn explain(session: &SessionContext, sql: &str) -> String {
    let batches = rows(session, &format!("EXPLAIN ANALYZE {sql}")).await;
    arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string()
}

/// Number of events, none of which may be there twice.
pub(crate) async fn count(session: &SessionContext) -> i64 {
    let twice = "SELECT count(*) - count(DISTINCT event_id) FROM logs";
    assert_eq!(number(session, twice).await, 0, "an event is there twice");
    number(session, "SELECT count(*) FROM logs").await
}
