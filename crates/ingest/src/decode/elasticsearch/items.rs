//! What the sender of a bulk request is to be told, operation by operation.

use std::ops::Range;

pub(crate) use super::action::Kind;

/// The operations of one bulk request, in order. Takes at most a few times the bytes of the body.
#[derive(Debug, Default)]
pub(crate) struct Items {
    /// Index of the operations that name none.
    pub(super) default_index: String,
    items: Vec<Packed>,
    /// Indices and ids, as the items refer to them.
    text: String,
}

/// Ranges of a body's text fit 32 bits: it has at most [`thalweg_event::MAX_INPUT_BYTES`].
#[derive(Debug)]
struct Packed {
    kind: Kind,
    is_good: bool,
    index: Option<Range<u32>>,
    id: Option<Range<u32>>,
}

/// One operation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Item<'i> {
    pub(crate) kind: Kind,
    /// As the sender named it.
    pub(crate) index: &'i str,
    /// The sender's, if it gave one.
    pub(crate) id: Option<&'i str>,
    /// Whether the document was accepted.
    pub(crate) is_good: bool,
}

impl Items {
    /// Adds an operation; without an index of its own it has the default.
    pub(crate) fn push(
        &mut self,
        kind: Kind,
        index: Option<&str>,
        id: Option<&str>,
        is_good: bool,
    ) {
        let index = index.map(|index| {
            let before = self.items.last().and_then(|item| item.index.clone());
            match before {
                Some(before) if self.slice(&before) == index => before,
                _ => self.keep(index),
            }
        });
        let id = id.map(|id| self.keep(id));
        self.items.push(Packed { kind, is_good, index, id });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The operation at `position`.
    pub(crate) fn get(&self, position: usize) -> Option<Item<'_>> {
        let Packed { kind, is_good, index, id } = self.items.get(position)?;
        let index = index.as_ref().map_or(&*self.default_index, |range| self.slice(range));
        let id = id.as_ref().map(|range| self.slice(range));
        Some(Item { kind: *kind, index, id, is_good: *is_good })
    }

    fn keep(&mut self, text: &str) -> Range<u32> {
        let start = self.text.len() as u32;
        self.text.push_str(text);
        start..self.text.len() as u32
    }

    fn slice(&self, range: &Range<u32>) -> &str {
        self.text.get(range.start as usize..range.end as usize).unwrap_or_default()
    }
}
