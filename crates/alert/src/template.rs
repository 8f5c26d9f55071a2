//! Texts with places for an alert's labels and value.

use std::{borrow::Cow, collections::BTreeMap};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::labels::cut;

/// Longest text that comes out, bytes.
const MAX_BYTES: usize = 4_096;

/// A text with `{{ column }}` and `{{ value }}` in it; Prometheus' `{{ $labels.x }}` and
/// `{{ $value }}` mean the same.
///
/// Nothing is computed and nothing is read but the columns of the alert's row; what comes out is
/// never looked at for places again.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Column(String),
}

impl Template {
    /// The text with the values of `columns` in their places; a column that is not there leaves
    /// `?`.
    pub(crate) fn fill(&self, columns: &BTreeMap<String, String>) -> String {
        let mut text = String::new();
        for part in &self.0 {
            text.push_str(match part {
                Part::Text(part) => part,
                Part::Column(name) => columns.get(name).map_or("?", String::as_str),
            });
        }
        cut(&text, MAX_BYTES)
    }
}

impl TryFrom<String> for Template {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once("{{") {
            let (inside, after) = after.split_once("}}").ok_or_else(|| {
                format!("expected `}}}}` after `{{{{`, as in {{{{ service }}}}, found `{text}`")
            })?;
            let name = inside.trim();
            let name = name.strip_prefix("$labels.").or(name.strip_prefix('$')).unwrap_or(name);
            let is_name = |c: char| c.is_alphanumeric() || c == '_';
            if name.is_empty() || !name.chars().all(is_name) {
                return Err(format!(
                    "expected the name of a column between `{{{{` and `}}}}`, found `{}`",
                    inside.trim()
                ));
            }
            parts.extend((!before.is_empty()).then(|| Part::Text(before.to_owned())));
            parts.push(Part::Column(name.to_owned()));
            rest = after;
        }
        parts.extend((!rest.is_empty()).then(|| Part::Text(rest.to_owned())));
        Ok(Self(parts))
    }
}

impl JsonSchema for Template {
    fn schema_name() -> Cow<'static, str> {
        "Template".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "examples": ["{{ service }} answers {{ value }} of requests with an error"]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(template: &str, columns: &[(&str, &str)]) -> String {
        let columns = columns.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        Template::try_from(template.to_owned()).unwrap().fill(&columns)
    }

    #[test]
    fn columns_take_their_places() {
        let columns = [("service", "payment"), ("value", "0.5")];
        assert_eq!(fill("{{service}}: {{ value }}!", &columns), "payment: 0.5!");
        assert_eq!(fill("{{ $labels.service }} {{ $value }}", &columns), "payment 0.5");
        assert_eq!(fill("{{ host }} }} {", &columns), "? }} {");
    }

    #[test]
    fn what_a_sender_wrote_is_text_and_never_a_place() {
        let columns = [("a", "{{ secret }}"), ("secret", "x")];
        assert_eq!(fill("{{ a }}", &columns), "{{ secret }}");
        assert!(fill("{{ a }}", &[("a", &"x".repeat(1 << 20))]).len() < MAX_BYTES + 8);
    }

    #[test]
    fn a_place_that_is_none_is_refused() {
        for text in ["{{ service", "{{ }}", "{{ a + b }}", "{{ printf \"%f\" .Value }}"] {
            assert!(Template::try_from(text.to_owned()).is_err(), "{text}");
        }
    }
}
