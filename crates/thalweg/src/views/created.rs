//! The views that statements created, which a restart finds again.

use std::path::Path;

use thalweg_stream::ViewConfig;

use super::kept::Kept;

/// The views that statements created.
pub(crate) struct CreatedViews(Kept<Vec<ViewConfig>>);

impl CreatedViews {
    pub(crate) fn open(directory: &Path) -> anyhow::Result<Self> {
        Ok(Self(Kept::open(directory, "created.json")?))
    }

    /// Looks for what other processes have created and dropped; answers all there are.
    pub(crate) fn look_again(&self) -> anyhow::Result<Vec<ViewConfig>> {
        self.0.look_again()
    }

    pub(crate) fn list(&self) -> Vec<ViewConfig> {
        self.0.get()
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
