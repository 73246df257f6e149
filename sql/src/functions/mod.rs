//! The functions there are: DataFusion's, and Flink's where names or semantics differ.
//!
//! The planner resolves names here and expressions are decoded here, so a name means the same function
//! wherever a plan runs. One file per family. Where both have a name, Flink's meaning wins;
//! `docs/guide/dialect.md` lists the differences and the tests in each file hold them.
//!
//! Functions of the wall clock and of chance ([`clock`]) are volatile: nothing folds them into constants,
//! and EXPLAIN can ask [`Functions::is_deterministic`].

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use datafusion_expr::planner::ExprPlanner;
use datafusion_expr::{AggregateUDF, ScalarUDF, Volatility, WindowUDF};
use qanat_proto::error::nearest;
use qanat_proto::{Code, Error, Result};

mod array;
mod bounded;
pub(crate) mod cast;
pub mod clock;
mod collection;
pub(crate) mod conditional;
pub(crate) mod decimal;
mod define;
mod hash;
mod json;
mod json_access;
mod json_write;
pub(crate) mod math;
mod pattern;
mod printf;
pub(crate) mod row_names;
mod text;
mod time;
mod times;
mod url;

pub(crate) use collection::{MAP_VALUE, entry_types};

/// All functions by lower-case name.
pub struct Functions {
    scalar: BTreeMap<String, Arc<ScalarUDF>>,
    aggregate: BTreeMap<String, Arc<AggregateUDF>>,
    window: BTreeMap<String, Arc<WindowUDF>>,
    planners: Vec<Arc<dyn ExprPlanner>>,
}

/// Names of Flink that other functions of ours have: (Flink's, registered).
const SCALAR_ALIASES: &[(&str, &str)] = &[
    ("array_join", "array_to_string"),
    ("map_from_arrays", "map"),
    ("row", "struct"),
    ("truncate", "trunc"),
    ("startswith", "starts_with"),
    ("endswith", "ends_with"),
    ("octet_length", "octet_length"),
];

const AGGREGATE_ALIASES: &[(&str, &str)] = &[
    ("approx_count_distinct", "approx_distinct"),
    ("listagg", "string_agg"),
    ("variance", "var_samp"),
    ("every", "bool_and"),
    ("grouping_id", "grouping"),
    ("percentile", "percentile_cont"),
];

/// DataFusion's functions that have no place in a job that may run twice or elsewhere.
const LEFT_OUT: &[&str] = &["version", "input_file_name", "file_row_index"];

/// The functions, built once.
pub fn registry() -> &'static Functions {
    static REGISTRY: LazyLock<Functions> = LazyLock::new(Functions::build);
    &REGISTRY
}

impl Functions {
    fn build() -> Self {
        let mut scalar = BTreeMap::new();
        let standard = datafusion_functions::all_default_functions()
            .into_iter()
            .chain(datafusion_functions_nested::all_default_nested_functions());
        for function in standard {
            register_scalar(&mut scalar, function);
        }
        for name in LEFT_OUT {
            scalar.remove(*name);
        }
        for (alias, name) in SCALAR_ALIASES {
            if let Some(function) = scalar.get(*name).cloned() {
                scalar.insert((*alias).to_owned(), function);
            }
        }
        // Ours come last: Flink's meaning of a name wins.
        let ours = [
            clock::functions(),
            time::functions(),
            text::functions(),
            pattern::functions(),
            printf::functions(),
            url::functions(),
            json::functions(),
            json_access::functions(),
            decimal::functions(),
            math::functions(),
            hash::functions(),
            conditional::functions(),
            collection::functions(),
            bounded::functions(),
            cast::functions(),
            row_names::functions(),
            array::functions(),
        ];
        for function in ours.into_iter().flatten() {
            register_scalar(&mut scalar, Arc::new(function));
        }
        let mut aggregate = BTreeMap::new();
        for function in datafusion_functions_aggregate::all_default_aggregate_functions() {
            let names = std::iter::once(function.name()).chain(function.aliases().iter().map(String::as_str));
            for name in names {
                aggregate.insert(name.to_lowercase(), Arc::clone(&function));
            }
        }
        for (alias, name) in AGGREGATE_ALIASES {
            if let Some(function) = aggregate.get(*name).cloned() {
                aggregate.insert((*alias).to_owned(), function);
            }
        }
        let mut window = BTreeMap::new();
        for function in datafusion_functions_window::all_default_window_functions() {
            let names = std::iter::once(function.name()).chain(function.aliases().iter().map(String::as_str));
            for name in names {
                window.insert(name.to_lowercase(), Arc::clone(&function));
            }
        }
        let planners: Vec<Arc<dyn ExprPlanner>> = vec![
            Arc::new(datafusion_functions::core::planner::CoreFunctionPlanner::default()),
            Arc::new(datafusion_functions_nested::planner::NestedFunctionPlanner),
            Arc::new(datafusion_functions_nested::planner::FieldAccessPlanner),
            Arc::new(datafusion_functions::datetime::planner::DatetimeFunctionPlanner),
            Arc::new(datafusion_functions::unicode::planner::UnicodeFunctionPlanner),
            Arc::new(datafusion_functions_aggregate::planner::AggregateFunctionPlanner),
            Arc::new(datafusion_functions_window::planner::WindowFunctionPlanner),
        ];
        Self { scalar, aggregate, window, planners }
    }

    /// By name, in any case.
    pub fn scalar(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.scalar.get(&name.to_lowercase()).cloned()
    }

    /// Whether there is a function of any kind with this name.
    pub fn has(&self, name: &str) -> bool {
        self.scalar(name).is_some() || self.aggregate(name).is_some() || self.window(name).is_some()
    }

    pub fn aggregate(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.aggregate.get(&name.to_lowercase()).cloned()
    }

    pub fn window(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.window.get(&name.to_lowercase()).cloned()
    }

    /// What plans subscripts, `ARRAY[…]`, struct fields and the like, for DataFusion's SQL planner.
    pub fn planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    pub fn scalar_names(&self) -> Vec<String> {
        self.scalar.keys().cloned().collect()
    }

    pub fn aggregate_names(&self) -> Vec<String> {
        self.aggregate.keys().cloned().collect()
    }

    pub fn window_names(&self) -> Vec<String> {
        self.window.keys().cloned().collect()
    }

    /// Whether a scalar function gives the same result for the same arguments, whenever it runs.
    /// An unknown name is not.
    pub fn is_deterministic(&self, name: &str) -> bool {
        self.scalar(name).is_some_and(|function| function.signature().volatility == Volatility::Immutable)
    }

    /// The error for a name that is no function.
    pub fn unknown(&self, name: &str) -> Error {
        let lower = name.to_lowercase();
        let error = Error::new(Code::UnknownFunction, format!("no function `{name}`"));
        if let Some((_, hint)) = REFUSED.iter().find(|(refused, _)| *refused == lower) {
            return Error::new(Code::SqlUnsupported, format!("function `{name}` is not supported")).hint(*hint);
        }
        let names = self.scalar.keys().chain(self.aggregate.keys()).chain(self.window.keys());
        match nearest(&lower, names.map(String::as_str)) {
            Some(other) => error.hint(format!("did you mean `{}`?", other.to_uppercase())),
            None => error.hint("SHOW FUNCTIONS lists them"),
        }
    }

    /// # Errors
    /// E0105 with the nearest name, E0102 for a known function that is not supported.
    pub fn need_scalar(&self, name: &str) -> Result<Arc<ScalarUDF>> {
        self.scalar(name).ok_or_else(|| self.unknown(name))
    }
}

/// Functions of others that are here by another name: what `CREATE FUNCTION … AS 'class'` calls them.
const CLASSES: &[(&str, &str)] = &[("com.github.nexmark.flink.udf.CountChar", "count_char")];

/// The function that a class of others is here.
pub fn of_class(class: &str) -> Option<&'static str> {
    CLASSES.iter().find(|(known, _)| *known == class).map(|(_, name)| *name)
}

/// Functions of Flink that are refused, with what to write instead.
const REFUSED: &[(&str, &str)] = &[
    ("current_watermark", "late rows are judged by window operators and kept in the late table"),
    ("collect", "use ARRAY_AGG"),
    ("json_objectagg", "collect keys and values with ARRAY_AGG"),
    ("json_arrayagg", "use ARRAY_AGG, or '[' || LISTAGG(JSON_STRING(x), ',') || ']'"),
    ("tumble_start", "use TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), …)) in FROM and its column window_start"),
    ("tumble_end", "use TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), …)) in FROM and its column window_end"),
    ("tumble_rowtime", "use TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), …)) in FROM and its column window_time"),
    ("hop_start", "use TABLE(HOP(TABLE t, DESCRIPTOR(ts), …)) in FROM and its column window_start"),
    ("hop_end", "use TABLE(HOP(TABLE t, DESCRIPTOR(ts), …)) in FROM and its column window_end"),
    ("session_start", "use TABLE(SESSION(TABLE t, DESCRIPTOR(ts), …)) in FROM and its column window_start"),
    ("session_end", "use TABLE(SESSION(TABLE t, DESCRIPTOR(ts), …)) in FROM and its column window_end"),
    ("tumble", "use TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), …)) in FROM; GROUP BY TUMBLE(…) is the older form"),
    ("hop", "use TABLE(HOP(TABLE t, DESCRIPTOR(ts), …)) in FROM; GROUP BY HOP(…) is the older form"),
    ("session", "use TABLE(SESSION(TABLE t, DESCRIPTOR(ts), …)) in FROM; GROUP BY SESSION(…) is the older form"),
];

fn register_scalar(scalar: &mut BTreeMap<String, Arc<ScalarUDF>>, function: Arc<ScalarUDF>) {
    for alias in function.aliases() {
        scalar.insert(alias.to_lowercase(), Arc::clone(&function));
    }
    scalar.insert(function.name().to_lowercase(), function);
}

#[cfg(test)]
mod tests;
