//! `nexmark`: the events of an online auction (persons, auctions, bids), as the Nexmark benchmark
//! defines them: 1 person, 3 auctions and 46 bids in every 50 events if nothing else is asked for, with its sizes and
//! its skew.
//!
//! Event i is a pure function of the seed and i. A table has either the benchmark's columns
//! (`event_type`, `person ROW<…>`, `auction ROW<…>`, `bid ROW<…>`, `dateTime`), or, with the option
//! `event-type`, the fields of one kind of event as its columns. Columns are found by name.

mod event;

use std::sync::Arc;

use arrow::array::{ArrayRef, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, FieldRef};
use qanat_proto::changelog::{AcceptedChangelog, SourceChangelog};
use qanat_proto::connector::{
    ConnectorDescriptor, Delivery, OptionKind, OptionSpec, Role, SinkRouting, TableDescriptor, TableTraits,
};
use qanat_proto::error::{Code, Error, Place, Result, nearest};
use qanat_storage::env::Env;

use self::event::{Events, Kind, Proportions};
use crate::contract::{Context, ReadRequest, Source};
use crate::format::reader::type_name;
use crate::generator::{GeneratorSource, Plan, Rows, SPLITS_DEFAULT};
use crate::options::Options;
use crate::registry::Connector;

/// The benchmark's own base time, 2015-07-15 00:00:00 UTC.
const BASE_TIME_DEFAULT: &str = "2015-07-15 00:00:00";

const fn option(key: &'static str, kind: OptionKind, default: Option<&'static str>, doc: &'static str) -> OptionSpec {
    OptionSpec { key, kind, default, required: false, doc }
}

const EVENTS: OptionKind = OptionKind::Integer { min: 0, max: i64::MAX };

const PROPORTION: OptionKind = OptionKind::Integer { min: 1, max: 1_000_000 };

const OPTIONS: &[OptionSpec] = &[
    option("events.num", EVENTS, None, "Events in all, of all kinds. Without it the table has no end."),
    option("number-of-rows", EVENTS, None, "The same as `events.num`."),
    option(
        "event-type",
        OptionKind::Choice(&["all", "person", "auction", "bid"]),
        Some("all"),
        "One kind of event alone, with its fields as columns.",
    ),
    option(
        "first-event.rate",
        OptionKind::Integer { min: 1, max: 1_000_000_000 },
        Some("10000"),
        "Events per second of event time.",
    ),
    option("next-event.rate", OptionKind::Integer { min: 1, max: 1_000_000_000 }, None, "The same: the pace is even."),
    option("person.proportion", PROPORTION, Some("1"), "Persons in a run of events."),
    option("auction.proportion", PROPORTION, Some("3"), "Auctions in a run of events."),
    option("bid.proportion", PROPORTION, Some("46"), "Bids in a run of events."),
    option(
        "max-emit-speed",
        OptionKind::Boolean,
        None,
        "`false`: not faster than `first-event.rate` by the clock; `true`: as fast as possible, as it is without it.",
    ),
    option("keep-alive", OptionKind::Boolean, Some("false"), "A table that ends does: only `false` is taken."),
    option("stop-at", OptionKind::Integer { min: -1, max: -1 }, Some("-1"), "No time ends a table: only -1 is taken."),
    option(
        "rate",
        OptionKind::Integer { min: 1, max: i64::MAX },
        None,
        "Events per second of the clock, for the whole job. Without it: as fast as possible.",
    ),
    option("base-time", OptionKind::Text, Some(BASE_TIME_DEFAULT), "The time of event 0."),
    option("seed", OptionKind::Integer { min: 0, max: i64::MAX }, Some("0"), "Another seed makes other events."),
    option(
        "splits",
        OptionKind::Integer { min: 1, max: 4096 },
        Some(SPLITS_DEFAULT),
        "Parts that can be made in parallel.",
    ),
];

/// The connector's line in the registry.
pub struct Nexmark;

impl Connector for Nexmark {
    fn descriptor(&self) -> ConnectorDescriptor {
        ConnectorDescriptor {
            name: "nexmark",
            aliases: &[],
            doc: "Events of an online auction, as the Nexmark benchmark defines them.",
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

fn source(env: &Env, table: &TableDescriptor, request: ReadRequest) -> Result<GeneratorSource> {
    let checked = Checked::of(table)?;
    let columns = request.projection.iter().filter_map(|i| checked.columns.get(*i).cloned()).collect();
    let rows = Arc::new(Generated { events: checked.events, only: checked.only, columns });
    Ok(GeneratorSource::new(env, "nexmark", table, request, &checked.plan, rows))
}

/// The checked options and columns of a table.
struct Checked {
    events: Events,
    only: Option<Kind>,
    columns: Vec<Column>,
    plan: Plan,
}

#[derive(Clone)]
enum Column {
    EventType,
    DateTime(DataType),
    /// The fields of one kind of event, NULL for others.
    Row {
        kind: Kind,
        fields: Vec<FieldRef>,
    },
    Field {
        kind: Kind,
        field: FieldRef,
    },
}

impl Checked {
    fn of(table: &TableDescriptor) -> Result<Self> {
        let options = Options::check(table, &[OPTIONS])?;
        let number = |key: &str| options.integer(key).and_then(|n| u64::try_from(n).ok());
        let base = options.text("base-time").unwrap_or(BASE_TIME_DEFAULT);
        let Some(base_ms) = crate::format::parse_timestamp_ms(base) else {
            let message = format!("`{base}` is not a timestamp such as `{BASE_TIME_DEFAULT}`");
            return Err(options.bad("base-time", message));
        };
        let only = match options.text("event-type").unwrap_or("all").to_ascii_lowercase().as_str() {
            "person" => Some(Kind::Person),
            "auction" => Some(Kind::Auction),
            "bid" => Some(Kind::Bid),
            _ => None,
        };
        let pace = number("first-event.rate").unwrap_or(1);
        if number("next-event.rate").is_some_and(|next| next != pace) {
            return Err(options.bad("next-event.rate", "a pace that changes is not made: it is `first-event.rate`"));
        }
        if options.boolean("keep-alive") == Some(true) {
            return Err(options.bad("keep-alive", "a table with so many events ends after them"));
        }
        let is_paced = options.boolean("max-emit-speed") == Some(false);
        let rate = options.number("rate").or_else(|| is_paced.then_some(pace as f64));
        let part = |key: &str| number(key).unwrap_or(1);
        let proportions = Proportions {
            persons: part("person.proportion"),
            auctions: part("auction.proportion"),
            bids: part("bid.proportion"),
        };
        let columns = table.physical.fields().iter().map(|field| column(table, field, only));
        let events = number("events.num").or_else(|| number("number-of-rows"));
        Ok(Self {
            events: Events::new(number("seed").unwrap_or(0), pace, proportions),
            columns: columns.collect::<Result<_>>()?,
            plan: Plan {
                splits: number("splits").unwrap_or(1),
                limit: events.map(|events| only.map_or(events, |kind| proportions.among(kind, events))),
                // The rate is of all events, wanted or not.
                rate: rate.map(|rate| only.map_or(rate, |kind| rate * proportions.share(kind))),
                base_ms: Some(base_ms),
            },
            only,
        })
    }
}

fn column(table: &TableDescriptor, field: &FieldRef, only: Option<Kind>) -> Result<Column> {
    let name = field.name().to_ascii_lowercase();
    if let Some(kind) = only {
        check_field(table, kind, field)?;
        return Ok(Column::Field { kind, field: Arc::clone(field) });
    }
    let kind = match name.as_str() {
        "event_type" if *field.data_type() == DataType::Int32 => return Ok(Column::EventType),
        "datetime" if matches!(field.data_type(), DataType::Timestamp(_, _)) => {
            return Ok(Column::DateTime(field.data_type().clone()));
        }
        "person" => Kind::Person,
        "auction" => Kind::Auction,
        "bid" => Kind::Bid,
        _ => {
            let names = ["event_type", "person", "auction", "bid", "dateTime"];
            return Err(no_column(table, field, &names));
        }
    };
    let DataType::Struct(fields) = field.data_type() else {
        let message = format!("column `{}` of a nexmark table is a ROW", field.name());
        return Err(Error::new(Code::BadRole, message).at(Place::Named(table.name.clone())));
    };
    for inner in fields {
        check_field(table, kind, inner)?;
    }
    Ok(Column::Row { kind, fields: fields.iter().cloned().collect() })
}

fn check_field(table: &TableDescriptor, kind: Kind, field: &FieldRef) -> Result<()> {
    let Some((_, made)) = kind.fields().iter().find(|(name, _)| name.eq_ignore_ascii_case(field.name())) else {
        let names: Vec<&str> = kind.fields().iter().map(|(name, _)| *name).collect();
        return Err(no_column(table, field, &names));
    };
    if !crate::format::can_conform(&made.data_type(), field.data_type()) {
        let message = format!(
            "`{}` is made as {}, but declared {}",
            field.name(),
            type_name(&made.data_type()),
            type_name(field.data_type())
        );
        return Err(Error::new(Code::BadRole, message).at(Place::Named(table.name.clone())));
    }
    Ok(())
}

fn no_column(table: &TableDescriptor, field: &FieldRef, names: &[&str]) -> Error {
    let what = format!("connector `nexmark` makes no `{}` of type {}", field.name(), type_name(field.data_type()));
    let error = Error::new(Code::BadRole, what).at(Place::Named(table.name.clone()));
    match nearest(field.name(), names.iter().copied()) {
        Some(near) if !near.eq_ignore_ascii_case(field.name()) => error.hint(format!("did you mean `{near}`?")),
        _ => error.hint(format!("there are: {}", names.join(", "))),
    }
}

struct Generated {
    events: Events,
    only: Option<Kind>,
    columns: Vec<Column>,
}

impl Rows for Generated {
    fn columns(&self, rows: &[u64], base_ms: i64) -> Result<Vec<ArrayRef>> {
        let numbers: Vec<u64>;
        let events = match self.only {
            None => rows,
            Some(kind) => {
                numbers = rows.iter().map(|row| self.events.event(kind, *row)).collect();
                &numbers
            }
        };
        let made = |column: &Column| -> Result<ArrayRef> {
            let conform = |array: ArrayRef, wanted: &DataType| {
                crate::format::conform(&array, wanted)
                    .map_err(|e| Error::internal(format!("could not make events: {e}")))
            };
            match column {
                Column::EventType => Ok(self.events.types(events)),
                Column::DateTime(wanted) => conform(self.events.times(events, base_ms), wanted),
                Column::Field { kind, field } => {
                    conform(self.events.field(*kind, field.name(), events, base_ms)?, field.data_type())
                }
                Column::Row { kind, fields } => {
                    let inner = fields.iter().map(|field| {
                        conform(self.events.field(*kind, field.name(), events, base_ms)?, field.data_type())
                    });
                    let inner: Vec<ArrayRef> = inner.collect::<Result<_>>()?;
                    let valid: NullBuffer =
                        events.iter().map(|e| self.events.kind(*e) == *kind).collect::<Vec<bool>>().into();
                    let row = StructArray::try_new_with_length(fields.clone().into(), inner, Some(valid), events.len());
                    Ok(Arc::new(row.map_err(|e| Error::internal(format!("could not make events: {e}")))?))
                }
            }
        };
        self.columns.iter().map(made).collect()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{Field, Int32Type, Int64Type, Schema, TimeUnit};

    use super::*;
    use crate::suite::source::{drain, prove, rows_of};

    fn table(fields: Vec<Field>, options: &[(&str, &str)]) -> TableDescriptor {
        let mut pairs: std::collections::BTreeMap<String, String> =
            options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        pairs.insert("connector".to_owned(), "nexmark".to_owned());
        TableDescriptor {
            name: "t".to_owned(),
            connector: "nexmark".to_owned(),
            options: pairs,
            physical: Arc::new(Schema::new(fields)),
            metadata: Vec::new(),
            primary_key: Vec::new(),
            partitioned_by: Vec::new(),
        }
    }

    fn fields_of(kind: Kind) -> Vec<Field> {
        kind.fields().iter().map(|(name, made)| Field::new(*name, made.data_type(), true)).collect()
    }

    fn request(columns: usize) -> ReadRequest {
        ReadRequest {
            projection: (0..columns).collect(),
            unread: Vec::new(),
            metadata: Vec::new(),
            batch_rows: 100,
            bounded: true,
            filter: None,
        }
    }

    #[test]
    fn nested_rows_have_the_proportions_and_resume_anywhere() {
        let row = |kind: Kind| DataType::Struct(fields_of(kind).into());
        let fields = vec![
            Field::new("event_type", DataType::Int32, true),
            Field::new("person", row(Kind::Person), true),
            Field::new("auction", row(Kind::Auction), true),
            Field::new("bid", row(Kind::Bid), true),
            Field::new("dateTime", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        ];
        let table = table(fields, &[("events.num", "1000"), ("splits", "3")]);
        assert!(Nexmark.check(&table, Role::Source).expect("good").bounded);
        let source: Arc<dyn Source> = Arc::new(source(&Env::real(), &table, request(5)).expect("opens"));
        prove(&source);
        let mut counts = [0; 3];
        for split in source.discover().expect("splits") {
            let rows = rows_of(&drain(source.as_ref(), &split, &split.start).batches).expect("rows");
            let types = rows.column(0).as_primitive::<Int32Type>();
            for (row, kind) in types.values().iter().enumerate() {
                counts[*kind as usize] += 1;
                for column in 1..4 {
                    assert_eq!(rows.column(column).is_valid(row), column == *kind as usize + 1);
                }
            }
        }
        assert_eq!(counts, [20, 60, 920]);
    }

    #[test]
    fn other_proportions_are_kept_and_persons_have_numbers_of_their_own() {
        let options = [("person.proportion", "3"), ("auction.proportion", "2"), ("bid.proportion", "5")];
        let counts = ["person", "auction", "bid"].map(|kind| {
            let of = match kind {
                "person" => Kind::Person,
                "auction" => Kind::Auction,
                _ => Kind::Bid,
            };
            let options = [&options[..], &[("events.num", "97"), ("event-type", kind), ("splits", "1")]].concat();
            let table = table(fields_of(of), &options);
            let source = source(&Env::real(), &table, request(1)).expect("opens");
            let split = source.discover().expect("one").remove(0);
            let rows = rows_of(&drain(&source, &split, &split.start).batches).expect("rows");
            let ids = rows.column(0).as_primitive::<Int64Type>().values();
            if kind != "bid" {
                assert!(ids.iter().zip(1_000..).all(|(id, wanted)| *id == wanted), "{ids:?}");
            }
            ids.len()
        });
        assert_eq!(counts, [30, 20, 47]);
    }

    #[test]
    fn bids_are_skewed_and_refer_to_auctions_that_are_or_will_be() {
        let table = table(fields_of(Kind::Bid), &[("events.num", "50000"), ("event-type", "bid"), ("splits", "1")]);
        let source = source(&Env::real(), &table, request(7)).expect("opens");
        let split = source.discover().expect("one").remove(0);
        let rows = rows_of(&drain(&source, &split, &split.start).batches).expect("rows");
        assert_eq!(rows.num_rows(), 46_000);
        let auctions = rows.column(0).as_primitive::<Int64Type>().values();
        let hot = auctions.iter().filter(|a| **a % 100 == 0).count();
        assert!((0.45..0.60).contains(&(hot as f64 / 46_000.0)), "half of the bids go to hot auctions: {hot}");
        let extra = rows.column(6).as_string::<i32>();
        let mean = extra.iter().flatten().map(str::len).sum::<usize>() / rows.num_rows();
        assert!((50..80).contains(&mean), "bids are padded to about 100 bytes: {mean}");
    }

    #[test]
    fn unknown_fields_are_refused_with_the_nearest() {
        let bad = table(vec![Field::new("pricee", DataType::Int64, true)], &[("event-type", "bid")]);
        let error = Nexmark.check(&bad, Role::Source).expect_err("refused");
        assert_eq!(error.hint_text(), Some("did you mean `price`?"));
    }
}
