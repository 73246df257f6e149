//! Binding against a small set of connectors. Expressions are planned by a stand-in that knows columns,
//! and takes every call for a timestamp.

use std::collections::BTreeMap;

use datafusion_common::ScalarValue;
use expect_test::{Expect, expect};
use qanat_proto::changelog::{AcceptedChangelog, SourceChangelog};
use qanat_proto::connector::{ConnectorDescriptor, Delivery, FormatDescriptor};

use super::*;
use crate::parse::{Statement, parse_script};

struct Connectors;

impl ConnectorCatalog for Connectors {
    fn connectors(&self) -> Vec<ConnectorDescriptor> {
        let one = |name, aliases, source, sink| ConnectorDescriptor {
            name,
            aliases,
            doc: "",
            source,
            sink,
            lookup: false,
            formats: &[],
            options: &[],
        };
        vec![one("filesystem", &["file"], true, true), one("blackhole", &[], false, true)]
    }

    fn formats(&self) -> Vec<FormatDescriptor> {
        Vec::new()
    }

    fn check(&self, table: &TableDescriptor, _role: Role) -> Result<TableTraits> {
        if table.options.contains_key("wrong") {
            return Err(Error::new(Code::UnknownOption, "unknown option `wrong`"));
        }
        Ok(TableTraits {
            bounded: true,
            replayable: true,
            delivery: Delivery::ExactlyOnce,
            routing: qanat_proto::connector::SinkRouting::Any,
            changelog: AcceptedChangelog::Append,
            gives: SourceChangelog::Append,
        })
    }
}

fn plan(expr: &ast::Expr, schema: &SchemaRef) -> Result<Expr> {
    match expr {
        ast::Expr::Identifier(ident) => match schema.field_with_name(&ident.value) {
            Ok(_) => Ok(datafusion_expr::ident(&ident.value)),
            Err(_) => Err(Error::new(Code::UnknownColumn, format!("no column `{}`", ident.value))),
        },
        _ => Ok(Expr::Literal(ScalarValue::TimestampMillisecond(Some(0), None), None)),
    }
}

fn load(text: &str) -> Result<Catalog> {
    let mut catalog = Catalog::default();
    for located in parse_script(text, &BTreeMap::new())?.statements {
        match located.statement {
            Statement::CreateTable(table) => catalog.create_table(&table, &Connectors, &plan)?,
            Statement::CreateView(view) => catalog.create_view(&view)?,
            Statement::DropTable(target) => catalog.drop(&target, false)?,
            other => panic!("{other:?}"),
        }
    }
    Ok(catalog)
}

fn fails(text: &str, expected: Expect) {
    let error = load(text).err().unwrap_or_else(|| panic!("accepted: {text}"));
    let hint = error.hint_text().map(|hint| format!(" | {hint}")).unwrap_or_default();
    expected.assert_eq(&format!("{error}{hint}"));
}

fn table(catalog: &Catalog, name: &str) -> Arc<BoundTable> {
    match catalog.lookup(name) {
        Ok(Entry::Table(table)) => Arc::clone(table),
        other => panic!("{other:?}"),
    }
}

const FLIGHTS: &str = "CREATE TABLE flights (
    id BIGINT, name STRING NOT NULL, ms BIGINT,
    ts AS TO_TIMESTAMP_LTZ(ms, 3),
    origin STRING METADATA VIRTUAL,
    position_in_file BIGINT METADATA FROM 'offset',
    WATERMARK FOR ts AS ts,
    PRIMARY KEY (id) NOT ENFORCED
) PARTITIONED BY (name) WITH ('connector' = 'file', 'Path' = 'x', 'fields.Name.kind' = 'y');";

#[test]
fn a_table_is_bound_in_declared_order() {
    let catalog = load(FLIGHTS).expect("binds");
    let flights = table(&catalog, "flights");
    let columns: Vec<String> = flights
        .columns
        .iter()
        .map(|column| format!("{} {} {:?}", column.name(), sql_name(column.data_type()), column.kind))
        .collect();
    expect![[r#"
        id BIGINT Physical(0)
        name STRING Physical(1)
        ms BIGINT Physical(2)
        ts TIMESTAMP(3) Computed(Literal(TimestampMillisecond(0, None), None))
        origin STRING Metadata(0)
        position_in_file BIGINT Metadata(1)"#]]
    .assert_eq(&columns.join("\n"));
    assert_eq!(flights.descriptor.connector, "filesystem");
    assert_eq!(flights.descriptor.option("path"), Some("x"));
    assert_eq!(flights.descriptor.option("fields.Name.kind"), Some("y"));
    assert_eq!(
        (&flights.descriptor.primary_key[..], &flights.descriptor.partitioned_by[..]),
        (&["id".to_owned()][..], &["name".to_owned()][..])
    );
    assert_eq!(flights.watermark.as_ref().map(|w| w.column.as_str()), Some("ts"));
    let writable: Vec<&str> = flights.writable().map(BoundColumn::name).collect();
    assert_eq!(writable, ["id", "name", "ms"]);
    assert!(!flights.columns[0].field.is_nullable(), "a key is not null");
}

#[test]
fn names_are_exact_first_and_then_without_case() {
    let catalog = load("CREATE TABLE A (x INT) WITH ('connector' = 'blackhole'); CREATE TABLE a (y INT) WITH ('connector' = 'blackhole'); CREATE VIEW V AS SELECT 1").expect("binds");
    assert_eq!(table(&catalog, "A").columns[0].name(), "x");
    assert_eq!(table(&catalog, "a").columns[0].name(), "y");
    assert!(matches!(catalog.lookup("v"), Ok(Entry::View(_))));
    assert!(catalog.lookup("w").is_err());
}

#[test]
fn like_takes_over_what_is_not_excluded() {
    let catalog = load(&format!(
        "{FLIGHTS} CREATE TABLE copy (extra INT) WITH ('path' = 'z') LIKE flights (EXCLUDING PARTITIONS EXCLUDING METADATA)"
    ))
    .expect("binds");
    let copy = table(&catalog, "copy");
    let names: Vec<&str> = copy.columns.iter().map(BoundColumn::name).collect();
    assert_eq!(names, ["id", "name", "ms", "ts", "extra"]);
    assert!(copy.descriptor.partitioned_by.is_empty() && copy.watermark.is_some());
    assert_eq!(copy.descriptor.connector, "filesystem");
}

#[test]
fn errors_know_what_to_do() {
    fails(
        "CREATE TABLE t (a INT)",
        expect![
            "[E0204] table `t` has no option `connector` (line 1, column 14) | write WITH ('connector' = '…'); connectors are: filesystem, blackhole"
        ],
    );
    fails(
        "CREATE TABLE t (a INT) WITH ('connector' = 'blackhol')",
        expect!["[E0201] no connector `blackhol` (line 1, column 30) | did you mean `blackhole`?"],
    );
    fails(
        "CREATE TABLE t (a INT) WITH ('connector' = 'file', 'wrong' = '1')",
        expect!["[E0202] unknown option `wrong` (line 1, column 52)"],
    );
    fails(
        "CREATE TABLE t (a INT, WATERMARK FOR a AS a) WITH ('connector' = 'file')",
        expect![
            "[E0109] the watermark column `a` is INT, not a timestamp (line 1, column 24) | declare it as TIMESTAMP(3) or compute a timestamp from it"
        ],
    );
    fails(
        "CREATE TABLE t (a BIGINT, WATERMARK FOR b AS b) WITH ('connector' = 'file')",
        expect!["[E0104] no column `b` (line 1, column 27) | did you mean `a`?"],
    );
    fails(
        "CREATE TABLE t (a STRING METADATA FROM 'offset') WITH ('connector' = 'file')",
        expect![
            "[E0106] metadata `offset` is BIGINT, not STRING (line 1, column 17) | declare it as BIGINT and convert it in a computed column"
        ],
    );
    fails(
        "CREATE TABLE t (a STRING METADATA FROM 'ofset') WITH ('connector' = 'file')",
        expect!["[E0104] no metadata `ofset` (line 1, column 17) | did you mean `offset`?"],
    );
    fails(
        "CREATE TABLE t (a INT, PRIMARY KEY (b) NOT ENFORCED) WITH ('connector' = 'file')",
        expect!["[E0104] no column `b` (line 1, column 37) | did you mean `a`?"],
    );
    fails(
        "CREATE TABLE t (a INT, b AS a) PARTITIONED BY (b) WITH ('connector' = 'file')",
        expect!["[E0102] PARTITIONED BY takes physical columns; `b` is computed or metadata (line 1, column 48)"],
    );
    fails(
        "CREATE TABLE t (a INT, b AS c) WITH ('connector' = 'file')",
        expect!["[E0104] no column `c` (line 1, column 24)"],
    );
    fails(
        "CREATE TABLE t (a JSON) WITH ('connector' = 'file')",
        expect!["[E0102] type `JSON` is not supported (line 1, column 17) | use STRING and the JSON functions"],
    );
    fails(
        "CREATE TABLE t (a INT) WITH ('connector' = 'file'); CREATE TABLE t (a INT) WITH ('connector' = 'file')",
        expect![
            "[E0108] `t` is declared twice (line 1, column 66) | choose another name, or write CREATE OR REPLACE or IF NOT EXISTS"
        ],
    );
    fails(
        "CREATE TABLE x.t (a INT) WITH ('connector' = 'file')",
        expect![
            "[E0103] no table or view `x.t` (line 1, column 14) | there is one catalog and one database: default_catalog.default_database"
        ],
    );
    fails(
        "CREATE TABLE t LIKE flights",
        expect![
            "[E0103] no table or view `flights` (line 1, column 21) | declare it with CREATE TABLE before it is used"
        ],
    );
    fails("DROP TABLE t", expect!["[E0103] no table `t` (line 1, column 12)"]);
}
