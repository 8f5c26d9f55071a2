//! Offsets of consumer groups, in one small file that is replaced atomically.

use std::{collections::BTreeMap, fs, io, path::PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{
    error::{LogError, Result, io_error},
    replace::replace_file,
    types::{Offset, TopicPartition},
};

const FILE: &str = "groups.json";

/// Group → topic → partition → offset before which everything was read.
type Offsets = BTreeMap<String, BTreeMap<String, BTreeMap<u32, Offset>>>;

/// What the groups have committed.
pub(crate) struct Groups {
    directory: PathBuf,
    wanted: Mutex<Versioned>,
    durable: Mutex<Versioned>,
    /// Held while the file is written: who waits for it may find its commit written by another.
    writing: Mutex<()>,
}

#[derive(Clone, Default)]
struct Versioned {
    version: u64,
    offsets: Offsets,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileContent {
    version: u32,
    /// Of the canonical JSON of `groups`.
    crc32: u32,
    groups: Offsets,
}

impl Groups {
    /// Reads the file, if there is one.
    pub(crate) fn open(directory: PathBuf) -> Result<Self> {
        let path = directory.join(FILE);
        let offsets = match fs::read(&path) {
            Ok(bytes) => parse(&bytes).map_err(|reason| LogError::Corrupt {
                place: path.display().to_string(),
                reason: format!(
                    "{reason}; restore it, or delete it to let every consumer group start again"
                ),
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Offsets::new(),
            Err(error) => return Err(io_error(path.display())(error)),
        };
        let state = Versioned { version: 0, offsets };
        Ok(Self {
            directory,
            wanted: Mutex::new(state.clone()),
            durable: Mutex::new(state),
            writing: Mutex::new(()),
        })
    }

    /// Records `offset` durably. Blocks for the disk; concurrent commits share one write.
    pub(crate) fn commit(&self, group: &str, at: &TopicPartition, offset: Offset) -> Result<()> {
        self.change(|offsets| {
            let topics = offsets.entry(group.to_owned()).or_default();
            topics.entry(at.topic.to_string()).or_default().insert(at.partition, offset);
        })
    }

    /// Forgets `group`: retention no longer waits for it.
    pub(crate) fn forget(&self, group: &str) -> Result<()> {
        self.change(|offsets| {
            offsets.remove(group);
        })
    }

    /// Forgets what all groups have read of `topic`.
    pub(crate) fn forget_topic(&self, topic: &str) -> Result<()> {
        self.change(|offsets| {
            for topics in offsets.values_mut() {
                topics.remove(topic);
            }
            offsets.retain(|_, topics| !topics.is_empty());
        })
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.durable.lock().offsets.keys().cloned().collect()
    }

    /// Offset last committed durably by `group`.
    pub(crate) fn committed(&self, group: &str, at: &TopicPartition) -> Option<Offset> {
        offset_in(self.durable.lock().offsets.get(group)?, at)
    }

    /// All groups that have committed in this partition.
    pub(crate) fn of_partition(&self, at: &TopicPartition) -> Vec<(String, Offset)> {
        let durable = self.durable.lock();
        durable
            .offsets
            .iter()
            .filter_map(|(group, topics)| Some((group.clone(), offset_in(topics, at)?)))
            .collect()
    }

    fn change(&self, change: impl FnOnce(&mut Offsets)) -> Result<()> {
        let version = {
            let mut wanted = self.wanted.lock();
            change(&mut wanted.offsets);
            wanted.version += 1;
            wanted.version
        };
        let _writing = self.writing.lock();
        if self.durable.lock().version >= version {
            return Ok(());
        }
        let latest = self.wanted.lock().clone();
        self.write(&latest.offsets).map_err(io_error(self.directory.join(FILE).display()))?;
        *self.durable.lock() = latest;
        Ok(())
    }

    fn write(&self, offsets: &Offsets) -> io::Result<()> {
        let content =
            FileContent { version: 1, crc32: checksum(offsets)?, groups: offsets.clone() };
        replace_file(&self.directory.join(FILE), &serde_json::to_vec_pretty(&content)?)
    }
}

fn offset_in(
    topics: &BTreeMap<String, BTreeMap<u32, Offset>>,
    at: &TopicPartition,
) -> Option<Offset> {
    topics.get(&*at.topic)?.get(&at.partition).copied()
}

fn parse(bytes: &[u8]) -> Result<Offsets, String> {
    let content: FileContent = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if content.version != 1 {
        return Err(format!("version {} is not known, expected 1", content.version));
    }
    let found = checksum(&content.groups).map_err(|error| error.to_string())?;
    if found != content.crc32 {
        return Err(format!("checksum is {found}, expected {}", content.crc32));
    }
    Ok(content.groups)
}

fn checksum(offsets: &Offsets) -> Result<u32, serde_json::Error> {
    Ok(crc32fast::hash(&serde_json::to_vec(offsets)?))
}
