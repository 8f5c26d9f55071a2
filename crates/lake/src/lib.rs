//! Delta tables written exactly once from the log, and served together with what the log has
//! behind them.
//!
//! ```text
//!                 ┌──────────── offsets ───────────┐
//! log ─▶ writer ─▶ Parquet files ─▶ Delta commit ──┴▶ snapshot ─┐
//!  │                    ▲                │                      ├─▶ scan: files ∪ tail
//!  │                    └── compaction ──┘                      │
//!  └───────────────── rows after the snapshot's offsets ────────┘
//! ```
//!
//! A [`TableSpec`] says what a table holds; [`LakeTable::open`] starts to drain the log into it
//! and is a DataFusion `TableProvider`. Everything a commit needs to be exactly once is in the
//! commit itself: the files added and, as Delta application transactions `thalweg/<topic>/<n>`,
//! the offsets they cover. Any Delta reader can read the table's directory.
//! [`LakeTable::replay`] makes the part of a table from a time on anew from the log.

mod background;
mod compaction;
mod config;
mod conform;
mod delta;
mod durable;
mod encode;
mod error;
mod lag;
mod maintenance;
mod provider;
mod replay;
mod scan;
mod snapshot;
mod spec;
mod statistics;
mod table;
mod tail;
mod tail_index;
mod tail_pruning;
mod writer;

pub use config::LakeConfig;
pub use error::{LakeError, Result};
pub use maintenance::Maintained;
pub use replay::TableReplay;
pub use spec::{DATE_COLUMN, TableSpec};
pub use table::LakeTable;
