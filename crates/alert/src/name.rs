//! Names of rules, anomalies, views and columns.

use schemars::JsonSchema;
use serde::Deserialize;

/// Longest name, bytes.
const MAX_BYTES: usize = 128;

/// A name: neither empty nor long, without control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct Name(String);

impl Name {
    /// A name that is known to fit.
    pub(crate) fn constant(name: &'static str) -> Self {
        Self(name.to_owned())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        let fits = (1..=MAX_BYTES).contains(&name.len())
            && !name.chars().any(char::is_control)
            && name.trim() == name;
        fits.then_some(Self(name.clone()))
            .ok_or_else(|| format!("expected a name of 1 to {MAX_BYTES} bytes, found {name:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_name_is_refused() {
        for text in ["", " x", "a\nb", &"x".repeat(129)] {
            assert!(Name::try_from(text.to_owned()).is_err(), "{text:?}");
        }
        assert_eq!(Name::try_from("Error rate".to_owned()).unwrap().as_str(), "Error rate");
    }
}
