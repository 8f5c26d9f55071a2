//! `thalweg demo`: a server, eight simulated services, an incident, and live counts.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io::IsTerminal as _,
    process::ExitCode,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use bytes::Bytes;
use thalweg_access::TokenFile;

use super::{query, serve};
use crate::{
    cli::DemoArgs,
    client::{Client, Exported, MAX_ROWS, Sent},
    config::Config,
    demo::{
        Incident, Tally, alarm, otlp,
        shop::{Lines, SERVICES, Shop, Span},
    },
    server::{Addresses, Server},
    telemetry,
};

/// How often the services hand over what they logged.
const TICK: Duration = Duration::from_millis(100);
/// How often the counts are shown.
const SHOW_EVERY: Duration = Duration::from_secs(2);
/// Wait before events are sent again after the server was busy.
const RETRY_WAIT: Duration = Duration::from_millis(200);
/// Ids asked for in one query of the final check.
const IDS_PER_QUERY: u64 = 100_000;
/// Longest that events may take from acknowledgement to a query's answer.
const VISIBLE_WITHIN: Duration = Duration::from_secs(1);

const COUNTS: &str = "SELECT service, count(*) AS events, \
    count(*) FILTER (WHERE severity_number >= 17) AS errors, \
    round(approx_percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_ms), 1) AS p50_ms, \
    round(approx_percentile_cont(0.99) WITHIN GROUP (ORDER BY duration_ms), 1) AS p99_ms \
    FROM logs WHERE timestamp > now() - INTERVAL '10 seconds' GROUP BY service ORDER BY service";

pub(crate) fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        args.rate > 0.0 && args.rate <= 100_000.0,
        "--rate: expected more than 0 and at most 100000, found {}",
        args.rate
    );
    let mut config = Config::load(&args.config)?;
    telemetry::start_logging(&config.logging, "warn")?;
    let metrics = telemetry::start_metrics()?;
    // Without a data directory of its own, the demonstration leaves nothing behind.
    let scratch = match args.config.data_dir {
        Some(_) => None,
        None => Some(tempfile::Builder::new().prefix("thalweg-demo-").tempdir()?),
    };
    if let Some(scratch) = &scratch {
        config.data_dir = scratch.path().to_owned();
    }
    config.alerts.push(alarm::rule(Incident::during(args.run_for))?);
    // It talks to itself, and shows no token.
    config.tls = None;
    anyhow::ensure!(
        TokenFile::in_directory(&config.data_dir).read()?.is_none(),
        "the demonstration has no token to show; choose another --data-dir"
    );
    tokio::runtime::Runtime::new()?.block_on(async {
        let server = Server::start(&config, metrics).await?;
        introduce(server.addresses(), args);
        let outcome = play(args, server.addresses()).await;
        server.stop().await;
        outcome
    })
}

fn introduce(addresses: &Addresses, args: &DemoArgs) {
    let Addresses { http, otlp_grpc, syslog, postgres } = addresses;
    println!("thalweg demo: {} services of an online shop are logging", SERVICES.len());
    println!(
        "  HTTP http://{http}   OTLP/gRPC {otlp_grpc}   syslog {syslog}   Postgres {postgres}\n"
    );
    println!("Try, in another terminal:");
    let url = if http.port() == 7070 { String::new() } else { format!(" --url http://{http}") };
    for sql in [
        "SELECT level, count(*) FROM logs GROUP BY level ORDER BY 2 DESC",
        "SELECT service, message, attributes->>'order.id' AS order_id FROM logs WHERE level = 'ERROR' ORDER BY timestamp DESC LIMIT 10",
        "SELECT http_path, count(*), approx_percentile_cont(0.99) WITHIN GROUP (ORDER BY duration_ms) AS p99_ms FROM logs WHERE service = 'checkout' GROUP BY 1",
    ] {
        println!("  thalweg query{url} \"{sql}\"");
    }
    for view in ["service_health", "service_map"] {
        println!(
            "  thalweg query{url} \"SELECT * FROM {view} ORDER BY window_start DESC LIMIT 8\""
        );
    }
    println!("  thalweg alerts{url} --follow");
    println!("  thalweg tail{url} 'service:payment level>=warn'");
    println!("  psql -h {} -p {} -c '\\d logs'", postgres.ip(), postgres.port());
    println!("  curl 'http://{http}/api/v1/logs?level=error&limit=3'\n");
    let incident = match args.run_for {
        _ if args.no_incident => "without an incident",
        Some(_) => "with an incident from 40% to 65% of it",
        None => "with an incident in the middle of every three minutes",
    };
    match args.run_for {
        Some(time) => println!("Runs for {} s, {incident}.\n", time.as_secs()),
        None => println!("Runs until Ctrl-C, {incident}.\n"),
    }
}

/// What the services have sent, and what was acknowledged.
struct Play {
    client: Client,
    shop: Shop,
    event_prefix: String,
    /// Events that have not happened yet, by time.
    pending: BinaryHeap<Reverse<(i64, u64, String)>>,
    drawn: u64,
    acknowledged: Tally,
    /// Spans that have not ended yet, by time.
    open_spans: BinaryHeap<Reverse<Span>>,
}

async fn play(args: &DemoArgs, addresses: &Addresses) -> anyhow::Result<ExitCode> {
    let client = Client::local(addresses.http)?;
    let event_prefix = format!("demo-{:08x}-", fastrand::u32(..));
    let mut play = Play {
        client: client.clone(),
        shop: Shop::new(args.seed, Some(event_prefix.clone())),
        event_prefix,
        pending: BinaryHeap::new(),
        drawn: 0,
        acknowledged: Tally::default(),
        open_spans: BinaryHeap::new(),
    };
    let start = Instant::now();
    let incident = Incident::during(args.run_for);
    let mut display = Display { client: client.clone(), drawn_lines: 0, was_incident: false };
    let (mut began, mut ended) = (None, None);
    let mut ticks = tokio::time::interval(TICK);
    let mut last_shown = Instant::now();
    let mut requests_due = 0.0;
    let stop = serve::termination();
    tokio::pin!(stop);
    while args.run_for.is_none_or(|time| start.elapsed() < time) {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = &mut stop => break,
        }
        let on = !args.no_incident && incident.is_on(start.elapsed());
        if on {
            began = began.or(Some(unix_nanos()? / 1_000));
        } else if began.is_some() {
            ended = ended.or(Some(unix_nanos()? / 1_000));
        }
        requests_due += args.rate * TICK.as_secs_f64();
        while requests_due >= 1.0 {
            requests_due -= 1.0;
            play.request(on)?;
        }
        play.deliver(unix_nanos()?).await?;
        if last_shown.elapsed() >= SHOW_EVERY {
            last_shown = Instant::now();
            display.show(start.elapsed(), on, play.acknowledged.len()).await?;
        }
    }
    play.deliver(i64::MAX).await?;
    if args.run_for.is_none() {
        return Ok(ExitCode::SUCCESS);
    }
    let outcome = play.check().await?;
    if args.no_incident {
        println!("{}", alarm::check_quiet(&client).await?);
    }
    if let (Some(began), Some(ended)) = (began, ended)
        && args.run_for >= Some(alarm::SHORTEST_CHECKED)
    {
        println!("{}", alarm::check(&client, incident, began, ended).await?);
    }
    Ok(outcome)
}

impl Play {
    /// Plays one request; its events are due when they happen.
    fn request(&mut self, incident: bool) -> anyhow::Result<()> {
        let mut lines = Lines::default();
        self.shop.request(unix_nanos()?, incident, &mut lines);
        for (line, time) in lines.text.lines().zip(lines.times) {
            self.pending.push(Reverse((time, self.drawn, line.to_owned())));
            self.drawn += 1;
        }
        self.open_spans.extend(lines.spans.into_iter().map(Reverse));
        Ok(())
    }

    /// Sends what happened until `now_nanos`.
    async fn deliver(&mut self, now_nanos: i64) -> anyhow::Result<()> {
        self.deliver_events(now_nanos).await?;
        self.deliver_spans(now_nanos).await
    }

    /// Sends the events that happened until `now_nanos` and notes that they are acknowledged.
    async fn deliver_events(&mut self, now_nanos: i64) -> anyhow::Result<()> {
        let (mut body, mut numbers) = (String::new(), Vec::new());
        for (_, number, line) in due(&mut self.pending, |(time, ..)| *time <= now_nanos) {
            body.push_str(&line);
            body.push('\n');
            numbers.push(number);
        }
        if numbers.is_empty() {
            return Ok(());
        }
        let (body, format) = (Bytes::from(body), [("format", "ndjson".to_owned())]);
        let answer =
            until_done(async || self.client.send_logs(&format, body.clone()).await).await?;
        anyhow::ensure!(
            answer.rejected == 0,
            "the server rejected simulated events: {:?}",
            answer.errors
        );
        numbers.into_iter().for_each(|number| self.acknowledged.add(number));
        Ok(())
    }

    /// Sends the spans that ended until `now_nanos`.
    async fn deliver_spans(&mut self, now_nanos: i64) -> anyhow::Result<()> {
        let ended = due(&mut self.open_spans, |span| span.end_nanos <= now_nanos);
        if ended.is_empty() {
            return Ok(());
        }
        let request = otlp::export_request(&ended);
        let Exported { partial_success } =
            until_done(async || self.client.send_spans(&request).await).await?;
        anyhow::ensure!(
            partial_success.is_null(),
            "the server rejected simulated spans: {partial_success}"
        );
        Ok(())
    }

    /// Checks that every acknowledged event can be queried exactly once.
    async fn check(&self) -> anyhow::Result<ExitCode> {
        tokio::time::sleep(VISIBLE_WITHIN).await;
        let mut found = Tally::default();
        for first in (0..self.shop.events()).step_by(IDS_PER_QUERY as usize) {
            let prefix = &self.event_prefix;
            let number = format!("CAST(substr(event_id, {}) AS BIGINT)", prefix.len() + 1);
            let last = first + IDS_PER_QUERY;
            let sql = format!(
                "SELECT n FROM (SELECT {number} AS n FROM logs WHERE event_id LIKE '{prefix}%') \
                 WHERE n >= {first} AND n < {last}"
            );
            let answer = self.client.sql(&sql, MAX_ROWS, "text/csv").await?.text().await?;
            for number in answer.lines().skip(1) {
                found.add(number.parse().with_context(|| format!("unexpected row: {number}"))?);
            }
        }
        let difference = self.acknowledged.compare(&found);
        let (missing, repeated) = (difference.missing.len(), difference.repeated.len());
        let acknowledged = self.acknowledged.len();
        println!(
            "check: {acknowledged} events acknowledged, {} found, {missing} missing, {repeated} repeated",
            found.len()
        );
        if acknowledged > 0 && missing == 0 && repeated == 0 {
            println!("check: every acknowledged event can be queried exactly once");
            return Ok(ExitCode::SUCCESS);
        }
        eprintln!(
            "missing: {:?}\nrepeated: {:?}",
            &difference.missing[..missing.min(10)],
            &difference.repeated[..repeated.min(10)]
        );
        Ok(ExitCode::FAILURE)
    }
}

/// Takes off the heap what is due, the earliest first.
fn due<T: Ord>(heap: &mut BinaryHeap<Reverse<T>>, is_due: impl Fn(&T) -> bool) -> Vec<T> {
    let mut taken = Vec::new();
    while heap.peek().is_some_and(|Reverse(first)| is_due(first)) {
        taken.extend(heap.pop().map(|Reverse(first)| first));
    }
    taken
}

/// Sends again until the server is no longer busy.
async fn until_done<T>(send: impl AsyncFn() -> anyhow::Result<Sent<T>>) -> anyhow::Result<T> {
    loop {
        match send().await? {
            Sent::Done(answer) => return Ok(answer),
            Sent::Busy(_) => tokio::time::sleep(RETRY_WAIT).await,
        }
    }
}

/// The live counts, redrawn in place on a terminal.
struct Display {
    client: Client,
    drawn_lines: usize,
    was_incident: bool,
}

impl Display {
    async fn show(
        &mut self,
        elapsed: Duration,
        incident: bool,
        acknowledged: usize,
    ) -> anyhow::Result<()> {
        let table = query::table(&self.client, COUNTS, query::TABLE_ROWS).await?;
        if std::io::stdout().is_terminal() && self.drawn_lines > 0 && incident == self.was_incident
        {
            print!("\x1b[{}A\x1b[J", self.drawn_lines);
        }
        match (self.was_incident, incident) {
            (false, true) => println!("── incident: payment runs out of database connections ──"),
            (true, false) => println!("── incident over ──"),
            _ => {}
        }
        self.was_incident = incident;
        let text = format!(
            "{:>4} s  {acknowledged} events acknowledged; the last ten seconds, by SQL:\n{table}",
            elapsed.as_secs()
        );
        println!("{text}");
        self.drawn_lines = text.lines().count();
        Ok(())
    }
}

fn unix_nanos() -> anyhow::Result<i64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    i64::try_from(now.as_nanos()).context("the clock is beyond the year 2262")
}
