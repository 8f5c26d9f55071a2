//! The views that statements created, in a file that a restart reads, and processes that share a
//! data directory.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use parking_lot::Mutex;
use thalweg_log::{lock_file, replace_file};
use thalweg_stream::ViewConfig;

const FILE: &str = "created.json";
/// Held while the file is changed.
const LOCK_FILE: &str = "created.lock";
/// How often, and how many times, it is tried to change the file while another process does.
const LOCK_RETRY: Duration = Duration::from_millis(20);
const LOCK_RETRIES: usize = 250;

/// The views that statements created.
pub(crate) struct CreatedViews {
    directory: PathBuf,
    views: Mutex<Vec<ViewConfig>>,
}

impl CreatedViews {
    pub(crate) fn open(directory: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        let views = Mutex::new(read(directory)?);
        Ok(Self { directory: directory.to_owned(), views })
    }

    /// Looks for what other processes have created and dropped; answers all there are.
    pub(crate) fn look_again(&self) -> anyhow::Result<Vec<ViewConfig>> {
        let mut views = self.views.lock();
        *views = read(&self.directory)?;
        Ok(views.clone())
    }

    pub(crate) fn list(&self) -> Vec<ViewConfig> {
        self.views.lock().clone()
    }

    pub(crate) fn add(&self, view: ViewConfig) -> anyhow::Result<()> {
        self.change(|views| {
            views.retain(|other| other.name != view.name);
            views.push(view);
        })
    }

    pub(crate) fn remove(&self, name: &str) -> anyhow::Result<()> {
        self.change(|views| views.retain(|view| view.name.as_str() != name))
    }

    /// The file holds either the old or the new views, whenever the machine stops.
    fn change(&self, change: impl FnOnce(&mut Vec<ViewConfig>)) -> anyhow::Result<()> {
        let mut views = self.views.lock();
        let _lock = self.lock()?;
        let mut changed = read(&self.directory)?;
        change(&mut changed);
        let path = self.directory.join(FILE);
        let json = serde_json::to_vec_pretty(&changed)?;
        replace_file(&path, &json).with_context(|| format!("writing {}", path.display()))?;
        *views = changed;
        Ok(())
    }

    fn lock(&self) -> anyhow::Result<fs::File> {
        let path = self.directory.join(LOCK_FILE);
        for _ in 0..LOCK_RETRIES {
            if let Some(lock) = lock_file(&path).with_context(|| path.display().to_string())? {
                return Ok(lock);
            }
            thread::sleep(LOCK_RETRY);
        }
        anyhow::bail!("{}: another process holds it; try again", path.display())
    }
}

fn read(directory: &Path) -> anyhow::Result<Vec<ViewConfig>> {
    let path = directory.join(FILE);
    match fs::read(&path) {
        Ok(json) => serde_json::from_slice(&json)
            .with_context(|| format!("{}: expected the views that were created", path.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(vec![]),
        Err(error) => Err(error).with_context(|| path.display().to_string()),
    }
}
