//! Programs that are started.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use serde_json::Value;
use thalweg_alert::{State, UNDELIVERED};

use crate::node::{Disk, Table, eventually, until};

/// Alerts that start a shell script of the test's in a directory.
fn yaml(directory: &Path, script: &str) -> String {
    let path = directory.join("page.sh");
    fs::write(&path, script).unwrap();
    format!(
        "alerts: [{{name: Errors, query: SELECT, every: 1s}}]\n\
         alerting:\n  receivers:\n    - name: script\n      \
         retry: {{first: 300ms, longest: 300ms, give_up_after: 1500ms}}\n      \
         command: {{program: /bin/sh, arguments: ['{}'], environment: {{OUT: '{}'}}, timeout: 1s}}\n  \
         routes: [{{receivers: [script], group_wait: 0s}}]\n",
        path.display(),
        directory.display(),
    )
}

async fn undelivered(disk: &Disk) -> Vec<Vec<String>> {
    eventually("a row in undelivered", async || {
        Some(disk.rows(UNDELIVERED, &["tries", "reason"]).await).filter(|rows| !rows.is_empty())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_gets_the_alerts_on_its_input_and_nothing_of_our_environment() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, table) = (Disk::new(), Table::of(&[("$(touch /tmp/x); \"'`", 0.5)]));
    let script = "cat > \"$OUT/in.new\"; env > \"$OUT/env\"; mv \"$OUT/in.new\" \"$OUT/in\"";
    let alerts = disk.start(&yaml(directory.path(), script), &table).await;
    let input = eventually("input", async || fs::read(directory.path().join("in")).ok()).await;
    let input: Value = serde_json::from_slice(&input).unwrap();
    assert_eq!(input["alerts"][0]["labels"]["service"], "$(touch /tmp/x); \"'`");
    let environment = fs::read_to_string(directory.path().join("env")).unwrap();
    let mut names: Vec<&str> =
        environment.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    names.retain(|name| !["PWD", "OLDPWD", "_", "SHLVL"].contains(name));
    names.sort_unstable();
    assert_eq!(names, ["OUT", "PATH"]);
    alerts.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_fails_is_started_again_and_given_up_in_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, table) = (Disk::new(), Table::of(&[("cart", 0.5)]));
    let script = "echo x >> \"$OUT/tries\"; echo 'no modem' >&2; exit 3";
    let alerts = disk.start(&yaml(directory.path(), script), &table).await;
    let rows = undelivered(&disk).await;
    let tries = fs::read_to_string(directory.path().join("tries")).unwrap().lines().count();
    assert!(tries >= 2, "{tries}");
    assert_eq!(rows, [[tries.to_string(), "ended with exit status: 3: no modem".to_owned()]]);
    alerts.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_hangs_is_killed_with_all_that_it_started() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, table) = (Disk::new(), Table::of(&[("cart", 0.5)]));
    let script = "sleep 600 & echo $! >> \"$OUT/pids\"; echo $$ >> \"$OUT/pids\"; wait";
    let alerts = disk.start(&yaml(directory.path(), script), &table).await;
    let rows = undelivered(&disk).await;
    assert_eq!(rows[0][1], "no answer within 1s");
    alerts.stop().await;
    let pids = fs::read_to_string(directory.path().join("pids")).unwrap();
    for pid in pids.lines() {
        eventually(&format!("end of {pid}"), async || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // What it started is reaped by the system's first process, if that does so.
            let is_zombie = stat.contains(") Z ");
            (stat.is_empty() || (is_zombie && stat.contains("(sleep)"))).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_leaves_another_behind_does_not_hold_us_up() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, table) = (Disk::new(), Table::of(&[("cart", 0.5)]));
    let script = "sleep 30 & echo done >> \"$OUT/done\"";
    let yaml = yaml(directory.path(), script).replace("timeout: 1s", "timeout: 60s");
    let done = directory.path().join("done");
    let alerts = disk.start(&yaml, &table).await;
    eventually("the program", async || fs::read(&done).ok()).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    alerts.stop().await;
    // What is not done with would be told again.
    let alerts = disk.start(&yaml, &table).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    alerts.stop().await;
    assert_eq!(fs::read_to_string(done).unwrap(), "done\n");
    assert_eq!(disk.rows(UNDELIVERED, &["reason"]).await, Vec::<Vec<String>>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_just_being_replaced_is_started_once_it_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, table) = (Disk::new(), Table::of(&[("cart", 0.5)]));
    let yaml = yaml(directory.path(), "#!/bin/sh\necho done > \"$OUT/done\"\n");
    let path = directory.path().join("page.sh");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let program = format!("program: '{}', arguments: []", path.display());
    let arguments = format!("program: /bin/sh, arguments: ['{}']", path.display());
    let yaml =
        yaml.replace(&arguments, &program).replace("give_up_after: 1500ms", "give_up_after: 1h");
    // The system starts no program that somebody writes to.
    let writing = fs::File::options().append(true).open(&path).unwrap();
    let alerts = disk.start(&yaml, &table).await;
    until(&alerts, "cart", Some(State::Firing)).await;
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    assert!(!directory.path().join("done").exists());
    drop(writing);
    eventually("the program", async || fs::read(directory.path().join("done")).ok()).await;
    alerts.stop().await;
    assert_eq!(disk.rows(UNDELIVERED, &["reason"]).await, Vec::<Vec<String>>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_not_there_is_not_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let (disk, table) = (Disk::new(), Table::of(&[("cart", 0.5)]));
    let yaml = yaml(directory.path(), "").replace("/bin/sh", "/nonexistent/program");
    let alerts = disk.start(&yaml, &table).await;
    let rows = undelivered(&disk).await;
    assert_eq!(&*rows[0][0], "1");
    assert!(rows[0][1].contains("/nonexistent/program cannot be started"), "{rows:?}");
    alerts.stop().await;
}
