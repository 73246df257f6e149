//! `m[k]` of a map: DataFusion's `get_field` takes a `k` that is no literal at planning and fails at every row, and so
//! it does with a key of another type than the map's.

use datafusion_common::tree_node::Transformed;
use datafusion_common::{DFSchema, Result};
use datafusion_expr::{Expr, ExprSchemable, TryCast};

use crate::functions::{MAP_VALUE, entry_types, registry};

/// One expression over `schema`, whose parts are done.
pub(crate) fn node(mut expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let Expr::ScalarFunction(function) = &mut expr else { return Ok(Transformed::no(expr)) };
    if function.name() != "get_field" {
        return Ok(Transformed::no(expr));
    }
    let [map, key] = function.args.as_mut_slice() else { return Ok(Transformed::no(expr)) };
    let map = map.get_type(schema)?;
    let Some((wanted, _)) = entry_types(&map) else { return Ok(Transformed::no(expr)) };
    let found = key.get_type(schema)?;
    let is_other = found != *wanted && !found.is_null();
    if matches!(key, Expr::Literal(..)) && !is_other {
        return Ok(Transformed::no(expr));
    }
    if is_other {
        // What does not fit the key's type is no key of the map.
        *key = Expr::TryCast(TryCast::new(Box::new(std::mem::take(key)), wanted.clone()));
    }
    match registry().scalar(MAP_VALUE) {
        Some(lookup) => function.func = lookup,
        None => return Ok(Transformed::no(expr)),
    }
    Ok(Transformed::yes(expr))
}
