//! Views of two streams, or of one joined with itself.

use super::*;

/// Steps in which all partitions go on together, with events at the edges of what is in time: the
/// watermark is right behind them.
fn close_steps(topics: &'static [&'static str]) -> impl Strategy<Value = Vec<Step>> {
    let other = prop_oneof![
        6 => Just(Step::Checkpoint),
        2 => (0usize..4, any::<bool>())
            .prop_map(|(appends, is_done)| Step::Crash { appends, is_done }),
        1 => Just(Step::CrashBetween),
    ];
    proptest::collection::vec((0i64..12, other), 6..20).prop_flat_map(move |drawn| {
        let mut latest = 2 * LATENESS;
        let mut steps: Vec<BoxedStrategy<Step>> = vec![];
        for (seconds, other) in drawn {
            latest += seconds * SECOND;
            for topic in topics {
                for partition in 0..2 {
                    let before = prop_oneof![
                        2 => (LATENESS - 3 * SECOND)..=LATENESS,
                        1 => 0..=LATENESS,
                    ];
                    let event = (before, 0u8..2, 0u8..2, 0i64..100).prop_map(
                        move |(before, service, user, bytes)| Event {
                            time: EPOCH + latest - before,
                            service: Some(service),
                            user,
                            bytes,
                        },
                    );
                    let events = proptest::collection::vec(event, 0..3);
                    let append = move |mut events: Vec<Event>| {
                        let time = EPOCH + latest;
                        events.push(Event { time, service: None, user: 3, bytes: 7 });
                        Step::Append { topic, partition, events }
                    };
                    steps.push(events.prop_map(append).boxed());
                }
            }
            steps.push(Just(Step::Take { entries: 9 }).boxed());
            steps.push(Just(other).boxed());
        }
        steps
    })
}

/// Steps of either kind.
fn join_steps(topics: &'static [&'static str]) -> impl Strategy<Value = Vec<Step>> {
    prop_oneof![steps(topics), close_steps(topics)]
}

/// A stream joined with itself, as spans are with those that called them.
fn calls() -> (String, String) {
    let select = "p.service AS caller, c.service AS callee, count(*) AS calls, \
        sum(c.bytes) AS bytes, avg(p.bytes) AS mean, min(p.\"user\") AS first_user, \
        count(*) FILTER (WHERE c.bytes > 50) AS large";
    let from = "events c JOIN events p ON c.\"user\" = p.\"user\" \
            AND p.timestamp BETWEEN c.timestamp - INTERVAL '10 seconds' \
                AND c.timestamp + INTERVAL '2 seconds' \
            AND c.bytes <> p.bytes + 1 \
        WHERE c.service <> p.service AND c.bytes <> 7";
    let view = format!(
        "SELECT {select} FROM {from} \
         GROUP BY tumble(INTERVAL '20 seconds', c.timestamp), p.service, c.service"
    );
    let batch = format!(
        "SELECT tumble(INTERVAL '20 seconds', c.timestamp) AS s, \
                tumble(INTERVAL '20 seconds', c.timestamp) + INTERVAL '20 seconds', {select} \
         FROM {from} \
         GROUP BY tumble(INTERVAL '20 seconds', c.timestamp), p.service, c.service"
    );
    (view, batch)
}

/// Rows of two streams, by two keys of which one may be null, the later between 1 and 9 s behind
/// the earlier one.
const FOLLOWED: &str = "SELECT l.name AS service, r.\"user\", l.more + r.bytes AS bytes, \
        l.happened AS first, r.timestamp AS second \
    FROM (SELECT upper(service) AS name, \"user\", bytes + 1 AS more, timestamp AS happened \
          FROM events WHERE bytes < 90) AS l \
    JOIN others r ON l.\"user\" = r.\"user\" AND l.name = upper(r.service) \
    WHERE r.timestamp > l.happened + INTERVAL '1 second' \
      AND l.happened >= r.timestamp - INTERVAL '9 seconds' AND l.more <> r.bytes";

fn followed_hopping() -> (String, String) {
    let view = format!(
        "SELECT service, {AGGREGATES} FROM ({FOLLOWED}) AS j \
         GROUP BY hop(INTERVAL '30 seconds', INTERVAL '10 seconds', j.first), service"
    );
    let shifted = |n: i64| {
        format!(
            "SELECT tumble(INTERVAL '10 seconds', first) - INTERVAL '{} seconds' AS s, * FROM j",
            n * 10
        )
    };
    let all = [0, 1, 2].map(shifted).join(" UNION ALL ");
    let batch = format!(
        "WITH j AS ({FOLLOWED}) SELECT s, s + INTERVAL '30 seconds', service, {AGGREGATES} \
         FROM ({all}) GROUP BY s, service"
    );
    (view, batch)
}

fn followed_sessions() -> (String, String) {
    let view = format!(
        "SELECT \"user\", {AGGREGATES} FROM ({FOLLOWED}) AS j \
         GROUP BY session(INTERVAL '6 seconds', second), \"user\""
    );
    let batch = format!(
        "WITH j AS ({FOLLOWED}), \
         marked AS (SELECT *, CASE WHEN second - lag(second) OVER w > INTERVAL '6 seconds' \
                THEN 1 ELSE 0 END AS is_first \
            FROM j WINDOW w AS (PARTITION BY \"user\" ORDER BY second)), \
         numbered AS (SELECT *, sum(is_first) OVER (PARTITION BY \"user\" ORDER BY second \
                RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS n FROM marked) \
         SELECT min(second), max(second) + INTERVAL '6 seconds', \"user\", {AGGREGATES} \
         FROM numbered GROUP BY n, \"user\""
    );
    (view, batch)
}

/// Memory for rows to be joined: for none, for some, for all.
fn join_bytes() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0), Just(8_000), Just(usize::MAX)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn a_stream_joined_with_itself_equals_batch_sql_through_crashes(
        steps in join_steps(&[EVENTS]), join_bytes in join_bytes(),
    ) {
        check_with_memory(calls(), &steps, join_bytes);
    }

    #[test]
    fn hopping_views_of_two_streams_equal_batch_sql_through_crashes(
        steps in join_steps(&[EVENTS, OTHERS]), join_bytes in join_bytes(),
    ) {
        check_with_memory(followed_hopping(), &steps, join_bytes);
    }

    #[test]
    fn session_views_of_two_streams_equal_batch_sql_through_crashes(
        steps in join_steps(&[EVENTS, OTHERS]), join_bytes in join_bytes(),
    ) {
        check_with_memory(followed_sessions(), &steps, join_bytes);
    }
}

/// Rows of one user that are at most 10 s behind others, by the time of the earlier ones.
const WITHIN: &str = "SELECT count(*) AS pairs FROM events l JOIN others r USING (\"user\") \
    WHERE l.timestamp BETWEEN r.timestamp - INTERVAL '10 seconds' AND r.timestamp \
    GROUP BY tumble(INTERVAL '10 seconds', l.timestamp)";

fn at(seconds: i64) -> Event {
    Event { time: EPOCH + seconds * SECOND, service: None, user: 1, bytes: 5 }
}

impl Harness {
    /// Appends an event of each time to all partitions of `topic`, and makes a checkpoint.
    async fn come(&mut self, topic: &'static str, seconds: &[i64]) {
        for partition in 0..2 {
            let events = seconds.iter().copied().map(at).collect();
            self.step(&Step::Append { topic, partition, events }).await;
        }
        self.step(&Step::Take { entries: 9 }).await;
        self.step(&Step::Checkpoint).await;
    }

    fn join(&self) -> &Join {
        self.view.as_ref().unwrap().join().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_wait_to_be_joined_until_the_watermark_is_past_their_matches() {
    let mut harness = Harness::new(WITHIN, options()).await;
    harness.come(EVENTS, &[100]).await;
    harness.come(OTHERS, &[100]).await;
    let both = harness.join().stored_bytes();
    assert!(both > 0 && harness.join().resident_bytes() > 0);
    // The watermark is at 103 s: no row comes any more that one at 100 s is behind.
    harness.come(EVENTS, &[133]).await;
    harness.come(OTHERS, &[133]).await;
    let store = |harness: &Harness| harness.view.as_ref().unwrap().buffered_on_disk();
    let kept = |harness: &Harness, side| store(harness).iter().filter(|of| **of == side).count();
    assert_eq!(kept(&harness, Side::Right), 1, "only the one at 133 s");
    assert_eq!(kept(&harness, Side::Left), 2, "one may come that is behind the one at 100 s");
    // At 115 s, none may.
    harness.come(EVENTS, &[145]).await;
    harness.come(OTHERS, &[145]).await;
    assert_eq!(kept(&harness, Side::Left), 2, "those at 133 s and 145 s");
    harness.finish().await;
    assert_eq!(store(&harness), []);
    assert_eq!((harness.join().stored_bytes(), harness.join().resident_bytes()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_stays_open_until_no_row_of_it_can_be_joined_any_more() {
    let mut harness = Harness::new(WITHIN, options()).await;
    harness.come(EVENTS, &[105, 147]).await;
    harness.come(OTHERS, &[105, 147]).await;
    // The watermark is at 117 s, past the window from 100 s to 110 s. Rows at 117 s are in time
    // for those at 107 s.
    assert_eq!(harness.rows().await, Vec::<Vec<String>>::new());
    harness.come(OTHERS, &[117]).await;
    harness.come(EVENTS, &[108, 117]).await;
    harness.finish().await;
    let pairs: Vec<String> = harness.rows().await.into_iter().map(|row| row[2].clone()).collect();
    // Two rows each: at 105 s with those at 105 s; at 117 s and 147 s as well. Those at 108 s were
    // late.
    assert_eq!(pairs, ["4", "4", "4"]);
    let late = harness.topic(LATE_EVENTS, &crate::late_schema()).await;
    assert_eq!(late.num_rows(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_event_of_a_stream_joined_with_itself_is_told_of_once() {
    let query = "SELECT count(*) AS pairs FROM events l JOIN events r ON l.\"user\" = r.\"user\" \
        AND l.timestamp BETWEEN r.timestamp - INTERVAL '10 seconds' AND r.timestamp \
        WHERE l.bytes <> 6 AND r.service IS NULL \
        GROUP BY tumble(INTERVAL '10 seconds', l.timestamp)";
    let mut harness = Harness::new(query, options()).await;
    harness.come(EVENTS, &[100]).await;
    // The watermark is at 70 s. No side would have taken the third; the last one is just in time.
    let events = vec![
        at(55),
        Event { bytes: 6, ..at(56) },
        Event { bytes: 6, service: Some(1), ..at(57) },
        Event { time: at(70).time - 1, ..at(70) },
        at(70),
    ];
    harness.step(&Step::Append { topic: EVENTS, partition: 0, events }).await;
    harness.step(&Step::Take { entries: 9 }).await;
    harness.step(&Step::Crash { appends: 1, is_done: true }).await;
    harness.finish().await;
    let late = sorted(&harness.topic(LATE_EVENTS, &crate::late_schema()).await);
    let late: Vec<&str> = late.iter().map(|row| row[3].as_str()).collect();
    assert_eq!(
        late,
        [
            r#"{"timestamp":"2023-11-14T22:14:15Z","user":"user-1","bytes":5}"#,
            r#"{"timestamp":"2023-11-14T22:14:16Z","user":"user-1","bytes":6}"#,
            r#"{"timestamp":"2023-11-14T22:14:29.999999Z","user":"user-1","bytes":5}"#,
        ]
    );
    let pairs: Vec<String> = harness.rows().await.into_iter().map(|row| row[2].clone()).collect();
    assert_eq!(pairs, ["1", "4"], "the one at 70 s with itself, the two at 100 s with each other");
}

#[tokio::test(flavor = "multi_thread")]
async fn history_is_joined_with_itself_and_with_what_comes() {
    for gather_bytes in [1, 64 << 20] {
        let (view, sql) = followed_hopping();
        let mut harness = Harness::with_memory(&view, options(), 0).await;
        let random = |seed: i64, n: i64| (n * 7_919 + seed * 104_729) % 100_003;
        let events = |seed, from: i64| {
            let event = |n| Event {
                time: EPOCH + (from + random(seed, n) % 60) * SECOND,
                service: Some((random(seed, n) % 2) as u8),
                user: (random(seed, n) % 3) as u8,
                bytes: random(seed, n) % 100,
            };
            batch(&(0..80).map(event).collect::<Vec<_>>())
        };
        // As if the view had just begun.
        let config = StreamConfig { gather_bytes, join_bytes: 0, ..StreamConfig::default() };
        let cursors = harness.view.take().unwrap().cursors().clone();
        let store = Store::open(&harness.directory.path().join("state"), "tested").unwrap();
        let now = harness.now();
        let mut begun =
            View::begin(harness.made(harness.log.clone()), store.into(), config, cursors, now)
                .unwrap();
        for (source, name) in [EVENTS, OTHERS].into_iter().enumerate() {
            for from in [40, 0] {
                let rows = events(source as i64, from);
                begun.take_history(source, &rows, now).unwrap();
                harness.appended.get_mut(name).unwrap().push(rows);
            }
        }
        begun.checkpoint(now).unwrap();
        harness.view = Some(begun);
        harness.step(&Step::CrashBetween).await;
        for (source, topic) in [EVENTS, OTHERS].into_iter().enumerate() {
            let rows = events(source as i64 + 5, 90);
            harness.appended.get_mut(topic).unwrap().push(rows.clone());
            harness.log.append(TopicPartition::new(topic, 0), rows).await.unwrap();
        }
        harness.finish().await;
        let rows = harness.rows().await;
        assert!(rows.len() > 10);
        assert_eq!(rows, harness.batch_sql(&sql).await);
    }
}
