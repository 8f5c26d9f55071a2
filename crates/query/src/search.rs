//! The search language of people who do not write SQL.
//!
//! ```text
//! search     = *( term )                      all terms must hold
//! term       = [ "-" ] ( comparison / text )  "-" turns a term around
//! comparison = field operator value *( "," value )
//! operator   = ":" / "=" / "!=" / "<" / "<=" / ">" / ">="
//! text       = word / phrase                  contained in the message, in any case
//! value      = word / phrase
//! phrase     = DQUOTE *( any, with \" and \\ ) DQUOTE
//! ```
//!
//! For example `service:checkout level>=warn duration_ms>500 "card refused" -retry`. This file
//! knows the grammar only; what fields there are is the caller's business.

use std::iter::Peekable;
use std::str::CharIndices;

/// Longest search, in bytes.
pub const MAX_SEARCH_BYTES: usize = 4096;

/// One condition of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// Whether the condition must not hold.
    pub negated: bool,
    /// Character at which the term begins, from one.
    pub column: u64,
    /// The condition.
    pub condition: Condition,
}

/// What a term asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// The message contains this text.
    Text(String),
    /// A field compares to one of these values (more than one only with [`Operator::Equal`]
    /// and [`Operator::NotEqual`]).
    Field {
        /// Name of the field as written.
        field: String,
        /// How field and values compare.
        operator: Operator,
        /// The values, at least one.
        values: Vec<Value>,
    },
}

/// How a field compares to a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A value as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// The text, without quotes and escapes.
    pub text: String,
    /// Whether it was in quotes, where `*` means itself.
    pub quoted: bool,
}

/// What is wrong with a search, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SearchError {
    /// What was expected and found.
    pub message: String,
    /// Character at which it is wrong, from one.
    pub column: u64,
}

/// Parses a search. An empty one has no terms.
///
/// # Errors
/// [`SearchError`] says what is wrong at which character. Takes time linear in the text.
pub fn parse(search: &str) -> Result<Vec<Term>, SearchError> {
    if search.len() > MAX_SEARCH_BYTES {
        let message = format!("expected at most {MAX_SEARCH_BYTES} bytes, found {}", search.len());
        return Err(SearchError { message, column: 1 });
    }
    let mut scanner = Scanner { text: search, chars: search.char_indices().peekable(), column: 1 };
    let mut terms = Vec::new();
    loop {
        scanner.skip_space();
        if scanner.peek().is_none() {
            return Ok(terms);
        }
        terms.push(scanner.term()?);
    }
}

struct Scanner<'a> {
    text: &'a str,
    chars: Peekable<CharIndices<'a>>,
    column: u64,
}

impl Scanner<'_> {
    fn peek(&mut self) -> Option<char> {
        self.chars.peek().map(|(_, char)| *char)
    }

    fn next(&mut self) -> Option<char> {
        let (_, char) = self.chars.next()?;
        self.column += 1;
        Some(char)
    }

    fn eat(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.next();
        }
        found
    }

    fn rest(&mut self) -> &str {
        let start = self.chars.peek().map_or(self.text.len(), |(start, _)| *start);
        &self.text[start..]
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.next();
        }
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let mut taken = String::new();
        while let Some(char) = self.peek().filter(|char| wanted(*char)) {
            taken.push(char);
            self.next();
        }
        taken
    }

    fn term(&mut self) -> Result<Term, SearchError> {
        let column = self.column;
        let dash_means_not =
            self.rest().strip_prefix('-').is_some_and(|rest| rest.starts_with(is_term_start));
        let negated = dash_means_not && self.eat('-');
        if self.peek() == Some('"') {
            let condition = Condition::Text(self.phrase()?);
            return Ok(Term { negated, column, condition });
        }
        let mut word = self.take_while(|char| !char.is_whitespace() && !is_operator(char));
        let operator = if word.is_empty() { None } else { self.operator() };
        let condition = match operator {
            Some(operator) => {
                Condition::Field { field: word, operator, values: self.values(operator)? }
            }
            None => {
                word += &self.take_while(|char| !char.is_whitespace());
                Condition::Text(word)
            }
        };
        Ok(Term { negated, column, condition })
    }

    fn operator(&mut self) -> Option<Operator> {
        let (operator, length) = match self.rest().as_bytes() {
            [b'!', b'=', ..] => (Operator::NotEqual, 2),
            [b'<', b'=', ..] => (Operator::LessOrEqual, 2),
            [b'>', b'=', ..] => (Operator::GreaterOrEqual, 2),
            [b'<', ..] => (Operator::Less, 1),
            [b'>', ..] => (Operator::Greater, 1),
            [b':' | b'=', ..] => (Operator::Equal, 1),
            _ => return None,
        };
        for _ in 0..length {
            self.next();
        }
        Some(operator)
    }

    fn values(&mut self, operator: Operator) -> Result<Vec<Value>, SearchError> {
        let many = matches!(operator, Operator::Equal | Operator::NotEqual);
        let mut values = Vec::new();
        loop {
            let column = self.column;
            let quoted = self.peek() == Some('"');
            let text = if quoted {
                self.phrase()?
            } else {
                self.take_while(|char| !(char.is_whitespace() || many && char == ','))
            };
            if text.is_empty() && !quoted {
                let message = "expected a value here, without a space before it".to_owned();
                return Err(SearchError { message, column });
            }
            values.push(Value { text, quoted });
            if !(many && self.eat(',')) {
                return Ok(values);
            }
        }
    }

    fn phrase(&mut self) -> Result<String, SearchError> {
        let column = self.column;
        self.next();
        let mut phrase = String::new();
        while let Some(char) = self.next() {
            match char {
                '"' => return Ok(phrase),
                '\\' if matches!(self.peek(), Some('"' | '\\')) => phrase.extend(self.next()),
                char => phrase.push(char),
            }
        }
        Err(SearchError { message: "expected a closing quote for this one".to_owned(), column })
    }
}

fn is_operator(char: char) -> bool {
    matches!(char, ':' | '=' | '!' | '<' | '>')
}

fn is_term_start(char: char) -> bool {
    !char.is_whitespace() && char != '-'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Condition {
        Condition::Text(text.into())
    }

    fn field(field: &str, operator: Operator, values: &[&str]) -> Condition {
        let values = values.iter().map(|text| Value { text: (*text).into(), quoted: false });
        Condition::Field { field: field.into(), operator, values: values.collect() }
    }

    fn conditions(search: &str) -> Vec<(bool, u64, Condition)> {
        let terms = parse(search).unwrap().into_iter();
        terms.map(|term| (term.negated, term.column, term.condition)).collect()
    }

    #[test]
    fn words_phrases_comparisons_and_their_negations_are_told_apart() {
        use Operator::*;
        assert_eq!(
            conditions(
                r#"  refused "card \"x\" no" service:a,b level>=warn duration_ms>500 -retry -host!=h "#
            ),
            [
                (false, 3, text("refused")),
                (false, 11, text("card \"x\" no")),
                (false, 27, field("service", Equal, &["a", "b"])),
                (false, 39, field("level", GreaterOrEqual, &["warn"])),
                (false, 51, field("duration_ms", Greater, &["500"])),
                (true, 67, text("retry")),
                (true, 74, field("host", NotEqual, &["h"])),
            ]
        );
    }

    #[test]
    fn signs_without_a_field_are_text() {
        for word in ["-", "--", "->", "=>", "!", "wow!", "-5!"] {
            let conditions = conditions(word);
            assert!(
                matches!(&conditions[..], [(_, 1, Condition::Text(_))]),
                "{word} {conditions:?}"
            );
        }
    }

    #[test]
    fn quoted_values_keep_commas_and_spaces() {
        let value = |text: &str, quoted| Value { text: text.into(), quoted };
        let values = vec![value("a, b", true), value("c*", false)];
        assert_eq!(
            conditions(r#"service:"a, b",c*"#),
            [(
                false,
                1,
                Condition::Field { field: "service".into(), operator: Operator::Equal, values }
            )]
        );
    }

    #[test]
    fn errors_tell_the_character() {
        for (search, column) in [("é service: x", 11), ("a \"b", 3), ("level>", 7), ("a:b,", 5)] {
            assert_eq!(parse(search).unwrap_err().column, column, "{search}");
        }
    }

    proptest! {
        #[test]
        fn no_search_makes_the_parser_panic(search in "\\PC{0,60}") {
            let _ = parse(&search);
        }

        #[test]
        fn quoting_makes_any_text_a_search_for_itself(wanted in "\\PC{1,30}") {
            let quoted = format!("\"{}\"", wanted.replace('\\', "\\\\").replace('"', "\\\""));
            prop_assert_eq!(conditions(&quoted), [(false, 1, text(&wanted))]);
        }
    }
}
