"""A cluster of real processes is hurt under load, and an outsider finds nothing lost, doubled or out of order.

A selection of what `make soak-processes` does without end: every part is killed, one part of each kind is stopped, cut
off and drained, partitions move to and fro, a broker's disk is full. `TOWPATH_SEED` draws other moments. With
`TOWPATH_ROLLING_RUNS=500` everything is restarted in good order, too, until so many runs were promised meanwhile, which
takes some minutes. What a cycle must prove stands in `tests.support.fault_cycles`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.chromium import chromium_path, needs_chromium
from tests.support.cluster_load import ClusterLoad
from tests.support.components import needs_kafka, needs_postgres, needs_s3
from tests.support.fault_cycles import FULL_DISK, MOVE, PAIRS, ROLL, TOPICS, Cycle, Cycles, Fault, Pair
from tests.support.faulty_cluster import FaultyCluster, Role
from tests.support.public_watch import PublicWatch

pytestmark = [needs_chromium, needs_kafka, needs_postgres, needs_s3, pytest.mark.timeout(1800)]

SEED = int(os.environ.get("TOWPATH_SEED") or 5)
ROLLED_RUNS = int(os.environ.get("TOWPATH_ROLLING_RUNS") or 0)
SELECTION = (
    *(pair for pair in PAIRS if pair.fault is Fault.KILL),
    Pair(Role.SCHEDULER, Fault.STOP),
    Pair(Role.RUNNER, Fault.STOP),
    Pair(Role.POSTGRES, Fault.CUT),
    Pair(Role.SCHEDULER, Fault.CUT),
    FULL_DISK,
    MOVE,
    Pair(Role.RUNNER, Fault.DRAIN),
    *((ROLL,) if ROLLED_RUNS else ()),
)


def test_whatever_is_hurt_under_load_an_outsider_finds_every_promise_kept(tmp_path: Path) -> None:
    done: list[Cycle] = []
    with (
        FaultyCluster(tmp_path, browser=chromium_path()) as cluster,
        PublicWatch(cluster.kafka.bootstrap, TOPICS) as watch,
    ):
        with ClusterLoad(cluster.gateways, cluster.key, watch, cluster.site_url, light=6, ordering=2) as load:
            cycles = Cycles(cluster, watch, load, rolled_runs=ROLLED_RUNS)
            for place, pair in enumerate(SELECTION):
                done.append(cycles.run(pair, SEED * 1000 + place))
                assert done[-1].problems == (), done
        watch.until(lambda fold: not load.unfinished(fold), 60, "the ends of all runs that were promised")
        assert watch.fold.problems == []
        assert set(watch.fold.runs) == set(load.book.accepted), "not every run was promised, or not kept"
        assert len(cluster.ordered()) == len(set(cluster.ordered()))
