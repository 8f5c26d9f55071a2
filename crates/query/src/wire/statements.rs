//! Statements about the session, which drivers send and which do nothing here.
//!
//! datafusion-postgres answers `SET`, `SHOW`, `BEGIN`, `COMMIT` and `ROLLBACK`, but hands settings
//! it does not know to DataFusion, whose session all clients share. These hooks come first: they
//! let through what stays within the connection, and answer the rest without an effect.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::{DFSchema, ParamValues};
use datafusion::logical_expr::{EmptyRelation, LogicalPlan};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{DiscardObject, Set, Statement};
use datafusion_postgres::QueryHook;
use datafusion_postgres::hooks::HookClient;
use datafusion_postgres::hooks::set_show::SetShowHook;
use datafusion_postgres::hooks::transactions::TransactionStatementHook;
use datafusion_postgres::pgwire::api::ClientInfo;
use datafusion_postgres::pgwire::api::results::{Response, Tag};
use datafusion_postgres::pgwire::error::PgWireResult;

use super::handler::wire_error;
use super::rewrites::rewrite;
use crate::{QueryError, View};

/// Settings that datafusion-postgres keeps in the connection.
const CONNECTION_SETTINGS: [&str; 7] = [
    "application_name",
    "bytea_output",
    "datestyle",
    "extra_float_digits",
    "intervalstyle",
    "search_path",
    "statement_timeout",
];

/// Hooks for statements about the session, in the order in which they are asked.
pub(super) fn session_hooks() -> Vec<Arc<dyn QueryHook>> {
    vec![Arc::new(TransactionStatementHook), Arc::new(Harmless), Arc::new(SetShowHook)]
}

/// Answers statements without an effect.
struct Harmless;

impl Harmless {
    /// The command tag of a statement that is answered without an effect.
    fn tag(statement: &Statement) -> Option<PgWireResult<&'static str>> {
        match statement {
            Statement::Set(Set::SingleAssignment { variable, .. }) => {
                let name = variable.to_string().to_ascii_lowercase();
                if name.starts_with("datafusion.") {
                    return Some(Err(wire_error(QueryError::NotReading(format!("SET {name}")))));
                }
                let kept = CONNECTION_SETTINGS.contains(&name.as_str());
                (!kept).then_some(Ok("SET"))
            }
            Statement::Set(Set::SetTimeZone { local: false, .. }) => None,
            Statement::Set(_) => Some(Ok("SET")),
            Statement::Discard { object_type: DiscardObject::ALL } => Some(Ok("DISCARD ALL")),
            Statement::Discard { .. } => Some(Ok("DISCARD")),
            // Statements prepared with the protocol are closed with the protocol.
            Statement::Deallocate { .. } => Some(Ok("DEALLOCATE")),
            Statement::Savepoint { .. } => Some(Ok("SAVEPOINT")),
            Statement::ReleaseSavepoint { .. } => Some(Ok("RELEASE")),
            Statement::UNLISTEN { .. } => Some(Ok("UNLISTEN")),
            _ => None,
        }
    }

    fn answer(statement: &Statement) -> Option<PgWireResult<Response>> {
        Self::tag(statement).map(|tag| tag.map(|tag| Response::Execution(Tag::new(tag))))
    }
}

#[async_trait]
impl QueryHook for Harmless {
    async fn handle_simple_query(
        &self,
        statement: &Statement,
        _context: &SessionContext,
        _client: &mut dyn HookClient,
    ) -> Option<PgWireResult<Response>> {
        Self::answer(statement)
    }

    async fn handle_extended_parse_query(
        &self,
        statement: &Statement,
        _context: &SessionContext,
        _client: &(dyn ClientInfo + Send + Sync),
    ) -> Option<PgWireResult<LogicalPlan>> {
        Self::tag(statement).map(|tag| tag.map(|_| nothing()))
    }

    async fn handle_extended_query(
        &self,
        statement: &Statement,
        _plan: &LogicalPlan,
        _parameters: &ParamValues,
        _context: &SessionContext,
        _client: &mut dyn HookClient,
    ) -> Option<PgWireResult<Response>> {
        Self::answer(statement)
    }
}

fn nothing() -> LogicalPlan {
    LogicalPlan::EmptyRelation(EmptyRelation {
        produce_one_row: false,
        schema: Arc::new(DFSchema::empty()),
    })
}

/// Plans prepared statements through the engine's gate; the last hook, so that no statement goes
/// round it.
pub(super) struct Planner {
    pub(super) view: View,
}

#[async_trait]
impl QueryHook for Planner {
    async fn handle_simple_query(
        &self,
        _statement: &Statement,
        _context: &SessionContext,
        _client: &mut dyn HookClient,
    ) -> Option<PgWireResult<Response>> {
        None
    }

    async fn handle_extended_parse_query(
        &self,
        statement: &Statement,
        _context: &SessionContext,
        _client: &(dyn ClientInfo + Send + Sync),
    ) -> Option<PgWireResult<LogicalPlan>> {
        let statement = DfStatement::Statement(Box::new(rewrite(statement.clone())));
        Some(self.view.plan(statement).await.map_err(wire_error))
    }

    async fn handle_extended_query(
        &self,
        _statement: &Statement,
        _plan: &LogicalPlan,
        _parameters: &ParamValues,
        _context: &SessionContext,
        _client: &mut dyn HookClient,
    ) -> Option<PgWireResult<Response>> {
        None
    }
}
