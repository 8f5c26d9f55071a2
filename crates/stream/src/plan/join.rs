//! A join of two streams, taken apart into what is done to each of them.

use std::collections::BTreeSet;

use arrow::array::ArrayRef;
use datafusion::common::{Column, JoinType, TableReference};
use datafusion::logical_expr::expr::BinaryExpr;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{LogicalPlan as Node, Operator};

use super::*;
use crate::bound::{Bound, Limits, Side};

/// A join as what is done to the batches of its two sides.
///
/// ```text
/// batch ─▶ late? ─▶ columns ─▶ before (WHERE, subqueries) ─▶ values, keys, time ─▶ match
/// ```
///
/// Rows of both sides match whose keys are equal and whose times are within the bound. Whatever
/// else is asked of them is the first step of [`Plan::before`](super::Plan).
#[derive(Debug)]
pub(crate) struct JoinPlan {
    /// The left side and the right side.
    pub(crate) sides: [JoinSide; 2],
    pub(crate) bound: Bound,
    /// The side whose event time tells the windows.
    pub(crate) timed: Side,
    /// Columns of joined rows: the values of both sides, and the event time.
    pub(crate) joined: SchemaRef,
}

/// One side of a join.
#[derive(Debug)]
pub(crate) struct JoinSide {
    /// Place of its stream among those that are read.
    pub(crate) source: usize,
    /// Columns read of the stream; its event time is the last.
    pub(crate) columns: Vec<usize>,
    before: Steps,
    /// Columns, of those that `before` leaves, that joined rows have.
    values: Vec<usize>,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    /// Columns of its rows until they are joined: values, keys, and the event time.
    pub(crate) schema: SchemaRef,
}

impl JoinPlan {
    pub(crate) fn side(&self, side: Side) -> &JoinSide {
        &self.sides[side as usize]
    }

    /// Columns that are read of the stream at `source`.
    pub(crate) fn columns(&self, source: usize) -> BTreeSet<usize> {
        let sides = self.sides.iter().filter(|side| side.source == source);
        sides.flat_map(|side| side.columns.iter().copied()).collect()
    }
}

impl JoinSide {
    /// How many columns are values.
    pub(crate) fn values(&self) -> usize {
        self.values.len()
    }

    /// Places of the keys.
    pub(crate) fn keys(&self) -> std::ops::Range<usize> {
        self.values.len()..self.schema.fields().len() - 1
    }

    /// Rows of the stream's columns that may match some of the other side, with the last
    /// `carried` of their columns, and those that they are joined by.
    fn candidates(
        &self,
        rows: RecordBatch,
        carried: usize,
    ) -> Result<(RecordBatch, Vec<ArrayRef>)> {
        let rows = self.before.apply(rows, carried)?;
        let key_fields = self.schema.fields()[self.keys()].iter();
        let evaluate = |(key, field): (&Arc<dyn PhysicalExpr>, &Arc<Field>)| -> Result<ArrayRef> {
            let values = key.evaluate(&rows)?.into_array(rows.num_rows())?;
            Ok(cast(&values, field.data_type())?)
        };
        let keys = self.keys.iter().zip(key_fields).map(evaluate).collect::<Result<Vec<_>>>()?;
        if keys.iter().all(|key| key.logical_null_count() == 0) {
            return Ok((rows, keys));
        }
        // A null equals nothing.
        let known = |rows: Option<arrow::array::BooleanArray>, key: &ArrayRef| -> Result<_> {
            let known = arrow::compute::is_not_null(key)?;
            Ok(Some(match rows {
                Some(rows) => arrow::compute::and(&rows, &known)?,
                None => known,
            }))
        };
        let Some(known) = keys.iter().try_fold(None, known)? else {
            return Ok((rows, keys));
        };
        let filter = |key: &ArrayRef| arrow::compute::filter(key, &known);
        let keys = keys.iter().map(filter).collect::<Result<_, _>>()?;
        Ok((keep(&rows, &known)?, keys))
    }

    /// Rows of a batch that may match some of the other side.
    pub(crate) fn input(&self, stream: &Stream, batch: &RecordBatch) -> Result<RecordBatch> {
        let (rows, keys) = self.candidates(stream.columns(batch, &self.columns)?, 1)?;
        let mut columns = rows.project(&self.values)?.columns().to_vec();
        columns.extend(keys);
        columns.push(Arc::clone(rows.column(rows.num_columns() - 1)));
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    /// Which rows of a batch may match some of the other side, by their places.
    pub(crate) fn places(&self, stream: &Stream, batch: &RecordBatch) -> Result<Int64Array> {
        let rows = stream.columns(batch, &self.columns)?;
        let mut columns = rows.columns().to_vec();
        columns.push(Arc::new(Int64Array::from_iter_values(0..rows.num_rows() as i64)));
        let mut fields = rows.schema().fields().to_vec();
        fields.push(Arc::new(Field::new("place", DataType::Int64, false)));
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
        let (rows, _) = self.candidates(rows, 2)?;
        Ok(rows.column(rows.num_columns() - 1).as_primitive().clone())
    }
}

/// What lies below one side of a join.
struct SideInput<'p> {
    stream: Arc<Stream>,
    scan: &'p DFSchema,
    nodes: Vec<&'p Node>,
    schema: &'p DFSchema,
    /// Which of the columns are its event time.
    times: Vec<Option<Side>>,
}

/// Conditions of a join, by what becomes of them.
struct Conditions {
    bound: Bound,
    keys: [Vec<Expr>; 2],
    /// Those that are about one side only.
    own: [Vec<Expr>; 2],
    /// Those that joined rows are held to.
    others: Vec<Expr>,
}

type QualifiedField = (Option<TableReference>, Arc<Field>);

impl Planner<'_> {
    /// What is read of two streams.
    pub(super) fn join(
        &self,
        join: &Join,
        nodes: &[&Node],
        aggregate: &Aggregate,
        window_at: usize,
        call: &Call,
    ) -> Result<Read, Fault> {
        if join.join_type != JoinType::Inner {
            return no_view(format!(
                "expected an inner JOIN, found a {} one, whose rows without a match would be \
                 known only when it is too late for them",
                join.join_type
            ));
        }
        let left = self.side_input(&join.left, Side::Left)?;
        let right = self.side_input(&join.right, Side::Right)?;
        let inputs = [left, right];
        let streams = streams_of(&inputs)?;

        // Filters right above a join are conditions of it.
        let filters = nodes.iter().take_while(|node| matches!(node, Node::Filter(_))).count();
        let (filters, nodes) = nodes.split_at(filters);
        let conditions = conditions(join, filters, &inputs)?;
        let times = inputs.iter().flat_map(|input| input.times.iter().copied()).collect();
        let Some(timed) = timed(call, trace(nodes, times), aggregate) else {
            let [left, right] = inputs.each_ref().map(time_name);
            return no_view(format!(
                "joined rows have two event times; say which one tells their window: \
                 tumble(INTERVAL '1 minute', {left}) or tumble(INTERVAL '1 minute', {right})"
            ));
        };

        let grouped = aggregate.group_expr.iter().enumerate().filter(|(n, _)| *n != window_at);
        let above = grouped.map(|(_, expr)| expr).chain(&aggregate.aggr_expr);
        let above = read_by(nodes, above);
        let above = above.iter().chain(&conditions.others).flat_map(Expr::column_refs);
        let above: BTreeSet<&Column> = above.collect();
        let mut sides = vec![];
        let mut fields = vec![];
        for (side, input) in Side::BOTH.into_iter().zip(&inputs) {
            let source = streams.iter().position(|stream| stream.name == input.stream.name);
            let (side, values) =
                self.side(input, source.unwrap_or(0), side, &conditions, &above)?;
            sides.push(side);
            fields.extend(values);
        }
        let [left, right] = <[JoinSide; 2]>::try_from(sides)
            .map_err(|_| Fault::Query("a join has two sides".into()))?;
        check_keys(&left, &right, &conditions.keys)?;

        let schema = DFSchema::new_with_metadata(fields, Default::default())?;
        let mut joined = nullable(schema.as_arrow().fields().to_vec());
        joined.push(Arc::new(Field::new(TIME, timestamp_type(), false)));
        let others = conditions.others.iter();
        let mut steps = others
            .map(|other| Ok(Step::Filter(self.physical(other, &schema)?)))
            .collect::<Result<Vec<_>, Fault>>()?;
        let (before, schema) = self.before(nodes, schema)?;
        steps.extend(before.steps);
        let plan = JoinPlan {
            sides: [left, right],
            bound: conditions.bound,
            timed,
            joined: Arc::new(Schema::new(joined)),
        };
        Ok(Read {
            streams,
            join: Some(Arc::new(plan)),
            columns: vec![],
            before: Steps { steps },
            time: carried(TIME, &schema),
            schema,
        })
    }

    fn side_input<'p>(&self, plan: &'p Node, side: Side) -> Result<SideInput<'p>, Fault> {
        let Below { leaf, nodes } = self.find_leaf(plan)?;
        let Leaf::Stream(stream, scan) = leaf else {
            return no_view(
                "expected one JOIN of two streams, found one inside another; make the inner one \
                 a view of its own and join that",
            );
        };
        let is_time = |field: &Arc<Field>| field.name() == &stream.time_column;
        let times = scan.fields().iter().map(|field| is_time(field).then_some(side)).collect();
        let times = trace(&nodes, times);
        Ok(SideInput { stream, scan, times, schema: plan.schema(), nodes })
    }

    /// A side, and the columns of joined rows that are its own.
    fn side(
        &self,
        input: &SideInput<'_>,
        source: usize,
        side: Side,
        conditions: &Conditions,
        above: &BTreeSet<&Column>,
    ) -> Result<(JoinSide, Vec<QualifiedField>), Fault> {
        let (own, keys) = (&conditions.own[side as usize], &conditions.keys[side as usize]);
        let own_above = above.iter().filter(|column| input.schema.is_column_from_schema(column));
        let own_above: Vec<Expr> =
            own_above.map(|column| Expr::Column((*column).clone())).collect();
        let read = read_by(&input.nodes, own.iter().chain(keys).chain(&own_above));
        let (columns, schema) = narrow(&input.stream, input.scan, &read)?;
        let (mut before, schema) = self.before(&input.nodes, schema)?;
        for condition in own {
            before.steps.push(Step::Filter(self.physical(condition, &schema)?));
        }
        let (values, fields): (Vec<usize>, Vec<QualifiedField>) = schema
            .iter()
            .enumerate()
            .filter(|(_, (qualifier, field))| {
                above.contains(&Column::new(qualifier.cloned(), field.name()))
            })
            .map(|(n, (qualifier, field))| (n, (qualifier.cloned(), Arc::clone(field))))
            .unzip();
        let keys = keys.iter().map(|key| self.physical(key, &schema));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        let mut stored = nullable(fields.iter().map(|(_, field)| Arc::clone(field)).collect());
        for (n, key) in keys.iter().enumerate() {
            let key_type = key_type(key.data_type(schema.as_arrow())?);
            stored.push(Arc::new(Field::new(format!("key_{n}"), key_type, true)));
        }
        stored.push(Arc::new(Field::new(TIME, timestamp_type(), false)));
        let schema = Arc::new(Schema::new(stored));
        Ok((JoinSide { source, columns, before, values, keys, schema }, fields))
    }
}

/// Name of the event time behind the columns that the query names.
const TIME: &str = "event_time";

/// The streams of a join; one, if it is joined with itself.
fn streams_of(inputs: &[SideInput<'_>; 2]) -> Result<Vec<Arc<Stream>>, Fault> {
    let [left, right] = inputs.each_ref().map(|input| &input.stream);
    if left.name == right.name {
        return Ok(vec![Arc::clone(left)]);
    }
    match left.topics.iter().find(|topic| right.topics.contains(topic)) {
        Some(topic) => no_view(format!(
            "`{}` and `{}` both have the rows of topic `{topic}`; join one of them with itself",
            left.name, right.name
        )),
        None => Ok(vec![Arc::clone(left), Arc::clone(right)]),
    }
}

/// Which columns are an event time, and of which side, behind `nodes`.
fn trace(nodes: &[&Node], mut times: Vec<Option<Side>>) -> Vec<Option<Side>> {
    for node in nodes {
        if let Node::Projection(projection) = node {
            let below = projection.input.schema();
            let time = |expr| match without_alias(expr) {
                Expr::Column(column) => times[below.maybe_index_of_column(column)?],
                _ => None,
            };
            times = projection.expr.iter().map(time).collect();
        }
    }
    times
}

fn without_alias(mut expr: &Expr) -> &Expr {
    while let Expr::Alias(alias) = expr {
        expr = &alias.expr;
    }
    expr
}

/// The side whose event time the window is of.
fn timed(call: &Call, times: Vec<Option<Side>>, aggregate: &Aggregate) -> Option<Side> {
    match without_alias(call.time.as_ref()?) {
        Expr::Column(column) => times[aggregate.input.schema().maybe_index_of_column(column)?],
        _ => None,
    }
}

/// What the query calls a side's event time.
fn time_name(input: &SideInput<'_>) -> String {
    let place = input.times.iter().position(Option::is_some);
    match place {
        Some(place) => Column::from(input.schema.qualified_field(place)).flat_name(),
        None => format!("{} of {}", input.stream.time_column, input.stream.name),
    }
}

/// The conditions of a join and of the filters above it.
fn conditions(
    join: &Join,
    filters: &[&Node],
    inputs: &[SideInput<'_>; 2],
) -> Result<Conditions, Fault> {
    let time_of = |column: &Column| {
        inputs.iter().find_map(|input| input.times[input.schema.maybe_index_of_column(column)?])
    };
    let mut limits = Limits::default();
    let (mut keys, mut own) = ([vec![], vec![]], [vec![], vec![]]);
    let mut others = vec![];
    let on = join.on.iter().map(|(left, right)| left.clone().eq(right.clone()));
    let filters = filters.iter().flat_map(|filter| filter.expressions());
    let all: Vec<Expr> = on.chain(join.filter.clone()).chain(filters).collect();
    for condition in all.iter().flat_map(split_conjunction) {
        check_deterministic(condition)?;
        let is_taken = limits.take(condition, &time_of);
        if let Some([left, right]) = equality(condition, inputs) {
            keys[0].push(left);
            keys[1].push(right);
        } else if !is_taken {
            match reads(condition, inputs) {
                [true, false] => own[0].push(condition.clone()),
                [false, true] => own[1].push(condition.clone()),
                _ => others.push(condition.clone()),
            }
        }
    }
    if keys[0].is_empty() {
        return no_view(
            "expected an equality between the two sides of the JOIN, such as \
             ON a.trace_id = b.trace_id",
        );
    }
    let Some(bound) = limits.bound() else {
        let [left, right] = inputs.each_ref().map(time_name);
        return no_view(format!(
            "expected a JOIN within a time bound, lest every row be kept for ever; say how far \
             apart its rows are at most, both ways: AND {right} BETWEEN {left} - INTERVAL '1 \
             minute' AND {left} + INTERVAL '1 minute'"
        ));
    };
    if bound.lo > bound.hi {
        return no_view("no two rows are within the time bound of the JOIN; are its ends swapped?");
    }
    Ok(Conditions { bound, keys, own, others })
}

/// Which sides an expression reads.
fn reads(expr: &Expr, inputs: &[SideInput<'_>; 2]) -> [bool; 2] {
    let columns = expr.column_refs();
    inputs
        .each_ref()
        .map(|input| columns.iter().any(|column| input.schema.is_column_from_schema(column)))
}

/// What is equal in the left side and in the right side.
fn equality(condition: &Expr, inputs: &[SideInput<'_>; 2]) -> Option<[Expr; 2]> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = without_alias(condition)
    else {
        return None;
    };
    match (reads(left, inputs), reads(right, inputs)) {
        ([true, false], [false, true]) => Some([left.as_ref().clone(), right.as_ref().clone()]),
        ([false, true], [true, false]) => Some([right.as_ref().clone(), left.as_ref().clone()]),
        _ => None,
    }
}

/// The type that keys are compared in: one for all encodings of a value.
fn key_type(stated: DataType) -> DataType {
    match stated {
        DataType::Dictionary(_, value) => key_type(*value),
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        other => other,
    }
}

fn check_keys(left: &JoinSide, right: &JoinSide, keys: &[Vec<Expr>; 2]) -> Result<(), Fault> {
    let types = |side: &JoinSide| {
        let fields = side.schema.fields()[side.keys()].iter();
        fields.map(|field| field.data_type().clone()).collect::<Vec<_>>()
    };
    let exprs = keys[0].iter().zip(&keys[1]);
    for ((one, other), (left, right)) in exprs.zip(types(left).into_iter().zip(types(right))) {
        if left != right {
            return no_view(format!("`{one}` is {left}, `{other}` is {right}; cast one of them"));
        }
        if left.is_nested() {
            return no_view(format!("`{one}` is {left}; join by text, numbers or times"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
