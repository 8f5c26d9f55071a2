//! Which tables and rows a principal sees.

use std::sync::Arc;

use arrow::datatypes::{DataType, Schema};
use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::prelude::{col, lit};
use thalweg_access::{Principal, Scope, Services};
use thalweg_event::schema::column;

use crate::restricted::RestrictedTable;
use crate::{NamedTable, QueryError};

/// What a principal sees; principals that see the same share a session.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Sight {
    /// Everything: administrators.
    Everything,
    /// All but the tables for administrators.
    AllServices,
    /// Rows of these services.
    Services(Services),
}

impl Sight {
    pub(crate) fn of(principal: &Principal) -> Self {
        match principal.services() {
            Some(services) => Self::Services(Arc::clone(services)),
            None if principal.may(Scope::Admin) => Self::Everything,
            None => Self::AllServices,
        }
    }

    /// The table as it is seen, or `None` when it is not.
    pub(crate) fn table(&self, table: &NamedTable) -> Option<Arc<dyn TableProvider>> {
        let provider = Arc::clone(&table.provider);
        match self {
            Self::Everything => Some(provider),
            _ if table.is_for_admins => None,
            Self::AllServices => Some(provider),
            Self::Services(services) if has_service(&provider.schema()) => {
                Some(Arc::new(RestrictedTable::new(provider, is_of(services))))
            }
            // Whose rows these are cannot be told.
            Self::Services(_) => None,
        }
    }

    /// What holds for the rows seen of a table with a service.
    pub(crate) fn restriction(&self) -> Option<Expr> {
        match self {
            Self::Services(services) => Some(is_of(services)),
            _ => None,
        }
    }

    /// Refuses what would tell of rows that are not seen: how many there are, and in what files.
    ///
    /// # Errors
    /// [`QueryError::Forbidden`].
    pub(crate) fn check(&self, plan: &LogicalPlan) -> Result<(), QueryError> {
        let Self::Services(_) = self else { return Ok(()) };
        let mut explains = false;
        plan.apply_with_subqueries(|node| {
            explains |= matches!(node, LogicalPlan::Explain(_) | LogicalPlan::Analyze(_));
            Ok(if explains { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
        })?;
        if explains {
            return Err(QueryError::Forbidden(
                "EXPLAIN tells how rows of all services are stored, and this token is limited to \
                 some; ask someone whose token is not",
            ));
        }
        Ok(())
    }
}

/// Whether rows name their service.
fn has_service(schema: &Schema) -> bool {
    let is_text = |data_type: &DataType| match data_type {
        DataType::Dictionary(_, values) => values.is_string(),
        data_type => data_type.is_string(),
    };
    schema.field_with_name(column::SERVICE).is_ok_and(|field| is_text(field.data_type()))
}

/// `service IN (…)`.
fn is_of(services: &Services) -> Expr {
    col(column::SERVICE).in_list(services.iter().map(|name| lit(name.as_str())).collect(), false)
}
