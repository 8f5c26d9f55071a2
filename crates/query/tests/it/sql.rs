//! `POST /api/v1/sql`.

use std::io::Write as _;
use std::time::{Duration, Instant};

use arrow::ipc::reader::StreamReader;
use futures::StreamExt;
use serde_json::{Value, json};
use thalweg_access::{Asker, Audit, Principal};
use thalweg_query::{FileTableConfig, Limits, Places, QueryConfig, QueryEngine, QueryError};

use crate::serving::{Serving, shop};

/// Runs for hours unless it is stopped.
const ENDLESS: &str = "SELECT sum(value) FROM generate_series(1, 9000000000000)";

async fn serving() -> Serving {
    Serving::start(QueryConfig::default(), &shop()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn json_answers_have_columns_rows_and_counts() {
    let serving = serving().await;
    let sql = "SELECT timestamp, time_unix_nano, service, http_status, duration_ms FROM logs \
               WHERE event_id = 'e2'";
    let response = serving.post_sql(json!({"query": sql}), "application/json").await;
    assert_eq!(response.headers()["content-type"], "application/json");
    let mut answer: Value = response.json().await.unwrap();
    assert!(answer["elapsed_ms"].as_f64().unwrap() > 0.0);
    answer.as_object_mut().unwrap().remove("elapsed_ms");
    assert_eq!(
        answer,
        json!({
            "columns": [
                {"name": "timestamp", "type": "timestamptz"},
                {"name": "time_unix_nano", "type": "int8"},
                {"name": "service", "type": "text"},
                {"name": "http_status", "type": "int2"},
                {"name": "duration_ms", "type": "float8"},
            ],
            "rows": [["2023-11-14T22:13:22Z", "1700000002000000000", "checkout", 500, null]],
            "row_count": 1,
            "truncated": false,
        })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn attributes_are_read_with_postgres_operators() {
    let serving = serving().await;
    let rows = serving
        .rows(
            "SELECT attributes->>'user.id', attributes->'cart', (attributes->>'attempt')::int + 1 \
             FROM logs WHERE attributes->>'user.id' = 'u7'",
        )
        .await;
    assert_eq!(rows[0][0], "u7");
    assert_eq!(rows[0][2], 4);
    let cart: Value = serde_json::from_str(rows[0][1].as_str().unwrap()).unwrap();
    assert_eq!(cart, json!({"items": [1, 2]}));
    assert_eq!(rows.as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn percentiles_are_near_the_exact_ones_however_they_are_asked_for() {
    let serving = serving().await;
    // Some 3,300 values a group: counted in buckets, in parts that are merged.
    let numbers = "FROM generate_series(1, 10000) AS t(n)";
    let sql = format!(
        "SELECT n % 3, approx_percentile_cont(0.99) WITHIN GROUP (ORDER BY n), \
         approx_percentile_cont(0.01) WITHIN GROUP (ORDER BY n DESC), \
         approx_percentile_cont(n, 0.99), \
         approx_percentile_cont(n, 0.99) FILTER (WHERE n <= 100) \
         {numbers} GROUP BY 1 ORDER BY 1"
    );
    let rows = serving.rows(&sql).await;
    for row in rows.as_array().unwrap() {
        for value in [1, 2, 3].map(|column| row[column].as_f64().unwrap()) {
            assert!((value - 9_900.0).abs() < 9_900.0 / 128.0, "{row}");
        }
        // 33 or 34 values are kept as they are.
        assert!((row[4].as_f64().unwrap() - 99.0).abs() < 2.0, "{row}");
    }
    let all = serving.rows(&format!("SELECT approx_percentile_cont(n, 0.5) {numbers}")).await;
    assert!((all[0][0].as_f64().unwrap() - 5_000.5).abs() < 5_000.0 / 128.0, "{all}");
    let none = "SELECT approx_percentile_cont(duration_ms, 0.5) FROM logs WHERE false";
    assert_eq!(serving.rows(none).await, json!([[null]]));
    let (status, error) = serving
        .fault(json!({"query": format!("SELECT approx_percentile_cont(n, 1.5) {numbers}")}))
        .await;
    let message = error["message"].as_str().unwrap_or_default();
    assert!(status == 400 && message.contains("from 0 to 1"), "{status} {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_carries_the_same_rows() {
    let serving = serving().await;
    let body = json!({"query": "SELECT event_id, timestamp, level FROM logs ORDER BY 1 LIMIT 2"});

    let text = serving.post_sql(body.clone(), "application/x-ndjson").await.text().await.unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        lines,
        [
            json!({"event_id": "e0", "timestamp": "2023-11-14T22:13:20Z", "level": "INFO"}),
            json!({"event_id": "e1", "timestamp": "2023-11-14T22:13:21Z", "level": "WARN"}),
        ]
    );

    let text = serving.post_sql(body.clone(), "text/csv").await.text().await.unwrap();
    assert_eq!(
        text,
        "event_id,timestamp,level\ne0,2023-11-14T22:13:20Z,INFO\ne1,2023-11-14T22:13:21Z,WARN\n"
    );

    let bytes = serving.post_sql(body, "application/vnd.apache.arrow.stream").await.bytes().await;
    let batches: Vec<_> = StreamReader::try_new(&bytes.unwrap()[..], None)
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let rows = arrow::util::pretty::pretty_format_batches(&batches).unwrap().to_string();
    assert!(rows.contains("| e1       | 2023-11-14T22:13:21Z | WARN  |"), "{rows}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_says_when_rows_were_left_out() {
    let serving = serving().await;
    for (limit, truncated) in [(3, true), (4, false), (0, true)] {
        let body = json!({"query": "SELECT event_id FROM logs", "limit": limit});
        let answer: Value = serving.post_sql(body, "").await.json().await.unwrap();
        assert_eq!(answer["row_count"], limit);
        assert_eq!(answer["truncated"], truncated, "{limit}");
    }
    let body = json!({"query": "SELECT event_id FROM logs", "limit": 1});
    let text = serving.post_sql(body, "application/x-ndjson").await.text().await.unwrap();
    assert_eq!(text.lines().last(), Some("{\"truncated\":true}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_reading_statements_are_accepted() {
    let serving = serving().await;
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("out.csv");
    let target = target.display();
    for statement in [
        "CREATE TABLE t AS SELECT 1".to_owned(),
        "CREATE VIEW v AS SELECT 1".to_owned(),
        "CREATE EXTERNAL TABLE p STORED AS CSV LOCATION '/etc/passwd'".to_owned(),
        "CREATE SCHEMA s".to_owned(),
        "CREATE FUNCTION f() RETURNS INT RETURN 1".to_owned(),
        "DROP TABLE logs".to_owned(),
        "ALTER TABLE logs ADD COLUMN x INT".to_owned(),
        "TRUNCATE TABLE logs".to_owned(),
        "INSERT INTO logs SELECT * FROM logs".to_owned(),
        "DELETE FROM logs".to_owned(),
        "UPDATE logs SET message = 'x'".to_owned(),
        "MERGE INTO logs USING rejected ON true WHEN MATCHED THEN DELETE".to_owned(),
        format!("COPY logs TO '{target}'"),
        format!("COPY (SELECT 1) TO '{target}' STORED AS CSV"),
        format!("EXPLAIN ANALYZE COPY logs TO '{target}'"),
        "EXPLAIN ANALYZE INSERT INTO logs SELECT * FROM logs".to_owned(),
        "WITH x AS (INSERT INTO logs SELECT * FROM logs RETURNING *) SELECT * FROM x".to_owned(),
        "SELECT * INTO copied FROM logs".to_owned(),
        "SET datafusion.execution.batch_size = 1".to_owned(),
        "SET datafusion.catalog.default_schema = 'x'".to_owned(),
        "RESET datafusion.execution.batch_size".to_owned(),
        "PREPARE p AS SELECT 1".to_owned(),
        "EXECUTE p".to_owned(),
        "DEALLOCATE p".to_owned(),
        "BEGIN".to_owned(),
        "USE other".to_owned(),
        "SELECT 1; DROP TABLE logs".to_owned(),
        "SELECT * FROM '/etc/passwd'".to_owned(),
        "SELECT * FROM \"/etc/passwd\"".to_owned(),
        "SELECT * FROM 'https://127.0.0.1/x.parquet'".to_owned(),
        "SELECT * FROM read_csv('/etc/passwd')".to_owned(),
        "SELECT pg_read_file('/etc/passwd')".to_owned(),
    ] {
        let (status, error) = serving.fault(json!({"query": statement})).await;
        assert!(matches!(status, 400 | 403), "{statement}: {status} {error}");
    }
    assert_eq!(serving.rows("SELECT count(*) FROM logs").await, json!([[4]]));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    assert_eq!(serving.rows("SHOW datafusion.execution.batch_size").await[0][1], "8192");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_reading_statement_is_accepted() {
    let serving = serving().await;
    for (statement, rows) in [
        ("SELECT 1", 1),
        ("VALUES (1), (2)", 2),
        ("WITH x AS (SELECT 1 AS n) SELECT * FROM x UNION ALL SELECT 2", 2),
        ("DESCRIBE rejected", 6),
        ("SHOW TABLES", 0),
        ("SHOW COLUMNS FROM rejected", 6),
        ("EXPLAIN SELECT * FROM logs", 0),
        ("EXPLAIN ANALYZE SELECT * FROM logs", 0),
        ("SELECT * FROM information_schema.tables", 0),
    ] {
        let answer = serving.rows(statement).await;
        let found = answer.as_array().unwrap().len();
        assert!(found == rows || rows == 0 && found > 0, "{statement}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_tell_what_and_where() {
    let serving = serving().await;
    let (status, error) = serving.fault(json!({"query": "SELECT *\nFORM logs"})).await;
    assert_eq!((status, &error["code"]), (400, &json!("syntax")));
    // The parser takes FORM for the name of a column.
    assert_eq!((&error["line"], &error["column"]), (&json!(2), &json!(6)), "{error}");

    let (status, error) = serving.fault(json!({"query": "SELECT\n servise FROM logs"})).await;
    assert_eq!((status, &error["code"]), (400, &json!("invalid_query")));
    assert_eq!((&error["line"], &error["column"]), (&json!(2), &json!(2)), "{error}");
    assert!(error["message"].as_str().unwrap().contains("service"), "{error}");

    let (status, error) = serving.fault(json!({"query": "SELECT * FROM nowhere"})).await;
    assert_eq!((status, &error["code"]), (400, &json!("invalid_query")));
    let (status, error) =
        serving.fault(json!({"query": "SELECT 1 / (http_status - 500) FROM logs"})).await;
    assert_eq!((status, &error["code"]), (422, &json!("execution")), "{error}");
    let (status, error) = serving.fault(json!({"query": "SELECT 1", "limt": 1})).await;
    assert_eq!((status, &error["code"]), (400, &json!("invalid_parameter")));
    let (status, _) = serving.fault(json!({"query": "SELECT 1", "limit": 2_000_000})).await;
    assert_eq!(status, 400);
    let response = serving.post_sql(json!({"query": "SELECT 1"}), "image/png").await;
    assert_eq!(response.status(), 406);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_after_the_first_rows_cannot_be_overlooked() {
    let serving = serving().await;
    let sql = "SELECT 1 / (50000 - value) AS n FROM generate_series(1, 100000)";
    let body = json!({"query": sql, "limit": 1_000_000});

    let answer: Value = serving.post_sql(body.clone(), "").await.json().await.unwrap();
    assert_eq!(answer["error"]["code"], "execution");
    // Batches come in any order, so rows from behind the failing one may be among the first.
    let rows = answer["rows"].as_array().unwrap().len();
    assert!((1..100_000).contains(&rows) && answer["row_count"] == rows, "{rows}");

    let text = serving.post_sql(body.clone(), "application/x-ndjson").await.text().await.unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "execution");

    for accept in ["text/csv", "application/vnd.apache.arrow.stream"] {
        // The connection ends in the middle of the answer, or before its head is on its way.
        let request = serving.client.post(serving.url("/api/v1/sql")).header("accept", accept);
        if let Ok(response) = request.json(&body).send().await {
            assert_eq!(response.status(), 200);
            assert!(response.bytes().await.is_err(), "{accept}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_stops_at_its_time_limit() {
    let serving = serving().await;
    let started = Instant::now();
    let (status, error) = serving.fault(json!({"query": ENDLESS, "timeout_secs": 1})).await;
    assert_eq!((status, &error["code"]), (504, &json!("timeout")));
    assert!(started.elapsed() < Duration::from_secs(5));
    serving.until_idle().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_frees_the_place_of_its_query() {
    let config = QueryConfig { max_running_queries: 1, ..Default::default() };
    let serving = Serving::start(config, &shop()).await;
    // One leaves before the first row, the other one amid rows.
    for sql in [ENDLESS, "SELECT value FROM generate_series(1, 9000000000000)"] {
        let body = json!({"query": sql, "limit": 1_000_000});
        let request = serving.client.post(serving.url("/api/v1/sql")).json(&body);
        let leaving = tokio::spawn(async move {
            let mut body = request.send().await.unwrap().bytes_stream();
            body.next().await.unwrap().unwrap();
            std::future::pending::<()>().await;
        });
        while serving.engine.running_queries() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        let response = serving.post_sql(json!({"query": "SELECT 1"}), "").await;
        assert_eq!(response.status(), 429, "{sql}");
        assert_eq!(response.headers()["retry-after"], "1");
        leaving.abort();
        serving.until_idle().await;
        assert_eq!(serving.rows("SELECT 1").await, json!([[1]]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn places_apart_are_not_taken_by_users_and_are_waited_for() {
    let config = QueryConfig { max_running_queries: 1, ..Default::default() };
    let serving = Serving::start(config, &shop()).await;
    let asker = |protocol| Asker { principal: Principal::anyone(), protocol, address: None };
    let limits = Limits { rows: None, timeout: Duration::from_secs(600) };
    let user = serving.engine.view(asker("http")).unwrap();
    let stream = "SELECT value FROM generate_series(1, 9000000000000)";
    let _running = user.sql(stream, limits).await.unwrap();
    let refused = user.sql("SELECT 1", limits).await.err().unwrap();
    assert!(matches!(refused, QueryError::TooManyQueries { limit: 1 }), "{refused}");

    let apart = serving.engine.view(asker("alerts")).unwrap().within(Places::new(1));
    let first = apart.sql(stream, limits).await.unwrap();
    let waiting = tokio::spawn(async move { apart.sql("SELECT 1", limits).await.is_ok() });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished(), "there is one place");
    drop(first);
    assert!(waiting.await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_beyond_the_memory_budget_fails_and_the_next_one_runs() {
    let config = QueryConfig { memory_bytes: 4 << 20, spill_bytes: 1 << 20, ..Default::default() };
    let serving = Serving::start(config, &shop()).await;
    let sql = "SELECT value, repeat('x', 200) AS t FROM generate_series(1, 2000000) ORDER BY t, value DESC";
    let (status, error) = serving.fault(json!({"query": sql, "limit": 1_000_000})).await;
    assert_eq!((status, &error["code"]), (422, &json!("memory_limit")), "{error}");
    assert_eq!(serving.rows("SELECT 1").await, json!([[1]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_named_in_the_configuration_are_tables() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        path
    };
    let table = |name: &str, path| FileTableConfig { name: name.into(), path, format: None };
    let csv = write("orders.csv", "service,amount\ncheckout,12.5\nsearch,1\n");
    let json_lines = write("owners.ndjson", "{\"service\":\"checkout\",\"team\":\"shop\"}\n");
    let tables = vec![table("orders", csv), table("owners", json_lines)];
    let serving = Serving::start(QueryConfig { tables, ..Default::default() }, &shop()).await;
    let rows = serving
        .rows(
            "SELECT o.team, max(c.amount), count(*) FROM logs l JOIN orders c USING (service) \
             JOIN owners o USING (service) GROUP BY 1",
        )
        .await;
    assert_eq!(rows, json!([["shop", 12.5, 3]]));

    for (name, path, expected) in [
        ("gone", folder.path().join("gone.parquet"), "correct its path"),
        ("odd", write("odd.txt", "x"), "add `format"),
        ("bad", write("bad.parquet", "not parquet"), "bad.parquet"),
        ("folder", folder.path().to_owned(), "expected a file"),
    ] {
        let config = QueryConfig { tables: vec![table(name, path)], ..Default::default() };
        let live = std::sync::Arc::new(|| futures::stream::pending().boxed());
        match QueryEngine::new(config, Vec::new(), std::sync::Arc::new(|_| {}), live, Audit::none())
            .await
            .err()
        {
            Some(QueryError::Table { reason, .. }) => {
                assert!(reason.contains(expected), "{name}: {reason}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}
