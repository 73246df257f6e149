//! Trees of operators over tables that change: as SQL, and evaluated row by row.

use std::collections::{BTreeMap, BTreeSet};

use crate::rng::Rng;

/// NULL, or a number.
pub(super) type Value = Option<i64>;
pub(super) type Values = Vec<Value>;

/// Columns of a result at most: the first ones are kept.
const WIDTH_MAX: usize = 5;
const COMPARISONS: [&str; 5] = ["<", "<=", "=", "<>", ">"];
const FUNCTIONS: [Function; 6] =
    [Function::CountAll, Function::Count, Function::Sum, Function::Min, Function::Max, Function::CountDistinct];
const SETS: [&str; 4] = ["UNION ALL", "UNION", "INTERSECT", "EXCEPT"];

#[derive(Clone, Debug)]
pub(super) enum Tree {
    Table(usize),
    Filter {
        input: Box<Tree>,
        column: usize,
        op: &'static str,
        literal: i64,
    },
    Group {
        input: Box<Tree>,
        keys: Vec<usize>,
        calls: Vec<(Function, usize)>,
    },
    Join {
        kind: Kind,
        left: Box<Tree>,
        right: Box<Tree>,
        on: (usize, usize),
        less: Option<(usize, usize)>,
    },
    First {
        input: Box<Tree>,
        partition: Vec<usize>,
        order: (usize, bool),
        function: Numbering,
        limit: i64,
        has_rank: bool,
    },
    /// A column against an aggregate of other rows, of all or of those with the same key; or that as a column.
    Value {
        input: Box<Tree>,
        of: Box<Tree>,
        call: (Function, usize),
        on: Option<(usize, usize)>,
        filter: Option<(usize, &'static str)>,
    },
    /// Rows with a value in a column, and those that have a partner, or have none.
    Either {
        left: Box<Tree>,
        right: Box<Tree>,
        on: (usize, usize),
        negated: bool,
        column: usize,
        literal: i64,
    },
    Distinct(Box<Tree>),
    Set {
        op: &'static str,
        left: Box<Tree>,
        right: Box<Tree>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    CountAll,
    Count,
    Sum,
    Min,
    Max,
    CountDistinct,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Inner,
    Left,
    Right,
    Full,
    Semi,
    Anti,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Numbering {
    Rows,
    Ranks,
    DenseRanks,
}

impl Function {
    fn sql(self, column: usize) -> String {
        match self {
            Self::CountAll => "COUNT(*)".to_owned(),
            Self::Count => format!("COUNT(c{column})"),
            Self::Sum => format!("SUM(c{column})"),
            Self::Min => format!("MIN(c{column})"),
            Self::Max => format!("MAX(c{column})"),
            Self::CountDistinct => format!("COUNT(DISTINCT c{column})"),
        }
    }
}

impl Tree {
    /// `depth`: operators on the longest way to a table.
    pub(super) fn random(rng: &mut Rng, depth: u64, widths: &[usize]) -> Self {
        if depth == 0 {
            return Self::Table(index(rng, widths.len()));
        }
        let below = |rng: &mut Rng| Box::new(Self::random(rng, depth - 1, widths));
        let beside = |rng: &mut Rng| {
            let depth = rng.below(depth);
            Box::new(Self::random(rng, depth, widths))
        };
        match rng.below(12) {
            0 => {
                let input = below(rng);
                let column = index(rng, input.width(widths));
                Self::Filter {
                    input,
                    column,
                    op: COMPARISONS[index(rng, COMPARISONS.len())],
                    literal: rng.range(-2, 8),
                }
            }
            1..=3 => {
                let input = below(rng);
                let width = input.width(widths);
                let keys = some(rng, width, 1, 2);
                let calls = (0..rng.range(1, 3)).map(|_| (*rng.pick(&FUNCTIONS), index(rng, width))).collect();
                Self::Group { input, keys, calls }
            }
            4..=6 => {
                let (left, right) = (below(rng), beside(rng));
                let (left, right) = if rng.chance(50) { (left, right) } else { (right, left) };
                let kinds = [Kind::Inner, Kind::Left, Kind::Right, Kind::Full, Kind::Semi, Kind::Anti];
                let pair = |rng: &mut Rng| (index(rng, left.width(widths)), index(rng, right.width(widths)));
                let on = pair(rng);
                let less = rng.chance(30).then(|| pair(rng));
                Self::Join { kind: *rng.pick(&kinds), left, right, on, less }
            }
            7 | 8 => {
                let input = below(rng);
                let width = input.width(widths);
                let function = *rng.pick(&[Numbering::Rows, Numbering::Rows, Numbering::Ranks, Numbering::DenseRanks]);
                Self::First {
                    partition: some(rng, width, 0, 2),
                    order: (index(rng, width), rng.chance(50)),
                    function,
                    limit: rng.range(1, 4),
                    has_rank: rng.chance(50),
                    input,
                }
            }
            9 => {
                let (left, right) = (below(rng), beside(rng));
                let column = |rng: &mut Rng, tree: &Tree| index(rng, tree.width(widths));
                Self::Either {
                    on: (column(rng, &left), column(rng, &right)),
                    negated: rng.chance(50),
                    column: column(rng, &left),
                    literal: rng.range(-2, 8),
                    left,
                    right,
                }
            }
            10 => {
                let (input, of) = (below(rng), beside(rng));
                let column = |rng: &mut Rng, tree: &Tree| index(rng, tree.width(widths));
                Self::Value {
                    call: (*rng.pick(&FUNCTIONS), column(rng, &of)),
                    on: rng.chance(60).then(|| (column(rng, &input), column(rng, &of))),
                    filter: rng.chance(60).then(|| (column(rng, &input), *rng.pick(&COMPARISONS))),
                    input,
                    of,
                }
            }
            _ => {
                let (left, right) = (below(rng), beside(rng));
                if left.width(widths) != right.width(widths) {
                    return Self::Distinct(left);
                }
                Self::Set { op: SETS[index(rng, SETS.len())], left, right }
            }
        }
    }

    pub(super) fn inputs(&self) -> Vec<&Tree> {
        match self {
            Self::Table(_) => Vec::new(),
            Self::Filter { input, .. }
            | Self::Group { input, .. }
            | Self::First { input, .. }
            | Self::Distinct(input) => vec![input],
            Self::Join { left, right, .. } | Self::Either { left, right, .. } | Self::Set { left, right, .. } => {
                vec![left, right]
            }
            Self::Value { input, of, .. } => vec![input, of],
        }
    }

    pub(super) fn width(&self, widths: &[usize]) -> usize {
        let width = match self {
            Self::Table(table) => widths[*table],
            Self::Filter { input, .. } | Self::Distinct(input) => input.width(widths),
            Self::Group { keys, calls, .. } => keys.len() + calls.len(),
            Self::Join { kind: Kind::Semi | Kind::Anti, left, .. }
            | Self::Either { left, .. }
            | Self::Set { left, .. } => left.width(widths),
            Self::Join { left, right, .. } => left.width(widths) + right.width(widths),
            Self::First { input, has_rank, .. } => input.width(widths) + usize::from(*has_rank),
            Self::Value { input, filter, .. } => input.width(widths) + usize::from(filter.is_none()),
        };
        width.min(WIDTH_MAX)
    }

    /// A query whose columns are `c0`, `c1`, ….
    pub(super) fn sql(&self, widths: &[usize]) -> String {
        let all = names("", self.width(widths));
        match self {
            Self::Table(table) => format!("SELECT {all} FROM t{table}"),
            Self::Filter { input, column, op, literal } => {
                format!("SELECT {all} FROM ({}) AS x WHERE c{column} {op} {literal}", input.sql(widths))
            }
            Self::Group { input, keys, calls } => {
                let keys: Vec<String> = keys.iter().map(|key| format!("c{key}")).collect();
                let mut columns: Vec<String> = keys.clone();
                columns.extend(calls.iter().map(|(function, column)| function.sql(*column)));
                let columns = columns.iter().enumerate().map(|(at, column)| format!("{column} AS c{at}"));
                let columns = columns.take(WIDTH_MAX).collect::<Vec<_>>().join(", ");
                let hint = if calls.len() == 3 { "/*+ STATE_TTL('x' = '1 d') */ " } else { "" };
                format!("SELECT {hint}{columns} FROM ({}) AS x GROUP BY {}", input.sql(widths), keys.join(", "))
            }
            Self::Join { kind, left, right, on, less } => {
                let condition = format!("l.c{} = r.c{}", on.0, on.1);
                // Some keep what comes of a side for a time, which no run reaches.
                let hint = |tables: &[&str]| {
                    let times: Vec<String> = tables.iter().map(|table| format!("'{table}' = '1 d'")).collect();
                    if (on.0 + on.1) % 3 == 0 {
                        format!("/*+ STATE_TTL({}) */ ", times.join(", "))
                    } else {
                        String::new()
                    }
                };
                let less = less.map(|(l, r)| format!(" AND l.c{l} < r.c{r}")).unwrap_or_default();
                let (left_width, right_width) = (left.width(widths), right.width(widths));
                let (left, right) = (left.sql(widths), right.sql(widths));
                let joined = match kind {
                    Kind::Inner => "JOIN",
                    Kind::Left => "LEFT JOIN",
                    Kind::Right => "RIGHT JOIN",
                    Kind::Full => "FULL JOIN",
                    Kind::Semi | Kind::Anti => {
                        let not = if *kind == Kind::Anti { "NOT " } else { "" };
                        let columns = names("l.", left_width);
                        return format!(
                            "SELECT {}{columns} FROM ({left}) AS l WHERE {not}EXISTS \
                             (SELECT {}1 FROM ({right}) AS r WHERE {condition}{less})",
                            hint(&["l"]),
                            hint(&["r"]),
                        );
                    }
                };
                let columns = (0..left_width).map(|at| format!("l.c{at}"));
                let columns = columns.chain((0..right_width).map(|at| format!("r.c{at}"))).take(WIDTH_MAX);
                let columns = columns.enumerate().map(|(at, column)| format!("{column} AS c{at}"));
                let columns = columns.collect::<Vec<_>>().join(", ");
                let hint = hint(if on.0 == 0 { &["l", "r"] } else { &["r"] });
                format!("SELECT {hint}{columns} FROM ({left}) AS l {joined} ({right}) AS r ON {condition}{less}")
            }
            Self::First { input, partition, order, function, limit, has_rank } => {
                let width = input.width(widths);
                let mut over = String::new();
                if !partition.is_empty() {
                    let keys: Vec<String> = partition.iter().map(|key| format!("c{key}")).collect();
                    over = format!("PARTITION BY {} ", keys.join(", "));
                }
                over.push_str(&format!("ORDER BY c{}{}", order.0, if order.1 { " DESC" } else { "" }));
                // What no order decides is not compared.
                if *function == Numbering::Rows {
                    (0..width).filter(|at| *at != order.0).for_each(|at| over.push_str(&format!(", c{at}")));
                }
                let function = match function {
                    Numbering::Rows => "ROW_NUMBER",
                    Numbering::Ranks => "RANK",
                    Numbering::DenseRanks => "DENSE_RANK",
                };
                let rank = if *has_rank && width < WIDTH_MAX { format!(", n AS c{width}") } else { String::new() };
                format!(
                    "SELECT {}{rank} FROM (SELECT *, {function}() OVER ({over}) AS n FROM ({}) AS x) AS y WHERE n <= {limit}",
                    names("", width),
                    input.sql(widths)
                )
            }
            Self::Value { input, of, call: (function, column), on, filter } => {
                let on = on.map(|(outer, inner)| format!(" WHERE z.c{inner} = x.c{outer}")).unwrap_or_default();
                let value = format!("(SELECT {} FROM ({}) AS z{on})", function.sql(*column), of.sql(widths));
                let (width, input) = (input.width(widths), input.sql(widths));
                match filter {
                    Some((column, op)) => format!("SELECT {all} FROM ({input}) AS x WHERE c{column} {op} {value}"),
                    None if width < WIDTH_MAX => {
                        format!("SELECT {}, {value} AS c{width} FROM ({input}) AS x", names("", width))
                    }
                    None => format!("SELECT {all} FROM ({input}) AS x"),
                }
            }
            Self::Either { left, right, on, negated, column, literal } => {
                // IN is EXISTS where it is not negated. Its rows may have the name of those around it.
                let (left, right) = (left.sql(widths), right.sql(widths));
                let (outer, inner) = on;
                let partner = if *negated {
                    format!("NOT EXISTS (SELECT 1 FROM ({right}) AS r WHERE r.c{inner} = l.c{outer})")
                } else {
                    format!("l.c{outer} IN (SELECT c{inner} FROM ({right}) AS l)")
                };
                format!("SELECT {all} FROM ({left}) AS l WHERE l.c{column} = {literal} OR {partner}")
            }
            Self::Distinct(input) => format!("SELECT DISTINCT {all} FROM ({}) AS x", input.sql(widths)),
            Self::Set { op, left, right } => {
                format!("SELECT {all} FROM (({}) {op} ({})) AS x", left.sql(widths), right.sql(widths))
            }
        }
    }

    /// Its rows in any order; None if there are too many on the way.
    pub(super) fn rows(&self, tables: &[Vec<Values>], widths: &[usize]) -> Option<Vec<Values>> {
        let mut rows = match self {
            Self::Table(table) => tables[*table].clone(),
            Self::Filter { input, column, op, literal } => {
                let mut rows = input.rows(tables, widths)?;
                rows.retain(|row| row[*column].is_some_and(|value| compares(value, op, *literal)));
                rows
            }
            Self::Group { input, keys, calls } => {
                let mut groups: BTreeMap<Values, Vec<Values>> = BTreeMap::new();
                for row in input.rows(tables, widths)? {
                    groups.entry(keys.iter().map(|key| row[*key]).collect()).or_default().push(row);
                }
                let group = |(key, rows): (Values, Vec<Values>)| {
                    key.into_iter()
                        .chain(calls.iter().map(|(function, column)| called(*function, *column, &rows)))
                        .collect()
                };
                groups.into_iter().map(group).collect()
            }
            Self::Join { kind, left, right, on, less } => {
                let both = (left.width(widths), right.width(widths));
                let (left, right) = (left.rows(tables, widths)?, right.rows(tables, widths)?);
                let meet = |l: &Values, r: &Values| {
                    l[on.0].is_some()
                        && l[on.0] == r[on.1]
                        && less.is_none_or(|(a, b)| l[a].zip(r[b]).is_some_and(|(a, b)| a < b))
                };
                joined(*kind, (&left, &right), both, meet)
            }
            Self::First { input, partition, order, function, limit, has_rank } => {
                let mut parts: BTreeMap<Values, Vec<Values>> = BTreeMap::new();
                for row in input.rows(tables, widths)? {
                    parts.entry(partition.iter().map(|key| row[*key]).collect()).or_default().push(row);
                }
                parts.into_values().flat_map(|part| first(part, *order, *function, *limit, *has_rank)).collect()
            }
            Self::Value { input, of, call: (function, column), on, filter } => {
                let of = of.rows(tables, widths)?;
                let value = |row: &Values| {
                    let meets = |other: &&Values| on.is_none_or(|(a, b)| row[a].is_some() && row[a] == other[b]);
                    called(*function, *column, &of.iter().filter(meets).cloned().collect::<Vec<_>>())
                };
                let with_value = |row: Values| {
                    let value = value(&row);
                    match filter {
                        Some((column, op)) => {
                            row[*column].zip(value).is_some_and(|(a, b)| compares(a, op, b)).then_some(row)
                        }
                        None => Some([row, vec![value]].concat()),
                    }
                };
                input.rows(tables, widths)?.into_iter().filter_map(with_value).collect()
            }
            Self::Either { left, right, on, negated, column, literal } => {
                let right = right.rows(tables, widths)?;
                let has_partner =
                    |row: &Values| row[on.0].is_some() && right.iter().any(|other| other[on.1] == row[on.0]);
                let mut rows = left.rows(tables, widths)?;
                rows.retain(|row| row[*column] == Some(*literal) || has_partner(row) != *negated);
                rows
            }
            Self::Distinct(input) => unique(input.rows(tables, widths)?),
            Self::Set { op, left, right } => {
                let (left, right) = (left.rows(tables, widths)?, right.rows(tables, widths)?);
                match *op {
                    "UNION ALL" => left.into_iter().chain(right).collect(),
                    "UNION" => unique(left.into_iter().chain(right).collect()),
                    "INTERSECT" => unique(left).into_iter().filter(|row| right.contains(row)).collect(),
                    _ => unique(left).into_iter().filter(|row| !right.contains(row)).collect(),
                }
            }
        };
        rows.iter_mut().for_each(|row| row.truncate(WIDTH_MAX));
        (rows.len() <= 3_000).then_some(rows)
    }
}

fn index(rng: &mut Rng, count: usize) -> usize {
    usize::try_from(rng.below(count as u64)).unwrap()
}

/// Different columns, `least` to `most` of them.
fn some(rng: &mut Rng, width: usize, least: i64, most: i64) -> Vec<usize> {
    let count = usize::try_from(rng.range(least, most)).unwrap();
    (0..count).map(|_| index(rng, width)).collect::<BTreeSet<_>>().into_iter().collect()
}

fn names(prefix: &str, width: usize) -> String {
    (0..width).map(|at| format!("{prefix}c{at}")).collect::<Vec<_>>().join(", ")
}

fn compares(value: i64, op: &str, literal: i64) -> bool {
    match op {
        "<" => value < literal,
        "<=" => value <= literal,
        "=" => value == literal,
        "<>" => value != literal,
        _ => value > literal,
    }
}

fn called(function: Function, column: usize, rows: &[Values]) -> Value {
    let values = || rows.iter().filter_map(|row| row[column]);
    let count = |count: usize| Some(i64::try_from(count).unwrap());
    match function {
        Function::CountAll => count(rows.len()),
        Function::Count => count(values().count()),
        Function::Sum => values().next().map(|_| values().sum()),
        Function::Min => values().min(),
        Function::Max => values().max(),
        Function::CountDistinct => count(values().collect::<BTreeSet<_>>().len()),
    }
}

fn joined(
    kind: Kind,
    (left, right): (&[Values], &[Values]),
    widths: (usize, usize),
    meet: impl Fn(&Values, &Values) -> bool,
) -> Vec<Values> {
    let mut out = Vec::new();
    for l in left {
        let partners: Vec<&Values> = right.iter().filter(|r| meet(l, r)).collect();
        match kind {
            Kind::Semi if !partners.is_empty() => out.push(l.clone()),
            Kind::Anti if partners.is_empty() => out.push(l.clone()),
            Kind::Semi | Kind::Anti => {}
            Kind::Left | Kind::Full if partners.is_empty() => out.push([l.clone(), vec![None; widths.1]].concat()),
            _ => out.extend(partners.into_iter().map(|r| [l.clone(), r.clone()].concat())),
        }
    }
    if matches!(kind, Kind::Right | Kind::Full) {
        let lonely = right.iter().filter(|r| !left.iter().any(|l| meet(l, r)));
        out.extend(lonely.map(|r| [vec![None; widths.0], r.clone()].concat()));
    }
    out
}

fn first(
    mut rows: Vec<Values>,
    (column, descends): (usize, bool),
    function: Numbering,
    limit: i64,
    has_rank: bool,
) -> Vec<Values> {
    // NULL is the smallest value: first in ascending, last in descending order. The others go up.
    rows.sort_by(|a, b| {
        let by = a[column].cmp(&b[column]);
        (if descends { by.reverse() } else { by }).then_with(|| a.cmp(b))
    });
    let (mut rank, mut before, mut out) = (0, None, Vec::new());
    for (at, row) in (1..).zip(rows) {
        let is_tie = before == Some(row[column]);
        rank = match function {
            Numbering::Rows => at,
            Numbering::Ranks if is_tie => rank,
            Numbering::Ranks => at,
            Numbering::DenseRanks => rank + i64::from(!is_tie),
        };
        before = Some(row[column]);
        if rank > limit {
            break;
        }
        let number = has_rank.then_some(Some(rank));
        out.push(row.into_iter().chain(number).collect());
    }
    out
}

fn unique(rows: Vec<Values>) -> Vec<Values> {
    rows.into_iter().collect::<BTreeSet<_>>().into_iter().collect()
}
