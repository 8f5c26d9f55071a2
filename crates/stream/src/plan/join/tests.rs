//! Which joins are views, and what becomes of their conditions.

use super::*;
use crate::differential::{options, plan, plan_of};

const SECOND: i64 = 1_000_000;

async fn join(on: &str) -> crate::Result<Plan> {
    let query = format!(
        "SELECT count(*) FROM events l JOIN others r ON l.service = r.service AND {on} \
         GROUP BY tumble(INTERVAL '1 minute', l.timestamp)"
    );
    Ok(plan(&query, options()).await?.0)
}

#[tokio::test]
async fn a_bound_is_found_however_it_is_said() {
    for (on, lo, hi) in [
        (
            "r.timestamp BETWEEN l.timestamp - INTERVAL '1 minute' \
                AND l.timestamp + INTERVAL '1 second'",
            -60 * SECOND,
            SECOND,
        ),
        (
            "l.timestamp BETWEEN r.timestamp - INTERVAL '1 second' \
                AND r.timestamp + INTERVAL '1 minute'",
            -60 * SECOND,
            SECOND,
        ),
        (
            "r.timestamp > l.timestamp AND l.timestamp + INTERVAL '1 day' > r.timestamp",
            1,
            86_400 * SECOND - 1,
        ),
        (
            "r.timestamp - INTERVAL '3 seconds' <= l.timestamp \
                AND r.timestamp >= INTERVAL '2 seconds' + l.timestamp",
            2 * SECOND,
            3 * SECOND,
        ),
        (
            "r.timestamp >= l.timestamp AND r.timestamp <= l.timestamp + INTERVAL '1 hour' \
                AND r.timestamp <= l.timestamp + INTERVAL '1 minute'",
            0,
            60 * SECOND,
        ),
        (
            "r.timestamp - l.timestamp BETWEEN INTERVAL '-5 seconds' AND INTERVAL '5 seconds'",
            -5 * SECOND,
            5 * SECOND,
        ),
        (
            "r.timestamp >= l.timestamp - '2 seconds'::interval \
                AND r.timestamp < l.timestamp - INTERVAL '1 second' + INTERVAL '500 ms'",
            -2 * SECOND,
            -SECOND / 2 - 1,
        ),
        ("r.timestamp = l.timestamp", 0, 0),
    ] {
        let plan = join(on).await.unwrap_or_else(|error| panic!("{on}: {error}"));
        assert_eq!(plan.join.unwrap().bound, Bound { lo, hi }, "{on}");
        assert!(plan.before.steps.is_empty(), "{on}: nothing is left to be asked");
    }
}

#[tokio::test]
async fn what_does_not_bound_both_ends_is_refused_with_what_would() {
    for on in [
        "true",
        "r.timestamp >= l.timestamp",
        "r.timestamp NOT BETWEEN l.timestamp AND l.timestamp + INTERVAL '1 minute'",
        "r.timestamp >= l.timestamp AND r.timestamp <= l.timestamp + INTERVAL '1 month'",
        "date_trunc('day', r.timestamp) = date_trunc('day', l.timestamp)",
        "r.timestamp BETWEEN r.timestamp - INTERVAL '1 s' AND r.timestamp + INTERVAL '1 s'",
        "(r.timestamp = l.timestamp OR l.bytes = 1)",
    ] {
        let error = join(on).await.err().unwrap_or_else(|| panic!("{on} passed"));
        let expected = "AND r.timestamp BETWEEN l.timestamp - INTERVAL '1 minute' AND \
                        l.timestamp + INTERVAL '1 minute'";
        assert!(error.to_string().contains(expected), "{on}: {error}");
    }
}

#[tokio::test]
async fn what_is_asked_of_one_side_is_asked_before_its_rows_are_kept() {
    let on = "r.timestamp = l.timestamp AND l.bytes > 3";
    let query = format!(
        "SELECT count(*), max(l.\"user\") FROM events l JOIN others r \
         ON l.service = r.service AND {on} WHERE r.bytes < 9 AND l.bytes <> r.bytes \
         GROUP BY tumble(INTERVAL '1 minute', r.timestamp)"
    );
    let plan = plan(&query, options()).await.unwrap().0;
    let join = plan.join.as_ref().unwrap();
    assert_eq!(join.sides.each_ref().map(|side| side.before.steps.len()), [1, 1]);
    assert_eq!(plan.before.steps.len(), 1);
    assert_eq!(join.timed, Side::Right);
    let kept = join.sides.each_ref().map(|side| {
        side.schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>()
    });
    let [left, right] = kept;
    assert_eq!(left, ["user", "bytes", "key_0", "key_1", "event_time"]);
    assert_eq!(right, ["bytes", "key_0", "key_1", "event_time"]);
}

#[tokio::test]
async fn a_join_that_is_no_view_is_refused_with_the_reason() {
    const WITHIN: &str = "r.timestamp BETWEEN l.timestamp AND l.timestamp + INTERVAL '1 minute'";
    let tumble = "GROUP BY tumble(INTERVAL '1 minute', l.timestamp)";
    for (query, expected) in [
        (
            format!(
                "SELECT count(*) FROM events l LEFT JOIN others r ON l.service = r.service AND {WITHIN} {tumble}"
            ),
            "expected an inner JOIN, found a Left one",
        ),
        (
            format!("SELECT count(*) FROM events l JOIN others r ON {WITHIN} {tumble}"),
            "expected an equality between the two sides",
        ),
        (
            format!(
                "SELECT count(*) FROM events l, others r WHERE l.bytes < r.bytes AND {WITHIN} {tumble}"
            ),
            "expected an equality between the two sides",
        ),
        (
            format!(
                "SELECT count(*) FROM events l JOIN others r ON l.service = r.service AND {WITHIN} GROUP BY tumble(INTERVAL '1 minute')"
            ),
            "tumble(INTERVAL '1 minute', l.timestamp) or tumble(INTERVAL '1 minute', r.timestamp)",
        ),
        (
            format!(
                "SELECT count(*) FROM events l JOIN others r ON l.service = r.service AND {WITHIN} \
                GROUP BY tumble(INTERVAL '1 minute', l.timestamp + INTERVAL '1 s')"
            ),
            "say which one tells their window",
        ),
        (
            format!(
                "SELECT count(*) FROM events l JOIN others r ON l.service = r.service AND {WITHIN} \
                JOIN events o ON o.service = l.service AND o.timestamp = l.timestamp {tumble}"
            ),
            "expected one JOIN of two streams",
        ),
        (
            format!(
                "SELECT count(*) FROM events l JOIN others r ON l.service = r.service \
                AND r.timestamp BETWEEN l.timestamp + INTERVAL '2 s' AND l.timestamp {tumble}"
            ),
            "are its ends swapped?",
        ),
        (
            format!(
                "SELECT count(*) FROM events l JOIN others r ON l.service = r.service AND {WITHIN} \
                AND random() < 0.5 {tumble}"
            ),
            "does not always answer the same",
        ),
        (
            format!(
                "SELECT l.service FROM events l JOIN others r ON l.service = r.service AND {WITHIN}"
            ),
            "expected GROUP BY with a window",
        ),
    ] {
        let error = plan(&query, options()).await.err();
        let text = error.unwrap_or_else(|| panic!("{query} passed")).to_string();
        assert!(text.contains(expected), "{query}: {text}");
    }
}

#[tokio::test]
async fn the_map_of_services_is_a_view() {
    let query = "SELECT p.service AS caller, c.service AS callee, count(*) AS calls, \
            count(*) FILTER (WHERE c.status_code = 'ERROR') AS errors, \
            approx_percentile_cont(c.duration_ms, 0.95) AS p95_ms \
        FROM spans c JOIN spans p ON c.trace_id = p.trace_id AND c.parent_span_id = p.span_id \
            AND p.timestamp BETWEEN c.timestamp - INTERVAL '1 minute' \
                AND c.timestamp + INTERVAL '1 second' \
        WHERE c.service <> p.service \
        GROUP BY tumble(INTERVAL '1 minute', c.timestamp), p.service, c.service";
    let (plan, _) = plan_of(query, options(), vec![Stream::spans()]).await.unwrap();
    assert_eq!(plan.streams.len(), 1);
    let mut read = plan.columns(0);
    read.sort();
    let expected = [
        "duration_ms",
        "parent_span_id",
        "service",
        "span_id",
        "status_code",
        "timestamp",
        "trace_id",
    ];
    assert_eq!(read, expected);
    let join = plan.join.as_ref().unwrap();
    assert_eq!(join.timed, Side::Left);
    let minute = 60 * SECOND;
    assert_eq!(plan.closed_until(minute), minute - SECOND, "a caller may come a second later");
}
