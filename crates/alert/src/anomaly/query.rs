//! New rows of a view.

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use chrono::{DateTime, SecondsFormat, Utc};

use super::config::AnomalyConfig;
use crate::{labels::Labels, rows};

/// How far a view was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cursor {
    after: DateTime<Utc>,
}

/// Rows of closed windows, oldest first.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Points {
    pub(super) points: Vec<Point>,
    /// Whether there are more to read at once.
    pub(crate) is_truncated: bool,
    /// Rows of a window that has more than fit; they are lost.
    pub(super) lost: usize,
}

/// What a series reports for a window.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Point {
    pub(super) at: DateTime<Utc>,
    pub(super) key: Labels,
    pub(super) value: Option<f64>,
}

impl Points {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.points.is_empty()
    }
}

impl Cursor {
    /// Reads windows that begin after this time.
    pub(crate) fn after(after: DateTime<Utc>) -> Self {
        Self { after }
    }

    /// Goes on after these.
    pub(crate) fn advance(&mut self, points: &Points) {
        if let Some(last) = points.points.last() {
            self.after = self.after.max(last.at);
        }
    }
}

impl AnomalyConfig {
    /// The query for the rows after `cursor`.
    pub(crate) fn sql(&self, cursor: &Cursor) -> String {
        let time = quoted(self.time_column.as_str());
        let keys = self.by.iter().map(|name| format!(", CAST({} AS VARCHAR)", quoted(name)));
        let is_final =
            self.final_column.as_ref().map(|name| format!(" AND {}", quoted(name.as_str())));
        let value = format!("CAST({} AS DOUBLE)", quoted(self.column.as_str()));
        // A row that is not to be judged says all the same that its series reports.
        let value = match &self.condition {
            Some(sql) => format!("CASE WHEN ({}\n) THEN {value} END", sql.as_str()),
            None => value,
        };
        format!(
            "SELECT {time}, {value}{} FROM {} WHERE {time} > TIMESTAMP '{}'{} ORDER BY {time}",
            keys.collect::<String>(),
            quoted(self.view.as_str()),
            cursor.after.to_rfc3339_opts(SecondsFormat::Micros, true),
            is_final.unwrap_or_default(),
        )
    }

    /// The rows that [`AnomalyConfig::sql`] found; when there are `limit` there may be more.
    pub(crate) fn points(&self, batches: &[RecordBatch], limit: usize) -> Result<Points, String> {
        let mut points = Vec::new();
        for batch in batches {
            let expected = 2 + self.by.len();
            if batch.num_columns() != expected {
                let found = batch.num_columns();
                return Err(format!("expected {expected} columns of the view, found {found}"));
            }
            self.read(batch, &mut points).map_err(|error| error.to_string())?;
        }
        let is_truncated = points.len() >= limit;
        let mut lost = 0;
        if is_truncated && let Some(last) = points.last().map(|point| point.at) {
            // The last window may go on in the next answer, which begins after it.
            let complete = points.partition_point(|point| point.at < last);
            match complete {
                0 => lost = 1,
                complete => points.truncate(complete),
            }
        }
        Ok(Points { points, is_truncated, lost })
    }

    fn read(
        &self,
        batch: &RecordBatch,
        points: &mut Vec<Point>,
    ) -> Result<(), arrow::error::ArrowError> {
        let times = rows::times(batch.column(0))?;
        let values = rows::numbers(batch.column(1))?;
        let keys = batch.columns()[2..].iter().map(|column| cast(column, &DataType::Utf8));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        for (row, (at, value)) in times.into_iter().zip(values).enumerate() {
            let Some(at) = at else { continue };
            let named = self.by.iter().zip(&keys).map(|(name, column)| {
                let column = column.as_string::<i32>();
                (name.as_str(), if column.is_null(row) { "" } else { column.value(row) })
            });
            points.push(Point { at, key: Labels::new(named), value });
        }
        Ok(())
    }
}

/// A name in SQL (ISO 9075: delimited identifier).
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};

    use super::{super::config::tests::anomaly, *};

    fn batch(times: &[i64], values: &[i64], services: &[&str]) -> RecordBatch {
        let times = TimestampMicrosecondArray::from(times.to_vec()).with_timezone("UTC");
        RecordBatch::try_from_iter([
            ("t", Arc::new(times) as ArrayRef),
            ("v", Arc::new(Int64Array::from(values.to_vec())) as _),
            ("s", Arc::new(StringArray::from(services.to_vec())) as _),
        ])
        .unwrap()
    }

    #[test]
    fn names_are_quoted_and_only_closed_windows_after_the_last_are_read() {
        let mut config = anomaly("detector: {robust_z: {}}\nwhere: requests > 1 -- few").unwrap();
        config.view = "odd\"name".to_owned().try_into().unwrap();
        let cursor = Cursor::after(DateTime::from_timestamp_micros(1_500_000).unwrap());
        assert_eq!(
            config.sql(&cursor),
            "SELECT \"window_start\", CASE WHEN (requests > 1 -- few\n) THEN CAST(\"requests\" AS \
             DOUBLE) END, CAST(\"service\" AS VARCHAR) FROM \"odd\"\"name\" WHERE \"window_start\" > \
             TIMESTAMP '1970-01-01T00:00:01.500000Z' AND \"is_final\" ORDER BY \"window_start\""
        );
    }

    #[test]
    fn a_window_that_may_go_on_in_the_next_answer_is_left_for_it() {
        let config = anomaly("detector: {robust_z: {}}").unwrap();
        let rows = batch(&[1, 1, 2, 2], &[10, 11, 12, 13], &["a", "b", "a", "b"]);
        let all = config.points(std::slice::from_ref(&rows), 5).unwrap();
        assert_eq!((all.points.len(), all.is_truncated), (4, false));
        let some = config.points(std::slice::from_ref(&rows), 4).unwrap();
        assert_eq!((some.points.len(), some.is_truncated, some.lost), (2, true, 0));
        let mut cursor = Cursor::after(DateTime::UNIX_EPOCH);
        cursor.advance(&some);
        assert_eq!(cursor.after.timestamp_micros(), 1);
        let one_window = config.points(&[rows.slice(0, 2)], 2).unwrap();
        assert_eq!((one_window.points.len(), one_window.lost), (2, 1));
        assert_eq!(some.points[1].key, Labels::new([("service", "b")]));
        assert_eq!(some.points[1].value, Some(11.0));
    }
}
