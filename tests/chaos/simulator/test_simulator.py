"""The whole platform under faults, seed by seed; a failing seed is printed and replays alone by `SEED=n`.

What: real deciders, owning loop and fence over the log in memory, model runners and a model site in virtual time.
How: crashes, pauses, cuts, lost and late appends, clock steps, drains at random; invariants after every move.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.support.simulator.simulation import MISLED, Scenario, simulate

CHUNK = 10
SEED = os.environ.get("TOWPATH_SEED", "")
SEEDS = int(os.environ.get("TOWPATH_SEEDS", "300"))
LIMITED = Scenario(runs=6, runners=3, faults=20, concurrency=2, retries=True)
STARTS = [int(SEED)] if SEED else list(range(0, SEEDS, CHUNK))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("start", STARTS)
async def test_nothing_is_lost_and_nothing_is_doubled(start: int) -> None:
    faults: Counter[str] = Counter()
    for seed in [start] if SEED else range(start, min(start + CHUNK, SEEDS)):
        scenario = [Scenario(), Scenario(faults=30, kinds=MISLED), LIMITED][seed % 3]
        simulation = await simulate(seed, scenario)
        faults += simulation.fault_counts
    assert SEED or faults.total() >= CHUNK, f"no faults fired: {faults}"


async def test_a_seed_tells_the_same_story_twice() -> None:
    first, second = await simulate(7), await simulate(7)
    assert first.world.trace == second.world.trace
