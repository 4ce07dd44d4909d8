"""`make bench`: measures the platform and prints a JSON line per figure, each beside its raw baseline.

    make bench                         the embedded form: all that takes under a minute each (about four minutes)
    make bench KAFKA=1                 the cluster form, on one broker (about five minutes)
    make bench ARGS="--only lists"     one by name; those over a minute run only so
    make bench ARGS="--only w1 --quick"   a look
    make bench ARGS="--keep"           also writes tests/bench/results/latest.jsonl (or latest-kafka.jsonl), with
                                       commit and machine

The platform runs as real processes through its own launcher, in a temporary folder, on a free port. This process is
the load generator; its CPU is not counted. Progress goes to stderr. What the figures must reach stands in the README
beside this file.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform as machine
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import uvloop

from tests.bench.abuse import abuse
from tests.bench.backlog import backlog
from tests.bench.browsing import browser_overhead
from tests.bench.figures import Figure, line, put, tell
from tests.bench.gateway import gateway
from tests.bench.kafka.deciding import kafka_backlog, kafka_hop, kafka_restore, kafka_transitions
from tests.bench.kafka.ledgers import kafka_ledger_factor
from tests.bench.kafka.rebuilding import kafka_rebuild
from tests.bench.kafka.runs import kafka_start, kafka_w1, kafka_w1_c100
from tests.bench.kafka.takeover import kafka_takeover
from tests.bench.lists import kafka_lists, lists
from tests.bench.memory import idle_memory
from tests.bench.platform import Platform, running_platform
from tests.bench.runs import Effort, start, w1, w1_c100, w2
from tests.bench.size import size

RESULTS = Path(__file__).parent / "results"

Measure = Callable[[Path, Effort], AsyncIterator[Figure]]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where and on what the figures were taken; the first line of a kept result."""

    commit: str
    machine: str
    cores: int
    python: str
    kernel: str


def _on_platform(measure: Callable[[Platform, Path, Effort], AsyncIterator[Figure]]) -> Measure:
    """`measure` with a platform of its own, so that none inherits the history of another."""

    async def measured(folder: Path, effort: Effort) -> AsyncIterator[Figure]:
        with running_platform(folder) as platform:
            async for one in measure(platform, folder, effort):
                yield one

    return measured


MEASURES: dict[str, Measure] = {
    "w1": _on_platform(w1),
    "w1_c100": _on_platform(w1_c100),
    "w2": _on_platform(w2),
    "start": _on_platform(start),
    "gateway": _on_platform(gateway),
    "memory": idle_memory,
    "browser": browser_overhead,
    "size": size,
}
KAFKA: dict[str, Measure] = {
    "kafka_hop": kafka_hop,
    "kafka_w1": kafka_w1,
    "kafka_w1_c100": kafka_w1_c100,
    "kafka_start": kafka_start,
    "kafka_transitions": kafka_transitions,
    "kafka_takeover": kafka_takeover,
    "kafka_restore": kafka_restore,
    "kafka_rebuild": kafka_rebuild,
}
SLOW: dict[str, Measure] = {
    "kafka_ledger_factor": kafka_ledger_factor,
    "lists": lists,
    "kafka_lists": kafka_lists,
    "backlog": backlog,
    "kafka_backlog": kafka_backlog,
    "abuse": abuse,
}
"""Over a minute each; measured only when named."""
ALL = {**MEASURES, **KAFKA, **SLOW}


async def _measure(names: list[str], effort: Effort) -> list[str]:
    lines = []
    for name in names:
        tell(name)
        with tempfile.TemporaryDirectory(prefix="towpath-bench-") as folder:
            async for one in ALL[name](Path(folder), effort):
                lines.append(line(one))
                put(lines[-1])
    return lines


def _surroundings() -> Surroundings:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    models = [text for text in Path("/proc/cpuinfo").read_text().splitlines() if text.startswith("model name")]
    model = models[0].partition(":")[2].strip() if models else machine.machine()
    return Surroundings(commit, model, os.cpu_count() or 0, machine.python_version(), machine.release())


def main() -> int:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(prog="tests.bench")
    parser.add_argument("--kafka", action="store_true", help="the cluster form instead of the embedded one")
    parser.add_argument("--only", action="append", choices=sorted(ALL), help="one measure; may be repeated")
    parser.add_argument("--quick", action="store_true", help="a tenth of the samples: a look, not a record")
    parser.add_argument("--size", type=int, default=0, help="how many runs (or facts) where there are to be many")
    parser.add_argument("--keep", action="store_true", help="write the results for the commit")
    options = parser.parse_args()
    names = options.only or list(KAFKA if options.kafka else MEASURES)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        lines = runner.run(_measure(names, Effort(options.quick, options.size)))
    if options.keep:
        kept = RESULTS / ("latest-kafka.jsonl" if options.kafka else "latest.jsonl")
        kept.write_text("\n".join([line(_surroundings()), *lines]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
