//! What a message consists of: words and places for values.

use std::ops::Range;

/// How sure the look of a word makes us that it is a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A number, an address of numbers, a time; or several in a row.
    Number,
    /// Another value for certain: a path, a host and its port; or several in a row.
    Value,
    /// A plain word.
    Word,
    /// Looks like the name of something: `com.example.Cart`, `eth0`, `sshd[123]`.
    Name,
    /// Text in quotes.
    Quoted,
}

/// What stands before a word and makes a value more likely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Context {
    /// Nothing of note.
    Plain,
    /// An equals sign.
    Assigned,
    /// A noun that introduces names, as in `user alice`.
    Named,
}

/// The key of every number, every value and of every position found to be a parameter.
pub(crate) const WILDCARD: u64 = 0x9ae1_6a3b_2f90_404f;

/// A word of a message, or values in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Element {
    /// Equal for words that a template does not tell apart.
    pub(crate) key: u64,
    /// Where it starts in the message, in bytes.
    pub(crate) start: u32,
    /// Where it ends.
    pub(crate) end: u32,
    /// Where its variable part starts: of `eth0` the `0`. Empty if it has none.
    pub(crate) value_start: u32,
    /// Where its variable part ends.
    pub(crate) value_end: u32,
    pub(crate) kind: Kind,
    pub(crate) context: Context,
}

impl Element {
    /// A value that spans `range`.
    pub(crate) fn value(range: Range<usize>) -> Self {
        Self::number(range).with_kind(Kind::Value)
    }

    /// A number that spans `range`.
    pub(crate) fn number(range: Range<usize>) -> Self {
        let (start, end) = (range.start as u32, range.end as u32);
        Self {
            key: WILDCARD,
            start,
            end,
            value_start: start,
            value_end: end,
            kind: Kind::Number,
            context: Context::Plain,
        }
    }

    /// A word without a variable part.
    pub(crate) fn constant(kind: Kind, key: u64, range: Range<usize>) -> Self {
        let (start, end) = (range.start as u32, range.end as u32);
        let context = Context::Plain;
        Self { key, start, end, value_start: end, value_end: end, kind, context }
    }

    fn with_kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    /// Where it stands in the message.
    pub(crate) fn span(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// Where its variable part stands.
    pub(crate) fn value_span(&self) -> Range<usize> {
        self.value_start as usize..self.value_end as usize
    }

    /// Whether part of it varies.
    pub(crate) fn has_value(&self) -> bool {
        self.value_start < self.value_end
    }

    /// Whether several in a row mean the same as one: values, numbered names.
    pub(crate) fn may_repeat(&self) -> bool {
        self.is_value() || (self.kind == Kind::Name && self.has_value())
    }

    /// Takes in all up to there.
    pub(crate) fn extend_to(&mut self, end: u32) {
        self.end = end;
        self.value_end = end;
    }

    /// Whether it is a value through and through.
    pub(crate) fn is_value(&self) -> bool {
        matches!(self.kind, Kind::Number | Kind::Value)
    }
}
