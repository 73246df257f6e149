//! Script text to statements: Flink's streaming dialect on sqlparser.
//!
//! [`parse_script`] is what the planner calls. It fills `${NAME}`, holds the text against the limits
//! before the recursive parser runs, and gives statements that know their place in the script as the
//! user wrote it. Queries and expressions are sqlparser's own AST; statements that sqlparser has no
//! form for (`WATERMARK FOR`, computed and metadata columns, statement sets) are the types below.
//!
//! What must never happen: a panic or a stack overflow on any text; a clause that is read and then
//! ignored. What the dialect does not do is refused with a code, a place and a hint.
//!
//! Some spellings leave the parser as plain function calls, so that the planner needs no rule of its own:
//!
//! | text | AST |
//! |---|---|
//! | `TIMESTAMPDIFF(SECOND, a, b)`, `TIMESTAMPADD(…)` | `timestampdiff('SECOND', a, b)` |
//! | `CEIL(t TO HOUR)`, `FLOOR(t TO HOUR)` | `ceil_to('HOUR', t)`, `floor_to('HOUR', t)` |
//! | `EXTRACT(DAY FROM t)` | `extract_unit('DAY', t)` |
//! | `SUBSTRING(s FROM 2 FOR 3)` | `substring(s, 2, 3)` |
//! | `POSITION(a IN b)` | `position(a, b)` |
//! | `OVERLAY(a PLACING b FROM 2 FOR 3)` | `overlay(a, b, 2, 3)` |
//! | `MAP['a', 1, 'b', 2]` | `map(ARRAY['a', 'b'], ARRAY[1, 2])` |
//! | `GROUP BY TUMBLE(ts, …)` | `FROM TABLE(TUMBLE(…)) GROUP BY window_start, window_end` |
//! | `SELECT /*+ STATE_TTL('t' = '1 d') */ … FROM t` | `FROM (t) AS 86400000`, which no text gives |
//! | `j IS NOT JSON OBJECT` | `NOT is_json(j, 'OBJECT')` |
//! | `JSON_VALUE(j, '$.a' RETURNING INT)` | `CAST(json_value(j, '$.a', …) AS INT)` |

use std::collections::BTreeMap;

use datafusion_sql::sqlparser::ast;
use datafusion_sql::sqlparser::ast::{Ident, ObjectName};
use datafusion_sql::sqlparser::tokenizer::{Location, Span};
use qanat_proto::{Place, Result};

mod create_table;
mod data_type;
mod dialect;
mod failure;
mod group_window;
mod hint;
mod interval;
mod json_call;
mod legacy_options;
mod limits;
mod refuse;
mod script;
mod stack;
mod statement;
mod variables;
mod window_call;

#[cfg(test)]
mod tests;

pub(crate) use dialect::{call, plain_cast, text};
pub(crate) use hint::state_ttl;
pub use interval::{IntervalValue, interval_of};
pub(crate) use json_call::ELEMENTS;
pub use stack::on_deep_stack;
pub use window_call::{WindowCall, WindowInput, WindowKind, window_call, window_factor};

/// The statements of one script, in order.
#[derive(Clone, Debug)]
pub struct Script {
    pub statements: Vec<Located>,
}

/// A statement and where it stands.
#[derive(Clone, Debug)]
pub struct Located {
    pub statement: Statement,
    /// 1-based, in the script as the user wrote it.
    pub line: u64,
    pub column: u64,
    /// The statement as the user wrote it (`${NAME}` unfilled), without the semicolon.
    pub text: String,
}

impl Located {
    pub fn place(&self) -> Place {
        Place::Sql { line: self.line, column: self.column }
    }
}

#[derive(Clone, Debug)]
pub enum Statement {
    CreateTable(CreateTable),
    CreateView(CreateView),
    CreateFunction(CreateFunction),
    Insert(Insert),
    /// `EXECUTE STATEMENT SET BEGIN … END` or `BEGIN STATEMENT SET; … END`.
    StatementSet(Vec<Insert>),
    Query(Box<ast::Query>),
    Explain(Explain),
    /// `SET 'key' = 'value'`; plain `SET` lists the settings.
    Set(Option<(String, String)>),
    /// `RESET 'key'`, or all keys.
    Reset(Option<String>),
    DropTable(DropObject),
    DropView(DropObject),
    ShowTables,
    ShowViews,
    ShowFunctions,
    ShowCreate(ObjectName),
    Describe(ObjectName),
}

/// `CREATE [TEMPORARY] TABLE`.
#[derive(Clone, Debug)]
pub struct CreateTable {
    pub name: ObjectName,
    pub if_not_exists: bool,
    pub or_replace: bool,
    pub temporary: bool,
    pub columns: Vec<ColumnDecl>,
    pub watermark: Option<WatermarkDecl>,
    /// Columns of `PRIMARY KEY (…) NOT ENFORCED`.
    pub primary_key: Vec<Ident>,
    pub partitioned_by: Vec<Ident>,
    pub options: Vec<TableOption>,
    pub like: Option<LikeDecl>,
    pub comment: Option<String>,
    /// Of the table's name.
    pub place: Place,
}

/// `CREATE [TEMPORARY] [SYSTEM] FUNCTION name AS 'class'`.
#[derive(Clone, Debug)]
pub struct CreateFunction {
    pub name: Ident,
    pub if_not_exists: bool,
    /// What it is elsewhere.
    pub class: String,
    /// Of the name, and of the class.
    pub place: Place,
    pub class_place: Place,
}

/// `'key' = 'value'` of a `WITH` list. The key is lower-cased, except where a `fields.NAME` stands in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableOption {
    pub key: String,
    pub value: String,
    /// Of the key.
    pub place: Place,
}

#[derive(Clone, Debug)]
pub struct ColumnDecl {
    pub name: Ident,
    pub kind: ColumnKind,
    pub comment: Option<String>,
    pub place: Place,
}

#[derive(Clone, Debug)]
pub enum ColumnKind {
    Physical {
        data_type: ast::DataType,
        nullable: bool,
    },
    /// `name AS expr`.
    Computed {
        expr: ast::Expr,
    },
    /// `name TYPE METADATA [FROM 'key'] [VIRTUAL]`.
    Metadata {
        data_type: ast::DataType,
        from: Option<String>,
        is_virtual: bool,
    },
}

/// `WATERMARK FOR column AS expr`.
#[derive(Clone, Debug)]
pub struct WatermarkDecl {
    pub column: Ident,
    pub expr: ast::Expr,
    pub place: Place,
}

/// `LIKE source ( … )`.
#[derive(Clone, Debug)]
pub struct LikeDecl {
    pub source: ObjectName,
    /// What each feature does; a feature not named follows Flink's defaults (see [`LikeDecl::of`]).
    pub features: Vec<(LikeFeature, LikeMode)>,
    pub place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LikeFeature {
    All,
    Constraints,
    Distribution,
    Generated,
    Metadata,
    Options,
    Partitions,
    Watermarks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LikeMode {
    Including,
    Excluding,
    Overwriting,
}

impl LikeDecl {
    /// How `feature` is taken over. Flink's default is `INCLUDING ALL`, with
    /// `OVERWRITING OPTIONS` for options.
    pub fn of(&self, feature: LikeFeature) -> LikeMode {
        let named = |wanted: LikeFeature| self.features.iter().rev().find(|(f, _)| *f == wanted).map(|(_, mode)| *mode);
        let standard = if feature == LikeFeature::Options { LikeMode::Overwriting } else { LikeMode::Including };
        named(feature).or_else(|| named(LikeFeature::All)).unwrap_or(standard)
    }
}

#[derive(Clone, Debug)]
pub struct CreateView {
    pub name: ObjectName,
    pub if_not_exists: bool,
    pub or_replace: bool,
    pub temporary: bool,
    /// New names of the query's columns; empty: keep them.
    pub columns: Vec<Ident>,
    pub query: Box<ast::Query>,
    /// The query as the user wrote it, for `SHOW CREATE VIEW`.
    pub text: String,
    pub place: Place,
}

#[derive(Clone, Debug)]
pub struct Insert {
    pub table: ObjectName,
    /// Target columns in order; empty: all columns that can be written.
    pub columns: Vec<Ident>,
    /// Static partition values.
    pub partition: Vec<(Ident, ast::Expr)>,
    pub overwrite: bool,
    pub query: Box<ast::Query>,
    /// Of the table's name.
    pub place: Place,
}

#[derive(Clone, Debug)]
pub struct Explain {
    pub target: ExplainTarget,
    /// Upper-case words between `EXPLAIN` and the statement, for example `JSON_EXECUTION_PLAN`.
    pub details: Vec<String>,
}

#[derive(Clone, Debug)]
pub enum ExplainTarget {
    Query(Box<ast::Query>),
    Insert(Insert),
    StatementSet(Vec<Insert>),
}

#[derive(Clone, Debug)]
pub struct DropObject {
    pub name: ObjectName,
    pub if_exists: bool,
    pub temporary: bool,
    pub place: Place,
}

/// Parses a script. `variables` fill `${NAME}`.
///
/// # Errors
/// E0101 syntax, E0102 not supported, E0107 a limit, E0108 a column twice, E0113 a variable without a
/// value; each with the place in `text`.
pub fn parse_script(text: &str, variables: &BTreeMap<String, String>) -> Result<Script> {
    script::parse(text, variables)
}

/// Parses one expression, as in a computed column.
///
/// # Errors
/// As [`parse_script`].
pub fn parse_expression(text: &str) -> Result<ast::Expr> {
    script::parse_expression(text)
}

/// Parses one type, for example `ROW<a INT, b STRING>`.
///
/// # Errors
/// As [`parse_script`].
pub fn parse_data_type(text: &str) -> Result<ast::DataType> {
    script::parse_data_type(text)
}

/// The place of an AST node, if the parser knows it.
pub fn place_of(span: Span) -> Option<Place> {
    place_at(span.start)
}

fn place_at(location: Location) -> Option<Place> {
    (location.line > 0).then_some(Place::Sql { line: location.line, column: location.column })
}
