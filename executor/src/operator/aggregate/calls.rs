//! The aggregate calls of a node, compiled: what to evaluate for a batch, and how to accumulate it.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, new_empty_array};
use arrow::compute::{SortColumn, lexsort_to_indices, take};
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use datafusion_common::{DataFusionError, ScalarValue};
use datafusion_expr::utils::AggregateOrderSensitivity;
use datafusion_expr::{EmitTo, GroupsAccumulator};
use datafusion_physical_expr::PhysicalSortExpr;
use datafusion_physical_expr::aggregate::{AggregateExprBuilder, AggregateFunctionExpr};
use datafusion_physical_expr::expressions::Literal;
use qanat_proto::error::{Error, Result};
use qanat_proto::graph::AggregateCall;
use qanat_sql::expr;

use super::super::evaluate::{Expression, evaluation_error, mask, values};
use super::super::keys::{key_type, normalized_float, normalized_key};
use super::distinct_count::DistinctCount;
use super::extreme;
use super::per_group::PerGroup;
use super::percentile::{self, Percentile};

/// One aggregate call. Column numbers index [`Inputs::columns`].
pub(crate) struct Call {
    pub(crate) aggregate: Arc<AggregateFunctionExpr>,
    /// Registry name of the function.
    pub(crate) function: String,
    pub(crate) plain: bool,
    /// `count(*)`: the argument is a constant.
    pub(crate) counts_rows: bool,
    /// Arguments, then the ORDER BY expressions of an order-sensitive function.
    pub(crate) arguments: Vec<usize>,
    /// BOOLEAN without NULLs.
    pub(crate) filter: Option<usize>,
    /// Which of all state columns are its own.
    pub(crate) states: Range<usize>,
    /// Of `PERCENTILE_CONT`: what [`Percentile`] interpolates at.
    fraction: Option<f64>,
    /// Sort columns for a function that takes only sorted input: column and options.
    sorted_by: Vec<(usize, arrow::compute::SortOptions)>,
}

/// All calls of a node, with what they evaluate. Shared by the tables of all slices.
pub(crate) struct Calls {
    pub(crate) calls: Vec<Call>,
    key_columns: Vec<usize>,
    expressions: Vec<(Expression, Role)>,
    /// Types of the key columns after [`normalized_key`].
    pub(crate) key_types: Vec<DataType>,
    /// Fields of all state columns, in call order.
    pub(crate) state_fields: Vec<FieldRef>,
    /// Whether results depend on the order in which states are merged.
    pub(crate) depend_on_order: bool,
    /// Whether a state may get longer with each row: lists and joined texts.
    pub(crate) states_grow: bool,
    /// Name of the operator, for errors.
    name: String,
}

/// What an expression is evaluated for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Value,
    /// Values that are compared with each other: floats that are equal are the same.
    Compared,
    /// BOOLEAN without NULLs.
    Filter,
}

/// What a batch gives to accumulate: key columns, then one column per distinct expression.
#[derive(Clone)]
pub(crate) struct Inputs {
    pub(crate) columns: Vec<ArrayRef>,
    pub(crate) rows: usize,
}

/// Groups as columns: keys and accumulator states, one row per group.
#[derive(Clone)]
pub(crate) struct States {
    pub(crate) keys: Vec<ArrayRef>,
    pub(crate) states: Vec<ArrayRef>,
    pub(crate) rows: usize,
}

impl Calls {
    pub(crate) fn new(name: &str, keys: &[usize], calls: &[AggregateCall], input: &SchemaRef) -> Result<Self> {
        let key_types = keys.iter().map(|key| key_type(input.field(*key).data_type())).collect();
        let mut compiled = Self {
            calls: Vec::new(),
            key_columns: keys.to_vec(),
            expressions: Vec::new(),
            key_types,
            state_fields: Vec::new(),
            depend_on_order: false,
            states_grow: false,
            name: name.to_owned(),
        };
        for call in calls {
            compiled.add(call, input)?;
        }
        Ok(compiled)
    }

    fn add(&mut self, call: &AggregateCall, input: &SchemaRef) -> Result<()> {
        let counts_rows = call.args.is_empty() && call.function == "count";
        let mut args = call.args.iter().map(|arg| expr::physical(arg, input)).collect::<Result<Vec<_>>>()?;
        if counts_rows {
            args.push(Arc::new(Literal::new(ScalarValue::Int64(Some(1)))));
        }
        let mut order: Vec<PhysicalSortExpr> = Vec::new();
        for key in &call.order_by {
            let options = arrow::compute::SortOptions { descending: key.descending, nulls_first: key.nulls_first };
            let expr = expr::physical(&key.expr, input)?;
            // What sorts by an expression already is not sorted further by it; states would have it twice.
            if order.iter().all(|known| !known.expr.eq(&expr)) {
                order.push(PhysicalSortExpr { expr, options });
            }
        }
        let is_percentile = call.function == "percentile_cont" && !call.distinct;
        let is_descending = call.order_by.first().is_some_and(|key| key.descending);
        let fraction = if is_percentile { percentile::fraction_of(&args, is_descending) } else { None };
        let aggregate = AggregateExprBuilder::new(expr::aggregate(&call.function)?, args.clone())
            .schema(Arc::clone(input))
            .alias(&call.name)
            .order_by(order)
            .with_distinct(call.distinct)
            .with_ignore_nulls(call.ignore_nulls)
            .build()
            .map_err(|e| self.error(&e))?;
        let state_fields = aggregate.state_fields().map_err(|e| self.error(&e))?;
        let is_list = |field: &FieldRef| matches!(field.data_type(), DataType::List(_));
        self.states_grow |= call.function == "string_agg" || state_fields.iter().any(is_list);
        let first_state = self.state_fields.len();
        self.state_fields.extend(state_fields);

        let needs_sorted = aggregate.order_sensitivity() == AggregateOrderSensitivity::HardRequirement
            && aggregate.fun().name() == "nth_value";
        let role = if call.distinct { Role::Compared } else { Role::Value };
        let mut arguments: Vec<usize> = args.into_iter().map(|arg| self.slot(arg, role)).collect();
        let mut sorted_by = Vec::new();
        for key in aggregate.order_bys() {
            let slot = self.slot(Arc::clone(&key.expr), Role::Compared);
            arguments.push(slot);
            if needs_sorted {
                sorted_by.push((slot, key.options));
            }
        }
        let filter = match &call.filter {
            Some(filter) => Some(expr::physical(filter, input)?).map(|filter| self.slot(filter, Role::Filter)),
            None => None,
        };
        self.depend_on_order |= matches!(
            call.function.as_str(),
            "first_value" | "last_value" | "any_value" | "array_agg" | "string_agg" | "nth_value"
        );
        self.calls.push(Call {
            plain: !call.distinct && call.order_by.is_empty(),
            function: call.function.clone(),
            counts_rows,
            aggregate: Arc::new(aggregate),
            arguments,
            filter,
            fraction,
            states: first_state..self.state_fields.len(),
            sorted_by,
        });
        Ok(())
    }

    /// Column of an expression; equal expressions share one.
    fn slot(&mut self, expression: Expression, role: Role) -> usize {
        let known = self.expressions.iter().position(|(e, r)| *r == role && e.eq(&expression));
        let position = known.unwrap_or_else(|| {
            self.expressions.push((expression, role));
            self.expressions.len() - 1
        });
        self.key_columns.len() + position
    }

    pub(crate) fn key_count(&self) -> usize {
        self.key_columns.len()
    }

    /// Types of the columns that [`Calls::evaluate`] gives. Nothing is evaluated: a constant may fail, and no row
    /// may ask for it.
    pub(crate) fn types(&self, input: &SchemaRef) -> Result<Vec<DataType>, DataFusionError> {
        let values = self.expressions.iter().map(|(expression, role)| match role {
            Role::Filter => Ok(DataType::Boolean),
            Role::Value | Role::Compared => expression.data_type(input),
        });
        self.key_types.iter().cloned().map(Ok).chain(values).collect()
    }

    /// Key columns, then one column per distinct expression.
    pub(crate) fn evaluate(&self, rows: &RecordBatch) -> Result<Inputs, DataFusionError> {
        if rows.num_rows() == 0 {
            let types = self.types(rows.schema_ref())?;
            return Ok(Inputs { columns: types.iter().map(new_empty_array).collect(), rows: 0 });
        }
        let mut columns = Vec::with_capacity(self.key_columns.len() + self.expressions.len());
        for key in &self.key_columns {
            columns.push(normalized_key(rows.column(*key))?);
        }
        for (expression, role) in &self.expressions {
            columns.push(match role {
                Role::Value => values(expression, rows)?,
                Role::Compared => normalized_float(&values(expression, rows)?),
                Role::Filter => Arc::new(mask(expression, rows)?),
            });
        }
        Ok(Inputs { columns, rows: rows.num_rows() })
    }

    /// New accumulators, one per call.
    pub(crate) fn accumulators(&self) -> Result<Vec<Box<dyn GroupsAccumulator>>> {
        self.calls.iter().map(|call| call.accumulator()).collect::<Result<_, _>>().map_err(|e| self.error(&e))
    }

    /// Whether every call can turn rows into single-row states column by column.
    pub(crate) fn convert_quickly(&self) -> bool {
        self.calls.iter().all(|call| call.aggregate.groups_accumulator_supported() && call.sorted_by.is_empty())
    }

    pub(crate) fn error(&self, error: &DataFusionError) -> Error {
        evaluation_error(&self.name, error)
    }
}

impl Call {
    fn accumulator(&self) -> Result<Box<dyn GroupsAccumulator>, DataFusionError> {
        let field = self.aggregate.field();
        if let Some(accumulator) = extreme::accumulator(&self.function, field.data_type()) {
            return Ok(accumulator);
        }
        if self.function == "count" && self.aggregate.is_distinct() && self.aggregate.expressions().len() == 1 {
            let states = self.aggregate.state_fields()?;
            if let Some(state @ DataType::List(_)) = states.first().map(|field| field.data_type()) {
                return Ok(Box::new(DistinctCount::new(state)?));
            }
        }
        if self.aggregate.groups_accumulator_supported() {
            let accumulator = self.aggregate.create_groups_accumulator()?;
            return Ok(match self.fraction {
                Some(fraction) => Box::new(Percentile::new(accumulator, fraction, field.data_type().clone())),
                None => accumulator,
            });
        }
        let aggregate = Arc::clone(&self.aggregate);
        Ok(Box::new(PerGroup::new(move || aggregate.create_accumulator())))
    }

    pub(crate) fn filter<'a>(&self, inputs: &'a Inputs) -> Option<&'a BooleanArray> {
        use arrow::array::AsArray;
        self.filter.map(|slot| inputs.columns[slot].as_boolean())
    }

    pub(crate) fn arguments(&self, inputs: &Inputs) -> Vec<ArrayRef> {
        self.arguments.iter().map(|slot| Arc::clone(&inputs.columns[*slot])).collect()
    }

    /// Accumulates `inputs`, whose rows belong to `groups`, into `accumulator`, which then has
    /// `total_groups` groups.
    pub(crate) fn update(
        &self,
        accumulator: &mut dyn GroupsAccumulator,
        inputs: &Inputs,
        groups: &[usize],
        total_groups: usize,
    ) -> Result<(), DataFusionError> {
        let arguments = self.arguments(inputs);
        if self.sorted_by.is_empty() {
            return accumulator.update_batch(&arguments, groups, self.filter(inputs), total_groups);
        }
        // A function that takes only sorted input gets one sorted batch at a time: its states know how
        // to merge in order.
        let columns: Vec<SortColumn> = self
            .sorted_by
            .iter()
            .map(|(slot, options)| SortColumn { values: Arc::clone(&inputs.columns[*slot]), options: Some(*options) })
            .collect();
        let order = lexsort_to_indices(&columns, None)?;
        let sorted = arguments.iter().map(|a| take(a, &order, None)).collect::<Result<Vec<_>, _>>()?;
        let sorted_groups: Vec<usize> = order.values().iter().map(|i| groups[*i as usize]).collect();
        let filter = match self.filter {
            Some(slot) => Some(take(&inputs.columns[slot], &order, None)?),
            None => None,
        };
        let filter = filter.as_ref().map(arrow::array::AsArray::as_boolean);
        // Only the groups that occur get an accumulator for the batch.
        let mut present = sorted_groups.clone();
        present.sort_unstable();
        present.dedup();
        let places = sorted_groups.iter().map(|group| present.binary_search(group).unwrap_or_default());
        let mut batch = self.accumulator()?;
        batch.update_batch(&sorted, &places.collect::<Vec<_>>(), filter, present.len())?;
        let states = batch.state(EmitTo::All)?;
        accumulator.merge_batch(&states, &present, total_groups)
    }
}

impl Inputs {
    pub(crate) fn slice(&self, start: usize, rows: usize) -> Self {
        Self { columns: self.columns.iter().map(|c| c.slice(start, rows)).collect(), rows }
    }
}
