//! The binary as its users meet it: real processes, real clients, real crashes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod certificates;
mod clients;
mod command_line;
mod crash;
mod hostile;
mod http;
mod replay;
mod routes;
mod server;
mod syslog;
mod views;
mod weblog;
mod writers;
