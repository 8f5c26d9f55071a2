//! `kill -9` of a process that appends.

use std::{
    env,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use thalweg_log::Log;

use crate::rows::*;

const DIRECTORY: &str = "THALWEG_LOG_CRASH_TEST";

#[tokio::test]
async fn kill_9_loses_nothing_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 0..6 {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "crash::appends_until_killed", "--nocapture", "--include-ignored"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut started = None;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let before = acknowledged;
        for line in lines.by_ref() {
            let Some(end) =
                line.unwrap().strip_prefix("acknowledged ").map(|end| end.parse().unwrap())
            else {
                continue;
            };
            acknowledged = end;
            let started = started.get_or_insert_with(Instant::now);
            if started.elapsed() > Duration::from_millis(60 + 37 * round) {
                break;
            }
        }
        child.kill().unwrap();
        // What it had said before it died counts as well.
        for line in lines {
            if let Some(end) = line.unwrap().strip_prefix("acknowledged ") {
                acknowledged = end.parse().unwrap_or(acknowledged);
            }
        }
        child.wait().unwrap();
        assert!(acknowledged > before);

        let (log, report) = open(directory.path());
        assert_eq!(report.losses, []);
        let end = log.offsets(at()).unwrap().end;
        assert!(end >= acknowledged, "{end} of {acknowledged}");
        assert_eq!(readable(&log).await, all(end));
        acknowledged = end;
    }
}

/// The child of the test above.
#[tokio::test]
#[ignore = "is killed by another test"]
async fn appends_until_killed() {
    let Some(directory) = env::var_os(DIRECTORY) else { return };
    let (log, _) = open(directory.as_ref());
    let mut random = fastrand::Rng::new();
    loop {
        let end = append(&log, random.usize(1..500), 60).await.unwrap();
        println!("acknowledged {end}");
    }
}
