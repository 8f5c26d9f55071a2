//! Work that gives way to what others wait for.

use std::thread;

use tokio::sync::oneshot;

/// Added to the niceness of threads that give way: they get a tenth of a core that others want,
/// and all of one that nobody does.
const NICENESS: i32 = 10;

/// Runs `work` on a thread of its own, which gives way to other threads if told to. `None` when
/// there is no thread to be had, or the work has panicked.
pub(crate) async fn run<T: Send + 'static>(
    gives_way: bool,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, outcome) = oneshot::channel();
    let work = move || {
        if gives_way && let Err(error) = rustix::process::nice(NICENESS) {
            tracing::debug!(%error, "encoding does not give way");
        }
        // Nobody waits any more when the table is closed.
        let _ = done.send(work());
    };
    thread::Builder::new().name("lake-encode".into()).spawn(work).ok()?;
    outcome.await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_with_or_without_giving_way() {
        assert_eq!(run(true, || 7).await, Some(7));
        assert_eq!(run(false, || 8).await, Some(8));
        assert_eq!(run(false, || -> u8 { panic!("on purpose") }).await, None);
    }
}
