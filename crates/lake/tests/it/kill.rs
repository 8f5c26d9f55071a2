//! `kill -9` of a real process, with the real log, at moments nobody chose.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use tempfile::TempDir;
use thalweg_event::schema::topic;
use thalweg_lake::{LakeConfig, LakeTable, TableSpec};
use thalweg_log::{EmbeddedLog, Log, LogConfig, TopicConfig, TopicPartition};
use tokio::runtime::Runtime;

use crate::events::{DAY_START_MICROS, count, events, quiet, rows, session};

const DIRECTORY: &str = "THALWEG_LAKE_KILL_DIRECTORY";
const ROUND: &str = "THALWEG_LAKE_KILL_ROUND";
/// Rounds number their events from multiples of this.
const ROUND_EVENTS: u64 = 1_000_000;
const BATCH_ROWS: usize = 500;

fn open_log(directory: &Path) -> Arc<dyn Log> {
    let config = LogConfig {
        directory: directory.join("log"),
        topics: vec![
            TopicConfig::new(topic::LOGS_CRITICAL, 1),
            TopicConfig::new(topic::LOGS_ROUTINE, 2),
        ],
        ..LogConfig::default()
    };
    Arc::new(EmbeddedLog::open(config).unwrap().0)
}

async fn open_table(directory: &Path, log: Arc<dyn Log>) -> Arc<LakeTable> {
    let config = LakeConfig {
        flush_interval_ms: 20,
        flush_rows: 3 * BATCH_ROWS,
        maintenance_interval_secs: 1,
        compaction_min_files: 4,
        checkpoint_commits: 5,
        ..quiet()
    };
    LakeTable::open(&directory.join("logs"), TableSpec::logs(), config, log).await.unwrap()
}

/// The process that is killed: appends for ever and prints how many rows are acknowledged.
#[test]
#[ignore = "run by a_process_killed_at_any_moment_loses_and_repeats_nothing"]
fn appends_until_it_is_killed() {
    let (Ok(directory), Ok(round)) = (std::env::var(DIRECTORY), std::env::var(ROUND)) else {
        return;
    };
    let first = round.parse::<u64>().unwrap() * ROUND_EVENTS;
    Runtime::new().unwrap().block_on(async {
        let log = open_log(Path::new(&directory));
        let _table = open_table(Path::new(&directory), Arc::clone(&log)).await;
        for batch in 0..ROUND_EVENTS / BATCH_ROWS as u64 {
            let at = TopicPartition::new(topic::LOGS_ROUTINE, (batch % 2) as u32);
            let start = first + batch * BATCH_ROWS as u64;
            log.append(at, events(start, BATCH_ROWS, DAY_START_MICROS)).await.unwrap();
            println!("acknowledged {}", (batch + 1) * BATCH_ROWS as u64);
        }
    });
}

#[test]
fn a_process_killed_at_any_moment_loses_and_repeats_nothing() {
    let directory = TempDir::new().unwrap();
    let mut acknowledged = vec![];
    for round in 0..6_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["kill::appends_until_it_is_killed", "--exact", "--ignored", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let counter = std::thread::spawn(move || {
            let counts = lines.map_while(Result::ok);
            counts.filter_map(|line| line.strip_prefix("acknowledged ")?.parse().ok()).max()
        });
        std::thread::sleep(Duration::from_millis(1_500 + round * 271));
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged.push(counter.join().unwrap().unwrap_or(0_i64));
    }
    assert!(acknowledged.iter().filter(|&&count| count > 0).count() > 3, "{acknowledged:?}");
    Runtime::new().unwrap().block_on(async {
        let log = open_log(directory.path());
        let table = open_table(directory.path(), log).await;
        let session = session(&table);
        for _ in 0..2 {
            let all = count(&session).await;
            let sql = format!(
                "SELECT n / {ROUND_EVENTS} AS round, count(*) AS events, max(n % {ROUND_EVENTS}) AS last \
                 FROM (SELECT arrow_cast(substr(event_id, 7), 'Int64') AS n FROM logs) GROUP BY round"
            );
            let mut total = 0;
            for batch in rows(&session, &sql).await {
                let column = |index: usize| batch.column(index).as_primitive::<Int64Type>().clone();
                let (rounds, events, last) = (column(0), column(1), column(2));
                for row in 0..batch.num_rows() {
                    assert!(events.value(row) >= acknowledged[rounds.value(row) as usize]);
                    assert_eq!(events.value(row), last.value(row) + 1, "a batch is there in full");
                    total += events.value(row);
                }
            }
            assert!(total >= acknowledged.iter().sum::<i64>());
            assert_eq!(total, all);
            table.flush().await.unwrap();
        }
    });
}
