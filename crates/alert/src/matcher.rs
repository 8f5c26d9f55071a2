//! Conditions on labels, written as Alertmanager writes them.

use std::{borrow::Cow, fmt, str::FromStr};

use regex::{Regex, RegexBuilder};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::labels::Labels;

/// Longest condition, bytes.
const MAX_BYTES: usize = 1_024;
/// Memory that a compiled regular expression may take.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// A condition on one label: `service="payment"`, `severity!=info`, `host=~"db-.*"`, `host!~"x.*"`.
///
/// A regular expression matches the whole value. A label that is not there has an empty value.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Matcher {
    name: String,
    value: String,
    is_negated: bool,
    regex: Option<Regex>,
}

/// Conditions that must all hold; none hold for every alert.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Matchers(Vec<Matcher>);

impl Matcher {
    fn matches(&self, labels: &Labels) -> bool {
        let value = labels.value(&self.name);
        let matches = match &self.regex {
            Some(regex) => regex.is_match(value),
            None => value == self.value,
        };
        matches != self.is_negated
    }

    /// The label that must have exactly this value, if that is the condition.
    pub(crate) fn exactly(&self) -> Option<(&str, &str)> {
        let is_exact = self.regex.is_none() && !self.is_negated;
        is_exact.then_some((self.name.as_str(), self.value.as_str()))
    }
}

impl Matchers {
    /// Whether all conditions hold.
    pub fn match_all(&self, labels: &Labels) -> bool {
        self.0.iter().all(|matcher| matcher.matches(labels))
    }

    /// Whether there is no condition.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The conditions.
    pub fn iter(&self) -> impl Iterator<Item = &Matcher> {
        self.0.iter()
    }
}

impl FromIterator<Matcher> for Matchers {
    fn from_iter<I: IntoIterator<Item = Matcher>>(matchers: I) -> Self {
        Self(matchers.into_iter().collect())
    }
}

impl FromStr for Matcher {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            format!(
                "expected a condition such as service=\"payment\", severity!=info or \
                 host=~\"db-.*\", found `{text}`"
            )
        };
        if text.len() > MAX_BYTES {
            return Err(format!("expected a condition of at most {MAX_BYTES} bytes"));
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let trimmed = text.trim();
        let end = trimmed.find(|c| !is_name(c)).ok_or_else(expected)?;
        let (name, rest) = trimmed.split_at(end);
        if name.is_empty() {
            return Err(expected());
        }
        let rest = rest.trim_start();
        // Longest first: `=` begins `=~` too.
        let operators =
            [("=~", false, true), ("!~", true, true), ("!=", true, false), ("=", false, false)];
        let (operator, is_negated, is_regex) = operators
            .into_iter()
            .find(|(operator, ..)| rest.starts_with(operator))
            .ok_or_else(expected)?;
        let value = unquote(rest[operator.len()..].trim()).ok_or_else(expected)?;
        let regex = is_regex.then(|| {
            RegexBuilder::new(&format!("^(?:{value})$"))
                .size_limit(MAX_REGEX_BYTES)
                .build()
                .map_err(|error| format!("`{value}` is no regular expression: {error}"))
        });
        let matcher = Self { name: name.to_owned(), value, is_negated, regex: regex.transpose()? };
        // It is written with more quotes and backslashes than it may have come with, and must be
        // read again.
        if matcher.to_string().len() > MAX_BYTES {
            return Err(format!(
                "expected a condition of at most {MAX_BYTES} bytes with its backslashes and \
                 quotes escaped, as it is kept"
            ));
        }
        Ok(matcher)
    }
}

/// The value within quotes, or the whole of one without.
fn unquote(text: &str) -> Option<String> {
    let Some(quoted) = text.strip_prefix('"') else {
        return (!text.contains(['"', '=', ','])).then(|| text.to_owned());
    };
    let mut value = String::new();
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => return characters.as_str().is_empty().then_some(value),
            '\\' => match characters.next()? {
                'n' => value.push('\n'),
                escaped @ ('"' | '\\') => value.push(escaped),
                // As in a regular expression.
                other => value.extend(['\\', other]),
            },
            character => value.push(character),
        }
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operator = match (self.is_negated, self.regex.is_some()) {
            (false, false) => "=",
            (true, false) => "!=",
            (false, true) => "=~",
            (true, true) => "!~",
        };
        let value = self.value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        write!(f, "{}{operator}\"{value}\"", self.name)
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Matchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let matchers: Vec<String> = self.0.iter().map(Matcher::to_string).collect();
        write!(f, "{{{}}}", matchers.join(","))
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, &self.value, self.is_negated, self.regex.is_some())
            == (&other.name, &other.value, other.is_negated, other.regex.is_some())
    }
}

impl Eq for Matcher {}

impl TryFrom<String> for Matcher {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Matcher> for String {
    fn from(matcher: Matcher) -> Self {
        matcher.to_string()
    }
}

impl JsonSchema for Matcher {
    fn schema_name() -> Cow<'static, str> {
        "Matcher".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "examples": ["service=\"payment\"", "host=~\"db-.*\""]})
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(text: &str, labels: &[(&str, &str)]) -> bool {
        let matcher: Matcher = text.parse().unwrap();
        assert_eq!(matcher.to_string().parse::<Matcher>().unwrap(), matcher);
        Matchers::from_iter([matcher]).match_all(&Labels::new(labels.iter().copied()))
    }

    #[test]
    fn each_operator_compares_the_whole_value() {
        let labels = [("service", "payment"), ("quote", "a\"b\\c")];
        for (text, expected) in [
            ("service=payment", true),
            ("service = \"payment\"", true),
            ("service=pay", false),
            ("service!=pay", true),
            ("service=~pay.*", true),
            ("service=~pay", false),
            ("service!~pay", true),
            ("service=~\"a|payment\"", true),
            ("quote=\"a\\\"b\\\\c\"", true),
            ("service=~\"pay\\w+\"", true),
            ("absent=\"\"", true),
            ("absent!=x", true),
            ("absent=~.+", false),
        ] {
            assert_eq!(matches(text, &labels), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_condition_is_refused_with_an_example() {
        for text in ["", "service", "=x", "service==x", "a=\"x", "a=\"x\"y", "a,b=c", "a=b,c=d"] {
            let error = text.parse::<Matcher>().unwrap_err();
            assert!(error.contains("such as service="), "{text}: {error}");
        }
        assert!("a=~\"(\"".parse::<Matcher>().unwrap_err().contains("regular expression"));
        assert!("a=~\"(x{1000}){1000}\"".parse::<Matcher>().is_err());
        assert!(format!("a={}", "x".repeat(2_000)).parse::<Matcher>().is_err());
    }

    proptest! {
        #[test]
        fn any_value_is_written_so_that_it_is_read_again(value in ".{0,40}") {
            let matcher = Matcher {
                name: "service".into(), value: value.clone(), is_negated: false, regex: None
            };
            let read: Matcher = matcher.to_string().parse().unwrap();
            prop_assert_eq!(read.value, value);
        }

        #[test]
        fn a_condition_that_is_accepted_is_read_again_however_long_it_is(length in 400_usize..1_100) {
            if let Ok(matcher) = format!("a={}", "\\".repeat(length)).parse::<Matcher>() {
                prop_assert_eq!(matcher.to_string().parse::<Matcher>(), Ok(matcher));
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,60}") {
            let _ = text.parse::<Matcher>();
        }
    }
}
