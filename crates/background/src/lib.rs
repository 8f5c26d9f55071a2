//! Work that gives way to what others wait for.
//!
//! Threads of an asynchronous runtime, and those that it keeps for work that blocks, all want a core
//! alike: a second of decoding costs who asks next to it half a core. The scheduler of the operating
//! system knows better, if it is told which work can wait.

use std::thread;

use tokio::sync::oneshot;

/// How much work gives way to other threads on a busy machine; of an idle one it always gets all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// It has the share of any thread.
    Normal,
    /// Somebody waits for it, but others come first: it gets a third of what they get.
    Bulk,
    /// Nobody waits for it: it gets a tenth of what others get.
    Idle,
}

impl Priority {
    /// Added to the niceness of the process; each step is a fifth less than the one before.
    fn niceness(self) -> i32 {
        match self {
            Self::Normal => 0,
            Self::Bulk => 5,
            Self::Idle => 10,
        }
    }
}

/// Runs `work` on a thread of its own. `None` when there is no thread to be had, or the work has
/// panicked.
pub async fn run<T: Send + 'static>(
    priority: Priority,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, outcome) = oneshot::channel();
    let work = move || {
        if priority != Priority::Normal
            && let Err(error) = rustix::process::nice(priority.niceness())
        {
            tracing::debug!(%error, "work does not give way");
        }
        // Whoever waited may be gone.
        let _ = done.send(work());
    };
    thread::Builder::new().name("background".into()).spawn(work).ok()?;
    outcome.await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_at_its_priority() {
        let before = rustix::process::getpriority_process(None).unwrap();
        for priority in [Priority::Normal, Priority::Bulk, Priority::Idle] {
            let niceness = run(priority, || rustix::process::nice(0).unwrap()).await;
            assert_eq!(niceness, Some(before + priority.niceness()));
        }
        assert_eq!(rustix::process::getpriority_process(None).unwrap(), before);
        assert_eq!(run(Priority::Bulk, || -> u8 { panic!("on purpose") }).await, None);
    }
}
