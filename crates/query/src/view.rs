//! What one asker sees and may ask.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::DFSchema;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::prelude::{DataFrame, SessionContext};
use datafusion::sql::parser::Statement;
use futures::stream::BoxStream;
use thalweg_access::{Asker, Record};

use crate::engine::{QueryEngine, json_values_as_text};
use crate::places::Places;
use crate::run::{Limits, RunningQuery, count};
use crate::sight::Sight;
use crate::view_statement::{ViewStatement, said};
use crate::{QueryError, read_only};

/// The engine as one asker sees it: the tables and rows it may read, and nothing that tells of
/// others. Every question is asked through one, and leaves an entry in the audit log.
#[derive(Clone)]
pub struct View {
    engine: Arc<QueryEngine>,
    context: SessionContext,
    sight: Sight,
    asker: Asker,
    /// Where its queries run, if not among those of all users.
    places: Option<Places>,
}

impl View {
    pub(crate) fn new(
        engine: Arc<QueryEngine>,
        context: SessionContext,
        sight: Sight,
        asker: Asker,
    ) -> Self {
        Self { engine, context, sight, asker, places: None }
    }

    /// The same, but its queries run in `places`, for which they wait, and not among those of
    /// users.
    #[must_use]
    pub fn within(self, places: Places) -> Self {
        Self { places: Some(places), ..self }
    }

    /// The engine seen.
    pub fn engine(&self) -> &Arc<QueryEngine> {
        &self.engine
    }

    /// Answers one SQL statement, or carries out one about continuous views.
    ///
    /// # Errors
    /// See [`QueryError`]; errors met after the first rows come out of the returned query.
    pub async fn sql(&self, sql: &str, limits: Limits) -> Result<RunningQuery, QueryError> {
        let record = self.record(sql);
        let dialect = self.context.state().config_options().sql_parser.dialect;
        let statement = self.context.state().sql_to_statement(sql, &dialect)?;
        let plan = match ViewStatement::of(&statement)? {
            Some(statement) => said(&statement.run(&self.engine, &self.asker).await?)?,
            None => self.plan(statement).await?,
        };
        self.run(plan, limits, record).await
    }

    /// Plans a statement, if it only reads.
    ///
    /// # Errors
    /// [`QueryError::NotReading`] when it does more, [`QueryError::Invalid`] when it makes no
    /// sense, [`QueryError::Forbidden`] when it would tell of what the asker does not see.
    pub async fn plan(&self, statement: Statement) -> Result<LogicalPlan, QueryError> {
        let planned = async {
            read_only::check_statement(&statement)?;
            let plan = self.context.state().statement_to_plan(statement).await?;
            read_only::check_plan(&plan)?;
            self.sight.check(&plan)?;
            json_values_as_text(plan)
        };
        planned.await.inspect_err(|_| count("invalid"))
    }

    /// Starts executing a plan, made of this view's tables from `statement`, and returns once its
    /// first rows are there, or it has ended.
    ///
    /// # Errors
    /// [`QueryError::NotReading`] when the plan changes anything, [`QueryError::TooManyQueries`]
    /// at the limit of running queries, or why the plan failed before its first rows.
    pub async fn start(
        &self,
        plan: LogicalPlan,
        statement: &str,
        limits: Limits,
    ) -> Result<RunningQuery, QueryError> {
        let record = self.record(statement);
        read_only::check_plan(&plan)?;
        self.run(plan, limits, record).await
    }

    async fn run(
        &self,
        plan: LogicalPlan,
        limits: Limits,
        mut record: Record,
    ) -> Result<RunningQuery, QueryError> {
        let permit = match &self.places {
            Some(places) => places.take().await,
            None => self.engine.admit_query().inspect_err(|_| {
                record.set_outcome("refused", 0);
                count("refused");
            })?,
        };
        let (runtime, state) = (self.engine.runtime(), self.context.state());
        RunningQuery::start(runtime, state, plan, limits, permit, record).await
    }

    /// Begins the entry of something asked in the audit log.
    pub(crate) fn record(&self, statement: &str) -> Record {
        self.engine.audit().begin(&self.asker, statement)
    }

    /// A table by name, to build a plan on.
    pub(crate) async fn table(&self, name: &str) -> Result<DataFrame, QueryError> {
        Ok(self.context.table(name).await?)
    }

    pub(crate) fn physical_expr(
        &self,
        expr: Expr,
        schema: &DFSchema,
    ) -> Result<Arc<dyn PhysicalExpr>, QueryError> {
        Ok(self.context.create_physical_expr(expr, schema)?)
    }

    /// The rows that arrive from now on, those of other services among them: what
    /// [`View::restriction`] lets through is what the asker sees.
    pub(crate) fn live_logs(&self) -> BoxStream<'static, RecordBatch> {
        self.engine.live_logs()
    }

    /// What holds for the rows of a table with a service that the asker sees; `None` when it sees
    /// all.
    pub(crate) fn restriction(&self) -> Option<Expr> {
        self.sight.restriction()
    }

    pub(crate) fn context(&self) -> &SessionContext {
        &self.context
    }
}
