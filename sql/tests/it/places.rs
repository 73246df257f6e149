//! Errors that DataFusion gives without a place stand at the expression that they are about.

use expect_test::{Expect, expect};

use crate::catalog::refusal;

fn check(sql: &str, wanted: Expect) {
    wanted.assert_eq(&refusal(sql));
}

#[test]
fn of_the_innermost_call() {
    check(
        "SELECT id,\n  COALESCE('a',\n    INSTR('a', 'b', 1, 2)) FROM events",
        expect![[r#"
        E0105 INSTR does not take 4 arguments: INSTR(text, text) at 4:5
    "#]],
    );
    check(
        "SELECT id, id + 1,\n  UPPER() FROM events",
        expect![[r#"
        E0105 `UPPER` does not take this number of arguments at 3:3
    "#]],
    );
    check(
        "SELECT id,\n  CAST('abc' AS INT) FROM events",
        expect![[r#"
        E0106 cannot cast string 'abc' to value of INT type at 3:8
    "#]],
    );
    check(
        "SELECT id FROM events\nWHERE id > 3 AND props = TRUE",
        expect![[r#"
        E0106 these types cannot be compared: MAP<STRING, STRING> = BOOLEAN at 3:18
        hint: cast one side to the type of the other
    "#]],
    );
    check(
        "SELECT id FROM events\nWHERE COUNT(*) > 1",
        expect![[r#"
        E0106 an aggregate function cannot stand in WHERE at 3:7
        hint: filter groups with HAVING, or the rows of one aggregate with FILTER (WHERE …)
    "#]],
    );
    check(
        "SELECT id,\n  tags.x FROM events",
        expect![[r#"
            E0106 a value of type ARRAY<STRING> has no fields at 3:3
            hint: a ROW has fields, a MAP has keys; the elements of an ARRAY are `a[1]`, `a[2]`, …
        "#]],
    );
    check(
        "SELECT id,\n  CASE WHEN id THEN 1 END FROM events",
        expect![[r#"
        E0106 the condition of a CASE is BIGINT, not BOOLEAN at 3:3
        hint: compare it with something
    "#]],
    );
    check(
        "SELECT id,\n  props[1] FROM events",
        expect![[r#"
        E0106 the key of this map is STRING, not INT at 3:3
        hint: CAST it AS STRING
    "#]],
    );
    check(
        "SELECT id, tags && tags FROM events",
        expect![[r#"
        E0102 this operator is not supported at 2:12
        hint: write it with a function
    "#]],
    );
}

#[test]
fn among_many_columns() {
    let columns: Vec<String> = (0..400).map(|n| format!("id + {n} AS c{n}")).collect();
    let sql = format!(
        "SELECT {},\n  UPPER(name, name), {} FROM person",
        columns[..150].join(", "),
        columns[150..].join(", ")
    );
    check(
        &sql,
        expect![[r#"
        E0105 `UPPER` takes 1 and not 2 arguments at 3:3
    "#]],
    );
}

#[test]
fn of_aggregates_and_groups() {
    let from = "FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' HOUR))";
    let window = "GROUP BY window_start, window_end";
    check(
        &format!("SELECT window_start,\n  SUM(url) {from} {window}"),
        expect![[r#"
        E0105 `SUM` takes no arguments of these types at 3:3
        hint: cast them to the types that it takes
    "#]],
    );
    check(
        &format!("SELECT window_start, auction, COUNT(*) {from}\n{window}"),
        expect![[r#"
        E0101 `bid.auction` is neither in GROUP BY nor inside an aggregate function at 2:22
        hint: group by it too, or take MIN, MAX or FIRST_VALUE of it
    "#]],
    );
    check(
        &format!("SELECT window_start,\n  PERCENTILE(price, 1.5) {from} {window}"),
        expect![[r#"
        E0106 the second argument of a percentile must be a number between 0 and 1 at 3:3
        hint: for several percentiles call the function several times
    "#]],
    );
    check(
        &format!("SELECT window_start, COUNT(*) {from} {window}\nHAVING MAX(url) + 1 > INTERVAL '1' DAY"),
        expect![[r#"
            E0106 cannot coerce arithmetic expression STRING + INT to valid types at 3:8
        "#]],
    );
}

#[test]
fn of_a_view_and_a_column_that_is_inserted() {
    check(
        "CREATE VIEW v AS SELECT id,\n  UPPER(name, 'x') AS u FROM person;\nSELECT * FROM v",
        expect![[r#"
        E0105 `UPPER` takes 1 and not 2 arguments at 3:3
    "#]],
    );
    check(
        "CREATE TABLE o (a BIGINT, b INT) WITH ('connector' = 'blackhole');\nINSERT INTO o\nSELECT id,\n  name || 'x' FROM person",
        expect![[r#"
            E0114 column `b` of table `o` is INT, and the query gives `("name" || 'x')` of type STRING at 5:3
            hint: cast it: `CAST(("name" || 'x') AS INT)`
        "#]],
    );
}

#[test]
fn with_two_mistakes_one_is_named() {
    check(
        "SELECT UPPER(name, name),\n  LOWER() FROM person",
        expect![[r#"
        E0105 `UPPER` takes 1 and not 2 arguments at 2:8
    "#]],
    );
}

#[test]
fn what_other_dialects_have() {
    check(
        "SELECT u FROM person, LATERAL TABLE(SPLIT(name, ',')) AS x (u)",
        expect![[r#"
        E0102 LATERAL TABLE(…) is not supported: table functions cannot be declared at 2:31
        hint: `CROSS JOIN UNNEST(SPLIT(s, ',')) AS x (part)` makes rows of an array
    "#]],
    );
    check(
        "SELECT x FROM (SELECT id AS x, name AS x FROM person)",
        expect![[r#"
        E0108 two columns of this SELECT have the same name at 2:1
        hint: give one of them another name with AS
    "#]],
    );
}
