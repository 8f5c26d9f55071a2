//! Functions of Postgres that psql's `\d+`, `\dt+`, `\l+` and `\dn+`, and SQLAlchemy, call and that
//! datafusion-postgres lacks.

use std::sync::Arc;

use arrow::array::{AsArray, StringArray};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;

/// Version of Postgres whose behaviour clients may expect: the newest of which no psql in use says
/// that it is too new for it.
pub(crate) const POSTGRES_VERSION: &str = concat!("15.0 (thalweg ", env!("CARGO_PKG_VERSION"), ")");

/// Functions that look up what does not exist here: comments, sizes on disk, types of extensions.
const UNKNOWN: [(&str, &[DataType], DataType); 6] = [
    ("col_description", &[DataType::Int64, DataType::Int64], DataType::Utf8),
    ("obj_description", &[DataType::Int64, DataType::Utf8], DataType::Utf8),
    ("shobj_description", &[DataType::Int64, DataType::Utf8], DataType::Utf8),
    ("pg_table_size", &[DataType::Int64], DataType::Int64),
    ("pg_database_size", &[DataType::Utf8], DataType::Int64),
    ("to_regtype", &[DataType::Utf8], DataType::Int32),
];

pub(crate) fn register(context: &SessionContext) {
    for (name, arguments, result) in UNKNOWN {
        let null = ScalarValue::try_new_null(&result).unwrap_or(ScalarValue::Null);
        let unknown = move |_: &[ColumnarValue]| Ok(ColumnarValue::Scalar(null.clone()));
        let function =
            create_udf(name, arguments.into(), result, Volatility::Stable, Arc::new(unknown));
        context.register_udf(function);
    }
    let version = |_: &[ColumnarValue]| {
        let version = format!("PostgreSQL {POSTGRES_VERSION}");
        Ok(ColumnarValue::Scalar(ScalarValue::from(version)))
    };
    let (text, stable) = (DataType::Utf8, Volatility::Stable);
    context.register_udf(create_udf("version", vec![], text, stable, Arc::new(version)));
    context.register_udf(create_udf(
        "pg_size_pretty",
        vec![DataType::Int64],
        DataType::Utf8,
        Volatility::Immutable,
        Arc::new(size_pretty),
    ));
}

fn size_pretty(arguments: &[ColumnarValue]) -> Result<ColumnarValue> {
    let arrays = ColumnarValue::values_to_arrays(arguments)?;
    let sizes = arrays.iter().flat_map(|sizes| sizes.as_primitive::<Int64Type>());
    let texts: StringArray = sizes.map(|size| size.map(pretty)).collect();
    Ok(ColumnarValue::Array(Arc::new(texts)))
}

/// A size as `pg_size_pretty` writes it: the next unit begins at ten of them.
fn pretty(bytes: i64) -> String {
    const UNITS: [&str; 6] = ["bytes", "kB", "MB", "GB", "TB", "PB"];
    let (mut size, mut unit) = (bytes as f64, 0);
    while size.abs() >= 10_240.0 && unit + 1 < UNITS.len() {
        size /= 1_024.0;
        unit += 1;
    }
    format!("{:.0} {}", size.round(), UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_postgres_does() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (10_239, "10239 bytes"),
            (10_240, "10 kB"),
            (-20_480, "-20 kB"),
            (5 << 40, "5120 GB"),
        ] {
            assert_eq!(pretty(bytes), text);
        }
    }
}
