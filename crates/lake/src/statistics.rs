//! What is known of a file without opening it: rows, nulls, smallest and largest values.
//!
//! Travels from the Parquet footer into the Delta log as JSON
//! ([Delta protocol, per-file statistics]) and from there to the query planner.
//!
//! [Delta protocol, per-file statistics]: https://github.com/delta-io/delta/blob/master/PROTOCOL.md#per-file-statistics

use std::cmp::Ordering;

use arrow::datatypes::{DataType, FieldRef, Schema};
use chrono::{DateTime, SecondsFormat};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::statistics::Statistics as ParquetStatistics;
use serde_json::{Map, Value};

/// Other writers cut times in statistics down to the millisecond.
const MILLISECOND_MICROS: i64 = 1_000;

/// Statistics of a file just written, whose columns are those of `schema`; those of `unbounded`
/// columns without smallest and largest value.
pub(crate) fn of_parquet(
    metadata: &ParquetMetaData,
    schema: &Schema,
    unbounded: &[String],
) -> Statistics {
    let rows = metadata.file_metadata().num_rows().max(0) as usize;
    let column = |(index, field): (usize, &FieldRef)| {
        let mut column = of_column(metadata.row_groups(), index, field.data_type());
        if unbounded.contains(field.name()) {
            (column.min_value, column.max_value) = (Precision::Absent, Precision::Absent);
        }
        column
    };
    Statistics {
        num_rows: Precision::Exact(rows),
        total_byte_size: Precision::Absent,
        column_statistics: schema.fields().iter().enumerate().map(column).collect(),
    }
}

fn of_column(groups: &[RowGroupMetaData], index: usize, data_type: &DataType) -> ColumnStatistics {
    let mut nulls = Some(0);
    let mut bounds: Option<(ScalarValue, ScalarValue)> = None;
    let mut bounded = true;
    for group in groups {
        let statistics = group.column(index).statistics();
        let group_nulls = statistics.and_then(ParquetStatistics::null_count_opt);
        nulls = nulls.zip(group_nulls).map(|(sum, more)| sum + more);
        if group_nulls == Some(group.num_rows().max(0) as u64) {
            continue;
        }
        bounds = match (bounds, statistics.and_then(|s| bounds_of(s, data_type))) {
            (None, found) => found,
            (Some((min, max)), Some((lower, upper))) => {
                Some((pick(min, lower, Ordering::Less), pick(max, upper, Ordering::Greater)))
            }
            (Some(_), None) => None,
        };
        bounded &= bounds.is_some();
    }
    column_statistics(nulls, bounds.filter(|_| bounded), true)
}

fn pick(ours: ScalarValue, theirs: ScalarValue, wanted: Ordering) -> ScalarValue {
    if theirs.partial_cmp(&ours) == Some(wanted) { theirs } else { ours }
}

fn bounds_of(
    found: &ParquetStatistics,
    data_type: &DataType,
) -> Option<(ScalarValue, ScalarValue)> {
    fn both<T: Copy>(
        bounds: (Option<&T>, Option<&T>),
        scalar: impl Fn(T) -> Option<ScalarValue>,
    ) -> Option<(ScalarValue, ScalarValue)> {
        Some((scalar(*bounds.0?)?, scalar(*bounds.1?)?))
    }
    match found {
        ParquetStatistics::Boolean(s) => {
            both((s.min_opt(), s.max_opt()), |v| Some(ScalarValue::from(v)))
        }
        ParquetStatistics::Int32(s) => {
            both((s.min_opt(), s.max_opt()), |v| integer(i64::from(v), data_type))
        }
        ParquetStatistics::Int64(s) => both((s.min_opt(), s.max_opt()), |v| integer(v, data_type)),
        ParquetStatistics::Float(s) => {
            both((s.min_opt(), s.max_opt()), |v| finite(v.into(), data_type))
        }
        ParquetStatistics::Double(s) => both((s.min_opt(), s.max_opt()), |v| finite(v, data_type)),
        ParquetStatistics::ByteArray(s) if *data_type == DataType::Utf8View => {
            let text = |bytes: &[u8]| {
                Some(ScalarValue::Utf8View(Some(str::from_utf8(bytes).ok()?.into())))
            };
            Some((text(s.min_opt()?.data())?, text(s.max_opt()?.data())?))
        }
        _ => None,
    }
}

fn integer(value: i64, data_type: &DataType) -> Option<ScalarValue> {
    Some(match data_type {
        DataType::Int8 => ScalarValue::Int8(Some(value.try_into().ok()?)),
        DataType::Int16 => ScalarValue::Int16(Some(value.try_into().ok()?)),
        DataType::Int32 => ScalarValue::Int32(Some(value.try_into().ok()?)),
        DataType::Int64 => ScalarValue::Int64(Some(value)),
        DataType::Timestamp(_, zone) => {
            ScalarValue::TimestampMicrosecond(Some(value), zone.clone())
        }
        _ => return None,
    })
}

fn finite(value: f64, data_type: &DataType) -> Option<ScalarValue> {
    value.is_finite().then_some(())?;
    Some(match data_type {
        DataType::Float32 => ScalarValue::Float32(Some(value as f32)),
        DataType::Float64 => ScalarValue::Float64(Some(value)),
        _ => return None,
    })
}

/// Bounds of strings may be cut and those of floats do not see NaN: only integers and times are
/// promised to be values of the file.
fn column_statistics(
    nulls: Option<u64>,
    bounds: Option<(ScalarValue, ScalarValue)>,
    exact: bool,
) -> ColumnStatistics {
    let bound = |value: ScalarValue| match value {
        ScalarValue::Utf8View(_) | ScalarValue::Float32(_) | ScalarValue::Float64(_) => {
            Precision::Inexact(value)
        }
        value if exact => Precision::Exact(value),
        value => Precision::Inexact(value),
    };
    let mut column = ColumnStatistics::new_unknown();
    column.null_count = nulls.map_or(Precision::Absent, |n| Precision::Exact(n as usize));
    if let Some((min, max)) = bounds {
        column.min_value = bound(min);
        column.max_value = bound(max);
    }
    column
}

/// The statistics as the Delta log spells them.
pub(crate) fn to_json(statistics: &Statistics, schema: &Schema) -> String {
    let (mut min, mut max, mut nulls) = (Map::new(), Map::new(), Map::new());
    for (field, column) in schema.fields().iter().zip(&statistics.column_statistics) {
        let put = |into: &mut Map<String, Value>, value: Option<Value>| {
            if let Some(value) = value {
                into.insert(field.name().clone(), value);
            }
        };
        put(&mut min, column.min_value.get_value().and_then(value_to_json));
        put(&mut max, column.max_value.get_value().and_then(value_to_json));
        put(&mut nulls, column.null_count.get_value().map(|&count| count.into()));
    }
    serde_json::json!({
        "numRecords": statistics.num_rows.get_value(),
        "minValues": min,
        "maxValues": max,
        "nullCount": nulls,
    })
    .to_string()
}

fn value_to_json(value: &ScalarValue) -> Option<Value> {
    Some(match value {
        ScalarValue::Boolean(Some(v)) => (*v).into(),
        ScalarValue::Int8(Some(v)) => (*v).into(),
        ScalarValue::Int16(Some(v)) => (*v).into(),
        ScalarValue::Int32(Some(v)) => (*v).into(),
        ScalarValue::Int64(Some(v)) => (*v).into(),
        ScalarValue::Float32(Some(v)) => (*v).into(),
        ScalarValue::Float64(Some(v)) => (*v).into(),
        ScalarValue::Utf8View(Some(v)) => v.clone().into(),
        ScalarValue::TimestampMicrosecond(Some(v), _) => {
            DateTime::from_timestamp_micros(*v)?.to_rfc3339_opts(SecondsFormat::Micros, true).into()
        }
        _ => return None,
    })
}

/// The statistics that the Delta log has for a file; `ours` says that [`to_json`] wrote them.
pub(crate) fn from_json(json: Option<&str>, schema: &Schema, ours: bool) -> Statistics {
    let json = json.and_then(|json| serde_json::from_str::<Value>(json).ok()).unwrap_or_default();
    let rows = json["numRecords"].as_u64();
    let column = |field: &FieldRef| {
        let name = field.name().as_str();
        let value = |kind: &str| value_from_json(&json[kind][name], field.data_type());
        let mut bounds = value("minValues").zip(value("maxValues"));
        if !ours && let Some((_, ScalarValue::TimestampMicrosecond(Some(max), _))) = &mut bounds {
            *max = max.saturating_add(MILLISECOND_MICROS);
        }
        column_statistics(json["nullCount"][name].as_u64(), bounds, ours)
    };
    Statistics {
        num_rows: rows.map_or(Precision::Absent, |rows| Precision::Exact(rows as usize)),
        total_byte_size: Precision::Absent,
        column_statistics: schema.fields().iter().map(column).collect(),
    }
}

fn value_from_json(value: &Value, data_type: &DataType) -> Option<ScalarValue> {
    match data_type {
        DataType::Boolean => value.as_bool().map(ScalarValue::from),
        DataType::Utf8View => Some(ScalarValue::Utf8View(Some(value.as_str()?.into()))),
        DataType::Float32 | DataType::Float64 => finite(value.as_f64()?, data_type),
        DataType::Timestamp(_, _) => {
            let time = DateTime::parse_from_rfc3339(value.as_str()?).ok()?;
            integer(time.timestamp_micros(), data_type)
        }
        _ => integer(value.as_i64()?, data_type),
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::Field;

    use super::*;

    fn schema() -> Schema {
        Schema::new(vec![
            Field::new("at", thalweg_event::schema::timestamp_type(), false),
            Field::new("service", DataType::Utf8View, true),
            Field::new("status", DataType::Int16, true),
            Field::new("took", DataType::Float64, true),
        ])
    }

    fn statistics() -> Statistics {
        let time = |v| ScalarValue::TimestampMicrosecond(Some(v), Some("UTC".into()));
        let text = |v: &str| ScalarValue::Utf8View(Some(v.into()));
        let bounds = [
            Some((time(-1), time(1_700_000_000_123_456))),
            Some((text("a"), text("z"))),
            None,
            Some((ScalarValue::Float64(Some(0.1)), ScalarValue::Float64(Some(2.5)))),
        ];
        Statistics {
            num_rows: Precision::Exact(9),
            total_byte_size: Precision::Absent,
            column_statistics: bounds.map(|b| column_statistics(Some(3), b, true)).into(),
        }
    }

    #[test]
    fn statistics_survive_the_delta_log() {
        let json = to_json(&statistics(), &schema());
        assert_eq!(from_json(Some(&json), &schema(), true), statistics());
    }

    #[test]
    fn times_of_other_writers_are_taken_as_cut_to_the_millisecond() {
        let json = to_json(&statistics(), &schema());
        let found = from_json(Some(&json), &schema(), false);
        let max =
            ScalarValue::TimestampMicrosecond(Some(1_700_000_000_124_456), Some("UTC".into()));
        assert_eq!(found.column_statistics[0].max_value, Precision::Inexact(max));
    }

    #[test]
    fn a_file_without_statistics_may_hold_anything() {
        let found = from_json(None, &schema(), false);
        assert_eq!(found, Statistics::new_unknown(&schema()));
    }
}
