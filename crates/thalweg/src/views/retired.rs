//! Versions of views that were replaced, until what they have is removed.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use thalweg_lake::LakeTable;
use tokio::time::sleep;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use super::{blocking, holdings::Holdings};

/// How long the files of a version stay after it was replaced, for queries that read them.
const GRACE: Duration = Duration::from_secs(60);

/// The versions that are to be removed; one that a stop cuts off is removed by the next start.
#[derive(Default)]
pub(crate) struct Retired(Mutex<Vec<Retiring>>);

struct Retiring {
    view: String,
    /// Cuts the grace short.
    hurry: CancellationToken,
    task: AbortOnDropHandle<()>,
}

impl Retired {
    /// Removes a version of `view`, which no new query reads, once the others have had time to end.
    pub(crate) fn add(&self, view: &str, former: Arc<LakeTable>, holdings: Holdings) {
        let hurry = CancellationToken::new();
        let task = retire(former, holdings, hurry.clone());
        let task = AbortOnDropHandle::new(tokio::spawn(task));
        let mut all = self.0.lock();
        all.retain(|other| !other.task.is_finished());
        all.push(Retiring { view: view.to_owned(), hurry, task });
    }

    /// Removes the versions of `view` now.
    pub(crate) async fn hurry(&self, view: &str) {
        let of_view: Vec<_> = self.0.lock().extract_if(.., |other| other.view == view).collect();
        for Retiring { hurry, task, .. } in of_view {
            hurry.cancel();
            if let Err(error) = task.await {
                tracing::error!(view, %error, "the removal of a former version ended badly");
            }
        }
    }

    /// Leaves the versions to the next start.
    pub(crate) fn stop(&self) {
        self.0.lock().clear();
    }
}

async fn retire(former: Arc<LakeTable>, holdings: Holdings, hurry: CancellationToken) {
    former.shutdown().await;
    let topic = former.name().to_owned();
    // The log need not keep anything for it any more.
    let (log, group) = (holdings.log.clone(), thalweg_stream::consumer_group(&topic));
    let forgotten = blocking(move || Ok(log.forget_group(&group)?)).await.flatten();
    hurry.run_until_cancelled(sleep(GRACE)).await;
    let removed = blocking(move || holdings.remove(&topic)).await.flatten();
    if let Err(error) = forgotten.and(removed) {
        let path = former.path().display();
        tracing::warn!(%path, "a former version is left until the next start: {error:#}");
    }
}
