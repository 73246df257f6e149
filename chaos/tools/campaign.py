#!/usr/bin/env python3
"""One long campaign over three levels, in parts: a line of JSON for each part, with the commit that it ran.

    python3 chaos/tools/campaign.py model --for 60m     walks of the models
    python3 chaos/tools/campaign.py sim --for 60m       simulated clusters
    python3 chaos/tools/campaign.py live --for 60m      faults to real clusters
    python3 chaos/tools/campaign.py sum                 what there is, level by level

A part takes the seeds behind those of the parts before. A sitting ends after its time, or when the level has what it
is to have; the next one goes on. A part that fails stands in the ledger too, and ends the sitting with status 1: the
bug is mended, the line says what it was, and its seeds are run again on the new commit (of `live`, others: what they
meet is another thing each time). A part that is found to have proved too little is marked by hand with the reason
(`void`), counts no more, and its seeds are run again. Binaries are those of
`cargo build --release --workspace --bins`. The ledgers are in `chaos/campaign/`.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
LEDGERS = TOP / "chaos" / "campaign"
# Seeds that a level is to have, and how many one part takes.
MODEL = {"epochs": (6_000_000, 100_000), "log": (1_000_000, 40_000), "time": (3_000_000, 500_000)}
SIM = {"rows": (3_600, 400), "windows": (2_400, 100), "joins": (2_400, 200), "changes": (1_600, 100)}
LIVE = {"faults": 1_000, "records": 500_000_000}
LIVE_PART = ["--for", "5m", "--rate", "170000", "--records", "12000000"]


def commit(top):
    def git(*words):
        return subprocess.run(["git", "-C", str(top), *words], capture_output=True, text=True, check=True).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no")
    # Its own ledgers are no part of what runs.
    changed = [line for line in changed.splitlines() if "chaos/campaign/" not in line]
    return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")


def parts(level):
    path = LEDGERS / f"{level}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def append(level, part):
    LEDGERS.mkdir(exist_ok=True)
    with open(LEDGERS / f"{level}.jsonl", "a") as ledger:
        ledger.write(json.dumps(part, sort_keys=True) + "\n")


def passed(level, name=None):
    key = {"model": "model", "sim": "script", "live": None}[level]
    valid = [p for p in parts(level) if p["verdict"].lower() == "pass" and "void" not in p]
    return [p for p in valid if name is None or p[key] == name]


def next_piece(level, plan):
    """The kind that lacks most, in shares of what it is to have, and its first free seeds."""
    def share(name):
        return sum(p["seeds"] for p in passed(level, name)) / plan[name][0]

    name = min(plan, key=share)
    if share(name) >= 1:
        return None
    done = sorted((p["seed"], p["seeds"]) for p in passed(level, name))
    first = 1
    for seed, seeds in done:
        if seed > first:
            break
        first = max(first, seed + seeds)
    return name, first, min(plan[name][1], plan[name][0] - first + 1)


def told_by(words):
    """What a command says, as JSON, and how it ended."""
    ended = subprocess.run(words, cwd=TOP, capture_output=True, text=True)
    try:
        return json.loads(ended.stdout), ended
    except json.JSONDecodeError:
        sys.exit(f"{' '.join(words)}: {ended.stdout}{ended.stderr}")


def model(binaries):
    piece = next_piece("model", MODEL)
    if piece is None:
        return None
    name, first, seeds = piece
    words = [str(binaries / "model"), "--model", name, "--seed", str(first), "--seeds", str(seeds)]
    told, ended = told_by(words)
    verdict = "pass" if ended.returncode == 0 else "fail"
    return {**told, "verdict": verdict, **({"told": ended.stderr[-2_000:]} if ended.returncode else {})}


def sim(binaries):
    piece = next_piece("sim", SIM)
    if piece is None:
        return None
    name, first, seeds = piece
    # The planner cannot know that a window has no two rows that are equal in their order.
    words = [str(binaries / "qanat"), "-o", "json", "sim", f"chaos/jobs/{name}.sql", "--deterministic"]
    told, _ = told_by([*words, "--seed", str(first), "--seeds", str(seeds)])
    kept = ["verdict", "faults", "wishes", "epochs_checked", "generations", "reconciled", "lost", "duplicated", "answers",
            "raft_states", "simulated_seconds", "seconds", "violations", "unseen", "unproved"]
    part = {key: told[key] for key in kept if told[key] not in ([], {})}
    if told["verdict"] != "pass":
        part["replay"] = told["replay"]
    return {"script": name, "seed": first, "seeds": seeds, **part}


def live(binaries):
    done = passed("live")
    if sum(p["records"] for p in done) >= LIVE["records"] and sum(sum(p["faults"].values()) for p in done) >= LIVE["faults"]:
        return None
    seed = max([p["seed"] for p in parts("live")], default=1_000) + 1
    scratch = LEDGERS / "live.part"
    scratch.unlink(missing_ok=True)
    words = [str(binaries / "cluster"), *LIVE_PART, "--seed", str(seed), "--append", str(scratch)]
    ended = subprocess.run(words, cwd=TOP, capture_output=True, text=True)
    if not scratch.exists():
        sys.exit(f"{' '.join(words)}\n{ended.stdout}{ended.stderr}")
    part = json.loads(scratch.read_text())
    scratch.unlink()
    told = [line for line in ended.stdout.splitlines() if line.startswith(("violation", "replay"))]
    return {**part, **({} if part["verdict"] == "PASS" else {"told": told})}


def sitting(level, lasts, binaries):
    begun, runs = time.time(), {"model": model, "sim": sim, "live": live}[level]
    of = commit(TOP)
    while time.time() - begun < lasts:
        part = runs(binaries)
        if part is None:
            print(f"{level} has all that it is to have")
            return 0
        part["commit"] = of
        append(level, part)
        shown = [str(part[key]) for key in ("model", "script", "seed", "seeds", "records", "verdict") if key in part]
        print(" ".join([time.strftime("%H:%M:%S"), *shown]), flush=True)
        if part["verdict"].lower() != "pass":
            print(json.dumps(part, indent=1))
            return 1
    return 0


def total(values):
    sums = {}
    for value in values:
        for key, count in value.items():
            sums[key] = sums.get(key, 0) + count
    return sums


def show():
    for level, key, plan in (("model", "model", MODEL), ("sim", "script", SIM)):
        for name, (wanted, _) in plan.items():
            done, every = passed(level, name), [p for p in parts(level) if p[key] == name]
            void = sum("void" in p for p in every)
            failed = len(every) - len(done) - void
            seeds, commits = sum(p["seeds"] for p in done), sorted({p["commit"] for p in done})
            print(f"{level} {name}: {seeds:,} of {wanted:,} seeds, {len(done)} parts, {failed} failed, {void} void; {', '.join(commits)}")
    done = passed("sim")
    if done:
        figures = {k: sum(p.get(k, 0) for p in done) for k in (
            "epochs_checked", "generations", "reconciled", "lost", "duplicated", "answers", "raft_states", "simulated_seconds")}
        print(f"sim: {figures}\nsim faults: {dict(sorted(total(p['faults'] for p in done).items()))}")
        print(f"sim wishes: {total(p['wishes'] for p in done)}")
    done = passed("model")
    if done:
        print(f"model: {total(p['seen'] for p in done)}")
    done = passed("live")
    if done:
        faults = total(p["faults"] for p in done)
        figures = {k: sum(p[k] for p in done) for k in ("records", "lost", "duplicated", "epochs", "generations", "answers", "small_jobs")}
        hours = sum(p["elapsed_ms"] for p in done) / 3.6e6
        print(f"live: {len(done)} parts, {len(parts('live')) - len(done)} failed, {hours:.1f} h, {sum(faults.values()):,} faults; {figures}")
        print(f"live faults: {dict(sorted(faults.items()))}; {', '.join(sorted({p['commit'] for p in done}))}")


def seconds(text):
    return int(text[:-1]) * {"s": 1, "m": 60, "h": 3_600}[text[-1]]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("level", choices=["model", "sim", "live", "sum"])
    arguments.add_argument("--for", dest="lasts", type=seconds, default="60m", metavar="TIME", help="60m if not given")
    arguments.add_argument("--binaries", type=pathlib.Path, default=TOP / "target" / "release")
    given = arguments.parse_args()
    if given.level == "sum":
        show()
        return 0
    return sitting(given.level, given.lasts, given.binaries)


if __name__ == "__main__":
    sys.exit(main())
