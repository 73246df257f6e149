#!/usr/bin/env python3
"""Runs the queries over the same JSON lines, exactly once with an epoch a second, and prints what each takes.

    cargo build --release
    python3 benchmarks/nexmark/bench.py                              all queries; --queries q4,q18 for some
    python3 benchmarks/nexmark/bench.py --flink FOLDER               Flink beside it, in turn, in the same run

A line of JSON for each query: events per second, events per second of the processors (user and system) and the peak of the
memory. Each query is a process of its own, which reads two files that Qanat itself has written before (`nexmark` connector)
and drops its rows (`blackhole`); q10 writes its own files.

Answers: each query runs once more into files, and what these come to is compared with DuckDB's answer over the same events
(`oracle.py`; `pip install duckdb`). A query whose answer is another one has no figures. --unchecked leaves it out.

Flink: FOLDER holds `lib/` and `conf/` of Flink 2.3, which needs Java 17:

    pip download --no-deps -d wheels apache-flink==2.3.0 apache-flink-libraries==2.3.0
    for wheel in wheels/*.whl; do unzip -q -o $wheel -d flink; done                      FOLDER is flink/pyflink

It gets the same texts, in a process for each query, with state in a hash map, mini-batches, object reuse, exactly once with a
checkpoint a second; the first run only warms it up. Its start and its first compiling count for nothing, Qanat's do. Its answers
are not compared.

Limit: `cargo build --release -p qanat-benchmarks --bin limit`; loops written by hand over the decoded columns, one core, for some
queries. `ceiling` is what one core can do that decodes with the arrow crate's reader before.
"""

import argparse
import json
import math
import os
import pathlib
import re
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import oracle

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
COLUMNS = "event_type, person, auction, bid"
# Columns that no tie decides, by the place they have in the query's answer (see `oracle.py`).
COMPARED = {"q9": [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13], "q18": [0, 1, 5], "q19": [0, 2, 7]}


class Failed(Exception):
    pass


def script(folder, name, text, variables):
    for key, value in variables.items():
        text = text.replace("${" + key + "}", str(value))
    path = folder / f"{name}.sql"
    path.write_text(text)
    return path


def text_of(query):
    return (HERE / "tables.sql").read_text() + (HERE / f"queries/{query}.sql").read_text()


def watched(pid):
    """Waits for the end of a process; the peak of its memory, MiB. (What `wait4` tells is at least the memory of this process.)"""
    ended, peak = os.pidfd_open(pid), 0
    while not select.select([ended], [], [], 0.02)[0]:
        told = re.search(r"^VmHWM:\s*(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M)
        peak = int(told.group(1)) // 1024 if told else peak
    os.close(ended)
    return peak


def qanat(of, path):
    """What one run of a script takes."""
    data = of.folder / "data"
    shutil.rmtree(data, ignore_errors=True)
    words = [of.qanat, "run", "-o", "json", path, "--data", data, "--parallelism", of.parallelism]
    words += ["--set", "execution.checkpointing.interval=1 s"]
    with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as errors:
        begun = time.monotonic()
        process = subprocess.Popen([str(word) for word in words], stdout=told, stderr=errors)
        peak = watched(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        told.seek(0), errors.seek(0)
        if process.returncode:
            raise Failed(f"{path}: {errors.read().decode()}")
        return {
            "seconds": seconds,
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
            "peak_mib": peak,
            "epochs": json.loads(told.read()).get("epochs"),
        }


class Flink:
    """A process of Flink, for one query."""

    def __init__(self, of):
        home = pathlib.Path(of.flink)
        classes = of.folder / "classes"
        if not classes.exists():
            sources = [HERE / "flink/Runner.java", HERE / "flink/com/github/nexmark/flink/udf/CountChar.java"]
            subprocess.run(["javac", "-nowarn", "-cp", f"{home}/lib/*", "-d", classes, *sources], check=True)
        opens = re.search(r"^ *all: (.*)$", (home / "conf/config.yaml").read_text(), re.M).group(1).split()
        words = ["java", f"-Xmx{of.flink_memory}", *opens, "-cp", f"{classes}:{home}/lib/*", "Runner"]
        words += [str(of.parallelism), str(of.folder / "checkpoints")]
        self.errors = open(of.folder / "flink.log", "w")
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True)

    def run(self, path):
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("{"):
                told = json.loads(line)
                if "failed" in told:
                    raise Failed(told["failed"])
                return told
        raise Failed("the process has ended")

    def close(self):
        self.process.kill()
        self.process.wait()
        self.errors.close()


def limits(of, queries):
    """Events per second of one core: of decoding, and of the loops of those queries that have one."""
    binary = of.qanat.parent / "limit"
    if not binary.exists():
        return {}
    known = re.search(r"QUERIES: .*?= \[(.*?)\]", (TOP / "benchmarks/src/limit/mod.rs").read_text()).group(1)
    names = [name for name in re.findall(r"q\d+", known) if name in queries]
    if not names:
        return {}
    told = subprocess.run([binary, of.read, ",".join(names)], check=True, capture_output=True, text=True)
    return {line["query"]: line for line in map(json.loads, told.stdout.splitlines())}


def write_events(of):
    """The events as JSON lines, all kinds in one table, in time order: a file for each of two readers."""
    tables = (HERE / "tables.sql").read_text()
    declared = re.search(r"CREATE TABLE events \((.*?)\n  `dateTime` AS", tables, re.S).group(1).rstrip().rstrip(",")
    parts = of.folder / "parts"
    text = tables + f"""
CREATE TABLE files ({declared}) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = '{parts}');
INSERT INTO files SELECT {COLUMNS} FROM events;
"""
    source = f"'connector' = 'nexmark', 'events.num' = '{of.events}', 'first-event.rate' = '100000', 'seed' = '1'"
    whole = of.folder / "whole"
    shutil.rmtree(parts, ignore_errors=True)
    shutil.rmtree(whole, ignore_errors=True)
    qanat(of, script(of.folder, "events", text, {"SOURCE": source}))
    whole.mkdir()
    # A name ends with the number of its writer and its own: `…-1-0.json`.
    named = [(*map(int, re.search(r"-(\d+)-(\d+)\.json$", path.name).groups()), path) for path in parts.glob("part-*.json")]
    for writer, _, path in sorted(named):
        with path.open("rb") as of_writer, open(whole / f"part-{writer}.json", "ab") as part:
            shutil.copyfileobj(of_writer, part)
    shutil.rmtree(parts)
    whole.rename(of.read)


def check(of, database, query):
    """How many rows of the query's answer are wrong, and how many there should be."""
    folder = of.folder / "answer"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(of.folder / "q10", ignore_errors=True)
    sink = f"'connector' = 'filesystem', 'path' = '{folder}', 'format' = 'csv', 'sink.changelog' = 'log'"
    qanat(of, script(of.folder, f"{query}-answer", text_of(query), {**of.variables, "SINK": sink}))
    partitioned = query == "q10"
    written = of.folder / "q10" if partitioned else folder
    files = [str(path) for path in written.rglob("*.csv") if not any(part[0] in "._" for part in path.relative_to(written).parts)]
    database.execute(f"CREATE OR REPLACE TABLE expected AS {oracle.QUERIES[query]}")
    # Partition columns are in the names of folders, and last.
    read = f"read_csv({files!r}, header = true, all_varchar = true, allow_quoted_nulls = false, hive_partitioning = {partitioned})"
    names = [row[0] for row in database.execute(f"DESCRIBE SELECT * FROM {read}").fetchall()]
    count = "count(*)"
    if not partitioned:
        # Behind the sink's own columns stands what a row does.
        count = f"sum(CASE WHEN \"{names.pop()}\" IN ('+I', '+U') THEN 1 ELSE -1 END)"
    kept = ", ".join(f'"{names[at]}"' for at in COMPARED.get(query, range(len(names))))
    ours = f"SELECT {kept}, {count} AS copies FROM {read} GROUP BY ALL HAVING copies <> 0"
    if query == "q12":
        ours = f"SELECT bidder, CAST(sum(CAST(bid_count AS BIGINT)) AS VARCHAR), 1 FROM {read} GROUP BY bidder"
    theirs = f"SELECT CAST(COLUMNS(*) AS VARCHAR), count(*) FROM expected GROUP BY ALL"
    database.execute(f"CREATE OR REPLACE TABLE ours AS {ours}")
    database.execute(f"CREATE OR REPLACE TABLE theirs AS {theirs}")
    differ = "SELECT count(*) FROM ((FROM ours EXCEPT FROM theirs) UNION ALL (FROM theirs EXCEPT FROM ours))"
    return tuple(database.execute(f"SELECT ({differ}), (SELECT count(*) FROM expected)").fetchone())


def figures(events, runs):
    """The middle one of some runs, by what they take of the processors."""
    run = sorted(runs, key=lambda run: run["cpu_seconds"])[len(runs) // 2]
    rates = {"events_per_s": round(events / run["seconds"]), "events_per_cpu_s": round(events / run["cpu_seconds"])}
    return rates | {key: round(value, 2) for key, value in run.items() if value is not None}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--qanat", type=pathlib.Path, default=TOP / "target/release/qanat")
    arguments.add_argument("--events", type=int, default=2_000_000)
    arguments.add_argument("--queries", default=",".join(f"q{number}" for number in range(23)))
    arguments.add_argument("--parallelism", type=int, default=2)
    arguments.add_argument("--rounds", type=int, default=1)
    arguments.add_argument("--unchecked", action="store_true", help="leave the answers unread")
    arguments.add_argument("--flink", help="a folder with Flink's lib/ and conf/")
    arguments.add_argument("--flink-memory", default="12g", help="its heap at most")
    arguments.add_argument("--folder", help="where its files go; kept, with the events, for the next run")
    of = arguments.parse_args()
    kept = of.folder
    of.folder = pathlib.Path(kept or tempfile.mkdtemp(prefix="qanat-nexmark-")).resolve()
    of.folder.mkdir(parents=True, exist_ok=True)
    of.read = of.folder / f"events-{of.events}"
    (of.folder / "side_input.txt").write_text("".join(f"{key},value {key}\n" for key in range(10_000)))
    if not of.read.exists():
        write_events(of)
    source = f"'connector' = 'filesystem', 'format' = 'json', 'path' = '{of.read}'"
    of.variables = {"SOURCE": source, "SINK": "'connector' = 'blackhole'", "DIR": of.folder}
    queries = of.queries.split(",")
    database = None if of.unchecked else oracle.over_json(of.read, of.folder)
    limit = limits(of, queries)
    ratios = {}
    for query in queries:
        path = script(of.folder, query, text_of(query), of.variables)
        line = {"query": query}
        flink = Flink(of) if of.flink else None
        try:
            wrong, rows = check(of, database, query) if database else (0, None)
            if wrong:
                raise Failed(f"{wrong} rows differ from DuckDB's answer")
            runs = {"qanat": [], "flink": []}
            for warm in range(of.rounds + 1):
                shutil.rmtree(of.folder / "q10", ignore_errors=True)
                if warm:
                    runs["qanat"].append(qanat(of, path))
                if flink and "flink" not in line:
                    shutil.rmtree(of.folder / "q10", ignore_errors=True)
                    try:
                        runs["flink"].append(flink.run(path))
                    except Failed as failed:
                        line["flink"] = {"failed": str(failed)}
            runs["flink"] = [] if "flink" in line else runs["flink"][1:]
            line |= {engine: figures(of.events, its) for engine, its in runs.items() if its}
            if query in limit:
                loop, decode = limit[query]["events_per_cpu_s"], limit["decode"]["events_per_cpu_s"]
                line["limit"] = {"events_per_cpu_s": round(loop), "ceiling": round(1 / (1 / loop + 1 / decode))}
                if rows not in (None, limit[query]["rows"]):
                    line["limit"] = {"failed": f"{limit[query]['rows']} rows, and {rows} in DuckDB's answer"}
            if runs["flink"]:
                ratios[query] = line["qanat"]["events_per_cpu_s"] / line["flink"]["events_per_cpu_s"]
                line["times_flink"] = round(ratios[query], 2)
        except Failed as failed:
            line = {"query": query, "failed": str(failed)}
        finally:
            if flink:
                flink.close()
        print(json.dumps(line), flush=True)
    if ratios:
        least = min(ratios, key=ratios.get)
        mean = math.exp(statistics.fmean(map(math.log, ratios.values())))
        print(json.dumps({"queries": len(ratios), "times_flink": round(mean, 2), "least": {least: round(ratios[least], 2)}}))
    if not kept:
        shutil.rmtree(of.folder)


if __name__ == "__main__":
    sys.exit(main())
