//! The lake as its users see it: rows go into a log, and come out of queries and Delta readers.

#![allow(clippy::unwrap_used)]

mod events;
mod exactly_once;
mod gated_log;
mod kill;
mod maintenance;
mod memory_log;
mod others;
mod queries;
mod replay;
mod sharing;
mod spans;
