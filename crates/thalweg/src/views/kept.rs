//! A value in a file that a restart reads, and other processes that share the data directory.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};
use thalweg_log::{lock_file, replace_file};

/// How often, and how many times, it is tried to change the file while another process does.
const LOCK_RETRY: Duration = Duration::from_millis(20);
const LOCK_RETRIES: usize = 250;

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
        let value = Mutex::new(read(&path)?);
        Ok(Self { path, value })
    }

    /// Reads the file again, which another process may have changed.
    pub(crate) fn look_again(&self) -> anyhow::Result<T> {
        let mut value = self.value.lock();
        *value = read(&self.path)?;
        Ok(value.clone())
    }

    pub(crate) fn get(&self) -> T {
        self.value.lock().clone()
    }

    /// The file holds either the old or the new value, whenever the machine stops.
    pub(crate) fn change<A>(&self, change: impl FnOnce(&mut T) -> A) -> anyhow::Result<A> {
        // It also keeps the threads of this process apart.
        let _lock = self.lock()?;
        let mut changed = read(&self.path)?;
        let answer = change(&mut changed);
        let json = serde_json::to_vec_pretty(&changed)?;
        replace_file(&self.path, &json)
            .with_context(|| format!("writing {}", self.path.display()))?;
        *self.value.lock() = changed;
        Ok(answer)
    }

    /// Held while the file is changed.
    fn lock(&self) -> anyhow::Result<fs::File> {
        let path = self.path.with_extension("lock");
        for _ in 0..LOCK_RETRIES {
            if let Some(lock) = lock_file(&path).with_context(|| path.display().to_string())? {
                return Ok(lock);
            }
            thread::sleep(LOCK_RETRY);
        }
        anyhow::bail!("{}: another process holds it; try again", path.display())
    }
}

/// The value in the file at `path`; the default if there is none.
pub(super) fn read<T: Default + DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    match fs::read(path) {
        Ok(json) => serde_json::from_slice(&json)
            .with_context(|| format!("{}: not what was written there", path.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(T::default()),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}
