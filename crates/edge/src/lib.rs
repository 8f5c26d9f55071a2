//! Listeners that hold: TLS, limits and deadlines for every connection.
//!
//! ```text
//! accept ─▶ place (total, per client) ─▶ TLS handshake in time ─▶ HTTP: place per request
//!              │ none left                  │ late, or no certificate   │ none left
//!              ▼                            ▼                           ▼
//!            closed                       closed                   429, Retry-After
//! ```
//!
//! A client is an IPv4 address or an IPv6 /64 network: what one subscriber holds. Whatever a
//! client does costs at most its connections, its requests and the buffers of both; one that is
//! idle, or takes no answers, is cut off. HTTP is served by [`Edge::serve_http`]; other protocols
//! take connections from a [`Listener`] and speak themselves.

mod config;
mod http;
mod listener;
mod meters;
mod peer;
mod places;
mod stream;
mod tls;

pub use config::{EdgeConfig, TlsFiles};
pub use listener::{Arrival, Edge, Listener};
pub use peer::{ClientCertificate, Peer, client_of};
pub use places::{Full, Place};
pub use stream::Stream;
pub use tls::{Application, Tls, TlsError};
