//! What a search holds: `GET /api/v1/logs/histogram`, `/facet` and `/sql`.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use thalweg_query::{QueryConfig, http::ApiDoc};
use utoipa::OpenApi as _;

use crate::serving::{START_SECS, Serving, shop};

async fn get(serving: &Serving, path: &str, query: &[(&str, &str)]) -> (u16, Value) {
    let request = serving.client.get(serving.url(path)).query(query);
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn ask(serving: &Serving, sql: &str) -> Value {
    let request = serving.client.post(serving.url("/api/v1/sql")).json(&json!({"query": sql}));
    request.send().await.unwrap().json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_counted_by_time_and_level_and_only_those_that_match() {
    let serving = Serving::start(QueryConfig::default(), &shop()).await;
    let (from, to) = (START_SECS.to_string(), (START_SECS + 4).to_string());
    let times = [("from", from.as_str()), ("to", to.as_str()), ("buckets", "2")];
    let (status, found) = get(&serving, "/api/v1/logs/histogram", &times).await;
    assert_eq!((status, &found["interval_ms"], &found["total"]), (200, &json!(2000), &json!(4)));
    assert_eq!(
        found["buckets"],
        json!([
            {"start": "2023-11-14T22:13:20Z", "levels": {"INFO": 1, "WARN": 1}},
            {"start": "2023-11-14T22:13:22Z", "levels": {"DEBUG": 1, "ERROR": 1}},
        ])
    );
    let refused = [times.as_slice(), &[("q", "refused")]].concat();
    let (_, found) = get(&serving, "/api/v1/logs/histogram", &refused).await;
    assert_eq!(found["total"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_a_field_come_by_their_frequency() {
    let serving = Serving::start(QueryConfig::default(), &shop()).await;
    let service = [("field", "service"), ("limit", "1")];
    let (status, found) = get(&serving, "/api/v1/logs/facet", &service).await;
    let most = json!([{"value": "checkout", "label": "checkout", "events": 3}]);
    assert_eq!((status, &found["values"], &found["more"]), (200, &most, &json!(true)));
    let (_, found) = get(&serving, "/api/v1/logs/facet", &[("field", "http_status")]).await;
    assert_eq!(
        found["values"],
        json!([
            {"value": null, "label": null, "events": 2},
            {"value": "402", "label": "402", "events": 1},
            {"value": "500", "label": "500", "events": 1},
        ])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_that_make_no_sense_are_refused_by_name() {
    let serving = Serving::start(QueryConfig::default(), &shop()).await;
    for (path, query, why) in [
        ("facet", ("field", "secrets"), "field: expected a column of table logs"),
        ("facet", ("field", "attributes"), "field: expected a column of table logs"),
        ("histogram", ("buckets", "0"), "buckets: expected 1 to 1000"),
        ("histogram", ("from", "2099-01-01T00:00:00Z"), "from: expected a time before `to`"),
        ("histogram", ("q", "level>=loud"), "q: expected a level"),
        ("sql", ("to", "soon"), "to: expected a time"),
    ] {
        let path = format!("/api/v1/logs/{path}");
        let (status, answer) = get(&serving, &path, &[query]).await;
        assert_eq!(status, 400, "{path} {query:?}: {answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(why), "{path} {query:?}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sql_of_a_search_finds_what_the_search_finds() {
    let serving = Serving::start(QueryConfig::default(), &shop()).await;
    for q in [
        "",
        "refused -retry",
        "50%",
        "\"it's\"",
        "level>=warn http_status<500",
        "service:check* -host:a",
        "-attributes.user.id:u7",
        "attributes.attempt>2",
        "http_status:*",
        "timestamp>=2023-11-14T22:13:22Z",
        "message:\"'; DROP TABLE logs; --\"",
    ] {
        let (_, page) = get(&serving, "/api/v1/logs", &[("q", q)]).await;
        let rows = page["rows"].as_array().unwrap_or_else(|| panic!("{q}: {page}"));
        let expected: Vec<&Value> = rows.iter().map(|row| &row["event_id"]).collect();
        let (_, sql) = get(&serving, "/api/v1/logs/sql", &[("q", q)]).await;
        let sql = sql["sql"].as_str().unwrap();
        let answer = ask(&serving, &format!("SELECT event_id FROM ({sql}) AS found")).await;
        let rows = answer["rows"].as_array().unwrap_or_else(|| panic!("{q}: {sql}: {answer}"));
        let found: BTreeSet<&str> = rows.iter().map(|row| row[0].as_str().unwrap()).collect();
        assert_eq!(found, expected.iter().map(|id| id.as_str().unwrap()).collect(), "{q}: {sql}");
    }
}

/// Members of an object of the OpenAPI document: all, and those that are always there.
fn described(name: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let document = serde_json::to_value(ApiDoc::openapi()).unwrap();
    let schema = &document["components"]["schemas"][name];
    let all = schema["properties"].as_object().unwrap_or_else(|| panic!("{name}: {schema}"));
    let required = schema["required"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (all.keys().cloned().collect(), required.map(text).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_written_row_by_row_are_as_the_openapi_document_describes_them() {
    let serving = Serving::start(QueryConfig::default(), &shop()).await;
    let (_, page) = get(&serving, "/api/v1/logs", &[]).await;
    let trace = "/api/v1/traces/4bf92f3577b34da6a3ce929d0e0e4736";
    let (_, trace) = get(&serving, trace, &[]).await;
    let answer = ask(&serving, "SELECT 1").await;
    for (name, found) in [
        ("LogPage", &page),
        ("LogRow", &page["rows"][1]),
        ("TraceAnswer", &trace),
        ("TraceEntry", &trace["entries"][0]),
        ("LogRow", &trace["entries"][0]["log"]),
        ("SqlAnswer", &answer),
        ("SqlColumn", &answer["columns"][0]),
    ] {
        let (all, required) = described(name);
        let found: BTreeSet<String> = found.as_object().unwrap().keys().cloned().collect();
        assert!(found.is_subset(&all), "{name}: {found:?} are not all in {all:?}");
        assert!(required.is_subset(&found), "{name}: of {required:?} some are not in {found:?}");
    }
}
