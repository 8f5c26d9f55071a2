//! The views that statements created, which a restart finds again.

use std::path::Path;

use thalweg_stream::ViewConfig;

use super::kept::{self, Kept};

const FILE: &str = "created.json";

/// Names of the views that statements created in a node with this data directory.
///
/// # Errors
/// The file that says so cannot be read.
pub(crate) fn created_names(data_dir: &Path) -> anyhow::Result<Vec<String>> {
    let views: Vec<ViewConfig> = kept::read(&data_dir.join("stream").join(FILE))?;
    Ok(views.into_iter().map(|view| view.name.to_string()).collect())
}

/// The views that statements created.
pub(crate) struct CreatedViews(Kept<Vec<ViewConfig>>);

impl CreatedViews {
    pub(crate) fn open(directory: &Path) -> anyhow::Result<Self> {
        Ok(Self(Kept::open(directory, FILE)?))
    }

    /// Looks for what other processes have created and dropped; answers all there are.
    pub(crate) fn look_again(&self) -> anyhow::Result<Vec<ViewConfig>> {
        self.0.look_again()
    }

    pub(crate) fn list(&self) -> Vec<ViewConfig> {
        self.0.get()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.get().iter().any(|view| view.name.as_str() == name)
    }

    pub(crate) fn add(&self, view: ViewConfig) -> anyhow::Result<()> {
        self.0.change(|views| {
            views.retain(|other| other.name != view.name);
            views.push(view);
        })
    }

    pub(crate) fn remove(&self, name: &str) -> anyhow::Result<()> {
        self.0.change(|views| views.retain(|view| view.name.as_str() != name))
    }
}
