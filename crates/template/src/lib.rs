//! Message templates mined from log lines as they stream by.
//!
//! Programs write messages by filling in templates: `Connection from <*> closed`. A [`Miner`]
//! finds the templates again, one message after the other: each gets the id of its template, and
//! with it the values of the parameters.
//!
//! ```text
//! message ─▶ scan ─▶ words and values ─▶ known pattern? ─ yes ─▶ template id
//!            `5 ms`, `10.0.0.1:80`,            │ no
//!            `blk_17`, `"View Lock"`        new pattern ─▶ evidence ─▶ patterns that differ in
//!                                                       what must be values become one
//! ```
//!
//! What looks like a value is one from the start: numbers, addresses, paths, times. Whether other
//! words are is found out from how many different ones stand at one place where all else is
//! equal: two tell templates apart (`session opened`, `session closed`), many are values
//! (`user alice`, `user bob`, …). So templates begin narrow and merge; ids that go are
//! [resolved](Miner::resolve) to the one that stays. See the README for how this compares with
//! Drain (He, Zhu, Zheng and Lyu, "Drain: an online log parsing approach with fixed depth tree",
//! ICWS 2017), whose tree of words and similarity threshold it does without.
//!
//! ```
//! use thalweg_template::{Config, Miner};
//!
//! let mut miner = Miner::new(Config::default())?;
//! let first = miner.observe("Accepted password for root from 10.0.0.7 port 4711");
//! for user in ["alice", "bob", "carol", "dave"] {
//!     miner.observe(&format!("Accepted password for {user} from 10.0.0.8 port 4712"));
//! }
//! let template = miner.template(first.template).expect("it was just seen");
//! assert_eq!(template.to_string(), "Accepted password for <*> from <*> port <*>");
//! let message = "Accepted password for eve from 10.0.0.9 port 1";
//! assert_eq!(miner.find(message), Some(template.id()));
//! let values: Vec<&str> = miner.parameters(template.id(), message).into_iter().flatten().collect();
//! assert_eq!(values, ["eve", "10.0.0.9", "1"]);
//! # Ok::<(), thalweg_template::ConfigError>(())
//! ```
//!
//! There is no I/O here, no clock and no randomness. Memory is bounded by [`Config`]; a
//! [snapshot](Miner::snapshot) carries everything over a restart. [`Watch`] counts templates over
//! time and says when one is new or comes at another rate.

mod bytes;
mod config;
mod element;
mod evidence;
mod hash;
mod lexicon;
mod miner;
mod pattern;
mod patterns;
mod rate;
mod scan;
mod sentence;
mod snapshot;
mod template;
mod templates;
mod watch;

pub use config::{Config, ConfigError};
pub use miner::{Miner, Observation};
pub use snapshot::{SNAPSHOT_VERSION, SnapshotError};
pub use template::{Parameters, Template, TemplateId};
pub use watch::{Signal, TemplateStatistics, Watch, WatchConfig};

/// The examples of the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
