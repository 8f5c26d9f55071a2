//! What can go wrong with a query.

use std::time::Duration;

use datafusion::common::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;

/// Where in the text of a query something is wrong; both count from one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line.
    pub line: u64,
    /// Character in the line.
    pub column: u64,
}

/// Why a query was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueryError {
    /// The text is not SQL.
    #[error("{message}")]
    Syntax {
        /// What the parser expected and found.
        message: String,
        /// Where, when the parser knows.
        position: Option<Position>,
    },
    /// The SQL names what does not exist or combines what does not fit.
    #[error("{message}")]
    Invalid {
        /// What does not exist or fit.
        message: String,
        /// Where, when the planner knows.
        position: Option<Position>,
    },
    /// The statement would change something.
    #[error(
        "expected one reading statement (SELECT, WITH, VALUES, EXPLAIN, SHOW or DESCRIBE), found {0}"
    )]
    NotReading(String),
    /// The asker may not ask this.
    #[error("{0}")]
    Forbidden(&'static str),
    /// A parameter of the request cannot be understood.
    #[error("{parameter}: {message}")]
    Parameter {
        /// Name of the parameter.
        parameter: &'static str,
        /// What was expected and found.
        message: String,
        /// Character of the parameter's value that is wrong, from one, when known.
        column: Option<u64>,
    },
    /// Nothing of what was asked for by its id is there.
    #[error("{0}")]
    NotFound(String),
    /// None of the formats that the client accepts can be written.
    #[error(
        "cannot write {0}; accept application/json, application/x-ndjson, text/csv or application/vnd.apache.arrow.stream"
    )]
    NotAcceptable(String),
    /// As many queries as are allowed are running.
    #[error("{limit} queries are running, which is the limit; try again in a moment")]
    TooManyQueries {
        /// Queries allowed at once.
        limit: usize,
    },
    /// As many clients as are allowed are following.
    #[error("{limit} clients follow the logs, which is the limit; try again later")]
    TooManyTailers {
        /// Followers allowed at once.
        limit: usize,
    },
    /// The query took longer than it may.
    #[error(
        "the query did not finish within its time limit of {} s; narrow its time range or raise timeout_secs", .0.as_secs_f64()
    )]
    Timeout(Duration),
    /// The client asked to stop the query.
    #[error("the query was cancelled by the client")]
    Cancelled,
    /// The query needs more memory or spill space than it may have.
    #[error(
        "the query needs more memory than it may have; select fewer rows, groups or columns: {0}"
    )]
    Memory(String),
    /// A value met while executing does not allow the operation.
    #[error("{0}")]
    Execution(String),
    /// A table cannot be registered.
    #[error("table {name}: {reason}")]
    Table {
        /// Name of the table.
        name: String,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The program or the machine below it is at fault.
    #[error("{0}")]
    Internal(String),
}

impl QueryError {
    /// Stable name of the kind of error, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Syntax { .. } => "syntax",
            Self::Invalid { .. } => "invalid_query",
            Self::NotReading(_) => "not_a_reading_statement",
            Self::Forbidden(_) => "forbidden",
            Self::Parameter { .. } => "invalid_parameter",
            Self::NotFound(_) => "not_found",
            Self::NotAcceptable(_) => "not_acceptable",
            Self::TooManyQueries { .. } => "too_many_queries",
            Self::TooManyTailers { .. } => "too_many_tailers",
            Self::Timeout(_) => "timeout",
            Self::Cancelled => "cancelled",
            Self::Memory(_) => "memory_limit",
            Self::Execution(_) => "execution",
            Self::Table { .. } => "table",
            Self::Internal(_) => "internal",
        }
    }

    /// Where in the query's text the error is, when known.
    pub fn position(&self) -> Option<Position> {
        match self {
            Self::Syntax { position, .. } | Self::Invalid { position, .. } => *position,
            Self::Parameter { column, .. } => column.map(|column| Position { line: 1, column }),
            _ => None,
        }
    }

    pub(crate) fn parameter(parameter: &'static str, message: impl Into<String>) -> Self {
        Self::Parameter { parameter, message: message.into(), column: None }
    }
}

impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> Self {
        let span = error.diagnostic().and_then(|diagnostic| diagnostic.span);
        let position =
            span.map(|span| Position { line: span.start.line, column: span.start.column });
        match error.find_root() {
            DataFusionError::SQL(parser_error, _) => Self::from(parser_error.as_ref()),
            DataFusionError::Plan(message) => Self::Invalid { message: message.clone(), position },
            DataFusionError::SchemaError(schema_error, _) => {
                Self::Invalid { message: schema_error.to_string(), position }
            }
            DataFusionError::NotImplemented(message) => {
                Self::Invalid { message: format!("not supported: {message}"), position }
            }
            DataFusionError::ResourcesExhausted(message) => Self::Memory(message.clone()),
            DataFusionError::Execution(message) => Self::Execution(message.clone()),
            DataFusionError::ArrowError(arrow_error, _) => Self::Execution(arrow_error.to_string()),
            other => Self::Internal(other.strip_backtrace()),
        }
    }
}

impl From<&ParserError> for QueryError {
    fn from(error: &ParserError) -> Self {
        let message = match error {
            ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
            ParserError::RecursionLimitExceeded => "the query is nested too deeply",
        };
        // The parser tells positions only inside its text.
        let (message, place) = message.rsplit_once(" at Line: ").unwrap_or((message, ""));
        let position = place.split_once(", Column: ").and_then(|(line, column)| {
            let (line, column) = (line.trim().parse().ok()?, column.trim().parse().ok()?);
            (line > 0).then_some(Position { line, column })
        });
        Self::Syntax { message: message.to_owned(), position }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_in_a_parsers_text_becomes_a_field() {
        let error = ParserError::ParserError("Expected: x, found: y at Line: 3, Column: 14".into());
        let position = Some(Position { line: 3, column: 14 });
        assert_eq!(
            QueryError::from(&error),
            QueryError::Syntax { message: "Expected: x, found: y".into(), position }
        );
    }
}
