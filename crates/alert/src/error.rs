//! What can go wrong.

use std::{io, path::PathBuf, time::Duration};

/// What can go wrong with alerts.
#[derive(Debug, thiserror::Error)]
pub enum AlertError {
    /// The configuration says things that do not go together.
    #[error("{0}")]
    Config(String),
    /// The state cannot be read or written.
    #[error("{path}: {reason}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        reason: io::Error,
    },
    /// The state file holds something else.
    #[error("{path} is no state of alerts: {reason}; restore it, or delete it and begin anew")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What was expected and found.
        reason: String,
    },
    /// Part of a request is wrong.
    #[error("{name}: {message}")]
    Parameter {
        /// Which part.
        name: &'static str,
        /// What was expected and found.
        message: String,
    },
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// The principal may not do that.
    #[error("{0}")]
    Forbidden(String),
    /// A limit is reached.
    #[error("there are {limit} {what}, which is the limit; delete some")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// The task that owns all alerts ended or hangs.
    #[error(
        "nobody has looked after the alerts for {silent:?}, expected twice a second; look for errors \
         in the server's log, and restart it"
    )]
    Unattended {
        /// For how long.
        silent: Duration,
    },
    /// Another process evaluates rules and tells people.
    #[error(
        "another of the processes that share the log looks after the alerts; ask that one: its metric \
         `thalweg_alert_attended` is 1"
    )]
    Standby,
    /// Alerts are being shut down.
    #[error("the server is stopping; ask again in a moment")]
    Stopping,
}

/// What comes of it.
pub(crate) type Result<T, E = AlertError> = std::result::Result<T, E>;
