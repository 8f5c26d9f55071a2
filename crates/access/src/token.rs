//! A token: a name for its hash, and a secret.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What every token begins with, so that people and scanners know one when they see one.
const PREFIX: &str = "tw_";
/// Characters of ids and secrets (RFC 4648 §6, in lower case): nothing a double click or a URL
/// would break.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// 40 bits: enough to be unique.
const ID_LENGTH: usize = 8;
/// 160 bits: beyond guessing.
const SECRET_LENGTH: usize = 32;

/// Names a token; no secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenId([u8; ID_LENGTH]);

/// A token as its holder knows it. Shown once, when it is created.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// What the token file calls it.
    pub id: TokenId,
    secret: String,
}

impl Token {
    /// A new token from the system's randomness.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub(crate) fn generate() -> Result<Self, getrandom::Error> {
        let mut id = [0; ID_LENGTH];
        let mut secret = [0; SECRET_LENGTH];
        getrandom::fill(&mut id)?;
        getrandom::fill(&mut secret)?;
        // 256 is a multiple of 32: every character is as likely.
        let character = |byte: u8| ALPHABET[usize::from(byte % 32)];
        let secret = secret.iter().map(|byte| char::from(character(*byte))).collect();
        Ok(Self { id: TokenId(id.map(character)), secret })
    }

    pub(crate) fn secret(&self) -> &str {
        &self.secret
    }

    /// The token as Elasticsearch's clients take an API key: `id:secret` in base64.
    pub fn as_elasticsearch_api_key(&self) -> String {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        STANDARD.encode(format!("{}:{}", self.id, self.secret))
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}_{}", self.id, self.secret)
    }
}

// Not the secret: debug output ends up in logs.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}_…", self.id)
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(std::str::from_utf8(&self.0).unwrap_or_default())
    }
}

impl fmt::Debug for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TokenId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let id = <[u8; ID_LENGTH]>::try_from(text.as_bytes()).ok();
        id.filter(|id| id.iter().all(|byte| ALPHABET.contains(byte)))
            .map(Self)
            .ok_or_else(|| format!("expected a token id: {ID_LENGTH} of a-z and 2-7"))
    }
}

impl TryFrom<String> for TokenId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<TokenId> for String {
    fn from(id: TokenId) -> Self {
        id.to_string()
    }
}

/// Takes the two parts of `tw_ID_SECRET` apart; `None` when it is none.
pub(crate) fn split(text: &str) -> Option<(TokenId, &str)> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    Some((id.parse().ok()?, secret))
}

/// Whether `secret` could be one: what is not is refused before anything is computed of it.
pub(crate) fn is_secret(secret: &str) -> bool {
    secret.len() == SECRET_LENGTH && secret.bytes().all(|byte| ALPHABET.contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_apart_into_what_it_was_made_of() {
        let token = Token::generate().unwrap();
        let text = token.to_string();
        assert_eq!(split(&text), Some((token.id, token.secret())));
        assert!(is_secret(token.secret()));
        assert_ne!(Token::generate().unwrap(), token);
        assert!(!format!("{token:?}").contains(token.secret()));
    }

    #[test]
    fn what_is_no_token_is_not_taken_for_one() {
        for text in ["", "tw_", "tw_a_b", "tw_aaaaaaa1_x", "xx_aaaaaaaa_x", "tw_aaaaaaaaé_x"] {
            assert_eq!(split(text), None, "{text}");
        }
    }
}
