//! How far a file has been acknowledged, kept between runs.

use std::{
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

/// Bytes from the start of a file that tell whether it is still the same file.
const HEAD_BYTES: u64 = 1024;

/// How far a file has been acknowledged.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// First part of the event ids of the file's records.
    pub(super) file_id: String,
    /// Every record before this byte is acknowledged.
    pub(super) offset: u64,
    pub(super) accepted: u64,
    pub(super) rejected: u64,
    /// Length and hash of the beginning of the file.
    head: (u64, String),
    /// Whether an earlier run began the file.
    #[serde(skip)]
    pub(super) resumed: bool,
}

/// The file that a [`Progress`] is kept in.
#[derive(Debug)]
pub(super) struct ProgressFile {
    /// `None` for input that cannot be resumed.
    path: Option<PathBuf>,
    progress: Progress,
}

impl ProgressFile {
    /// No file: for standard input.
    pub(super) fn none() -> Self {
        Self { path: None, progress: Progress { file_id: new_file_id(), ..Default::default() } }
    }

    /// The progress of `input` towards the server at `url`; a fresh one if there is none, if the
    /// file is another one by now, or `again`.
    pub(super) fn of(input: &Path, url: &str, again: bool) -> anyhow::Result<Self> {
        let input = input.canonicalize().context("cannot be opened")?;
        let name = xxh3_128(format!("{url}\n{}", input.display()).as_bytes());
        let path = state_directory()?.join(format!("{name:032x}.json"));
        let earlier = std::fs::read(&path).ok();
        let earlier = earlier.and_then(|bytes| serde_json::from_slice::<Progress>(&bytes).ok());
        if let Some(earlier) = earlier.filter(|_| !again)
            && head(&input, earlier.head.0)? == earlier.head
        {
            return Ok(Self { path: Some(path), progress: Progress { resumed: true, ..earlier } });
        }
        let head = head(&input, HEAD_BYTES)?;
        let progress = Progress { file_id: new_file_id(), head, ..Default::default() };
        let file = Self { path: Some(path), progress };
        file.save(&file.progress)?;
        Ok(file)
    }

    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Replaces the file, whole or not at all.
    pub(super) fn save(&self, progress: &Progress) -> anyhow::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let write = || {
            let mut file =
                tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
            file.write_all(&serde_json::to_vec(progress)?)?;
            file.persist(path)?;
            std::io::Result::Ok(())
        };
        write().with_context(|| format!("progress cannot be saved to {}", path.display()))
    }
}

fn new_file_id() -> String {
    format!("file-{:016x}", fastrand::u64(..))
}

fn state_directory() -> anyhow::Result<PathBuf> {
    let base = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".local/state")))
        .context("neither XDG_STATE_HOME nor HOME is set: no place to keep progress")?;
    let directory = base.join("thalweg/ingest");
    std::fs::create_dir_all(&directory)
        .with_context(|| format!("{} cannot be created", directory.display()))?;
    Ok(directory)
}

/// Length and hash of the first bytes of `path`, `length` at most.
fn head(path: &Path, length: u64) -> anyhow::Result<(u64, String)> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(length.min(HEAD_BYTES)).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64, format!("{:032x}", xxh3_128(&bytes))))
}
