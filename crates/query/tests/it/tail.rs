//! `GET /api/v1/logs/tail`.

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use futures::StreamExt;
use serde_json::{Value, json};
use thalweg_query::QueryConfig;

use crate::serving::{Serving, batch, event, shop};

/// Server-sent events as they come.
struct Events {
    body: futures::stream::BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    text: String,
}

impl Events {
    async fn open(serving: &Serving, query: &[(&str, &str)]) -> Self {
        let request = serving.client.get(serving.url("/api/v1/logs/tail")).query(query);
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.bytes_stream().boxed(), text: String::new() }
    }

    /// Name and data of the next event; `None` at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    event.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
                };
                let name = field("event:").unwrap_or("message").to_owned();
                let data = field("data:").map(|data| serde_json::from_str(data).unwrap());
                self.text = rest.to_owned();
                if let Some(data) = data {
                    return Some((name, data));
                }
                continue;
            }
            let chunk = tokio::time::timeout(Duration::from_secs(10), self.body.next());
            let chunk = chunk.await.unwrap()?.ok()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_gets_the_new_rows_it_asked_for() {
    let serving = Serving::start(QueryConfig::default(), &[]).await;
    let query = [("level", "warn"), ("q", "card -retry"), ("service", "checkout")];
    let mut events = Events::open(&serving, &query).await;
    serving.live.send(batch(&shop())).unwrap();
    serving.live.send(batch(&[event(9, "e9", "checkout", "FATAL", "no CARD")])).unwrap();
    let (name, row) = events.next().await.unwrap();
    assert_eq!((name.as_str(), &row["event_id"]), ("message", &json!("e2")));
    assert_eq!(row["attributes"]["attempt"], 3);
    assert_eq!(events.next().await.unwrap().1["event_id"], "e9");
    serving.engine.stop_tails();
    assert_eq!(events.next().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_follower_is_told_how_many_rows_it_lost_and_where() {
    const BATCHES: u64 = 400;
    const BATCH_ROWS: u64 = 100;
    let config = QueryConfig { tail_buffer_rows: 50, ..Default::default() };
    let serving = Serving::start(config, &[]).await;
    let mut slow = Events::open(&serving, &[]).await;
    let padding = "x".repeat(500);
    for number in 0..BATCHES {
        let rows: Vec<Value> = (0..BATCH_ROWS)
            .map(|row| event(0, &format!("{}", number * BATCH_ROWS + row), "s", "INFO", &padding))
            .collect();
        serving.live.send(batch(&rows)).unwrap();
    }
    let (mut expected, mut dropped) = (0, 0);
    while expected < BATCHES * BATCH_ROWS {
        let (name, data) = slow.next().await.unwrap();
        if name == "dropped" {
            let rows = data["rows"].as_u64().unwrap();
            assert!(rows > 0);
            dropped += rows;
            expected += rows;
        } else {
            assert_eq!(data["event_id"], expected.to_string());
            expected += 1;
        }
    }
    assert_eq!(expected, BATCHES * BATCH_ROWS);
    assert!(dropped > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_follower_too_many_is_refused_until_another_one_leaves() {
    let config = QueryConfig { max_tailers: 1, ..Default::default() };
    let serving = Serving::start(config, &[]).await;
    let first = Events::open(&serving, &[]).await;
    let second = || serving.client.get(serving.url("/api/v1/logs/tail")).send();
    let refused = second().await.unwrap();
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.json::<Value>().await.unwrap()["error"]["code"], "too_many_tailers");
    drop(first);
    let admitted = async {
        while second().await.unwrap().status() != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), admitted).await.unwrap();
}

/// The same rows, with texts encoded as tables hand them out.
fn as_views(batch: &RecordBatch) -> RecordBatch {
    let is_text =
        |field: &Field| matches!(field.data_type(), DataType::Utf8 | DataType::Dictionary(..));
    let schema = batch.schema();
    let fields = schema.fields().iter().map(|field| match is_text(field) {
        true => field.as_ref().clone().with_data_type(DataType::Utf8View),
        false => field.as_ref().clone(),
    });
    let schema = Schema::new(fields.collect::<Vec<_>>());
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| cast(column, field.data_type()).unwrap());
    RecordBatch::try_new(schema.clone().into(), columns.collect()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_found_in_whatever_encoding_they_arrive() {
    let serving = Serving::start(QueryConfig::default(), &[]).await;
    let mut events = Events::open(&serving, &[("q", "service:checkout level>=warn")]).await;
    serving.live.send(as_views(&batch(&shop()))).unwrap();
    serving.live.send(batch(&[event(9, "e9", "checkout", "FATAL", "no card")])).unwrap();
    for expected in ["e1", "e2", "e9"] {
        assert_eq!(events.next().await.unwrap().1["event_id"], expected);
    }
}
