//! `PERCENTILE_CONT` to the last digit: DataFusion's own rounds the weight between two values down to a
//! millionth.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::{EmitTo, GroupsAccumulator};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Literal;

/// Gathers values as `values` does and interpolates itself.
pub(crate) struct Percentile {
    values: Box<dyn GroupsAccumulator>,
    /// From 0 to 1, in ascending order of the values.
    fraction: f64,
    result: DataType,
}

/// The fraction that a call of `PERCENTILE_CONT` asks for, if it stands there as a number.
pub(crate) fn fraction_of(args: &[Arc<dyn PhysicalExpr>], descending: bool) -> Option<f64> {
    let literal = args.get(1)?.downcast_ref::<Literal>()?;
    let Ok(ScalarValue::Float64(Some(fraction))) = literal.value().cast_to(&DataType::Float64) else { return None };
    Some(if descending { 1.0 - fraction } else { fraction })
}

impl Percentile {
    pub(crate) fn new(values: Box<dyn GroupsAccumulator>, fraction: f64, result: DataType) -> Self {
        Self { values, fraction, result }
    }

    fn interpolate(&self, values: &ArrayRef) -> Result<Option<f64>> {
        let values = cast(values, &DataType::Float64)?;
        let mut values: Vec<f64> = values.as_primitive::<Float64Type>().iter().flatten().collect();
        let Some(last) = values.len().checked_sub(1) else { return Ok(None) };
        let place = (self.fraction * last as f64).clamp(0.0, last as f64);
        let (below, weight) = (place.floor() as usize, place.fract());
        let (_, low, above) = values.select_nth_unstable_by(below, f64::total_cmp);
        let low = *low;
        match above.iter().copied().min_by(f64::total_cmp) {
            Some(high) if weight > 0.0 => Ok(Some(low + (high - low) * weight)),
            _ => Ok(Some(low)),
        }
    }
}

impl GroupsAccumulator for Percentile {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        group_indices: &[usize],
        opt_filter: Option<&BooleanArray>,
        total_num_groups: usize,
    ) -> Result<()> {
        self.values.update_batch(values, group_indices, opt_filter, total_num_groups)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let states = self.values.state(emit_to)?;
        let Some(lists) = states.first().and_then(|state| state.as_list_opt::<i32>()) else {
            return datafusion_common::internal_err!("a percentile keeps no list of values");
        };
        let results = lists.iter().map(|list| list.map_or(Ok(None), |values| self.interpolate(&values)));
        let results: ArrayRef = Arc::new(results.collect::<Result<Float64Array>>()?);
        Ok(cast(&results, &self.result)?)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.values.state(emit_to)
    }

    fn merge_batch(&mut self, values: &[ArrayRef], group_indices: &[usize], total_num_groups: usize) -> Result<()> {
        self.values.merge_batch(values, group_indices, total_num_groups)
    }

    fn convert_to_state(&self, values: &[ArrayRef], opt_filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        self.values.convert_to_state(values, opt_filter)
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.values.size()
    }
}
