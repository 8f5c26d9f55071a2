//! The one gate every statement passes: only reading is allowed.
//!
//! Two checks, because each sees what the other cannot: the syntax tree knows statements that
//! never become a plan (`SET`, `PREPARE`, `COPY … FROM`), the plan knows what a rewrite or a
//! nested query turned into.

use datafusion::common::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::Statement;

use crate::QueryError;

/// Checks that `statement` is of a kind that only reads.
///
/// # Errors
/// [`QueryError::NotReading`] names the statement found.
pub(crate) fn check_statement(statement: &DfStatement) -> Result<(), QueryError> {
    match statement {
        DfStatement::Statement(statement) => check_sql(statement),
        DfStatement::Explain(explain) => check_statement(&explain.statement),
        DfStatement::CreateExternalTable(_) => refuse("CREATE EXTERNAL TABLE"),
        DfStatement::CopyTo(_) => refuse("COPY"),
        DfStatement::Reset(_) => refuse("RESET"),
    }
}

fn check_sql(statement: &Statement) -> Result<(), QueryError> {
    match statement {
        Statement::Query(_)
        | Statement::ExplainTable { .. }
        | Statement::ShowTables { .. }
        | Statement::ShowColumns { .. }
        | Statement::ShowFunctions { .. }
        | Statement::ShowVariable { .. }
        | Statement::ShowVariables { .. }
        | Statement::ShowSchemas { .. }
        | Statement::ShowDatabases { .. }
        | Statement::ShowCatalogs { .. }
        | Statement::ShowViews { .. }
        | Statement::ShowCreate { .. } => Ok(()),
        Statement::Explain { statement, .. } => check_sql(statement),
        other => {
            let text = other.to_string();
            refuse(text.split_whitespace().next().unwrap_or("an empty statement"))
        }
    }
}

fn refuse(found: &str) -> Result<(), QueryError> {
    Err(QueryError::NotReading(found.to_ascii_uppercase()))
}

/// Checks that nothing in `plan`, its subqueries included, changes data, tables or settings.
///
/// # Errors
/// [`QueryError::NotReading`] names the operation found.
pub(crate) fn check_plan(plan: &LogicalPlan) -> Result<(), QueryError> {
    let reading =
        SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    reading.verify_plan(plan).map_err(|error| match error.find_root() {
        DataFusionError::Plan(message) => QueryError::NotReading(message.clone()),
        _ => error.into(),
    })
}
