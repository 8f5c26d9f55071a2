//! A view's query, taken apart into what is done to each batch.

mod join;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType};
use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Aggregate, Expr, Join, LogicalPlan, Volatility};
use datafusion::physical_expr::aggregate::{LoweredAggregate, LoweredAggregateBuilder};
use datafusion::physical_expr::{PhysicalExpr, expressions};
use thalweg_event::schema::timestamp_type;

use crate::aggregation::{Aggregation, Results};
use crate::config::ViewConfig;
use crate::error::{Result, StreamError};
use crate::functions::Call;
use crate::rows::{Step, Steps, keep};
use crate::stream::{Stream, Streams};

pub(crate) use join::JoinPlan;

/// First column of every view: when a window begins.
pub(crate) const WINDOW_START: &str = "window_start";
/// Second column of every view: when it ends.
pub(crate) const WINDOW_END: &str = "window_end";

/// A view's query as what is done to each batch of its stream.
///
/// ```text
/// batch ─▶ columns ─▶ before (WHERE, subqueries) ─▶ late? ─▶ aggregation ─▶ after (HAVING, SELECT)
/// ```
///
/// Of two streams, what their join finds goes this way from `before` on.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The streams that are read: one, or the two of a join, unless it joins one with itself.
    pub(crate) streams: Vec<Arc<Stream>>,
    pub(crate) join: Option<Arc<JoinPlan>>,
    /// Columns read of the one stream that is not joined; its event time is the last.
    columns: Vec<usize>,
    before: Steps,
    /// The event time of what comes out of `before`.
    time: Arc<dyn PhysicalExpr>,
    pub(crate) aggregation: Arc<Aggregation>,
    /// Where the window stands among the expressions grouped by.
    window_at: usize,
    /// Columns that grouping leaves, as `after` reads them.
    grouped: SchemaRef,
    after: Steps,
    /// Columns of the view, its windows first.
    pub(crate) output: SchemaRef,
}

/// Rows of a batch that are counted, and those that came too late.
pub(crate) struct Input {
    pub(crate) rows: RecordBatch,
    pub(crate) times: Int64Array,
    pub(crate) late: Option<RecordBatch>,
    /// Rows without an event time.
    pub(crate) timeless: usize,
}

impl Plan {
    /// Takes the query of `view` apart.
    ///
    /// # Errors
    /// [`StreamError::Definition`] says what is no view in it.
    pub(crate) async fn of(
        view: &ViewConfig,
        state: &SessionState,
        streams: &Streams,
    ) -> Result<Self> {
        let fault = |reason: String| StreamError::definition(view.name.as_str(), reason);
        let parsed = state.create_logical_plan(&view.query).await;
        let plan = parsed.map_err(|error| fault(error.strip_backtrace()))?;
        let analyzer = state.analyzer();
        let plan = analyzer
            .execute_and_check(plan, state.config_options(), |_, _| {})
            .map_err(|error| fault(error.strip_backtrace()))?;
        Planner { state, streams }.plan(&plan).map_err(|error| match error {
            Fault::Query(reason) => fault(reason),
            Fault::Engine(error) => fault(error.strip_backtrace()),
        })
    }

    /// Names of the columns read of the stream at `source` among the streams.
    pub(crate) fn columns(&self, source: usize) -> Vec<String> {
        let read = match &self.join {
            Some(join) => join.columns(source),
            None => self.columns.iter().copied().collect(),
        };
        let schema = &self.streams[source].schema;
        read.into_iter().map(|n| schema.field(n).name().clone()).collect()
    }

    /// Topics of all streams.
    pub(crate) fn topics(&self) -> Vec<String> {
        self.streams.iter().flat_map(|stream| stream.topics.iter().cloned()).collect()
    }

    /// Which of the streams has `topic`.
    pub(crate) fn source(&self, topic: &str) -> usize {
        let has = |stream: &Arc<Stream>| stream.topics.iter().any(|other| other == topic);
        self.streams.iter().position(has).unwrap_or(0)
    }

    /// Windows that end at or before this are closed when the watermark is at `watermark`.
    pub(crate) fn closed_until(&self, watermark: i64) -> i64 {
        let behind = self.join.as_ref().map_or(0, |join| join.bound.behind(join.timed));
        watermark.saturating_sub(behind)
    }

    /// Rows of a batch of the stream that the aggregation takes while the watermark is at
    /// `watermark`.
    pub(crate) fn input(&self, batch: &RecordBatch, watermark: i64) -> Result<Input> {
        let batch = self.streams[0].columns(batch, &self.columns)?;
        let mut rows = self.before.apply(batch, 1)?;
        let mut times = self.times(&rows)?;
        let timeless = times.null_count();
        if timeless > 0 {
            let known = arrow::compute::is_not_null(&times)?;
            rows = keep(&rows, &known)?;
            times = self.times(&rows)?;
        }
        let window = self.aggregation.window();
        let is_late = |time: &i64| window.late_from(*time) <= watermark;
        let mut late = None;
        if times.values().iter().any(is_late) {
            let mask = times.values().iter().map(is_late).collect::<Vec<bool>>().into();
            late = Some(keep(&rows, &mask)?);
            rows = keep(&rows, &arrow::compute::not(&mask)?)?;
            times = self.times(&rows)?;
        }
        Ok(Input { rows, times, late, timeless })
    }

    /// What the aggregation takes of rows that a join found. None is late: see
    /// [`Bound::behind`](crate::bound::Bound::behind).
    pub(crate) fn joined(&self, rows: RecordBatch) -> Result<Input> {
        let rows = self.before.apply(rows, 1)?;
        let times = self.times(&rows)?;
        Ok(Input { rows, times, late: None, timeless: 0 })
    }

    /// Event times of rows, in microseconds.
    pub(crate) fn times(&self, rows: &RecordBatch) -> Result<Int64Array> {
        let times = self.time.evaluate(rows)?.into_array(rows.num_rows())?;
        let times = cast(&times, &timestamp_type()).map_err(StreamError::from)?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        Ok(times.reinterpret_cast())
    }

    /// The view's rows of results.
    pub(crate) fn output(&self, results: Results) -> Result<RecordBatch> {
        let time = |values: &Int64Array| -> ArrayRef {
            let values = values.reinterpret_cast::<TimestampMicrosecondType>();
            Arc::new(values.with_timezone("UTC"))
        };
        let (starts, ends) = (time(&results.starts), time(&results.ends));
        let mut columns = results.keys;
        columns.insert(self.window_at, Arc::clone(&starts));
        columns.extend(results.values);
        columns.extend([starts, ends]);
        let rows = RecordBatch::try_new(Arc::clone(&self.grouped), columns)?;
        let mut rows = self.after.apply(rows, 2)?.columns().to_vec();
        let windows = rows.split_off(rows.len() - 2);
        // What does not fit becomes null: counts beyond 2⁶³.
        let fit = CastOptions { safe: true, ..CastOptions::default() };
        let columns = windows
            .iter()
            .chain(&rows)
            .zip(self.output.fields())
            .map(|(column, field)| cast_with_options(column, field.data_type(), &fit));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        Ok(RecordBatch::try_new(Arc::clone(&self.output), columns)?)
    }
}

/// Why a query is no view.
enum Fault {
    Query(String),
    Engine(datafusion::error::DataFusionError),
}

impl From<datafusion::error::DataFusionError> for Fault {
    fn from(error: datafusion::error::DataFusionError) -> Self {
        Self::Engine(error)
    }
}

impl From<arrow::error::ArrowError> for Fault {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::Engine(error.into())
    }
}

fn no_view<T>(reason: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Query(reason.into()))
}

struct Planner<'a> {
    state: &'a SessionState,
    streams: &'a Streams,
}

/// What lies below the aggregation, or below a side of a join.
struct Below<'p> {
    leaf: Leaf<'p>,
    /// The nodes above it, the lowest first.
    nodes: Vec<&'p LogicalPlan>,
}

/// Where rows come from.
enum Leaf<'p> {
    /// A stream, and its columns as the planner names them.
    Stream(Arc<Stream>, &'p DFSchema),
    Join(&'p Join),
}

/// What is read, as far as the expressions of the aggregation.
struct Read {
    streams: Vec<Arc<Stream>>,
    join: Option<Arc<JoinPlan>>,
    columns: Vec<usize>,
    before: Steps,
    /// The columns that `before` leaves.
    schema: DFSchema,
    time: Arc<dyn PhysicalExpr>,
}

impl Planner<'_> {
    fn plan(&self, plan: &LogicalPlan) -> Result<Plan, Fault> {
        let (aggregate, above) = self.find_aggregate(plan)?;
        let (window_at, call) = window_of(aggregate)?;
        let Below { leaf, nodes } = self.find_leaf(&aggregate.input)?;
        let Read { streams, join, columns, before, schema, time } = match leaf {
            Leaf::Stream(stream, scan) => self.read(stream, scan, &nodes, aggregate, &call)?,
            Leaf::Join(join) => self.join(join, &nodes, aggregate, window_at, &call)?,
        };

        let keys = aggregate.group_expr.iter().enumerate().filter(|(n, _)| *n != window_at);
        let keys = keys.map(|(_, key)| self.physical(key, &schema));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let aggregates = aggregate.aggr_expr.iter().map(|expr| self.aggregate(expr, &schema));
        let aggregates = aggregates.collect::<Result<Vec<_>, _>>()?;
        let aggregation = Aggregation::new(call.window, keys, aggregates, schema.as_arrow())?;
        let shown = above.last().map_or(&aggregate.schema, |top| top.schema()).as_arrow();
        let mut grouped = aggregate.schema.as_arrow().fields().to_vec();
        grouped.extend(window_fields().map(Arc::new));
        Ok(Plan {
            streams,
            join,
            columns,
            before,
            time,
            aggregation: Arc::new(aggregation),
            window_at,
            grouped: Arc::new(Schema::new(nullable(grouped))),
            output: output_schema(shown)?,
            after: self.after(&above)?,
        })
    }

    /// What is read of one stream.
    fn read(
        &self,
        stream: Arc<Stream>,
        scan: &DFSchema,
        nodes: &[&LogicalPlan],
        aggregate: &Aggregate,
        call: &Call,
    ) -> Result<Read, Fault> {
        let above = aggregate.group_expr.iter().chain(&aggregate.aggr_expr);
        let (columns, schema) = narrow(&stream, scan, &read_by(nodes, above))?;
        let (before, schema) = self.before(nodes, schema)?;
        let time: Arc<dyn PhysicalExpr> = match &call.time {
            Some(time) => self.physical(time, &schema)?,
            None => carried(&stream.time_column, &schema),
        };
        Ok(Read { streams: vec![stream], join: None, columns, before, schema, time })
    }

    /// The aggregation of the query, and the nodes above it, the lowest first.
    fn find_aggregate<'p>(
        &self,
        plan: &'p LogicalPlan,
    ) -> Result<(&'p Aggregate, Vec<&'p LogicalPlan>), Fault> {
        let mut above = vec![];
        let mut node = plan;
        loop {
            match node {
                LogicalPlan::Aggregate(aggregate) => {
                    above.reverse();
                    return Ok((aggregate, above));
                }
                LogicalPlan::Projection(projection) => {
                    above.push(node);
                    node = &projection.input;
                }
                LogicalPlan::Filter(filter) => {
                    above.push(node);
                    node = &filter.input;
                }
                LogicalPlan::SubqueryAlias(alias) => node = &alias.input,
                LogicalPlan::TableScan(_) | LogicalPlan::Join(_) => {
                    return no_view(
                        "expected GROUP BY with a window such as tumble(INTERVAL '1 minute')",
                    );
                }
                other => return no_view(unsupported(other)),
            }
        }
    }

    /// The stream or join that is read, and the nodes above it.
    fn find_leaf<'p>(&self, plan: &'p LogicalPlan) -> Result<Below<'p>, Fault> {
        let mut nodes = vec![];
        let mut node = plan;
        loop {
            let above = node;
            node = match node {
                LogicalPlan::TableScan(scan) => {
                    let name = scan.table_name.table();
                    let Some(stream) = self.streams.get(name) else {
                        let known = self.streams.names().join("`, `");
                        return no_view(format!("`{name}` is no stream; views read `{known}`"));
                    };
                    nodes.reverse();
                    return Ok(Below { leaf: Leaf::Stream(stream, &scan.projected_schema), nodes });
                }
                LogicalPlan::Join(join) => {
                    nodes.reverse();
                    return Ok(Below { leaf: Leaf::Join(join), nodes });
                }
                LogicalPlan::SubqueryAlias(alias) => &alias.input,
                LogicalPlan::Filter(filter) => &filter.input,
                LogicalPlan::Projection(projection) => &projection.input,
                LogicalPlan::Aggregate(_) => {
                    return no_view(
                        "expected one GROUP BY, found one inside another; make the inner one a \
                         view of its own and read that",
                    );
                }
                other => return no_view(unsupported(other)),
            };
            nodes.push(above);
        }
    }

    /// What the nodes between stream and aggregation do, and the columns that they leave.
    fn before(
        &self,
        nodes: &[&LogicalPlan],
        mut schema: DFSchema,
    ) -> Result<(Steps, DFSchema), Fault> {
        let mut steps = vec![];
        for node in nodes {
            match node {
                LogicalPlan::SubqueryAlias(alias) => {
                    let columns = schema.as_arrow().clone();
                    schema = DFSchema::try_from_qualified_schema(alias.alias.clone(), &columns)?;
                }
                LogicalPlan::Filter(filter) => {
                    steps.push(Step::Filter(self.physical(&filter.predicate, &schema)?));
                }
                LogicalPlan::Projection(projection) => {
                    steps.push(self.project(&projection.expr, &schema, &projection.schema)?);
                    schema = projection.schema.as_ref().clone();
                }
                other => return no_view(unsupported(other)),
            }
        }
        Ok((Steps { steps }, schema))
    }

    fn after(&self, above: &[&LogicalPlan]) -> Result<Steps, Fault> {
        let mut steps = vec![];
        for node in above {
            steps.push(match node {
                LogicalPlan::Filter(filter) => {
                    Step::Filter(self.physical(&filter.predicate, filter.input.schema())?)
                }
                LogicalPlan::Projection(projection) => {
                    let input = projection.input.schema();
                    self.project(&projection.expr, input, &projection.schema)?
                }
                other => return no_view(unsupported(other)),
            });
        }
        Ok(Steps { steps })
    }

    fn project(&self, exprs: &[Expr], input: &DFSchema, output: &DFSchema) -> Result<Step, Fault> {
        let physical = exprs.iter().map(|expr| self.physical(expr, input));
        let schema = Schema::new(nullable(output.as_arrow().fields().to_vec()));
        Ok(Step::Project(physical.collect::<Result<_, _>>()?, Arc::new(schema)))
    }

    fn physical(&self, expr: &Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>, Fault> {
        check_deterministic(expr)?;
        Ok(self.state.create_physical_expr(expr.clone(), schema)?)
    }

    fn aggregate(&self, expr: &Expr, schema: &DFSchema) -> Result<LoweredAggregate, Fault> {
        check_deterministic(expr)?;
        let context = PhysicalPlanningContext::default();
        let input = schema.as_arrow();
        let properties = self.state.execution_props();
        let lowered = LoweredAggregateBuilder::new(expr, schema, input, properties, &context);
        let lowered = lowered.build()?;
        if lowered.aggregate.order_sensitivity().hard_requires() {
            return no_view(format!("`{expr}`: a stream has no order; leave out its ORDER BY"));
        }
        Ok(lowered)
    }
}

/// The engine's own column behind those that `schema` names.
fn carried(name: &str, schema: &DFSchema) -> Arc<dyn PhysicalExpr> {
    Arc::new(expressions::Column::new(name, schema.fields().len()))
}

/// The expressions that read what lies below `nodes`: those of the nodes up to the first
/// projection and, without one, those `above`.
fn read_by<'e>(nodes: &[&LogicalPlan], above: impl IntoIterator<Item = &'e Expr>) -> Vec<Expr> {
    let mut exprs: Vec<Expr> = vec![];
    let projection = nodes.iter().position(|node| matches!(node, LogicalPlan::Projection(_)));
    for node in &nodes[..projection.map_or(nodes.len(), |n| n + 1)] {
        exprs.extend(node.expressions());
    }
    if projection.is_none() {
        exprs.extend(above.into_iter().cloned());
    }
    exprs
}

/// The columns of `stream` that `exprs` read, by their places and as the planner names them. Its
/// event time comes last, for the engine.
fn narrow(
    stream: &Stream,
    scan: &DFSchema,
    exprs: &[Expr],
) -> Result<(Vec<usize>, DFSchema), Fault> {
    let names: BTreeSet<&str> =
        exprs.iter().flat_map(Expr::column_refs).map(|column| column.name.as_str()).collect();
    let of_scan = scan.iter().enumerate();
    let needed = of_scan.filter(|(_, (_, field))| names.contains(field.name().as_str()));
    let (mut columns, fields): (Vec<usize>, Vec<_>) =
        needed.map(|(n, (qualifier, field))| (n, (qualifier.cloned(), Arc::clone(field)))).unzip();
    columns.push(stream.schema.index_of(&stream.time_column)?);
    Ok((columns, DFSchema::new_with_metadata(fields, Default::default())?))
}

/// The one window that rows are grouped by, and its place.
fn window_of(aggregate: &Aggregate) -> Result<(usize, Call), Fault> {
    let mut found = None;
    for (n, expr) in aggregate.group_expr.iter().enumerate() {
        if matches!(expr, Expr::GroupingSet(_)) {
            return no_view("grouping sets, CUBE and ROLLUP are not computed continuously");
        }
        if let Some(call) = Call::of(expr).map_err(Fault::Query)?
            && found.replace((n, call)).is_some()
        {
            return no_view("expected one window in GROUP BY, found two");
        }
    }
    match found {
        Some(found) => Ok(found),
        None => no_view(
            "expected a window in GROUP BY: tumble(INTERVAL '1 minute'), \
             hop(INTERVAL '5 minutes', INTERVAL '1 minute') or session(INTERVAL '30 minutes')",
        ),
    }
}

/// A restart computes the same again, or a view would count twice or not at all.
fn check_deterministic(expr: &Expr) -> Result<(), Fault> {
    let mut fault = None;
    expr.apply(|node| {
        if let Expr::ScalarFunction(function) = node
            && function.func.signature().volatility != Volatility::Immutable
        {
            let name = function.name();
            fault =
                Some(format!("`{name}()` does not always answer the same; it has no place here"));
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    fault.map_or(Ok(()), no_view)
}

fn unsupported(plan: &LogicalPlan) -> String {
    let found = match plan {
        LogicalPlan::Sort(_) => "ORDER BY: order the rows where you query the view",
        LogicalPlan::Limit(_) => "LIMIT: limit the rows where you query the view",
        LogicalPlan::Distinct(_) => "DISTINCT: group by the columns instead",
        LogicalPlan::Union(_) => "UNION: make two views",
        LogicalPlan::Window(_) => "OVER: compute it where you query the view",
        other => return format!("expected SELECT … FROM … GROUP BY, found {}", other.display()),
    };
    format!("a view cannot have {found}")
}

fn window_fields() -> [Field; 2] {
    [WINDOW_START, WINDOW_END].map(|name| Field::new(name, timestamp_type(), false))
}

/// The engine's computations say less about nulls than the planner concludes.
fn nullable(fields: Vec<Arc<Field>>) -> Vec<Arc<Field>> {
    fields.into_iter().map(|field| Arc::new(field.as_ref().clone().with_nullable(true))).collect()
}

/// Columns of the view: its windows, and what the query selects, in types that a table can have.
fn output_schema(shown: &Schema) -> Result<SchemaRef, Fault> {
    let mut fields = window_fields().to_vec();
    for field in shown.fields() {
        let name = field.name();
        if fields.iter().any(|other| other.name() == name) {
            return no_view(format!(
                "there are two columns `{name}`; every view has `{WINDOW_START}` and \
                 `{WINDOW_END}` of its own: leave it out, or name it otherwise with AS"
            ));
        }
        let stored = stored_type(field.data_type()).ok_or_else(|| {
            let found = field.data_type();
            Fault::Query(format!("column `{name}` is {found}; cast it to text or a number"))
        })?;
        fields.push(Field::new(name, stored, true));
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// The type that values of `computed` are stored in.
fn stored_type(computed: &DataType) -> Option<DataType> {
    Some(match computed {
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Date32
        | DataType::Utf8
        | DataType::Binary => computed.clone(),
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => DataType::Float64,
        DataType::Date64 => DataType::Date32,
        DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond, _)
        | DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, _) => timestamp_type(),
        DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            DataType::Binary
        }
        DataType::Dictionary(_, value) => return stored_type(value),
        _ => return None,
    })
}
