//! `CROSS JOIN UNNEST(a)` as nodes of the logical plan.
//!
//! While a FROM clause is planned, `UNNEST(expr)` stands as a leaf ([`LateralUnnest`]) whose expression
//! refers to the tables before it. `plan::lateral` then turns the join above it into an [`Expand`] over
//! its left side, before any rule of the optimizer sees the reference.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{Column, DFSchema, DFSchemaRef, DataFusionError, Result, TableReference};
use datafusion_expr::{Expr, LogicalPlan, UserDefinedLogicalNodeCore};

use crate::types::sql_name;

/// The leaf.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct LateralUnnest {
    /// Holds `OuterReferenceColumn`s where it names columns of tables before it.
    pub(crate) expr: Expr,
    pub(crate) ordinality: bool,
    /// The columns that the elements make, under their alias.
    pub(crate) schema: DFSchemaRef,
}

/// The columns that one element makes, under the names that an alias gives them.
///
/// # Errors
/// If `data_type` cannot be unnested, or `names` has another length than the columns.
pub(crate) fn element_fields(data_type: &DataType, ordinality: bool, names: &[String]) -> Result<Vec<FieldRef>> {
    let mut fields: Vec<Field> = match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => match item.data_type() {
            DataType::Struct(fields) => fields.iter().map(|f| f.as_ref().clone().with_nullable(true)).collect(),
            other => vec![Field::new("element", other.clone(), true)],
        },
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => fields
                .iter()
                .zip(["key", "value"])
                .map(|(f, name)| f.as_ref().clone().with_name(name).with_nullable(true))
                .collect(),
            other => return Err(DataFusionError::Plan(format!("a map has entries of type {other}"))),
        },
        other => {
            return Err(DataFusionError::Plan(format!(
                "UNNEST takes an array or a map, and this is {}",
                sql_name(other)
            )));
        }
    };
    if ordinality {
        fields.push(Field::new("ordinality", DataType::Int32, true));
    }
    if !names.is_empty() && names.len() != fields.len() {
        let message = format!("UNNEST makes {} columns, and its alias names {}", fields.len(), names.len());
        return Err(DataFusionError::Plan(message));
    }
    let renamed = fields.into_iter().enumerate().map(|(index, field)| match names.get(index) {
        Some(name) => Arc::new(field.with_name(name)),
        None => Arc::new(field),
    });
    Ok(renamed.collect())
}

/// Whether the elements of this list are structs, whose fields become columns.
pub(crate) fn expands_struct(data_type: &DataType) -> bool {
    match data_type {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            matches!(item.data_type(), DataType::Struct(_))
        }
        _ => false,
    }
}

impl PartialOrd for LateralUnnest {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for LateralUnnest {
    fn name(&self) -> &'static str {
        "LateralUnnest"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        Vec::new()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    /// None: the planner must not take the reference for a correlated subquery.
    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LateralUnnest: {}", self.expr)
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, _: Vec<LogicalPlan>) -> Result<Self> {
        Ok(self.clone())
    }
}

/// One row per element of `list`: the input's columns without `list`, then the element's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Expand {
    pub(crate) input: LogicalPlan,
    /// The column that holds the list or map: used by nothing but this node.
    pub(crate) list: Column,
    /// Keep a row whose list is empty or NULL.
    pub(crate) outer: bool,
    pub(crate) ordinality: bool,
    /// The element's columns with their qualifier; of the types that the list's items have by now.
    pub(crate) elements: Vec<(Option<TableReference>, FieldRef)>,
    schema: DFSchemaRef,
}

impl Expand {
    pub(crate) fn try_new(
        input: LogicalPlan,
        list: Column,
        outer: bool,
        ordinality: bool,
        elements: Vec<(Option<TableReference>, FieldRef)>,
    ) -> Result<Self> {
        let list_index = input.schema().index_of_column(&list)?;
        // The list may have another type than when its columns got their names: rules settle it in between.
        let names: Vec<String> = elements.iter().map(|(_, field)| field.name().clone()).collect();
        let settled = element_fields(input.schema().field(list_index).data_type(), ordinality, &names)?;
        let elements: Vec<_> =
            elements.into_iter().zip(settled).map(|((qualifier, _), field)| (qualifier, field)).collect();
        let mut fields: Vec<_> = input
            .schema()
            .iter()
            .enumerate()
            .filter(|(index, _)| *index != list_index)
            .map(|(_, (qualifier, field))| (qualifier.cloned(), Arc::clone(field)))
            .collect();
        fields.extend(elements.iter().cloned());
        let schema = Arc::new(DFSchema::new_with_metadata(fields, input.schema().metadata().clone())?);
        Ok(Self { input, list, outer, ordinality, elements, schema })
    }

    /// Position of the list in the input.
    ///
    /// # Errors
    /// If the input lost it.
    pub(crate) fn list_index(&self) -> Result<usize> {
        self.input.schema().index_of_column(&self.list)
    }
}

impl PartialOrd for Expand {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for Expand {
    fn name(&self) -> &'static str {
        "Expand"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![Expr::Column(self.list.clone())]
    }

    /// A filter on the input's own columns may be applied before the rows multiply.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        self.elements.iter().map(|(_, field)| field.name().clone()).collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expand: {}{}", self.list.name, if self.outer { ", outer" } else { "" })
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let lost = || DataFusionError::Internal("an unnest lost its input".to_owned());
        let list = match exprs.into_iter().next() {
            Some(Expr::Column(column)) => column,
            _ => return Err(lost()),
        };
        let input = inputs.pop().ok_or_else(lost)?;
        Self::try_new(input, list, self.outer, self.ordinality, self.elements.clone())
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let list = self.list_index().ok()?;
        let width = self.input.schema().fields().len().checked_sub(1)?;
        let inputs = output_columns.iter().filter(|index| **index < width);
        Some(vec![inputs.map(|index| if *index < list { *index } else { index + 1 }).collect()])
    }
}
