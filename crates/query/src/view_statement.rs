//! `CREATE VIEW` and `DROP VIEW`: the statements that change what there is to query.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, lit};
use datafusion::sql::parser::Statement as DfStatement;
use datafusion::sql::sqlparser::ast::{
    CreateTableOptions, CreateView, Expr, ObjectName, ObjectType, SqlOption, Statement, Value,
};
use thalweg_access::{Asker, Scope};

use crate::{QueryEngine, QueryError};

/// Carries out statements about continuous views: a seam, for queries know nothing of streams.
#[async_trait]
pub trait ViewStatements: Send + Sync + 'static {
    /// Creates a view; with `or_replace`, in place of one of the same name.
    ///
    /// # Errors
    /// Why there is no such view now, for the asker to read.
    async fn create_view(&self, view: ViewDefinition, or_replace: bool) -> Result<(), String>;

    /// Drops a view. Answers whether there was one.
    ///
    /// # Errors
    /// Why it is still there, for the asker to read.
    async fn drop_view(&self, name: &str) -> Result<bool, String>;
}

/// `CREATE VIEW name WITH (option = value, …) AS query`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewDefinition {
    /// Name.
    pub name: String,
    /// Options, their values as text.
    pub options: BTreeMap<String, String>,
    /// The query behind `AS`.
    pub query: String,
}

/// A statement about views.
pub(crate) enum ViewStatement {
    Create { view: ViewDefinition, or_replace: bool, if_not_exists: bool },
    Drop { name: String, if_exists: bool },
}

impl ViewStatement {
    /// The statement about a view that `statement` is, if any.
    ///
    /// # Errors
    /// [`QueryError::Invalid`] when it asks for what views do not have.
    pub(crate) fn of(statement: &DfStatement) -> Result<Option<Self>, QueryError> {
        let DfStatement::Statement(statement) = statement else {
            return Ok(None);
        };
        match statement.as_ref() {
            Statement::CreateView(create) => Self::create(create).map(Some),
            Statement::Drop {
                object_type: ObjectType::View, if_exists, names, cascade, ..
            } => {
                let [name] = names.as_slice() else {
                    return Err(invalid("expected one view to drop"));
                };
                if *cascade {
                    return Err(invalid("CASCADE is not known; drop the views that read it first"));
                }
                Ok(Some(Self::Drop { name: simple(name)?, if_exists: *if_exists }))
            }
            _ => Ok(None),
        }
    }

    fn create(create: &CreateView) -> Result<Self, QueryError> {
        if create.temporary || create.to.is_some() || !create.columns.is_empty() {
            return Err(invalid(
                "expected CREATE VIEW name [WITH (option = value, …)] AS SELECT …",
            ));
        }
        let mut options = BTreeMap::new();
        let stated = match &create.options {
            CreateTableOptions::None => &[][..],
            CreateTableOptions::With(stated) | CreateTableOptions::Options(stated) => stated,
            _ => return Err(invalid("expected options as WITH (option = value, …)")),
        };
        for option in stated {
            let SqlOption::KeyValue { key, value: Expr::Value(value) } = option else {
                return Err(invalid(format!("expected option = value, found `{option}`")));
            };
            let value = match &value.value {
                Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => text.clone(),
                other => other.to_string(),
            };
            options.insert(key.value.to_lowercase(), value);
        }
        Ok(Self::Create {
            view: ViewDefinition {
                name: simple(&create.name)?,
                options,
                query: create.query.to_string(),
            },
            or_replace: create.or_replace || create.or_alter,
            if_not_exists: create.if_not_exists,
        })
    }

    /// Carries the statement out for `asker`, to its end, also when nobody waits for that any more;
    /// answers what was done.
    ///
    /// # Errors
    /// [`QueryError::Forbidden`] without the scope `admin`, [`QueryError::Invalid`] with the
    /// reason when it cannot be carried out.
    pub(crate) async fn run(
        self,
        engine: &Arc<QueryEngine>,
        asker: &Asker,
    ) -> Result<String, QueryError> {
        let run = self.carry_out(Arc::clone(engine), asker.clone());
        tokio::spawn(run).await.unwrap_or_else(|error| Err(invalid(error.to_string())))
    }

    async fn carry_out(self, engine: Arc<QueryEngine>, asker: Asker) -> Result<String, QueryError> {
        if !asker.principal.may(Scope::Admin) {
            return Err(QueryError::Forbidden(
                "views are created and dropped with the scope `admin`, which this token lacks",
            ));
        }
        let Some(views) = engine.view_statements() else {
            return Err(invalid("this server keeps no views"));
        };
        match self {
            Self::Create { view, or_replace, if_not_exists } => {
                let name = view.name.clone();
                match views.create_view(view, or_replace).await {
                    Ok(()) => Ok(format!("view {name} created")),
                    Err(_) if if_not_exists && engine.has_table(&name) => {
                        Ok(format!("view {name} exists"))
                    }
                    Err(reason) => Err(invalid(reason)),
                }
            }
            Self::Drop { name, if_exists } => {
                match views.drop_view(&name).await.map_err(invalid)? {
                    true => Ok(format!("view {name} dropped")),
                    false if if_exists => Ok(format!("there is no view {name}")),
                    false => Err(invalid(format!("there is no view {name}"))),
                }
            }
        }
    }
}

/// A query whose one row says what was done.
pub(crate) fn said(text: &str) -> Result<LogicalPlan, QueryError> {
    let row = LogicalPlanBuilder::empty(true).project([lit(text).alias("status")])?;
    Ok(row.build()?)
}

fn simple(name: &ObjectName) -> Result<String, QueryError> {
    let parts: Option<Vec<_>> = name.0.iter().map(|part| part.as_ident()).collect();
    match parts.as_deref() {
        Some([name]) if name.quote_style.is_some() => Ok(name.value.clone()),
        Some([name]) => Ok(name.value.to_lowercase()),
        _ => Err(invalid(format!("expected the name of a view, found `{name}`"))),
    }
}

fn invalid(message: impl Into<String>) -> QueryError {
    QueryError::Invalid { message: message.into(), position: None }
}
