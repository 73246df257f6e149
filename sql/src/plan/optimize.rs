//! The rules that a query passes before it is lowered: ours for Flink's semantics, DataFusion's type
//! coercion, and those of DataFusion's rewrites that make sense for a stream.

use std::sync::Arc;

use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::TreeNode;
use datafusion_common::{DFSchemaRef, Result};
use datafusion_expr::simplify::SimplifyContext;
use datafusion_expr::{Expr, LogicalPlan};
use datafusion_optimizer::analyzer::Analyzer;
use datafusion_optimizer::analyzer::type_coercion::{TypeCoercion, TypeCoercionRewriter};
use datafusion_optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion_optimizer::eliminate_cross_join::EliminateCrossJoin;
use datafusion_optimizer::eliminate_duplicated_expr::EliminateDuplicatedExpr;
use datafusion_optimizer::eliminate_group_by_constant::EliminateGroupByConstant;
use datafusion_optimizer::eliminate_outer_join::EliminateOuterJoin;
use datafusion_optimizer::extract_equijoin_predicate::ExtractEquijoinPredicate;
use datafusion_optimizer::optimize_projections::OptimizeProjections;
use datafusion_optimizer::optimize_unions::OptimizeUnions;
use datafusion_optimizer::push_down_filter::PushDownFilter;
use datafusion_optimizer::replace_distinct_aggregate::ReplaceDistinctWithAggregate;
use datafusion_optimizer::scalar_subquery_to_join::ScalarSubqueryToJoin;
use datafusion_optimizer::simplify_expressions::{ExprSimplifier, SimplifyExpressions};
use datafusion_optimizer::{Optimizer, OptimizerContext, OptimizerRule};

use super::failure::from_datafusion;
use crate::rules;

/// Brings a query to the form that is lowered.
///
/// # Errors
/// What a rule finds wrong with the query.
pub(crate) fn optimize(plan: LogicalPlan, config: &ConfigOptions) -> qanat_proto::Result<LogicalPlan> {
    let convert = |e: datafusion_common::DataFusionError| from_datafusion(&e);
    let plan = rules::casts::unwrap(plan).map_err(convert)?;
    let plan = rules::literals::rewrite(plan).map_err(convert)?;
    let plan = rules::filtered::rewrite(plan).map_err(convert)?;
    let plan = rules::patterns::rewrite(plan).map_err(convert)?;
    let plan = rules::lateral::rewrite(plan).map_err(convert)?;
    let plan = rules::temporal::rewrite(plan)?;
    let plan = rules::row_number::rewrite(plan).map_err(convert)?;
    let plan = rules::grouping_sets::rewrite(plan).map_err(convert)?;
    let plan = rules::checks::check(plan).map_err(convert)?;
    let plan = rules::embedded_subqueries::rewrite(plan).map_err(convert)?;
    let plan = rules::types::rewrite(plan).map_err(convert)?;
    let analyzer = Analyzer::with_rules(vec![Arc::new(TypeCoercion::new())]);
    let plan = analyzer.execute_and_check(plan, config, |_, _| {}).map_err(convert)?;
    let plan = rules::conversions::rewrite(plan).map_err(convert)?;
    let plan = rules::overflow::rewrite(plan).map_err(convert)?;
    let plan = rules::lists::rewrite(plan).map_err(convert)?;
    let plan = rules::scalar_subqueries::rewrite(plan).map_err(convert)?;
    let (plan, is_unsafe) = rules::hidden::hide(plan).map_err(convert)?;
    // No start time: nothing may fold `now()` into a constant of a job that runs for months.
    let context =
        OptimizerContext::new_with_config_options(Arc::new(config.clone())).without_query_execution_start_time();
    let plan = Optimizer::with_rules(stream_rules(is_unsafe)).optimize(plan, &context, |_, _| {}).map_err(convert)?;
    rules::casts::unwrap(plan).map_err(convert)
}

/// Left out on purpose: rules that assume a finished input (limits, empty relations), that turn one
/// aggregation into two without their windows (single distinct), or that add work per row for join
/// orders we do not have. `is_unsafe`: a condition can fail.
fn stream_rules(is_unsafe: bool) -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let keys_apart: Option<Arc<dyn OptimizerRule + Send + Sync>> =
        is_unsafe.then(|| Arc::new(rules::keys_apart::KeysApart) as _);
    let before: Vec<Arc<dyn OptimizerRule + Send + Sync>> = vec![
        Arc::new(OptimizeUnions::new()),
        // Before `AND FALSE` makes the whole condition one constant: the equalities still say which windows meet.
        Arc::new(ExtractEquijoinPredicate::new()),
        Arc::new(SimplifyExpressions::new()),
        Arc::new(ReplaceDistinctWithAggregate::new()),
        Arc::new(DecorrelatePredicateSubquery::new()),
        Arc::new(ScalarSubqueryToJoin::new()),
        Arc::new(ExtractEquijoinPredicate::new()),
        Arc::new(EliminateDuplicatedExpr::new()),
        Arc::new(rules::constant_filters::ConstantFilters),
        Arc::new(rules::constant_keys::ConstantKeys),
        Arc::new(EliminateCrossJoin::new()),
        Arc::new(EliminateOuterJoin::new()),
    ];
    let after: Vec<Arc<dyn OptimizerRule + Send + Sync>> = vec![
        Arc::new(PushDownFilter::new()),
        Arc::new(EliminateGroupByConstant::new()),
        Arc::new(OptimizeProjections::new()),
    ];
    before.into_iter().chain(keys_apart).chain(after).collect()
}

/// Type coercion and simplification of one expression.
pub(crate) fn typed_expression(expr: Expr, schema: &DFSchemaRef) -> Result<Expr> {
    let expr = rules::literals::expression(expr)?.data;
    let expr = rules::patterns::expression(expr)?.data;
    rules::checks::expression(&expr, schema)?;
    let expr = rules::types::expression(expr, schema)?.data;
    // What that rule made anew, as the analyzer does for a plan.
    let expr = expr.rewrite(&mut TypeCoercionRewriter::new(schema))?.data;
    let expr = rules::conversions::expression(expr, schema)?.data;
    let expr = rules::overflow::expression(expr, schema)?.data;
    let expr = rules::lists::expression(expr)?.data;
    let expr = rules::hidden::expression(expr, schema)?.data;
    let context = SimplifyContext::builder().with_schema(Arc::clone(schema)).build();
    let expr = ExprSimplifier::new(context).simplify(expr)?;
    Ok(rules::casts::shown(expr)?.data)
}
