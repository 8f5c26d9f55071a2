//! An engine over a few events, served on loopback ports.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::catalog::MemTable;
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tempfile::TempDir;
use thalweg_access::{Access, Audit, AuditEntry, Gate, Scope, TokenFile};
use thalweg_edge::{Application, Edge, EdgeConfig, Tls};
use thalweg_event::schema::{log_schema, rejected_schema};
use thalweg_event::span::span_schema;
use thalweg_event::{
    BatchContext, EventBatchBuilder, Fault, PriorityRules, RejectedBatchBuilder, envelope,
};
use thalweg_query::{NamedTable, QueryConfig, QueryEngine, http, wire};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

/// 2023-11-14T22:13:20Z
pub(crate) const START_SECS: i64 = 1_700_000_000;
const NANOS_PER_SEC: i64 = 1_000_000_000;

pub(crate) struct Serving {
    pub(crate) engine: Arc<QueryEngine>,
    pub(crate) http: SocketAddr,
    pub(crate) postgres: SocketAddr,
    pub(crate) live: broadcast::Sender<RecordBatch>,
    pub(crate) client: reqwest::Client,
    pub(crate) audited: mpsc::Receiver<AuditEntry>,
    logs: Arc<MemTable>,
    spans: Arc<MemTable>,
    stop: CancellationToken,
    _data: TempDir,
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Serving {
    /// Serves everything to anyone.
    pub(crate) async fn start(config: QueryConfig, events: &[Value]) -> Self {
        Self::start_with(config, events, tempfile::tempdir().unwrap(), None).await
    }

    /// Serves to those who have a token in the data directory `data`.
    pub(crate) async fn start_with(
        config: QueryConfig,
        events: &[Value],
        data: TempDir,
        tls: Option<Arc<Tls>>,
    ) -> Self {
        let access = Access::open(TokenFile::in_directory(data.path())).unwrap();
        let logs = Arc::new(MemTable::try_new(log_schema(), vec![vec![batch(events)]]).unwrap());
        let mut rejected = RejectedBatchBuilder::default();
        rejected.push("json", 3, &Fault("timestamp: required, but missing".into()), b"{\"x\":1}");
        let rejected = rejected.finish(START_SECS * NANOS_PER_SEC, Some("127.0.0.1"));
        let rejected = MemTable::try_new(rejected_schema(), vec![vec![rejected]]).unwrap();
        let spans = Arc::new(MemTable::try_new(span_schema(), vec![vec![]]).unwrap());
        let tables = vec![
            NamedTable { name: "logs".into(), provider: logs.clone(), is_for_admins: false },
            NamedTable { name: "spans".into(), provider: spans.clone(), is_for_admins: false },
            NamedTable {
                name: "rejected".into(),
                provider: Arc::new(rejected),
                is_for_admins: false,
            },
        ];
        let secrets = vec![vec![batch(&[event(0, "a0", "audit", "INFO", "who asked what")])]];
        let secrets = Arc::new(MemTable::try_new(log_schema(), secrets).unwrap());
        let audit = NamedTable { name: "audit".into(), provider: secrets, is_for_admins: true };
        let tables = tables.into_iter().chain([audit]).collect();
        let (live, _) = broadcast::channel(100_000);
        let feed = live.clone();
        let follow = move || {
            let rows = stream::unfold(feed.subscribe(), |mut receiver| async {
                Some((receiver.recv().await.ok()?, receiver))
            });
            rows.boxed()
        };
        let (audit, audited) = Audit::new();
        let engine = QueryEngine::new(config, tables, Arc::new(|_| {}), Arc::new(follow), audit)
            .await
            .unwrap();
        let stop = CancellationToken::new();
        let gate = Gate::new(access, Ipv4Addr::LOCALHOST.into());
        let edge = Edge::new(EdgeConfig::default(), tls);

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = listener.local_addr().unwrap();
        let routes = gate.protect(http::router(engine.clone()), Some(Scope::Query));
        tokio::spawn(edge.clone().serve_http("http", listener, routes, stop.clone()));

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let postgres = listener.local_addr().unwrap();
        let listener = edge.listen("postgres", listener, Application::Postgres);
        let stopped = stop.clone().cancelled_owned();
        tokio::spawn(wire::serve(engine.clone(), listener, gate, stopped));

        let client = reqwest::Client::new();
        Self { engine, http, postgres, live, client, audited, logs, spans, stop, _data: data }
    }

    pub(crate) async fn add(&self, events: &[Value]) {
        self.logs.batches[0].write().await.push(batch(events));
    }

    pub(crate) async fn add_spans(&self, spans: RecordBatch) {
        self.spans.batches[0].write().await.push(spans);
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    pub(crate) async fn post_sql(&self, body: Value, accept: &str) -> reqwest::Response {
        let request = self.client.post(self.url("/api/v1/sql")).header("accept", accept);
        request.json(&body).send().await.unwrap()
    }

    /// Rows of the answer to `sql`.
    pub(crate) async fn rows(&self, sql: &str) -> Value {
        let response = self.post_sql(json!({"query": sql}), "").await;
        let answer: Value = response.json().await.unwrap();
        assert!(answer.get("error").is_none(), "{sql}: {answer}");
        answer["rows"].clone()
    }

    /// Status and error of the answer to `sql`.
    pub(crate) async fn fault(&self, body: Value) -> (u16, Value) {
        let response = self.post_sql(body, "").await;
        let status = response.status().as_u16();
        (status, response.json::<Value>().await.unwrap()["error"].clone())
    }

    /// Waits until no query runs any more; panics after some seconds.
    pub(crate) async fn until_idle(&self) {
        let idle = async {
            while self.engine.running_queries() > 0 {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(5), idle).await.unwrap();
    }
}

/// Events written as the native envelope, as a batch of rows.
pub(crate) fn batch(events: &[Value]) -> RecordBatch {
    let rules = PriorityRules::default();
    let context = BatchContext::new(START_SECS * NANOS_PER_SEC, &rules, [7; 10]);
    let mut builder = EventBatchBuilder::new(context);
    for event in events {
        let mut row = builder.row();
        envelope::decode(&event.to_string(), &mut row).unwrap();
        row.commit().unwrap();
    }
    builder.finish()
}

/// An event `second` seconds after the start.
pub(crate) fn event(second: i64, id: &str, service: &str, level: &str, message: &str) -> Value {
    json!({
        "timestamp": START_SECS + second, "event_id": id, "service": service, "level": level,
        "message": message,
    })
}

/// Four events of two services.
pub(crate) fn shop() -> Vec<Value> {
    let mut events = vec![
        event(0, "e0", "checkout", "INFO", "order placed"),
        event(1, "e1", "checkout", "WARN", "card refused, retry"),
        event(2, "e2", "checkout", "ERROR", "card refused"),
        event(3, "e3", "search", "DEBUG", "50% of index warm"),
    ];
    events[2]["metadata"] = json!({"user.id": "u7", "attempt": 3, "cart": {"items": [1, 2]}});
    events[1]["http_status"] = 402.into();
    events[2]["http_status"] = 500.into();
    events[2]["trace_id"] = "4bf92f3577b34da6a3ce929d0e0e4736".into();
    events
}
