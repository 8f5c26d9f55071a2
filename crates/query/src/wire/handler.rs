//! Queries of Postgres clients, with the simple and the extended protocol.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Schema};
use arrow::error::ArrowError;
use async_trait::async_trait;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::Statement;
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::{Parser as SqlParser, ParserError};
use datafusion_postgres::arrow_pg::datatypes::df::deserialize_parameters_with_server_types;
use datafusion_postgres::arrow_pg::datatypes::{arrow_schema_to_pg_fields, encode_recordbatch};
use datafusion_postgres::datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use datafusion_postgres::pgwire::api::portal::{Format, Portal, PortalExecutionState};
use datafusion_postgres::pgwire::api::query::{
    ExtendedQueryHandler, SimpleQueryHandler, send_execution_response, send_partial_query_response,
};
use datafusion_postgres::pgwire::api::results::{QueryResponse, Response, Tag};
use datafusion_postgres::pgwire::api::stmt::QueryParser;
use datafusion_postgres::pgwire::api::store::{Entry, PortalStore};
use datafusion_postgres::pgwire::api::{
    ClientInfo, ClientPortalStore, ConnectionHandle, DEFAULT_NAME, Type,
};
use datafusion_postgres::pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::PgWireBackendMessage;
use datafusion_postgres::pgwire::messages::extendedquery::Execute;
use datafusion_postgres::pgwire::messages::response::EmptyQueryResponse;
use datafusion_postgres::{DfSessionService, Parser, QueryHook};
use futures::future::{self, BoxFuture, Either, Shared};
use futures::{FutureExt, Sink, SinkExt, StreamExt, stream};
use thalweg_access::{Asker, Principal};

use super::rewrites::rewrite;
use super::statements::{Planner, session_hooks};
use crate::{Limits, QueryEngine, QueryError, RunningQuery, View};

/// Where datafusion-postgres keeps the `statement_timeout` of a connection.
const STATEMENT_TIMEOUT_KEY: &str = "statement_timeout_ms";

/// Type of prepared statements that the hooks of datafusion-postgres expect.
pub(super) type Prepared = (String, Option<(Statement, LogicalPlan)>);

type Cancelled = Shared<BoxFuture<'static, ()>>;

/// Answers the queries of one connection, whose client has proved who it is.
pub(super) struct QueryHandler {
    view: View,
    syntax: PostgresCompatibilityParser,
    parser: Arc<Parser>,
    hooks: Vec<Arc<dyn QueryHook>>,
}

impl QueryHandler {
    /// Shows what `principal` sees.
    pub(super) fn open(
        engine: &Arc<QueryEngine>,
        principal: Arc<Principal>,
        address: SocketAddr,
    ) -> PgWireResult<Self> {
        let asker = Asker { principal, protocol: "postgres", address: Some(address) };
        let view = engine.view(asker).map_err(wire_error)?;
        let planner: Arc<dyn QueryHook> = Arc::new(Planner { view: view.clone() });
        let parsing = session_hooks().into_iter().chain([planner]).collect();
        let service = DfSessionService::new_with_hooks(Arc::new(view.context().clone()), parsing);
        Ok(Self {
            parser: service.query_parser(),
            syntax: PostgresCompatibilityParser::new(),
            hooks: session_hooks(),
            view,
        })
    }

    async fn start(
        &self,
        client: &(impl ClientInfo + ?Sized),
        plan: LogicalPlan,
        statement: &str,
    ) -> PgWireResult<RunningQuery> {
        // All rows: clients of this protocol read at their own pace, and expect all.
        let limits = Limits { rows: None, timeout: self.timeout(client) };
        self.view.start(plan, statement, limits).await.map_err(wire_error)
    }

    fn timeout(&self, client: &(impl ClientInfo + ?Sized)) -> Duration {
        let config = self.view.engine().config();
        let wanted = client.metadata().get(STATEMENT_TIMEOUT_KEY).and_then(|ms| ms.parse().ok());
        let wanted = wanted.map_or(config.default_timeout(), Duration::from_millis);
        wanted.min(Duration::from_secs(config.max_timeout_secs))
    }

    fn parse(&self, sql: &str) -> PgWireResult<Vec<Statement>> {
        self.syntax.parse(sql).map_err(|error| syntax_error(sql, &error))
    }
}

/// The rows of a query as messages, until the client cancels it.
fn rows(query: RunningQuery, format: &Format, cancelled: Cancelled) -> PgWireResult<Response> {
    // The same Postgres types come out of the query's schema and of the widened one.
    let fields = Arc::new(arrow_schema_to_pg_fields(query.schema(), format, None)?);
    let row_fields = fields.clone();
    let batches = stream::try_unfold((query, cancelled), next_batch);
    let rows = batches.flat_map(move |batch| {
        stream::iter(match batch {
            Ok(batch) => match widen_int8(&batch) {
                Ok(batch) => encode_recordbatch(row_fields.clone(), batch).collect(),
                Err(error) => vec![Err(wire_error(QueryError::Internal(error.to_string())))],
            },
            Err(error) => vec![Err(error)],
        })
    });
    Ok(Response::Query(QueryResponse::new(fields, rows)))
}

/// Eight-bit integers as sixteen-bit ones: arrow-pg calls them `int2`, but writes one byte in the
/// binary format where clients read two.
fn widen_int8(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    if !schema.fields().iter().any(|field| *field.data_type() == DataType::Int8) {
        return Ok(batch.clone());
    }
    let widened = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
        if *field.data_type() != DataType::Int8 {
            return Ok((field.clone(), column.clone()));
        }
        let field = field.as_ref().clone().with_data_type(DataType::Int16);
        Ok((Arc::new(field), cast(column, &DataType::Int16)?))
    });
    let (fields, columns): (Vec<FieldRef>, Vec<_>) =
        widened.collect::<Result<Vec<_>, ArrowError>>()?.into_iter().unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

type BatchAndRest = Option<(RecordBatch, (RunningQuery, Cancelled))>;

async fn next_batch(
    (mut query, cancelled): (RunningQuery, Cancelled),
) -> PgWireResult<BatchAndRest> {
    let batch = tokio::select! {
        batch = query.next_batch() => batch.map_err(wire_error)?,
        () = cancelled.clone() => return Err(wire_error(QueryError::Cancelled)),
    };
    Ok(batch.map(|batch| (batch, (query, cancelled))))
}

/// Completes when the client asks to cancel what it is running.
///
/// pgwire itself waits for this only until the first row, and stops waiting (as if cancelled)
/// when this is called: nothing may be awaited between this call and the end of `do_query`.
async fn cancellation(client: &(impl ClientInfo + ?Sized)) -> Cancelled {
    let request = match client.session_extensions().get::<Arc<ConnectionHandle>>() {
        Some(handle) => Some(handle.start_query().await),
        None => None,
    };
    let cancelled = async {
        // A receiver fails when the next query takes its place: then no request comes any more.
        let is_asked = match request {
            Some(request) => request.await.is_ok(),
            None => false,
        };
        if !is_asked {
            future::pending::<()>().await;
        }
    };
    cancelled.boxed().shared()
}

#[async_trait]
impl SimpleQueryHandler for QueryHandler {
    async fn do_query<C>(&self, client: &mut C, sql: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let mut answers = Vec::new();
        'statements: for statement in self.parse(sql)? {
            for hook in &self.hooks {
                let context = self.view.context();
                if let Some(answer) = hook.handle_simple_query(&statement, context, client).await {
                    answers.push(Either::Left(answer?));
                    continue 'statements;
                }
            }
            let text = statement.to_string();
            let statement = DfStatement::Statement(Box::new(rewrite(statement)));
            let plan = self.view.plan(statement).await.map_err(wire_error)?;
            answers.push(Either::Right(self.start(client, plan, &text).await?));
        }
        let cancelled = cancellation(client).await;
        let response = |answer| match answer {
            Either::Left(response) => Ok(response),
            Either::Right(query) => rows(query, &Format::UnifiedText, cancelled.clone()),
        };
        answers.into_iter().map(response).collect()
    }
}

#[async_trait]
impl ExtendedQueryHandler for QueryHandler {
    type Statement = Prepared;
    type QueryParser = Parser;

    fn query_parser(&self) -> Arc<Parser> {
        self.parser.clone()
    }

    async fn do_query<C>(
        &self,
        client: &mut C,
        portal: &Portal<Prepared>,
        _max_rows: usize,
    ) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let prepared = &portal.statement.statement;
        let (text, Some((statement, plan))) = prepared else { return Ok(Response::EmptyQuery) };
        let wire_types = self.parser.get_parameter_types(prepared)?;
        let wire_types: Vec<Option<&Type>> = wire_types.iter().map(Some).collect();
        let types = parameter_types(plan)?;
        let types: Vec<Option<&DataType>> = types.iter().map(Option::as_ref).collect();
        let values = deserialize_parameters_with_server_types(portal, &types, &wire_types)?;
        for hook in &self.hooks {
            let context = self.view.context();
            let answer = hook.handle_extended_query(statement, plan, &values, context, client);
            if let Some(answer) = answer.await {
                return answer;
            }
        }
        let plan = plan
            .clone()
            .replace_params_with_values(&values)
            .map_err(|error| wire_error(error.into()))?;
        let query = self.start(client, plan, text).await?;
        rows(query, &portal.result_column_format, cancellation(client).await)
    }

    /// Sends rows as they come. (pgwire's own way collects all rows of a fetch first.)
    async fn on_execute<C>(&self, client: &mut C, message: Execute) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME);
        let portal = match client.portal_store().get_portal(name) {
            Some(Entry::Value(portal)) => portal,
            _ => return self._on_execute(client, message).await,
        };
        let max_rows = usize::try_from(message.max_rows).unwrap_or(0);
        let state = portal.state();
        let mut state = state.lock().await;
        if matches!(*state, PortalExecutionState::Initial) {
            let query = ExtendedQueryHandler::do_query(self, client, &portal, max_rows);
            match query.await? {
                Response::Query(rows) => *state = PortalExecutionState::Suspended(rows),
                other => return finish_without_rows(client, other).await,
            }
        }
        let PortalExecutionState::Suspended(rows) = &mut *state else {
            return send_execution_response(client, Tag::new("SELECT").with_rows(0)).await;
        };
        let sent = send_partial_query_response(client, rows, max_rows).await;
        if !matches!(sent, Ok(true)) {
            *state = PortalExecutionState::Finished;
        }
        sent.map(|_| ())
    }
}

async fn finish_without_rows<C>(client: &mut C, response: Response) -> PgWireResult<()>
where
    C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
    C::Error: Debug,
    PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
{
    let status = client.transaction_status();
    let (tag, status) = match response {
        Response::Execution(tag) => (tag, status),
        Response::TransactionStart(tag) => (tag, status.to_in_transaction_state()),
        Response::TransactionEnd(tag) => (tag, status.to_idle_state()),
        Response::EmptyQuery => {
            let empty = PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new());
            return Ok(client.feed(empty).await?);
        }
        Response::Error(error) => return Err(PgWireError::UserError(error)),
        Response::Query(_) | Response::CopyIn(_) | Response::CopyOut(_) | Response::CopyBoth(_) => {
            return Err(wire_error(QueryError::Internal("unexpected rows or COPY".to_owned())));
        }
    };
    client.set_transaction_status(status);
    send_execution_response(client, tag).await
}

/// Types of the parameters `$1`, `$2`, … as far as the plan tells.
fn parameter_types(plan: &LogicalPlan) -> PgWireResult<Vec<Option<DataType>>> {
    let types = plan.get_parameter_types().map_err(|error| wire_error(error.into()))?;
    let mut types: Vec<(u32, Option<DataType>)> = types
        .into_iter()
        .map(|(name, data_type)| {
            (name.trim_start_matches('$').parse().unwrap_or(u32::MAX), data_type)
        })
        .collect();
    types.sort_by_key(|(number, _)| *number);
    Ok(types.into_iter().map(|(_, data_type)| data_type).collect())
}

/// The error as Postgres clients know it (appendix "PostgreSQL Error Codes").
pub(super) fn wire_error(error: QueryError) -> PgWireError {
    let code = match &error {
        QueryError::Syntax { .. } => "42601",
        QueryError::Invalid { .. } | QueryError::Table { .. } => "42000",
        QueryError::NotReading(_) => "25006",
        QueryError::Forbidden(_) => "42501",
        QueryError::Parameter { .. } | QueryError::NotFound(_) | QueryError::NotAcceptable(_) => {
            "22023"
        }
        QueryError::TooManyQueries { .. } | QueryError::TooManyTailers { .. } => "53000",
        QueryError::Timeout(_) | QueryError::Cancelled => "57014",
        QueryError::Memory(_) => "53200",
        QueryError::Execution(_) => "22000",
        QueryError::Internal(_) => "XX000",
    };
    let info = ErrorInfo::new("ERROR".to_owned(), code.to_owned(), error.to_string());
    PgWireError::UserError(Box::new(info))
}

/// A syntax error with its position. The rewriting parser has lost it: the plain one is asked.
fn syntax_error(sql: &str, error: &ParserError) -> PgWireError {
    let plain = SqlParser::parse_sql(&PostgreSqlDialect {}, sql).err();
    let error = QueryError::from(plain.as_ref().unwrap_or(error));
    let position = error.position().and_then(|position| {
        let line = usize::try_from(position.line).ok()?.checked_sub(1)?;
        let before: usize =
            sql.split_inclusive('\n').take(line).map(|line| line.chars().count()).sum();
        Some((before + usize::try_from(position.column).ok()?).to_string())
    });
    match wire_error(error) {
        PgWireError::UserError(mut info) => {
            info.position = position;
            PgWireError::UserError(info)
        }
        other => other,
    }
}
