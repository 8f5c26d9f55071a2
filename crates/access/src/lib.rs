//! Who may do what: tokens, their scopes, and the services whose rows they are limited to.
//!
//! ```text
//! Authorization, X-API-Key ─▶ Credential ─▶ Gate ─▶ Access ─▶ Principal ─▶ handler
//! Postgres password ─────────▶              │        tokens.json: Argon2 hashes
//!                                           ▼
//!                                        Denial ─▶ 401, 403 or 429 in the protocol's words
//! ```
//!
//! A token is `tw_ID_SECRET`. The file keeps an Argon2 hash of the secret; whoever reads the file
//! cannot ask with it. The costly hash is computed once for each token while the server runs:
//! from then on the secret's keyed digest is compared.
//!
//! ```
//! use thalweg_access::{Access, NewToken, Scope, TokenFile};
//!
//! # let runtime = tokio::runtime::Runtime::new()?;
//! # let directory = tempfile::tempdir()?;
//! let file = TokenFile::in_directory(directory.path());
//! let scopes = [Scope::Query].into_iter().collect();
//! let token = file.create(NewToken { name: "grafana".into(), scopes, services: None })?;
//!
//! let access = Access::open(file)?;
//! let credential = token.to_string().parse()?;
//! let address = [127, 0, 0, 1].into();
//! let principal = runtime.block_on(access.authenticate(&credential, address))?;
//! assert!(principal.may(Scope::Query) && !principal.may(Scope::Ingest));
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

mod access;
mod audit;
mod credential;
mod denial;
mod failures;
mod file;
mod gate;
mod hash;
mod meters;
mod principal;
mod refusal;
mod scope;
mod token;

pub use access::Access;
pub use audit::{Asker, Audit, AuditEntry, Record};
pub use credential::{Credential, Malformed};
pub use denial::Denial;
pub use file::{NewToken, TokenFile, TokenFileError, TokenRecord};
pub use gate::{Caller, Gate, NoGate};
pub use principal::{Principal, Services};
pub use scope::{Scope, Scopes};
pub use token::{Token, TokenId};
