//! Parse cases: what is taken, how it is read, and every error with its place.

use std::collections::BTreeMap;

use expect_test::{Expect, expect};
use proptest::prelude::*;
use qanat_proto::{Code, limits};

use super::*;

fn parse(text: &str) -> Result<Script> {
    parse_script(text, &BTreeMap::new())
}

fn one(text: &str) -> Statement {
    let mut script = parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(script.statements.len(), 1, "{text}");
    script.statements.remove(0).statement
}

/// A query as the parser understood it.
fn read_as(text: &str, expected: Expect) {
    match one(text) {
        Statement::Query(query) => expected.assert_eq(&query.to_string()),
        other => panic!("{other:?}"),
    }
}

fn fails(text: &str, expected: Expect) {
    let error = parse(text).err().unwrap_or_else(|| panic!("accepted: {text}"));
    let hint = error.hint_text().map(|hint| format!(" | {hint}")).unwrap_or_default();
    expected.assert_eq(&format!("{error}{hint}"));
}

#[test]
fn statements_know_their_place_and_text() {
    let variables = BTreeMap::from([("T".to_owned(), "a\nb".to_owned())]);
    let script = parse_script("-- first\nSELECT '${T}' ;\n\n  SELECT 2 -- end", &variables).expect("parses");
    let seen: Vec<(u64, u64, &str)> = script.statements.iter().map(|s| (s.line, s.column, s.text.as_str())).collect();
    assert_eq!(seen, [(2, 1, "SELECT '${T}'"), (4, 3, "SELECT 2 -- end")]);
}

#[test]
fn queries_that_are_taken() {
    for text in [
        "SELECT auction, bidder, 0.908 * price AS price, ts, extra FROM bid",
        "SELECT a.b.c, m['k'], r[1], ARRAY[1, 2][1] FROM `t`, \"u\"",
        "SELECT COUNT(*) FILTER (WHERE price < 10) AS n, COUNT(DISTINCT x) FROM t GROUP BY k HAVING COUNT(*) > 1",
        "SELECT * FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY a ORDER BY p DESC) AS rn FROM bid) WHERE rn <= 10",
        "SELECT * FROM a JOIN b FOR SYSTEM_TIME AS OF a.ts AS x ON a.k = x.k",
        "SELECT * FROM a, LATERAL TABLE(f(a.x)) AS t(y)",
        "SELECT * FROM a CROSS JOIN UNNEST(a.list) AS t(x)",
        "SELECT * FROM a CROSS JOIN UNNEST(a.list) WITH ORDINALITY AS t(x, n)",
        "SELECT * FROM a LEFT JOIN UNNEST(a.list) AS t(x) ON TRUE",
        "SELECT CASE LOWER(c) WHEN 'apple' THEN '0' ELSE REGEXP_EXTRACT(url, '(&|^)channel_id=([^&]*)', 2) END FROM bid",
        "SELECT DATE '2020-01-01', TIMESTAMP '2020-01-01 00:00:00', TIME '10:00:00', CURRENT_TIMESTAMP, LOCALTIMESTAMP",
        "SELECT x NOT IN (1, 2), y IS NOT DISTINCT FROM z, a LIKE 'b%' ESCAPE '!', NOT b, -c, x BETWEEN 1 AND 2 FROM t",
        "SELECT DISTINCT a FROM t UNION ALL SELECT b FROM u",
        "WITH x AS (SELECT 1 AS a) SELECT * FROM x",
        "SELECT COUNT(*) FROM TABLE(CUMULATE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR, INTERVAL '1' DAY)) GROUP BY window_start",
        "SELECT ROW(1, 'a'), (1, 2) FROM t",
        "SELECT TRIM(BOTH 'x' FROM a), TRIM(a), POSITION('a' IN b) FROM t",
        "VALUES (1, 'a'), (2, 'b')",
        "SELECT SUM(x) OVER (PARTITION BY k ORDER BY ts RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW) FROM t",
        "SELECT year, month, day, hour, `minute`, value FROM t",
        "SELECT t.`order`, \"select\" FROM t",
    ] {
        assert!(matches!(one(text), Statement::Query(_)), "{text}");
    }
}

#[test]
fn spellings_become_calls_and_types() {
    read_as(
        "SELECT TIMESTAMPDIFF(SECOND, a, b), TIMESTAMPADD(DAYS, 1, a)",
        expect!["SELECT timestampdiff('SECOND', a, b), timestampadd('DAY', 1, a)"],
    );
    read_as(
        "SELECT CEIL(t TO HOUR), FLOOR(t TO DAY), CEIL(x), EXTRACT(DAY FROM t)",
        expect!["SELECT ceil_to('HOUR', t), floor_to('DAY', t), ceil(x), extract_unit('DAY', t)"],
    );
    read_as(
        "SELECT SUBSTRING(s FROM 2 FOR 3), SUBSTR(s, 2), OVERLAY(a PLACING b FROM 2), POSITION(a IN b)",
        expect!["SELECT substring(s, 2, 3), substring(s, 2), overlay(a, b, 2), position(a, b)"],
    );
    read_as("SELECT MAP['a', 1, 'b', 2]", expect!["SELECT map(ARRAY['a', 'b'], ARRAY[1, 2])"]);
    read_as(
        "SELECT CAST(a AS ROW<x INT, y ARRAY<STRING>>), TRY_CAST(b AS INT), c::BIGINT, d::TIMESTAMP_LTZ(3)",
        expect!["SELECT CAST(a AS STRUCT<x INT, y ARRAY<STRING>>), TRY_CAST(b AS INT), c::BIGINT, d::TIMESTAMPTZ(3)"],
    );
    read_as(
        "SELECT INTERVAL '10' SECOND, INTERVAL '1:30' MINUTE TO SECOND, INTERVAL '1-2' YEAR TO MONTH",
        expect!["SELECT INTERVAL '10000 milliseconds', INTERVAL '90000 milliseconds', INTERVAL '14 months'"],
    );
    read_as(
        "SELECT JSON_VALUE(j, '$.a' RETURNING INT DEFAULT 0 ON EMPTY NULL ON ERROR), JSON_EXISTS(j, '$.b')",
        expect![
            "SELECT TRY_CAST(json_value(j, '$.a', 'DEFAULT', CAST(0 AS STRING), 'NULL', NULL) AS INT), json_exists(j, '$.b', 'FALSE')"
        ],
    );
    read_as(
        "SELECT JSON_QUERY(j, '$.a' WITH WRAPPER), JSON_OBJECT(KEY 'k' VALUE v ABSENT ON NULL), JSON_ARRAY(1, 2)",
        expect![
            "SELECT json_query(j, '$.a', 'UNCONDITIONAL', 'NULL', NULL, 'NULL', NULL), json_object('ABSENT', 'k', v), json_array('ABSENT', 1, 2)"
        ],
    );
}

#[test]
fn create_table_is_read_whole() {
    let Statement::CreateTable(table) = one("CREATE TEMPORARY TABLE IF NOT EXISTS db.flights (
           `year` INT NOT NULL COMMENT 'of departure',
           tags MAP<STRING, ARRAY<INT NOT NULL>>,
           ts AS TO_TIMESTAMP(`year` || '-01-01'),
           origin_file STRING METADATA FROM 'origin' VIRTUAL,
           `offset` BIGINT METADATA,
           WATERMARK FOR ts AS ts - INTERVAL '5' SECOND,
           CONSTRAINT pk PRIMARY KEY (`year`) NOT ENFORCED
         ) COMMENT 'all' PARTITIONED BY (`year`) WITH ('connector' = 'file', 'path' = 'a''b')")
    else {
        panic!("a table")
    };
    assert!(table.temporary && table.if_not_exists && !table.or_replace);
    assert_eq!(table.name.to_string(), "db.flights");
    let kinds: Vec<String> = table
        .columns
        .iter()
        .map(|column| match &column.kind {
            ColumnKind::Physical { data_type, nullable } => format!("{} {data_type} {nullable}", column.name.value),
            ColumnKind::Computed { expr } => format!("{} AS {expr}", column.name.value),
            ColumnKind::Metadata { data_type, from, is_virtual } => {
                format!("{} {data_type} {from:?} {is_virtual}", column.name.value)
            }
        })
        .collect();
    expect![[r#"
        year INT false
        tags Map(STRING, ARRAY<INT>) true
        ts AS TO_TIMESTAMP(`year` || '-01-01')
        origin_file STRING Some("origin") true
        offset BIGINT None false"#]]
    .assert_eq(&kinds.join("\n"));
    let watermark = table.watermark.expect("a watermark");
    assert_eq!((watermark.column.value.as_str(), watermark.place), ("ts", Place::Sql { line: 7, column: 12 }));
    assert_eq!(table.primary_key[0].value, "year");
    assert_eq!(table.partitioned_by[0].value, "year");
    assert_eq!(table.options[1].value, "a'b");
    assert_eq!(table.options[0].place, Place::Sql { line: 9, column: 56 });
}

#[test]
fn other_statements() {
    assert!(matches!(one("SET 'a.b' = '10 s'"), Statement::Set(Some((k, v))) if k == "a.b" && v == "10 s"));
    assert!(matches!(one("SET a.b-c = 10 s;"), Statement::Set(Some((k, v))) if k == "a.b-c" && v == "10 s"));
    assert!(matches!(one("SET"), Statement::Set(None)));
    assert!(matches!(one("RESET 'a'"), Statement::Reset(Some(_))));
    assert!(matches!(one("SHOW TABLES"), Statement::ShowTables));
    assert!(matches!(one("DESCRIBE t"), Statement::Describe(_)));
    assert!(matches!(one("DROP TEMPORARY VIEW IF EXISTS v"), Statement::DropView(d) if d.if_exists && d.temporary));
    assert!(matches!(one("EXPLAIN PLAN FOR SELECT 1"), Statement::Explain(_)));
    assert!(
        matches!(one("EXPLAIN JSON_EXECUTION_PLAN INSERT INTO t SELECT 1"), Statement::Explain(e) if e.details.len() == 1)
    );
    let set = "EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT 1; INSERT INTO b SELECT 2; END;";
    assert!(matches!(one(set), Statement::StatementSet(inserts) if inserts.len() == 2));
    let set = "BEGIN STATEMENT SET; INSERT INTO a SELECT 1; END;";
    assert!(matches!(one(set), Statement::StatementSet(inserts) if inserts.len() == 1));
    let Statement::Insert(insert) = one("INSERT OVERWRITE t PARTITION (d = 'x') (a, b) SELECT 1, 2") else {
        panic!("insert")
    };
    assert!(insert.overwrite && insert.partition.len() == 1 && insert.columns.len() == 2);
    assert!(matches!(one("INSERT INTO t (SELECT 1)"), Statement::Insert(i) if i.columns.is_empty()));
    assert!(matches!(one("INSERT INTO t VALUES (1, 'a')"), Statement::Insert(_)));
    let Statement::CreateView(view) = one("CREATE TEMPORARY VIEW v (a, b) AS SELECT 1,  2 -- two") else {
        panic!("view")
    };
    assert_eq!((view.columns.len(), view.text.lines().next()), (2, Some("SELECT 1,  2 -- two")));
    let Statement::CreateTable(table) = one("CREATE TABLE a LIKE b (EXCLUDING ALL INCLUDING WATERMARKS)") else {
        panic!("table")
    };
    let like = table.like.expect("like");
    assert_eq!(like.of(LikeFeature::Options), LikeMode::Excluding);
    assert_eq!(like.of(LikeFeature::Watermarks), LikeMode::Including);
}

fn window_of(from: &str) -> Result<WindowCall> {
    let Statement::Query(query) = one(&format!("SELECT * FROM {from}")) else { panic!("a query") };
    let ast::SetExpr::Select(select) = query.body.as_ref() else { panic!("a select") };
    window_factor(&select.from[0].relation).map(|found| found.unwrap_or_else(|| panic!("no window: {from}")).0)
}

#[test]
fn window_calls() {
    let shown = |from: &str| match window_of(from) {
        Ok(call) => format!(
            "{} {:?} {} {:?} {:?} {}",
            call.kind.name(),
            match &call.input {
                WindowInput::Table(name) => name.to_string(),
                WindowInput::Query(query) => format!("({query})"),
            },
            call.time_column.value,
            call.partition_by.iter().map(|key| key.value.as_str()).collect::<Vec<_>>(),
            call.intervals_ms,
            call.offset_ms
        ),
        Err(error) => error.to_string(),
    };
    let cases = [
        "TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' SECOND))",
        "TABLE(TUMBLE(TABLE a.b.bid, DESCRIPTOR(`ts`), INTERVAL '1' DAY, INTERVAL '-2' HOUR)) AS w",
        "TABLE(HOP(DATA => TABLE bid, TIMECOL => DESCRIPTOR(ts), SLIDE => INTERVAL '5' MINUTES, SIZE => INTERVAL '10' MINUTES))",
        "TABLE(CUMULATE(TABLE bid, DESCRIPTOR(ts), INTERVAL '2' MINUTE, INTERVAL '10' MINUTE))",
        "TABLE(SESSION(TABLE bid PARTITION BY bidder, auction, DESCRIPTOR(ts), INTERVAL '1:30' MINUTE TO SECOND))",
        "TABLE(SESSION(DATA => TABLE bid PARTITION BY (bidder), TIMECOL => DESCRIPTOR(ts), GAP => INTERVAL '5' MINUTE))",
        "TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' SECOND) w",
        "TABLE(TUMBLE((SELECT * FROM x), DESCRIPTOR(ts), INTERVAL '10' SECOND))",
        "TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts)))",
        "TABLE(TUMBLE(TABLE bid, ts, INTERVAL '10' SECOND))",
        "TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '0' SECOND))",
        "TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' MONTH))",
        "TABLE(TUMBLE(TABLE bid PARTITION BY k, DESCRIPTOR(ts), INTERVAL '1' DAY))",
        "TABLE(HOP(TABLE bid, DESCRIPTOR(ts), INTERVAL '3' SECOND, INTERVAL '10' SECOND))",
        "TABLE(TUMBLE(DATA => TABLE bid, TIMECOL => DESCRIPTOR(ts), SISE => INTERVAL '10' SECOND))",
        "TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), 10))",
    ];
    expect![[r#"
        TUMBLE "bid" ts [] [10000] 0
        TUMBLE "a.b.bid" ts [] [86400000] -7200000
        HOP "bid" ts [] [300000, 600000] 0
        CUMULATE "bid" ts [] [120000, 600000] 0
        SESSION "bid" ts ["bidder", "auction"] [90000] 0
        SESSION "bid" ts ["bidder"] [300000] 0
        TUMBLE "bid" ts [] [10000] 0
        TUMBLE "(SELECT * FROM x)" ts [] [10000] 0
        [E0109] TUMBLE lacks its argument SIZE (line 1, column 21)
        [E0109] the second argument of TUMBLE must be DESCRIPTOR(column) (line 1, column 21)
        [E0109] the intervals of TUMBLE must be positive (line 1, column 21)
        [E0109] SIZE of TUMBLE must be an interval literal of days, hours, minutes or seconds (line 1, column 21)
        [E0109] TUMBLE takes no PARTITION BY; group by the key instead (line 1, column 21)
        [E0109] the size of HOP must be a multiple of its slide (line 1, column 21)
        [E0109] TUMBLE has no argument SISE; did you mean SIZE? (line 1, column 21)
        [E0109] SIZE of TUMBLE must be an interval literal of days, hours, minutes or seconds (line 1, column 21)"#]]
    .assert_eq(&cases.map(shown).join("\n"));
}

#[test]
fn syntax_errors_name_the_place() {
    fails("SELEC 1", expect!["[E0101] no statement begins with `SELEC` (line 1, column 1) | did you mean SELECT?"]);
    fails(
        "SELECT a b c FROM t",
        expect![
            "[E0101] unexpected `c` (line 1, column 12) | if this begins a new statement, end the one before with `;`; a name that is a keyword stands in `backticks`"
        ],
    );
    fails("SELECT 1 +\n  FROM t", expect!["[E0101] expected an expression, found `FROM` (line 2, column 3)"]);
    fails("SELECT * FROM (SELECT a, FROM t)", expect!["[E0101] unexpected `FROM` (line 1, column 26)"]);
    fails("SELECT * FROM (SELECT a FROM t WHERE x = = 1)", expect!["[E0101] unexpected `=` (line 1, column 42)"]);
    fails("SELECT 'abc", expect!["[E0101] a text in quotes is not closed (line 1, column 8)"]);
    fails("SELECT (1", expect!["[E0101] expected `)`, found the end of the text (line 1, column 10)"]);
    fails(
        "CREATE TABLE t (a INT b INT)",
        expect!["[E0101] expected `,` or `)` after a column, found `b` (line 1, column 23)"],
    );
    fails(
        "CREATE TABLE t (a)",
        expect!["[E0101] expected the type of the column, or AS and an expression, found `)` (line 1, column 18)"],
    );
    fails(
        "CREATE TABLE t (a INT) WITH (connector = 'x')",
        expect!["[E0101] expected the key of an option in single quotes, found `connector` (line 1, column 30)"],
    );
    fails(
        "CREATE TABLE t",
        expect![
            "[E0101] expected the columns in parentheses, or LIKE and a table, found the end of the text (line 1, column 15)"
        ],
    );
    fails(
        "INSERT t SELECT 1",
        expect!["[E0101] expected INTO or OVERWRITE after INSERT, found `t` (line 1, column 8)"],
    );
    fails(
        "SELECT INTERVAL 'x' SECOND",
        expect![
            "[E0101] `x` is no interval of this unit (line 1, column 17) | write INTERVAL '10' SECOND, INTERVAL '1:30' MINUTE TO SECOND or INTERVAL '1 02:03:04.5' DAY TO SECOND"
        ],
    );
    fails(
        "SELECT 1 SELECT 2",
        expect![
            "[E0101] unexpected `SELECT` (line 1, column 10) | if this begins a new statement, end the one before with `;`; a name that is a keyword stands in `backticks`"
        ],
    );
    fails(
        "SELECT MAP['a']",
        expect!["[E0101] MAP[…] takes pairs of a key and a value (line 1, column 11) | write MAP['a', 1, 'b', 2]"],
    );
    fails("\n\nSELECT ${X}", expect!["[E0113] `${X}` has no value (line 3, column 8) | give it with `--set X=value`"]);
}

#[test]
fn what_is_not_supported_is_refused() {
    fails(
        "SELECT * FROM t /*+ OPTIONS('a'='b') */",
        expect![
            "[E0102] a hint is taken behind SELECT only (line 1, column 17) | set table options in WITH (…) and job settings with SET; remove the /*+ … */"
        ],
    );
    fails(
        "SELECT /*+ STATE_TTLS('a'='1d') */ * FROM t",
        expect!["[E0102] the hint `STATE_TTLS` is not supported (line 1, column 8) | did you mean `STATE_TTL`?"],
    );
    fails(
        "SELECT /*+ STATE_TTL('a') */ * FROM a",
        expect![
            "[E0101] a hint that cannot be read (line 1, column 8) | write SELECT /*+ STATE_TTL('orders' = '1 d', 'payments' = '7 d') */ with the tables of its FROM"
        ],
    );
    fails(
        "SELECT /*+ STATE_TTL('a'='soon') */ * FROM a",
        expect![
            "[E0112] `soon` is no time to live of `a` (line 1, column 8) | write `10 s`, `5 min` or `1 d`; `0 s` keeps it"
        ],
    );
    fails(
        "SELECT /*+ STATE_TTL('a'='1d') */ * FROM t",
        expect![
            "[E0103] the hint STATE_TTL names `a`, which this SELECT does not read (line 1, column 1) | did you mean `t`?"
        ],
    );
    fails(
        "SELECT /*+ STATE_TTL('a'='1d', a='2d') */ * FROM a",
        expect!["[E0108] `a` has two times to live in the hints of one SELECT (line 1, column 1)"],
    );
    fails(
        "SELECT /*+ STATE_TTL(a='1d') */ * FROM s, a FOR SYSTEM_TIME AS OF s.p",
        expect![
            "[E0102] `a` has no state that STATE_TTL could shorten (line 1, column 1) | what joins, GROUP BY and row numbers keep of tables and subqueries has a time to live"
        ],
    );
    fails(
        "SELECT * FROM t MATCH_RECOGNIZE (PATTERN (a))",
        expect![
            "[E0102] MATCH_RECOGNIZE is not supported yet (line 1, column 17) | patterns over a few rows can often be written with SESSION windows or a self-join within a window"
        ],
    );
    fails(
        "CREATE TABLE t (a INT, PRIMARY KEY (a))",
        expect![
            "[E0102] a primary key is not checked and must say so (line 1, column 39) | write PRIMARY KEY (…) NOT ENFORCED"
        ],
    );
    fails(
        "CREATE TABLE t (a INT DEFAULT 1)",
        expect![
            "[E0102] constraints and defaults of columns are not supported (line 1, column 23) | filter or fill rows in the query; only NOT NULL and PRIMARY KEY … NOT ENFORCED are taken"
        ],
    );
    fails(
        "CREATE TABLE t WITH ('a' = 'b') AS SELECT 1",
        expect![
            "[E0102] CREATE TABLE … AS is not supported (line 1, column 33) | declare the table with its columns and INSERT INTO it"
        ],
    );
    fails(
        "CREATE TABLE t (a INT, A INT)",
        expect![
            "[E0108] column `A` stands twice (line 1, column 24) | names of columns differ in more than upper and lower case"
        ],
    );
    fails(
        "CREATE TABLE t (a INT) WITH ('x' = '1', 'x' = '2')",
        expect!["[E0108] option `x` is given twice (line 1, column 41)"],
    );
    fails(
        "ALTER TABLE t ADD x INT",
        expect![
            "[E0102] ALTER statements are not supported (line 1, column 1) | change the CREATE TABLE statement and start the job anew"
        ],
    );
    fails(
        "SELECT CAST(a AS MULTISET<INT>) FROM t",
        expect!["[E0102] type MULTISET is not supported (line 1, column 18) | use ARRAY<T> or MAP<T, INT>"],
    );
    fails("EXECUTE STATEMENT SET BEGIN END", expect!["[E0111] the statement set holds no INSERT (line 1, column 1)"]);
}

#[test]
fn limits_hold_before_the_parser_runs() {
    let code = |text: &str| parse(text).err().map(|error| error.code());
    let limit = Some(Code::SqlLimit);
    assert_eq!(code(&format!("SELECT {}", vec!["1"; 2_000].join(" + "))), limit);
    assert_eq!(code(&format!("SELECT 1 WHERE {}", vec!["a = 1"; 2_000].join(" OR "))), limit);
    assert_eq!(code(&format!("SELECT {}1{}", "(".repeat(65), ")".repeat(65))), limit);
    assert_eq!(code(&format!("SELECT {}1{}", "(".repeat(50_000), ")".repeat(50_000))), limit);
    assert_eq!(code(&format!("SELECT {}1", "- ".repeat(1_000))), limit);
    assert_eq!(code(&format!("SELECT {}1", "NOT ".repeat(1_000))), limit);
    assert_eq!(code(&format!("SELECT {}1", "INTERVAL ".repeat(1_000))), limit);
    assert_eq!(code(&format!("SELECT {} END", "CASE WHEN 1 THEN ".repeat(1_000))), limit);
    assert_eq!(code(&format!("SELECT CAST(1 AS {}INT)", "ARRAY<".repeat(1_000))), limit);
    assert_eq!(code(&format!("SELECT * FROM a {}", "JOIN b ON x = y ".repeat(65))), limit);
    assert_eq!(code(&format!("SELECT {} FROM t", vec!["a"; 1_001].join(", "))), limit);
    assert_eq!(code(&vec!["SELECT 1"; 502].join(" UNION ALL ")), limit);
    assert_eq!(code(&" ".repeat(limits::SQL_TEXT_BYTES_MAX + 1)), limit);
    let columns: Vec<String> = (0..1_001).map(|i| format!("c{i} INT")).collect();
    assert_eq!(code(&format!("CREATE TABLE t ({})", columns.join(", "))), limit);
}

#[test]
fn what_is_within_the_limits_is_taken() {
    let taken = |text: &str| parse(text).map(|_| ()).unwrap_or_else(|error| panic!("{error}"));
    taken(&format!("SELECT {}", vec!["1"; 450].join(" + ")));
    taken(&format!("SELECT 1 WHERE {}", vec!["(a = 1 AND b = 2)"; 400].join(" OR ")));
    taken(&format!("SELECT {}1{}", "(".repeat(60), ")".repeat(60)));
    taken(&format!("SELECT {}1{}", "f(".repeat(60), ")".repeat(60)));
    taken(&format!("SELECT * FROM {}t{}", "(SELECT * FROM ".repeat(30), ")".repeat(30)));
    taken(&format!("SELECT a IN ({}) FROM t", vec!["1"; 5_000].join(", ")));
    taken(&format!("VALUES {}", vec!["(1, 2)"; 5_000].join(", ")));
    let columns: Vec<String> = (0..900).map(|i| format!("c{i} ARRAY<MAP<STRING, ROW<a INT>>>")).collect();
    taken(&format!("CREATE TABLE t ({})", columns.join(", ")));
}

/// Words that make up most scripts, in any order.
fn soup() -> impl Strategy<Value = String> {
    let words = [
        "SELECT",
        "FROM",
        "WHERE",
        "t",
        "a",
        "1",
        "'x'",
        ",",
        "(",
        ")",
        "+",
        "-",
        "*",
        "=",
        "<",
        ">",
        ">>",
        "AND",
        "OR",
        "NOT",
        "CASE",
        "WHEN",
        "THEN",
        "END",
        "CAST",
        "AS",
        "INT",
        "ARRAY",
        "<",
        "ROW",
        "MAP",
        "[",
        "]",
        "INTERVAL",
        "SECOND",
        "TO",
        "TABLE",
        "TUMBLE",
        "DESCRIPTOR",
        "CREATE",
        "VIEW",
        "INSERT",
        "INTO",
        "VALUES",
        "JOIN",
        "ON",
        "LATERAL",
        "UNNEST",
        "WITH",
        "PRIMARY",
        "KEY",
        "WATERMARK",
        "FOR",
        "METADATA",
        "LIKE",
        ";",
        "SET",
        "BEGIN",
        "STATEMENT",
        "EXECUTE",
        "EXPLAIN",
        "UNION",
        "ALL",
        "OVER",
        "PARTITION",
        "BY",
        "ORDER",
        "FILTER",
        "IS",
        "NULL",
        "EXISTS",
        "EXTRACT",
        "CEIL",
        "JSON_VALUE",
        "RETURNING",
        "EMPTY",
        "ERROR",
        "::",
        ".",
        "`q`",
        "\"q\"",
        "/*",
        "*/",
        "--",
        "\n",
        "${A}",
        "TIMESTAMP",
        "LOCAL",
        "ZONE",
        "BETWEEN",
        "IN",
        "=>",
        "TIMESTAMPDIFF",
        "DATE",
        "POSITION",
    ];
    proptest::collection::vec(proptest::sample::select(words.to_vec()), 0..60).prop_map(|words| words.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn token_soup_never_panics(text in soup()) {
        no_panic(&text)?;
    }

    #[test]
    fn any_text_never_panics(text in "\\PC{0,120}") {
        no_panic(&text)?;
    }
}

/// E0503 is what a contained panic would become; every other error must know its place.
fn no_panic(text: &str) -> Result<(), TestCaseError> {
    let variables = BTreeMap::from([("A".to_owned(), "it's\n(".to_owned())]);
    if let Err(error) = parse_script(text, &variables) {
        prop_assert_ne!(error.code(), Code::Internal, "{}", error);
        prop_assert!(error.place().is_some(), "{} has no place", error);
        if let Some(Place::Sql { line, column }) = error.place() {
            prop_assert!(*line >= 1 && *column >= 1);
        }
    }
    Ok(())
}

#[test]
fn group_windows_become_window_tables() {
    let rewritten = |text: &str| match one(text) {
        Statement::Query(query) => query.to_string(),
        other => panic!("{other:?}"),
    };
    expect!["SELECT x.k, COUNT(*), window_end FROM TABLE(TUMBLE((SELECT * FROM t x WHERE x.v > 1), DESCRIPTOR(ts), INTERVAL '86400000 milliseconds')) x GROUP BY x.k, window_start, window_end HAVING COUNT(*) > 1"]
        .assert_eq(&rewritten("SELECT x.k, COUNT(*), TUMBLE_END(x.ts, INTERVAL '1' DAY) FROM t x WHERE x.v > 1 GROUP BY x.k, TUMBLE(x.ts, INTERVAL '1' DAY) HAVING COUNT(*) > 1"));
    expect!["SELECT `session_key_0` + 1, window_time FROM TABLE(SESSION(TABLE((SELECT *, k % 2 AS `session_key_0` FROM d.t), `session_key_0`), DESCRIPTOR(ts), INTERVAL '86400000 milliseconds')) AS t GROUP BY `session_key_0`, window_start, window_end, window_time"]
        .assert_eq(&rewritten("SELECT k % 2 + 1, SESSION_ROWTIME(ts, INTERVAL '1' DAY) FROM d.t GROUP BY k % 2, SESSION(t.ts, INTERVAL '1' DAY)"));
}

#[test]
fn group_windows_that_are_wrong_are_refused() {
    fails(
        "SELECT COUNT(*) FROM a, b GROUP BY TUMBLE(ts, INTERVAL '1' DAY)",
        expect![
            "[E0102] TUMBLE in GROUP BY over several tables is not supported (line 1, column 36) | join them in a view or a subquery, and group its rows"
        ],
    );
    fails(
        "SELECT COUNT(*) FROM a GROUP BY TUMBLE(ts, INTERVAL '1' DAY), SESSION(ts, INTERVAL '1' DAY)",
        expect!["[E0109] a GROUP BY has one window (line 1, column 63) | group twice, or write two queries"],
    );
    fails(
        "SELECT TUMBLE_END(ts, INTERVAL '2' DAY) FROM a GROUP BY TUMBLE(ts, INTERVAL '1' DAY)",
        expect![
            "[E0109] TUMBLE_END is of another window than the one in GROUP BY (line 1, column 8) | write the arguments that stand there"
        ],
    );
    fails(
        "SELECT COUNT(*) FROM a GROUP BY TUMBLE()",
        expect!["[E0109] TUMBLE lacks its arguments (line 1, column 33) | write TUMBLE(ts, INTERVAL '10' SECOND)"],
    );
    fails(
        "SELECT COUNT(*) FROM a GROUP BY TUMBLE(b + c, INTERVAL '1' DAY)",
        expect![
            "[E0109] the first argument of TUMBLE is a column that is a time attribute (line 1, column 33) | compute the column in the table or in a view"
        ],
    );
    fails(
        "SELECT COUNT(*) FROM a GROUP BY 1, SESSION(ts, INTERVAL '1' DAY)",
        expect![
            "[E0102] a position in GROUP BY beside SESSION is not supported (line 1, column 36) | write the expression itself"
        ],
    );
}

#[test]
fn options_of_old_have_the_names_of_now() {
    let Statement::CreateTable(table) = one(
        "CREATE TABLE t (a INT) WITH ('connector.type' = 'filesystem', 'connector.path' = 'p', 'format.type' = 'csv', 'update-mode' = 'append', 'format.fields.0' = 'x')",
    ) else {
        panic!("it is a table");
    };
    let options: Vec<String> = table.options.iter().map(|option| format!("{}={}", option.key, option.value)).collect();
    assert_eq!(options, ["connector=filesystem", "path=p", "format=csv", "format.fields.0=x"]);
}
