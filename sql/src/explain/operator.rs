//! What an operator does and keeps, in words.

use std::fmt::Write;

use arrow::datatypes::SchemaRef;
use qanat_proto::changelog::{Changelog, KIND_COLUMN};
use qanat_proto::graph::{
    AggregateCall, CalcNode, Firing, JoinKind, LookupJoinNode, Operator, OperatorKind, OverFrame, RankFunction,
    SortKey, Ties, TimeDomain, WindowShape, WindowSource, WindowTelling,
};

use crate::plan::window_table::duration_text;
use crate::types::sql_name;

/// The operator's own lines, indented.
pub(super) fn lines(operator: &Operator, text: &mut String) {
    let mut line = |what: &str, value: String| {
        let _ = writeln!(text, "    {what}: {value}");
    };
    match &operator.kind {
        OperatorKind::Source(node) => {
            line("columns", columns(&operator.output));
            if !node.unread.is_empty() {
                line("not read", list(node.unread.iter().map(|path| path.join("."))));
            }
            if let Some(filter) = &node.pushed_filter {
                line("may skip unless", filter.text.clone());
            }
            if let Some(watermark) = &node.watermark {
                line("watermark", watermark.expr.text.clone());
            }
            line("read", if node.bounded { "bounded" } else { "unbounded" }.to_owned());
        }
        OperatorKind::LatestRows(node) => {
            let keys = node.key.iter().filter_map(|key| operator.output.fields().get(*key));
            line("keys", list(keys.map(|f| f.name().clone())));
        }
        OperatorKind::Changes(_) => line("columns", columns(&operator.output)),
        OperatorKind::Calc(node) => calc(node, &mut line),
        OperatorKind::Unnest(node) => {
            let outer = if node.outer { ", outer" } else { "" };
            line("unnest", format!("column {}{outer}", node.column + 1));
            line("columns", columns(&operator.output));
        }
        OperatorKind::AssignWindow(node) => {
            line("time", domain(node.domain).to_owned());
            firing(&node.shape, node.domain, node.firing, &mut line);
        }
        OperatorKind::WindowAggregate(node) => {
            let time = match &node.window {
                WindowSource::Function { domain: d, .. } | WindowSource::Columns { domain: d, .. } => domain(*d),
            };
            line("time", time.to_owned());
            let keys = operator.output.fields().iter().take(node.keys.len());
            line("keys", list(keys.map(|f| f.name().clone())));
            line("aggregates", list(node.aggregates.iter().map(call)));
            if let WindowSource::Function { shape, domain, .. } = &node.window {
                firing(shape, *domain, node.firing, &mut line);
            }
            lateness(node.allowed_lateness_ms, &mut line);
        }
        OperatorKind::GroupAggregate(node) => {
            let keys = operator.output.fields().iter().take(node.keys.len());
            line("keys", list(keys.map(|f| f.name().clone())));
            if !node.aggregates.is_empty() {
                line("aggregates", list(node.aggregates.iter().map(call)));
            }
            if let Some(windows) = &node.windows {
                line("told", told(windows));
                lateness(windows.allowed_lateness_ms, &mut line);
            }
        }
        OperatorKind::OverAggregate(node) => {
            let name = |column: usize| operator.output.fields().get(column).map(|field| field.name().clone());
            line("keys", list(node.partition_by.iter().filter_map(|column| name(*column))));
            line("order", node.time_column.and_then(name).unwrap_or_else(|| "arrival".to_owned()));
            if let Some(clock) = node.clock_column.and_then(name) {
                line("time", format!("processing, {clock}"));
            }
            line("frame", over_frame(node.frame));
            line("aggregates", list(node.aggregates.iter().map(call)));
            lateness(node.allowed_lateness_ms, &mut line);
        }
        OperatorKind::Join(node) => {
            if let Some(filter) = &node.filter {
                line("filter", filter.text.clone());
            }
        }
        OperatorKind::IntervalJoin(node) => {
            let bounds = [node.lower_ms, node.upper_ms].map(duration_text);
            line("times", format!("left less right between {} and {}", bounds[0], bounds[1]));
            if let Some(filter) = &node.filter {
                line("filter", filter.text.clone());
            }
            lateness(node.allowed_lateness_ms, &mut line);
        }
        OperatorKind::TemporalJoin(node) => {
            line("version", "of the left row's time".to_owned());
            if let Some(filter) = &node.filter {
                line("filter", filter.text.clone());
            }
        }
        OperatorKind::WindowJoin(node) => {
            line("time", domain(node.domain).to_owned());
            if let Some(filter) = &node.filter {
                line("filter", filter.text.clone());
            }
            lateness(node.allowed_lateness_ms, &mut line);
        }
        OperatorKind::WindowTopN(node) => {
            line("time", domain(node.domain).to_owned());
            line("order", list(node.order_by.iter().map(sort)));
            line(ranked(node.function), format!("{} to {}", node.skip + 1, node.limit));
            lateness(node.allowed_lateness_ms, &mut line);
        }
        OperatorKind::TopN(node) => {
            let arrival = match node.ties {
                Ties::Contents => node.order_by.is_empty().then(|| "what they hold".to_owned()),
                Ties::Oldest => Some("arrival".to_owned()),
                Ties::Newest => Some("arrival, the newest first".to_owned()),
            };
            line("order", list(node.order_by.iter().map(sort).chain(arrival)));
            line(ranked(node.function), format!("{} to {}", node.skip + 1, node.limit));
        }
        OperatorKind::LookupJoin(node) => lookup(node, &mut line),
        OperatorKind::Sink(node) => {
            line("columns", columns(&operator.output));
            line("connector", node.table.connector.clone());
            if node.overwrite {
                line("overwrite", "yes".to_owned());
            }
        }
    }
    match &operator.changelog {
        Changelog::Append => {}
        Changelog::Retract => line("changes", "each row that is replaced is taken back".to_owned()),
        Changelog::Upsert { key } => {
            let names = key.iter().filter_map(|column| operator.output.fields().get(*column));
            line("changes", format!("by key ({})", list(names.map(|field| field.name().clone()))));
        }
    }
}

fn ranked(function: RankFunction) -> &'static str {
    match function {
        RankFunction::RowNumber => "rows",
        RankFunction::Rank => "ranks",
        RankFunction::DenseRank => "dense ranks",
    }
}

fn over_frame(frame: OverFrame) -> String {
    match frame {
        OverFrame::UnboundedRows => "all rows before".to_owned(),
        OverFrame::UnboundedRange => "all rows before, and those of the same time".to_owned(),
        OverFrame::Rows(rows) => format!("{rows} rows before"),
        OverFrame::RangeMs(ms) => format!("{} before, and rows of the same time", duration_text(ms)),
    }
}

fn calc(node: &CalcNode, line: &mut impl FnMut(&str, String)) {
    if let Some(filter) = &node.filter {
        line("filter", filter.text.clone());
    }
    let project = node.projection.iter().filter(|named| named.name != KIND_COLUMN).map(|named| {
        if named.expr.text == named.name {
            named.name.clone()
        } else {
            format!("{} AS {}", named.expr.text, named.name)
        }
    });
    line("project", list(project));
}

fn lookup(node: &LookupJoinNode, line: &mut impl FnMut(&str, String)) {
    let kind = match node.kind {
        JoinKind::Left => "left",
        _ => "inner",
    };
    line("lookup", format!("{kind}, table {} ({})", node.table.name, node.table.connector));
    line("loads", columns(&node.right));
    if let Some(filter) = node.calc.as_ref().and_then(|calc| calc.filter.as_ref()) {
        line("loads where", filter.text.clone());
    }
    if let Some(filter) = &node.filter {
        line("filter", filter.text.clone());
    }
    let refresh = node.refresh_ms.map_or_else(|| "loaded once".to_owned(), |ms| format!("every {ms} ms, at a barrier"));
    line("refresh", refresh);
}

/// When overlapping windows fire; of others there is nothing to say.
/// When windows are told that are told beside their end.
fn told(windows: &WindowTelling) -> String {
    let after = |ms: u64| duration_text(i64::try_from(ms).unwrap_or(i64::MAX));
    let early = windows.early_ms.map(|ms| format!("{} after a change", after(ms)));
    let late = windows.late_ms.map(|ms| format!("{} after a late row", after(ms)));
    let end = "at the end of the window".to_owned();
    list([early, Some(end), late].into_iter().flatten())
}

fn firing(shape: &WindowShape, domain: TimeDomain, firing: Firing, line: &mut impl FnMut(&str, String)) {
    if !shape.overlaps() || domain == TimeDomain::Processing {
        return;
    }
    let complete = match (firing, shape) {
        (Firing::Eager, _) => "eager, at the end of the window".to_owned(),
        (Firing::Complete, WindowShape::Hop { size, slide, .. }) => {
            format!("complete, {} ms after the end of the window", size - slide)
        }
        (Firing::Complete, _) => "complete, at the end of the longest window".to_owned(),
    };
    line("fires", complete);
}

fn lateness(ms: i64, line: &mut impl FnMut(&str, String)) {
    if ms > 0 {
        line("allowed lateness", format!("{ms} ms"));
    }
}

/// What the operator keeps from one batch to the next.
/// What an operator keeps. `input_changes`: rows of its input may be taken back.
pub(super) fn state(operator: &Operator, input_changes: bool) -> Option<String> {
    let age = |ttl_ms: u64| duration_text(i64::try_from(ttl_ms).unwrap_or(i64::MAX));
    let how_long = match operator.ttl_ms[0] {
        0 => "for as long as the job lives".to_owned(),
        ms => format!("until nobody has touched it for {}", age(ms)),
    };
    Some(match &operator.kind {
        OperatorKind::Source(_) => "offsets and watermark of each split".to_owned(),
        OperatorKind::Changes(_) | OperatorKind::Calc(_) | OperatorKind::Unnest(_) => return None,
        OperatorKind::AssignWindow(node) => match node.shape {
            qanat_proto::graph::WindowShape::Session { .. } => "rows of open sessions".to_owned(),
            _ => return None,
        },
        OperatorKind::WindowAggregate(node) => {
            format!("{} accumulators per key and open window", node.aggregates.len().max(1))
        }
        OperatorKind::LatestRows(_) => format!("the last row of each key, {how_long}"),
        OperatorKind::GroupAggregate(node) if node.windows.is_some() => {
            format!("{} accumulators per key and open window", node.aggregates.len())
        }
        OperatorKind::GroupAggregate(node) => {
            let what = match node.aggregates.len() {
                0 => "the keys".to_owned(),
                calls => format!("{calls} accumulators per key"),
            };
            format!("{what}, {how_long}")
        }
        OperatorKind::OverAggregate(node) => match node.frame {
            OverFrame::UnboundedRows | OverFrame::UnboundedRange => {
                format!("{} accumulators per key, {how_long}", node.aggregates.len())
            }
            OverFrame::Rows(rows) => format!("{} rows per key, {how_long}", rows.saturating_add(1)),
            OverFrame::RangeMs(ms) => format!("rows of {} per key", duration_text(ms)),
        },
        OperatorKind::Join(_) => match operator.ttl_ms {
            [0, 0] => format!("all rows of both sides, {how_long}"),
            [left, right] if left == right => format!("rows of both sides that came within {}", age(left)),
            sides => {
                let side = |name: &str, ttl_ms: u64| match ttl_ms {
                    0 => format!("all rows of the {name} side"),
                    ms => format!("rows of the {name} side that came within {}", age(ms)),
                };
                format!("{}, {}", side("left", sides[0]), side("right", sides[1]))
            }
        },
        OperatorKind::IntervalJoin(_) => "rows of both sides until none can come that they meet".to_owned(),
        OperatorKind::TemporalJoin(_) => {
            "rows of the left side until the watermark has passed them; of each key the version that holds then, and later \
             ones"
                .to_owned()
        }
        OperatorKind::WindowJoin(_) => "rows of both sides per key and open window".to_owned(),
        OperatorKind::WindowTopN(node) => format!("{} rows per partition and open window", node.limit),
        OperatorKind::TopN(node) if input_changes => {
            format!("all rows, of which {} are told per partition, {how_long}", node.limit)
        }
        OperatorKind::TopN(node) => format!("{} rows per partition, {how_long}", node.limit),
        OperatorKind::LookupJoin(_) => "the version of the loaded table".to_owned(),
        OperatorKind::Sink(_) => "what is staged and not yet committed".to_owned(),
    })
}

fn call(call: &AggregateCall) -> String {
    let args = if call.args.is_empty() { "*".to_owned() } else { list(call.args.iter().map(|a| a.text.clone())) };
    let distinct = if call.distinct { "DISTINCT " } else { "" };
    let mut text = format!("{}({distinct}{args})", call.function);
    if !call.order_by.is_empty() {
        text = format!("{text} ORDER BY {}", list(call.order_by.iter().map(sort)));
    }
    if let Some(filter) = &call.filter {
        text = format!("{text} FILTER ({})", filter.text);
    }
    format!("{text} AS {}", call.name)
}

fn sort(key: &SortKey) -> String {
    let direction = if key.descending { "DESC" } else { "ASC" };
    let nulls = if key.nulls_first { "NULLS FIRST" } else { "NULLS LAST" };
    format!("{} {direction} {nulls}", key.expr.text)
}

fn columns(schema: &SchemaRef) -> String {
    list(
        schema.fields().iter().filter(|f| f.name() != KIND_COLUMN).map(|f| {
            format!("{} {}{}", f.name(), sql_name(f.data_type()), if f.is_nullable() { "" } else { " NOT NULL" })
        }),
    )
}

fn domain(domain: TimeDomain) -> &'static str {
    match domain {
        TimeDomain::Event => "event",
        TimeDomain::Processing => "processing",
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}
