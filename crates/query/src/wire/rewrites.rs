//! Rewrites of Postgres SQL that the layers below do not plan, in addition to those of
//! datafusion-postgres.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType, Expr, Statement, Value, visit_expressions_mut,
};

/// Arrays that psql's `\d+`, `\dn+` and `\du` show (`src/bin/psql/describe.c`) and that are always
/// empty here: storage options of a table, privileges of a schema, roles that a role is in.
const EMPTY_ARRAYS: [&str; 3] = ["c.reloptions", "n.nspacl", "pg_auth_members"];

/// Applies all rewrites.
pub(super) fn rewrite(mut statement: Statement) -> Statement {
    let _: ControlFlow<()> = visit_expressions_mut(&mut statement, |expr| {
        type_json_key(expr);
        drop_empty_array(expr);
        ControlFlow::Continue(())
    });
    statement
}

/// `attributes ->> $1`: Postgres takes the parameter for text, DataFusion's JSON functions refuse
/// a parameter without a type.
fn type_json_key(expr: &mut Expr) {
    let Expr::BinaryOp { op: BinaryOperator::Arrow | BinaryOperator::LongArrow, right, .. } = expr
    else {
        return;
    };
    if matches!(right.as_ref(), Expr::Value(value) if matches!(value.value, Value::Placeholder(_)))
    {
        let parameter = std::mem::replace(right.as_mut(), Expr::value(Value::Null));
        **right = Expr::Cast {
            kind: CastKind::DoubleColon,
            expr: Box::new(parameter),
            data_type: DataType::Text,
            array: false,
            format: None,
        };
    }
}

/// psql writes these arrays as `array(SELECT …)` or `array_to_string(…)`, over columns that
/// datafusion-postgres lacks or has as text.
fn drop_empty_array(expr: &mut Expr) {
    let Expr::Function(function) = expr else { return };
    let name = function.name.to_string().to_ascii_lowercase();
    if matches!(name.as_str(), "array" | "array_to_string") {
        let arguments = function.args.to_string();
        if EMPTY_ARRAYS.iter().any(|array| arguments.contains(array)) {
            *expr = Expr::value(Value::Null);
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn rewritten(sql: &str) -> String {
        let statement = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap().remove(0);
        rewrite(statement).to_string()
    }

    #[test]
    fn a_parameter_that_is_a_json_key_is_text() {
        assert_eq!(
            rewritten("SELECT a ->> $1, a -> $2, a ->> 'k' FROM t WHERE b = $3"),
            "SELECT a ->> $1::TEXT, a -> $2::TEXT, a ->> 'k' FROM t WHERE b = $3"
        );
    }

    #[test]
    fn only_the_arrays_that_psql_shows_are_dropped() {
        assert_eq!(
            rewritten(
                "SELECT array_to_string(c.reloptions || array(select 'toast.' || x from unnest(tc.reloptions) x), ', ')"
            ),
            "SELECT NULL"
        );
        for own in ["SELECT array_to_string(ARRAY[1], ', ')", "SELECT array(SELECT 1)"] {
            assert_ne!(rewritten(own), "SELECT NULL");
        }
    }
}
