//! Pages of table `logs`, in the order of time.
//!
//! A page ends at a row, and the next one begins after the same row by (timestamp, event_id),
//! which no two rows share. Rows that arrive between two requests therefore neither shift a page
//! nor appear twice.

use datafusion::logical_expr::{Expr, LogicalPlan, Operator, SortExpr};
use datafusion::prelude::{DataFrame, col, lit};
use serde::Deserialize;
use thalweg_event::schema::column;

use crate::selection::matching;
use crate::{QueryError, filter};

/// Order of rows in time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Order {
    /// Oldest first.
    Asc,
    /// Newest first.
    #[default]
    Desc,
}

/// The row after which a page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) order: Order,
    pub(crate) timestamp_micros: i64,
    pub(crate) event_id: String,
}

impl Cursor {
    /// The cursor as text, which clients hand back unread.
    pub(crate) fn encode(&self) -> String {
        let order = match self.order {
            Order::Asc => 'a',
            Order::Desc => 'd',
        };
        let id: String = self.event_id.bytes().map(|byte| format!("{byte:02x}")).collect();
        format!("{order}{}_{id}", self.timestamp_micros)
    }

    /// Reads what [`Cursor::encode`] wrote, for a request of the same order.
    pub(crate) fn decode(text: &str, order: Order) -> Result<Self, QueryError> {
        let cursor = Self::parse(text).ok_or_else(|| {
            QueryError::parameter("cursor", "expected the next_cursor of an earlier answer")
        })?;
        if cursor.order != order {
            let message = "expected the same order as in the request that gave the cursor";
            return Err(QueryError::parameter("cursor", message));
        }
        Ok(cursor)
    }

    fn parse(text: &str) -> Option<Self> {
        let (order, rest) = match text.split_at_checked(1)? {
            ("a", rest) => (Order::Asc, rest),
            ("d", rest) => (Order::Desc, rest),
            _ => return None,
        };
        let (micros, hex) = rest.split_once('_')?;
        let bytes = hex.as_bytes().chunks(2).map(|pair| {
            let digits = std::str::from_utf8(pair).ok().filter(|digits| digits.len() == 2)?;
            u8::from_str_radix(digits, 16).ok()
        });
        let event_id = String::from_utf8(bytes.collect::<Option<_>>()?).ok()?;
        Some(Self { order, timestamp_micros: micros.parse().ok()?, event_id })
    }

    /// Rows that come after the cursor's row. The first condition follows from the second, and is
    /// there because files can be skipped by it.
    fn condition(&self) -> Expr {
        let (reach, beyond) = match self.order {
            Order::Asc => (Operator::GtEq, Operator::Gt),
            Order::Desc => (Operator::LtEq, Operator::Lt),
        };
        let id = col(column::EVENT_ID);
        let id_beyond = match self.order {
            Order::Asc => id.gt(lit(self.event_id.as_str())),
            Order::Desc => id.lt(lit(self.event_id.as_str())),
        };
        let time_beyond = filter::timestamp(beyond, self.timestamp_micros);
        filter::timestamp(reach, self.timestamp_micros).and(time_beyond.or(id_beyond))
    }
}

/// Plans the first `rows` rows of `logs` after `cursor` for which all `conditions` hold.
pub(crate) fn plan(
    logs: DataFrame,
    conditions: Vec<Expr>,
    order: Order,
    cursor: Option<&Cursor>,
    rows: usize,
) -> Result<LogicalPlan, QueryError> {
    let conditions = conditions.into_iter().chain(cursor.map(Cursor::condition));
    let ascending = order == Order::Asc;
    let by = |name: &str| -> SortExpr { col(name).sort(ascending, false) };
    let page = matching(logs, conditions)?
        .sort(vec![by(column::TIMESTAMP), by(column::EVENT_ID)])?
        .limit(0, Some(rows))?;
    Ok(page.into_unoptimized_plan())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cursor_of_the_other_order_is_refused() {
        let cursor = Cursor { order: Order::Asc, timestamp_micros: 1, event_id: "x".into() };
        assert!(Cursor::decode(&cursor.encode(), Order::Desc).is_err());
    }

    proptest! {
        #[test]
        fn a_cursor_survives_its_text(micros: i64, event_id in "\\PC{0,40}") {
            for order in [Order::Asc, Order::Desc] {
                let cursor =
                    Cursor { order, timestamp_micros: micros, event_id: event_id.clone() };
                prop_assert_eq!(Cursor::decode(&cursor.encode(), order).unwrap(), cursor);
            }
        }

        #[test]
        fn no_text_makes_the_decoder_panic(text in "[ad]?\\PC{0,30}") {
            let _ = Cursor::decode(&text, Order::Asc);
        }
    }
}
