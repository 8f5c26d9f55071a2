//! What of the listeners can be configured.

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::Deserialize;

/// What clients may hold open, and for how long.
///
/// A client is an IPv4 address or an IPv6 /64 network. Behind a proxy all clients are one: raise
/// what one may hold to what all may hold.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EdgeConfig {
    /// Connections open at once, on all listeners.
    pub max_connections: usize,
    /// Connections of one client open at once.
    pub max_connections_per_client: usize,
    /// HTTP requests of one client that are not fully answered.
    pub max_requests_per_client: usize,
    /// Time for a TLS handshake.
    pub handshake_timeout_secs: u64,
    /// Time from connecting, or from an answer, until the head of the next request is complete.
    pub idle_timeout_secs: u64,
    /// Time for the body of a request; the ingest may allow less.
    pub body_timeout_secs: u64,
    /// Time in which a client has to take some of the bytes waiting for it.
    pub write_timeout_secs: u64,
}

impl Default for EdgeConfig {
    fn default() -> Self {
        Self {
            max_connections: 8192,
            max_connections_per_client: 1024,
            max_requests_per_client: 512,
            handshake_timeout_secs: 10,
            idle_timeout_secs: 60,
            body_timeout_secs: 60,
            write_timeout_secs: 60,
        }
    }
}

impl EdgeConfig {
    pub(crate) fn handshake_timeout(&self) -> Duration {
        Duration::from_secs(self.handshake_timeout_secs)
    }

    pub(crate) fn idle_timeout(&self) -> Duration {
        Duration::from_secs(self.idle_timeout_secs)
    }

    pub(crate) fn body_timeout(&self) -> Duration {
        Duration::from_secs(self.body_timeout_secs)
    }

    pub(crate) fn write_timeout(&self) -> Duration {
        Duration::from_secs(self.write_timeout_secs)
    }
}

/// The files TLS is made of, in PEM. They are read again when they change.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// The server's certificate and those that lead to its authority.
    pub cert: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
    /// Authorities of client certificates; when given, clients without one are refused.
    #[serde(default)]
    pub client_ca: Option<PathBuf>,
}
