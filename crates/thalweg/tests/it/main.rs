//! The binary as its users meet it: real processes, real clients, real crashes.

mod clients;
mod command_line;
mod crash;
mod http;
mod server;
mod weblog;
