//! `GET /api/v1/logs`.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use thalweg_query::QueryConfig;

use crate::serving::{START_SECS, Serving, event, shop};

async fn page(serving: &Serving, query: &[(&str, &str)]) -> Value {
    let request = serving.client.get(serving.url("/api/v1/logs")).query(query);
    request.send().await.unwrap().json().await.unwrap()
}

async fn ids(serving: &Serving, query: &[(&str, &str)]) -> Vec<String> {
    let page = page(serving, query).await;
    let rows = page["rows"].as_array().unwrap_or_else(|| panic!("{query:?}: {page}")).clone();
    rows.iter().map(|row| row["event_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_objects_newest_first() {
    let serving = Serving::start(QueryConfig::default(), &shop()).await;
    let page = page(&serving, &[("limit", "2")]).await;
    assert_eq!(page["rows"][0]["event_id"], "e3");
    let row = &page["rows"][1];
    assert_eq!(row["timestamp"], "2023-11-14T22:13:22Z");
    assert_eq!(
        row["attributes"],
        json!({"user.id": "u7", "attempt": 3, "cart": {"items": [1, 2]}})
    );
    assert_eq!(row.get("span_id"), None);
    assert!(page["next_cursor"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_condition_narrows_the_rows() {
    let serving = Serving::start(QueryConfig::default(), &shop()).await;
    let at = |second: i64| (START_SECS + second).to_string();
    let (one, three) = (at(1), at(3));
    for (query, expected) in [
        (vec![("service", "search")], vec!["e3"]),
        (vec![("service", "search,checkout"), ("order", "asc")], vec!["e0", "e1", "e2", "e3"]),
        (vec![("level", "warn")], vec!["e2", "e1"]),
        (vec![("level", "debug,error")], vec!["e3", "e2"]),
        (vec![("from", one.as_str()), ("to", three.as_str())], vec!["e2", "e1"]),
        (vec![("from", "2023-11-14T22:13:23Z")], vec!["e3"]),
        (vec![("from", "-15m")], vec![]),
        (vec![("trace_id", "4BF92F3577B34DA6A3CE929D0E0E4736")], vec!["e2"]),
        (vec![("q", "REFUSED card -retry")], vec!["e2"]),
        (vec![("q", "\"card refused\" level>=warn http_status<500")], vec!["e1"]),
        (vec![("q", "50%")], vec!["e3"]),
        (vec![("q", "5_")], vec![]),
        (vec![("q", "attributes.user.id:u7")], vec!["e2"]),
        (vec![("q", "attributes.attempt>2 attributes.attempt<4")], vec!["e2"]),
        (vec![("q", "-attributes.user.id:u7 service:check*")], vec!["e1", "e0"]),
        (vec![("q", "http_status:*")], vec!["e2", "e1"]),
        (vec![("q", "timestamp>=2023-11-14T22:13:22Z")], vec!["e3", "e2"]),
        (vec![("q", "'; DROP TABLE logs; --")], vec![]),
    ] {
        assert_eq!(ids(&serving, &query).await, expected, "{query:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_parameter_is_named() {
    let serving = Serving::start(QueryConfig::default(), &shop()).await;
    for (query, expected) in [
        (("from", "yesterday"), "from: expected a time"),
        (("level", "loud"), "level: expected a level"),
        (("q", "ok user:7"), "q: expected a column"),
        (("limit", "1001"), "limit: expected 1 to 1000"),
        (("limit", "x"), "query string"),
        (("cursor", "d1_zz"), "cursor: expected the next_cursor"),
        (("cursor", "a1_00"), "cursor: expected the same order"),
        (("servcie", "x"), "query string"),
    ] {
        let request = serving.client.get(serving.url("/api/v1/logs")).query(&[query]);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 400);
        let error = response.json::<Value>().await.unwrap()["error"].clone();
        assert!(error["message"].as_str().unwrap().starts_with(expected), "{error}");
        if query.0 == "q" {
            assert_eq!(error["column"], 4);
        }
    }
}

/// Reads all pages, adding `arriving[n]` after the nth page.
async fn walk(
    serving: &Serving,
    order: &str,
    limit: usize,
    arriving: &[Vec<Value>],
) -> Vec<String> {
    let limit = limit.to_string();
    let (mut seen, mut cursor) = (Vec::new(), None::<String>);
    for number in 0.. {
        let mut query = vec![("order", order), ("limit", limit.as_str())];
        query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
        let page = page(serving, &query).await;
        let rows = page["rows"].as_array().unwrap();
        seen.extend(rows.iter().map(|row| row["event_id"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => break,
        }
        if let Some(events) = arriving.get(number) {
            serving.add(events).await;
        }
    }
    seen
}

/// Whatever ties in time there are, and whatever arrives meanwhile: walking from new to old gives
/// each row that was there at the start once, walking from old to new each row that there is.
#[test]
fn pages_neither_repeat_nor_skip_rows_while_rows_arrive() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let seconds = prop::collection::vec(0_i64..4, 1..40);
    let arriving = prop::collection::vec(1_usize..4, 0..5);
    let mut runner = TestRunner::new(Config { cases: 12, ..Config::default() });
    runner
        .run(&(seconds, arriving, 1_usize..8), |(seconds, arriving, limit)| {
            runtime.block_on(async {
                for order in ["desc", "asc"] {
                    let named = |(row, second): (usize, &i64)| {
                        // Ids in another order than times.
                        let id = format!("{:02}-{row}", row * 7 % 10);
                        (*second, id)
                    };
                    let mut rows: Vec<(i64, String)> =
                        seconds.iter().enumerate().map(named).collect();
                    let events = |rows: &[(i64, String)]| -> Vec<Value> {
                        rows.iter()
                            .map(|(second, id)| event(*second, id, "s", "INFO", "m"))
                            .collect()
                    };
                    let mut later = Vec::new();
                    for (wave, count) in arriving.iter().enumerate() {
                        let second = 10 + wave as i64 / 2;
                        let wave = (0..*count).map(|row| (second, format!("new-{wave}-{row}")));
                        later.push(wave.collect::<Vec<_>>());
                    }
                    let waves: Vec<Vec<Value>> = later.iter().map(|wave| events(wave)).collect();
                    let config = QueryConfig { threads: Some(2), ..Default::default() };
                    let serving = Serving::start(config, &events(&rows)).await;
                    let seen = walk(&serving, order, limit, &waves).await;
                    let pages = seen.len().div_ceil(limit);
                    if order == "asc" {
                        let arrived = later.iter().take(pages.saturating_sub(1)).flatten().cloned();
                        rows.extend(arrived);
                    }
                    rows.sort();
                    if order == "desc" {
                        rows.reverse();
                    }
                    let expected: Vec<String> = rows.into_iter().map(|(_, id)| id).collect();
                    prop_assert_eq!(seen, expected, "{}", order);
                }
                Ok(())
            })
        })
        .unwrap();
}
