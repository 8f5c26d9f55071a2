//! What can go wrong with a view.

use datafusion::common::DataFusionError;
use thalweg_log::LogError;

/// Result of the crate.
pub type Result<T, E = StreamError> = std::result::Result<T, E>;

/// What can go wrong with a view.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The query is no view.
    #[error("view `{view}`: {reason}")]
    Definition {
        /// Name of the view.
        view: String,
        /// What was expected, what was found, what to do.
        reason: String,
    },
    /// There is a view, table or stream of that name.
    #[error("`{0}` exists already; drop it first, or choose another name")]
    Exists(String),
    /// There is no such view.
    #[error("there is no view `{0}`")]
    Unknown(String),
    /// Another view reads it.
    #[error("view `{view}` is read by view `{reader}`; drop that one first")]
    InUse {
        /// Name of the view.
        view: String,
        /// A view that reads it.
        reader: String,
    },
    /// Another version of the view is being made already.
    #[error("view `{0}` is being replayed already; wait until that has ended")]
    Replaying(String),
    /// A version of the view that is to replace another has not come as far as that one in time.
    #[error(
        "the replay of view `{0}` has not come as far as the version that answers, which goes on"
    )]
    Behind(String),
    /// A row could not be computed.
    #[error(transparent)]
    Compute(#[from] DataFusionError),
    /// The log refused.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The state on disk could not be read or written.
    #[error("state of views: {0}")]
    State(#[from] fjall::Error),
    /// The state on disk is not what this program wrote.
    #[error("state of view `{view}`: {reason}; drop the view and create it again")]
    Corrupt {
        /// Name of the view.
        view: String,
        /// What was found.
        reason: String,
    },
    /// History for a backfill could not be read.
    #[error("history of `{stream}`: {reason}")]
    History {
        /// The stream it was asked of.
        stream: String,
        /// Why.
        reason: String,
    },
}

impl From<arrow::error::ArrowError> for StreamError {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::Compute(error.into())
    }
}

impl StreamError {
    /// The query of `view` is none, because of `reason`.
    pub(crate) fn definition(view: &str, reason: impl Into<String>) -> Self {
        Self::Definition { view: view.to_owned(), reason: reason.into() }
    }
}
