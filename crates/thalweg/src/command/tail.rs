//! `thalweg tail`: new events as they arrive.

use std::{io::Write as _, process::ExitCode};

use anyhow::Context as _;
use futures::StreamExt as _;
use serde_json::Value;

use crate::{
    cli::{Output, TailArgs},
    client::Client,
};

/// Longest server-sent event, bytes.
const MAX_EVENT_BYTES: usize = 32 << 20;

pub(crate) fn run(args: &TailArgs) -> anyhow::Result<ExitCode> {
    super::block_on(follow(args))??;
    Ok(ExitCode::SUCCESS)
}

async fn follow(args: &TailArgs) -> anyhow::Result<()> {
    let client = Client::new(&args.server)?;
    let optional = [("q", &args.search), ("service", &args.service), ("level", &args.level)];
    let parameters: Vec<(&str, String)> =
        optional.into_iter().filter_map(|(key, value)| Some((key, value.clone()?))).collect();
    let mut body = client.get("/api/v1/logs/tail", &parameters).await?.bytes_stream();
    let mut pending = Vec::new();
    let mut out = std::io::stdout();
    let mut csv = CsvColumns::default();
    while let Some(part) = body.next().await {
        pending.extend_from_slice(&part.context("the server went away")?);
        anyhow::ensure!(
            pending.len() <= MAX_EVENT_BYTES,
            "an event is longer than {MAX_EVENT_BYTES} bytes"
        );
        while let Some(end) = pending.windows(2).position(|pair| pair == b"\n\n") {
            let event: Vec<u8> = pending.drain(..end + 2).collect();
            let (kind, data) = parse(&String::from_utf8_lossy(&event));
            if kind == "dropped" {
                eprintln!("(the server dropped events for this slow reader: {data})");
            } else if !data.is_empty() {
                let line = match args.output {
                    Output::Json => data,
                    Output::Table => line(&serde_json::from_str(&data)?),
                    Output::Csv => csv.line(&serde_json::from_str(&data)?),
                };
                writeln!(out, "{line}")?;
            }
        }
        out.flush()?;
    }
    anyhow::bail!("the server ended the stream")
}

/// Event name and data of one server-sent event (WHATWG HTML §9.2.6).
fn parse(event: &str) -> (String, String) {
    let (mut kind, mut data) = (String::new(), Vec::new());
    for line in event.lines() {
        if let Some(name) = line.strip_prefix("event:") {
            kind = name.trim().to_owned();
        } else if let Some(text) = line.strip_prefix("data:") {
            data.push(text.strip_prefix(' ').unwrap_or(text));
        }
    }
    (kind, data.join("\n"))
}

/// One event as a line for people: time, level, service, message.
fn line(event: &Value) -> String {
    let text = |key: &str| event[key].as_str().unwrap_or("-");
    let trace = event["trace_id"].as_str().map(|id| format!("  trace={id}")).unwrap_or_default();
    let line = format!(
        "{} {:5} {:<12} {}{trace}",
        text("timestamp"),
        text("level"),
        text("service"),
        text("message")
    );
    line.chars().map(|c| if c.is_control() { '␣' } else { c }).collect()
}

/// Prints the header once, then a line per event.
#[derive(Default)]
struct CsvColumns {
    header_printed: bool,
}

impl CsvColumns {
    fn line(&mut self, event: &Value) -> String {
        const COLUMNS: [&str; 5] = ["timestamp", "level", "service", "trace_id", "message"];
        let cell = |key: &str| {
            let text = event[key].as_str().unwrap_or_default();
            if text.contains([',', '"', '\n', '\r']) {
                format!("\"{}\"", text.replace('"', "\"\""))
            } else {
                text.to_owned()
            }
        };
        let row = COLUMNS.map(cell).join(",");
        if std::mem::replace(&mut self.header_printed, true) {
            row
        } else {
            format!("{}\n{row}", COLUMNS.join(","))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_its_name_and_its_data() {
        assert_eq!(
            parse("event: dropped\ndata: {\"n\":3}\n\n"),
            ("dropped".into(), "{\"n\":3}".into())
        );
        assert_eq!(parse(": heartbeat\n\n"), (String::new(), String::new()));
    }

    #[test]
    fn terminal_escapes_in_messages_are_not_passed_on() {
        let event = serde_json::json!({"message": "\u{1b}[31mred\u{1b}[0m\nnext", "level": "INFO"});
        assert!(!line(&event).contains(['\u{1b}', '\n']));
    }

    #[test]
    fn csv_cells_are_quoted_where_needed() {
        let mut csv = CsvColumns::default();
        let event = serde_json::json!({"level": "INFO", "message": "a,\"b\""});
        assert_eq!(
            csv.line(&event),
            "timestamp,level,service,trace_id,message\n,INFO,,,\"a,\"\"b\"\"\""
        );
    }
}
