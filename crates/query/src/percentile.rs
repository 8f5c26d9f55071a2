//! `approx_percentile_cont` for many groups at once.
//!
//! Stands in for DataFusion's function of that name, which keeps a t-digest a group and updates
//! it one group after the other. The question "p99 latency by path" is the one asked most of
//! logs; here it costs one addition to a histogram a row.

mod sketch;

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, Float64Array, RecordBatch,
};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Schema};
use datafusion::common::types::{NativeType, logical_float64};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Coercion, ColumnarValue, EmitTo,
    GroupsAccumulator, Signature, TypeSignature, TypeSignatureClass, Volatility,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::prelude::SessionContext;

use sketch::Sketch;

pub(crate) fn register(context: &SessionContext) {
    context.register_udaf(AggregateUDF::from(ApproxPercentile::new()));
}

/// `approx_percentile_cont(p) WITHIN GROUP (ORDER BY x)`, or `approx_percentile_cont(x, p)`.
///
/// A third argument, the size of the t-digest elsewhere, is accepted and has nothing to tune here.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ApproxPercentile {
    signature: Signature,
}

impl ApproxPercentile {
    fn new() -> Self {
        let number = |class| {
            Coercion::new_implicit(class, vec![TypeSignatureClass::Numeric], NativeType::Float64)
        };
        let double = || number(TypeSignatureClass::Native(logical_float64()));
        let size = Coercion::new_exact(TypeSignatureClass::Integer);
        let signature = Signature::one_of(
            vec![
                TypeSignature::Coercible(vec![double(), double()]),
                TypeSignature::Coercible(vec![double(), double(), size]),
            ],
            Volatility::Immutable,
        );
        Self { signature }
    }
}

impl AggregateUDFImpl for ApproxPercentile {
    fn name(&self) -> &'static str {
        "approx_percentile_cont"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    /// `WITHIN GROUP (ORDER BY x)` names the argument: rows may come in any order.
    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let name = format_state_name(args.name, "sketch");
        Ok(vec![Arc::new(Field::new(name, DataType::Binary, false))])
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let mut sketches = Sketches::new(&args)?;
        sketches.grow(1);
        Ok(Box::new(sketches))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs<'_>,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Sketches::new(&args)?))
    }

    fn supports_within_group_clause(&self) -> bool {
        true
    }
}

/// A sketch a group.
#[derive(Debug)]
struct Sketches {
    percentile: f64,
    groups: Vec<Sketch>,
    /// Memory that the sketches hold besides themselves.
    heap_bytes: usize,
}

impl Sketches {
    fn new(args: &AccumulatorArgs<'_>) -> Result<Self> {
        let percentile = literal(&args.exprs[1])?;
        let is_descending = args.order_bys.first().is_some_and(|sort| sort.options.descending);
        let percentile = if is_descending { 1.0 - percentile } else { percentile };
        Ok(Self { percentile, groups: Vec::new(), heap_bytes: 0 })
    }

    fn grow(&mut self, groups: usize) {
        if self.groups.len() < groups {
            self.groups.resize_with(groups, Sketch::default);
        }
    }

    fn change(
        &mut self,
        group: usize,
        change: impl FnOnce(&mut Sketch) -> Result<()>,
    ) -> Result<()> {
        let sketch = &mut self.groups[group];
        let before = sketch.heap_bytes();
        change(sketch)?;
        self.heap_bytes = self.heap_bytes + sketch.heap_bytes() - before;
        Ok(())
    }

    fn add(&mut self, group: usize, value: f64) -> Result<()> {
        self.change(group, |sketch| {
            sketch.add(value);
            Ok(())
        })
    }

    fn merge_state(&mut self, group: usize, state: &[u8]) -> Result<()> {
        self.change(group, |sketch| match sketch.merge_bytes(state) {
            Some(()) => Ok(()),
            None => exec_err!("approx_percentile_cont: a partial result is damaged"),
        })
    }

    fn take(&mut self, emit_to: EmitTo) -> Vec<Sketch> {
        let taken = emit_to.take_needed(&mut self.groups);
        self.heap_bytes -= taken.iter().map(Sketch::heap_bytes).sum::<usize>();
        taken
    }

    fn memory_bytes(&self) -> usize {
        size_of_val(self) + self.groups.capacity() * size_of::<Sketch>() + self.heap_bytes
    }
}

impl GroupsAccumulator for Sketches {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.grow(total_num_groups);
        let values = values[0].as_primitive::<Float64Type>();
        if values.null_count() == 0 && opt_filter.is_none() {
            for (group, value) in group_indices.iter().zip(values.values()) {
                self.add(*group, *value)?;
            }
            return Ok(());
        }
        for (row, group) in group_indices.iter().enumerate() {
            if counts(values, row, opt_filter) {
                self.add(*group, values.value(row))?;
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let percentile = self.percentile;
        let groups = self.take(emit_to);
        let values = groups.iter().map(|sketch| sketch.percentile(percentile));
        Ok(Arc::new(Float64Array::from_iter(values)))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![states(self.take(emit_to).iter())])
    }

    fn merge_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        total_num_groups: usize,
    ) -> Result<()> {
        self.grow(total_num_groups);
        let states = values[0].as_binary::<i32>();
        for (group, state) in group_indices.iter().zip(states.iter().flatten()) {
            self.merge_state(*group, state)?;
        }
        Ok(())
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        opt_filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let values = values[0].as_primitive::<Float64Type>();
        let mut rows = vec![Sketch::default(); values.len()];
        for (row, sketch) in rows.iter_mut().enumerate() {
            if counts(values, row, opt_filter) {
                sketch.add(values.value(row));
            }
        }
        Ok(vec![states(rows.iter())])
    }

    fn size(&self) -> usize {
        self.memory_bytes()
    }
}

/// Without `GROUP BY`: the only group is the first.
impl Accumulator for Sketches {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        values[0].as_primitive::<Float64Type>().iter().flatten().try_for_each(|v| self.add(0, v))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.groups[0].percentile(self.percentile)))
    }

    fn size(&self) -> usize {
        self.memory_bytes()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut state = Vec::new();
        self.groups[0].write(&mut state);
        Ok(vec![ScalarValue::Binary(Some(state))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        states[0].as_binary::<i32>().iter().flatten().try_for_each(|s| self.merge_state(0, s))
    }
}

fn counts(values: &Float64Array, row: usize, filter: Option<&BooleanArray>) -> bool {
    values.is_valid(row) && filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row))
}

fn states<'s>(sketches: impl Iterator<Item = &'s Sketch>) -> ArrayRef {
    let (mut states, mut bytes) = (BinaryBuilder::new(), Vec::new());
    for sketch in sketches {
        bytes.clear();
        sketch.write(&mut bytes);
        states.append_value(&bytes);
    }
    Arc::new(states.finish())
}

/// The percentile asked for: a constant from 0 to 1.
fn literal(percentile: &Arc<dyn PhysicalExpr>) -> Result<f64> {
    let nothing = RecordBatch::new_empty(Arc::new(Schema::empty()));
    match percentile.evaluate(&nothing) {
        Ok(ColumnarValue::Scalar(ScalarValue::Float64(Some(value))))
            if (0.0..=1.0).contains(&value) =>
        {
            Ok(value)
        }
        _ => plan_err!(
            "approx_percentile_cont: expected a constant percentile from 0 to 1, found {percentile}"
        ),
    }
}
