//! The embedded log, as its users see it.

// `allow-unwrap-in-tests` knows only the functions marked as tests, not what they call.
#![allow(clippy::unwrap_used)]

mod crash;
mod damage;
mod disk_full;
mod durability;
mod reading;
mod retention;
mod rows;
mod topics;
