//! Why a record was refused.

/// Longest excerpt of a sender's value that a [`Fault`] quotes, in bytes.
const EXCERPT_BYTES: usize = 80;

/// Why a record was refused: what was expected, what was found, and where in the record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fault(pub String);

impl Fault {
    /// `field`: expected `expected`, found `found` (shortened).
    pub fn expected(field: &str, expected: &str, found: &str) -> Self {
        Self(format!("{field}: expected {expected}, found {}", excerpt(found)))
    }
}

/// The beginning of `text`, quoted so that control characters are visible.
fn excerpt(text: &str) -> String {
    let mut end = text.len().min(EXCERPT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let ellipsis = if end < text.len() { "…" } else { "" };
    format!("{:?}{ellipsis}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_is_quoted_in_part_on_a_character_boundary() {
        let fault = Fault::expected("level", "a level", &"ü".repeat(1000));
        assert!(fault.0.len() < 150, "{fault}");
        assert!(fault.0.ends_with("\"…"));
    }
}
