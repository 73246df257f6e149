#!/usr/bin/env python3
"""Runs the queries over the same JSON lines, exactly once with an epoch a second, and prints what each takes.

    cargo build --release
    python3 benchmarks/nexmark/bench.py --events 2000000            all queries; --queries q4,q18 for some

Each query is a process of its own, which reads files that Qanat itself has written before (`nexmark` connector), and drops
its rows (`blackhole`); q10 writes its own files. A line of JSON for each: events per second, and per second of the
processors (user and system), the peak of its memory, and its epochs. That the answers are right is tested apart
(`cargo test --test it -- nexmark`).
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
COLUMNS = "event_type, person, auction, bid"


def script(folder, name, text):
    path = folder / f"{name}.sql"
    path.write_text(text)
    return path


def run(qanat, path, folder, parallelism, pairs):
    """Seconds, seconds of the processors, peak in MiB and the receipt of one run."""
    shutil.rmtree(folder / "data", ignore_errors=True)
    words = [qanat, "run", "-o", "json", path, "--data", folder / "data", "--parallelism", parallelism]
    for key, value in pairs.items():
        words += ["--set", f"{key}={value}"]
    with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as errors:
        begun = time.monotonic()
        process = subprocess.Popen([str(word) for word in words], stdout=told, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        told.seek(0), errors.seek(0)
        if process.returncode:
            sys.exit(f"{path}: {errors.read().decode()}")
        return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, json.loads(told.read())


def write_events(qanat, folder, events):
    """The events as JSON lines, all kinds in one table, in time order."""
    tables = (HERE / "tables.sql").read_text()
    declared = re.search(r"CREATE TABLE events \((.*?)\n  `dateTime` AS", tables, re.S).group(1).rstrip().rstrip(",")
    text = tables + f"""
CREATE TABLE files ({declared}) WITH ('connector' = 'filesystem', 'format' = 'json', 'path' = '{folder}/events');
INSERT INTO files SELECT {COLUMNS} FROM events;
"""
    source = f"'connector' = 'nexmark', 'events.num' = '{events}', 'first-event.rate' = '100000', 'seed' = '1'"
    run(qanat, script(folder, "events", text), folder, 2, {"SOURCE": source})


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--qanat", default=TOP / "target/release/qanat")
    arguments.add_argument("--events", type=int, default=2_000_000)
    arguments.add_argument("--queries", default=",".join(f"q{number}" for number in range(23)))
    arguments.add_argument("--parallelism", type=int, default=2)
    arguments.add_argument("--rounds", type=int, default=1)
    arguments.add_argument("--folder", help="where its files go; kept, with the events, for the next run")
    of = arguments.parse_args()
    folder = pathlib.Path(of.folder or tempfile.mkdtemp(prefix="qanat-nexmark-"))
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / f"events-{of.events}"
    if not done.exists():
        shutil.rmtree(folder / "events", ignore_errors=True)
        write_events(of.qanat, folder, of.events)
        (folder / "side_input.txt").write_text("".join(f"{key},value {key}\n" for key in range(10_000)))
        done.touch()
    pairs = {
        "SOURCE": f"'connector' = 'filesystem', 'format' = 'json', 'path' = '{folder}/events'",
        "SINK": "'connector' = 'blackhole'",
        "DIR": folder,
        "execution.checkpointing.interval": "1 s",
    }
    for query in of.queries.split(","):
        text = (HERE / "tables.sql").read_text() + (HERE / f"queries/{query}.sql").read_text()
        path = script(folder, query, text)
        rounds = []
        for _ in range(of.rounds):
            shutil.rmtree(folder / "q10", ignore_errors=True)
            rounds.append(run(of.qanat, path, folder, of.parallelism, pairs))
        seconds, processors, peak, receipt = sorted(rounds, key=lambda run: run[1])[len(rounds) // 2]
        print(json.dumps({
            "query": query,
            "events_per_s": round(of.events / seconds),
            "events_per_cpu_s": round(of.events / processors),
            "seconds": round(seconds, 2),
            "cpu_seconds": round(processors, 2),
            "peak_mib": round(peak),
            "epochs": receipt.get("epochs"),
        }), flush=True)
    if not of.folder:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
