//! The functions that open windows in SQL: `tumble`, `hop` and `session`.

use arrow::array::{AsArray, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, IntervalUnit, TimestampMicrosecondType};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::prelude::SessionContext;
use thalweg_event::schema::timestamp_type;

use crate::window::{MAX_OVERLAP, Window};

const TUMBLE: &str = "tumble";
const HOP: &str = "hop";
const SESSION: &str = "session";

/// Makes `tumble`, `hop` and `session` known to a session.
///
/// They group a continuous view by windows of event time. In other queries,
/// `tumble(interval, timestamp)` is the start of the window that a time falls into.
pub fn register(context: &SessionContext) {
    for name in [TUMBLE, HOP, SESSION] {
        context.register_udf(ScalarUDF::from(WindowFunction::new(name)));
    }
}

/// A window function's call in a query: the window, and the event time if it was given.
pub(crate) struct Call {
    pub(crate) window: Window,
    pub(crate) time: Option<Expr>,
}

impl Call {
    /// The call that `expr` is, if any.
    ///
    /// # Errors
    /// Why the call opens no window.
    pub(crate) fn of(expr: &Expr) -> Result<Option<Self>, String> {
        let Expr::ScalarFunction(function) = expr else {
            return Ok(None);
        };
        let name = function.name();
        let lengths = match name {
            TUMBLE | SESSION => 1,
            HOP => 2,
            _ => return Ok(None),
        };
        if !(lengths..=lengths + 1).contains(&function.args.len()) {
            return Err(format!(
                "`{expr}` has {} arguments, expected {}",
                function.args.len(),
                if name == HOP { "hop(size, slide)" } else { "one interval, and perhaps a time" }
            ));
        }
        let length = |n: usize| match &function.args[n] {
            Expr::Literal(value, _) => {
                micros(value).map_err(|reason| format!("`{expr}`: {reason}"))
            }
            other => Err(format!("`{expr}`: expected an interval, found `{other}`")),
        };
        let window = match name {
            TUMBLE => Window::Tumble { size: length(0)? },
            SESSION => Window::Session { gap: length(0)? },
            _ => Window::Hop { size: length(0)?, slide: length(1)? },
        };
        if let Window::Hop { size, slide } = window
            && (size % slide != 0 || size / slide > MAX_OVERLAP)
        {
            return Err(format!(
                "`{expr}`: expected a size that is a multiple of the slide, at most {MAX_OVERLAP} \
                 times as long"
            ));
        }
        Ok(Some(Self { window, time: function.args.get(lengths).cloned() }))
    }
}

/// An interval's length in microseconds.
fn micros(value: &ScalarValue) -> Result<i64, String> {
    let interval = value.cast_to(&DataType::Interval(IntervalUnit::MonthDayNano));
    let Ok(ScalarValue::IntervalMonthDayNano(Some(interval))) = interval else {
        return Err(format!("expected an interval such as INTERVAL '1 minute', found `{value}`"));
    };
    if interval.months != 0 {
        return Err("months differ in length; give days".into());
    }
    let days = i64::from(interval.days).checked_mul(86_400_000_000);
    match days.and_then(|days| days.checked_add(interval.nanoseconds / 1_000)) {
        Some(micros) if micros >= 1_000 => Ok(micros),
        _ => Err("expected a millisecond or more".into()),
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct WindowFunction {
    name: &'static str,
    signature: Signature,
}

impl WindowFunction {
    fn new(name: &'static str) -> Self {
        Self { name, signature: Signature::variadic_any(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for WindowFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(timestamp_type())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [ColumnarValue::Scalar(interval), time] = args.args.as_slice() else {
            return plan_err!(
                "{}() opens windows in the GROUP BY of a continuous view; other queries have \
                 tumble(interval, timestamp)",
                self.name
            );
        };
        if self.name != TUMBLE {
            return plan_err!("{}() opens windows in a continuous view only", self.name);
        }
        let size = match micros(interval) {
            Ok(size) => size,
            Err(reason) => return exec_err!("tumble(): {reason}"),
        };
        let times = time.cast_to(&timestamp_type(), None)?.into_array(args.number_rows)?;
        let window = Window::Tumble { size };
        let starts: TimestampMicrosecondArray =
            times.as_primitive::<TimestampMicrosecondType>().unary(|time| window.start(time));
        Ok(ColumnarValue::Array(std::sync::Arc::new(starts.with_timezone("UTC"))))
    }
}
