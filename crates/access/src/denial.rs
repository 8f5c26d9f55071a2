//! Why a request is not let in.

use std::time::Duration;

use crate::{credential::Malformed, scope::Scope};

/// Why a request is not let in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// No token is shown.
    #[error(
        "this server asks for a token; send `Authorization: Bearer tw_…` (Basic, ApiKey, Splunk \
         and X-API-Key do as well); `thalweg token create` makes one"
    )]
    Missing,
    /// What is shown cannot be a token.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// What is shown was never a token, or was revoked.
    #[error("the token is not valid, or was revoked")]
    Invalid,
    /// The client was wrong too often, or too many tokens wait to be verified.
    #[error("too many tokens are being verified; retry after {} s", .0.as_secs().max(1))]
    Busy(Duration),
    /// The token is not good for this.
    #[error(
        "token `{name}` does not have the scope {needed}; create one with `thalweg token create \
         --scope {needed}`"
    )]
    Scope {
        /// Name of the token.
        name: String,
        /// What it would have to be good for.
        needed: Scope,
    },
}

impl Denial {
    /// Name of this kind of denial in metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed(_) => "malformed",
            Self::Invalid => "invalid",
            Self::Busy(_) => "busy",
            Self::Scope { .. } => "scope",
        }
    }
}
