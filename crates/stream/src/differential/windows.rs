//! Views of one stream.

use super::*;

/// A view's query, and the same as batch SQL.
fn tumbling() -> (String, String) {
    let view = format!(
        "SELECT service, {AGGREGATES} FROM events WHERE bytes <> 7 \
         GROUP BY tumble(INTERVAL '20 seconds'), service HAVING count(*) > 1"
    );
    let batch = format!(
        "SELECT tumble(INTERVAL '20 seconds', timestamp) AS s, \
                tumble(INTERVAL '20 seconds', timestamp) + INTERVAL '20 seconds', service, {AGGREGATES} \
         FROM events WHERE bytes <> 7 \
         GROUP BY tumble(INTERVAL '20 seconds', timestamp), service HAVING count(*) > 1"
    );
    (view, batch)
}

fn hopping() -> (String, String) {
    let view = format!(
        "SELECT upper(service) AS service, {AGGREGATES} FROM (SELECT service, \"user\", \
            bytes + 1 - 1 AS bytes FROM events) AS renamed \
         GROUP BY upper(service), hop(INTERVAL '30 seconds', INTERVAL '10 seconds')"
    );
    let shifted = |n: i64| {
        format!(
            "SELECT tumble(INTERVAL '10 seconds', timestamp) - INTERVAL '{} seconds' AS s, * FROM events",
            n * 10
        )
    };
    let all = [0, 1, 2].map(shifted).join(" UNION ALL ");
    let batch = format!(
        "SELECT s, s + INTERVAL '30 seconds', upper(service) AS service, {AGGREGATES} \
         FROM ({all}) GROUP BY s, upper(service)"
    );
    (view, batch)
}

fn sessions() -> (String, String) {
    let view = format!(
        "SELECT \"user\", {AGGREGATES} FROM events \
         GROUP BY session(INTERVAL '6 seconds'), \"user\""
    );
    let batch = format!(
        "WITH marked AS (SELECT *, CASE WHEN timestamp - lag(timestamp) OVER w > INTERVAL '6 seconds' \
                THEN 1 ELSE 0 END AS is_first \
            FROM events WINDOW w AS (PARTITION BY \"user\" ORDER BY timestamp)), \
         numbered AS (SELECT *, sum(is_first) OVER (PARTITION BY \"user\" ORDER BY timestamp \
                RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS n FROM marked) \
         SELECT min(timestamp), max(timestamp) + INTERVAL '6 seconds', \"user\", {AGGREGATES} \
         FROM numbered GROUP BY n, \"user\""
    );
    (view, batch)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn tumbling_views_equal_batch_sql_through_crashes(steps in steps(&[EVENTS])) {
        check(tumbling(), &steps);
    }

    #[test]
    fn hopping_views_equal_batch_sql_through_crashes(steps in steps(&[EVENTS])) {
        check(hopping(), &steps);
    }

    #[test]
    fn session_views_equal_batch_sql_through_crashes(steps in steps(&[EVENTS])) {
        check(sessions(), &steps);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_event_goes_to_the_side_table_with_how_late_it_was() {
    let query = "SELECT count(*) AS events FROM events GROUP BY tumble(INTERVAL '10 seconds')";
    let mut harness = Harness::new(query, options()).await;
    let at =
        |seconds: i64| Event { time: EPOCH + seconds * SECOND, service: None, user: 1, bytes: 5 };
    for partition in 0..2 {
        let events = vec![at(100)];
        harness.step(&Step::Append { topic: EVENTS, partition, events }).await;
    }
    harness.step(&Step::Take { entries: 9 }).await;
    harness.step(&Step::Checkpoint).await;
    // The watermark stands at 70 s: the window from 50 to 60 s is closed, the one from 70 s not.
    harness.step(&Step::Append { topic: EVENTS, partition: 0, events: vec![at(55), at(75)] }).await;
    harness.step(&Step::Take { entries: 9 }).await;
    harness.step(&Step::Crash { appends: 1, is_done: true }).await;
    harness.finish().await;
    let late = harness.topic(LATE_EVENTS, &crate::late_schema()).await;
    let event = r#"{"timestamp":"2023-11-14T22:14:15Z"}"#;
    let expected = [["2023-11-14T22:14:15Z", "tested", "15000", event].map(String::from).to_vec()];
    assert_eq!(sorted(&late), expected);
    let counts: Vec<String> = harness.rows().await.into_iter().map(|row| row[2].clone()).collect();
    assert_eq!(counts, ["1", "2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_goes_on_without_a_topic_that_its_stream_has_no_more() {
    let query = "SELECT count(*) AS events FROM events GROUP BY tumble(INTERVAL '10 seconds')";
    let mut harness = Harness::new(query, options()).await;
    let event = || vec![Event { time: EPOCH, service: None, user: 1, bytes: 5 }];
    harness.step(&Step::Append { topic: EVENTS, partition: 0, events: event() }).await;
    harness.step(&Step::Take { entries: 9 }).await;
    harness.step(&Step::Checkpoint).await;
    let other = Stream { topics: vec![OTHERS.into()], ..streams().remove(0) };
    harness.plan = Arc::new(plan_of(query, options(), vec![other]).await.unwrap().0);
    harness.log.remove_topic(EVENTS).unwrap();
    harness.step(&Step::CrashBetween).await;
    harness.view.as_mut().unwrap().skip_lost().unwrap();
    harness.step(&Step::Append { topic: OTHERS, partition: 0, events: event() }).await;
    harness.finish().await;
    let counts: Vec<String> = harness.rows().await.into_iter().map(|row| row[2].clone()).collect();
    assert_eq!(counts, ["2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn open_windows_are_seen_and_closed_ones_are_not_seen_twice() {
    for window in ["tumble(INTERVAL '10 seconds')", "session(INTERVAL '8 seconds')"] {
        see_each_window_once(window).await;
    }
}

/// Sums of open windows and of closed ones are those of all events, whenever they are asked for.
async fn see_each_window_once(window: &str) {
    let query =
        format!("SELECT \"user\", sum(bytes) AS bytes FROM events GROUP BY {window}, \"user\"");
    let mut harness = Harness::new(&query, options()).await;
    for seconds in [0, 3, 9, 60, 61, 100] {
        for partition in 0..2 {
            let time = EPOCH + seconds * SECOND;
            let events = vec![Event { time, service: None, user: partition as u8, bytes: 2 }];
            harness.step(&Step::Append { topic: EVENTS, partition, events }).await;
        }
        harness.step(&Step::Take { entries: 9 }).await;
        harness.step(&Step::Checkpoint).await;
        harness.elapsed += Duration::from_secs(1);
        let now = harness.now();
        let view = harness.view.as_mut().unwrap();
        let published = view.refresh(now).unwrap();
        assert!(view.refresh(now).is_none(), "once a second");
        let mut sum = 0;
        for results in published.open.results().unwrap() {
            let rows = harness.plan.output(results).unwrap();
            let bytes: &Int64Array = arrow::array::AsArray::as_primitive(rows.column(3));
            sum += bytes.iter().flatten().sum::<i64>();
        }
        let rows = harness.rows().await;
        let end = |row: &Vec<String>| string_to_timestamp_nanos(&row[1]).unwrap() / 1_000;
        assert!(rows.iter().all(|row| end(row) <= published.closed_until), "after {seconds} s");
        let closed = rows.iter().map(|row| row[3].parse::<i64>().unwrap()).sum::<i64>();
        let all: usize = harness.appended[EVENTS].iter().map(RecordBatch::num_rows).sum();
        assert_eq!(sum + closed, all as i64 * 2, "after {seconds} s");
    }
}

#[tokio::test]
async fn a_query_that_is_no_view_is_refused_with_the_reason() {
    for (query, expected) in [
        ("SELECT count(*) FROM events", "expected a window in GROUP BY"),
        ("SELECT service FROM events", "expected GROUP BY with a window"),
        ("SELECT count(*) FROM events GROUP BY tumble(INTERVAL '1 month')", "months differ"),
        ("SELECT count(*) FROM events GROUP BY hop(INTERVAL '10s', INTERVAL '3s')", "multiple"),
        ("SELECT count(*) FROM events GROUP BY tumble('1s'), tumble('2s')", "found two"),
        (
            "SELECT count(*) FROM events WHERE random() > 0.5 GROUP BY tumble('1s')",
            "does not always answer the same",
        ),
        ("SELECT count(*) AS n FROM events GROUP BY tumble('1s') ORDER BY n", "ORDER BY"),
        ("SELECT 1 AS window_end, count(*) FROM events GROUP BY tumble('1s')", "two columns"),
        ("SELECT array_agg(bytes) FROM events GROUP BY tumble('1s')", "cast it to text"),
        ("SELECT count(*) FROM nowhere GROUP BY tumble('1s')", "nowhere"),
    ] {
        let error = plan(query, options()).await.err().unwrap_or_else(|| panic!("{query} passed"));
        let text = error.to_string();
        assert!(text.contains(expected), "{query}: {text}");
    }
}

#[test]
fn rows_in_any_order_make_the_same_sessions() {
    // Taking the rows of one batch in another order changes nothing.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (view, _) = sessions();
    let events: Vec<Event> = (0..40)
        .map(|n| Event {
            time: EPOCH + (n * 7 % 40) * SECOND,
            service: None,
            user: (n % 3) as u8,
            bytes: n,
        })
        .collect();
    let results = [1usize, 3, 7].map(|stride| {
        runtime.block_on(async {
            let mut harness = Harness::new(&view, options()).await;
            let order = (0..40).map(|n| (n * stride % 40) as u32);
            let rows = batch(&events);
            let rows = take_record_batch(&rows, &UInt32Array::from_iter_values(order)).unwrap();
            harness.log.append(TopicPartition::new(EVENTS, 0), rows).await.unwrap();
            harness.finish().await;
            harness.rows().await
        })
    });
    assert!(!results[0].is_empty());
    assert!(results.iter().all(|rows| *rows == results[0]));
}
