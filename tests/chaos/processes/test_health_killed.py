"""The health process is killed in mid window again and again, and paused past its session; no outcome counts twice.

What: `python -m scheduler health` on a real broker and a real PostgreSQL, while facts flow. Phases in which every run
fails for the site's reasons change with phases in which none does. SIGKILL at moments drawn by a seed, after each of
which the process is started again; SIGSTOP of one of two members until the other has its partitions, then SIGCONT.

How: the embedded form reads the same facts. Every row must be the same to the last byte, positions included, and the
registry must decide the same of what it was told. Each kill is asked whether facts were on their way, and whether some
that are written were not committed, which then came again. `TOWPATH_HEALTH_KILLS=50` kills so often.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random  # noqa: TID251 (moments are drawn by the seed)

import pytest

from tests.support.components import has_kafka, has_postgres
from tests.support.health_process import (
    PLACES,
    Flow,
    Ground,
    HealthProcess,
    decided_in,
    embedded_run,
    ground_in,
    rows_in,
)
from tests.support.requires import requires

pytestmark = [
    requires("Kafka", available=has_kafka(), reason="make kafka, and Java"),
    requires("PostgreSQL", available=has_postgres(), reason="apt-get install postgresql"),
    pytest.mark.timeout(1800),
]

SEED = int(os.environ.get("TOWPATH_SEED") or 20)
KILLS = int(os.environ.get("TOWPATH_HEALTH_KILLS") or 5)
PHASES = 4
DECISIONS = ("ProviderDegraded", "ProviderRecovered")


async def test_killed_in_mid_window_again_and_again_it_counts_as_if_it_had_lived(
    tmp_path: Path, report: Callable[[str], None]
) -> None:
    chance, told = Random(SEED), [f"seed {SEED}, kills {KILLS}"]
    async with ground_in(tmp_path) as ground:
        flow, process = Flow(ground, SEED), ground.process("health-1")
        process.start()
        killed, again = 0, 0
        for phase in range(PHASES):
            flow.begin(bad=phase % 2 == 0)
            for _ in range(KILLS // PHASES + (phase < KILLS % PHASES)):
                lag, repeated = await kill_at_work(ground, process, chance)
                killed, again = killed + 1, again + (repeated > 0)
                told.append(f"kill {killed}, phase {phase + 1}: {lag} facts on their way, {repeated} came again")
                assert lag > 0, told
                process.start()
            await flow.end()
            await ground.until(ground.all_written)
            await ground.until(partial(has_decided, ground, phase + 1))
        assert process.end() == 0
        rows, decided = await rows_in(ground.db), await decided_in(ground.log)
        embedded_rows, embedded_decided = await embedded_run(tmp_path, ground.appended, chance)
        told.append(f"{len(ground.appended)} facts; after {again} of {killed} kills some that were written came again")
        report("\n".join(told))
        assert rows == embedded_rows != []
        assert decided == embedded_decided
        assert decided == {place: [DECISIONS[phase % 2] for phase in range(PHASES)] for place in PLACES}
        assert again, told


async def test_a_member_that_was_paused_past_its_session_changes_nothing_when_it_wakes_up(tmp_path: Path) -> None:
    async with ground_in(tmp_path) as ground:
        flow, processes = Flow(ground, SEED), [ground.process(f"health-{number}") for number in (1, 2)]
        for process in processes:
            process.start()
        flow.begin(bad=True)
        await ground.until(partial(works, ground, {}))
        processes[0].signal(signal.SIGSTOP)
        stopped_at = await ground.ends()
        await ground.until(partial(works, ground, stopped_at), seconds=90)  # every partition, also those of the paused
        processes[0].signal(signal.SIGCONT)
        await asyncio.sleep(3.0)  # it finds out what it missed, with facts of before in its hands
        await flow.end()
        await ground.until(ground.all_written)
        await ground.until(partial(has_decided, ground, 1))
        # What it could not do with facts of before may have ended it by itself, as it says then, and by no signal.
        assert processes[0].end() in (0, 1)
        assert processes[1].end() == 0
        rows, decided = await rows_in(ground.db), await decided_in(ground.log)
        assert (rows, decided) == await embedded_run(tmp_path, ground.appended, Random(SEED))


async def kill_at_work(ground: Ground, process: HealthProcess, chance: Random) -> tuple[int, int]:
    """Kill it a moment after its first write of this life; how many facts were on their way, how many come again."""
    before = await ground.positions()
    await ground.until(partial(moved, ground, before))
    await asyncio.sleep(chance.random() * 2.5)
    assert process.is_running()
    process.kill()
    written, ends, committed = await ground.positions(), await ground.ends(), await ground.committed()
    lag = sum(end - written.get(part, 0) for part, end in ends.items())
    return lag, sum(offset - committed.get(part, 0) for part, offset in written.items())


async def moved(ground: Ground, before: dict[int, int]) -> bool:
    return sum((await ground.positions()).values()) > sum(before.values())


async def works(ground: Ground, beyond: dict[int, int]) -> bool:
    """Whether every partition is written beyond these offsets."""
    positions = await ground.positions()
    return len(positions) == len(await ground.ends()) and all(
        offset > beyond.get(part, 0) for part, offset in positions.items()
    )


async def has_decided(ground: Ground, count: int) -> bool:
    story = await decided_in(ground.log)
    return all(len(story.get(place, ())) == count for place in PLACES)
