//! Grouping accuracy on labelled logs, and how fast they were read.
//!
//! `cargo run --release -p thalweg-template --example accuracy -- DIR [--errors N]` reads every
//! `*_structured*.csv` below DIR in LogHub's form: a header with `Content` and `EventId`, one
//! message a row. A message counts as right if its group holds exactly the messages of its event
//! (Zhu et al., "Tools and benchmarks for automated log parsing", ICSE-SEIP 2019). The last
//! template of each message counts. Beside it: what share of messages got an id at the time that
//! was later merged into another, the accuracy of the ids given at the time, and that of Drain
//! with one setting for all.
//! `--errors N` shows the N largest events that went wrong.

mod drain;

use std::collections::HashMap;
use std::error::Error;
use std::hash::Hash;
use std::path::{Path, PathBuf};
use std::time::Instant;

use drain::Drain;
use thalweg_template::{Config, Miner, TemplateId};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().ok_or("usage: accuracy DIR [--errors N]")?;
    let errors = match arguments.next().as_deref() {
        Some("--errors") => arguments.next().ok_or("--errors takes a number")?.parse()?,
        _ => 0,
    };
    let mut files = Vec::new();
    collect(Path::new(&directory), &mut files)?;
    files.sort();
    if files.is_empty() {
        return Err(format!("{directory} holds no file named *_structured*.csv").into());
    }
    println!(
        "{:28}{:>8}{:>8}{:>10}{:>9}{:>9}{:>9}{:>9}{:>11}",
        "", "lines", "events", "templates", "GA", "moved", "GA then", "Drain", "lines/s"
    );
    let mut totals = [0.0; 3];
    for file in &files {
        let log = Log::read(file)?;
        let mut miner = Miner::new(Config::default())?;
        let start = Instant::now();
        let then: Vec<TemplateId> =
            log.messages.iter().map(|message| miner.observe(message).template).collect();
        let seconds = start.elapsed().as_secs_f64();
        let now: Vec<TemplateId> = then.iter().map(|&id| miner.resolve(id)).collect();
        let accuracy = grouping_accuracy(&now, &log.events);
        let accuracy_then = grouping_accuracy(&then, &log.events);
        let moved = then.iter().zip(&now).filter(|(then, now)| then != now).count() as f64
            / log.messages.len() as f64;
        let mut drain = Drain::default();
        let by_drain: Vec<usize> =
            log.messages.iter().map(|message| drain.observe(message)).collect();
        let accuracy_of_drain = grouping_accuracy(&by_drain, &log.events);
        totals[0] += accuracy;
        totals[1] += accuracy_then;
        totals[2] += accuracy_of_drain;
        println!(
            "{:28}{:>8}{:>8}{:>10}{:>9.4}{:>8.1}%{:>9.4}{:>9.4}{:>11.0}",
            file.file_name().unwrap_or_default().to_string_lossy().replace("_structured.csv", ""),
            log.messages.len(),
            groups(&log.events).len(),
            groups(&now).len(),
            accuracy,
            moved * 100.0,
            accuracy_then,
            accuracy_of_drain,
            log.messages.len() as f64 / seconds,
        );
        show_errors(&log, &now, &miner, errors);
    }
    let [mean, mean_then, mean_of_drain] = totals.map(|total| total / files.len() as f64);
    println!("{:28}{mean:>35.4}{mean_then:>18.4}{mean_of_drain:>9.4}", "average");
    Ok(())
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.file_name().is_some_and(|name| {
            let name = name.to_string_lossy();
            name.contains("_structured") && name.ends_with(".csv")
        }) {
            files.push(path);
        }
    }
    Ok(())
}

struct Log {
    messages: Vec<String>,
    events: Vec<String>,
}

impl Log {
    fn read(file: &Path) -> Result<Self, Box<dyn Error>> {
        let text = String::from_utf8_lossy(&std::fs::read(file)?).into_owned();
        let mut rows = rows(&text).into_iter();
        let header = rows.next().ok_or("an empty file")?;
        let column = |name: &str| {
            header
                .iter()
                .position(|column| column == name)
                .ok_or_else(|| format!("{}: no column {name}", file.display()))
        };
        let (content, event) = (column("Content")?, column("EventId")?);
        let mut log = Self { messages: Vec::new(), events: Vec::new() };
        for mut row in rows.filter(|row| row.len() == header.len()) {
            log.events.push(std::mem::take(&mut row[event]));
            log.messages.push(std::mem::take(&mut row[content]));
        }
        Ok(log)
    }
}

/// The rows of a CSV file (RFC 4180).
fn rows(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut field) = (Vec::new(), Vec::new(), String::new());
    let mut characters = text.chars().peekable();
    let mut is_quoted = false;
    while let Some(character) = characters.next() {
        match character {
            '"' if is_quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' if is_quoted || field.is_empty() => is_quoted = !is_quoted,
            ',' if !is_quoted => row.push(std::mem::take(&mut field)),
            '\r' if !is_quoted => {}
            '\n' if !is_quoted => {
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            _ => field.push(character),
        }
    }
    if !field.is_empty() || !row.is_empty() {
        row.push(field);
        rows.push(row);
    }
    rows
}

fn groups<T: Eq + Hash>(labels: &[T]) -> HashMap<&T, Vec<usize>> {
    let mut groups: HashMap<&T, Vec<usize>> = HashMap::new();
    for (line, label) in labels.iter().enumerate() {
        groups.entry(label).or_default().push(line);
    }
    groups
}

fn grouping_accuracy<T: Eq + Hash>(found: &[T], truth: &[String]) -> f64 {
    let found_groups = groups(found);
    let right: usize = groups(truth)
        .values()
        .filter(|lines| found_groups[&found[lines[0]]] == **lines)
        .map(Vec::len)
        .sum();
    right as f64 / truth.len() as f64
}

fn show_errors(log: &Log, found: &[TemplateId], miner: &Miner, limit: usize) {
    let (found_groups, events) = (groups(found), groups(&log.events));
    let mut wrong: Vec<(&&String, &Vec<usize>)> =
        events.iter().filter(|(_, lines)| found_groups[&found[lines[0]]] != **lines).collect();
    wrong.sort_by_key(|(event, lines)| (std::cmp::Reverse(lines.len()), event.as_str()));
    for (event, lines) in wrong.into_iter().take(limit) {
        println!("  {event}: {} lines, such as {}", lines.len(), log.messages[lines[0]]);
        let labels: Vec<TemplateId> = lines.iter().map(|&line| found[line]).collect();
        for (id, members) in groups(&labels).into_iter().take(4) {
            let template = miner.template(*id).map(|template| template.to_string());
            let (here, everywhere) = (members.len(), found_groups[id].len());
            println!("    {here} of {everywhere} of {}", template.unwrap_or_default());
        }
    }
}
