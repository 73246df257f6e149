//! `datagen`: rows made up by rule, one rule per column, the same rows for the same seed.
//!
//! The options are Flink's. Two differences: a bounded table is made as fast as possible unless
//! `rows-per-second` is set, and row i depends on the seed and i alone, so that a resumed job goes on
//! with the very rows it would have made.

mod column;

use std::sync::Arc;

use arrow::array::ArrayRef;
use qanat_proto::changelog::{AcceptedChangelog, SourceChangelog};
use qanat_proto::connector::{
    ConnectorDescriptor, Delivery, OptionKind, OptionSpec, Role, SinkRouting, TableDescriptor, TableTraits,
};
use qanat_proto::error::{Code, Error, Place, Result, nearest};

use self::column::Column;
use crate::contract::{Context, ReadRequest, Source};
use crate::generator::{GeneratorSource, Plan, Rows, SPLITS_DEFAULT};
use crate::options::Options;
use crate::registry::Connector;

/// Rows per second of a table without an end, as in Flink.
const ROWS_PER_SECOND_DEFAULT: f64 = 10_000.0;

const fn option(key: &'static str, kind: OptionKind, default: Option<&'static str>, doc: &'static str) -> OptionSpec {
    OptionSpec { key, kind, default, required: false, doc }
}

const OPTIONS: &[OptionSpec] = &[
    option(
        "rows-per-second",
        OptionKind::Integer { min: 1, max: i64::MAX },
        None,
        "Rows per second of the whole job. Without it: 10000, or as fast as possible if the table ends.",
    ),
    option(
        "number-of-rows",
        OptionKind::Integer { min: 0, max: i64::MAX },
        None,
        "Rows in all. Without it the table has no end, unless a sequence has one.",
    ),
    option("seed", OptionKind::Integer { min: 0, max: i64::MAX }, Some("0"), "Another seed makes other rows."),
    option(
        "splits",
        OptionKind::Integer { min: 1, max: 4096 },
        Some(SPLITS_DEFAULT),
        "Parts that can be made in parallel.",
    ),
    option(
        "base-time",
        OptionKind::Text,
        None,
        "The time of row 0, `2013-01-01 00:00:00`. Without it: when the job starts.",
    ),
    option("fields.*.kind", OptionKind::Choice(&["random", "sequence"]), Some("random"), "How a column is made."),
    option("fields.*.start", OptionKind::Number, None, "The first value of a sequence."),
    option("fields.*.end", OptionKind::Number, None, "The last value of a sequence: the table ends with it."),
    option("fields.*.min", OptionKind::Number, None, "The least random value."),
    option("fields.*.max", OptionKind::Number, None, "The greatest random value."),
    option(
        "fields.*.length",
        OptionKind::Integer { min: 1, max: 1_000_000 },
        Some("100"),
        "Characters of a random string, bytes of random bytes, elements of an array or map (3 if not given).",
    ),
    option(
        "fields.*.var-len",
        OptionKind::Choice(&["false"]),
        Some("false"),
        "Texts, bytes and collections all have the length that `length` says.",
    ),
    option("fields.*.null-rate", OptionKind::Number, Some("0"), "The share of NULLs, from 0 to 1."),
    option(
        "fields.*.max-past",
        OptionKind::Duration,
        Some("0 ms"),
        "How far a random timestamp may lie before the time of its row.",
    ),
];

/// The connector's line in the registry.
pub struct Datagen;

/// The checked options of a table.
struct Checked {
    columns: Vec<Column>,
    plan: Plan,
}

impl Checked {
    fn of(table: &TableDescriptor) -> Result<Self> {
        let options = Options::check(table, &[OPTIONS])?;
        check_names(table)?;
        let limit = options.integer("number-of-rows").and_then(|n| u64::try_from(n).ok());
        let rate = options.number("rows-per-second");
        let seed = options.integer("seed").and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
        let base_ms = match options.text("base-time") {
            None => None,
            Some(text) => Some(crate::format::parse_timestamp_ms(text).ok_or_else(|| {
                options.bad("base-time", format!("`{text}` is not a timestamp such as `2013-01-01 00:00:00`"))
            })?),
        };
        let per_second = rate.unwrap_or(1_000.0);
        let fields = table.physical.fields();
        let mut columns = Vec::with_capacity(fields.len());
        for (stream, field) in (0_u64..).zip(fields) {
            columns.push(Column::of(&options, field, seed, stream, per_second)?);
        }
        let limit = columns.iter().filter_map(Column::rows).chain(limit).min();
        let rate = rate.or_else(|| limit.is_none().then_some(ROWS_PER_SECOND_DEFAULT));
        let splits = options.integer("splits").and_then(|n| u64::try_from(n).ok()).unwrap_or(1);
        Ok(Self { columns, plan: Plan { splits, limit, rate, base_ms } })
    }
}

/// Refuses options of columns that are not there.
fn check_names(table: &TableDescriptor) -> Result<()> {
    for key in table.options.keys() {
        let Some(name) = key.strip_prefix("fields.").and_then(|rest| rest.rsplit_once('.')).map(|(name, _)| name)
        else {
            continue;
        };
        let names = || table.physical.fields().iter().map(|f| f.name().as_str());
        // `items.element`, `props.key`: parts of a nested column, which the column itself looks for.
        let known = |n: &str| {
            n.eq_ignore_ascii_case(name)
                || name.get(..n.len()).is_some_and(|head| head.eq_ignore_ascii_case(n))
                    && name.get(n.len()..).is_some_and(|rest| rest.starts_with('.'))
        };
        if !names().any(known) {
            let error = Error::new(Code::UnknownOption, format!("option `{key}` names no column of the table"))
                .at(Place::Named(table.name.clone()));
            return Err(match nearest(name, names()) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error,
            });
        }
    }
    Ok(())
}

impl Connector for Datagen {
    fn descriptor(&self) -> ConnectorDescriptor {
        ConnectorDescriptor {
            name: "datagen",
            aliases: &[],
            doc: "Rows made up by rule, as fast as possible or at a rate.",
            source: true,
            sink: false,
            lookup: false,
            formats: &[],
            options: OPTIONS,
        }
    }

    fn check(&self, table: &TableDescriptor, _role: Role) -> Result<TableTraits> {
        let checked = Checked::of(table)?;
        Ok(TableTraits {
            bounded: checked.plan.limit.is_some(),
            replayable: true,
            delivery: Delivery::None,
            routing: SinkRouting::Any,
            changelog: AcceptedChangelog::Append,
            gives: SourceChangelog::Append,
        })
    }

    fn source(&self, context: &Context, table: &TableDescriptor, request: ReadRequest) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(source(&context.env, table, request)?))
    }
}

fn source(env: &qanat_storage::env::Env, table: &TableDescriptor, request: ReadRequest) -> Result<GeneratorSource> {
    let checked = Checked::of(table)?;
    let columns = request.projection.iter().filter_map(|i| checked.columns.get(*i).cloned()).collect();
    let rows = Arc::new(MadeUp { columns });
    Ok(GeneratorSource::new(env, "datagen", table, request, &checked.plan, rows))
}

struct MadeUp {
    columns: Vec<Column>,
}

impl Rows for MadeUp {
    fn columns(&self, rows: &[u64], base_ms: i64) -> Result<Vec<ArrayRef>> {
        self.columns.iter().map(|column| column.make(rows, base_ms)).collect()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray, RecordBatch};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit};
    use qanat_storage::env::Env;

    use super::*;
    use crate::contract::{ReadOutcome, StopFlag};
    use crate::suite::source::{drain, prove, rows_of};

    fn table(columns: &[(&str, DataType)], options: &[(&str, &str)]) -> TableDescriptor {
        let fields: Vec<Field> = columns.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect();
        let mut pairs: std::collections::BTreeMap<String, String> =
            options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        pairs.insert("connector".to_owned(), "datagen".to_owned());
        TableDescriptor {
            name: "t".to_owned(),
            connector: "datagen".to_owned(),
            options: pairs,
            physical: Arc::new(Schema::new(fields)),
            metadata: Vec::new(),
            primary_key: Vec::new(),
            partitioned_by: Vec::new(),
        }
    }

    fn request(columns: usize, bounded: bool) -> ReadRequest {
        ReadRequest {
            projection: (0..columns).collect(),
            unread: Vec::new(),
            metadata: Vec::new(),
            batch_rows: 7,
            bounded,
            filter: None,
        }
    }

    fn all(source: &Arc<dyn Source>) -> Vec<RecordBatch> {
        let splits = source.discover().expect("splits");
        splits.iter().filter_map(|s| rows_of(&drain(source.as_ref(), s, &s.start).batches)).collect()
    }

    #[test]
    fn every_row_once_in_any_number_of_splits_and_from_any_position() {
        let columns = [("id", DataType::Int64), ("s", DataType::Utf8), ("d", DataType::Float64)];
        let mut seen: Vec<Vec<String>> = Vec::new();
        for splits in ["1", "5", "16"] {
            let options = [
                ("fields.id.kind", "sequence"),
                ("fields.id.start", "10"),
                ("fields.id.end", "109"),
                ("fields.s.length", "5"),
                ("fields.d.null-rate", "0.3"),
                ("splits", splits),
            ];
            let table = table(&columns, &options);
            assert!(Datagen.check(&table, Role::Source).expect("good options").bounded);
            let source: Arc<dyn Source> = Arc::new(source(&Env::real(), &table, request(3, true)).expect("opens"));
            prove(&source);
            let mut rows = Vec::new();
            for batch in all(&source) {
                let ids = batch.column(0).as_primitive::<Int64Type>();
                let (texts, doubles) = (batch.column(1).as_string::<i32>(), batch.column(2));
                for row in 0..batch.num_rows() {
                    rows.push(format!("{:03} {} {}", ids.value(row), texts.value(row), doubles.is_null(row)));
                }
            }
            rows.sort();
            assert_eq!(rows.len(), 100);
            seen.push(rows);
        }
        assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "splits do not change the rows");
    }

    #[test]
    fn random_values_stay_within_their_bounds_for_every_type() {
        let columns = [
            ("a", DataType::Int8),
            ("b", DataType::Int64),
            ("c", DataType::Float32),
            ("d", DataType::Decimal128(10, 2)),
            ("e", DataType::Timestamp(TimeUnit::Millisecond, None)),
            ("f", DataType::Boolean),
            ("g", DataType::Date32),
            ("h", DataType::Binary),
            ("i", DataType::Time32(TimeUnit::Millisecond)),
        ];
        let options = [
            ("number-of-rows", "1000"),
            ("fields.b.min", "-5"),
            ("fields.b.max", "5"),
            ("fields.e.max-past", "10 s"),
            ("base-time", "2013-01-01 00:00:00"),
            ("splits", "2"),
        ];
        let table = table(&columns, &options);
        let source: Arc<dyn Source> = Arc::new(source(&Env::real(), &table, request(9, true)).expect("opens"));
        let batches = all(&source);
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1000);
        for batch in batches {
            let values = batch.column(1).as_primitive::<Int64Type>().values();
            assert!(values.iter().all(|v| (-5..=5).contains(v)) && values.contains(&5) && values.contains(&-5));
        }
    }

    #[test]
    fn nested_columns_are_made_of_their_parts() {
        let field = |name: &str, data_type: DataType| Arc::new(Field::new(name, data_type, true));
        let pair = DataType::Struct(vec![field("key", DataType::Utf8), field("value", DataType::Int32)].into());
        let pair = match pair {
            DataType::Struct(fields) => DataType::Struct(
                vec![Arc::new(fields[0].as_ref().clone().with_nullable(false)), fields[1].clone()].into(),
            ),
            other => other,
        };
        let columns = [
            ("a", DataType::List(field("item", DataType::Int64))),
            ("m", DataType::Map(Arc::new(Field::new("entries", pair, false)), false)),
            ("r", DataType::Struct(vec![field("x", DataType::Float64), field("y", DataType::Boolean)].into())),
        ];
        let options = [
            ("number-of-rows", "50"),
            ("splits", "3"),
            ("fields.a.length", "2"),
            ("fields.a.element.min", "5"),
            ("fields.a.element.max", "7"),
            ("fields.m.key.length", "4"),
            ("fields.r.null-rate", "0.5"),
            ("fields.r.x.min", "0"),
            ("fields.r.x.max", "1"),
        ];
        let table = table(&columns, &options);
        assert!(Datagen.check(&table, Role::Source).expect("good options").bounded);
        let source: Arc<dyn Source> = Arc::new(source(&Env::real(), &table, request(3, true)).expect("opens"));
        prove(&source);
        for batch in all(&source) {
            let (lists, maps, rows) =
                (batch.column(0).as_list::<i32>(), batch.column(1).as_map(), batch.column(2).as_struct());
            let elements = lists.values().as_primitive::<Int64Type>().values();
            assert!(lists.value_length(0) == 2 && elements.iter().all(|v| (5..=7).contains(v)));
            assert!(maps.value_length(0) == 3 && maps.keys().as_string::<i32>().value(0).len() == 4);
            assert!(rows.null_count() > 0 && rows.null_count() < batch.num_rows());
        }
        let wrong = [("fields.a.element.min", "9"), ("fields.a.element.max", "1")];
        let wrong = self::table(&columns, &wrong);
        assert_eq!(Datagen.check(&wrong, Role::Source).expect_err("refused").code(), Code::BadOption);
    }

    #[test]
    fn a_rate_holds_rows_back_and_refusals_name_the_column() {
        let columns = [("a", DataType::Int32)];
        let endless = table(&columns, &[("rows-per-second", "1"), ("splits", "1")]);
        assert!(!Datagen.check(&endless, Role::Source).expect("good").bounded);
        let source = source(&Env::real(), &endless, request(1, false)).expect("opens");
        let split = source.discover().expect("one split").remove(0);
        let drained = drain(&source, &split, &split.start);
        assert!(!drained.ended && drained.batches.len() <= 2, "about one row a second");
        let refused =
            |options: &[(&str, &str)]| Datagen.check(&table(&columns, options), Role::Source).expect_err("refused");
        assert_eq!(refused(&[("fields.b.min", "1")]).code(), Code::UnknownOption);
        assert_eq!(refused(&[("fields.a.min", "5"), ("fields.a.max", "1")]).code(), Code::BadOption);
        assert_eq!(refused(&[("fields.a.null-rate", "2")]).code(), Code::BadOption);
    }

    #[test]
    fn at_a_low_rate_the_splits_take_turns_also_after_a_restart() {
        let sim = Env::sim(1);
        let table = table(&[("a", DataType::Int32)], &[("rows-per-second", "1")]);
        let source = source(&sim.env, &table, request(1, false)).expect("opens");
        let splits = source.discover().expect("splits");
        assert_eq!(splits.len(), 16);
        let mut positions: Vec<_> = splits.iter().map(|split| split.start.clone()).collect();
        for _ in 0..2 {
            let open = |(split, position)| source.open(split, position).expect("a split");
            let mut readers: Vec<_> = splits.iter().zip(&positions).map(open).collect();
            let mut seen = 0;
            for second in 1..=40 {
                for (reader, position) in readers.iter_mut().zip(&mut positions) {
                    while let ReadOutcome::Batch(batch) = reader.next(&StopFlag::default()).expect("rows") {
                        seen += batch.rows.num_rows();
                        *position = batch.position;
                    }
                }
                assert_eq!(seen, second, "one at once, and one in each second");
                sim.clock.advance(std::time::Duration::from_secs(1));
            }
        }
    }
}
