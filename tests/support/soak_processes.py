"""Cycles of faults for as long as somebody lets it: `make soak-processes`, until Ctrl-C or `CYCLES=n` for each pair.

Each pair of part and fault has its turn in each round; a cycle's seed is that of the run, its round and its pair. What
was done is added to `tests/chaos/results/cycles.jsonl`, and `tests/chaos/RESULTS.md` is written anew from all of it.
A cycle that breaks a promise is written down like every other, its folder is kept, a new cluster goes on, and the exit
code is 1 in the end. Whoever has found its cause says so in its line, as `came`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from tests.support.cluster_load import ClusterLoad
from tests.support.fault_cycles import DRAINS, FULL_DISK, MOVE, PAIRS, RECREATE, ROLL, TOPICS, Cycle, Cycles, Pair
from tests.support.faulty_cluster import FaultyCluster
from tests.support.public_watch import PublicWatch
from tests.support.recreated_topic import recreate_topic

_CHAOS = Path(__file__).parent.parent / "chaos"
CYCLES = _CHAOS / "results" / "cycles.jsonl"
RESULTS = _CHAOS / "RESULTS.md"
LIGHT_CALLERS, ORDERING_CALLERS = 8, 2


def main() -> int:
    """Run rounds; the exit code is 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="tests.support.soak_processes")
    parser.add_argument("--cycles", type=int, default=0, help="rounds over all pairs; 0: until Ctrl-C")
    parser.add_argument("--seed", type=int, default=1, help="of the run")
    parser.add_argument("--only", action="append", help="pairs whose name holds this; may be repeated")
    parser.add_argument("--hold", action="store_true", help="leave a broken promise as it is until Ctrl-C")
    options = parser.parse_args()
    every = (*PAIRS, FULL_DISK, *DRAINS, MOVE, ROLL)
    pairs = [pair for pair in every if not options.only or any(word in str(pair) for word in options.only)]
    turns = range(options.cycles) if options.cycles else itertools.count()
    plan = (
        (pair, options.seed * 1_000_000 + turn * 1000 + place) for turn in turns for place, pair in enumerate(pairs)
    )
    broken, again = 0, True
    recreated = range(options.cycles or 1) if not options.only or any(w in str(RECREATE) for w in options.only) else ()
    with suppress(KeyboardInterrupt):
        for turn in recreated:
            broken += _recreate(options.seed * 1_000_000 + turn)
        while again:
            again = _soak(plan, hold=options.hold)
            broken += again
    return 1 if broken else 0


def _recreate(seed: int) -> bool:
    """A cycle in a cluster of its own; whether a promise was broken."""
    folder = Path(tempfile.mkdtemp(prefix="towpath-soak-"))
    try:
        cycle = recreate_topic(folder, os.environ.get("TOWPATH_BROWSER", ""), seed)
    except AssertionError as error:
        cycle = Cycle(RECREATE, seed, 0, 0, 0, 0, 0, 0, (str(error),))
    return _told(1, cycle, folder)


def _soak(plan: Iterator[tuple[Pair, int]], *, hold: bool) -> bool:
    """Cycles over one cluster until one broke a promise; whether one did. What that one left behind stays."""
    folder = Path(tempfile.mkdtemp(prefix="towpath-soak-"))
    browser = os.environ.get("TOWPATH_BROWSER", "")
    with FaultyCluster(folder, browser=browser) as cluster, PublicWatch(cluster.kafka.bootstrap, TOPICS) as watch:
        callers = {"light": LIGHT_CALLERS, "ordering": ORDERING_CALLERS}
        with ClusterLoad(cluster.gateways, cluster.key, watch, cluster.site_url, **callers) as load:
            cycles = Cycles(cluster, watch, load)
            for done, (pair, seed) in enumerate(plan, 1):
                try:
                    cycle = cycles.run(pair, seed)
                except AssertionError as error:
                    cycle = Cycle(pair, seed, 0, 0, 0, 0, 0, 0, (str(error),))
                if _told(done, cycle, folder):
                    if hold:
                        signal.pause()
                    return True
    shutil.rmtree(folder, ignore_errors=True)
    return False


def _told(done: int, cycle: Cycle, folder: Path) -> bool:
    """Keep and tell the cycle; whether it broke a promise."""
    keep(cycle)
    _tell(f"{done:5d}  {_line(cycle)}")
    if cycle.problems:
        _tell(f"what was left behind is in {folder}")
    return bool(cycle.problems)


def _line(cycle: Cycle) -> str:
    text = (
        f"{cycle.pair!s:58s} seed {cycle.seed}  live {cycle.live:2d}  once {cycle.open_once}"
        f"  silent {cycle.silence:5.1f} s  ended {cycle.all_ended:5.1f} s  runs {cycle.accepted}"
    )
    return "\n       ".join([text, *cycle.problems])


def _tell(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


# ---------------------------------------------------------------- what is kept


def keep(cycle: Cycle) -> None:
    """Add one cycle to those that were kept, and write the page anew."""
    CYCLES.parent.mkdir(exist_ok=True)
    said = asdict(cycle) | {"role": cycle.pair.role.value, "fault": cycle.pair.fault.value, "commit": _commit()}
    said |= {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "load": round(os.getloadavg()[0], 1)}
    del said["pair"]
    with CYCLES.open("a") as file:
        file.write(json.dumps(said) + "\n")
    RESULTS.write_text(page([json.loads(line) for line in CYCLES.read_text().splitlines()]))


def _commit() -> str:
    return subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()


_HEAD = """# Faults on real processes

Written by `make soak-processes` from `results/cycles.jsonl`, which has a line for each cycle with its seed. Three
brokers, PostgreSQL, an S3 server and two of each service, a proxy between any two processes, ten callers all the time.
A cycle counts only when the fault hit live work as seen from outside: *live* are runs that were promised and had not
ended (some in every partition), *once* steps that must not happen twice and had begun without an outcome. Judged by an
outside subscriber's own fold of the public topics, by what the target site counted, by the API's answers beside it, and
since the first cycle of the S3 server by the bytes of the picture that each order leaves behind; since then an artifact
store, too, is hurt only while an order is under way.

*Silent*: the longest time in which some partition told nothing, which bounds how long taking over took. *Ended*: until
every run that was live had ended; a stopped or cut-off runner is waited for as long as its lease and the stop last.
Stops and cuts last 8 to 10 s, those of a runner 24 to 26 s, of a browser 20 to 22 s, cuts between browser and site 4
to 6 s. A full disk is a limit on the size of a broker's files. Everything is restarted in good order, round after
round, until 500 runs were promised meanwhile. Where a topic is made anew, *ended* is until every service had refused in
one line; in cycles of 49d1ec3 and 9644f72 also until the callers gave up, who are patient for 20 s with services that
have ended. The new topic must stay empty, and the read models must tell what they told. A cycle whose proof did not
come in time has no figures. A run may fail when its browser is cut off from the site in the moment of its order; every
other failure of a run is a broken promise.
"""


def page(cycles: Sequence[dict[str, object]]) -> str:
    """The page of all cycles: a row per pair, then every breach."""
    pairs: dict[tuple[str, str], list[dict[str, object]]] = {}
    for cycle in cycles:
        pairs.setdefault((str(cycle["role"]), str(cycle["fault"])), []).append(cycle)
    runs = sum(int(str(cycle["accepted"])) for cycle in cycles)
    commits = sorted({str(cycle["commit"]) for cycle in cycles})
    lines = [_HEAD, f"{len(cycles)} cycles, {runs} runs promised during them; commits {', '.join(commits)};"]
    failed = sum(int(str(cycle.get("failed_by_site", 0))) for cycle in cycles)
    lines += [f"{failed} of them failed because their site was cut off from the browser;"]
    lines += [f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}.", ""]
    lines += ["| Part | Fault | Cycles | Live | Once | Silent p50, max (s) | Ended p50, max (s) | Broken |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    lines += [_row(role, fault, those) for (role, fault), those in sorted(pairs.items())]
    broken = [cycle for cycle in cycles if cycle["problems"]]
    if broken:
        lines += ["", "Broken promises, and what came of them:", ""]
        lines += [_breach(one) for one in broken]
    return "\n".join(lines) + "\n"


def _breach(cycle: dict[str, object]) -> str:
    what = f"{cycle['role']}, {cycle['fault']}, seed {cycle['seed']}, {cycle['commit']}: {cycle['problems']}"
    return f"- {what}. {cycle.get('came', '')}".rstrip()


def _row(role: str, fault: str, cycles: Sequence[dict[str, object]]) -> str:
    def total(name: str) -> int:
        return sum(int(str(cycle[name])) for cycle in cycles)

    def spread(name: str) -> str:
        values = sorted(float(str(cycle[name])) for cycle in cycles)
        return f"{values[len(values) // 2]:.1f}, {values[-1]:.1f}"

    broken = sum(1 for cycle in cycles if cycle["problems"])
    counts = f"{len(cycles)} | {total('live')} | {total('open_once')}"
    return f"| {role} | {fault} | {counts} | {spread('silence')} | {spread('all_ended')} | {broken} |"


if __name__ == "__main__":
    sys.exit(main())
