//! Queries that run at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places for queries that run at once, apart from those that users share: for what must be
/// answered however many users ask.
#[derive(Debug, Clone)]
pub struct Places(Arc<Semaphore>);

impl Places {
    /// `count` places.
    pub fn new(count: usize) -> Self {
        Self(Arc::new(Semaphore::new(count)))
    }

    /// Waits for a place.
    pub(crate) async fn take(&self) -> OwnedSemaphorePermit {
        self.0.clone().acquire_owned().await.expect("places are never closed")
    }
}
