//! Grouping and aggregating, in three forms of one computation: rows into partial states, partial
//! states into fewer, partial states into results.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::aggregate::{AggregateFunctionExpr, LoweredAggregate};
use datafusion::physical_expr::{GroupsAccumulatorAdapter, PhysicalExpr};
use datafusion::physical_plan::aggregates::group_values::{GroupValues, new_group_values};
use datafusion::physical_plan::aggregates::order::GroupOrdering;

use crate::window::{Window, session_starts};

const START: &str = "window_start";
const LAST: &str = "window_last";

/// What is grouped by, and what is computed of each group.
///
/// A partial state is a batch with the columns `window_start` and `window_last` (time of a
/// group's latest row, needed by sessions only), the keys, and the aggregates' states.
#[derive(Debug)]
pub(crate) struct Aggregation {
    window: Window,
    keys: Vec<Arc<dyn PhysicalExpr>>,
    key_types: Vec<KeyType>,
    aggregates: Vec<LoweredAggregate>,
    partial: SchemaRef,
    state_counts: Vec<usize>,
}

/// A key's type, and the one it is grouped in.
#[derive(Debug)]
struct KeyType {
    stated: DataType,
    /// Dictionaries are grouped as views: DataFusion hashes those column by column.
    grouped: DataType,
}

/// Groups being gathered.
pub(crate) struct Groups {
    aggregation: Arc<Aggregation>,
    values: Box<dyn GroupValues>,
    accumulators: Vec<Box<dyn GroupsAccumulator>>,
    /// Time of the latest row, by group. Empty unless the windows are sessions.
    lasts: Vec<i64>,
    /// Group of each row of the batch at hand.
    ids: Vec<usize>,
}

impl Aggregation {
    /// Groups rows of `input` by `window` and `keys`.
    pub(crate) fn new(
        window: Window,
        keys: Vec<Arc<dyn PhysicalExpr>>,
        aggregates: Vec<LoweredAggregate>,
        input: &Schema,
    ) -> Result<Self> {
        let time = |name| Field::new(name, DataType::Int64, false);
        let mut fields = vec![Arc::new(time(START)), Arc::new(time(LAST))];
        let mut key_types = vec![];
        for (n, key) in keys.iter().enumerate() {
            let stated = key.data_type(input)?;
            let grouped = match &stated {
                DataType::Dictionary(_, value) if **value == DataType::Utf8 => DataType::Utf8View,
                DataType::Dictionary(_, value) => (**value).clone(),
                other => other.clone(),
            };
            fields.push(Arc::new(Field::new(format!("key_{n}"), grouped.clone(), true)));
            key_types.push(KeyType { stated, grouped });
        }
        let mut state_counts = vec![];
        for aggregate in &aggregates {
            let states = aggregate.aggregate.state_fields()?;
            state_counts.push(states.len());
            fields.extend(states);
        }
        let partial = Arc::new(Schema::new(fields));
        Ok(Self { window, keys, key_types, aggregates, partial, state_counts })
    }

    /// Columns of a partial state.
    pub(crate) fn partial_schema(&self) -> &SchemaRef {
        &self.partial
    }

    /// The windows.
    pub(crate) fn window(&self) -> Window {
        self.window
    }

    /// No groups yet.
    pub(crate) fn groups(self: &Arc<Self>) -> Result<Groups> {
        let aggregates = self.aggregates.iter().map(|lowered| accumulator(&lowered.aggregate));
        Ok(Groups {
            values: self.group_values(true)?,
            accumulators: aggregates.collect::<Result<_>>()?,
            lasts: vec![],
            ids: vec![],
            aggregation: Arc::clone(self),
        })
    }

    /// Values that groups are told apart by: the keys and, if asked for, the window's start.
    fn group_values(&self, with_start: bool) -> Result<Box<dyn GroupValues>> {
        let start = with_start.then(|| Arc::new(Field::new(START, DataType::Int64, false)));
        let keys = self.partial.fields()[2..2 + self.keys.len()].iter().map(Arc::clone);
        let schema = Arc::new(Schema::new(start.into_iter().chain(keys).collect::<Vec<_>>()));
        new_group_values(schema, &GroupOrdering::None)
    }

    /// Where stretches of activity, each from its `first` to its `last`, begin once those that
    /// belong together are joined to sessions.
    fn sessions(
        &self,
        keys: &[ArrayRef],
        firsts: &Int64Array,
        lasts: &Int64Array,
        gap: i64,
    ) -> Result<Int64Array> {
        let mut ids = vec![0; firsts.len()];
        if !keys.is_empty() {
            self.group_values(false)?.intern(keys, &mut ids)?;
        }
        Ok(session_starts(&ids, firsts, lasts, gap))
    }

    fn evaluate_keys(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let evaluate = |(key, types): (&Arc<dyn PhysicalExpr>, &KeyType)| {
            let values = key.evaluate(batch)?.into_array(batch.num_rows())?;
            Ok(cast(&values, &types.grouped)?)
        };
        self.keys.iter().zip(&self.key_types).map(evaluate).collect()
    }
}

impl Groups {
    /// Adds rows, with their event times. Sessions among them are told apart within the batch only: partial states are
    /// joined when they are merged.
    pub(crate) fn update(&mut self, batch: &RecordBatch, times: &Int64Array) -> Result<()> {
        let aggregation = Arc::clone(&self.aggregation);
        let keys = aggregation.evaluate_keys(batch)?;
        let evaluate = |lowered: &LoweredAggregate| Arguments::evaluate(lowered, batch);
        let arguments: Vec<Arguments> =
            aggregation.aggregates.iter().map(evaluate).collect::<Result<_>>()?;
        for nth in 0..aggregation.window.overlap() {
            let starts = match aggregation.window {
                Window::Session { gap } => aggregation.sessions(&keys, times, times, gap)?,
                window => window.starts(times, nth),
            };
            let total = self.assign(starts, times, &keys)?;
            for (accumulator, of) in self.accumulators.iter_mut().zip(&arguments) {
                accumulator.update_batch(&of.values, &self.ids, of.filter.as_ref(), total)?;
            }
        }
        Ok(())
    }

    /// Adds a partial state.
    pub(crate) fn merge(&mut self, partial: &RecordBatch) -> Result<()> {
        let aggregation = Arc::clone(&self.aggregation);
        let keys_end = 2 + aggregation.keys.len();
        let keys = &partial.columns()[2..keys_end];
        let lasts = partial.column(1).as_primitive::<Int64Type>();
        let starts = partial.column(0).as_primitive::<Int64Type>();
        let starts = match aggregation.window {
            Window::Session { gap } => aggregation.sessions(keys, starts, lasts, gap)?,
            _ => starts.clone(),
        };
        let total = self.assign(starts, lasts, keys)?;
        let mut states = &partial.columns()[keys_end..];
        for (accumulator, count) in self.accumulators.iter_mut().zip(&aggregation.state_counts) {
            let (own, others) = states.split_at(*count);
            accumulator.merge_batch(own, &self.ids, total)?;
            states = others;
        }
        Ok(())
    }

    /// Finds each row's group; answers how many groups there are.
    fn assign(
        &mut self,
        starts: Int64Array,
        lasts: &Int64Array,
        keys: &[ArrayRef],
    ) -> Result<usize> {
        let mut columns: Vec<ArrayRef> = vec![Arc::new(starts)];
        columns.extend(keys.iter().map(Arc::clone));
        self.values.intern(&columns, &mut self.ids)?;
        if matches!(self.aggregation.window, Window::Session { .. }) {
            self.lasts.resize(self.values.len(), i64::MIN);
            for (id, last) in self.ids.iter().zip(lasts.values()) {
                self.lasts[*id] = self.lasts[*id].max(*last);
            }
        }
        Ok(self.values.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Bytes of memory in use.
    pub(crate) fn size(&self) -> usize {
        let accumulators = self.accumulators.iter().map(|accumulator| accumulator.size());
        self.values.size() + accumulators.sum::<usize>() + self.lasts.capacity() * 8
    }

    /// The groups as a partial state.
    pub(crate) fn into_partial(mut self) -> Result<RecordBatch> {
        let (mut columns, _) = self.take_keys()?;
        for accumulator in &mut self.accumulators {
            columns.extend(accumulator.state(EmitTo::All)?);
        }
        Ok(RecordBatch::try_new(Arc::clone(self.aggregation.partial_schema()), columns)?)
    }

    /// The groups as results.
    pub(crate) fn into_results(mut self) -> Result<Results> {
        let (columns, ends) = self.take_keys()?;
        let starts = columns[0].as_primitive::<Int64Type>().clone();
        let back = |(grouped, types): (&ArrayRef, &KeyType)| cast(grouped, &types.stated);
        let keys = columns[2..].iter().zip(&self.aggregation.key_types).map(back);
        let keys = keys.collect::<Result<_, _>>()?;
        let values = self.accumulators.iter_mut().map(|acc| acc.evaluate(EmitTo::All));
        Ok(Results { starts, ends, keys, values: values.collect::<Result<_>>()? })
    }

    /// The first columns of a partial state, and the ends of the windows.
    fn take_keys(&mut self) -> Result<(Vec<ArrayRef>, Int64Array)> {
        let groups = self.values.len();
        let mut columns = match groups {
            0 => {
                let fields = &self.aggregation.partial.fields()[..2 + self.aggregation.keys.len()];
                let empty = |field: &Arc<Field>| arrow::array::new_empty_array(field.data_type());
                let mut columns: Vec<ArrayRef> = fields.iter().map(empty).collect();
                columns.remove(1);
                columns
            }
            _ => self.values.emit(EmitTo::All)?,
        };
        let mut lasts = std::mem::take(&mut self.lasts);
        lasts.resize(groups, 0);
        let window = self.aggregation.window;
        let starts = columns[0].as_primitive::<Int64Type>().values();
        let ends = starts.iter().zip(&lasts).map(|(start, last)| window.end(*start, *last));
        let ends: Int64Array = ends.collect::<Vec<_>>().into();
        columns.insert(1, Arc::new(Int64Array::from(lasts)));
        Ok((columns, ends))
    }
}

/// Results of closed or open windows.
pub(crate) struct Results {
    pub(crate) starts: Int64Array,
    pub(crate) ends: Int64Array,
    pub(crate) keys: Vec<ArrayRef>,
    pub(crate) values: Vec<ArrayRef>,
}

/// What an aggregate reads of a batch.
struct Arguments {
    values: Vec<ArrayRef>,
    filter: Option<BooleanArray>,
}

impl Arguments {
    fn evaluate(lowered: &LoweredAggregate, batch: &RecordBatch) -> Result<Self> {
        let rows = batch.num_rows();
        let evaluate = |expr: &Arc<dyn PhysicalExpr>| expr.evaluate(batch)?.into_array(rows);
        let expressions = lowered.aggregate.expressions();
        let order = lowered.aggregate.order_bys().iter().map(|sort| &sort.expr);
        let values = expressions.iter().chain(order).map(evaluate).collect::<Result<_>>()?;
        let filter = match &lowered.filter {
            None => None,
            Some(filter) => {
                let mask = filter.evaluate(batch)?.into_array(rows)?;
                let mask = mask.as_boolean_opt().cloned();
                Some(
                    mask.ok_or_else(|| DataFusionError::Plan("FILTER must be a condition".into()))?,
                )
            }
        };
        Ok(Self { values, filter })
    }
}

fn accumulator(aggregate: &Arc<AggregateFunctionExpr>) -> Result<Box<dyn GroupsAccumulator>> {
    if aggregate.groups_accumulator_supported() {
        return aggregate.create_groups_accumulator();
    }
    let aggregate = Arc::clone(aggregate);
    Ok(Box::new(GroupsAccumulatorAdapter::new(move || aggregate.create_accumulator())))
}
