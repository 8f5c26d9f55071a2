//! How long it takes from an event's acknowledgement until somebody is told.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    path::Path,
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};

use crate::{report, server::BenchServer};

/// Events that are waited for.
const ROUNDS: usize = 20;
/// Longest wait for a notification.
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures alerts over a view and over the logs themselves.
pub(crate) async fn measure(directory: &Path) -> anyhow::Result<()> {
    println!("\nalerts, each rule evaluated every second, delivered by webhook:");
    for (name, query) in [
        (
            "acknowledgement to webhook, rule over a view",
            "SELECT service, max(errors) AS value FROM service_health WHERE errors > 0 AND window_start > now() - INTERVAL '5 minutes' GROUP BY service",
        ),
        (
            "acknowledgement to webhook, rule over logs",
            "SELECT service, count(*) AS value FROM logs WHERE level = 'ERROR' AND timestamp > now() - INTERVAL '5 minutes' GROUP BY service",
        ),
    ] {
        let latencies = latencies(query, directory).await?;
        report::latencies(name, &latencies, "alerts");
    }
    Ok(())
}

async fn latencies(query: &str, directory: &Path) -> anyhow::Result<Vec<Duration>> {
    let data = tempfile::Builder::new().prefix("alerts-").tempdir_in(directory)?;
    let (port, told) = webhook()?;
    let config = data.path().join("thalweg.yaml");
    std::fs::write(
        &config,
        format!(
            "alerts:\n  - {{name: Failing, every: 1s, query: \"{query}\"}}\nalerting:\n  receivers:\n    - {{name: hook, webhook: {{url: \"http://127.0.0.1:{port}/\"}}}}\n  routes:\n    - {{receivers: [hook], group_by: [service], group_wait: 0s}}\n"
        ),
    )?;
    let config = format!("--config={}", config.display());
    let server = BenchServer::start_with(data.path(), &[&config], &[])?;
    let http = reqwest::Client::builder().no_proxy().build()?;
    let mut latencies = vec![];
    for round in 0..ROUNDS {
        let service = format!("service-{round}-");
        let event = format!(r#"{{"service":"{service}","level":"ERROR","message":"no"}}"#);
        let request = http.post(format!("{}/api/v1/logs?format=json", server.http));
        let answer = request.body(event).send().await?;
        ensure!(answer.status() == 200, "round {round}: {}", answer.status());
        let acknowledged = Instant::now();
        while !told.recv_timeout(PATIENCE).context("nobody was told")?.contains(&service) {}
        latencies.push(acknowledged.elapsed());
        // Not in step with the rule's evaluation.
        tokio::time::sleep(Duration::from_millis(137 * round as u64 % 1_000)).await;
    }
    server.stop()?;
    Ok(latencies)
}

/// A receiver of notifications, and what it was told.
fn webhook() -> anyhow::Result<(u16, Receiver<String>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let (tell, told) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream);
            let (mut line, mut length) = (String::new(), 0);
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                let lower = line.to_ascii_lowercase();
                if let Some(value) = lower.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap_or(0);
                }
                line.clear();
            }
            let mut body = vec![0; length];
            if reader.read_exact(&mut body).is_err() {
                continue;
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            if reader.get_mut().write_all(answer).is_err()
                || tell.send(String::from_utf8_lossy(&body).into_owned()).is_err()
            {
                return;
            }
        }
    });
    Ok((port, told))
}
