//! Random window queries.

use std::fmt::Write;

use super::table::{Kind, Table};
use crate::rng::Rng;

/// Lengths in ms.
#[derive(Clone, Copy, Debug)]
pub(super) enum Window {
    Tumble { size: i64, offset: i64 },
    Hop { slide: i64, size: i64 },
    Cumulate { step: i64, size: i64 },
    Session { gap: i64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    CountAll,
    Count,
    Sum,
    Min,
    Max,
    Avg,
    CountDistinct,
}

#[derive(Clone, Debug)]
pub(super) struct Aggregate {
    pub(super) function: Function,
    pub(super) column: usize,
    pub(super) filter: Option<Predicate>,
}

#[derive(Clone, Debug)]
pub(super) enum Predicate {
    /// `column <op> literal`.
    Compare {
        column: usize,
        op: &'static str,
        literal: Literal,
    },
    IsNull {
        column: usize,
        negated: bool,
    },
    Not(Box<Predicate>),
    And(Box<Predicate>, Box<Predicate>),
    Or(Box<Predicate>, Box<Predicate>),
}

#[derive(Clone, Debug)]
pub(super) enum Literal {
    Number(i64),
    Text(&'static str),
}

/// `HAVING` over one of the query's aggregates.
#[derive(Clone, Debug)]
pub(super) struct Having {
    pub(super) aggregate: usize,
    pub(super) above: i64,
}

#[derive(Clone, Debug)]
pub(super) struct Query {
    pub(super) sink: String,
    pub(super) table: usize,
    pub(super) window: Window,
    pub(super) keys: Vec<usize>,
    pub(super) aggregates: Vec<Aggregate>,
    pub(super) filter: Option<Predicate>,
    pub(super) having: Option<Having>,
}

impl Query {
    pub(super) fn random(rng: &mut Rng, index: usize, tables: &[Table], late: bool) -> Self {
        let table_index = usize::try_from(rng.below(tables.len() as u64)).unwrap_or(0);
        let table = &tables[table_index];
        let mut keys: Vec<usize> =
            (0..table.kinds.len()).filter(|column| table.kinds[*column] != Kind::Double).collect();
        while keys.len() > usize::try_from(rng.below(3)).unwrap_or(0) {
            let drop = usize::try_from(rng.below(keys.len() as u64)).unwrap_or(0);
            keys.remove(drop);
        }
        let aggregates: Vec<Aggregate> = (0..rng.range(1, 4)).map(|_| aggregate(rng, table)).collect();
        // The watermark is taken behind a filter that decoding does already: what is late would depend on it.
        let filter = (!late && rng.chance(30)).then(|| predicate(rng, table, 2));
        let numeric = |aggregate: &Aggregate| {
            use Function::{Count, CountAll, CountDistinct};
            matches!(aggregate.function, CountAll | Count | CountDistinct)
                || table.kinds[aggregate.column] != Kind::Text
        };
        let having = aggregates.iter().position(numeric).filter(|_| rng.chance(25));
        let having = having.map(|aggregate| Having { aggregate, above: rng.range(-1, 3) });
        Self {
            sink: format!("out{index}"),
            table: table_index,
            window: window(rng, late),
            keys,
            aggregates,
            filter,
            having,
        }
    }

    /// The `CREATE TABLE` of its sink and its `INSERT`.
    pub(super) fn sql(&self, tables: &[Table]) -> String {
        let table = &tables[self.table];
        let mut columns = "window_start TIMESTAMP(3), window_end TIMESTAMP(3)".to_owned();
        let mut group = "window_start, window_end".to_owned();
        for key in &self.keys {
            let _ = write!(columns, ", c{key} {}", table.kinds[*key].sql());
            let _ = write!(group, ", c{key}");
        }
        let mut select = group.clone();
        for (index, aggregate) in self.aggregates.iter().enumerate() {
            let _ = write!(columns, ", a{index} {}", aggregate.kind(table).1);
            let _ = write!(select, ", {} AS a{index}", aggregate.sql());
        }
        let keys: Vec<String> = self.keys.iter().map(|key| format!("c{key}")).collect();
        let window = self.window.sql(&table.name, &keys);
        let filter = self.filter.as_ref().map_or_else(String::new, |filter| format!(" WHERE {}", filter.sql()));
        let having = self.having.as_ref().map_or_else(String::new, |having| {
            format!(" HAVING {} > {}", self.aggregates[having.aggregate].sql(), having.above)
        });
        format!(
            "CREATE TABLE {sink} ({columns}) WITH ('connector' = 'filesystem', 'path' = '{sink}', 'format' = 'csv');\n\
             INSERT INTO {sink} SELECT {select} FROM TABLE({window}){filter} GROUP BY {group}{having};\n",
            sink = self.sink,
        )
    }
}

impl Window {
    /// The call of its table function.
    pub(super) fn sql(self, table: &str, keys: &[String]) -> String {
        let seconds = |ms: i64| format!("INTERVAL '{}.{:03}' SECOND", ms / 1_000, ms % 1_000);
        let time = "DESCRIPTOR(ts)";
        match self {
            Self::Tumble { size, offset: 0 } => format!("TUMBLE(TABLE {table}, {time}, {})", seconds(size)),
            Self::Tumble { size, offset } => {
                format!("TUMBLE(TABLE {table}, {time}, {}, {})", seconds(size), seconds(offset))
            }
            Self::Hop { slide, size } => format!("HOP(TABLE {table}, {time}, {}, {})", seconds(slide), seconds(size)),
            Self::Cumulate { step, size } => {
                format!("CUMULATE(TABLE {table}, {time}, {}, {})", seconds(step), seconds(size))
            }
            Self::Session { gap } => {
                let keys = if keys.is_empty() { String::new() } else { format!(" PARTITION BY {}", keys.join(", ")) };
                format!("SESSION(TABLE {table}{keys}, {time}, {})", seconds(gap))
            }
        }
    }
}

impl Aggregate {
    fn sql(&self) -> String {
        let column = self.column;
        let call = match self.function {
            Function::CountAll => "COUNT(*)".to_owned(),
            Function::Count => format!("COUNT(c{column})"),
            Function::Sum => format!("SUM(c{column})"),
            Function::Min => format!("MIN(c{column})"),
            Function::Max => format!("MAX(c{column})"),
            Function::Avg => format!("AVG(c{column})"),
            Function::CountDistinct => format!("COUNT(DISTINCT c{column})"),
        };
        match &self.filter {
            Some(filter) => format!("{call} FILTER (WHERE {})", filter.sql()),
            None => call,
        }
    }

    /// What it gives, and the type of the sink's column.
    fn kind(&self, table: &Table) -> (Kind, &'static str) {
        match self.function {
            Function::CountAll | Function::Count | Function::CountDistinct => (Kind::Int, "BIGINT"),
            _ => match table.kinds[self.column] {
                Kind::Int => (Kind::Int, "BIGINT"),
                Kind::Double => (Kind::Double, "DOUBLE"),
                Kind::Text => (Kind::Text, "STRING"),
            },
        }
    }
}

impl Predicate {
    fn sql(&self) -> String {
        match self {
            Self::Compare { column, op, literal: Literal::Number(number) } => format!("c{column} {op} {number}"),
            Self::Compare { column, op, literal: Literal::Text(text) } => format!("c{column} {op} '{text}'"),
            Self::IsNull { column, negated } => format!("c{column} IS {}NULL", if *negated { "NOT " } else { "" }),
            Self::Not(inner) => format!("NOT ({})", inner.sql()),
            Self::And(a, b) => format!("({} AND {})", a.sql(), b.sql()),
            Self::Or(a, b) => format!("({} OR {})", a.sql(), b.sql()),
        }
    }
}

pub(super) fn window(rng: &mut Rng, late: bool) -> Window {
    let unit = *rng.pick(&[250, 1_000, 3_000, 10_000]);
    match rng.below(if late { 3 } else { 4 }) {
        0 => Window::Tumble { size: unit * rng.range(1, 4), offset: if rng.chance(25) { unit / 2 } else { 0 } },
        1 => Window::Hop { slide: unit, size: unit * rng.range(1, 5) },
        2 => Window::Cumulate { step: unit, size: unit * rng.range(1, 5) },
        _ => Window::Session { gap: unit },
    }
}

fn aggregate(rng: &mut Rng, table: &Table) -> Aggregate {
    use Function::{Avg, Count, CountAll, CountDistinct, Max, Min, Sum};
    let column = usize::try_from(rng.below(table.kinds.len() as u64)).unwrap_or(0);
    let function = match table.kinds[column] {
        Kind::Text => *rng.pick(&[CountAll, Count, Min, Max, CountDistinct]),
        _ => *rng.pick(&[CountAll, Count, Sum, Sum, Min, Max, Avg, CountDistinct]),
    };
    let filter = rng.chance(25).then(|| predicate(rng, table, 1));
    Aggregate { function, column, filter }
}

fn predicate(rng: &mut Rng, table: &Table, depth: u64) -> Predicate {
    if depth > 0 && rng.chance(40) {
        let mut part = || Box::new(predicate(rng, table, depth - 1));
        let (a, b) = (part(), part());
        return match rng.below(3) {
            0 => Predicate::Not(a),
            1 => Predicate::And(a, b),
            _ => Predicate::Or(a, b),
        };
    }
    let column = usize::try_from(rng.below(table.kinds.len() as u64)).unwrap_or(0);
    if rng.chance(20) {
        return Predicate::IsNull { column, negated: rng.chance(50) };
    }
    let op = *rng.pick(&["<", "<=", ">", ">=", "=", "<>"]);
    let literal = match table.kinds[column] {
        Kind::Text => Literal::Text(rng.pick::<&str>(&["", "a", "b", "x y", "zz"])),
        _ => Literal::Number(rng.range(-5, 8)),
    };
    Predicate::Compare { column, op, literal }
}
