//! Joins: of two windowed streams, of a stream with a bounded table (`lookup`) or with a table's versions, or of whatever else (`regular_join`).

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion_common::{DFSchema, JoinType, NullEquality};
use datafusion_expr::logical_plan::Join;
use datafusion_expr::{Expr, LogicalPlan, lit};
use qanat_proto::changelog::without_kinds;
use qanat_proto::error::{Code, Error, Place, Result};
use qanat_proto::graph::{EncodedExpr, JoinKind, OperatorKind, WindowJoinNode};

use super::Lowering;
use super::graph::Port;
use super::interval_join::interval_of;
use super::lookup::lookup_of;
use super::refuse::{self, place_of, placed};
use super::relation::{Output, Relation, TimeAttribute, UniqueNames, WindowSpec, internal};
use super::temporal_join::versions_of;

/// The equalities of a window join, sorted out.
struct Pairs<'p> {
    spec: WindowSpec,
    start: &'p (Expr, Expr),
    end: &'p (Expr, Expr),
    keys: Vec<&'p (Expr, Expr)>,
}

impl Lowering<'_> {
    pub(super) fn join(&mut self, join: &Join) -> Result<Relation> {
        for expr in join.filter.iter().chain(join.on.iter().flat_map(|(l, r)| [l, r])) {
            refuse::subqueries(expr, &join.left)?;
        }
        let place = place_of(join.on.iter().flat_map(|(l, r)| [l, r]).chain(&join.filter));
        if let Some(versions) = versions_of(join) {
            return self.temporal_join(join, versions, place);
        }
        if let Some(side) = lookup_of(join, self.connectors)? {
            return self.lookup_join(join, side, place);
        }
        match join.join_type {
            JoinType::RightSemi => self.join(&mirrored(join, JoinType::LeftSemi)?),
            JoinType::RightAnti => self.join(&mirrored(join, JoinType::LeftAnti)?),
            JoinType::LeftMark | JoinType::RightMark => {
                let error = Error::new(Code::SqlUnsupported, "EXISTS or IN under OR is not supported yet")
                    .hint("split the query at the OR into two and UNION ALL them");
                Err(placed(error, place))
            }
            JoinType::Inner => self.window_join(join, JoinKind::Inner, place),
            JoinType::Left => self.window_join(join, JoinKind::Left, place),
            JoinType::Right => self.window_join(join, JoinKind::Right, place),
            JoinType::Full => self.window_join(join, JoinKind::Full, place),
            JoinType::LeftSemi => self.window_join(join, JoinKind::LeftSemi, place),
            JoinType::LeftAnti => self.window_join(join, JoinKind::LeftAnti, place),
        }
    }

    fn window_join(&mut self, join: &Join, kind: JoinKind, place: Option<Place>) -> Result<Relation> {
        let left = self.lower(&join.left)?;
        let right = self.lower(&join.right)?;
        let Some(pairs) = sort_pairs(join, &left, &right, place.clone())? else {
            if let Some(interval) = interval_of(join, &left, &right) {
                return self.interval_join(join, kind, left, right, &interval);
            }
            return self.regular_join(join, kind, left, right, place);
        };
        for side in [&left, &right] {
            refuse::changelog(side, "a join of windows", place.clone())?;
        }
        check_nulls(join, &pairs.keys, place)?;
        let mut left_exprs = vec![&pairs.start.0, &pairs.end.0];
        let mut right_exprs = vec![&pairs.start.1, &pairs.end.1];
        left_exprs.extend(pairs.keys.iter().map(|(l, _)| l));
        right_exprs.extend(pairs.keys.iter().map(|(_, r)| r));
        let mut names = UniqueNames::default();
        let (left, left_keys) = self.join_side(left, &left_exprs, join.left.schema(), &mut names)?;
        let (right, right_keys) = self.join_side(right, &right_exprs, join.right.schema(), &mut names)?;
        let spec = pairs.spec;
        let (left_window, left_keys) = split_window(&left_keys)?;
        let (right_window, right_keys) = split_window(&right_keys)?;

        let filter = condition(join, &left, &right)?;
        let output = both(&left.base, &right.base, kind)?;
        let on: Vec<(usize, usize)> = left_keys.iter().copied().zip(right_keys.iter().copied()).collect();
        // Without keys the windows themselves spread over the subtasks.
        let by = |window: (usize, usize), keys: &[usize]| {
            if keys.is_empty() { vec![window.0, window.1] } else { keys.to_vec() }
        };
        let ports = vec![
            Port::hash(&left.inputs, by(left_window, &left_keys)),
            Port::hash(&right.inputs, by(right_window, &right_keys)),
        ];
        let node = WindowJoinNode {
            kind,
            on,
            filter,
            left_window,
            right_window,
            domain: spec.domain,
            allowed_lateness_ms: self.allowed_lateness_ms,
        };
        let name = format!("WindowJoin({kind:?}, {})", crate::plan::window_table::shape_text(&spec.shape));
        let id = self.graph.add(name, OperatorKind::WindowJoin(node), Arc::clone(&output), ports)?;
        let mut columns = left.columns;
        if !matches!(kind, JoinKind::LeftSemi | JoinKind::LeftAnti) {
            columns.extend(right.columns);
        }
        let mut columns: Vec<Output> = columns;
        for (out, field) in columns.iter_mut().zip(join.schema.fields()) {
            out.field = Arc::clone(field);
            // The padded side's windows are NULL where nothing matched: no window to group by.
            if field.is_nullable() && !matches!(kind, JoinKind::Inner) {
                out.time = TimeAttribute::None;
            }
        }
        let mut joined = Relation::of(id, output, columns);
        joined.forget_rowtime();
        Ok(joined)
    }

    /// One side of a join as operators: exactly its columns and then computed keys, under names that the
    /// other side does not use. Returns the positions of `exprs`.
    pub(super) fn join_side(
        &mut self,
        relation: Relation,
        exprs: &[&Expr],
        schema: &DFSchema,
        names: &mut UniqueNames,
    ) -> Result<(Relation, Vec<usize>)> {
        let mut relation = self.append_pending(relation)?;
        let width = relation.columns.len();
        let positions = relation.columns_of(exprs.iter().copied(), schema, "join_key")?;
        if relation.columns.is_empty() {
            // Rows without columns could not be kept, nor counted.
            let field = Arc::new(Field::new("present", DataType::Boolean, false));
            relation.columns.push(Output { expr: lit(true), field, time: TimeAttribute::None });
        }
        let logical: Vec<FieldRef> = relation.columns.iter().map(|out| Arc::clone(&out.field)).collect();
        let identity = relation.is_identity();
        let mut clash = false;
        for (index, out) in relation.columns.iter_mut().enumerate() {
            let current = if identity { relation.base.field(index).name().clone() } else { out.field.name().clone() };
            let name = names.take(&current);
            clash |= identity && name != current;
            out.field = Arc::new(out.field.as_ref().clone().with_name(name));
        }
        let mut relation = if identity && !clash { relation } else { self.materialise_always(relation)? };
        for (out, field) in relation.columns.iter_mut().zip(logical) {
            out.field = field;
        }
        // Computed keys are in the rows but not among the logical plan's columns.
        relation.columns.truncate(width);
        Ok((relation, positions))
    }
}

/// What has to hold of a pair beside equal keys, over the columns of both sides without their kinds.
pub(super) fn condition(join: &Join, left: &Relation, right: &Relation) -> Result<Option<EncodedExpr>> {
    condition_with(join, join.filter.as_ref(), left, right, Vec::new())
}

/// As [`condition`], of another `filter` than the join's. `more`: over the rows of both sides already.
pub(super) fn condition_with(
    join: &Join,
    filter: Option<&Expr>,
    left: &Relation,
    right: &Relation,
    more: Vec<Expr>,
) -> Result<Option<EncodedExpr>> {
    let logical = join.left.schema().join(join.right.schema()).map_err(|e| internal(&e))?;
    let filter = filter.map(|filter| combine(left, right).translate(filter, &logical)).transpose()?;
    let Some(filter) = filter.into_iter().chain(more).reduce(Expr::and) else { return Ok(None) };
    let scope = both(&without_kinds(&left.base), &without_kinds(&right.base), JoinKind::Inner)?;
    let scope = DFSchema::try_from(scope).map_err(|e| internal(&e))?;
    crate::expr::encode(&filter, &scope).map(Some)
}

/// Left and right columns in one scope.
fn combine(left: &Relation, right: &Relation) -> Relation {
    let mut columns = left.columns.clone();
    columns.extend(right.columns.iter().cloned());
    Relation { columns, ..left.clone() }
}

/// Left columns then right columns, nullable where `kind` pads.
pub(super) fn both(left: &SchemaRef, right: &SchemaRef, kind: JoinKind) -> Result<SchemaRef> {
    let padded = |schema: &SchemaRef, pads: bool| -> Vec<FieldRef> {
        let fields = schema.fields().iter();
        fields.map(|f| Arc::new(Field::new(f.name(), f.data_type().clone(), pads || f.is_nullable()))).collect()
    };
    let mut fields = padded(left, matches!(kind, JoinKind::Right | JoinKind::Full));
    if !matches!(kind, JoinKind::LeftSemi | JoinKind::LeftAnti) {
        fields.extend(padded(right, matches!(kind, JoinKind::Left | JoinKind::Full)));
    }
    Ok(Arc::new(Schema::new(fields)))
}

fn split_window(positions: &[usize]) -> Result<((usize, usize), Vec<usize>)> {
    match positions {
        [start, end, keys @ ..] => Ok(((*start, *end), keys.to_vec())),
        _ => Err(Error::internal("a window join without windows")),
    }
}

/// Which equalities are the window's, which are keys. None without a window.
fn sort_pairs<'p>(
    join: &'p Join,
    left: &Relation,
    right: &Relation,
    place: Option<Place>,
) -> Result<Option<Pairs<'p>>> {
    let (mut start, mut end, mut keys) = (None, None, Vec::new());
    let mut specs = Vec::new();
    for pair in &join.on {
        let times = (left.time_of(&pair.0, join.left.schema()), right.time_of(&pair.1, join.right.schema()));
        match times {
            (TimeAttribute::WindowStart(l), TimeAttribute::WindowStart(r)) if start.is_none() => {
                start = Some(pair);
                specs.push((l, r));
            }
            (TimeAttribute::WindowEnd(l), TimeAttribute::WindowEnd(r)) if end.is_none() => {
                end = Some(pair);
                specs.push((l, r));
            }
            _ => keys.push(pair),
        }
    }
    match (start, end, specs.first()) {
        (Some(start), Some(end), Some((spec, _))) => {
            if specs.iter().any(|(l, r)| l != spec || r != spec) {
                let error = Error::new(Code::TimeAttribute, "the two sides of this join have different windows")
                    .hint("use the same window function with the same lengths on both sides");
                return Err(placed(error, place));
            }
            Ok(Some(Pairs { spec: *spec, start, end, keys }))
        }
        (None, None, _) => Ok(None),
        _ => {
            let error = Error::new(
                Code::TimeAttribute,
                "a window join compares both `window_start` and `window_end` of its sides",
            )
            .hint("write `ON l.window_start = r.window_start AND l.window_end = r.window_end AND …`");
            Err(placed(error, place))
        }
    }
}

/// `NULL = NULL` joins nothing; where a query asks otherwise it is refused.
fn check_nulls(join: &Join, keys: &[&(Expr, Expr)], place: Option<Place>) -> Result<()> {
    if join.null_equality == NullEquality::NullEqualsNull && !keys.is_empty() {
        let error = Error::new(
            Code::SqlUnsupported,
            "IS NOT DISTINCT FROM, INTERSECT and EXCEPT in a join are not supported yet",
        )
        .hint("compare with `=`, or replace NULL by COALESCE on both sides");
        return Err(placed(error, place));
    }
    check_null_aware(join, keys, place)
}

/// `NOT IN` says nothing where a NULL is about, which is refused.
pub(super) fn check_null_aware(join: &Join, keys: &[&(Expr, Expr)], place: Option<Place>) -> Result<()> {
    let nullable =
        |expr: &Expr, schema: &DFSchema| datafusion_expr::ExprSchemable::nullable(expr, schema).unwrap_or(true);
    let may_be_null = keys.iter().any(|(l, r)| nullable(l, join.left.schema()) || nullable(r, join.right.schema()));
    if join.null_aware && may_be_null {
        let error = Error::new(Code::SqlUnsupported, "NOT IN over columns that may be NULL is not supported yet")
            .hint("write NOT EXISTS, which has the meaning most queries want; or declare the columns NOT NULL");
        return Err(placed(error, place));
    }
    Ok(())
}

/// The same join with its sides swapped.
fn mirrored(join: &Join, join_type: JoinType) -> Result<Join> {
    let on = join.on.iter().map(|(l, r)| (r.clone(), l.clone())).collect();
    Join::try_new(
        Arc::clone(&join.right),
        Arc::clone(&join.left),
        on,
        join.filter.clone(),
        join_type,
        join.join_constraint,
        join.null_equality,
        join.null_aware,
    )
    .map_err(|e| internal(&e))
}

/// The plan of one side.
pub(super) fn input(join: &Join, right: bool) -> &LogicalPlan {
    if right { &join.right } else { &join.left }
}
