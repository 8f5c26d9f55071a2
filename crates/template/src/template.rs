//! What users see of a template.

use std::fmt;

use crate::pattern::Pattern;

/// Which template a message belongs to.
///
/// Made of the words of the first message, and of nothing else: every node
/// that sees that message first gives its template the same id. An id is never
/// given to another template (but for collisions of 64-bit hashes); when
/// templates turn out to be one, [`Miner::resolve`](crate::Miner::resolve)
/// leads from the ids that went to the one that stayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TemplateId(pub u64);

impl fmt::Display for TemplateId {
    /// As 16 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A template, as it is now: `Connection from <*> closed`.
///
/// Its [`Display`](fmt::Display) writes it with `<*>` for each parameter and a
/// space for each control character.
#[derive(Clone, Copy, Debug)]
pub struct Template<'a> {
    pub(crate) id: TemplateId,
    pub(crate) count: u64,
    pub(crate) pattern: &'a Pattern,
}

impl Template<'_> {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> TemplateId {
        self.id
    }

    /// How many messages it has matched since it was last forgotten, those of
    /// templates merged into it included.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }
}

impl fmt::Display for Template<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pattern = self.pattern;
        let mut written = 0;
        for (position, element) in pattern.elements.iter().enumerate() {
            let value = if pattern.is_parameter(position) {
                element.span()
            } else if element.is_value() || element.has_value() {
                element.value_span()
            } else {
                continue;
            };
            literal(&pattern.text[written..value.start], f)?;
            f.write_str("<*>")?;
            written = value.end;
        }
        literal(&pattern.text[written..], f)
    }
}

fn literal(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut rest = text;
    while let Some(control) = rest.find(char::is_control) {
        f.write_str(&rest[..control])?;
        f.write_str(" ")?;
        let length = rest[control..].chars().next().map_or(1, char::len_utf8);
        rest = &rest[control + length..];
    }
    f.write_str(rest)
}

/// The values of a message's parameters, in order. See [`Miner::parameters`](crate::Miner::parameters).
#[derive(Clone, Debug)]
pub struct Parameters<'m> {
    message: &'m str,
    spans: std::vec::IntoIter<std::ops::Range<usize>>,
}

impl<'m> Parameters<'m> {
    pub(crate) fn new(message: &'m str, spans: Vec<std::ops::Range<usize>>) -> Self {
        Self { message, spans: spans.into_iter() }
    }
}

impl<'m> Iterator for Parameters<'m> {
    type Item = &'m str;

    fn next(&mut self) -> Option<&'m str> {
        // Bytes beyond ASCII are letters, so that no element begins or ends inside a character.
        self.message.get(self.spans.next()?)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.spans.size_hint()
    }
}
