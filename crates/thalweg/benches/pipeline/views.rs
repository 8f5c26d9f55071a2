//! What it costs to keep views up to date, beside Spark Structured Streaming.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::{load, load::Workload, python, report, server::BenchServer};

/// A view that counts each event so many times, as `events`.
struct BenchView {
    query: &'static str,
    counts: u64,
}

/// The first is what Spark computes.
const VIEWS: [BenchView; 10] = [
    BenchView {
        query: "SELECT service, count(*) AS events, count(*) FILTER (WHERE level = 'ERROR') AS errors, avg(duration_ms) AS mean_ms, max(duration_ms) AS max_ms FROM logs GROUP BY tumble(INTERVAL '1 minute'), service",
        counts: 1,
    },
    BenchView {
        query: "SELECT http_status, count(*) AS events FROM logs GROUP BY tumble(INTERVAL '1 minute'), http_status",
        counts: 1,
    },
    BenchView {
        query: "SELECT service, count(*) AS events, approx_percentile_cont(0.99) WITHIN GROUP (ORDER BY duration_ms) AS p99_ms FROM logs GROUP BY tumble(INTERVAL '1 minute'), service",
        counts: 1,
    },
    BenchView {
        query: "SELECT http_path, count(*) AS events, sum(bytes) AS bytes FROM logs GROUP BY tumble(INTERVAL '1 minute'), http_path",
        counts: 1,
    },
    BenchView {
        query: "SELECT service, count(*) AS events FROM logs GROUP BY hop(INTERVAL '5 minutes', INTERVAL '1 minute'), service",
        counts: 5,
    },
    BenchView {
        query: "SELECT host, level, count(*) AS events FROM logs GROUP BY tumble(INTERVAL '10 seconds'), host, level",
        counts: 1,
    },
    BenchView {
        query: "SELECT service, approx_distinct(trace_id) AS requests, count(*) AS events FROM logs GROUP BY tumble(INTERVAL '1 minute'), service",
        counts: 1,
    },
    BenchView {
        query: "SELECT http_method, count(*) AS events, stddev(duration_ms) AS spread FROM logs GROUP BY tumble(INTERVAL '1 hour'), http_method",
        counts: 1,
    },
    BenchView {
        query: "SELECT environment, count(*) AS events, min(duration_ms) AS best FROM logs GROUP BY tumble(INTERVAL '1 second'), environment",
        counts: 1,
    },
    BenchView {
        query: "SELECT template_id(message) AS template, count(*) AS events FROM logs GROUP BY tumble(INTERVAL '1 minute'), template_id(message)",
        counts: 1,
    },
];

/// A view with as many groups as there are requests.
const BY_REQUEST: BenchView = BenchView {
    query: "SELECT trace_id, count(*) AS events, max(duration_ms) AS max_ms FROM logs GROUP BY tumble(INTERVAL '1 day'), trace_id",
    counts: 1,
};

/// Threads of the server that maintain views.
const THREADS: &str = "stream";

/// Measures 0, 1, 3 and 10 views, one of many keys, and Spark.
pub(crate) async fn measure(workload: &Workload, directory: &Path) -> anyhow::Result<()> {
    println!("\ncontinuous views:");
    let mut without = Duration::ZERO;
    let mut per_core = 0.0;
    let mut counted = None;
    for count in [0, 1, 3, 10] {
        let run = Run::of(&VIEWS[..count], workload, directory).await?;
        let s = if count == 1 { "" } else { "s" };
        report::rate(&format!("ingest with {count} view{s}"), workload, run.ingest);
        if count == 0 {
            without = run.ingest;
            continue;
        }
        report::ratio("  of ingest without", without, run.ingest);
        let rate = (workload.events() * count as u64) as f64 / run.view_cpu.as_secs_f64();
        println!(
            "{:<44} {:>8.2} s  {rate:>10.0} events/s per view and core; complete {:.1} s after the last acknowledgement",
            "  CPU time of the views",
            run.view_cpu.as_secs_f64(),
            run.behind.as_secs_f64(),
        );
        if count == 1 {
            per_core = rate;
            counted = Some(run.first_rows);
        }
    }
    let run = Run::of(&[BY_REQUEST], workload, directory).await?;
    println!(
        "{:<44} {:>8} keys  {:.0} MB on disk, {:.0} bytes a key; {:.2} s CPU",
        "state of a view by request",
        run.groups,
        run.state_bytes as f64 / 1e6,
        run.state_bytes as f64 / run.groups as f64,
        run.view_cpu.as_secs_f64(),
    );
    spark(workload, per_core, &counted.context("a run with one view")?)
}

/// What came of a run.
struct Run {
    ingest: Duration,
    /// Time after the last acknowledgement until all views had all events.
    behind: Duration,
    view_cpu: Duration,
    /// Groups of the first view.
    groups: u64,
    state_bytes: u64,
    /// Events by service, by the first view, if it has services.
    first_rows: BTreeMap<String, u64>,
}

impl Run {
    async fn of(
        views: &[BenchView],
        workload: &Workload,
        directory: &Path,
    ) -> anyhow::Result<Self> {
        let data = tempfile::Builder::new().prefix("views-").tempdir_in(directory)?;
        let server = BenchServer::start(data.path(), &["stream.builtin_views=false"])?;
        let http = reqwest::Client::builder().no_proxy().build()?;
        for (n, view) in views.iter().enumerate() {
            // Probes are of now, the events of when they were generated.
            let create = format!("CREATE VIEW v{n} WITH (lateness_secs = 3600) AS {}", view.query);
            server.sql(&http, &create).await?;
        }
        let before = server.cpu_of(THREADS)?;
        let ingested = load::ingest(workload, &server).await?;
        let events = workload.events() + ingested.visible_after.len() as u64;
        let since = std::time::Instant::now();
        for (n, view) in views.iter().enumerate() {
            let expected = view.counts * events;
            let query = format!("SELECT sum(events), count(*) FROM v{n}");
            while server.sql(&http, &query).await?["rows"][0][0].as_u64() != Some(expected) {
                ensure!(since.elapsed() < Duration::from_secs(300), "view v{n} is not complete");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        let behind = since.elapsed();
        let view_cpu = server.cpu_of(THREADS)? - before;
        let mut run = Self {
            ingest: ingested.elapsed,
            behind,
            view_cpu,
            groups: 0,
            state_bytes: report::disk_bytes(&data.path().join("stream/v0")).unwrap_or(0),
            first_rows: BTreeMap::new(),
        };
        if let Some(first) = views.first() {
            let answer = server.sql(&http, "SELECT count(*) FROM v0").await?;
            run.groups = answer["rows"][0][0].as_u64().context("a count")?;
            if first.query.contains("service") {
                let by_service = "SELECT service, sum(events) FROM v0 GROUP BY service";
                let answer = server.sql(&http, by_service).await?;
                for row in answer["rows"].as_array().context("rows")? {
                    let [Value::String(service), events] = &row.as_array().context("a row")?[..]
                    else {
                        continue;
                    };
                    run.first_rows.insert(service.clone(), events.as_u64().context("a count")?);
                }
            }
        }
        server.stop()?;
        Ok(run)
    }
}

/// The first view by Spark, over the file of events as they are sent, and over Parquet.
fn spark(
    workload: &Workload,
    ours_per_core: f64,
    ours: &BTreeMap<String, u64>,
) -> anyhow::Result<()> {
    for format in ["json", "parquet"] {
        let request = serde_json::json!({"file": workload.file(), "format": format});
        let answer = python::run("SPARK_PYTHON", "spark_per_minute.py", &request.to_string())?;
        let seconds = answer["seconds"].as_f64().context("seconds")?;
        let rate = workload.events() as f64 / seconds;
        println!(
            "{:<44} {seconds:>8.1} s  {rate:>10.0} events/s on all cores; ours on one core: {:.1} times that",
            format!("the first view by PySpark from {format}"),
            ours_per_core / rate,
        );
        for (service, events) in answer["events"].as_object().context("events")? {
            ensure!(
                ours.get(service) == events.as_u64().as_ref(),
                "Spark counts {events} events of {service}, the view {:?}",
                ours.get(service)
            );
        }
    }
    Ok(())
}
