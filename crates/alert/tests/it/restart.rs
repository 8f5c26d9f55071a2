//! What a restart changes: nothing.

use std::time::Duration;

use thalweg_alert::{ALERTS, State};

use crate::{
    node::{Disk, Table, eventually, until},
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
    tokio::time::sleep(Duration::from_millis(1_500)).await;
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
