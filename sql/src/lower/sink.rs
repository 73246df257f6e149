//! The end of a query: its columns fitted to the table it is inserted into.

use std::sync::Arc;

use arrow::array::Array;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::display::array_value_to_string;
use datafusion_common::tree_node::TreeNode;
use datafusion_common::{DFSchema, ScalarValue};
use datafusion_expr::{Cast, Expr, ExprSchemable, LogicalPlan};
use qanat_proto::changelog::{AcceptedChangelog, Changelog};
use qanat_proto::connector::{Role, SinkRouting, TableDescriptor};
use qanat_proto::error::{Code, Error, Place, Result, nearest};
use qanat_proto::graph::{OperatorKind, RankFunction, SinkNode, Ties};
use qanat_proto::ids::OperatorId;

use super::Lowering;
use super::graph::Port;
use super::refuse::placed;
use super::relation::{Output, PendingRank, Relation, TimeAttribute, UniqueNames, internal};
use crate::expr::sql_text;
use crate::rules;
use crate::rules::implicit_cast::{is_implicit, literal_fits};
use crate::types::sql_name;

/// One INSERT, resolved.
pub(crate) struct SinkTarget<'t> {
    pub(crate) table: &'t TableDescriptor,
    /// Names of the target columns, by position of the query's; empty: all physical columns in order.
    pub(crate) columns: Vec<String>,
    /// Where the query's columns stand in the text, as far as that is known.
    pub(crate) places: Vec<Option<Place>>,
    /// Static partition values, already of literal form.
    pub(crate) constants: Vec<(String, Expr)>,
    pub(crate) overwrite: bool,
    /// Take the query's columns as they are (the implicit `print` table).
    pub(crate) any_schema: bool,
}

impl Lowering<'_> {
    /// Lowers `plan` into `target`.
    ///
    /// # Errors
    /// E0114 where the columns do not fit, naming the column; what lowering the query gives.
    pub(crate) fn insert(&mut self, plan: &LogicalPlan, target: &SinkTarget<'_>) -> Result<OperatorId> {
        let mut relation = self.lower(plan)?;
        relation = self.append_pending(relation)?;
        let traits = self.connectors.check(target.table, Role::Sink)?;
        let changelog = taken(&relation, target.table, traits.changelog)?;
        if !target.any_schema {
            relation.columns = self.fit(&relation.scope()?, std::mem::take(&mut relation.columns), target)?;
        }
        let relation = self.materialise_sink(relation)?;
        let relation = match &changelog {
            Changelog::Upsert { key } => self.by_key(relation, key)?,
            Changelog::Append | Changelog::Retract => relation,
        };
        let partition = static_partition(target)?;
        let buckets = match traits.routing {
            SinkRouting::Any => None,
            SinkRouting::ByKey => Some(self.key_groups),
            SinkRouting::Single => Some(1),
        };
        let node = SinkNode { table: target.table.clone(), overwrite: target.overwrite, partition, buckets };
        let name = format!("Sink({})", target.table.name);
        // The connector has checked the number.
        let subtasks = target.table.option("sink.parallelism").and_then(|text| text.trim().parse().ok());
        let shuffles = target
            .table
            .option("sink.shuffle-by-partition.enable")
            .is_some_and(|text| text.trim().eq_ignore_ascii_case("true"));
        let by = |name: &String| relation.base.index_of(name).ok();
        let partition_columns: Vec<usize> = target.table.partitioned_by.iter().filter_map(by).collect();
        let ports = match traits.routing {
            SinkRouting::ByKey => {
                vec![Port::hash(&relation.inputs, target.table.primary_key.iter().filter_map(by).collect())]
            }
            SinkRouting::Single => vec![Port::hash(&relation.inputs, Vec::new())],
            SinkRouting::Any if shuffles && !partition_columns.is_empty() => {
                vec![Port::hash(&relation.inputs, partition_columns)]
            }
            SinkRouting::Any => vec![Port::limited(&relation.inputs, subtasks)],
        };
        let id = self.graph.add(name, OperatorKind::Sink(node), Arc::clone(&relation.base), ports)?;
        self.graph.set_changelog(id, changelog);
        Ok(id)
    }

    /// The one row that each key of a sink has come to. Rows that are taken back may be of several groups, which come in any
    /// order: who keeps the last one that came may keep one that is gone.
    fn by_key(&mut self, relation: Relation, key: &[usize]) -> Result<Relation> {
        let [producer] = relation.inputs.as_slice() else { return self.first_of_key(relation, key) };
        if self.graph.has_key(*producer, key) { Ok(relation) } else { self.first_of_key(relation, key) }
    }

    fn first_of_key(&mut self, relation: Relation, key: &[usize]) -> Result<Relation> {
        let name = UniqueNames::of(&relation.base).take("row_number");
        let rank = PendingRank {
            function: RankFunction::RowNumber,
            window: None,
            partition_by: key.to_vec(),
            order_by: Vec::new(),
            ties: Ties::Contents,
            name,
        };
        // A hint is for what the query keeps.
        self.append_rank(Relation { hint: None, ..relation }, &rank, 0, 1)
    }

    /// The rows under exactly the sink's names, or the query's where a bare SELECT is printed.
    fn materialise_sink(&mut self, relation: Relation) -> Result<Relation> {
        let named = relation.columns.iter().zip(relation.base.fields()).all(|(o, f)| o.field.name() == f.name());
        if relation.is_identity() && named {
            return Ok(relation);
        }
        self.materialise_always(relation)
    }

    fn fit(&self, scope: &DFSchema, columns: Vec<Output>, target: &SinkTarget<'_>) -> Result<Vec<Output>> {
        let table = target.table;
        let physical = &table.physical;
        let fixed = |name: &str| target.constants.iter().find(|(constant, _)| constant == name);
        let wanted: Vec<String> = if target.columns.is_empty() {
            physical.fields().iter().map(|f| f.name().clone()).filter(|name| fixed(name).is_none()).collect()
        } else {
            target.columns.clone()
        };
        for name in wanted.iter().chain(target.constants.iter().map(|(name, _)| name)) {
            if physical.field_with_name(name).is_err() {
                let error = Error::new(
                    Code::UnknownColumn,
                    format!("table `{}` has no column `{name}` to insert into", table.name),
                );
                let near = nearest(name, physical.fields().iter().map(|f| f.name().as_str()));
                return Err(match near {
                    Some(near) => error.hint(format!("did you mean `{near}`?")),
                    None => error,
                });
            }
        }
        if wanted.len() != columns.len() {
            return Err(Error::new(
                Code::SinkSchema,
                format!(
                    "the query gives {} columns ({}), and table `{}` takes {} ({})",
                    columns.len(),
                    list(columns.iter().map(|o| o.field.name().as_str())),
                    table.name,
                    wanted.len(),
                    list(wanted.iter().map(String::as_str)),
                ),
            )
            .hint("columns are matched by position, as in Flink; name them in INSERT INTO t (a, b) to insert a part"));
        }
        let mut fitted = Vec::with_capacity(physical.fields().len());
        for field in physical.fields() {
            let position = wanted.iter().position(|name| name == field.name());
            let expr = match (position.and_then(|p| columns.get(p)), fixed(field.name())) {
                (Some(output), _) => cast(output, field, scope, table)
                    .map_err(|error| placed(error, position.and_then(|p| target.places.get(p)?.clone())))?,
                (None, Some((_, constant))) => {
                    Expr::Cast(Cast::new(Box::new(constant.clone()), field.data_type().clone()))
                }
                (None, None) if !field.is_nullable() => {
                    let message =
                        format!("column `{}` of table `{}` is NOT NULL and gets no value", field.name(), table.name);
                    return Err(Error::new(Code::SinkSchema, message));
                }
                (None, None) => {
                    Expr::Literal(ScalarValue::try_from(field.data_type()).map_err(|e| internal(&e))?, None)
                }
            };
            fitted.push(Output { expr, field: Arc::clone(field), time: TimeAttribute::None });
        }
        Ok(fitted)
    }
}

/// The rows that a sink takes of a query.
///
/// # Errors
/// E0115 for rows that change into a table that only takes new ones.
fn taken(relation: &Relation, table: &TableDescriptor, accepted: AcceptedChangelog) -> Result<Changelog> {
    if !relation.is_changelog() {
        return Ok(Changelog::Append);
    }
    let refused = |message: String, hint: &str| Err(Error::new(Code::ChangelogRefused, message).hint(hint));
    match accepted {
        AcceptedChangelog::Retract => Ok(Changelog::Retract),
        AcceptedChangelog::Upsert if table.primary_key.is_empty() => refused(
            format!("rows of this query change, and table `{}` has no PRIMARY KEY to find them by", table.name),
            "declare the columns that tell rows apart: `PRIMARY KEY (…) NOT ENFORCED`",
        ),
        AcceptedChangelog::Upsert => {
            let column = |name: &String| table.physical.index_of(name).ok();
            Ok(Changelog::Upsert { key: table.primary_key.iter().filter_map(column).collect() })
        }
        AcceptedChangelog::Append => refused(
            format!("rows of this query change, and table `{}` ({}) takes new rows only", table.name, table.connector),
            "aggregate in a window, whose rows are final; or, in files, keep the table (`'sink.changelog' = 'table'`) or \
             a log of its changes (`'sink.changelog' = 'log'`)",
        ),
    }
}

/// The partition that the constants name, if they name a whole one.
fn static_partition(target: &SinkTarget<'_>) -> Result<Vec<(String, Option<String>)>> {
    let table = target.table;
    let mut partition = Vec::with_capacity(table.partitioned_by.len());
    for name in &table.partitioned_by {
        let constant = target.constants.iter().find(|(constant, _)| constant == name);
        let (Some((_, Expr::Literal(value, _))), Ok(field)) = (constant, table.physical.field_with_name(name)) else {
            return Ok(Vec::new());
        };
        let value = value.cast_to(field.data_type()).and_then(|value| value.to_array()).map_err(|e| internal(&e))?;
        let text = array_value_to_string(&value, 0).map_err(|e| internal(&e.into()))?;
        partition.push((name.clone(), (!value.is_null(0)).then_some(text)));
    }
    Ok(partition)
}

/// The column as the sink's type.
fn cast(output: &Output, field: &Field, scope: &DFSchema, table: &TableDescriptor) -> Result<Expr> {
    let (_, actual) = output.expr.to_field(scope).map_err(|e| internal(&e))?;
    let (from, to) = (actual.data_type(), field.data_type());
    if same_shape(from, to) {
        return Ok(output.expr.clone());
    }
    if is_implicit(from, to) || literal_fits(&output.expr, to) {
        let cast = Expr::Cast(Cast::new(Box::new(output.expr.clone()), to.clone()));
        return Ok(rules::conversions::expression(cast, scope).map_err(|e| internal(&e))?.data);
    }
    // Into calls that nobody could write.
    let is_rewritten = output.expr.exists(|part| Ok(matches!(part, Expr::ScalarFunction(_) | Expr::Cast(_))));
    let is_rewritten = is_rewritten.map_err(|e| internal(&e))?;
    let value = if matches!(output.expr, Expr::Literal(..)) { "…".to_owned() } else { sql_text(&output.expr) };
    Err(Error::new(
        Code::SinkSchema,
        format!(
            "column `{}` of table `{}` is {}, and the query gives `{}` of type {}",
            field.name(),
            table.name,
            sql_name(to),
            if output.field.name().contains('(') { &value } else { output.field.name() },
            sql_name(from),
        ),
    )
    .hint(format!("cast it: `CAST({} AS {})`", if is_rewritten { "…" } else { &value }, sql_name(to))))
}

/// Equal apart from nullability and names inside.
fn same_shape(a: &DataType, b: &DataType) -> bool {
    a == b || (a.equals_datatype(b) && !matches!(a, DataType::Struct(_) | DataType::List(_) | DataType::Map(..)))
}

fn list<'n>(names: impl Iterator<Item = &'n str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

/// A descriptor for the table that a bare SELECT prints into.
pub(crate) fn print_table(schema: &Schema) -> TableDescriptor {
    let mut names = UniqueNames::default();
    let fields = schema.fields().iter().map(|f| {
        // Nobody declared them: what the planner takes for NOT NULL is no promise.
        Arc::new(f.as_ref().clone().with_name(names.take(f.name())).with_nullable(true))
    });
    TableDescriptor {
        name: "print".to_owned(),
        connector: "print".to_owned(),
        options: std::collections::BTreeMap::from([("connector".to_owned(), "print".to_owned())]),
        physical: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
        metadata: Vec::new(),
        primary_key: Vec::new(),
        partitioned_by: Vec::new(),
    }
}
