//! What a client shows, however its protocol writes it.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, header::AUTHORIZATION};

use crate::token::{self, TokenId};

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// A claim to be the holder of a token, not verified yet.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    pub(crate) id: TokenId,
    pub(crate) secret: String,
}

/// What was shown cannot be a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: expected {expected}")]
pub struct Malformed {
    at: &'static str,
    expected: &'static str,
}

/// A token as it stands, in a header or where else.
const PLAIN: Malformed = Malformed { at: "token", expected: "tw_ID_SECRET" };

impl Credential {
    /// What the headers of a request show, if anything:
    ///
    /// | header | from |
    /// |---|---|
    /// | `Authorization: Bearer tw_ID_SECRET` | everywhere, OpenTelemetry, Loki |
    /// | `Authorization: Basic` with the token as the password, or as the user without a password | curl, agents |
    /// | `Authorization: Splunk tw_ID_SECRET` | HTTP Event Collector |
    /// | `Authorization: ApiKey` with `ID:SECRET` in base64 | Elasticsearch |
    /// | `X-API-Key: tw_ID_SECRET` | gateways |
    ///
    /// # Errors
    /// [`Malformed`] when what is shown cannot be a token.
    pub fn of_request(headers: &HeaderMap) -> Result<Option<Self>, Malformed> {
        if let Some(value) = headers.get(AUTHORIZATION) {
            return Self::of_authorization(value.to_str().unwrap_or_default()).map(Some);
        }
        let key = headers.get(X_API_KEY).map(|value| value.to_str().unwrap_or_default());
        key.map(str::parse).transpose()
    }

    fn of_authorization(value: &str) -> Result<Self, Malformed> {
        let malformed = |expected| Malformed { at: "Authorization", expected };
        let value = value.trim();
        let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
        let rest = rest.trim();
        match scheme.to_ascii_lowercase().as_str() {
            "bearer" | "splunk" => rest.parse(),
            "basic" => pair(rest)
                .and_then(|(user, password)| Self::of_login(&user, &password))
                .ok_or(malformed("Basic, with the token tw_ID_SECRET as the password")),
            "apikey" => pair(rest)
                .and_then(|(id, secret)| Self::of_login(&id, &secret))
                .ok_or(malformed("ApiKey, with ID:SECRET of a token in base64")),
            _ => Err(malformed("one of the schemes Bearer, Basic, ApiKey and Splunk")),
        }
    }

    /// What a login by user and password shows: the token is the password, whoever the user says
    /// to be; or it is the user, and there is no password; or the two are its id and its secret.
    pub fn of_login(user: &str, password: &str) -> Option<Self> {
        let whole = if password.is_empty() { user } else { password };
        let (id, secret) = token::split(whole).or_else(|| Some((user.parse().ok()?, password)))?;
        Some(Self { id, secret: secret.to_owned() })
    }

    /// Id of the token claimed.
    pub fn id(&self) -> TokenId {
        self.id
    }
}

/// `USER:PASSWORD` in base64 (RFC 7617 §2).
fn pair(base64: &str) -> Option<(String, String)> {
    let text = String::from_utf8(STANDARD.decode(base64).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

impl FromStr for Credential {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let (id, secret) = token::split(text).ok_or(PLAIN)?;
        Ok(Self { id, secret: secret.to_owned() })
    }
}

// Not the secret: debug output ends up in logs.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::token::Token;

    fn shown(name: &'static str, value: &str) -> Result<Option<Credential>, Malformed> {
        let value = HeaderValue::from_str(value).unwrap();
        Credential::of_request(&HeaderMap::from_iter([(HeaderName::from_static(name), value)]))
    }

    #[test]
    fn each_protocols_way_of_showing_a_token_is_understood() {
        let token = Token::generate().unwrap();
        let expected = Credential { id: token.id, secret: token.secret().to_owned() };
        let basic = |user: &str, password: &str| {
            format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
        };
        for (name, value) in [
            ("authorization", format!("Bearer {token}")),
            ("authorization", format!("bearer   {token} ")),
            ("authorization", format!("Splunk {token}")),
            ("authorization", format!("ApiKey {}", token.as_elasticsearch_api_key())),
            ("authorization", basic("elastic", &token.to_string())),
            ("authorization", basic(&token.to_string(), "")),
            ("authorization", basic(&token.id.to_string(), token.secret())),
            ("x-api-key", token.to_string()),
        ] {
            assert_eq!(shown(name, &value), Ok(Some(expected.clone())), "{name}: {value}");
        }
        assert_eq!(Credential::of_request(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn what_cannot_be_a_token_is_told_from_none() {
        for value in ["", "Bearer", "Bearer x", "Basic !", "Basic eDp5", "ApiKey eDp5", "Digest x"]
        {
            assert!(shown("authorization", value).is_err(), "{value}");
        }
        assert!(shown("x-api-key", "secret").is_err());
        assert_eq!(shown("authorization", "Bearer ").unwrap_err(), PLAIN);
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(value in "\\PC{0,80}", scheme in 0_usize..5) {
            let scheme = ["Bearer", "Basic", "ApiKey", "Splunk", ""][scheme];
            let value = format!("{scheme} {value}");
            if let Ok(value) = HeaderValue::from_str(&value) {
                let _ = Credential::of_request(&HeaderMap::from_iter([(AUTHORIZATION, value)]));
            }
        }
    }
}
