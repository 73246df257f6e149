//! `CROSS JOIN UNNEST(list)` and `SELECT UNNEST(list)`: one row per element.

use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion_common::Column;
use datafusion_expr::Expr;
use datafusion_expr::logical_plan::Unnest;
use qanat_proto::error::{Code, Error, Result};
use qanat_proto::graph::{OperatorKind, UnnestNode};

use super::Lowering;
use super::graph::Port;
use super::relation::{Output, Relation, TimeAttribute, UniqueNames, column};
use crate::plan::expand::{Expand, expands_struct};

impl Lowering<'_> {
    pub(super) fn expand(&mut self, expand: &Expand) -> Result<Relation> {
        let relation = self.lower(&expand.input)?;
        super::refuse::changelog(&relation, "a table function", None)?;
        let list = expand.list_index().map_err(|e| super::relation::internal(&e))?;
        let elements: Vec<FieldRef> = expand.elements.iter().map(|(_, field)| Arc::clone(field)).collect();
        let relation = self.materialise(relation)?;
        let expanded = self.expand_column(relation, list, &elements, expand.outer, expand.ordinality)?;
        // The node's columns: the input's without the list, then the element's.
        let mut columns = expanded.columns;
        let width = columns.len();
        let taken: Vec<Output> = columns.drain(list..list + elements.len()).collect();
        debug_assert_eq!(columns.len() + taken.len(), width);
        columns.extend(taken);
        Ok(Relation { columns, ..expanded })
    }

    /// DataFusion's own node, as `SELECT UNNEST(list)` makes it.
    pub(super) fn unnest(&mut self, unnest: &Unnest) -> Result<Relation> {
        let (list, depth) = match unnest.list_type_columns.as_slice() {
            [(index, list)] if unnest.struct_type_columns.is_empty() => (*index, list.depth),
            _ => {
                return Err(Error::new(Code::SqlUnsupported, "several UNNESTs in one SELECT are not supported yet")
                    .hint("write `CROSS JOIN UNNEST(a) AS x (…) CROSS JOIN UNNEST(b) AS y (…)`"));
            }
        };
        if depth != 1 {
            return Err(Error::new(Code::SqlUnsupported, "UNNEST of a nested list in SELECT is not supported yet")
                .hint("unnest one level per query"));
        }
        let relation = self.lower(&unnest.input)?;
        super::refuse::changelog(&relation, "UNNEST", None)?;
        let relation = self.materialise(relation)?;
        // Structs in the list stay structs here: the node says so by its schema.
        let field = relation.base.field(list).clone();
        let item = match field.data_type() {
            arrow::datatypes::DataType::List(item)
            | arrow::datatypes::DataType::LargeList(item)
            | arrow::datatypes::DataType::FixedSizeList(item, _) => item.data_type().clone(),
            other => return Err(Error::new(Code::TypeMismatch, format!("UNNEST takes an array, and this is {other}"))),
        };
        let element = Arc::new(Field::new(field.name(), item, true));
        self.unnest_node(relation, list, &[element], unnest.options.preserve_nulls(), false, false)
    }

    fn expand_column(
        &mut self,
        relation: Relation,
        list: usize,
        elements: &[FieldRef],
        outer: bool,
        ordinality: bool,
    ) -> Result<Relation> {
        let expand_struct = expands_struct(relation.base.field(list).data_type());
        self.unnest_node(relation, list, elements, outer, expand_struct, ordinality)
    }

    fn unnest_node(
        &mut self,
        relation: Relation,
        list: usize,
        elements: &[FieldRef],
        outer: bool,
        expand_struct: bool,
        ordinality: bool,
    ) -> Result<Relation> {
        // The ordinality column stands last among the operator's columns, the element where the list was.
        let (inner, position) = match elements.split_last() {
            Some((last, inner)) if ordinality => (inner, Some(last)),
            _ => (elements, None),
        };
        let mut names = UniqueNames::default();
        let mut kept: Vec<Option<String>> = Vec::new();
        for (index, field) in relation.base.fields().iter().enumerate() {
            kept.push((index != list).then(|| names.take(field.name())));
        }
        let mut fields: Vec<FieldRef> = Vec::new();
        let mut columns = Vec::new();
        for (index, output) in relation.columns.iter().enumerate() {
            if index == list {
                for element in inner {
                    let name = names.take(element.name());
                    fields.push(Arc::new(element.as_ref().clone().with_name(&name).with_nullable(true)));
                    columns.push(Output { expr: column(&name), field: Arc::clone(element), time: TimeAttribute::None });
                }
            } else if let Some(Some(name)) = kept.get(index) {
                fields.push(Arc::new(relation.base.field(index).clone().with_name(name)));
                columns.push(Output { expr: Expr::Column(Column::new_unqualified(name)), ..output.clone() });
            }
        }
        if let Some(last) = position {
            let name = names.take(last.name());
            fields.push(Arc::new(last.as_ref().clone().with_name(&name)));
            let output = Output { expr: column(&name), field: Arc::clone(last), time: TimeAttribute::None };
            // Among the columns it follows its element.
            columns.insert(list + inner.len(), output);
        }
        let output: SchemaRef = Arc::new(Schema::new(fields));
        let node = UnnestNode { column: list, outer, expand_struct, ordinality };
        let ports = vec![Port::forward(&relation.inputs)];
        let id = self.graph.add("Unnest".to_owned(), OperatorKind::Unnest(node), Arc::clone(&output), ports)?;
        Ok(Relation::of(id, output, columns))
    }
}
