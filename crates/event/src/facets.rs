//! The columns that logs and spans have alike: who emitted them, which HTTP request they tell of,
//! and everything else they were given.

use arrow::datatypes::{Int16Type, Int64Type};

use crate::{
    batch::{AttributeValue, Resource},
    column::{FewColumn, NumberColumn, TextColumn},
    json,
    semconv::{Promoted, promoted},
};

/// Emitter, HTTP request and attributes of the rows of a batch.
pub(crate) struct Facets {
    pub(crate) service: FewColumn,
    pub(crate) host: FewColumn,
    pub(crate) environment: FewColumn,
    pub(crate) http_method: FewColumn,
    pub(crate) http_path: TextColumn,
    pub(crate) http_status: NumberColumn<Int16Type>,
    pub(crate) client_ip: TextColumn,
    pub(crate) user_agent: TextColumn,
    pub(crate) bytes: NumberColumn<Int64Type>,
    pub(crate) attributes: TextColumn,
    pub(crate) resource: FewColumn,
}

/// Calls a method on each of the columns.
macro_rules! each_column {
    ($facets:expr, $method:ident) => {{
        let f = $facets;
        f.service.$method();
        f.host.$method();
        f.environment.$method();
        f.http_method.$method();
        f.http_path.$method();
        f.http_status.$method();
        f.client_ip.$method();
        f.user_agent.$method();
        f.bytes.$method();
        f.attributes.$method();
        f.resource.$method();
    }};
}

impl Facets {
    pub(crate) fn with_capacity(rows: usize) -> Self {
        let (text, few) = (TextColumn::with_capacity, FewColumn::with_capacity);
        Self {
            service: few(rows),
            host: few(rows),
            environment: few(rows),
            http_method: few(rows),
            http_path: text(rows),
            http_status: NumberColumn::with_capacity(rows),
            client_ip: text(rows),
            user_agent: text(rows),
            bytes: NumberColumn::with_capacity(rows),
            attributes: text(rows),
            resource: few(rows),
        }
    }

    pub(crate) fn keep_row(&mut self) {
        if self.attributes.is_set() {
            self.attributes.reopen().push(b'}');
        }
        each_column!(&mut *self, keep_row);
    }

    pub(crate) fn drop_row(&mut self) {
        each_column!(&mut *self, drop_row);
    }

    /// Fields of the entity that the row is of.
    pub(crate) fn resource(&mut self, resource: &Resource) {
        let set = |column: &mut FewColumn, text: Option<&str>| {
            if let Some(text) = text {
                column.set(text);
            }
        };
        set(&mut self.service, resource.service.as_deref());
        set(&mut self.host, resource.host.as_deref());
        set(&mut self.environment, resource.environment.as_deref());
        set(&mut self.resource, resource.json());
    }

    /// A request target or URL: its path has a column, its query becomes an attribute.
    pub(crate) fn http_target(&mut self, target: &str) {
        let (target, query) = match target.split_once('?') {
            Some((target, query)) => (target, Some(query)),
            None => (target, None),
        };
        let path = match target.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or("/", |slash| &rest[slash..]),
            None => target,
        };
        self.http_path.set(path);
        if let Some(query) = query {
            self.plain_attribute("url.query", AttributeValue::Text(query));
        }
    }

    /// An attribute, in its column if it has one and the value fits.
    pub(crate) fn attribute(&mut self, key: &str, value: AttributeValue<'_>) {
        if !promoted(key).is_some_and(|column| self.promote(column, value)) {
            self.plain_attribute(key, value);
        }
    }

    /// An attribute whose value is JSON already.
    pub(crate) fn json_attribute(&mut self, key: &str, value: json::Value<'_>) {
        let is_promoted = promoted(key).is_some_and(|column| match value.text() {
            Some(text) => self.promote(column, AttributeValue::Text(&text)),
            None => self.promote(column, AttributeValue::Json(value.raw())),
        });
        if !is_promoted {
            self.plain_attribute(key, AttributeValue::Json(value.raw()));
        }
    }

    /// An attribute under its key, even if there is a column for it.
    pub(crate) fn plain_attribute(&mut self, key: &str, value: AttributeValue<'_>) {
        let column = &mut self.attributes;
        if !column.is_set() {
            column.open().push(b'{');
        }
        let out = column.reopen();
        json::write_key(out, key);
        value.write(out);
    }

    /// Whether `value` fits `column`, and was set.
    fn promote(&mut self, column: Promoted, value: AttributeValue<'_>) -> bool {
        match (column, value) {
            (Promoted::HttpStatus, value) => {
                let status = value.as_i64().and_then(|status| i16::try_from(status).ok());
                status.map(|status| self.http_status.set(status)).is_some()
            }
            (Promoted::Bytes, value) => value.as_i64().map(|bytes| self.bytes.set(bytes)).is_some(),
            (_, AttributeValue::Text(text)) => {
                match column {
                    Promoted::Service => self.service.set(text),
                    Promoted::Host => self.host.set(text),
                    Promoted::Environment => self.environment.set(text),
                    Promoted::HttpMethod => self.http_method.set(text),
                    Promoted::HttpPath => self.http_path.set(text),
                    Promoted::HttpTarget => self.http_target(text),
                    Promoted::ClientIp => self.client_ip.set(text),
                    Promoted::UserAgent => self.user_agent.set(text),
                    Promoted::HttpStatus | Promoted::Bytes => return false,
                }
                true
            }
            _ => false,
        }
    }
}
