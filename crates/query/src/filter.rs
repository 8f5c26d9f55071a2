//! Conditions on table `logs`, from the parameters of a request to expressions.
//!
//! User input only ever becomes a literal of an expression, never a piece of SQL text.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use chrono::Utc;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator as SqlOperator, ScalarUDF};
use datafusion::prelude::{col, ident, lit};
use datafusion_functions_json::functions::{json_as_text, json_get_float};
use thalweg_event::Level;
use thalweg_event::schema::{column, log_schema};

use crate::search::{Condition, Operator, SearchError, Term, Value};
use crate::selection::TEMPLATE;
use crate::{QueryError, search, when};

/// Columns whose keys are reached with `attributes.key` and `resource.key`.
const JSON_COLUMNS: [&str; 2] = [column::ATTRIBUTES, column::RESOURCE];

/// The conditions of `service`, `level`, `trace_id` and `q`, all of which must hold. Templates can
/// be searched for where there is the function `template_id`.
///
/// # Errors
/// [`QueryError::Parameter`] for the parameter that cannot be understood.
pub(crate) fn conditions(
    service: Option<&str>,
    level: Option<&str>,
    trace_id: Option<&str>,
    q: Option<&str>,
    template_id: Option<&Arc<ScalarUDF>>,
) -> Result<Vec<Expr>, QueryError> {
    let mut conditions = Vec::new();
    if let Some(services) = service {
        conditions.push(one_of(column::SERVICE, services.split(',').map(str::trim)));
    }
    if let Some(levels) = level {
        conditions.push(levels_condition(levels)?);
    }
    if let Some(trace_id) = trace_id {
        conditions.push(col(column::TRACE_ID).eq(lit(trace_id.trim().to_ascii_lowercase())));
    }
    if let Some(search) = q {
        let fault = |error: SearchError| QueryError::Parameter {
            parameter: "q",
            message: error.message,
            column: Some(error.column),
        };
        for term in search::parse(search).map_err(fault)? {
            conditions.push(term_condition(&term, template_id).map_err(fault)?);
        }
    }
    Ok(conditions)
}

/// A comparison of the column `timestamp` with a time in microseconds.
pub(crate) fn timestamp(operator: SqlOperator, micros: i64) -> Expr {
    compare(col(column::TIMESTAMP), operator, time_literal(micros))
}

fn time_literal(micros: i64) -> Expr {
    lit(ScalarValue::TimestampMicrosecond(Some(micros), Some("UTC".into())))
}

/// One level means this or a more severe one; several mean exactly these.
fn levels_condition(text: &str) -> Result<Expr, QueryError> {
    let levels: Vec<Level> = text
        .split(',')
        .map(|name| level(name.trim()).map_err(|message| QueryError::parameter("level", message)))
        .collect::<Result<_, _>>()?;
    Ok(match levels[..] {
        [minimum] => col(column::SEVERITY_NUMBER).gt_eq(lit(minimum.severity().number())),
        _ => one_of(column::LEVEL, levels.iter().map(|level| level.name())),
    })
}

fn level(name: &str) -> Result<Level, String> {
    Level::parse(name).ok_or_else(|| {
        format!("expected a level (trace, debug, info, warn, error or fatal), found {name:?}")
    })
}

fn one_of<'a>(column: &str, values: impl Iterator<Item = &'a str>) -> Expr {
    col(column).in_list(values.map(lit).collect(), false)
}

fn term_condition(term: &Term, template_id: Option<&Arc<ScalarUDF>>) -> Result<Expr, SearchError> {
    let field_condition = |field: &str, operator, values: &[Value], column| {
        field_condition(field, operator, values, column, template_id)
    };
    let (condition, negated) = match &term.condition {
        Condition::Text(text) => {
            (col(column::MESSAGE).ilike(lit(format!("%{}%", escape_like(text)))), false)
        }
        Condition::Field { field, operator: Operator::NotEqual, values } => {
            (field_condition(field, Operator::Equal, values, term.column)?, true)
        }
        Condition::Field { field, operator, values } => {
            (field_condition(field, *operator, values, term.column)?, false)
        }
    };
    // A row without the field does not have the value: it is kept by a negation.
    Ok(if negated != term.negated { condition.is_not_true() } else { condition })
}

fn field_condition(
    name: &str,
    operator: Operator,
    values: &[Value],
    column: u64,
    template_id: Option<&Arc<ScalarUDF>>,
) -> Result<Expr, SearchError> {
    let fault = |message: String| SearchError { message, column };
    let target = Target::find(name, template_id).ok_or_else(|| {
        fault(format!(
            "expected a column, attributes.key or resource.key before the operator, found {name:?}; put the text in quotes to search for it"
        ))
    })?;
    let alternatives: Vec<Expr> = values
        .iter()
        .map(|value| target.compare(operator, value))
        .collect::<Result<_, _>>()
        .map_err(fault)?;
    alternatives.into_iter().reduce(Expr::or).ok_or_else(|| fault("expected a value".to_owned()))
}

/// What the left side of a comparison names.
enum Target<'a> {
    Column(FieldRef),
    /// The template of the message, by its id.
    Template(&'a Arc<ScalarUDF>),
    Key {
        column: &'static str,
        key: &'a str,
    },
}

impl<'a> Target<'a> {
    fn find(name: &'a str, template_id: Option<&'a Arc<ScalarUDF>>) -> Option<Self> {
        if let Some((_, field)) = log_schema().fields().find(name) {
            return Some(Self::Column(field.clone()));
        }
        if name == TEMPLATE {
            return template_id.map(Self::Template);
        }
        let (prefix, key) = name.split_once('.').filter(|(_, key)| !key.is_empty())?;
        let column = JSON_COLUMNS.into_iter().find(|column| *column == prefix)?;
        Some(Self::Key { column, key })
    }

    fn compare(&self, operator: Operator, value: &Value) -> Result<Expr, String> {
        match self {
            Self::Key { column, key } => match (operator, value.text.parse::<f64>()) {
                (Operator::Equal, _) => {
                    Ok(text_condition(json_as_text(col(*column), lit(*key)), value))
                }
                (_, Ok(number)) => {
                    Ok(compare(json_get_float(col(*column), lit(*key)), sql(operator), lit(number)))
                }
                (_, Err(_)) => Err(format!("expected a number to compare with, found {value}")),
            },
            Self::Template(template_id) => match operator {
                Operator::Equal => {
                    Ok(text_condition(template_id.call(vec![col(column::MESSAGE)]), value))
                }
                _ => Err("expected `template:ID`; ids have no order".to_owned()),
            },
            Self::Column(field) => {
                let name = field.name().as_str();
                match field.data_type() {
                    _ if operator == Operator::Equal && value.is_any() => {
                        Ok(ident(name).is_not_null())
                    }
                    _ if name == column::LEVEL => compare_levels(operator, level(&value.text)?),
                    DataType::Utf8 | DataType::Dictionary(..) => match operator {
                        Operator::Equal => Ok(text_condition(ident(name), value)),
                        _ => Ok(compare(ident(name), sql(operator), lit(value.text.as_str()))),
                    },
                    DataType::Timestamp(..) => {
                        let now = Utc::now().timestamp_micros();
                        let micros = when::parse(&value.text, now)
                            .ok_or_else(|| format!("expected a time, found {value}"))?;
                        Ok(compare(ident(name), sql(operator), time_literal(micros)))
                    }
                    _ => {
                        let number = match value.text.parse::<i64>() {
                            Ok(whole) => lit(whole),
                            Err(_) => lit(value
                                .text
                                .parse::<f64>()
                                .map_err(|_| format!("expected a number, found {value}"))?),
                        };
                        Ok(compare(ident(name), sql(operator), number))
                    }
                }
            }
        }
    }
}

impl Value {
    fn is_any(&self) -> bool {
        !self.quoted && self.text == "*"
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

/// Each level is a range of severities, so that `>=` and `<` compare ranges.
fn compare_levels(operator: Operator, level: Level) -> Result<Expr, String> {
    let severity = col(column::SEVERITY_NUMBER);
    let lowest = level.severity().number();
    let above = lowest + 4;
    Ok(match operator {
        Operator::Equal | Operator::NotEqual => col(column::LEVEL).eq(lit(level.name())),
        Operator::GreaterOrEqual => severity.gt_eq(lit(lowest)),
        Operator::Greater => severity.gt_eq(lit(above)),
        Operator::Less => severity.lt(lit(lowest)),
        Operator::LessOrEqual => severity.lt(lit(above)),
    })
}

/// Equality with a value, in which an unquoted `*` stands for any text.
fn text_condition(target: Expr, value: &Value) -> Expr {
    if value.is_any() {
        target.is_not_null()
    } else if value.quoted || !value.text.contains('*') {
        target.eq(lit(value.text.as_str()))
    } else {
        target.like(lit(escape_like(&value.text).replace('*', "%")))
    }
}

fn escape_like(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}

fn compare(left: Expr, operator: SqlOperator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), operator, Box::new(right)))
}

fn sql(operator: Operator) -> SqlOperator {
    match operator {
        Operator::Equal => SqlOperator::Eq,
        Operator::NotEqual => SqlOperator::NotEq,
        Operator::Less => SqlOperator::Lt,
        Operator::LessOrEqual => SqlOperator::LtEq,
        Operator::Greater => SqlOperator::Gt,
        Operator::GreaterOrEqual => SqlOperator::GtEq,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sql_of(q: &str) -> String {
        let conditions = conditions(None, None, None, Some(q), None).unwrap();
        conditions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ; ")
    }

    fn error_of(q: &str) -> (String, Option<u64>) {
        match conditions(None, None, None, Some(q), None).unwrap_err() {
            QueryError::Parameter { message, column, .. } => (message, column),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn wildcards_of_like_in_the_users_text_mean_themselves() {
        assert_eq!(sql_of(r"50%_\"), r#"message ILIKE Utf8("%50\%\_\\%")"#);
        assert_eq!(sql_of("service:a_*"), r#"service LIKE Utf8("a\_%")"#);
        assert_eq!(sql_of(r#"service:"a*""#), r#"service = Utf8("a*")"#);
    }

    #[test]
    fn levels_compare_by_their_range_of_severities() {
        for (q, expected) in [
            ("level>=warn", "severity_number >= Int8(13)"),
            ("level>warn", "severity_number >= Int8(17)"),
            ("level<=info", "severity_number < Int8(13)"),
            ("level:warning", r#"level = Utf8("WARN")"#),
        ] {
            assert_eq!(sql_of(q), expected);
        }
    }

    #[test]
    fn a_negation_keeps_rows_without_the_field() {
        assert_eq!(sql_of("-host:a,b"), r#"host = Utf8("a") OR host = Utf8("b") IS NOT TRUE"#);
        assert_eq!(sql_of("host!=a"), r#"host = Utf8("a") IS NOT TRUE"#);
        assert_eq!(sql_of("-host!=a"), r#"host = Utf8("a")"#);
    }

    #[test]
    fn errors_say_what_was_expected_and_where() {
        let (message, column) = error_of("fine user.id:42");
        assert!(message.contains("attributes.key"), "{message}");
        assert_eq!(column, Some(6));
        assert_eq!(error_of("http_status>many").0, "expected a number, found \"many\"");
        assert!(error_of("level>loud").0.starts_with("expected a level"));
    }
}
