//! The part of a table from a time on, read from the log anew.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arrow::array::RecordBatch;
use serde_json::Value;
use tempfile::TempDir;
use thalweg_event::schema::topic;
use thalweg_lake::{LakeConfig, LakeError, LakeTable, Maintained, TableReplay, TableSpec};
use thalweg_log::{Log, LogConfig, RetentionConfig, TopicPartition};
use tokio::time::sleep;

use crate::events::{DAY_MICROS, DAY_START_MICROS, count, events, number, quiet, rows, session};
use crate::gated_log::GatedLog;

const SECOND_MICROS: i64 = 1_000_000;
const PATIENCE: Duration = Duration::from_secs(60);
const PLACES: [(&str, u32); 3] =
    [(topic::LOGS_CRITICAL, 0), (topic::LOGS_ROUTINE, 0), (topic::LOGS_ROUTINE, 1)];

/// A table `logs` and its log, on disk.
struct Lake {
    directory: TempDir,
    log: Arc<GatedLog>,
    config: LakeConfig,
}

impl Lake {
    fn new(config: LakeConfig, log: LogConfig) -> Self {
        let directory = TempDir::new().unwrap();
        let log = GatedLog::open(&directory.path().join("log"), log);
        Self { directory, log, config }
    }

    async fn open(&self) -> Arc<LakeTable> {
        let log = Arc::clone(&self.log) as Arc<dyn Log>;
        let path = self.directory.path().join("table");
        LakeTable::open(&path, TableSpec::logs(), self.config.clone(), log).await.unwrap()
    }

    /// Appends events to the partitions in turn, one per millisecond from `start_micros`.
    async fn append(&self, number: u64, rows: usize, start_micros: i64) {
        let (topic, partition) = PLACES[(number / rows as u64) as usize % PLACES.len()];
        let batch = events(number, rows, start_micros);
        self.log.append(TopicPartition::new(topic, partition), batch).await.unwrap();
    }
}

/// Writes little files, so that a replay has files before it is complete.
fn small() -> LakeConfig {
    LakeConfig { flush_rows: 100, vacuum_age_secs: 0, compaction_min_files: 4, ..quiet() }
}

fn date(day: i64) -> String {
    let time = chrono::DateTime::from_timestamp_micros(DAY_START_MICROS + day * DAY_MICROS);
    format!("date={}", time.unwrap().format("%Y-%m-%d"))
}

/// Parquet files on disk, whether the table has them or not.
fn files(table: &LakeTable) -> BTreeSet<PathBuf> {
    let list = |path: &Path| std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let folders = list(table.path()).filter(|path| path.to_string_lossy().contains("date="));
    folders.flat_map(|folder| list(&folder).collect::<Vec<_>>()).collect()
}

fn files_of(table: &LakeTable, day: i64) -> Vec<PathBuf> {
    let day = date(day);
    files(table).into_iter().filter(|file| file.to_string_lossy().contains(&day)).collect()
}

/// What the commit of a version did.
fn actions(table: &LakeTable, version: u64, kind: &str) -> Vec<Value> {
    let path = table.path().join(format!("_delta_log/{version:020}.json"));
    let text = std::fs::read_to_string(path).unwrap();
    let actions = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    actions.filter_map(|action| action.get(kind).cloned()).collect()
}

/// Versions whose commits both add and remove files with changes of data: those of replays.
fn replays(table: &LakeTable) -> Vec<u64> {
    let is_replay = |version: &u64| {
        let removes = actions(table, *version, "remove");
        removes.iter().any(|remove| remove["dataChange"] == true)
            && !actions(table, *version, "add").is_empty()
    };
    (0..=table.version()).filter(is_replay).collect()
}

async fn replayed(table: &LakeTable, from_micros: i64) -> Result<(), Arc<LakeError>> {
    table.replay(from_micros, false).await.unwrap().ended().await
}

async fn until(replay: &TableReplay, is_there: impl Fn(&TableReplay) -> bool) {
    let start = Instant::now();
    while !is_there(replay) {
        assert!(start.elapsed() < PATIENCE, "{replay:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

async fn table_rows(table: &Arc<LakeTable>, condition: &str) -> RecordBatch {
    let sql = format!("SELECT * FROM logs WHERE {condition} ORDER BY event_id");
    let batches = rows(&session(table), &sql).await;
    arrow::compute::concat_batches(&batches[0].schema(), &batches).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_beside_appends_leaves_each_event_once_and_older_ones_alone() {
    let config = LakeConfig { flush_interval_ms: 30, flush_rows: 500, ..quiet() };
    let lake = Arc::new(Lake::new(config, LogConfig::default()));
    let table = lake.open().await;
    // Of each second a file; the time is in the middle of the fourth.
    for second in 0..8 {
        lake.append(second * 90, 90, DAY_START_MICROS + second as i64 * SECOND_MICROS).await;
        table.flush().await.unwrap();
    }
    let from = DAY_START_MICROS + 3 * SECOND_MICROS + 45_000;
    let older = "event_id < 'event-000000000720' AND timestamp < '2026-11-24T00:00:03.045Z'";
    let before = table_rows(&table, older).await;
    assert_eq!(before.num_rows(), 3 * 90 + 45);
    let untouched = files_of(&table, 0).into_iter().take(3).collect::<Vec<_>>();

    let stop = Arc::new(AtomicBool::new(false));
    let appending = tokio::spawn({
        let (lake, stop) = (Arc::clone(&lake), Arc::clone(&stop));
        async move {
            let mut sent = 720_u64;
            while !stop.load(Ordering::SeqCst) {
                // Around the time, and in order of no time.
                let at = DAY_START_MICROS + (sent as i64 * 7_919) % 8_000 * 1_000;
                lake.append(sent, 40, at).await;
                sent += 40;
                sleep(Duration::from_millis(5)).await;
            }
            sent
        }
    });
    for _ in 0..3 {
        replayed(&table, from).await.unwrap();
        count(&session(&table)).await;
    }
    stop.store(true, Ordering::SeqCst);
    let sent = appending.await.unwrap();
    assert_eq!(count(&session(&table)).await, sent as i64);
    table.flush().await.unwrap();
    assert_eq!(count(&session(&table)).await, sent as i64);
    assert_eq!(table_rows(&table, older).await, before);

    let made = replays(&table);
    assert_eq!(made.len(), 3);
    for version in made {
        let offsets = actions(&table, version, "txn");
        let ids: Vec<_> = offsets.iter().filter_map(|txn| txn["appId"].as_str()).collect();
        assert_eq!(ids, ["thalweg/removal"], "the offsets are as they were");
        for remove in actions(&table, version, "remove") {
            let path = table.path().join(remove["path"].as_str().unwrap());
            assert!(!untouched.contains(&path), "{} is before the time", path.display());
        }
    }
    table.shutdown().await;
    assert_eq!(count(&session(&lake.open().await)).await, sent as i64);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_gone_or_damaged_are_made_anew() {
    let lake = Lake::new(quiet(), LogConfig::default());
    let table = lake.open().await;
    for day in 0..3 {
        for part in 0..3 {
            let number = (day * 3 + part) as u64 * 100;
            lake.append(number, 100, DAY_START_MICROS + day * DAY_MICROS).await;
            table.flush().await.unwrap();
        }
    }
    let whole = table_rows(&table, "true").await;
    std::fs::remove_file(&files_of(&table, 1)[0]).unwrap();
    std::fs::write(&files_of(&table, 2)[1], b"damaged").unwrap();
    table.shutdown().await;
    let table = lake.open().await;
    let all = session(&table).sql("SELECT * FROM logs").await.unwrap().collect().await;
    all.expect_err("two files cannot be read");

    // A file with rows from before the time is needed, and the error says from when on it is not.
    let damaged_from = DAY_START_MICROS + 2 * DAY_MICROS;
    let (version, there) = (table.version(), files(&table));
    let error = replayed(&table, damaged_from + 50_000).await.unwrap_err().to_string();
    assert!(error.contains("replay from 2026-11-26T00:00:00Z or earlier"), "{error}");
    assert_eq!((table.version(), files(&table)), (version, there));

    replayed(&table, DAY_START_MICROS + DAY_MICROS).await.unwrap();
    assert_eq!(table_rows(&table, "true").await, whole);
    table.shutdown().await;
    assert_eq!(table_rows(&lake.open().await, "true").await, whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_has_lost_is_not_lost_by_a_replay() {
    let retention = RetentionConfig {
        partition_bytes: 1,
        partition_hard_limit_bytes: 1 << 30,
        grace_secs: 0,
        ..RetentionConfig::default()
    };
    let log = LogConfig {
        segment_bytes: 64 << 10,
        retention,
        retention_interval_secs: 1,
        ..LogConfig::default()
    };
    let lake = Lake::new(quiet(), log);
    let table = lake.open().await;
    // Their times are ahead of every clock: they are at or after any time to replay from.
    let ahead = DAY_START_MICROS + 36_500 * DAY_MICROS;
    let at = TopicPartition::new(topic::LOGS_CRITICAL, 0);
    let mut sent = 0;
    let start = Instant::now();
    while lake.log.offsets(at.clone()).unwrap().start == 0 {
        assert!(start.elapsed() < PATIENCE);
        lake.log.append(at.clone(), events(sent, 1_000, ahead)).await.unwrap();
        sent += 1_000;
        table.flush().await.unwrap();
    }
    let (version, there) = (table.version(), files(&table));
    let Err(LakeError::LogBegins { begins_micros, .. }) = table.replay(0, false).await else {
        panic!("the log does not begin at the epoch");
    };
    let later = table.replay(begins_micros - 1, false).await;
    let error = later.expect_err("the log begins later").to_string();
    assert!(error.contains("the log begins at 2") && error.contains("logs.critical/0"), "{error}");

    // Retention may go on; then a later time is told, of which the same is true.
    let mut from = begins_micros;
    let replay = loop {
        match table.replay(from, false).await {
            Ok(replay) => break replay,
            Err(LakeError::LogBegins { begins_micros, .. }) => from = begins_micros,
            Err(error) => panic!("{error}"),
        }
    };
    let error = replay.ended().await.expect_err("rows would be lost");
    let LakeError::FewerRows { before, found, .. } = *error else { panic!("{error}") };
    assert_eq!(before, sent);
    assert!(found < sent, "{found} of {sent}");
    assert_eq!((table.version(), files(&table)), (version, there));
    assert_eq!(count(&session(&table)).await, sent as i64);

    table.replay(from, true).await.unwrap().ended().await.unwrap();
    let left = count(&session(&table)).await as u64;
    assert!((1..=found).contains(&left), "{left} of {found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_cut_off_leaves_the_table_as_it_was() {
    // Too few files to be merged when the table is opened.
    let config = LakeConfig { compaction_min_files: 100, ..small() };
    let lake = Lake::new(config, LogConfig::default());
    let table = lake.open().await;
    for part in 0..6 {
        lake.append(part * 150, 150, DAY_START_MICROS + part as i64 * SECOND_MICROS).await;
    }
    table.flush().await.unwrap();
    let (version, there) = (table.version(), files(&table));
    table.shutdown().await;
    let from = DAY_START_MICROS + 10_000;
    for is_abort in [false, true] {
        let table = lake.open().await;
        lake.log.allow_reads(2);
        let replay = table.replay(from, false).await.unwrap();
        until(&replay, |_| files(&table).len() > there.len()).await;
        assert!(matches!(table.replay(from, false).await, Err(LakeError::Replaying(_))));
        assert!(replay.outcome().is_none(), "{replay:?}");
        if is_abort {
            drop(table);
        } else {
            let stopping = Instant::now();
            table.shutdown().await;
            assert!(stopping.elapsed() < Duration::from_secs(5), "{:?}", stopping.elapsed());
        }
        let outcome = replay.ended().await;
        assert!(matches!(*outcome.unwrap_err(), LakeError::CutOff));
        lake.log.allow_all_reads();
        let table = lake.open().await;
        until(&replay, |_| files(&table) == there).await;
        assert_eq!(table.version(), version);
        assert_eq!(count(&session(&table)).await, 900);
    }
    let table = lake.open().await;
    replayed(&table, from).await.unwrap();
    assert_eq!(table.version(), version + 1);
    assert_eq!(count(&session(&table)).await, 900);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_does_not_answer_is_waited_for() {
    let lake = Lake::new(quiet(), LogConfig::default());
    let table = lake.open().await;
    lake.append(0, 100, DAY_START_MICROS).await;
    table.flush().await.unwrap();
    lake.log.fail_reads(2);
    let replay = table.replay(DAY_START_MICROS, false).await.unwrap();
    until(&replay, |replay| replay.progress().fault.is_some()).await;
    let progress = replay.progress();
    assert_eq!((progress.rows, progress.lag), (0, Some(100)));
    assert!(progress.fault.unwrap().contains("injected"));
    replay.ended().await.unwrap();
    let progress = replay.progress();
    assert_eq!((progress.rows, progress.lag, progress.fault), (100, Some(0), None));
    assert_eq!(count(&session(&table)).await, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_version_before_can_be_travelled_back_to() {
    let lake = Lake::new(quiet(), LogConfig::default());
    let table = lake.open().await;
    lake.append(0, 100, DAY_START_MICROS).await;
    table.flush().await.unwrap();
    let (version, former) = (table.version(), files(&table));
    let long_ago = SystemTime::now() - Duration::from_secs(86_400);
    for file in &former {
        std::fs::File::open(file).unwrap().set_modified(long_ago).unwrap();
    }
    replayed(&table, DAY_START_MICROS + 50_000).await.unwrap();
    table.maintain(chrono::Utc::now().timestamp_millis()).await.unwrap();
    assert!(files(&table).is_superset(&former));
    let url = deltalake::ensure_table_uri(table.path().to_str().unwrap()).unwrap();
    let before = deltalake::open_table_with_version(url, version).await.unwrap();
    let session = datafusion::prelude::SessionContext::new();
    session.register_table("logs", before.table_provider().await.unwrap()).unwrap();
    assert_eq!(number(&session, "SELECT count(message) FROM logs").await, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_neither_merged_nor_deleted_during_a_replay() {
    let config = LakeConfig { retention_days: 2, ..small() };
    let lake = Lake::new(config, LogConfig::default());
    let table = lake.open().await;
    for part in 0..8 {
        lake.append(part * 60, 60, DAY_START_MICROS + part as i64 * SECOND_MICROS).await;
        table.flush().await.unwrap();
    }
    let stray = table.path().join(date(0)).join("sorted-stray.parquet");
    std::fs::write(&stray, b"of a crash").unwrap();
    let there = files(&table);
    // Everything is old, and old enough to be deleted, by then.
    let later = chrono::Utc::now().timestamp_millis() + 3_600_000;
    let much_later = (DAY_START_MICROS + 10 * DAY_MICROS).max(later * 1_000) / 1_000;

    lake.log.allow_reads(2);
    let replay = table.replay(DAY_START_MICROS + 10_000, false).await.unwrap();
    until(&replay, |_| files(&table).len() > there.len()).await;
    let during = files(&table);
    assert_eq!(table.maintain(much_later).await.unwrap(), Maintained::default());
    assert!(files(&table).is_superset(&during), "staged files and the stray one are there");
    lake.log.allow_all_reads();
    replay.ended().await.unwrap();
    assert_eq!(count(&session(&table)).await, 480);

    // Each needs what the other two leave: merges first, then deletion, then retention.
    let done = table.maintain(DAY_START_MICROS / 1_000).await.unwrap();
    assert!(done.compactions > 0, "{done:?}");
    let done = table.maintain(later.min(DAY_START_MICROS / 1_000 + 3 * 86_400_000)).await;
    done.unwrap();
    let done = table.maintain(much_later).await.unwrap();
    assert!(done.files_expired > 0 && !stray.exists(), "{done:?}");
    assert_eq!(number(&session(&table), "SELECT count(*) FROM logs").await, 0);
}
