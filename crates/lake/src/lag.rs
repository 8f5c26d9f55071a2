//! How far a table is behind its log.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use chrono::Utc;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::error::Result;
use crate::snapshot::Snapshot;
use crate::table::{Table, stopped};

/// How often it is shown.
const SHOW_EVERY: Duration = Duration::from_secs(1);

/// Shows the lag until `stop` says so.
pub(crate) async fn run(table: Arc<Table>, mut stop: watch::Receiver<bool>) {
    let label = [("table", table.spec.name.clone())];
    let rows = metrics::gauge!("thalweg_lake_lag_rows", &label);
    let seconds = metrics::gauge!("thalweg_lake_lag_seconds", &label);
    let mut ticks = interval(SHOW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stopped(&mut stop) => return,
            _ = ticks.tick() => {}
        }
        if let Ok(lag) = table.lag(&table.snapshots.current()) {
            rows.set(lag as f64);
        }
        seconds.set(table.waited_millis() as f64 / 1e3);
    }
}

impl Table {
    /// Offsets that the log has and `snapshot` does not cover, of partitions that this process works
    /// on.
    pub(crate) fn lag(&self, snapshot: &Snapshot) -> Result<u64> {
        let ownership = self.log.ownership();
        let behind = snapshot
            .offsets
            .iter()
            .filter(|(at, _)| ownership.owns(at))
            .map(|(at, &offset)| Ok(self.log.offsets(at.clone())?.end.saturating_sub(offset)));
        behind.sum()
    }

    /// How long the oldest row has waited in the log that the writer has read and not committed.
    pub(crate) fn waited_millis(&self) -> i64 {
        match self.oldest_unix_millis.load(Relaxed) {
            0 => 0,
            oldest => Utc::now().timestamp_millis().saturating_sub(oldest).max(0),
        }
    }
}
