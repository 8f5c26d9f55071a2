//! What tells one alert from another.

use std::{collections::BTreeMap, fmt, sync::Arc};

use blake2::{Blake2s256, Digest as _};
use serde::{Deserialize, Serialize};

/// The label with the name of the rule or the anomaly.
pub const ALERT_NAME: &str = "alertname";
/// The label with how bad it is.
pub const SEVERITY: &str = "severity";
/// The label by which principals that are limited to services see alerts or do not.
pub const SERVICE: &str = "service";

/// Most labels of an alert.
const MAX_LABELS: usize = 32;
/// Longest name of a label, bytes.
const MAX_NAME_BYTES: usize = 128;
/// Longest value of a label, bytes.
const MAX_VALUE_BYTES: usize = 512;

/// Names and values that identify an alert.
///
/// Values come from whoever sends events: they are cut to a length and carry no control
/// characters. A value that is empty is as good as none.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Labels(Arc<BTreeMap<String, String>>);

/// Names a set of labels in few characters: 64 bits of their BLAKE2 hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint(u64);

impl Labels {
    /// Labels of which a later one replaces an earlier one of the same name.
    pub fn new<N: AsRef<str>, V: AsRef<str>>(labels: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut kept = BTreeMap::new();
        for (name, value) in labels {
            let (name, value) =
                (label_name(name.as_ref()), one_line(value.as_ref(), MAX_VALUE_BYTES));
            if value.is_empty() {
                kept.remove(&name);
            } else if kept.len() < MAX_LABELS || kept.contains_key(&name) {
                kept.insert(name, value);
            }
        }
        Self(Arc::new(kept))
    }

    /// These labels and `others`, which win.
    #[must_use]
    pub fn with<N: AsRef<str>, V: AsRef<str>>(
        &self,
        others: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let others: Vec<(String, String)> = others
            .into_iter()
            .map(|(name, value)| (name.as_ref().to_owned(), value.as_ref().to_owned()))
            .collect();
        // Those that win come first, so that the limit on their number does not hit them.
        let mine = self.iter().filter(|(name, _)| others.iter().all(|(other, _)| other != name));
        let others = others.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Self::new(others.chain(mine))
    }

    /// The value of a label, empty when there is none of this name.
    pub fn value(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// Names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their short name.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut hash = Blake2s256::new();
        for text in self.iter().flat_map(|(name, value)| [name, value]) {
            hash.update(text.len().to_le_bytes());
            hash.update(text);
        }
        let digest = hash.finalize();
        Fingerprint(digest.iter().take(8).fold(0, |bits, byte| bits << 8 | u64::from(*byte)))
    }
}

/// `name` with what no label's name may hold replaced (Prometheus' data model).
fn label_name(name: &str) -> String {
    let first_digit = name.starts_with(|c: char| c.is_ascii_digit());
    let prefix = if first_digit || name.is_empty() { "_" } else { "" };
    let clean = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let mut name: String = prefix.chars().chain(name.chars().map(clean)).collect();
    name.truncate(MAX_NAME_BYTES);
    name
}

/// `text` without control characters, cut to about `max_bytes` with a mark that it was.
pub(crate) fn one_line(text: &str, max_bytes: usize) -> String {
    cut(text, max_bytes).chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `text` cut to about `max_bytes`, with a mark that it was.
pub(crate) fn cut(text: &str, max_bytes: usize) -> String {
    if text.len() <= max_bytes {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(max_bytes)])
}

impl From<BTreeMap<String, String>> for Labels {
    fn from(labels: BTreeMap<String, String>) -> Self {
        Self::new(labels)
    }
}

impl From<Labels> for BTreeMap<String, String> {
    fn from(labels: Labels) -> Self {
        Arc::unwrap_or_clone(labels.0)
    }
}

/// `{a="x", b="y"}`.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (n, (name, value)) in self.iter().enumerate() {
            write!(f, "{}{name}={value:?}", if n > 0 { ", " } else { "" })?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        u64::from_str_radix(&text, 16)
            .map(Self)
            .map_err(|_| format!("expected 16 hexadecimal digits, found `{text}`"))
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_labels_are_cut_and_cleaned() {
        let huge = "é".repeat(10_000);
        let labels =
            Labels::new([("a b-c", "x\ny\u{0}\"z"), ("1", "one"), ("", "none"), ("h", &huge)]);
        assert_eq!(labels.value("a_b_c"), "x y \"z");
        assert_eq!((labels.value("_1"), labels.value("_")), ("one", "none"));
        let value = labels.value("h");
        assert!(value.len() < 520 && value.ends_with("é…"), "{}", value.len());
        let many = Labels::new((0..1_000).map(|n| (format!("n{n}"), "v")));
        assert_eq!(many.iter().count(), MAX_LABELS);
        let named = many.with([(ALERT_NAME, "x")]);
        assert_eq!((named.iter().count(), named.value(ALERT_NAME)), (MAX_LABELS, "x"));
    }

    #[test]
    fn labels_have_one_fingerprint_however_they_were_put_together() {
        let one = Labels::new([("a", "1"), ("b", "2"), ("c", "")]);
        let other = Labels::new([("b", "9"), ("a", "1")]).with([("b", "2")]);
        assert_eq!((&one, one.fingerprint()), (&other, other.fingerprint()));
        let shifted = Labels::new([("a", "1b"), ("", "2")]);
        assert_ne!(one.fingerprint(), shifted.fingerprint());
        let text = String::from(one.fingerprint());
        assert_eq!((text.len(), Fingerprint::try_from(text).unwrap()), (16, one.fingerprint()));
    }

    #[test]
    fn labels_are_written_with_quotes_that_no_value_breaks_out_of() {
        let labels = Labels::new([("a", "x\", b=\"y"), ("c", "z")]);
        assert_eq!(labels.to_string(), r#"{a="x\", b=\"y", c="z"}"#);
    }
}
