//! The listeners, spoken to by real sockets and real TLS.

// Clippy knows tests by their attribute, not the functions that they share.
#![allow(clippy::unwrap_used)]

mod certificates;
mod deadlines;
mod limits;
mod server;
mod tls;
