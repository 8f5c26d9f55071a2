//! The ingest as agents of Elasticsearch meet it.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use reqwest::Method;
use serde_json::{Value, json};
use thalweg_ingest::{AdmissionConfig, IngestConfig};

use crate::{
    memory_log::{MemoryLog, texts},
    server::{Server, headers_and_json},
};

const NDJSON: &str = "application/x-ndjson";

/// A bulk body that creates documents with these messages in `logs`.
fn creating(messages: &[&str]) -> String {
    let one = |message: &&str| {
        format!("{{\"create\":{{\"_index\":\"logs\"}}}}\n{}\n", json!({"message": message}))
    };
    messages.iter().map(one).collect()
}

#[tokio::test]
async fn each_operation_is_answered_in_order() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    let body = r#"{"create":{"_index":"web","_id":"7"}}
{"message":"one"}
{"index":{}}
{"message":"two"}
{"delete":{"_index":"web","_id":"7"}}
{"update":{"_id":"7"}}
{"doc":{}}
{"create":{}}
not a document
"#;
    let answer = server.post("/app/_bulk", NDJSON, body).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body["errors"], true);
    assert!(answer.body["took"].is_u64());
    let items = answer.body["items"].as_array().unwrap();
    assert_eq!(items.len(), 5);
    assert_eq!(
        items[0],
        json!({"create": {"_index": "web", "_id": "7", "result": "created", "status": 201}})
    );
    assert_eq!(items[1]["index"]["_index"], "app");
    let ids = log.texts("logs.routine", "event_id");
    assert_eq!(items[1]["index"]["_id"], ids[1], "the id made here is the event's");
    assert_eq!(ids[0], "web/7");
    for (item, kind, error) in [
        (&items[2]["delete"], "illegal_argument_exception", "found delete"),
        (&items[3]["update"], "illegal_argument_exception", "found update"),
        (&items[4]["create"], "document_parsing_exception", "expected a JSON object at byte 0"),
    ] {
        assert_eq!((&item["status"], &item["error"]["type"]), (&json!(400), &json!(kind)));
        assert!(item["error"]["reason"].as_str().unwrap().contains(error), "{item}");
    }
    assert_eq!(log.messages(), ["one", "two"]);
    assert_eq!(log.texts("logs.routine", "service"), ["web", "app"]);
    let [rejected] = &log.batches("rejected", 0)[..] else { panic!("one batch of rejected") };
    assert_eq!(texts(rejected, "format"), ["elasticsearch-bulk"; 3]);
}

#[tokio::test]
async fn bodies_come_by_put_compressed_and_with_any_content_type() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(creating(&["zipped"]).as_bytes()).unwrap();
    let request = server.request("/_bulk", NDJSON).header("content-encoding", "gzip");
    let answer = request.body(gzip.finish().unwrap()).send().await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()["errors"], false);

    let versioned = "application/vnd.elasticsearch+x-ndjson; compatible-with=8";
    let request = server.get(Method::PUT, "/_bulk").header("content-type", versioned);
    let request = request.header("accept", "application/vnd.elasticsearch+json; compatible-with=8");
    let (headers, answer) = headers_and_json(request.body(creating(&["put"]))).await;
    assert_eq!(headers["x-elastic-product"], "Elasticsearch");
    assert_eq!(headers["content-type"], "application/vnd.elasticsearch+json;compatible-with=8");
    assert_eq!(answer["errors"], false);
    assert_eq!(log.messages(), ["put", "zipped"]);
}

#[tokio::test]
async fn a_document_sent_again_under_its_id_is_stored_once() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    let body = "{\"create\":{\"_index\":\"a\",\"_id\":\"1\"}}\n{\"message\":\"x\"}\n";
    for index in ["a", "a", "b"] {
        let body = body.replace("\"a\"", &format!("\"{index}\""));
        let answer = server.post("/_bulk", NDJSON, body).await;
        assert_eq!(answer.body["items"][0]["create"]["status"], 201);
    }
    assert_eq!(log.messages(), ["x", "x"]);
}

#[tokio::test]
async fn a_filter_leaves_out_what_the_client_does_not_read() {
    let server = Server::start(MemoryLog::new()).await;
    let path = "/_bulk?filter_path=errors,items.*.error,items.*.status";
    let answer = server.post(path, NDJSON, creating(&["x"])).await;
    assert_eq!(answer.body, json!({"errors": false, "items": [{"create": {"status": 201}}]}));
    let path = "/_bulk?filter_path=items.*.error";
    let body =
        creating(&["x"]) + "{\"delete\":{\"_index\":\"a\",\"_id\":\"1\"}}\n" + &creating(&["y"]);
    let answer = server.post(path, NDJSON, body).await;
    assert_eq!(answer.body["items"].as_array().unwrap().len(), 1, "{answer:?}");
}

#[tokio::test]
async fn a_long_answer_is_whole() {
    let log = MemoryLog::new();
    let server = Server::start(log.clone()).await;
    let bad = "{\"delete\":{\"_index\":\"logs\"}}\n".repeat(150);
    let body = creating(&["x"]).repeat(20_000) + &bad;
    let answer = server.post("/_bulk", NDJSON, body).await;
    let items = answer.body["items"].as_array().unwrap();
    assert_eq!(items.len(), 20_150);
    let ids = log.texts("logs.routine", "event_id");
    assert!(items.iter().zip(&ids).all(|(item, id)| item["create"]["_id"] == **id));
    let reason = |item: usize| items[item]["delete"]["error"]["reason"].as_str().unwrap();
    assert!(reason(20_099).contains("found delete"));
    assert_eq!(reason(20_100), "see table `rejected`", "faults beyond the first are not repeated");
}

#[tokio::test]
async fn errors_have_elasticsearchs_shape_and_overload_says_when_to_retry() {
    let log = MemoryLog::new();
    let admission = AdmissionConfig { max_requests: 1, ..AdmissionConfig::default() };
    let config = IngestConfig {
        admission,
        body_limit_bytes: 1000,
        decompressed_limit_bytes: 1000,
        ..IngestConfig::default()
    };
    let server = Server::with_config(log.clone(), config).await;
    for (path, body, status, kind) in [
        ("/_bulk", "{\"x\":{}}\n{}\n".to_owned(), 400, "illegal_argument_exception"),
        ("/_bulk", creating(&["x"; 100]), 413, "content_too_long_exception"),
        ("/_bulk?pipeline=a&pipeline=b", creating(&["x"]), 400, "illegal_argument_exception"),
    ] {
        let answer = server.post(path, NDJSON, body).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(
            (&answer.body["status"], &answer.body["error"]["type"]),
            (&json!(status), &json!(kind))
        );
        assert_eq!(answer.body["error"]["root_cause"][0]["type"], kind);
    }
    let long = format!("/{}/_bulk", "i".repeat(256));
    assert_eq!(server.post(&long, NDJSON, creating(&["x"])).await.status, 400);

    log.hold("logs.routine");
    let held = server.request("/_bulk", NDJSON).body(creating(&["held"])).send();
    let held = tokio::spawn(held);
    log.has_been_asked(1).await;
    let request = server.request("/_bulk", NDJSON).body(creating(&["refused"]));
    let (headers, answer) = headers_and_json(request).await;
    assert_eq!(headers["retry-after"], "1");
    assert_eq!(headers["x-elastic-product"], "Elasticsearch");
    assert_eq!(answer["error"]["type"], "es_rejected_execution_exception");
    assert_eq!(answer["status"], 429);
    log.let_go();
    assert_eq!(held.await.unwrap().unwrap().status(), 200);
    assert_eq!(log.messages(), ["held"]);
}

#[tokio::test]
async fn agents_find_a_healthy_node_and_browsers_do_not() {
    let server = Server::start(MemoryLog::new()).await;
    let (headers, root) = headers_and_json(server.get(Method::GET, "/")).await;
    assert_eq!(headers["x-elastic-product"], "Elasticsearch");
    assert_eq!(root["tagline"], "You Know, for Search");
    assert!(root["version"]["number"].as_str().unwrap().starts_with("8."));
    let head = server.get(Method::HEAD, "/").send().await.unwrap();
    assert_eq!((head.status().as_u16(), &*head.bytes().await.unwrap()), (200, &b""[..]));
    let html = server.get(Method::GET, "/").header("accept", "text/html,*/*;q=0.8");
    let html = html.send().await.unwrap();
    assert_eq!(html.status(), 404, "the console's, which is not of the ingest");
    assert!(html.headers().get("x-elastic-product").is_none());

    for (path, key, value) in [
        ("/_license?human=false", "license", "status"),
        ("/_xpack", "features", "ilm"),
        ("/_cluster/health", "status", ""),
        ("/_cluster/health/logs", "status", ""),
        ("/_nodes", "nodes", "thalweg"),
        ("/_nodes/http", "nodes", "thalweg"),
        ("/_nodes/_all/http", "nodes", "thalweg"),
    ] {
        let (headers, answer) = headers_and_json(server.get(Method::GET, path)).await;
        assert_eq!(headers["x-elastic-product"], "Elasticsearch", "{path}");
        assert!(!answer[key].is_null(), "{path}: {answer}");
        assert!(value.is_empty() || !answer[key][value].is_null(), "{path}: {answer}");
    }
    let health = server.get(Method::GET, "/_cat/health").send().await.unwrap();
    assert!(health.text().await.unwrap().contains(" green "));
    let (_, nodes) = headers_and_json(server.get(Method::GET, "/_nodes/http")).await;
    let address = &nodes["nodes"]["thalweg"]["http"]["publish_address"];
    assert_eq!(address, &json!(server.http.to_string()));
}

#[tokio::test]
async fn agents_may_set_up_what_has_no_effect_here() {
    let server = Server::start(MemoryLog::new()).await;
    for path in [
        "/_index_template/filebeat-8.19.0",
        "/_component_template/logs@custom",
        "/_template/logstash",
        "/_ilm/policy/filebeat",
        "/_ingest/pipeline/filebeat-8.19.0-nginx",
        "/_data_stream/filebeat-8.19.0",
        "/_alias/logstash",
    ] {
        for method in [Method::GET, Method::HEAD] {
            let answer = server.get(method, path).send().await.unwrap();
            assert_eq!(answer.status(), 404, "{path}");
            assert_eq!(answer.headers()["x-elastic-product"], "Elasticsearch");
        }
        let body = json!({"template": "x".repeat(1_000_000)}).to_string();
        let put = server.get(Method::PUT, path).header("content-type", "application/json");
        let (_, answer) = headers_and_json(put.body(body)).await;
        assert_eq!(answer, json!({"acknowledged": true}), "{path}");
    }
}
