//! What a view tells of itself in metrics.

use metrics::{Counter, Gauge, counter, gauge};

use crate::join::Join;
use crate::open::OpenWindows;
use crate::watermark::{BEGINNING, Now};

/// Metrics of one view.
pub(crate) struct Meters {
    rows: Counter,
    timeless: Counter,
    late: Counter,
    lost: Counter,
    emitted: Counter,
    checkpoints: Counter,
    watermark_lag: Gauge,
    open_windows: Gauge,
    state_bytes: Gauge,
    /// Of rows that wait to be joined, in memory and on disk. None unless the view joins streams.
    join_bytes: [Gauge; 2],
}

impl Meters {
    pub(crate) fn new(view: &str) -> Self {
        let view = || view.to_owned();
        Self {
            rows: counter!("thalweg_view_rows_total", "view" => view()),
            timeless: counter!("thalweg_view_rows_without_time_total", "view" => view()),
            late: counter!("thalweg_view_late_rows_total", "view" => view()),
            lost: counter!("thalweg_view_lost_rows_total", "view" => view()),
            emitted: counter!("thalweg_view_emitted_rows_total", "view" => view()),
            checkpoints: counter!("thalweg_view_checkpoints_total", "view" => view()),
            watermark_lag: gauge!("thalweg_view_watermark_lag_seconds", "view" => view()),
            open_windows: gauge!("thalweg_view_open_windows", "view" => view()),
            state_bytes: gauge!("thalweg_view_state_bytes", "view" => view()),
            join_bytes: ["memory", "disk"]
                .map(|at| gauge!("thalweg_view_join_bytes", "view" => view(), "at" => at)),
        }
    }

    pub(crate) fn rows(&self, rows: usize, timeless: usize) {
        self.rows.increment(rows as u64);
        self.timeless.increment(timeless as u64);
    }

    pub(crate) fn late(&self, rows: usize) {
        self.late.increment(rows as u64);
    }

    pub(crate) fn lost(&self, rows: u64) {
        self.lost.increment(rows);
    }

    pub(crate) fn emitted(&self, rows: usize) {
        self.emitted.increment(rows as u64);
    }

    pub(crate) fn checkpoint(&self, watermark: i64, now: Now, open: &OpenWindows) {
        self.checkpoints.increment(1);
        self.open_windows.set(open.len() as f64);
        self.state_bytes.set(open.bytes() as f64);
        if watermark != BEGINNING {
            self.watermark_lag.set((now.unix_micros - watermark) as f64 / 1e6);
        }
    }

    pub(crate) fn join(&self, join: &Join) {
        let [memory, disk] = &self.join_bytes;
        memory.set(join.resident_bytes() as f64);
        disk.set(join.stored_bytes() as f64);
    }
}
