//! `GROUP BY` without a window: a changelog of groups.

use std::sync::Arc;

use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};
use datafusion_common::DFSchema;
use datafusion_expr::logical_plan::Aggregate;
use qanat_proto::changelog::kind_field;
use qanat_proto::error::{Code, Error, Result};
use qanat_proto::graph::{GroupAggregateNode, OperatorKind, WindowTelling};

use super::Lowering;
use super::aggregate::Group;
use super::graph::Port;
use super::refuse::{place_of, placed};
use super::relation::{Output, Relation, TimeAttribute, UniqueNames, column, internal};

/// Functions whose result hangs on the order in which rows came, which is not known any more once one is taken back.
pub(super) const ORDERED: &[&str] = &["first_value", "last_value", "nth_value", "any_value", "array_agg", "string_agg"];

impl Lowering<'_> {
    /// `windows`: the groups are those of windows, by the position of their end among the grouping expressions.
    pub(super) fn group_aggregate(
        &mut self,
        relation: Relation,
        aggregate: &Aggregate,
        windows: Option<WindowTelling>,
    ) -> Result<Relation> {
        let schema = aggregate.input.schema();
        let exprs: Vec<_> = aggregate.group_expr.iter().chain(&aggregate.aggr_expr).cloned().collect();
        let relation = if relation.must_materialise(&exprs, schema)? { self.materialise(relation)? } else { relation };
        let relation = self.append_pending(relation)?;
        let hint = relation.hint;
        let groups: Vec<Group> = aggregate.group_expr.iter().map(|_| Group::Key).collect();
        let prepared = self.prepare(relation, aggregate, &groups, &[])?;
        let input = DFSchema::try_from(Arc::clone(&prepared.schema)).map_err(|e| internal(&e))?;
        let retracts = qanat_proto::changelog::has_kinds(&prepared.schema);
        let mut names = UniqueNames::default();
        let mut fields: Vec<FieldRef> = Vec::new();
        for key in &prepared.keys {
            let field = prepared.schema.field(*key);
            fields.push(Arc::new(field.clone().with_name(names.take(field.name()))));
        }
        let mut aggregates = Vec::new();
        let results = aggregate.schema.fields().iter().skip(aggregate.group_expr.len());
        for ((call, result), expr) in prepared.calls.iter().zip(results).zip(&aggregate.aggr_expr) {
            if retracts && ORDERED.contains(&call.function.as_str()) {
                let message =
                    format!("`{}` takes rows in their order, and rows of this query may be taken back", call.function);
                let error = Error::new(Code::SqlUnsupported, message)
                    .hint("aggregate before the query starts to change its rows, or use MIN or MAX");
                return Err(placed(error, place_of([expr])));
            }
            let name = names.take(&call.name);
            fields.push(Arc::new(Field::new(&name, result.data_type().clone(), result.is_nullable())));
            aggregates.push(call.encode(name, &input)?);
        }
        let width = fields.len();
        fields.push(Arc::new(kind_field()));
        let output: SchemaRef = Arc::new(Schema::new(fields));
        let port = Port::hash(&prepared.inputs, prepared.keys.clone());
        let node =
            GroupAggregateNode { keys: prepared.keys.clone(), aggregates, mini_batch_ms: self.mini_batch_ms, windows };
        let kind = OperatorKind::GroupAggregate(node);
        let id = self.add_keeping(("GroupAggregate".to_owned(), kind), &output, vec![port], [hint, None])?;
        let columns = output.fields().iter().take(width).zip(aggregate.schema.fields()).map(|(field, logical)| {
            Output { expr: column(field.name()), field: Arc::clone(logical), time: TimeAttribute::None }
        });
        let columns = columns.collect();
        Ok(Relation::of(id, output, columns))
    }
}
