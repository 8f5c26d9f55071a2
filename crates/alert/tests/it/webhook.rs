//! Delivery to a real HTTP server that misbehaves.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::State as Held,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::post,
};
use parking_lot::Mutex;
use serde_json::Value;
use thalweg_alert::{State, UNDELIVERED};

use crate::node::{Disk, Table, eventually, until};

/// How a server answers one request.
#[derive(Clone, Copy)]
pub(crate) enum Behaviour {
    Accept,
    Refuse(u16),
    RetryAfter(u64),
    Hang,
}

/// A request that was received.
#[derive(Clone)]
pub(crate) struct Received {
    pub(crate) at: Instant,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

/// A receiver: answers as told, in turn, and then accepts everything.
#[derive(Clone, Default)]
pub(crate) struct Server {
    behaviours: Arc<Mutex<Vec<Behaviour>>>,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Server {
    pub(crate) async fn start(behaviours: &[Behaviour]) -> (Self, SocketAddr) {
        let server = Self::default();
        *server.behaviours.lock() = behaviours.iter().rev().copied().collect();
        let routes = Router::new().route("/hook", post(receive)).with_state(server.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (server, address)
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().clone()
    }

    /// Waits for this many requests.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Received> {
        eventually(&format!("{count} requests"), async || {
            let received = self.received();
            (received.len() >= count).then_some(received)
        })
        .await
    }
}

async fn receive(Held(server): Held<Server>, headers: HeaderMap, body: Bytes) -> Response {
    let body = serde_json::from_slice(&body).unwrap();
    server.received.lock().push(Received { at: Instant::now(), headers, body });
    let behaviour = server.behaviours.lock().pop().unwrap_or(Behaviour::Accept);
    match behaviour {
        Behaviour::Accept => StatusCode::OK.into_response(),
        Behaviour::Refuse(status) => {
            (StatusCode::from_u16(status).unwrap(), "because\nof this").into_response()
        }
        Behaviour::RetryAfter(secs) => {
            (StatusCode::TOO_MANY_REQUESTS, [("retry-after", secs.to_string())]).into_response()
        }
        Behaviour::Hang => std::future::pending().await,
    }
}

/// A rule, and receivers by webhook.
pub(crate) fn yaml(receivers: &[(&str, SocketAddr)], more: &str) -> String {
    let receiver = |(name, address): &(&str, SocketAddr)| {
        format!(
            "    - name: {name}\n      webhook: {{url: 'http://{address}/hook', timeout: 1s}}\n      \
             retry: {{first: 300ms, longest: 300ms, give_up_after: 8s}}\n"
        )
    };
    let names: Vec<&str> = receivers.iter().map(|(name, _)| *name).collect();
    format!(
        "alerts:\n  - {{name: Errors, query: SELECT, every: 1s, severity: critical,\n     \
         annotations: {{summary: '{{{{ service }}}} fails: {{{{ value }}}}'}}}}\n\
         alerting:\n  external_url: https://thalweg.example\n  restart_grace: 1500ms\n  receivers:\n{}  \
         routes:\n    - {{receivers: [{}], group_wait: 0s, group_interval: 1s{more}}}\n",
        receivers.iter().map(receiver).collect::<String>(),
        names.join(", "),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_is_told_of_what_fires_and_of_its_end() {
    let (server, address) = Server::start(&[]).await;
    let (disk, table) = (Disk::new(), Table::of(&[("payment", 0.5)]));
    let alerts = disk.start(&yaml(&[("ops", address)], ""), &table).await;

    let body = server.wait_for(1).await[0].body.clone();
    assert_eq!((&body["version"], &body["status"]), (&"4".into(), &"firing".into()));
    assert_eq!(body["receiver"], "ops");
    assert_eq!(body["externalURL"], "https://thalweg.example");
    assert_eq!(body["groupLabels"], serde_json::json!({"alertname": "Errors"}));
    let alert = &body["alerts"][0];
    assert_eq!(alert["labels"]["service"], "payment");
    assert_eq!(alert["annotations"]["summary"], "payment fails: 0.5");
    assert_eq!(alert["endsAt"], "0001-01-01T00:00:00Z");

    table.set(&[]);
    let body = server.wait_for(2).await[1].body.clone();
    assert_eq!(body["status"], "resolved");
    assert_eq!(body["alerts"][0]["fingerprint"], alert["fingerprint"]);
    assert_eq!(body["alerts"][0]["startsAt"], alert["startsAt"]);
    assert!(body["alerts"][0]["endsAt"].as_str() > alert["startsAt"].as_str());
    alerts.stop().await;

    let rows = disk.rows(thalweg_alert::ALERTS, &["alert", "service", "state", "severity"]).await;
    assert_eq!(
        rows,
        [
            ["Errors", "payment", "firing", "critical"],
            ["Errors", "payment", "resolved", "critical"],
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_is_busy_is_asked_again_when_it_says() {
    let behaviours = [Behaviour::Refuse(503), Behaviour::RetryAfter(2), Behaviour::Hang];
    let (server, address) = Server::start(&behaviours).await;
    let (disk, table) = (Disk::new(), Table::of(&[("payment", 0.5)]));
    let alerts = disk.start(&yaml(&[("ops", address)], ""), &table).await;
    let received = server.wait_for(4).await;
    let waited = received[2].at - received[1].at;
    assert!(waited >= Duration::from_millis(1_950), "{waited:?}");
    let hung = received[3].at - received[2].at;
    assert!(hung >= Duration::from_millis(950), "{hung:?}");
    for one in &received {
        assert_eq!(one.body, received[0].body, "each try says the same");
    }
    alerts.stop().await;
    assert_eq!(disk.rows(UNDELIVERED, &["reason"]).await, Vec::<Vec<String>>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_for_good_goes_to_the_table_and_is_told_at_the_next_interval() {
    let (server, address) = Server::start(&[Behaviour::Refuse(400)]).await;
    let (disk, table) = (Disk::new(), Table::of(&[("payment", 0.5)]));
    let alerts = disk.start(&yaml(&[("ops", address)], ""), &table).await;
    let rows = eventually("a row in undelivered", async || {
        let columns = ["receiver", "status", "reason", "tries", "alerts"];
        Some(disk.rows(UNDELIVERED, &columns).await).filter(|rows| !rows.is_empty())
    })
    .await;
    let reason = "answered 400 Bad Request: because of this";
    assert_eq!(rows, [["ops", "firing", reason, "1", "1"]]);
    let received = server.wait_for(2).await;
    assert_eq!(received[1].body, received[0].body);
    let waited = received[1].at - received[0].at;
    assert!(waited >= Duration::from_millis(900), "{waited:?}");
    alerts.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_hangs_holds_up_neither_the_rules_nor_the_others() {
    let (hanging, hangs_at) = Server::start(&[Behaviour::Hang; 100]).await;
    let (server, address) = Server::start(&[]).await;
    let (disk, table) = (Disk::new(), Table::of(&[("payment", 0.5)]));
    let yaml = yaml(&[("hangs", hangs_at), ("ops", address)], ", group_by: [service]");
    let alerts = disk.start(&yaml, &table).await;
    hanging.wait_for(1).await;
    server.wait_for(1).await;
    let begun = Instant::now();
    table.set(&[("payment", 0.5), ("cart", 0.4)]);
    until(&alerts, "cart", Some(State::Firing)).await;
    let received = server.wait_for(2).await;
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(received[1].body["alerts"][0]["labels"]["service"], "cart");
    let hanging = hanging.wait_for(2).await;
    let told = |service: &str| {
        hanging.iter().any(|one| one.body["alerts"][0]["labels"]["service"] == service)
    };
    assert!(told("payment"), "and it is tried with other groups meanwhile");
    alerts.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_that_are_refused_for_long_do_not_hold_up_others() {
    let (server, address) = Server::start(&[Behaviour::Refuse(500); 1_000]).await;
    let services = ["a", "b", "c", "d", "e", "f"];
    let (disk, table) = (Disk::new(), Table::of(&services.map(|service| (service, 0.5))));
    let yaml = yaml(&[("ops", address)], ", group_by: [service]")
        .replace("give_up_after: 8s", "give_up_after: 1h");
    let alerts = disk.start(&yaml, &table).await;
    eventually("a try for each group", async || {
        let received = server.received();
        let named = received.iter().map(|one| one.body["alerts"][0]["labels"]["service"].as_str());
        let named: BTreeSet<_> = named.flatten().map(str::to_owned).collect();
        (named.len() == services.len()).then_some(())
    })
    .await;
    alerts.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_sent_and_read_anew_for_each_message() {
    let (server, address) = Server::start(&[Behaviour::Refuse(500); 1_000]).await;
    let (disk, table) = (Disk::new(), Table::of(&[("payment", 0.5)]));
    std::fs::create_dir_all(disk.state()).unwrap();
    let token = disk.state().join("token");
    std::fs::write(&token, "first\n").unwrap();
    let yaml = yaml(&[("ops", address)], "")
        .replace("timeout: 1s", &format!("bearer_token: 'file:{}'", token.display()));
    let alerts = disk.start(&yaml, &table).await;
    server.wait_for(1).await;
    std::fs::write(&token, "second").unwrap();
    let sent = |n: usize| server.received().get(n)?.headers.get("authorization").cloned();
    assert_eq!(sent(0).unwrap(), "Bearer first");
    eventually("a try with the new token", async || {
        let count = server.received().len();
        (0..count).any(|n| sent(n).is_some_and(|token| token == "Bearer second")).then_some(())
    })
    .await;
    alerts.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chat_is_told_of_the_cause_and_not_of_what_it_explains() {
    let (server, address) = Server::start(&[]).await;
    let (disk, table) = (Disk::new(), Table::of(&[("payment", 0.5)]));
    let yaml = format!(
        "alerts:\n  - {{name: Down, query: SELECT, every: 1s, severity: critical}}\n  \
         - {{name: Slow, query: SELECT, every: 1s}}\n\
         alerting:\n  receivers: [{{name: chat, slack: {{url: 'http://{address}/hook'}}}}]\n  \
         routes: [{{receivers: [chat], group_by: [], group_wait: 1s}}]\n  \
         inhibit: [{{source: [severity=critical], target: [severity=warning], equal: [service]}}]\n"
    );
    let alerts = disk.start(&yaml, &table).await;
    let message = server.wait_for(1).await[0].body.clone();
    assert_eq!(message["text"], "*[FIRING:1] Down*");
    let attachments = message["attachments"].as_array().unwrap();
    assert_eq!(attachments.len(), 1);
    let text = attachments[0]["text"].as_str().unwrap();
    assert!(text.contains("service=\"payment\""), "{text}");
    let snapshot = alerts.snapshot();
    let slow = snapshot.alerts.iter().find(|shown| shown.alert.name() == "Slow").unwrap();
    assert_eq!((slow.alert.state, slow.inhibited_by.len()), (State::Firing, 1));
    alerts.stop().await;
}
