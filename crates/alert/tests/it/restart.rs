//! What a restart changes: nothing.

use std::{sync::Arc, time::Duration};

use thalweg_alert::{ALERTS, State};

use crate::{
    node::{Disk, Table, eventually, start, until},
    webhook::{Behaviour, Server, yaml},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_firing_alert_goes_on_and_nobody_is_told_twice() {
    let (server, address) = Server::start(&[]).await;
    let (disk, table) = (Disk::new(), Table::of(&[("payment", 0.5)]));
    let yaml = yaml(&[("ops", address)], "");
    let alerts = disk.start(&yaml, &table).await;
    server.wait_for(1).await;
    let started = until(&alerts, "payment", Some(State::Firing)).await.alerts[0].alert.starts_at;
    // The worker has to say that it is done.
    tokio::time::sleep(Duration::from_millis(700)).await;
    alerts.stop().await;

    // The tables have to catch up after the start: for a while there is no row.
    table.set(&[]);
    let alerts = disk.start(&yaml, &table).await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(
        until(&alerts, "payment", Some(State::Firing)).await.alerts[0].alert.starts_at,
        started
    );
    table.set(&[("payment", 0.5)]);
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(server.received().len(), 1);
    table.set(&[]);
    assert_eq!(server.wait_for(2).await[1].body["status"], "resolved");
    alerts.stop().await;
    assert_eq!(disk.rows(ALERTS, &["state"]).await, [["firing"], ["resolved"]]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notification_under_way_is_sent_by_the_next_start() {
    let (server, address) = Server::start(&[Behaviour::Hang]).await;
    let (disk, table) = (Disk::new(), Table::of(&[("payment", 0.5)]));
    let yaml = yaml(&[("ops", address)], "").replace("timeout: 1s", "timeout: 60s");
    let alerts = disk.start(&yaml, &table).await;
    server.wait_for(1).await;
    alerts.stop().await;
    let alerts = disk.start(&yaml, &table).await;
    let received = server.wait_for(2).await;
    assert_eq!(received[0].body, received[1].body);
    alerts.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_of_a_rule_that_is_gone_are_resolved() {
    let (server, address) = Server::start(&[]).await;
    let (disk, table) = (Disk::new(), Table::of(&[("payment", 0.5)]));
    let yaml = yaml(&[("ops", address)], "");
    let alerts = disk.start(&yaml, &table).await;
    server.wait_for(1).await;
    alerts.stop().await;
    let alerts = disk.start(&yaml.replace("name: Errors", "name: Other"), &Table::of(&[])).await;
    let received = eventually("an end", async || {
        let received = server.received();
        received.last().is_some_and(|last| last.body["status"] == "resolved").then_some(received)
    })
    .await;
    assert_eq!(received.last().unwrap().body["alerts"][0]["labels"]["alertname"], "Errors");
    alerts.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whenever_the_program_is_killed_its_state_can_be_read() {
    let (disk, table) = (Disk::new(), Table::of(&[]));
    // Something is always about to be written.
    let rules: Vec<String> =
        (0..20).map(|n| format!("{{name: R{n}, query: SELECT, every: 1s}}")).collect();
    let alerts = disk.start(&format!("alerts: [{}]", rules.join(", ")), &table).await;
    let mut read = 0;
    for n in 0..30 {
        table.set(if n % 2 == 0 { &[("payment", 0.5), ("cart", 0.1)] } else { &[] });
        tokio::time::sleep(Duration::from_millis(40)).await;
        let copy = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(disk.state()).unwrap() {
            let path = entry.unwrap().path();
            // It may be renamed just now.
            let _ = std::fs::copy(&path, copy.path().join(path.file_name().unwrap()));
        }
        read += usize::from(copy.path().join("alerts.json").exists());
        let killed = start("{}", Arc::new(table.clone()), disk.log.clone(), copy.path()).await;
        killed.stop().await;
    }
    assert!(read > 10, "{read}");
    alerts.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_configuration_goes_on_with_the_state_as_it_is() {
    let (server, address) = Server::start(&[]).await;
    let (disk, table) = (Disk::new(), Table::of(&[("payment", 0.5)]));
    let config = yaml(&[("ops", address)], "");
    let alerts = disk.start(&config, &table).await;
    server.wait_for(1).await;
    let started = until(&alerts, "payment", Some(State::Firing)).await.alerts[0].alert.starts_at;
    tokio::time::sleep(Duration::from_millis(700)).await;
    let more = config.replace("alerts:", "anomalies: []\nalerts:");
    alerts.reload(serde_saphyr::from_str(&more).unwrap()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let snapshot = until(&alerts, "payment", Some(State::Firing)).await;
    assert_eq!(snapshot.alerts[0].alert.starts_at, started);
    assert_eq!(server.received().len(), 1);
    alerts.check().unwrap();
    alerts.stop().await;
    assert!(alerts.check().is_err());
}
