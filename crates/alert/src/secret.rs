//! Secrets, which the configuration only points at.

use std::{fmt, fs::File, io::Read as _, path::PathBuf};

use reqwest::Url;
use schemars::JsonSchema;
use serde::Deserialize;

/// Longest secret that is read from a file, bytes.
const MAX_BYTES: u64 = 64 << 10;

/// Where a secret is: `env:NAME`, an environment variable, or `file:/path`, a file.
///
/// It is read each time that it is needed, so that a file may be replaced while the server runs,
/// and it is never shown.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub enum Secret {
    /// The value of an environment variable.
    Environment(String),
    /// The content of a file, without white space at its end.
    File(PathBuf),
}

/// An `http` or `https` URL, which may be secret itself: written out, or `env:NAME` or
/// `file:/path`.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub enum SecretUrl {
    /// The URL.
    Written(Url),
    /// Where it is.
    Kept(Secret),
}

impl Secret {
    /// The secret.
    ///
    /// # Errors
    /// Where it was expected, and why it is not there.
    pub fn read(&self) -> Result<String, String> {
        match self {
            Self::Environment(name) => std::env::var(name)
                .map_err(|_| format!("environment variable {name} is not set, or not in UTF-8")),
            Self::File(path) => {
                let mut text = String::new();
                File::open(path)
                    .and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text))
                    .map_err(|error| format!("{}: {error}", path.display()))?;
                Ok(text.trim_end().to_owned())
            }
        }
    }
}

impl SecretUrl {
    /// The URL.
    ///
    /// # Errors
    /// Where it was expected, and why it is not there; never what was found.
    pub fn read(&self) -> Result<Url, String> {
        match self {
            Self::Written(url) => Ok(url.clone()),
            Self::Kept(secret) => {
                let text = secret.read()?;
                url(&text).ok_or_else(|| format!("expected an http or https URL in {secret}"))
            }
        }
    }
}

fn url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    matches!(url.scheme(), "http" | "https").then_some(url)
}

impl TryFrom<String> for Secret {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Ok(Self::Environment(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            // What was found may be the secret itself.
            _ => {
                Err("expected env:NAME or file:/path, which say where the secret is; it must not \
                      stand in the configuration"
                    .to_owned())
            }
        }
    }
}

impl TryFrom<String> for SecretUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if let Some(url) = url(&text) {
            return Ok(Self::Written(url));
        }
        Secret::try_from(text).map(Self::Kept).map_err(|_| {
            "expected an http or https URL, or where it is: env:NAME or file:/path".to_owned()
        })
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

// Only the host: paths and queries of webhooks are what lets in.
impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Written(url) => {
                write!(f, "{}://{}/…", url.scheme(), url.host_str().unwrap_or_default())
            }
            Self::Kept(secret) => secret.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Result<Secret, String> {
        text.to_owned().try_into()
    }

    #[test]
    fn a_secret_is_read_from_where_it_is_each_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let secret = secret(&format!("file:{}", path.display())).unwrap();
        assert!(secret.read().unwrap_err().contains("token"));
        for text in ["one", "two"] {
            std::fs::write(&path, format!("{text}\n")).unwrap();
            assert_eq!(secret.read().unwrap(), text);
        }
        assert_eq!(
            super::Secret::Environment("HOME".into()).read(),
            Ok(std::env::var("HOME").unwrap())
        );
    }

    #[test]
    fn a_secret_in_the_configuration_is_refused_and_not_repeated() {
        for text in ["hunter2", "env:", "https://x"] {
            let error = secret(text).unwrap_err();
            assert!(error.contains("env:NAME") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_url_may_be_written_out_and_is_shown_without_what_lets_in() {
        let url =
            SecretUrl::try_from("https://u:p@hooks.example/T0/secret?k=v".to_owned()).unwrap();
        assert_eq!(format!("{url:?}"), "https://hooks.example/…");
        assert_eq!(url.read().unwrap().path(), "/T0/secret");
        for text in ["ftp://x", "hooks.example/x", "file:"] {
            assert!(SecretUrl::try_from(text.to_owned()).is_err(), "{text}");
        }
        assert!(matches!(SecretUrl::try_from("env:HOOK".to_owned()), Ok(SecretUrl::Kept(_))));
    }
}
