//! The file that tokens are kept in.

use std::{
    collections::{BTreeSet, HashSet},
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use argon2::password_hash::phc::PasswordHash;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    hash,
    scope::{Scope, Scopes},
    token::{Token, TokenId},
};

const FILE: &str = "tokens.json";
const LOCK_FILE: &str = "tokens.lock";
const VERSION: u32 = 1;
/// Longest file that is read.
const MAX_BYTES: u64 = 16 << 20;
/// Most tokens in the file.
const MAX_TOKENS: usize = 10_000;
/// Most services that a token can be limited to.
const MAX_SERVICES: usize = 1_000;
/// Longest name of a token or a service, bytes.
const MAX_NAME_BYTES: usize = 200;

/// `tokens.json` in the data directory, which the server and `thalweg token` share.
///
/// It is replaced as a whole, so that a reader sees the old tokens or the new ones; changes wait
/// for each other by a lock.
#[derive(Debug, Clone)]
pub struct TokenFile {
    path: PathBuf,
}

/// A token as the file keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRecord {
    /// What the token begins with, after `tw_`.
    pub id: TokenId,
    /// What people and the audit log call it.
    pub name: String,
    /// What it is good for.
    pub scopes: Scopes,
    /// The only services it reads and writes; all when there is no list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<BTreeSet<String>>,
    /// When it was created.
    pub created: DateTime<Utc>,
    /// Argon2id hash of its secret, in the PHC string format.
    pub hash: String,
}

/// What a token to create shall be.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// What people and the audit log will call it; unique.
    pub name: String,
    /// What it is good for.
    pub scopes: Scopes,
    /// The only services it reads and writes; all when there is no list.
    pub services: Option<BTreeSet<String>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    tokens: Vec<TokenRecord>,
}

/// Why the token file cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// The disk refuses.
    #[error("{path}: {reason}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: io::Error,
    },
    /// The file holds something else than tokens.
    #[error("{path} is no token file: {reason}; restore it, or delete it and create tokens anew")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What was expected and found.
        reason: String,
    },
    /// The token cannot be created or revoked as asked.
    #[error("{0}")]
    Refused(String),
}

impl TokenFile {
    /// The token file in a data directory.
    pub fn in_directory(directory: &Path) -> Self {
        Self { path: directory.join(FILE) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tokens, or `None` when none was ever created here.
    ///
    /// # Errors
    /// [`TokenFileError`].
    pub fn read(&self) -> Result<Option<Vec<TokenRecord>>, TokenFileError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.io(error)),
        };
        let mut text = String::new();
        file.take(MAX_BYTES).read_to_string(&mut text).map_err(|error| self.io(error))?;
        let unreadable =
            |reason: String| TokenFileError::Unreadable { path: self.path.clone(), reason };
        let Content { version, tokens } =
            serde_json::from_str(&text).map_err(|error| unreadable(error.to_string()))?;
        if version != VERSION {
            return Err(unreadable(format!("expected version {VERSION}, found {version}")));
        }
        let mut ids = HashSet::new();
        for token in &tokens {
            if !ids.insert(token.id) {
                return Err(unreadable(format!("token {} is there twice", token.id)));
            }
            PasswordHash::new(&token.hash)
                .map_err(|error| unreadable(format!("hash of token {}: {error}", token.id)))?;
        }
        Ok(Some(tokens))
    }

    /// Creates a token and returns it: the only time that its secret is known.
    ///
    /// # Errors
    /// [`TokenFileError`].
    pub fn create(&self, new: NewToken) -> Result<Token, TokenFileError> {
        new.validate().map_err(TokenFileError::Refused)?;
        let no_randomness =
            |error: &dyn std::fmt::Display| TokenFileError::Refused(format!("no token: {error}"));
        let token = Token::generate().map_err(|error| no_randomness(&error))?;
        let hash = hash::hash(token.secret()).map_err(|error| no_randomness(&error))?;
        let NewToken { name, scopes, services } = new;
        self.change(|tokens| {
            if tokens.iter().any(|token| token.name == name) {
                let text = format!("a token is called `{name}` already; choose another name");
                return Err(TokenFileError::Refused(text));
            }
            if tokens.len() >= MAX_TOKENS {
                let text =
                    format!("there are {MAX_TOKENS} tokens, which is the limit; revoke some");
                return Err(TokenFileError::Refused(text));
            }
            let created = Utc::now();
            tokens.push(TokenRecord { id: token.id, name, scopes, services, created, hash });
            Ok(token)
        })
    }

    /// Removes the token with this id or name and returns what it was.
    ///
    /// # Errors
    /// [`TokenFileError`].
    pub fn revoke(&self, id_or_name: &str) -> Result<TokenRecord, TokenFileError> {
        self.change(|tokens| {
            let is_meant = |token: &TokenRecord| {
                token.name == id_or_name || token.id.to_string() == id_or_name
            };
            let position = tokens.iter().position(is_meant).ok_or_else(|| {
                TokenFileError::Refused(format!("no token has the id or name `{id_or_name}`"))
            })?;
            Ok(tokens.remove(position))
        })
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&mut Vec<TokenRecord>) -> Result<T, TokenFileError>,
    ) -> Result<T, TokenFileError> {
        let directory = self.path.parent().unwrap_or(Path::new("."));
        let lock = || {
            fs::create_dir_all(directory)?;
            let lock = private().truncate(false).open(directory.join(LOCK_FILE))?;
            lock.lock()?;
            io::Result::Ok(lock)
        };
        let _lock = lock().map_err(|error| self.io(error))?;
        let mut tokens = self.read()?.unwrap_or_default();
        let changed = change(&mut tokens)?;
        self.replace(directory, tokens).map_err(|error| self.io(error))?;
        Ok(changed)
    }

    /// Replaces the file, durably and at once.
    fn replace(&self, directory: &Path, tokens: Vec<TokenRecord>) -> io::Result<()> {
        let new_path = self.path.with_extension("json.new");
        // One left behind may have been made by someone else, with other permissions.
        match fs::remove_file(&new_path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = private().create_new(true).open(&new_path)?;
        serde_json::to_writer_pretty(&mut file, &Content { version: VERSION, tokens })?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&new_path, &self.path)?;
        File::open(directory)?.sync_all()
    }

    fn io(&self, reason: io::Error) -> TokenFileError {
        TokenFileError::Io { path: self.path.clone(), reason }
    }

    /// By what a change of the file is told.
    pub(crate) fn look(&self) -> Option<(u64, u64, i64, i64)> {
        let metadata = fs::metadata(&self.path).ok()?;
        Some((metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
    }
}

impl NewToken {
    fn validate(&self) -> Result<(), String> {
        let is_name = |text: &str| {
            (1..=MAX_NAME_BYTES).contains(&text.len()) && !text.chars().any(char::is_control)
        };
        if !is_name(&self.name) || self.name.parse::<TokenId>().is_ok() {
            return Err(format!(
                "expected a name of 1 to {MAX_NAME_BYTES} bytes that does not look like a token \
                 id, found {:?}",
                self.name
            ));
        }
        if self.scopes.is_empty() {
            return Err("a token without a scope is good for nothing; name one".to_owned());
        }
        let Some(services) = &self.services else { return Ok(()) };
        if self.scopes.allow(Scope::Admin) {
            return Err("a token with scope admin cannot be limited to services: admin sees the \
                        audit log, which is about all of them"
                .to_owned());
        }
        if !(1..=MAX_SERVICES).contains(&services.len()) {
            let found = services.len();
            return Err(format!("expected 1 to {MAX_SERVICES} services, found {found}"));
        }
        match services.iter().find(|service| !is_name(service)) {
            Some(service) => Err(format!("expected the name of a service, found {service:?}")),
            None => Ok(()),
        }
    }
}

/// For files that nobody but their owner may read.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    options
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn new(name: &str) -> NewToken {
        NewToken { name: name.into(), scopes: [Scope::Query].into_iter().collect(), services: None }
    }

    fn file() -> (tempfile::TempDir, TokenFile) {
        let directory = tempfile::tempdir().unwrap();
        let file = TokenFile::in_directory(directory.path());
        (directory, file)
    }

    #[test]
    fn a_created_token_is_read_back_and_its_secret_is_not_there() {
        let (_directory, file) = file();
        assert_eq!(file.read().unwrap(), None);
        let token = file.create(new("a")).unwrap();
        let records = file.read().unwrap().unwrap();
        assert_eq!((records.len(), records[0].id, &*records[0].name), (1, token.id, "a"));
        let text = fs::read_to_string(file.path()).unwrap();
        assert!(!text.contains(token.secret()), "{text}");
        assert!(text.contains("$argon2id$v=19$m=19456,t=2,p=1$"), "{text}");
        let mode = fs::metadata(file.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_token_is_revoked_by_id_or_name_and_the_file_stays() {
        let (_directory, file) = file();
        let first = file.create(new("a")).unwrap();
        file.create(new("b")).unwrap();
        assert_eq!(file.revoke(&first.id.to_string()).unwrap().name, "a");
        assert_eq!(file.revoke("b").unwrap().name, "b");
        assert_eq!(file.read().unwrap(), Some(vec![]));
        assert!(file.revoke("b").unwrap_err().to_string().contains("no token has"));
    }

    #[test]
    fn tokens_that_make_no_sense_are_refused() {
        let (_directory, file) = file();
        file.create(new("a")).unwrap();
        let services = |names: &[&str]| Some(names.iter().map(|name| name.to_string()).collect());
        for (wrong, why) in [
            (new("a"), "already"),
            (new(""), "a name"),
            (new("x\n"), "a name"),
            (new("abcdefgh"), "look like a token id"),
            (NewToken { scopes: Scopes::default(), ..new("b") }, "scope"),
            (NewToken { services: services(&[]), ..new("b") }, "services"),
            (NewToken { services: services(&[""]), ..new("b") }, "service"),
            (
                NewToken {
                    services: services(&["s"]),
                    scopes: [Scope::Admin].into_iter().collect(),
                    ..new("b")
                },
                "admin",
            ),
        ] {
            let error = file.create(wrong.clone()).unwrap_err().to_string();
            assert!(error.contains(why), "{wrong:?}: {error}");
        }
        assert_eq!(file.read().unwrap().unwrap().len(), 1);
    }

    #[test]
    fn changes_made_at_once_are_all_kept() {
        let (_directory, file) = file();
        std::thread::scope(|scope| {
            for n in 0..4 {
                let file = file.clone();
                scope.spawn(move || file.create(new(&format!("t{n}"))).unwrap());
            }
        });
        assert_eq!(file.read().unwrap().unwrap().len(), 4);
    }

    #[test]
    fn a_damaged_file_is_an_error_and_not_an_empty_one() {
        let (_directory, file) = file();
        for text in ["", "{", r#"{"version":2,"tokens":[]}"#, r#"{"version":1,"tokens":[{}]}"#] {
            fs::write(file.path(), text).unwrap();
            assert!(matches!(file.read(), Err(TokenFileError::Unreadable { .. })), "{text}");
        }
    }
}
