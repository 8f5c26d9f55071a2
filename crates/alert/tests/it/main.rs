//! Alerts as a node runs them: with a real log, real receivers, and restarts.

// Clippy knows tests by their attribute, not the functions that they share.
#![allow(clippy::unwrap_used)]

mod anomaly;
mod command;
mod disk;
mod http;
mod journal;
mod mail;
mod node;
mod restart;
mod webhook;
