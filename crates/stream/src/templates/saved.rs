//! What is kept of templates across restarts: one file, replaced as a whole.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use thalweg_log::{Log, Offset, TopicPartition, replace_file};
use thalweg_template::{Miner, TemplateStatistics};

use super::{Mined, new_miner};
use crate::error::{Result, StreamError};
use crate::stream::Stream;
use crate::task::{ends, now, ranges};

const FILE: &str = "templates.state";
/// Format of the file.
const FORMAT: u32 = 1;

/// The file's first line; the miner's snapshot follows.
#[derive(Serialize, Deserialize)]
struct Head {
    format: u32,
    /// Offsets behind the last row that was counted.
    cursors: Vec<(String, u32, Offset)>,
    /// Count, first and last time by template.
    counts: Vec<(u64, u64, i64, i64)>,
}

/// What was kept, or nothing yet and the ends of the topics.
pub(super) fn load(
    directory: &Path,
    logs: &Stream,
    log: &dyn Log,
) -> Result<(Mined, BTreeMap<TopicPartition, Offset>)> {
    let path = directory.join(FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mined = Mined::new(new_miner(), vec![], now().unix_micros);
            return Ok((mined, ends(log, &logs.topics)?));
        }
        Err(error) => return Err(fjall::Error::Io(error).into()),
    };
    let corrupt = |reason: String| StreamError::Corrupt {
        view: "templates".into(),
        reason: format!("{}: {reason}; or remove the file", path.display()),
    };
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let (head, snapshot) =
        bytes.split_at(end.ok_or_else(|| corrupt("it has no first line".into()))?);
    let head: Head = serde_json::from_slice(head).map_err(|error| corrupt(error.to_string()))?;
    if head.format != FORMAT {
        return Err(corrupt(format!("expected format {FORMAT}, found {}", head.format)));
    }
    let miner = Miner::restore(&snapshot[1..]).map_err(|error| corrupt(error.to_string()))?;
    let is_shared = log.ownership().is_shared();
    let kept = head.cursors.into_iter();
    let kept = kept.map(|(topic, n, offset)| (TopicPartition::new(topic, n), offset));
    let kept: BTreeMap<_, _> = kept.collect();
    let ranges = ranges(log, &logs.topics)?.into_iter();
    let cursors = ranges.map(|(at, range)| {
        // A partition that the stream has got since is read from its beginning.
        let cursor = kept.get(&at).map_or(range.start, |kept| {
            // Where others read the log too, they may have heard of more.
            let end = if is_shared { *kept } else { range.end };
            (*kept).min(end).max(range.start)
        });
        (at, cursor)
    });
    let cursors = cursors.collect();
    let counts = head.counts.into_iter().map(|(template, count, first_seen, last_seen)| {
        (template, TemplateStatistics { count, first_seen, last_seen })
    });
    Ok((Mined::new(miner, counts.collect(), now().unix_micros), cursors))
}

/// When the state was kept last, if it ever was.
pub(super) fn kept_at(directory: &Path) -> Option<SystemTime> {
    fs::metadata(directory.join(FILE)).and_then(|file| file.modified()).ok()
}

/// Keeps what was learnt of the rows before `cursors`. The file holds either the old or the new
/// state, whenever the machine stops.
pub(super) fn save(
    directory: &Path,
    mined: &Mined,
    cursors: &BTreeMap<TopicPartition, Offset>,
) -> std::io::Result<()> {
    let head = Head {
        format: FORMAT,
        cursors: cursors.iter().map(|(at, o)| (at.topic.to_string(), at.partition, *o)).collect(),
        counts: mined
            .watch
            .iter()
            .map(|(id, s)| (id.0, s.count, s.first_seen, s.last_seen))
            .collect(),
    };
    fs::create_dir_all(directory)?;
    let path = directory.join(FILE);
    let mut content = serde_json::to_vec(&head)?;
    content.push(b'\n');
    content.extend(mined.miner.snapshot());
    replace_file(&path, &content)
}
