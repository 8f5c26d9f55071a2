//! What a token is good for.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// One thing a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Sending events.
    Ingest,
    /// Asking questions.
    Query,
    /// Reading the audit log and changing the server, and all the others.
    Admin,
}

/// Some of the scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Scope>", into = "Vec<Scope>")]
pub struct Scopes(u8);

impl Scope {
    /// Every scope there is.
    pub const ALL: [Self; 3] = [Self::Ingest, Self::Query, Self::Admin];

    /// Its name, as in the token file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Query => "query",
            Self::Admin => "admin",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl Scopes {
    /// Whether `scope` is among these, or [`Scope::Admin`], which comprises the others.
    pub fn allow(self, scope: Scope) -> bool {
        self.0 & (scope.bit() | Scope::Admin.bit()) != 0
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn listed(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.0 & scope.bit() != 0)
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

impl From<Vec<Scope>> for Scopes {
    fn from(scopes: Vec<Scope>) -> Self {
        scopes.into_iter().collect()
    }
}

impl From<Scopes> for Vec<Scope> {
    fn from(scopes: Scopes) -> Self {
        scopes.listed().collect()
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|scope| scope.name() == text);
        found.ok_or_else(|| format!("expected ingest, query or admin, found `{text}`"))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.listed().map(Scope::name).collect();
        f.pad(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_allows_itself_and_admin_allows_all() {
        for granted in Scope::ALL {
            let scopes = Scopes::from_iter([granted]);
            for asked in Scope::ALL {
                let allowed = granted == asked || granted == Scope::Admin;
                assert_eq!(scopes.allow(asked), allowed, "{granted} {asked}");
                assert!(!Scopes::default().allow(asked));
            }
        }
    }

    #[test]
    fn scopes_are_written_as_a_list_of_names() {
        let scopes = Scopes::from_iter([Scope::Query, Scope::Ingest]);
        assert_eq!(serde_json::to_string(&scopes).unwrap(), r#"["ingest","query"]"#);
        assert_eq!(serde_json::from_str::<Scopes>(r#"["query","ingest"]"#).unwrap(), scopes);
        assert!(serde_json::from_str::<Scopes>(r#"["root"]"#).is_err());
    }
}
