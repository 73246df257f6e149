#!/usr/bin/env python3
"""Answers the queries with DuckDB, in one go over all events, and writes what they come to as golden.json.

    python3 benchmarks/nexmark/oracle.py [--qanat target/debug/qanat]      needs `pip install duckdb`

Qanat makes the events (`dump.sql`); the queries are written anew here, in another dialect and another way, so that what
both agree on is not one mistake. A query's answer is the number of its rows and the SHA-256 of these rows, sorted: cells
as the CSV sink writes them, `\\N` for NULL, a unit separator between cells and a line feed behind each row. Of q9, q18
and q19 only the columns are compared that no tie decides, of q12 the bids of each bidder over all windows of the clock.
`tests/it/nexmark.rs` holds Qanat against it.
"""

import argparse
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
SOURCE = "'connector' = 'nexmark', 'events.num' = '100000', 'first-event.rate' = '1000', 'seed' = '1'"

TIME = "strftime({}, '%Y-%m-%d %H:%M:%S.%g')"
# 0.908 of a price, with three digits.
DOLLARS = "printf('%d.%03d', price * 908 // 1000, price * 908 % 1000)"
# Of an integer AVG the fraction is cut off.
MEAN = "sum({0}) // count({0})"
# A bid counts for its auction while that is open.
VALID = "bid b JOIN auction a ON a.id = b.auction AND b.dateTime >= a.dateTime AND b.dateTime <= a.expires"
WINNING = f"""SELECT a.*, b.price, b.dateTime AS bid_time FROM {VALID}
  QUALIFY row_number() OVER (PARTITION BY a.id ORDER BY b.price DESC, b.dateTime) = 1"""
RANKS = ["true", "price < 10000", "price >= 10000 AND price < 1000000", "price >= 1000000"]
DAY = "strftime(dateTime, '%Y-%m-%d')"


def ranks(what):
    return ", ".join(what.format(rank) for rank in RANKS)


COUNTS = ranks("count(*) FILTER ({})")
DISTINCT = ranks("count(DISTINCT CASE WHEN {} THEN bidder END)") + ", " + ranks(
    "count(DISTINCT CASE WHEN {} THEN auction END)"
)
CHANNEL = r"'(&|^)channel_id=([^&]*)'"
BID = "auction, bidder, price"

QUERIES = {
    "q0": f"SELECT {BID}, {TIME.format('dateTime')}, extra FROM bid",
    "q1": f"SELECT auction, bidder, {DOLLARS}, {TIME.format('dateTime')}, extra FROM bid",
    "q2": "SELECT auction, price FROM bid WHERE auction % 123 = 0",
    "q3": """SELECT p.name, p.city, p.state, a.id FROM auction a, person p
        WHERE a.seller = p.id AND a.category = 10 AND p.state IN ('OR', 'ID', 'CA')""",
    "q4": f"""SELECT category, {MEAN.format('best')}
        FROM (SELECT a.id, a.category, max(b.price) AS best FROM {VALID} GROUP BY ALL) GROUP BY category""",
    "q5": """WITH counted AS (
          SELECT auction, begins, count(*) AS n
          FROM (SELECT auction, time_bucket(INTERVAL 2 SECOND, dateTime) - INTERVAL 2 SECOND * step AS begins
                FROM bid, range(5) AS steps(step))
          GROUP BY ALL)
        SELECT auction, n FROM counted QUALIFY n = max(n) OVER (PARTITION BY begins)""",
    "q6": f"""SELECT seller, {MEAN.format('price')}
        FROM (SELECT * FROM ({WINNING}) QUALIFY row_number() OVER (PARTITION BY seller ORDER BY expires DESC, id DESC) <= 10)
        GROUP BY seller""",
    "q7": f"""WITH best AS (
          SELECT time_bucket(INTERVAL 10 SECOND, dateTime) AS begins, max(price) AS most FROM bid GROUP BY ALL)
        SELECT {BID}, {TIME.format('dateTime')}, extra FROM bid, best
        WHERE price = most AND dateTime >= begins AND dateTime <= begins + INTERVAL 10 SECOND""",
    "q8": f"""SELECT DISTINCT p.id, p.name, {TIME.format('time_bucket(INTERVAL 10 SECOND, p.dateTime)')}
        FROM person p, auction a
        WHERE p.id = a.seller
          AND time_bucket(INTERVAL 10 SECOND, p.dateTime) = time_bucket(INTERVAL 10 SECOND, a.dateTime)""",
    "q9": f"""SELECT id, itemName, description, initialBid, reserve, {TIME.format('dateTime')}, {TIME.format('expires')},
        seller, category, extra, id, price, {TIME.format('bid_time')} FROM ({WINNING})""",
    "q10": f"""SELECT {BID}, {TIME.format('dateTime')}, extra, {DAY}, strftime(dateTime, '%H:%M') FROM bid""",
    # By time first: bids of one bidder and millisecond have no order that two windows would share.
    "q11": f"""WITH times AS (SELECT bidder, dateTime, count(*) AS bids FROM bid GROUP BY ALL),
        marked AS (
          SELECT *, CASE WHEN dateTime - lag(dateTime) OVER of_bidder <= INTERVAL 10 SECOND THEN 0 ELSE 1 END AS new
          FROM times WINDOW of_bidder AS (PARTITION BY bidder ORDER BY dateTime)),
        numbered AS (
          SELECT *, sum(new) OVER (PARTITION BY bidder ORDER BY dateTime ROWS UNBOUNDED PRECEDING) AS session FROM marked)
        SELECT bidder, sum(bids), {TIME.format('min(dateTime)')}, {TIME.format('max(dateTime) + INTERVAL 10 SECOND')}
        FROM numbered GROUP BY bidder, session""",
    "q12": "SELECT bidder, count(*) FROM bid GROUP BY bidder",
    "q13": f"""SELECT {BID}, {TIME.format('dateTime')}, value FROM bid, side_input WHERE auction % 10000 = key""",
    "q14": f"""SELECT auction, bidder, {DOLLARS},
          CASE WHEN hour(dateTime) BETWEEN 8 AND 18 THEN 'dayTime'
               WHEN hour(dateTime) BETWEEN 7 AND 19 THEN 'otherTime' ELSE 'nightTime' END,
          {TIME.format('dateTime')}, extra, length(extra) - length(replace(extra, 'c', ''))
        FROM bid WHERE price * 908 > 1000000000 AND price * 908 < 50000000000""",
    "q15": f"SELECT {DAY}, {COUNTS}, {DISTINCT} FROM bid GROUP BY {DAY}",
    "q16": f"""SELECT channel, {DAY}, max(strftime(dateTime, '%H:%M')), {COUNTS}, {DISTINCT}
        FROM bid GROUP BY channel, {DAY}""",
    "q17": f"""SELECT auction, {DAY}, {COUNTS}, min(price), max(price), {MEAN.format('price')}, sum(price)
        FROM bid GROUP BY auction, {DAY}""",
    "q18": f"SELECT auction, bidder, {TIME.format('max(dateTime)')} FROM bid GROUP BY auction, bidder",
    "q19": """SELECT auction, price, place
        FROM (SELECT auction, price, row_number() OVER (PARTITION BY auction ORDER BY price DESC) AS place FROM bid)
        WHERE place <= 10""",
    "q20": f"""SELECT b.auction, b.bidder, b.price, b.channel, b.url, {TIME.format('b.dateTime')}, b.extra, a.itemName,
          a.description, a.initialBid, a.reserve, {TIME.format('a.dateTime')}, {TIME.format('a.expires')}, a.seller,
          a.category, a.extra
        FROM bid b, auction a WHERE b.auction = a.id AND a.category = 10""",
    "q21": f"""SELECT {BID}, channel, coalesce(
            CAST(list_position(['apple', 'google', 'facebook', 'baidu'], lower(channel)) - 1 AS VARCHAR),
            regexp_extract(url, {CHANNEL}, 2))
        FROM bid
        WHERE list_contains(['apple', 'google', 'facebook', 'baidu'], lower(channel)) OR regexp_matches(url, {CHANNEL})""",
    "q22": f"SELECT {BID}, channel, split_part(url, '/', 4), split_part(url, '/', 5), split_part(url, '/', 6) FROM bid",
}


def events(qanat, folder):
    """Three Parquet tables, and the side input of q13."""
    script = folder / "dump.sql"
    script.write_text((HERE / "tables.sql").read_text() + (HERE / "dump.sql").read_text())
    words = [qanat, "run", script, "--data", folder / "data", "--set", f"SOURCE={SOURCE}", "--set", f"DIR={folder}"]
    subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL)
    (folder / "side_input.txt").write_text("".join(f"{key},value {key}\n" for key in range(10_000)))


def over_json(events, folder):
    """A database over events that stand in a folder as JSON lines, and the side input of q13 in another."""
    try:
        import duckdb
    except ImportError:
        sys.exit("answers are compared with those of DuckDB: `pip install duckdb`, or leave them unread with --unchecked")

    kinds = {
        "person": "id BIGINT, name VARCHAR, emailAddress VARCHAR, creditCard VARCHAR, city VARCHAR, state VARCHAR, "
                  "dateTime TIMESTAMP, extra VARCHAR",
        "auction": "id BIGINT, itemName VARCHAR, description VARCHAR, initialBid BIGINT, reserve BIGINT, "
                   "dateTime TIMESTAMP, expires TIMESTAMP, seller BIGINT, category BIGINT, extra VARCHAR",
        "bid": "auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR, dateTime TIMESTAMP, extra VARCHAR",
    }
    columns = ", ".join(f"{kind}: 'STRUCT({fields})'" for kind, fields in kinds.items())
    database = duckdb.connect()
    database.execute(f"CREATE TABLE events AS FROM read_json('{events}/*.json', format = 'newline_delimited', "
                     f"columns = {{event_type: 'INTEGER', {columns}}})")
    for number, kind in enumerate(kinds):
        database.execute(f"CREATE TABLE {kind} AS SELECT unnest({kind}) FROM events WHERE event_type = {number}")
    database.execute("DROP TABLE events")
    side_input(database, folder)
    return database


def side_input(database, folder):
    database.execute(f"CREATE VIEW side_input AS SELECT * FROM read_csv('{folder}/side_input.txt', "
                     "header = false, columns = {'key': 'BIGINT', 'value': 'VARCHAR'})")


def digest(rows):
    lines = sorted("\x1f".join("\\N" if cell is None else str(cell) for cell in row).encode() for row in rows)
    return {"rows": len(lines), "sha256": hashlib.sha256(b"".join(line + b"\n" for line in lines)).hexdigest()}


def main():
    import duckdb

    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--qanat", default=TOP / "target/debug/qanat")
    of = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        events(of.qanat, folder)
        database = duckdb.connect()
        for table in ("person", "auction", "bid"):
            database.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet('{folder}/{table}/*.parquet')")
        side_input(database, folder)
        answers = {name: digest(database.execute(query).fetchall()) for name, query in QUERIES.items()}
    golden = {"source": SOURCE, "answers": answers}
    (HERE / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")
    for name, answer in answers.items():
        print(name, answer["rows"], answer["sha256"][:16])


if __name__ == "__main__":
    sys.exit(main())
