//! Alerts and silences over HTTP, behind a gate.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{Method, Request},
};
use chrono::Utc;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use thalweg_access::{Access, Gate, NewToken, Scope, Token, TokenFile};
use thalweg_alert::{Alerts, State};
use tower_service::Service as _;

use crate::{
    node::{Disk, Table, eventually, until},
    webhook::{Server, yaml},
};

const RULE: &str = "alerts: [{name: Errors, query: SELECT, every: 1s, severity: critical}]";

/// Routes behind a gate, and tokens to pass it.
struct Api {
    _directory: tempfile::TempDir,
    file: TokenFile,
    access: Arc<Access>,
    routes: Router,
}

impl Api {
    fn new(alerts: &Arc<Alerts>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = TokenFile::in_directory(directory.path());
        let access = Access::open(file.clone()).unwrap();
        let gate = Gate::new(access.clone(), [127, 0, 0, 1].into());
        let routes = gate.protect(thalweg_alert::http::router(alerts.clone()), Some(Scope::Query));
        Self { _directory: directory, file, access, routes }
    }

    fn token(&self, name: &str, scope: Scope, services: Option<&[&str]>) -> Token {
        let services = services.map(|names| names.iter().map(|name| name.to_string()).collect());
        let scopes = [scope].into_iter().collect();
        let token = self.file.create(NewToken { name: name.into(), scopes, services }).unwrap();
        self.access.reload_if_changed().unwrap();
        token
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        token: Option<&Token>,
        body: Option<Value>,
    ) -> (u16, Value) {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map_or(Body::empty(), |body| body.to_string().into());
        let mut request = request.body(body).unwrap();
        let client: SocketAddr = "127.0.0.1:9".parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(client));
        let response = self.routes.clone().call(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn get(&self, path: &str, token: Option<&Token>) -> Value {
        let (status, body) = self.ask(Method::GET, path, token, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }
}

fn services(answer: &Value) -> Vec<&str> {
    let alerts = answer["alerts"].as_array().unwrap();
    alerts.iter().map(|alert| alert["service"].as_str().unwrap_or_default()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerts_are_listed_and_filtered() {
    let (disk, table) = (Disk::new(), Table::of(&[("cart", 0.25), ("payment", 0.5)]));
    let alerts = disk.start(RULE, &table).await;
    let api = Api::new(&alerts);
    until(&alerts, "payment", Some(State::Firing)).await;
    table.set(&[("payment", 0.5)]);
    until(&alerts, "cart", Some(State::Resolved)).await;

    let all = api.get("/api/v1/alerts", None).await;
    assert_eq!(services(&all), ["payment", "cart"], "what fires comes first");
    let payment = &all["alerts"][0];
    assert_eq!((&payment["state"], &payment["severity"]), (&json!("firing"), &json!("critical")));
    assert_eq!((&payment["value"], &payment["ends_at"]), (&json!(0.5), &Value::Null));
    assert_eq!(all["rules"][0]["health"], "ok");
    for (query, expected) in [
        ("state=firing", &["payment"][..]),
        ("state=pending,resolved", &["cart"]),
        ("severity=info", &[]),
        ("label=service%3D~%22p.*%22", &["payment"]),
        (&format!("fingerprint={}", payment["fingerprint"].as_str().unwrap()), &["payment"]),
    ] {
        let answer = api.get(&format!("/api/v1/alerts?{query}"), None).await;
        assert_eq!(services(&answer), expected, "{query}");
    }
    let one = api.get("/api/v1/alerts?limit=1", None).await;
    assert_eq!((services(&one), &one["total"]), (vec!["payment"], &json!(2)));
    alerts.check().unwrap();
    for query in ["state=fire", "label=x", "severity=bad", "stat=firing"] {
        let (status, body) =
            api.ask(Method::GET, &format!("/api/v1/alerts?{query}"), None, None).await;
        assert_eq!((status, &body["error"]["code"]), (400, &json!("parameter")), "{query}");
    }

    // What nobody looks after is not shown as if it were so.
    alerts.stop().await;
    let (status, body) = api.ask(Method::GET, "/api/v1/alerts", None, None).await;
    assert_eq!((status, &body["error"]["code"]), (503, &json!("stopping")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_limited_to_services_sees_their_alerts_only_and_silences_nothing() {
    let (disk, table) = (Disk::new(), Table::of(&[("cart", 0.25), ("payment", 0.5)]));
    let alerts = disk.start(RULE, &table).await;
    let api = Api::new(&alerts);
    until(&alerts, "payment", Some(State::Firing)).await;
    let admin = api.token("root", Scope::Admin, None);
    let limited = api.token("cart-team", Scope::Query, Some(&["cart"]));
    let silence = |matcher: &str| json!({"matchers": [matcher], "ends_at": Utc::now() + Duration::from_secs(60), "comment": ""});
    for matcher in ["service=payment", "service=cart"] {
        let body = Some(silence(matcher));
        let (status, _) = api.ask(Method::POST, "/api/v1/silences", Some(&admin), body).await;
        assert_eq!(status, 201);
    }

    let seen = api.get("/api/v1/alerts", Some(&limited)).await;
    assert_eq!((services(&seen), &seen["rules"]), (vec!["cart"], &json!([])));
    let silences = api.get("/api/v1/silences", Some(&limited)).await;
    assert_eq!(silences.as_array().unwrap().len(), 1);
    assert_eq!(silences[0]["matchers"], json!(["service=\"cart\""]));
    let id = silences[0]["id"].as_str().unwrap();
    let path = format!("/api/v1/silences/{id}");
    for (method, path, body) in [
        (Method::POST, "/api/v1/silences", Some(silence("service=cart"))),
        (Method::DELETE, &*path, None),
    ] {
        let (status, body) = api.ask(method, path, Some(&limited), body).await;
        assert_eq!((status, &body["error"]["code"]), (403, &json!("forbidden")));
    }
    let ingesting = api.token("agent", Scope::Ingest, None);
    assert_eq!(api.ask(Method::GET, "/api/v1/alerts", Some(&ingesting), None).await.0, 403);
    assert_eq!(api.ask(Method::GET, "/api/v1/alerts", None, None).await.0, 401);
    alerts.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_told_of_a_silenced_alert_until_the_silence_ends() {
    let (server, address) = Server::start(&[]).await;
    let (disk, table) = (Disk::new(), Table::of(&[]));
    let yaml = yaml(&[("ops", address)], "");
    let alerts = disk.start(&yaml, &table).await;
    let api = Api::new(&alerts);
    let body = json!({
        "matchers": ["service=~\"pay.*\"", "alertname=Errors"],
        "ends_at": Utc::now() + Duration::from_secs(600),
        "comment": "deploy",
    });
    let (status, silence) = api.ask(Method::POST, "/api/v1/silences", None, Some(body)).await;
    assert_eq!((status, &silence["created_by"]), (201, &json!("anonymous")));
    alerts.stop().await;

    let alerts = disk.start(&yaml, &table).await;
    let api = Api::new(&alerts);
    table.set(&[("payment", 0.5)]);
    until(&alerts, "payment", Some(State::Firing)).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(server.received().len(), 0);
    let shown = api.get("/api/v1/alerts", None).await;
    assert_eq!(shown["alerts"][0]["silenced_by"], json!([silence["id"]]));
    assert_eq!(services(&api.get("/api/v1/alerts?muted=false", None).await), Vec::<&str>::new());

    let path = format!("/api/v1/silences/{}", silence["id"].as_str().unwrap());
    assert_eq!(api.ask(Method::DELETE, &path, None, None).await.0, 200);
    server.wait_for(1).await;
    let unknown = "/api/v1/silences/00000000-0000-0000-0000-000000000000";
    assert_eq!(api.ask(Method::DELETE, unknown, None, None).await.0, 404);
    assert_eq!(api.ask(Method::DELETE, "/api/v1/silences/x", None, None).await.0, 404);
    alerts.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_that_fails_is_an_alert_itself_and_its_alerts_stay() {
    let (disk, table) = (Disk::new(), Table::of(&[("payment", 0.5)]));
    let alerts = disk.start(RULE, &table).await;
    let api = Api::new(&alerts);
    until(&alerts, "payment", Some(State::Firing)).await;
    table.fail("table `errors` does not exist");
    let answer = eventually("an alert about the rule", async || {
        let answer = api.get("/api/v1/alerts?label=alertname%3DRuleFailing", None).await;
        (!services(&answer).is_empty()).then_some(answer)
    })
    .await;
    let alert = &answer["alerts"][0];
    assert_eq!(
        (&alert["labels"]["rule"], &alert["severity"]),
        (&json!("Errors"), &json!("critical"))
    );
    assert_eq!(alert["annotations"]["description"], "table `errors` does not exist");
    assert_eq!(answer["rules"][0]["health"], "failing");
    until(&alerts, "payment", Some(State::Firing)).await;
    table.set(&[("payment", 0.5)]);
    eventually("the rule goes on", async || {
        let answer = api.get("/api/v1/alerts", None).await;
        (services(&answer) == ["payment"] && answer["rules"][0]["health"] == "ok").then_some(())
    })
    .await;
    alerts.stop().await;
}
