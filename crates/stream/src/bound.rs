//! How far apart in time the rows may be that a join matches.

use arrow::datatypes::{DataType, IntervalUnit, TimeUnit};
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::expr::{Between, BinaryExpr};
use datafusion::logical_expr::{Expr, Operator};

/// The longest time between rows that match: about 73,000 years, so that sums do not overflow.
const MAX_MICROS: i64 = i64::MAX / 4;

/// One of the two inputs of a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Left,
    Right,
}

impl Side {
    pub(crate) const BOTH: [Self; 2] = [Self::Left, Self::Right];

    pub(crate) fn other(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }
}

/// Rows match whose times differ by `right - left` from `lo` to `hi`, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) lo: i64,
    pub(crate) hi: i64,
}

impl Bound {
    /// From where to where, relative to a row of `side`, the rows of the other side are that may
    /// match it.
    pub(crate) fn around(self, side: Side) -> (i64, i64) {
        match side {
            Side::Left => (self.lo, self.hi),
            Side::Right => (-self.hi, -self.lo),
        }
    }

    /// Rows of `side` before this match none of the other side that are at `watermark` or later.
    pub(crate) fn expired_before(self, side: Side, watermark: i64) -> i64 {
        let (_, to) = self.around(side);
        watermark.saturating_sub(to)
    }

    /// How far behind the watermark the row of `side` can be in a match that is yet to be found.
    ///
    /// One of the two rows is yet to come, so that it is not older than the watermark: the one of
    /// `side`, or the other one, which is at most `to` later.
    pub(crate) fn behind(self, side: Side) -> i64 {
        let (_, to) = self.around(side);
        to.max(0)
    }
}

/// What has been found of a bound.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Limits {
    lo: Option<i64>,
    hi: Option<i64>,
}

impl Limits {
    /// Takes up a condition. Answers whether it says no more than what was taken up, so that it
    /// need not be evaluated.
    pub(crate) fn take(
        &mut self,
        condition: &Expr,
        time_of: &impl Fn(&Column) -> Option<Side>,
    ) -> bool {
        match condition {
            Expr::Alias(alias) => self.take(&alias.expr, time_of),
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                self.compare(left, *op, right, time_of)
            }
            Expr::Between(Between { expr, negated: false, low, high }) => {
                let from = self.compare(expr, Operator::GtEq, low, time_of);
                let to = self.compare(expr, Operator::LtEq, high, time_of);
                from && to
            }
            _ => false,
        }
    }

    fn compare(
        &mut self,
        left: &Expr,
        op: Operator,
        right: &Expr,
        time_of: &impl Fn(&Column) -> Option<Side>,
    ) -> bool {
        let difference = || linear(left, time_of)?.minus(linear(right, time_of)?);
        let (op, value) = match difference() {
            Some(Linear { left: -1, right: 1, micros }) => (Some(op), -micros),
            // As seen from the other side.
            Some(Linear { left: 1, right: -1, micros }) => (op.swap(), micros),
            _ => return false,
        };
        match op {
            Some(Operator::Lt) => self.at_most(value - 1),
            Some(Operator::LtEq) => self.at_most(value),
            Some(Operator::Gt) => self.at_least(value + 1),
            Some(Operator::GtEq) => self.at_least(value),
            Some(Operator::Eq) => {
                self.at_least(value);
                self.at_most(value);
            }
            _ => return false,
        }
        true
    }

    fn at_least(&mut self, value: i64) {
        self.lo = Some(self.lo.map_or(value, |lo| lo.max(value)));
    }

    fn at_most(&mut self, value: i64) {
        self.hi = Some(self.hi.map_or(value, |hi| hi.min(value)));
    }

    /// The bound, once both of its ends are known.
    pub(crate) fn bound(self) -> Option<Bound> {
        Some(Bound { lo: self.lo?, hi: self.hi? })
    }
}

/// A sum of event times and intervals: how often the times of both sides are in it, and
/// microseconds.
#[derive(Debug, Clone, Copy)]
struct Linear {
    left: i64,
    right: i64,
    micros: i64,
}

impl Linear {
    fn plus(self, other: Self) -> Option<Self> {
        let micros = self.micros.checked_add(other.micros)?;
        (-MAX_MICROS..=MAX_MICROS).contains(&micros).then_some(Self {
            left: self.left + other.left,
            right: self.right + other.right,
            micros,
        })
    }

    fn minus(self, other: Self) -> Option<Self> {
        self.plus(other.negated())
    }

    fn negated(self) -> Self {
        Self { left: -self.left, right: -self.right, micros: -self.micros }
    }
}

/// `expr` as a sum of event times and intervals, if it is one.
fn linear(expr: &Expr, time_of: &impl Fn(&Column) -> Option<Side>) -> Option<Linear> {
    match expr {
        Expr::Column(column) => Some(match time_of(column)? {
            Side::Left => Linear { left: 1, right: 0, micros: 0 },
            Side::Right => Linear { left: 0, right: 1, micros: 0 },
        }),
        Expr::Literal(value, _) => {
            let micros = micros(value)?;
            Some(Linear { left: 0, right: 0, micros })
        }
        Expr::Alias(alias) => linear(&alias.expr, time_of),
        Expr::Negative(negative) => Some(linear(negative, time_of)?.negated()),
        Expr::Cast(cast) => match cast.expr.as_ref() {
            Expr::Literal(value, _) => {
                let micros = micros(&value.cast_to(cast.field.data_type()).ok()?)?;
                Some(Linear { left: 0, right: 0, micros })
            }
            inner if is_exact(cast.field.data_type()) => linear(inner, time_of),
            _ => None,
        },
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (left, right) = (linear(left, time_of)?, linear(right, time_of)?);
            match op {
                Operator::Plus => left.plus(right),
                Operator::Minus => left.minus(right),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Whether a cast to this type keeps all of an event time, or of a difference of two.
fn is_exact(to: &DataType) -> bool {
    matches!(
        to,
        DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, _)
            | DataType::Duration(TimeUnit::Microsecond | TimeUnit::Nanosecond)
            | DataType::Interval(IntervalUnit::MonthDayNano)
    )
}

/// An interval's length, if it is one always, and of whole microseconds.
fn micros(value: &ScalarValue) -> Option<i64> {
    if !matches!(value.data_type(), DataType::Interval(_) | DataType::Duration(_)) {
        return None;
    }
    let interval = value.cast_to(&DataType::Interval(IntervalUnit::MonthDayNano)).ok()?;
    let ScalarValue::IntervalMonthDayNano(Some(interval)) = interval else {
        return None;
    };
    if interval.months != 0 || interval.nanoseconds % 1_000 != 0 {
        return None;
    }
    let days = i64::from(interval.days) * 86_400_000_000;
    let micros = days.checked_add(interval.nanoseconds / 1_000)?;
    (-MAX_MICROS..=MAX_MICROS).contains(&micros).then_some(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Bound = Bound { lo: -60, hi: 1 };

    #[test]
    fn a_row_is_kept_as_long_as_one_at_the_watermark_can_match_it() {
        // Left row at `l` matches right rows from `l - 60` to `l + 1`.
        assert_eq!(BOUND.expired_before(Side::Left, 1_000), 999);
        assert_eq!(BOUND.expired_before(Side::Right, 1_000), 940);
        let later = Bound { lo: 10, hi: 20 };
        assert_eq!(later.expired_before(Side::Left, 1_000), 980);
        assert_eq!(later.expired_before(Side::Right, 1_000), 1_010);
    }

    #[test]
    fn a_match_can_be_as_old_as_its_row_that_was_kept_longest() {
        assert_eq!((BOUND.behind(Side::Left), BOUND.behind(Side::Right)), (1, 60));
        let later = Bound { lo: 10, hi: 20 };
        assert_eq!((later.behind(Side::Left), later.behind(Side::Right)), (20, 0));
    }

    #[test]
    fn before_the_first_watermark_nothing_expires() {
        for side in Side::BOTH {
            assert!(BOUND.expired_before(side, i64::MIN) < -1_000_000_000_000);
        }
    }
}
