//! Which logs a request is about.

use std::fmt::Display;

use chrono::Utc;
use datafusion::execution::FunctionRegistry as _;
use datafusion::logical_expr::{Expr, Operator};
use datafusion::prelude::DataFrame;
use serde::Deserialize;
use thalweg_event::schema::column;
use utoipa::IntoParams;

use crate::{QueryError, View, filter, when};

/// Function of message templates, where the server mines them.
pub(crate) const TEMPLATE_ID: &str = "template_id";

/// Which logs a request is about: all conditions must hold.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Selection {
    /// Earliest time: RFC 3339, seconds or milliseconds since 1970, or relative (`-15m`, `now-1h`).
    pub(crate) from: Option<String>,
    /// Time before which rows must lie, written like `from`.
    pub(crate) to: Option<String>,
    /// Service, or several separated by commas.
    pub(crate) service: Option<String>,
    /// Least severe level (`warn` also finds errors), or exact levels separated by commas.
    pub(crate) level: Option<String>,
    /// Search: words and "phrases" in the message, `field:value`, comparisons like
    /// `duration_ms>500`, `attributes.key:value`, and `-` to negate; all must hold.
    pub(crate) q: Option<String>,
    /// Trace identifier, in hexadecimal.
    pub(crate) trace_id: Option<String>,
}

/// A time from which and one before which rows lie, in microseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeRange {
    pub(crate) from_micros: Option<i64>,
    pub(crate) to_micros: Option<i64>,
}

impl Selection {
    /// Its times, of which relative ones count from now.
    ///
    /// # Errors
    /// [`QueryError::Parameter`] for the time that cannot be understood.
    pub(crate) fn times(&self) -> Result<TimeRange, QueryError> {
        let now = Utc::now().timestamp_micros();
        let micros = |name, text: Option<&str>| {
            let Some(text) = text else { return Ok::<_, QueryError>(None) };
            let micros = when::parse(text, now).ok_or_else(|| {
                let message = format!(
                    "expected a time such as 2030-01-31T12:00:00Z, 1896091200, -15m or now-1h, found {text:?}"
                );
                QueryError::parameter(name, message)
            })?;
            Ok(Some(micros))
        };
        Ok(TimeRange {
            from_micros: micros("from", self.from.as_deref())?,
            to_micros: micros("to", self.to.as_deref())?,
        })
    }

    /// Its conditions other than those on time, for rows that `view` shows.
    ///
    /// # Errors
    /// [`QueryError::Parameter`] for the parameter that cannot be understood.
    pub(crate) fn conditions(&self, view: &View) -> Result<Vec<Expr>, QueryError> {
        filter::conditions(
            self.service.as_deref(),
            self.level.as_deref(),
            self.trace_id.as_deref(),
            self.q.as_deref(),
            view.context().udf(TEMPLATE_ID).ok().as_ref(),
        )
    }
}

/// The rows of `table` for which all conditions hold.
pub(crate) fn matching(
    table: DataFrame,
    conditions: impl IntoIterator<Item = Expr>,
) -> Result<DataFrame, QueryError> {
    Ok(match conditions.into_iter().reduce(Expr::and) {
        Some(condition) => table.filter(condition)?,
        None => table,
    })
}

/// The number that parameter `name` asks for, from 1 to `most`, or the default.
pub(crate) fn number<T: Display + PartialOrd + From<u8>>(
    name: &'static str,
    asked: Option<T>,
    default: T,
    most: T,
) -> Result<T, QueryError> {
    let number = asked.unwrap_or(default);
    if number < T::from(1) || number > most {
        return Err(QueryError::parameter(name, format!("expected 1 to {most}, found {number}")));
    }
    Ok(number)
}

impl TimeRange {
    /// The range as conditions on the column `timestamp`.
    pub(crate) fn conditions(self) -> impl Iterator<Item = Expr> {
        let from = self.from_micros.map(|micros| filter::timestamp(Operator::GtEq, micros));
        let to = self.to_micros.map(|micros| filter::timestamp(Operator::Lt, micros));
        from.into_iter().chain(to)
    }
}

/// Name in searches for the template of an event's message.
pub(crate) const TEMPLATE: &str = "template";

/// Whether `name` is a column that events can be told apart by.
pub(crate) fn is_column(name: &str) -> bool {
    thalweg_event::schema::log_schema().column_with_name(name).is_some()
        && ![column::ATTRIBUTES, column::RESOURCE].contains(&name)
}
