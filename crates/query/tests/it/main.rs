//! Real clients against real ports: HTTP, psql and psycopg over tables of events.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod logs;
mod serving;
mod sql;
mod summary;
mod tail;
mod traces;
mod wire;
