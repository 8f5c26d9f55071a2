//! The ingest served on free ports of the loopback.

use std::{net::SocketAddr, sync::Arc};

use axum::{Extension, Router};
use reqwest::{Client, Method, RequestBuilder, Response, header::HeaderMap};
use serde_json::Value;
use thalweg_access::{Caller, Principal};
use thalweg_ingest::{Ingest, IngestConfig, elasticsearch, grpc, http};
use thalweg_log::Log;
use tokio::net::TcpListener;

pub(crate) struct Server {
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
    client: Client,
}

impl Server {
    pub(crate) async fn start(log: Arc<dyn Log>) -> Self {
        Self::with_config(log, IngestConfig::default()).await
    }

    pub(crate) async fn with_config(log: Arc<dyn Log>, config: IngestConfig) -> Self {
        Self::behind(log, config, |routes| routes.layer(Extension(Caller(Principal::anyone()))))
            .await
    }

    /// A server with something before its routes that says who the caller is.
    pub(crate) async fn behind(
        log: Arc<dyn Log>,
        config: IngestConfig,
        gate: impl Fn(Router) -> Router,
    ) -> Self {
        let ingest = Ingest::open(log, config).await.unwrap();
        Self {
            http: serve(agents_at_root(gate(http::router(Arc::clone(&ingest))))).await,
            grpc: serve(gate(grpc::router(ingest))).await,
            client: Client::new(),
        }
    }

    /// A request to post to `path`, which may have a query.
    pub(crate) fn request(&self, path: &str, content_type: &str) -> RequestBuilder {
        let url = format!("http://{}{path}", self.http);
        self.client.post(url).header("content-type", content_type)
    }

    /// A request without content type.
    pub(crate) fn get(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.http))
    }

    pub(crate) async fn post(
        &self,
        path: &str,
        content_type: &str,
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        Answer::of(self.request(path, content_type).body(body).send().await.unwrap()).await
    }

    pub(crate) async fn ndjson(&self, body: impl Into<reqwest::Body>) -> Answer {
        self.post("/api/v1/logs", "application/x-ndjson", body).await
    }
}

/// Headers and body of the answer to `request`.
pub(crate) async fn headers_and_json(request: RequestBuilder) -> (HeaderMap, Value) {
    let answer = request.send().await.unwrap();
    let headers = answer.headers().clone();
    (headers, answer.json().await.unwrap())
}

/// As the binary serves it.
fn agents_at_root(router: Router) -> Router {
    router.layer(axum::middleware::from_fn(elasticsearch::answer_agents))
}

async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    address
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<String>,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) async fn of(response: Response) -> Self {
        let retry_after = response.headers().get("retry-after");
        Self {
            status: response.status().as_u16(),
            retry_after: retry_after.map(|value| value.to_str().unwrap().to_owned()),
            body: response.json().await.unwrap(),
        }
    }

    pub(crate) fn error(&self) -> &str {
        self.body["error"].as_str().unwrap()
    }

    pub(crate) fn assert_accepted(&self, records: usize) {
        assert_eq!((self.status, &self.body["accepted"]), (200, &records.into()), "{self:?}");
    }
}

/// A record with an id, on a line.
pub(crate) fn event(id: &str, level: &str) -> String {
    format!(r#"{{"eventId":"{id}","service":"checkout","level":"{level}","message":"m-{id}"}}"#)
        + "\n"
}

/// A record without an id, on a line.
pub(crate) fn nameless(message: &str) -> String {
    format!(r#"{{"service":"checkout","level":"INFO","message":"{message}"}}"#) + "\n"
}
