//! A disk that takes nothing.

use std::{fs, sync::Arc, time::Duration};

use chrono::Utc;
use thalweg_alert::{AlertError, NewSilence, State};

use crate::{
    node::{Disk, Table, start, until},
    webhook::{Server, yaml},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_are_told_though_the_state_cannot_be_written_and_a_silence_is_refused() {
    let (server, address) = Server::start(&[]).await;
    let (disk, table) = (Disk::new(), Table::of(&[]));
    let alerts = disk.start(&yaml(&[("ops", address)], ""), &table).await;
    // Nothing can be renamed over a directory that holds something.
    let _ = fs::remove_file(disk.state().join("alerts.json"));
    fs::create_dir_all(disk.state().join("alerts.json/full")).unwrap();
    let new = NewSilence {
        matchers: ["service=payment".parse().unwrap()].into_iter().collect(),
        starts_at: None,
        ends_at: Utc::now() + Duration::from_secs(60),
        comment: String::new(),
    };
    let refused = alerts.silence(new, "ann").await.unwrap_err();
    assert!(matches!(refused, AlertError::Io { .. }), "{refused}");
    table.set(&[("payment", 0.5)]);
    let snapshot = until(&alerts, "payment", Some(State::Firing)).await;
    assert_eq!(snapshot.alerts[0].silenced_by, [""; 0]);
    server.wait_for(1).await;
    alerts.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_state_is_an_error_that_says_what_to_do() {
    let (disk, table) = (Disk::new(), Table::of(&[]));
    start("{}", Arc::new(table.clone()), disk.log.clone(), &disk.state()).await.stop().await;
    fs::write(disk.state().join("alerts.json"), "{\"version\":1").unwrap();
    let started = thalweg_alert::Alerts::start(
        Default::default(),
        Arc::new(table),
        disk.log.clone(),
        &disk.state(),
    );
    let error = started.err().unwrap().to_string();
    assert!(error.contains("alerts.json is no state") && error.contains("delete it"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_starts_though_what_detectors_learned_is_damaged() {
    let (disk, table) = (Disk::new(), Table::of(&[("payment", 0.5)]));
    fs::create_dir_all(disk.state()).unwrap();
    fs::write(disk.state().join("detectors.json"), "{\"version\":1,\"state\":null}").unwrap();
    let alerts = disk.start("alerts: [{name: Errors, query: SELECT}]", &table).await;
    until(&alerts, "payment", Some(State::Firing)).await;
    alerts.stop().await;
    assert!(disk.state().join("detectors.json.unreadable").exists());
}
