//! `thalweg ingest`: files to a server, resumable without repeating rows.
//!
//! A file is cut into chunks at record ends. Record `i` of the chunk that starts at byte `s` gets
//! the event id `{file id}:{s + i}`, so a chunk that is sent again is recognised. How far the
//! server has acknowledged a file is kept in a small [`Progress`] file; a run that was
//! interrupted goes on there, and the few chunks that may have been stored without an answer are
//! compared with the table first.

mod chunk;
mod progress;

use std::{
    collections::{HashSet, VecDeque},
    io::BufRead,
    path::Path,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, bail};
use futures::{StreamExt as _, stream};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use self::{
    chunk::{Chunk, Chunks, Framing},
    progress::{Progress, ProgressFile},
};
use crate::{
    cli::IngestArgs,
    client::{Accepted, Client, MAX_ROWS, RecordError, Sent},
    format_api::FormatInfo,
};

/// Chunks on their way to the server at once.
const CHUNKS_IN_FLIGHT: usize = 4;
/// Tries for a chunk before the run gives up; with the waits below, about five minutes.
const TRIES: u32 = 40;
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Different reasons of rejected records that are printed for each file.
const REASONS_SHOWN: usize = 5;

pub(crate) fn run(args: &IngestArgs) -> anyhow::Result<ExitCode> {
    super::block_on(ingest(args))?
}

async fn ingest(args: &IngestArgs) -> anyhow::Result<ExitCode> {
    let client = Client::new(&args.server)?;
    let format = format(&client, &args.format).await?;
    let bars = MultiProgress::new();
    let mut failures = 0;
    for path in &args.files {
        let file = File { client: &client, args, path, format: &format };
        match file.send(&bars).await {
            Ok(summary) => bars.suspend(|| print!("{summary}")),
            Err(error) => {
                failures += 1;
                bars.suspend(|| eprintln!("{}: {error:#}", path.display()));
            }
        }
    }
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the server says of the format called `name`.
async fn format(client: &Client, name: &str) -> anyhow::Result<FormatInfo> {
    let formats: Vec<FormatInfo> = client.get("/api/v1/formats", &[]).await?.json().await?;
    let names: Vec<String> = formats.iter().map(|format| format.name.clone()).collect();
    formats.into_iter().find(|format| format.name == name).with_context(|| {
        format!("format `{name}` is not known to the server; it knows {}", names.join(", "))
    })
}

/// One file being sent.
struct File<'a> {
    client: &'a Client,
    args: &'a IngestArgs,
    path: &'a Path,
    format: &'a FormatInfo,
}

/// What came of a file.
struct Summary {
    name: String,
    progress: Progress,
    unchanged: bool,
    /// Different reasons for which records were rejected.
    reasons: Vec<String>,
}

impl File<'_> {
    async fn send(&self, bars: &MultiProgress) -> anyhow::Result<Summary> {
        let is_stdin = self.path == Path::new("-");
        let name =
            if is_stdin { "standard input".to_owned() } else { self.path.display().to_string() };
        let (state, mut input, size) = if is_stdin {
            (ProgressFile::none(), Box::new(std::io::stdin().lock()) as Box<dyn BufRead>, None)
        } else {
            let state = ProgressFile::of(self.path, &self.args.server.url, self.args.again)?;
            let (input, size) = open(self.path)?;
            (state, input, size)
        };
        let mut progress = state.progress().clone();
        let framing = if self.format.quoted_newlines { Framing::Quoted } else { Framing::Lines };
        let header = match self.format.has_header {
            true => chunk::read_record(&mut input, framing)?,
            false => Vec::new(),
        };
        let start = header.len() as u64;
        progress.offset = progress.offset.max(start);
        skip(&mut input, progress.offset - start).with_context(|| {
            format!("the file is shorter than the {} bytes sent before", progress.offset)
        })?;
        let bar = bars.add(progress_bar(size, &name));
        bar.set_position(progress.offset);

        let stored = self.stored_records(&progress).await?;
        let resumed_at = progress.offset;
        let chunks = Chunks::new(input, progress.offset, framing);
        let pieces = chunks.flat_map(|chunk| match chunk {
            Ok(chunk) => chunk.without(&stored, framing).into_iter().map(Ok).collect(),
            Err(error) => VecDeque::from([Err(error)]),
        });
        let file_id = progress.file_id.clone();
        let mut answers = stream::iter(pieces)
            .map(|piece| async {
                let piece = piece?;
                let answer = self.send_chunk(&file_id, &header, &piece).await?;
                anyhow::Ok((piece, answer))
            })
            .buffered(CHUNKS_IN_FLIGHT);
        let mut reasons: Vec<String> = Vec::new();
        while let Some(answer) = answers.next().await {
            let (piece, answer) = answer?;
            progress.offset = piece.end;
            progress.accepted += answer.accepted + piece.skipped;
            progress.rejected += answer.rejected;
            for RecordError { reason, .. } in answer.errors {
                if reasons.len() < REASONS_SHOWN && !reasons.contains(&reason) {
                    reasons.push(reason);
                }
            }
            state.save(&progress)?;
            bar.set_position(progress.offset);
            bar.set_message(format!(
                "{} accepted, {} rejected",
                progress.accepted, progress.rejected
            ));
        }
        bar.finish_and_clear();
        let unchanged = progress.offset == resumed_at && resumed_at > 0;
        Ok(Summary { name, progress, unchanged, reasons })
    }

    /// Numbers of records after the last acknowledged byte that the table has all the same: an
    /// interrupted run's answers may not have arrived.
    async fn stored_records(&self, progress: &Progress) -> anyhow::Result<HashSet<u64>> {
        if !progress.resumed {
            return Ok(HashSet::new());
        }
        let id = &progress.file_id;
        let sql =
            format!("SELECT event_id FROM logs WHERE event_id > '{id}:' AND event_id < '{id};'");
        let answer = self.client.sql(&sql, MAX_ROWS, "text/csv").await?.text().await?;
        let numbers = answer.lines().filter_map(|line| line.rsplit(':').next()?.parse().ok());
        Ok(numbers.filter(|number| *number >= progress.offset).collect())
    }

    async fn send_chunk(
        &self,
        file_id: &str,
        header: &[u8],
        chunk: &Chunk,
    ) -> anyhow::Result<Accepted> {
        if chunk.bytes.is_empty() {
            return Ok(Accepted::default());
        }
        let body = match header {
            [] => chunk.bytes.clone(),
            header => [header, &chunk.bytes[..]].concat().into(),
        };
        let mut parameters = vec![
            ("format", self.args.format.clone()),
            ("id_prefix", file_id.to_owned()),
            ("id_start", chunk.first_record.to_string()),
        ];
        if let Some(service) = &self.args.service {
            parameters.push(("service", service.clone()));
        }
        let mut wait = FIRST_WAIT;
        let mut reason = String::new();
        for _ in 0..TRIES {
            match self.client.send_logs(&parameters, body.clone()).await? {
                Sent::Done(accepted) => return Ok(accepted),
                Sent::Busy(why) => reason = why,
            }
            tokio::time::sleep(wait.mul_f64(0.5 + fastrand::f64())).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        bail!(
            "gave up after {TRIES} tries: {reason}; run the same command again to go on where this \
             stopped"
        )
    }
}

/// The file's content, decompressed by its extension, and its size if that is the content's.
fn open(path: &Path) -> anyhow::Result<(Box<dyn BufRead>, Option<u64>)> {
    let file = std::fs::File::open(path).context("cannot be opened")?;
    let size = file.metadata()?.len();
    let reader = std::io::BufReader::with_capacity(1 << 20, file);
    let buffered = |reader| Box::new(std::io::BufReader::with_capacity(1 << 20, reader));
    Ok(match path.extension().and_then(|extension| extension.to_str()) {
        Some("gz") => {
            let decoder: Box<dyn std::io::Read> =
                Box::new(flate2::read::MultiGzDecoder::new(reader));
            (buffered(decoder), None)
        }
        Some("zst") => {
            let decoder: Box<dyn std::io::Read> = Box::new(zstd::Decoder::with_buffer(reader)?);
            (buffered(decoder), None)
        }
        _ => (Box::new(reader), Some(size)),
    })
}

/// Reads past the first `bytes`.
fn skip(input: &mut dyn BufRead, bytes: u64) -> std::io::Result<()> {
    let mut left = bytes;
    while left > 0 {
        let available = input.fill_buf()?.len();
        if available == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let step = available.min(usize::try_from(left).unwrap_or(usize::MAX));
        input.consume(step);
        left -= step as u64;
    }
    Ok(())
}

fn progress_bar(size: Option<u64>, name: &str) -> ProgressBar {
    let template = match size {
        Some(_) => "{prefix} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {msg}",
        None => "{prefix} {spinner} {bytes} {bytes_per_sec} {msg}",
    };
    let style = ProgressStyle::with_template(template).expect("the templates are well-formed");
    let bar = size.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    bar.with_style(style).with_prefix(name.to_owned())
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Progress { accepted, rejected, .. } = self.progress;
        write!(f, "{}: {accepted} accepted, {rejected} rejected", self.name)?;
        if self.unchanged {
            write!(f, " (nothing new since the last run; --again sends it again)")?;
        }
        writeln!(f)?;
        for reason in &self.reasons {
            writeln!(f, "  rejected: {reason}")?;
        }
        if rejected > 0 {
            writeln!(f, "  all rejected records are in table `rejected`")?;
        }
        Ok(())
    }
}
