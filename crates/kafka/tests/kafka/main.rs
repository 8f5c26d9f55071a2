//! The Kafka log against real brokers: `make test-kafka`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod faults;
mod node;
mod reading;
mod refusals;
mod security;
mod sharing;
mod sources;
