//! Decoding on one core, beside general JSON parsers on the same bytes.

use std::{hint::black_box, time::Instant};

use thalweg_event::{BatchContext, PriorityRules};
use thalweg_ingest::decode::{Sink, decode};

use crate::bodies::{Case, EVENTS};

/// Least time each measurement takes.
const SECONDS: f64 = 1.0;
/// What general parsers are measured on.
const NDJSON: &str = "ndjson, envelope 1";

/// Best and median seconds of `work`, repeated for at least [`SECONDS`].
fn repeat(mut work: impl FnMut()) -> (f64, f64) {
    work();
    let start = Instant::now();
    let mut times = Vec::new();
    while start.elapsed().as_secs_f64() < SECONDS {
        let start = Instant::now();
        work();
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    (times[0], times[times.len() / 2])
}

fn report(name: &str, bytes: usize, (best, median): (f64, f64)) {
    let megabytes = bytes as f64 / 1e6;
    let million_events = EVENTS as f64 / 1e6;
    println!(
        "{name:<36} {:>5} {:>8.0} {:>8.0} {:>10.2} {:>10.2}",
        bytes / EVENTS,
        megabytes / median,
        megabytes / best,
        million_events / median,
        million_events / best
    );
}

/// Prints a line for each case.
pub(crate) fn measure(cases: &[Case]) {
    println!(
        "{:<36} {:>5} {:>8} {:>8} {:>10} {:>10}",
        "one core", "bytes", "MB/s", "best", "M events/s", "best"
    );
    let rules = PriorityRules::default();
    for case in cases {
        let body = (case.body)(0);
        report(
            case.name,
            body.len(),
            repeat(|| {
                let context = BatchContext::new(1_700_000_000_000_000_000, &rules, [7; 10]);
                let mut sink = Sink::new(context, "bench");
                decode(case.format, &body, &mut sink).expect("the body is readable");
                let batch = match sink.spans {
                    Some(spans) => spans.finish(),
                    None => sink.events.finish(),
                };
                assert_eq!(batch.num_rows(), EVENTS, "{:?}", sink.faults.first());
                black_box(batch);
            }),
        );
    }

    let Some(ndjson) = cases.iter().find(|case| case.name == NDJSON) else { return };
    let ndjson = (ndjson.body)(0);
    println!("\nthe same ndjson, parsed only: no validation of fields, no columns");
    let each_line = |parse: &mut dyn FnMut(&[u8])| {
        repeat(|| {
            ndjson
                .split(|byte| *byte == b'\n')
                .filter(|line| !line.is_empty())
                .for_each(&mut *parse)
        })
    };
    report(
        "serde_json::Value",
        ndjson.len(),
        each_line(&mut |line| {
            black_box(serde_json::from_slice::<serde_json::Value>(line).expect("JSON"));
        }),
    );
    report(
        "serde_json::IgnoredAny",
        ndjson.len(),
        each_line(&mut |line| {
            black_box(serde_json::from_slice::<serde::de::IgnoredAny>(line).expect("JSON"));
        }),
    );
    let mut buffers = simd_json::Buffers::default();
    let mut copy = Vec::new();
    report(
        "simd_json tape (with a copy)",
        ndjson.len(),
        each_line(&mut |line| {
            copy.clear();
            copy.extend_from_slice(line);
            black_box(simd_json::to_tape_with_buffers(&mut copy, &mut buffers).expect("JSON"));
        }),
    );
}
