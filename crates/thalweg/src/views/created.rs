//! The views that statements created, in a file that a restart reads.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use parking_lot::Mutex;
use thalweg_log::replace_file;
use thalweg_stream::ViewConfig;

const FILE: &str = "created.json";

/// The views that statements created.
pub(crate) struct CreatedViews {
    directory: PathBuf,
    views: Mutex<Vec<ViewConfig>>,
}

impl CreatedViews {
    pub(crate) fn open(directory: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        let path = directory.join(FILE);
        let views = match fs::read(&path) {
            Ok(json) => serde_json::from_slice(&json).with_context(|| {
                format!("{}: expected the views that were created", path.display())
            })?,
            Err(error) if error.kind() == ErrorKind::NotFound => vec![],
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        Ok(Self { directory: directory.to_owned(), views: Mutex::new(views) })
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
        let mut changed = views.clone();
        change(&mut changed);
        let path = self.directory.join(FILE);
        let json = serde_json::to_vec_pretty(&changed)?;
        replace_file(&path, &json).with_context(|| format!("writing {}", path.display()))?;
        *views = changed;
        Ok(())
    }
}
