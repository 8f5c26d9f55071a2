//! A value in a file that a restart reads.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};
use thalweg_log::replace_file;

/// A value that outlives restarts.
pub(crate) struct Kept<T> {
    path: PathBuf,
    value: Mutex<T>,
}

impl<T: Clone + Default + Serialize + DeserializeOwned> Kept<T> {
    /// The value in `file` of `directory`; the default if there is none.
    pub(crate) fn open(directory: &Path, file: &str) -> anyhow::Result<Self> {
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        let path = directory.join(file);
        let value = match fs::read(&path) {
            Ok(json) => serde_json::from_slice(&json)
                .with_context(|| format!("{}: not what was written there", path.display()))?,
            Err(error) if error.kind() == ErrorKind::NotFound => T::default(),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        Ok(Self { path, value: Mutex::new(value) })
    }

    pub(crate) fn get(&self) -> T {
        self.value.lock().clone()
    }

    /// The file holds either the old or the new value, whenever the machine stops.
    pub(crate) fn change<A>(&self, change: impl FnOnce(&mut T) -> A) -> anyhow::Result<A> {
        let mut value = self.value.lock();
        let mut changed = value.clone();
        let answer = change(&mut changed);
        let json = serde_json::to_vec_pretty(&changed)?;
        replace_file(&self.path, &json)
            .with_context(|| format!("writing {}", self.path.display()))?;
        *value = changed;
        Ok(answer)
    }
}
