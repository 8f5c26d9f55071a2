//! What a bulk request says of a document.

use std::borrow::Cow;

use thalweg_event::{
    Fault,
    json::{Cursor, Value},
};

/// What is to be done with a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Create,
    Index,
    Update,
    Delete,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Index => "index",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        let kinds = [Self::Create, Self::Index, Self::Update, Self::Delete];
        kinds.into_iter().find(|kind| kind.name() == name)
    }
}

/// An action line. Members that tell Elasticsearch where and how to keep a document, such as
/// `routing`, mean nothing here.
#[derive(Debug)]
pub(super) struct Action<'t> {
    pub(super) kind: Kind,
    pub(super) index: Option<Cow<'t, str>>,
    pub(super) id: Option<Cow<'t, str>>,
    pub(super) pipeline: Option<Cow<'t, str>>,
}

impl<'t> Action<'t> {
    /// Reads a line such as `{"create":{"_index":"logs","_id":"7"}}`.
    ///
    /// # Errors
    /// A [`Fault`] when it is no action, so that it is not known what the next line is.
    pub(super) fn read(line: &'t str) -> Result<Self, Fault> {
        const EXPECTED: &str = "one of create, index, update and delete";
        let mut cursor = Cursor::new(line);
        let name = cursor.open_object()?.unwrap_or_default();
        let kind = Kind::parse(&name).ok_or_else(|| Fault::expected("action", EXPECTED, &name))?;
        let mut action = Self { kind, index: None, id: None, pipeline: None };
        let mut member = cursor.open_object()?;
        while let Some(name) = member {
            let value = cursor.value()?;
            let slot = match &*name {
                "_index" => Some(&mut action.index),
                "_id" => Some(&mut action.id),
                "pipeline" => Some(&mut action.pipeline),
                _ => None,
            };
            if let Some(slot) = slot {
                *slot = text(&name, value)?;
            }
            member = cursor.next_member()?;
        }
        if let Some(name) = cursor.next_member()? {
            return Err(Fault::expected("action", "the end of the object", &name));
        }
        cursor.end()?;
        Ok(action)
    }

    /// The index, where the action is one that is done here.
    ///
    /// # Errors
    /// A [`Fault`] when it is not.
    pub(super) fn check<'i>(&self, index: Option<&'i str>) -> Result<&'i str, Fault> {
        if matches!(self.kind, Kind::Update | Kind::Delete) {
            let kind = self.kind.name();
            let found = format!("action: expected create or index, found {kind}");
            return Err(Fault(format!("{found}; stored events do not change")));
        }
        if self.id.as_deref() == Some("") {
            return Err(Fault("_id: expected a text that is not empty, or no _id".to_owned()));
        }
        index.filter(|index| !index.is_empty()).ok_or_else(|| {
            Fault("_index: expected in the action or the path, found in neither".to_owned())
        })
    }
}

/// A text, or a number as Elasticsearch takes it for one.
fn text<'t>(name: &str, value: Value<'t>) -> Result<Option<Cow<'t, str>>, Fault> {
    match value.text() {
        Some(text) => Ok(Some(text)),
        None if value.is_null() => Ok(None),
        None if value.number().is_some() => Ok(Some(Cow::Borrowed(value.raw()))),
        None => Err(Fault::expected(name, "a string", value.raw())),
    }
}
