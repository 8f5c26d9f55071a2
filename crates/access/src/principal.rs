//! Who is asking.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    scope::{Scope, Scopes},
    token::TokenId,
};

/// Names of the services that a token is limited to.
pub type Services = Arc<BTreeSet<String>>;

/// Who is asking: a token's holder, or anyone where no token is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    token: Option<TokenId>,
    name: String,
    scopes: Scopes,
    services: Option<Services>,
}

impl Principal {
    /// The holder of a token.
    pub(crate) fn of_token(
        token: TokenId,
        name: String,
        scopes: Scopes,
        services: Option<Services>,
    ) -> Self {
        Self { token: Some(token), name, scopes, services }
    }

    /// Anyone, who may do everything: whoever asks where no token is asked for, and the server
    /// itself.
    pub fn anyone() -> Arc<Self> {
        let (name, scopes) = ("anonymous".to_owned(), Scope::ALL.into_iter().collect());
        Arc::new(Self { token: None, name, scopes, services: None })
    }

    /// Id of the token that was shown.
    pub fn token(&self) -> Option<TokenId> {
        self.token
    }

    /// Name of the token, or `anonymous`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this principal may do what `scope` stands for.
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.allow(scope)
    }

    /// The only services whose rows this principal reads and writes; `None` for all.
    pub fn services(&self) -> Option<&Services> {
        self.services.as_ref()
    }
}
