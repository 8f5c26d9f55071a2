//! Eight typical questions about logs, asked of thalweg and of DuckDB over the same files.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::{python, server::BenchServer};

/// Times each question is asked; the median counts.
const REPEATS: usize = 5;

/// A question, in our SQL and, where the dialects differ, in DuckDB's.
struct Question {
    name: &'static str,
    ours: &'static str,
    duckdb: Option<&'static str>,
}

/// `{trace}` stands for the id of some trace.
const QUESTIONS: [Question; 8] = [
    Question {
        name: "counts by level and minute",
        ours: "SELECT date_trunc('minute', timestamp) AS minute, level, count(*) FROM logs GROUP BY 1, 2 ORDER BY 1, 2",
        duckdb: None,
    },
    Question {
        name: "top paths by p99 latency",
        ours: "SELECT http_path, count(*) AS n, approx_percentile_cont(0.99) WITHIN GROUP (ORDER BY duration_ms) AS p99 FROM logs GROUP BY 1 HAVING count(*) > 1000 ORDER BY p99 DESC LIMIT 20",
        duckdb: Some(
            "SELECT http_path, count(*) AS n, approx_quantile(duration_ms, 0.99) AS p99 FROM logs GROUP BY 1 HAVING count(*) > 1000 ORDER BY p99 DESC LIMIT 20",
        ),
    },
    Question {
        name: "latest errors of one service",
        ours: "SELECT timestamp, message, trace_id, attributes FROM logs WHERE service = 'payment' AND level = 'ERROR' ORDER BY timestamp DESC LIMIT 100",
        duckdb: None,
    },
    Question {
        name: "one trace id among all",
        ours: "SELECT timestamp, service, message FROM logs WHERE trace_id = '{trace}' ORDER BY timestamp",
        duckdb: None,
    },
    Question {
        name: "a substring in messages",
        ours: "SELECT service, count(*) FROM logs WHERE message LIKE '%timeout acquiring%' GROUP BY 1 ORDER BY 1",
        duckdb: None,
    },
    Question {
        name: "distinct clients per hour",
        ours: "SELECT date_trunc('hour', timestamp) AS hour, count(DISTINCT client_ip) FROM logs WHERE service = 'web' GROUP BY 1 ORDER BY 1",
        duckdb: None,
    },
    Question {
        name: "error share by service",
        ours: "SELECT service, count(*) AS n, avg(CASE WHEN severity_number >= 17 THEN 1.0 ELSE 0.0 END) AS errors FROM logs GROUP BY 1 ORDER BY errors DESC",
        duckdb: None,
    },
    Question {
        name: "slowest requests of ten seconds",
        ours: "SELECT trace_id, service, duration_ms FROM logs WHERE timestamp >= TIMESTAMP '{from}' AND timestamp < TIMESTAMP '{from}' + INTERVAL '10 seconds' ORDER BY duration_ms DESC LIMIT 20",
        duckdb: None,
    },
];

/// Asks every question and prints the times beside each other.
pub(crate) fn ask(server: &BenchServer, data: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let http = reqwest::Client::builder().no_proxy().build()?;
    let sql = |query: &str| runtime.block_on(server.sql(&http, query));
    let text =
        |answer: &Value| answer["rows"][0][0].as_str().map(str::to_owned).context("a row of text");
    let trace = text(&sql("SELECT trace_id FROM logs WHERE service = 'shipping' LIMIT 1")?)?;
    let late = "SELECT to_char(max(timestamp) - INTERVAL '60 seconds', '%Y-%m-%d %H:%M:%S') FROM logs WHERE service = 'search'";
    let from = text(&sql(late)?)?;
    let fill = |query: &str| query.replace("{trace}", &trace).replace("{from}", &from);

    let theirs: Vec<String> = QUESTIONS.iter().map(|q| fill(q.duckdb.unwrap_or(q.ours))).collect();
    let theirs = duckdb(
        &json!({ "files": live_files(&data.join("lake/logs"))?, "queries": theirs, "repeats": REPEATS }),
    )?;
    println!(
        "\n{:<34} {:>10} {:>10} {:>7}  rows",
        "question (median of 5)", "thalweg", "DuckDB", "ratio"
    );
    for (question, theirs) in QUESTIONS.iter().zip(theirs.as_array().context("times")?) {
        let query = fill(question.ours);
        let mut rows = 0;
        let mut times = Vec::new();
        // The first time of each is not counted.
        for _ in 0..=REPEATS {
            let start = Instant::now();
            rows = sql(&query)?["row_count"].as_u64().context("row_count")?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
        }
        times.remove(0);
        times.sort_by(f64::total_cmp);
        let (ours, duckdb) = (times[REPEATS / 2], theirs["ms"].as_f64().context("ms")?);
        println!(
            "{:<34} {ours:>7.1} ms {duckdb:>7.1} ms {:>7.2}  {rows}",
            question.name,
            ours / duckdb
        );
        ensure!(Some(rows) == theirs["rows"].as_u64(), "DuckDB found {} rows", theirs["rows"]);
    }
    Ok(())
}

/// Runs the DuckDB side in its own process.
fn duckdb(request: &Value) -> anyhow::Result<Value> {
    python::run("CLIENTS_PYTHON", "duckdb_questions.py", &request.to_string())
}

/// Files of the newest version of a Delta table, as `deltalake` sees it.
pub(crate) fn live_files(table: &Path) -> anyhow::Result<Vec<PathBuf>> {
    Ok(serde_json::from_value(
        python::run("CLIENTS_PYTHON", "delta_files.py", table.to_str().context("UTF-8")?)?["files"]
            .take(),
    )?)
}

/// Rows of the newest version of a Delta table, as `deltalake` sees it.
pub(crate) fn committed_rows(table: &Path) -> anyhow::Result<u64> {
    python::run("CLIENTS_PYTHON", "delta_files.py", table.to_str().context("UTF-8")?)?["rows"]
        .as_u64()
        .context("rows")
}
