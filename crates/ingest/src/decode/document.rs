//! JSON objects of the senders' own making: Elasticsearch documents, Splunk events.
//!
//! Fields that [`Place`] knows, nested (`{"log":{"level":"info"}}`) or dotted (`"log.level"`),
//! become columns; everything else becomes attributes as it stands, nested objects without the
//! fields that were taken out of them.

use thalweg_event::{
    AttributeValue, Fault, Row,
    json::{self, Cursor, Value},
    time,
};

use super::place::{Place, Taken};

/// Reads documents, one at a time.
#[derive(Default)]
pub(super) struct Document<'t> {
    pub(super) taken: Taken,
    /// Time and message under names that count only where the usual ones are missing.
    late: [Option<(&'static str, Place, Value<'t>)>; 2],
    path: String,
    rest: Vec<u8>,
}

/// Names that stand in for `@timestamp` and `message`.
const LATE: [(&str, Place); 5] = [
    ("timestamp", Place::Time),
    ("time", Place::Time),
    ("ts", Place::Time),
    ("log", Place::Message),
    ("msg", Place::Message),
];

/// Numbers under names as vague as `time` are durations as often as times: only those from 1973
/// on are times.
const EARLIEST_LATE_NANOS: i64 = 100_000_000 * 1_000_000_000;

fn is_recent(time: Value<'_>) -> bool {
    time.number().is_none()
        || time::parse_number(time.raw()).is_some_and(|nanos| nanos >= EARLIEST_LATE_NANOS)
}

impl<'t> Document<'t> {
    /// Forgets the document before.
    pub(super) fn begin(&mut self) {
        (self.taken, self.late) = Default::default();
    }

    /// Reads the members of `object` and writes them.
    ///
    /// # Errors
    /// A [`Fault`] when it is not one JSON object, or its `@timestamp` no time.
    pub(super) fn read(&mut self, object: &'t str, row: &mut Row<'_, '_>) -> Result<(), Fault> {
        let mut cursor = Cursor::new(object);
        let mut member = cursor.open_object()?;
        while let Some(name) = member {
            self.member(&name, cursor.value()?, row)?;
            member = cursor.next_member()?;
        }
        cursor.end()?;
        self.finish(row);
        Ok(())
    }

    /// Writes one member.
    ///
    /// # Errors
    /// A [`Fault`] when `@timestamp` is no time.
    pub(super) fn member(
        &mut self,
        name: &str,
        value: Value<'t>,
        row: &mut Row<'_, '_>,
    ) -> Result<(), Fault> {
        if value.is_object() && Place::is_above(name) {
            self.path.clear();
            self.path.push_str(name);
            self.rest.clear();
            if self.nested(value, row)? {
                let rest = std::str::from_utf8(&self.rest).expect("JSON is written from text");
                row.plain_attribute(name, AttributeValue::Json(rest));
            }
            return Ok(());
        }
        if self.is_put_off(name, value) || self.is_placed(name, value, row)? {
            return Ok(());
        }
        row.plain_attribute(name, AttributeValue::Json(value.raw()));
        Ok(())
    }

    /// Writes what was put off until the whole document was seen.
    fn finish(&mut self, row: &mut Row<'_, '_>) {
        for (name, place, value) in self.late.iter_mut().filter_map(Option::take) {
            let may_be = place != Place::Time || is_recent(value);
            if !(may_be && self.taken.write(place, value, row)) {
                row.plain_attribute(name, AttributeValue::Json(value.raw()));
            }
        }
    }

    fn is_put_off(&mut self, name: &str, value: Value<'t>) -> bool {
        let Some((name, place)) = LATE.into_iter().find(|(late, _)| *late == name) else {
            return false;
        };
        let slot = &mut self.late[usize::from(place == Place::Message)];
        if slot.is_some() || value.is_null() {
            return false;
        }
        *slot = Some((name, place, value));
        true
    }

    /// Whether the value called `name` has a column, and is there now. Null is no value.
    fn is_placed(
        &mut self,
        name: &str,
        value: Value<'_>,
        row: &mut Row<'_, '_>,
    ) -> Result<bool, Fault> {
        let Some(place) = Place::of(name) else { return Ok(false) };
        if value.is_null() || self.taken.write(place, value, row) {
            return Ok(true);
        }
        if place == Place::Time && !self.taken.has(place) {
            let expected = "ISO 8601 text or milliseconds since 1970";
            return Err(Fault::expected(name, expected, value.raw()));
        }
        Ok(false)
    }

    /// Writes what of the object at `path` has columns, appends the others to `rest`, and says
    /// whether there were any, or no members at all.
    fn nested(&mut self, object: Value<'_>, row: &mut Row<'_, '_>) -> Result<bool, Fault> {
        self.rest.push(b'{');
        let (start, mut is_rest) = (self.path.len(), false);
        let mut cursor = Cursor::new(object.raw());
        let mut member = cursor.open_object()?;
        let is_empty = member.is_none();
        while let Some(name) = member {
            let value = cursor.value()?;
            self.path.push('.');
            self.path.push_str(&name);
            if value.is_object() && Place::is_above(&self.path) {
                let before = self.rest.len();
                json::write_key(&mut self.rest, &name);
                if self.nested(value, row)? {
                    is_rest = true;
                } else {
                    self.rest.truncate(before);
                }
            } else {
                let path = std::mem::take(&mut self.path);
                let is_placed = self.is_placed(&path, value, row);
                self.path = path;
                if !is_placed? {
                    json::write_key(&mut self.rest, &name);
                    self.rest.extend_from_slice(value.raw().as_bytes());
                    is_rest = true;
                }
            }
            self.path.truncate(start);
            member = cursor.next_member()?;
        }
        self.rest.push(b'}');
        Ok(is_rest || is_empty)
    }
}
