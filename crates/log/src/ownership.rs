//! Which partitions this process works on, where several share a log.

use std::{
    collections::BTreeSet,
    fs::File,
    future::pending,
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::types::TopicPartition;

/// Partitions of a process, as they are told.
pub type Owned = Arc<BTreeSet<TopicPartition>>;

/// Which partitions this process works on: all, unless it shares the log with others.
///
/// Partitions come and go at any time, and a moment may pass until a process hears of it: ownership
/// says who is to work on what, and results must be safe from two who both think so.
#[derive(Clone, Debug, Default)]
pub struct Ownership(Option<watch::Receiver<Owned>>);

impl Ownership {
    /// A process that works on all partitions.
    pub fn all() -> Self {
        Self(None)
    }

    /// A process that works on what it is told.
    pub fn told(owned: watch::Receiver<Owned>) -> Self {
        Self(Some(owned))
    }

    /// Whether other processes may work on partitions of the log.
    pub fn is_shared(&self) -> bool {
        self.0.is_some()
    }

    /// Whether this process works on `at`.
    pub fn owns(&self, at: &TopicPartition) -> bool {
        self.0.as_ref().is_none_or(|owned| owned.borrow().contains(at))
    }

    /// Resolves when partitions have come or gone since the last call or, at the first one, since
    /// the log was asked for this; never if all are owned.
    pub async fn changed(&mut self) {
        if let Some(owned) = &mut self.0
            && owned.changed().await.is_ok()
        {
            return;
        }
        pending().await
    }

    /// Resolves when this process works on `at`, or no longer does.
    pub async fn until(&self, at: &TopicPartition, is_owned: bool) {
        match &self.0 {
            None if is_owned => {}
            None => pending().await,
            Some(owned) => {
                let is_so = |owned: &Owned| owned.contains(at) == is_owned;
                if owned.clone().wait_for(is_so).await.is_err() {
                    // The log is closed: nothing changes any more.
                    pending().await
                }
            }
        }
    }
}

/// How long a process may hold a lock whose owner it is no longer: it finishes what it is at.
const HAND_OVER_PATIENCE: Duration = Duration::from_secs(30);

/// A wait for a state that this process owns by now and another has still locked.
#[derive(Debug, Default)]
pub struct HandOver {
    /// When it began, and when it was last known to go on.
    waiting: Option<(Instant, Instant)>,
    is_told: bool,
}

impl HandOver {
    /// Notes that the state of `what` is still locked; warns, once, when that has been so for long.
    pub fn waits(&mut self, what: &str) {
        let now = Instant::now();
        let since = match self.waiting {
            Some((since, last)) if now - last < HAND_OVER_PATIENCE => since,
            _ => now,
        };
        self.waiting = Some((since, now));
        if now - since < HAND_OVER_PATIENCE {
            self.is_told = false;
            tracing::debug!("another process still has the state of {what}");
        } else if !std::mem::replace(&mut self.is_told, true) {
            tracing::warn!(
                "another process does not let go of the state of {what}, which is this one's work by \
                 now: nobody can do it until that process goes on or ends"
            );
        }
    }
}

/// Locks the file at `path`, which is made if it is missing, for as long as the answer lives; `None`
/// while another process holds it. A process that ends, however that happens, holds nothing.
///
/// # Errors
/// The file cannot be made, or its file system has no locks.
pub fn lock_file(path: &Path) -> io::Result<Option<File>> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn partitions_are_owned_as_they_are_told() {
        let (a, b) = (TopicPartition::new("t", 0), TopicPartition::new("t", 1));
        let owned = watch::Sender::new(Owned::default());
        let mut ownership = Ownership::told(owned.subscribe());
        assert!(!ownership.owns(&a));
        owned.send_replace(Arc::new([a.clone()].into()));
        ownership.changed().await;
        ownership.until(&a, true).await;
        ownership.until(&b, false).await;
        assert!(ownership.owns(&a) && !ownership.owns(&b));
    }

    #[test]
    fn a_file_is_locked_by_one_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let held = lock_file(&path).unwrap();
        assert!(held.is_some() && lock_file(&path).unwrap().is_none());
        drop(held);
        assert!(lock_file(&path).unwrap().is_some());
    }
}
