//! The gate before axum's routers.

// Clippy knows tests by their attribute, not the functions that they share.
#![allow(clippy::unwrap_used)]

use std::{net::SocketAddr, sync::Arc};

use axum::{Router, body::Body, extract::ConnectInfo, http::Request, response::Response, routing};
use http_body_util::BodyExt as _;
use thalweg_access::{Access, Caller, Gate, NewToken, Scope, Token, TokenFile};
use tower_service::Service as _;

struct World {
    _directory: tempfile::TempDir,
    file: TokenFile,
    access: Arc<Access>,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = TokenFile::in_directory(directory.path());
        let access = Access::open(file.clone()).unwrap();
        Self { _directory: directory, file, access }
    }

    fn token(&self, scope: Scope) -> Token {
        let (name, scopes) = (format!("t-{scope}"), [scope].into_iter().collect());
        let token = self.file.create(NewToken { name, scopes, services: None }).unwrap();
        self.access.reload_if_changed().unwrap();
        token
    }

    /// Routes that answer with the caller's name, behind the gate of a listener at `address`.
    fn routes(&self, address: [u8; 4], needed: Option<Scope>) -> Router {
        let whoami = |Caller(principal): Caller| async move { principal.name().to_owned() };
        let routes =
            Router::new().route("/{*path}", routing::any(whoami)).route("/", routing::any(whoami));
        Gate::new(Arc::clone(&self.access), address.into()).protect(routes, needed)
    }
}

async fn send(routes: &mut Router, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = Request::builder().uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(Body::empty()).unwrap();
    let client: SocketAddr = "10.1.1.1:99".parse().unwrap();
    request.extensions_mut().insert(ConnectInfo(client));
    routes.call(request).await.unwrap()
}

async fn answer(routes: &mut Router, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let response = send(routes, path, headers).await;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

const LOOPBACK: [u8; 4] = [127, 0, 0, 1];
const ANYWHERE: [u8; 4] = [0, 0, 0, 0];

#[tokio::test]
async fn without_tokens_the_loopback_is_open_and_nothing_else_is() {
    let world = World::new();
    let open = answer(&mut world.routes(LOOPBACK, Some(Scope::Admin)), "/x", &[]).await;
    assert_eq!(open, (200, "anonymous".to_owned()));
    let stray = [("authorization", "Basic eDp5")];
    assert_eq!(answer(&mut world.routes(LOOPBACK, None), "/x", &stray).await.0, 200);
    assert_eq!(answer(&mut world.routes(ANYWHERE, None), "/x", &[]).await.0, 401);
    let forged = [("authorization", "Bearer tw_aaaaaaaa_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")];
    assert_eq!(answer(&mut world.routes(ANYWHERE, None), "/x", &forged).await.0, 401);
}

#[tokio::test]
async fn once_there_was_a_token_one_is_asked_for_everywhere() {
    let world = World::new();
    let token = world.token(Scope::Query);
    let bearer = format!("Bearer {token}");
    for address in [LOOPBACK, ANYWHERE] {
        let mut routes = world.routes(address, Some(Scope::Query));
        assert_eq!(answer(&mut routes, "/x", &[]).await.0, 401);
        let known = answer(&mut routes, "/x", &[("authorization", &bearer)]).await;
        assert_eq!(known, (200, "t-query".to_owned()));
    }
    world.file.revoke("t-query").unwrap();
    world.access.reload_if_changed().unwrap();
    let mut routes = world.routes(LOOPBACK, None);
    assert_eq!(answer(&mut routes, "/x", &[("authorization", &bearer)]).await.0, 401);
    assert_eq!(answer(&mut routes, "/x", &[]).await.0, 401, "the last one revoked opens nothing");
}

#[tokio::test]
async fn a_token_does_what_its_scope_says_and_no_more() {
    let world = World::new();
    for scope in Scope::ALL {
        let bearer = format!("Bearer {}", world.token(scope));
        for needed in Scope::ALL {
            let mut routes = world.routes(LOOPBACK, Some(needed));
            let (status, text) = answer(&mut routes, "/x", &[("authorization", &bearer)]).await;
            let allowed = scope == needed || scope == Scope::Admin;
            assert_eq!(status, if allowed { 200 } else { 403 }, "{scope} {needed}: {text}");
            assert!(allowed || text.contains(&format!("scope {needed}")), "{text}");
        }
    }
}

#[tokio::test]
async fn each_protocol_is_refused_in_its_own_words() {
    let world = World::new();
    let ingest = format!("Splunk {}", world.token(Scope::Ingest));
    let mut routes = world.routes(LOOPBACK, Some(Scope::Query));
    let hec = "/services/collector/event";
    let mut of = async |path, headers: &[(&str, &str)]| answer(&mut routes, path, headers).await;
    let (status, text) = of(hec, &[]).await;
    assert!(status == 401 && text.contains("Token is required") && text.contains(":2"), "{text}");
    let forged = "Splunk tw_aaaaaaaa_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let (status, text) = of(hec, &[("authorization", forged)]).await;
    assert!(status == 403 && text.contains("Invalid token") && text.contains(":4"), "{text}");
    let (status, text) = of(hec, &[("authorization", &ingest)]).await;
    assert!(status == 403 && text.contains("scope query"), "{text}");
    assert_eq!(of("/services/collector/health", &[]).await.0, 200);

    let (status, text) = of("/_bulk", &[]).await;
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &json["status"]), (401, &401.into()));
    assert_eq!(json["error"]["type"], "security_exception");
    assert_eq!(json["error"]["root_cause"][0]["type"], "security_exception");

    let (status, text) = of("/v1/logs", &[("content-type", "application/json")]).await;
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &json["code"]), (401, &16.into()));

    let grpc = [("content-type", "application/grpc")];
    let response = send(&mut routes, "/x.Y/Z", &grpc).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["grpc-status"], "16");
    let grpc = [("content-type", "application/grpc"), ("authorization", &*ingest)];
    let response = send(&mut routes, "/x.Y/Z", &grpc).await;
    assert_eq!(response.headers()["grpc-status"], "7");

    let response = send(&mut routes, "/api/v1/sql", &[]).await;
    assert_eq!(response.status(), 401);
    assert!(response.headers().contains_key("www-authenticate"));
}

#[tokio::test]
async fn a_route_past_the_gate_lets_nobody_in() {
    let mut routes = Router::new().route("/x", routing::get(|Caller(_): Caller| async { "in" }));
    let (status, text) = answer(&mut routes, "/x", &[]).await;
    assert_eq!(status, 500, "{text}");
}
